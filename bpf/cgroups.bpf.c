// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Tells of every cgroup that is made or removed, with its id and path, also of those that live for milliseconds. */
#include "kernel.h"

#define PATH_MAX_BYTES 1024
#define HIERARCHIES 4

enum event_kind {
	EVENT_MKDIR = 1,
	EVENT_RMDIR = 2,
};

/* The hierarchies containers are looked for in; 0 is v2, negative is none. */
const volatile struct {
	__s32 hierarchy[HIERARCHIES];
} settings;

/* Mirrored by `Record` in src/containers/watch.rs. The path follows, without a NUL. */
struct record {
	__u64 id;
	__u32 hierarchy;
	__u16 kind;
	__u16 path_length;
	char path[PATH_MAX_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 128 * 1024);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");

/* Records that found the ring full: user space walks the hierarchies when this moves. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline int wanted(__s32 hierarchy)
{
	for (int i = 0; i < HIERARCHIES; i++)
		if (settings.hierarchy[i] == hierarchy)
			return 1;
	return 0;
}

static __always_inline int tell(struct cgroup *cgroup, const char *path, __u16 kind)
{
	__u32 zero = 0;
	__s32 hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	struct record *record;
	__u64 *missed;
	long length = 0;

	if (!wanted(hierarchy))
		return 0;
	record = bpf_map_lookup_elem(&scratch, &zero);
	if (!record)
		return 0;
	record->id = BPF_CORE_READ(cgroup, kn, id);
	record->hierarchy = hierarchy;
	record->kind = kind;
	if (path) {
		/* The result counts the NUL; a path that fills the buffer was cut, and is left out. */
		length = bpf_probe_read_kernel_str(record->path, sizeof(record->path), path) - 1;
		if (length < 0 || length >= PATH_MAX_BYTES - 1)
			length = 0;
	}
	record->path_length = length;
	if (bpf_ringbuf_output(&records, record,
			       offsetof(struct record, path) + (length & (PATH_MAX_BYTES - 1)),
			       0)) {
		missed = bpf_map_lookup_elem(&lost, &zero);
		if (missed)
			__sync_fetch_and_add(missed, 1);
	}
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_mkdir, struct cgroup *cgroup, const char *path)
{
	return tell(cgroup, path, EVENT_MKDIR);
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(on_rmdir, struct cgroup *cgroup, const char *path)
{
	return tell(cgroup, NULL, EVENT_RMDIR);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

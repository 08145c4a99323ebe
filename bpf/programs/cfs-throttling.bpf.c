// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long cgroups are kept from the CPUs because they have used up their quota, each CPU by itself. */
#include "../probes.h"
#include "../maps.h"

#define MAX_BUCKET 20

struct task_group {
	struct cgroup_subsys_state css;
} __ksym_type;

struct cfs_rq {
	struct task_group *tg;
} __ksym_type;

struct key {
	__u64 cgroup;
	__u32 bucket;
	__u32 zero;
};

/* Since when, by run queue. LRU: those of removed cgroups stay behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} throttled SEC(".maps");

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, __u64);
} cfs_throttling_seconds SEC(".maps");

SEC("kprobe/throttle_cfs_rq")
int BPF_KPROBE(on_throttle, struct cfs_rq *queue)
{
	__u64 id = (__u64)queue, now = bpf_ktime_get_ns();

	bpf_map_update_elem(&throttled, &id, &now, BPF_ANY);
	return 0;
}

SEC("kprobe/unthrottle_cfs_rq")
int BPF_KPROBE(on_unthrottle, struct cfs_rq *queue)
{
	__u64 id = (__u64)queue, *since = bpf_map_lookup_elem(&throttled, &id);
	struct key key = {};

	if (!since)
		return 0;
	key.cgroup = BPF_CORE_READ(queue, tg, css.cgroup, kn, id);
	observe(&cfs_throttling_seconds, &key, (bpf_ktime_get_ns() - *since) / 1000, MAX_BUCKET);
	bpf_map_delete_elem(&throttled, &id);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

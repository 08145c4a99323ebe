// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long the kernel waits for and holds the locks under which it sums up statistics of cgroups. */
#include "../kernel.h"
#include "../maps.h"

#define MAX_BUCKET 24

struct cgroup_cpu {
	__u32 thread;
	__s32 cpu;
};

struct times {
	__u64 contended;
	__u64 locked;
};

/* LRU: a lock that was taken before the program came leaves half a pair. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct cgroup_cpu);
	__type(value, struct times);
} times SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_BUCKET + 2);
	__type(key, __u32);
	__type(value, __u64);
} cgroup_rstat_lock_wait_seconds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_BUCKET + 2);
	__type(key, __u32);
	__type(value, __u64);
} cgroup_rstat_lock_hold_seconds SEC(".maps");

SEC("tp_btf/cgroup_rstat_lock_contended")
int BPF_PROG(on_contended, struct cgroup *cgroup, int cpu)
{
	struct cgroup_cpu lock = { (__u32)bpf_get_current_pid_tgid(), cpu };
	struct times at = { bpf_ktime_get_ns(), 0 };

	bpf_map_update_elem(&times, &lock, &at, BPF_ANY);
	return 0;
}

SEC("tp_btf/cgroup_rstat_locked")
int BPF_PROG(on_locked, struct cgroup *cgroup, int cpu)
{
	struct cgroup_cpu lock = { (__u32)bpf_get_current_pid_tgid(), cpu };
	struct times *before = bpf_map_lookup_elem(&times, &lock);
	struct times at = { 0, bpf_ktime_get_ns() };

	if (before && before->contended)
		observe_alone(&cgroup_rstat_lock_wait_seconds,
			      (at.locked - before->contended) / 100, MAX_BUCKET);
	bpf_map_update_elem(&times, &lock, &at, BPF_ANY);
	return 0;
}

SEC("tp_btf/cgroup_rstat_unlock")
int BPF_PROG(on_unlock, struct cgroup *cgroup, int cpu)
{
	struct cgroup_cpu lock = { (__u32)bpf_get_current_pid_tgid(), cpu };
	struct times *at = bpf_map_lookup_elem(&times, &lock);

	if (!at)
		return 0;
	if (at->locked)
		observe_alone(&cgroup_rstat_lock_hold_seconds,
			      (bpf_ktime_get_ns() - at->locked) / 100, MAX_BUCKET);
	bpf_map_delete_elem(&times, &lock);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

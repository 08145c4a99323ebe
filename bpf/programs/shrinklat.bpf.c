// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long threads are held up to free memory before they get any: all memory was used up (direct), or that of their cgroup. */
#include "../kernel.h"
#include "../maps.h"

#define MAX_BUCKET 26

enum kind {
	DIRECT,
	CGROUP,
};

struct wait {
	__u32 thread;
	__u32 kind;
};

struct key {
	__u32 kind;
	__u32 bucket;
};

/* LRU: a thread that is killed in the middle stays behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct wait);
	__type(value, __u64);
} waits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct key);
	__type(value, __u64);
} reclaim_latency_seconds SEC(".maps");

__hidden __noinline int begin(__u32 kind)
{
	struct wait wait = { (__u32)bpf_get_current_pid_tgid(), kind };
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&waits, &wait, &now, BPF_ANY);
	return 0;
}

__hidden __noinline int end(__u32 kind)
{
	struct wait wait = { (__u32)bpf_get_current_pid_tgid(), kind };
	struct key key = { kind, 0 };
	__u64 *since = bpf_map_lookup_elem(&waits, &wait);

	if (!since)
		return 0;
	observe(&reclaim_latency_seconds, &key, (bpf_ktime_get_ns() - *since) / 1000, MAX_BUCKET);
	bpf_map_delete_elem(&waits, &wait);
	return 0;
}

SEC("raw_tp/mm_vmscan_direct_reclaim_begin")
int on_direct(void *context)
{
	return begin(DIRECT);
}

SEC("raw_tp/mm_vmscan_direct_reclaim_end")
int on_direct_end(void *context)
{
	return end(DIRECT);
}

SEC("raw_tp/mm_vmscan_memcg_reclaim_begin")
int on_cgroup(void *context)
{
	return begin(CGROUP);
}

SEC("raw_tp/mm_vmscan_memcg_reclaim_end")
int on_cgroup_end(void *context)
{
	return end(CGROUP);
}

char LICENSE[] SEC("license") = "GPL";

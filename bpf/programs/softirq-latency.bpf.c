// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long softirqs wait from being raised to running, and how long they run. */
#include "../kernel.h"
#include "../maps.h"

#define KINDS 10
#define MAX_BUCKET 21

struct key {
	__u32 kind;
	__u32 bucket;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KINDS);
	__type(key, __u32);
	__type(value, __u64);
} raised SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KINDS);
	__type(key, __u32);
	__type(value, __u64);
} entered SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, KINDS *(MAX_BUCKET + 2));
	__type(key, struct key);
	__type(value, __u64);
} softirq_wait_seconds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, KINDS *(MAX_BUCKET + 2));
	__type(key, struct key);
	__type(value, __u64);
} softirq_service_seconds SEC(".maps");

SEC("tp_btf/softirq_raise")
int BPF_PROG(on_raise, __u32 kind)
{
	__u64 *at = bpf_map_lookup_elem(&raised, &kind);

	/* It may be raised again and again before it runs. */
	if (at && !*at)
		*at = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(on_entry, __u32 kind)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 *at = bpf_map_lookup_elem(&raised, &kind);
	struct key key = { kind, 0 };

	if (at && *at) {
		observe_local(&softirq_wait_seconds, &key, (now - *at) / 1000, MAX_BUCKET);
		*at = 0;
	}
	at = bpf_map_lookup_elem(&entered, &kind);
	if (at)
		*at = now;
	return 0;
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(on_exit, __u32 kind)
{
	__u64 *at = bpf_map_lookup_elem(&entered, &kind);
	struct key key = { kind, 0 };

	if (at && *at) {
		observe_local(&softirq_service_seconds, &key, (bpf_ktime_get_ns() - *at) / 1000,
			      MAX_BUCKET);
		*at = 0;
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

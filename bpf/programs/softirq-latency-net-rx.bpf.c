// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* As `softirq-latency`, for received packets only and in nanoseconds. */
#include "../kernel.h"
#include "../maps.h"

#define NET_RX_SOFTIRQ 3
#define MAX_BUCKET 31

struct times {
	__u64 raised;
	__u64 entered;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct times);
} times SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_BUCKET + 2);
	__type(key, __u32);
	__type(value, __u64);
} softirq_net_rx_wait_seconds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_BUCKET + 2);
	__type(key, __u32);
	__type(value, __u64);
} softirq_net_rx_service_seconds SEC(".maps");

static __always_inline struct times *times_of(__u32 kind)
{
	__u32 zero = 0;

	return kind == NET_RX_SOFTIRQ ? bpf_map_lookup_elem(&times, &zero) : NULL;
}

SEC("tp_btf/softirq_raise")
int BPF_PROG(on_raise, __u32 kind)
{
	struct times *at = times_of(kind);

	/* It may be raised again and again before it runs. */
	if (at && !at->raised)
		at->raised = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(on_entry, __u32 kind)
{
	struct times *at = times_of(kind);

	if (!at)
		return 0;
	at->entered = bpf_ktime_get_ns();
	if (at->raised)
		observe_alone(&softirq_net_rx_wait_seconds, at->entered - at->raised, MAX_BUCKET);
	at->raised = 0;
	return 0;
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(on_exit, __u32 kind)
{
	struct times *at = times_of(kind);

	if (at && at->entered)
		observe_alone(&softirq_net_rx_service_seconds, bpf_ktime_get_ns() - at->entered,
			      MAX_BUCKET);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

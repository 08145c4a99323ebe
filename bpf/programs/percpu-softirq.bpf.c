// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Softirqs run, by kind and CPU. */
#include "../kernel.h"
#include "../maps.h"

#define KINDS 10

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KINDS);
	__type(key, __u32);
	__type(value, __u64);
} softirqs_total SEC(".maps");

SEC("tp_btf/softirq_entry")
int BPF_PROG(on_entry, __u32 kind)
{
	add_local(&softirqs_total, &kind, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Timers started, by the function they call. */
#include "../kernel.h"
#include "../maps.h"

struct timer_list {
	void *function;
} __ksym_type;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} timer_starts_total SEC(".maps");

SEC("tp_btf/timer_start")
int BPF_PROG(on_start, struct timer_list *timer)
{
	__u64 function = (__u64)timer->function;

	add(&timer_starts_total, &function, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

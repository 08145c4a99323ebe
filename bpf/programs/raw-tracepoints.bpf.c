// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* As `timers`, through a raw tracepoint: it is attached without type information of the kernel, but its arguments have to be read
 * with a helper. */
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
} raw_timer_starts_total SEC(".maps");

SEC("raw_tp/timer_start")
int BPF_PROG(on_start, struct timer_list *timer)
{
	__u64 function = (__u64)BPF_CORE_READ(timer, function);

	add(&raw_timer_starts_total, &function, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

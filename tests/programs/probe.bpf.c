// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* What the tests count with: getppid(MAGIC, a, b) puts what it is given into one map of each kind. */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "../../bpf/maps.h"

#define MAGIC 0x6e6f6465

#ifndef VERSION
#define VERSION 1
#endif

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, si, dx;
} __attribute__((preserve_access_index));
#define ARGUMENT(regs, n)                   \
	(n == 0	  ? BPF_CORE_READ(regs, di) \
	 : n == 1 ? BPF_CORE_READ(regs, si) \
		  : BPF_CORE_READ(regs, dx))
#define GETPPID 110
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
} __attribute__((preserve_access_index));
#define pt_regs user_pt_regs
#define ARGUMENT(context, n) BPF_CORE_READ(context, regs[n])
#define GETPPID 173
#endif

#define MAP(name, map_type, key_type, value_type, entries) \
	struct {                                           \
		__uint(type, map_type);                    \
		__uint(max_entries, entries);              \
		__type(key, key_type);                     \
		__type(value, value_type);                 \
	} name SEC(".maps")

struct call {
	__u64 a;
	__u32 b;
	char comm[16];
	__u32 padding;
};

struct event {
	__u64 a;
	__u32 b;
};

MAP(probe_calls_total, BPF_MAP_TYPE_HASH, struct call, __u64, 1024);
MAP(probe_cpus_total, BPF_MAP_TYPE_PERCPU_HASH, __u32, __u64, 64);
MAP(probe_sums_total, BPF_MAP_TYPE_PERCPU_HASH, __u32, __u64, 64);
MAP(probe_size, BPF_MAP_TYPE_HASH, __u32, __u64, 64);
MAP(probe_level, BPF_MAP_TYPE_HASH, __u32, __u64, 64);
MAP(probe_all_total, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1);
MAP(probe_marks_total, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1);
MAP(probe_version, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1);
MAP(probe_narrow_total, BPF_MAP_TYPE_HASH, __u32, __u32, 1);

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} probe_events_total SEC(".maps");

#ifdef LARGE
#define LARGE_ENTRIES 131072
struct large {
	__u32 a;
	__u32 b;
	char name[16];
};
MAP(probe_large_total, BPF_MAP_TYPE_HASH, struct large, __u64, LARGE_ENTRIES);
#endif

SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *context)
{
	struct pt_regs *regs = (void *)context->args[0];
	struct call call = {};
	struct event event = {};
	__u32 zero = 0, one = 1;

	if (context->args[1] != GETPPID || ARGUMENT(regs, 0) != MAGIC)
		return 0;
	call.a = event.a = ARGUMENT(regs, 1);
	call.b = event.b = ARGUMENT(regs, 2);
	bpf_get_current_comm(call.comm, sizeof(call.comm));
	add(&probe_calls_total, &call, 1);
	add_local(&probe_cpus_total, &call.b, 1);
	add_local(&probe_sums_total, &call.b, 1);
	add(&probe_all_total, &zero, 1);
	/* May be negative. */
	add(&probe_level, &call.b, call.a);
	{
		__u32 bucket;

		OBSERVE(add, &probe_size, &bucket, &bucket, call.a & 0xffff, 8);
	}
	bpf_perf_event_output(context, &probe_events_total, BPF_F_CURRENT_CPU, &event,
			      sizeof(event));
#ifdef LARGE
	/* Fills the large map, a thousand entries a call. */
	for (int n = 0; n < 1000; n++) {
		__u32 number = call.a * 1000 + n;
		struct large large = { .a = number, .b = number % 97, .name = "name-0000000" };

		for (int digit = 0; digit < 7; digit++) {
			large.name[11 - digit] = '0' + number % 10;
			number /= 10;
		}
		add(&probe_large_total, &large, 1);
	}
#endif
	return 0;
}

/* Runs once, when all programs are attached. */
SEC("uprobe//proc/self/exe:post_attach_mark")
int on_mark(void *context)
{
	__u32 zero = 0;
	__u64 *version = bpf_map_lookup_elem(&probe_version, &zero);

	if (version)
		*version = VERSION;
	add(&probe_marks_total, &zero, 1);
	return 0;
}

#ifdef REFUSED
/* The verifier does not like this one. */
SEC("raw_tp/sys_exit")
int refused(void *context)
{
	return *(volatile int *)(__u64)bpf_ktime_get_ns();
}

/* And this function is in no kernel. */
SEC("fentry/no_such_function_anywhere")
int missing(void *context)
{
	return 0;
}

/* Nor this tracepoint. */
SEC("raw_tp/no_such_tracepoint")
int lost(void *context)
{
	return 0;
}
#endif

char LICENSE[] SEC("license") = "GPL";

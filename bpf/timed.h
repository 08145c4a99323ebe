/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* How long calls of functions take, by operation: TIMED for each function. The program says what the histogram's map is called
 * before it includes this. */
#ifndef NODEPROBE_TIMED_H
#define NODEPROBE_TIMED_H

#include "probes.h"
#include "maps.h"

#define MAX_BUCKET 27

enum operation {
	OPERATION_READ,
	OPERATION_WRITE,
	OPERATION_OPEN,
	OPERATION_FSYNC,
	OPERATION_GETATTR,
	OPERATION_MKDIR,
	OPERATION_UNLINK,
};

struct call {
	__u32 thread;
	__u32 operation;
};

/* LRU: calls whose return the kernel had no room to watch stay behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct call);
	__type(value, __u64);
} calls SEC(".maps");

struct key {
	__u32 operation;
	__u32 bucket;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct key);
	__type(value, __u64);
} HISTOGRAM SEC(".maps");

__hidden __noinline int enter(__u32 operation)
{
	struct call call = { (__u32)bpf_get_current_pid_tgid(), operation };
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&calls, &call, &now, BPF_ANY);
	return 0;
}

__hidden __noinline int leave(__u32 operation)
{
	struct call call = { (__u32)bpf_get_current_pid_tgid(), operation };
	struct key key = { operation, 0 };
	__u64 *start = bpf_map_lookup_elem(&calls, &call);

	if (!start)
		return 0;
	observe(&HISTOGRAM, &key, (bpf_ktime_get_ns() - *start) / 1000, MAX_BUCKET);
	bpf_map_delete_elem(&calls, &call);
	return 0;
}

#define TIMED(function, operation)                                      \
	SEC("kprobe/" #function) int enter_##function(void *context)    \
	{                                                               \
		return enter(operation);                                \
	}                                                               \
	SEC("kretprobe/" #function) int leave_##function(void *context) \
	{                                                               \
		return leave(operation);                                \
	}

#endif

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* A seed for the fuzzer: maps of all kinds, types of all kinds, variables in all sections. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum which { LOW, HIGH = 7 };
enum wide { WIDE = 0x100000000ULL };

struct inner {
	int a : 3, b : 5;
	enum which which;
	enum wide wide;
	union {
		__u64 whole;
		char parts[8];
	};
	const volatile void *pointer;
};

struct key {
	__u32 code;
	__u32 cpu;
	char name[16];
	struct inner inner;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_NONE);
	__uint(numa_node, 0);
	__ulong(map_extra, 0);
	__type(key, struct key);
	__type(value, __u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 28);
	__type(key, __u32);
	__type(value, __u64);
} sizes SEC(".maps");

struct table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 8);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct table);
} tables SEC(".maps") = { .values = { &table } };

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} events SEC(".maps");

struct {
	__uint(type, 32 /* CGRP_STORAGE, which older headers lack */);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} groups SEC(".maps");

int jump(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { (void *)&jump } };

const volatile __u64 kaddr_one = 0;
__u64 kaddr_two = 1;
static volatile int quiet;
__u32 own SEC(".data.own") = 3;

SEC("socket")
int jump(void *ctx)
{
	return 0;
}

static __attribute__((noinline)) int add(struct key *key)
{
	__u64 one = 1 + kaddr_one + kaddr_two + quiet + own;
	return bpf_map_update_elem(&hits, key, &one, BPF_ANY);
}

SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
	struct key key = {};
	__u32 zero = 0;
	quiet++;
	bpf_map_lookup_elem(&sizes, &zero);
	bpf_map_lookup_elem(&tables, &zero);
	bpf_map_lookup_elem(&groups, &zero);
	bpf_tail_call(ctx, &jumps, 0);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &key, sizeof(key));
	return add(&key);
}

char LICENSE[] SEC("license") = "GPL";
__u32 of_kernel SEC("version") = 5;

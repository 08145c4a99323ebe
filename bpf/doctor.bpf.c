// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* One tiny program for each way into the kernel; `nodeprobe doctor` loads and attaches each of them on its own.
 *
 * They hang on what every kernel has (a thread's start and end) and do nothing there. */
#include "kernel.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024); /* the largest page size: a ring is whole pages */
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} sockets SEC(".maps");

SEC("tp_btf/sched_process_exit")
int typed_tracepoint(void *context)
{
	return 0;
}

SEC("raw_tracepoint/sched_process_exit")
int raw_tracepoint(void *context)
{
	return 0;
}

SEC("tracepoint/sched/sched_process_exit")
int classic_tracepoint(void *context)
{
	return 0;
}

SEC("fentry/wake_up_new_task")
int function_entry(void *context)
{
	return 0;
}

SEC("kprobe/wake_up_new_task")
int kernel_probe(void *context)
{
	return 0;
}

SEC("uprobe")
int user_probe(void *context)
{
	return 0;
}

SEC("perf_event")
int sampler(void *context)
{
	return 0;
}

/* Raw, so that it needs no BTF: the ring is what is tried. */
SEC("raw_tracepoint/sched_process_exit")
int to_ring(void *context)
{
	__u32 nothing = 0;

	bpf_ringbuf_output(&ring, &nothing, sizeof(nothing), 0);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(socket_storage, struct sock *sk)
{
	bpf_sk_storage_get(&sockets, sk, NULL, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How often the kernel makes a TCP connection's window smaller because received data has no room. */
#include "../probes.h"
#include "../maps.h"

struct before {
	__u64 socket;
	__u32 threshold;
	__u32 zero;
};

/* LRU: calls whose return the kernel had no room to watch stay behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct before);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} tcp_window_clamps_total SEC(".maps");

SEC("kprobe/tcp_try_rmem_schedule")
int BPF_KPROBE(on_call, struct tcp_sock *tcp)
{
	struct before before = { (__u64)tcp, BPF_CORE_READ(tcp, rcv_ssthresh), 0 };
	__u64 thread = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&calls, &thread, &before, BPF_ANY);
	return 0;
}

SEC("kretprobe/tcp_try_rmem_schedule")
int on_return(void *context)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct before *before = bpf_map_lookup_elem(&calls, &thread);
	struct tcp_sock *tcp;
	__u32 zero = 0;

	if (!before)
		return 0;
	tcp = (void *)before->socket;
	if (BPF_CORE_READ(tcp, rcv_ssthresh) < before->threshold)
		add(&tcp_window_clamps_total, &zero, 1);
	bpf_map_delete_elem(&calls, &thread);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

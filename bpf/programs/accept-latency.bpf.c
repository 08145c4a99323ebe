// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long connections wait for their program to accept them, by listening port. */
#include "../probes.h"
#include "../maps.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_RECV 3
#define MAX_BUCKET 26

struct key {
	__u32 port;
	__u32 bucket;
};

/* Since when, by socket. LRU: those that end before they are accepted stay behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u64);
} queued SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, __u64);
} accept_latency_seconds SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int from, int to)
{
	__u64 id = (__u64)sk, now;

	if (from != TCP_SYN_RECV || to != TCP_ESTABLISHED)
		return 0;
	now = bpf_ktime_get_ns();
	bpf_map_update_elem(&queued, &id, &now, BPF_ANY);
	return 0;
}

SEC("kretprobe/inet_csk_accept")
int BPF_KRETPROBE(on_accept, struct sock *sk)
{
	__u64 id = (__u64)sk, *since = bpf_map_lookup_elem(&queued, &id);
	struct key key = {};

	if (!since)
		return 0;
	key.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	observe(&accept_latency_seconds, &key, (bpf_ktime_get_ns() - *since) / 1000, MAX_BUCKET);
	bpf_map_delete_elem(&queued, &id);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

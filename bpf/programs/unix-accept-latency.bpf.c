// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long connections to Unix sockets wait to be accepted. */
#include "../kernel.h"
#include "../maps.h"

#define MAX_BUCKET 26

/* Since when, by socket. LRU: those that end before they are accepted stay behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} queued SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_BUCKET + 2);
	__type(key, __u32);
	__type(value, __u64);
} unix_accept_latency_seconds SEC(".maps");

SEC("fentry/security_unix_stream_connect")
int BPF_PROG(on_connect, struct sock *sock, struct sock *listening, struct sock *new)
{
	__u64 id = (__u64) new, now = bpf_ktime_get_ns();

	bpf_map_update_elem(&queued, &id, &now, BPF_ANY);
	return 0;
}

SEC("fexit/unix_accept")
int BPF_PROG(on_accept, struct socket *listening, struct socket *new)
{
	__u64 id = (__u64) new->sk, *since = bpf_map_lookup_elem(&queued, &id);

	if (!since)
		return 0;
	observe_alone(&unix_accept_latency_seconds, (bpf_ktime_get_ns() - *since) / 1000,
		      MAX_BUCKET);
	bpf_map_delete_elem(&queued, &id);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* As `tcp-syn-backlog`, in buckets that double, with one for zero. */
#include "../kernel.h"
#include "../maps.h"

#define MAX_BUCKET 17
#define TCP_SYN_RECV 3
#define TCP_LISTEN 10

struct key {
	__u16 port;
	__u16 zero;
	__u32 bucket;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, __u64);
} tcp_syn_backlog_exp2zero SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int from, int to)
{
	struct key key = {};
	__u32 length;

	/* A connection starts as a copy of the listening socket, length of its queue and all. */
	if (from != TCP_LISTEN || to != TCP_SYN_RECV)
		return 0;
	length = sk->sk_ack_backlog;
	key.port = sk->__sk_common.skc_num;
	key.bucket = length ? log2_up(length) + 1 : 0;
	if (key.bucket > MAX_BUCKET)
		key.bucket = MAX_BUCKET;
	add(&tcp_syn_backlog_exp2zero, &key, 1);
	key.bucket = MAX_BUCKET + 1;
	if (length)
		add(&tcp_syn_backlog_exp2zero, &key, length);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

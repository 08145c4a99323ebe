// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Connections whose handshake is not over, by listening port, counted whenever one gets over. */
#include "../kernel.h"
#include "../maps.h"

#define WIDTH 50
#define MAX_BUCKET 20

#define TCP_SYN_RECV 3
#define TCP_LISTEN 10

struct request_sock_queue {
	struct {
		int counter;
	} qlen;
} __ksym_type;

struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
} __ksym_type;

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
} tcp_syn_backlog SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int from, int to)
{
	struct inet_connection_sock *copy = (void *)sk;
	struct key key = {};
	__u32 length;

	/* A connection starts as a copy of the listening socket, queue and all, and says so before that is wiped. */
	if (from != TCP_LISTEN || to != TCP_SYN_RECV)
		return 0;
	length = BPF_CORE_READ(copy, icsk_accept_queue.qlen.counter);
	key.port = sk->__sk_common.skc_num;
	key.bucket = (length + WIDTH - 1) / WIDTH;
	if (key.bucket > MAX_BUCKET)
		key.bucket = MAX_BUCKET;
	add(&tcp_syn_backlog, &key, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Datagrams dropped because their socket had no room, by local port. The higher ports, of which clients get any, count as 0. */
#include "../kernel.h"
#include "../maps.h"

#define EPHEMERAL 32768

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, __u64);
} udp_drops_total SEC(".maps");

SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(on_drop, int result, struct sock *sk)
{
	__u16 port = sk->__sk_common.skc_num;

	if (port >= EPHEMERAL)
		port = 0;
	add(&udp_drops_total, &port, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

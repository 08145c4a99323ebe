// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* TCP segments sent again, by peer and by the ports of both sides. The higher ports, of which clients get any, count as 0. */
#include "../kernel.h"
#include "../maps.h"
#include "../address.h"

#define AF_INET6 10
#define EPHEMERAL 32768

struct key {
	__u32 address[4];
	__u16 local_port;
	__u16 remote_port;
};

/* LRU: there is no end to peers. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct key);
	__type(value, __u64);
} tcp_retransmits_total SEC(".maps");

static __always_inline __u16 lasting(__u16 port)
{
	return port < EPHEMERAL ? port : 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(on_retransmit, struct sock *sk)
{
	struct key key;

	if (sk->__sk_common.skc_family == AF_INET6)
		BPF_CORE_READ_INTO(&key.address, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	else
		map_ipv4(key.address, sk->__sk_common.skc_daddr);
	key.local_port = lasting(sk->__sk_common.skc_num);
	key.remote_port = lasting(bpf_ntohs(sk->__sk_common.skc_dport));
	add(&tcp_retransmits_total, &key, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

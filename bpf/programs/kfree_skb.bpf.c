// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Packets dropped, by reason and by the kernel's function that dropped them. */
#include "../kernel.h"
#include "../maps.h"

/* Numbers differ between kernels, so these are looked up by name at load time; the config has names for ours. */
enum skb_drop_reason {
	SKB_DROP_REASON_NO_SOCKET = 2,
	SKB_DROP_REASON_PKT_TOO_SMALL = 3,
	SKB_DROP_REASON_TCP_CSUM = 4,
	SKB_DROP_REASON_SOCKET_FILTER = 5,
	SKB_DROP_REASON_UDP_CSUM = 6,
	SKB_DROP_REASON_NETFILTER_DROP = 7,
	SKB_DROP_REASON_OTHERHOST = 8,
	SKB_DROP_REASON_IP_CSUM = 9,
	SKB_DROP_REASON_IP_INHDR = 10,
	SKB_DROP_REASON_IP_RPFILTER = 11,
	SKB_DROP_REASON_XFRM_POLICY = 12,
	SKB_DROP_REASON_PROTO_MEM = 13,
	SKB_DROP_REASON_TCP_MD5NOTFOUND = 14,
	SKB_DROP_REASON_SOCKET_BACKLOG = 15,
	SKB_DROP_REASON_TCP_FLAGS = 16,
	SKB_DROP_REASON_TCP_ZEROWINDOW = 17,
	SKB_DROP_REASON_TCP_OLD_DATA = 18,
	SKB_DROP_REASON_TCP_OVERWINDOW = 19,
	SKB_DROP_REASON_TCP_OFOMERGE = 20,
	SKB_DROP_REASON_TCP_RESET = 21,
	SKB_DROP_REASON_TCP_INVALID_SYN = 22,
	SKB_DROP_REASON_TCP_CLOSE = 23,
	SKB_DROP_REASON_SOCKET_RCVBUFF = 24,
	SKB_DROP_REASON_QDISC_DROP = 25,
	SKB_DROP_REASON_FULL_RING = 26,
	SKB_DROP_REASON_CPU_BACKLOG = 27,
	SKB_DROP_REASON_NOMEM = 28,
	SKB_DROP_REASON_DEV_HDR = 29,
	SKB_DROP_REASON_NEIGH_FAILED = 30,
	SKB_DROP_REASON_NEIGH_QUEUEFULL = 31,
	SKB_DROP_REASON_TCP_OLD_ACK = 32,
	SKB_DROP_REASON_TCP_RFC7323_PAWS = 33,
	SKB_DROP_REASON_UNHANDLED_PROTO = 34,
	SKB_DROP_REASON_IP_NOPROTO = 35,
	SKB_DROP_REASON_TCP_OLD_SEQUENCE = 36,
};

struct key {
	__u64 location;
	__u32 reason;
	__u32 zero;
};

/* LRU: tells of the places where packets are being dropped now. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, __u64);
} packet_drops_total SEC(".maps");

#define REASON(number, name)                                                             \
	if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_DROP_REASON_##name) &&  \
	    reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_##name)) \
	return number

static __always_inline __u32 common_reason(__u32 reason)
{
	REASON(1, NO_SOCKET);
	REASON(2, PKT_TOO_SMALL);
	REASON(3, TCP_CSUM);
	REASON(4, SOCKET_FILTER);
	REASON(5, UDP_CSUM);
	REASON(6, NETFILTER_DROP);
	REASON(7, OTHERHOST);
	REASON(8, IP_CSUM);
	REASON(9, IP_INHDR);
	REASON(10, IP_RPFILTER);
	REASON(11, XFRM_POLICY);
	REASON(12, PROTO_MEM);
	REASON(13, TCP_MD5NOTFOUND);
	REASON(14, SOCKET_BACKLOG);
	REASON(15, TCP_FLAGS);
	REASON(16, TCP_ZEROWINDOW);
	REASON(17, TCP_OLD_DATA);
	REASON(18, TCP_OVERWINDOW);
	REASON(19, TCP_OFOMERGE);
	REASON(20, TCP_RESET);
	REASON(21, TCP_INVALID_SYN);
	REASON(22, TCP_CLOSE);
	REASON(23, SOCKET_RCVBUFF);
	REASON(24, QDISC_DROP);
	REASON(25, FULL_RING);
	REASON(26, CPU_BACKLOG);
	REASON(27, NOMEM);
	REASON(28, DEV_HDR);
	REASON(29, NEIGH_FAILED);
	REASON(30, NEIGH_QUEUEFULL);
	REASON(31, TCP_OLD_ACK);
	REASON(32, TCP_RFC7323_PAWS);
	REASON(33, UNHANDLED_PROTO);
	REASON(34, IP_NOPROTO);
	REASON(35, TCP_OLD_SEQUENCE);
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(on_drop, struct sk_buff *skb, void *location, __u32 reason)
{
	struct key key = { (__u64)location, common_reason(reason), 0 };

	add(&packet_drops_total, &key, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* ICMP messages received, by sender. */
#include "../probes.h"
#include "../maps.h"
#include "../address.h"

#define IPV4_SOURCE 12
#define IPV6_SOURCE 8

struct address {
	__u32 words[4];
};

/* LRU: there is no end to senders. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u64);
} icmp_received_total SEC(".maps");

static __always_inline void *network_header(struct sk_buff *skb)
{
	return BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
}

SEC("kprobe/icmp_rcv")
int BPF_KPROBE(on_icmp, struct sk_buff *skb)
{
	struct address from;
	__u32 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), network_header(skb) + IPV4_SOURCE);
	map_ipv4(from.words, address);
	add(&icmp_received_total, &from, 1);
	return 0;
}

SEC("kprobe/icmpv6_rcv")
int BPF_KPROBE(on_icmpv6, struct sk_buff *skb)
{
	struct address from = {};

	bpf_probe_read_kernel(&from, sizeof(from), network_header(skb) + IPV6_SOURCE);
	add(&icmp_received_total, &from, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

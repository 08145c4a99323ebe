// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Names that DNS is asked for over UDP, as they leave the process that asks. Every packet sent passes here; most are done with
 * after a look at their header. */
#include "../kernel.h"
#include "../maps.h"

#define ETH_P_IP 0x0800
#define IPV4_PROTOCOL 9
#define IPV6_NEXT_HEADER 6
#define IPPROTO_UDP 17
#define UDP_DESTINATION 2
#define DNS_PORT 53
#define DNS_QUESTION (8 + 12) /* behind the headers of UDP and DNS */
#define NAME_BYTES 128
#define DST_NOREF 1UL

struct name {
	char text[NAME_BYTES];
};

/* LRU: there is no end to names. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct name);
	__type(value, __u64);
} dns_questions_total SEC(".maps");

SEC("tp_btf/net_dev_queue")
int BPF_PROG(on_send, struct sk_buff *skb)
{
	struct dst_entry *route = (void *)(skb->_skb_refdst & ~DST_NOREF);
	void *header = skb->head + skb->network_header;
	struct name name = {};
	__u8 protocol = 0;
	__u16 port = 0;
	void *question;
	long room;

	/* On its way a packet may be queued again by a bridge, a VLAN or another namespace: the first time it has a socket, and
	 * the device its route says. */
	if (!skb->sk || BPF_CORE_READ(route, dev) != skb->dev)
		return 0;
	header += skb->protocol == __builtin_bswap16(ETH_P_IP) ? IPV4_PROTOCOL : IPV6_NEXT_HEADER;
	bpf_probe_read_kernel(&protocol, sizeof(protocol), header);
	if (protocol != IPPROTO_UDP)
		return 0;
	header = skb->head + skb->transport_header;
	bpf_probe_read_kernel(&port, sizeof(port), header + UDP_DESTINATION);
	if (port != __builtin_bswap16(DNS_PORT))
		return 0;
	/* What is behind the packet's end was somebody else's. */
	question = header + DNS_QUESTION;
	room = (void *)skb->head + skb->tail - question;
	if (room <= 0)
		return 0;
	if (room > NAME_BYTES)
		room = NAME_BYTES;
	/* A name ends with a label of length 0. */
	if (bpf_probe_read_kernel_str(name.text, room, question) < 0)
		return 0;
	/* Resolvers mix cases against forgery. Lengths are below 64, and so no letters. */
	for (int i = 0; i < NAME_BYTES; i++)
		if (name.text[i] >= 'A' && name.text[i] <= 'Z')
			name.text[i] += 'a' - 'A';
	add(&dns_questions_total, &name, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

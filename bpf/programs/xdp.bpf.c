// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Packets received by the loopback interface, by protocol and destination port: XDP, before the kernel sees them. The higher
 * ports, of which clients get any, count as 0. */
#include "../kernel.h"
#include "../maps.h"

#define ETHERNET 14
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPV4_HEADER 20
#define IPV4_PROTOCOL 9
#define IPV6_NEXT_HEADER 6
#define IPV6_HEADER 40
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define EPHEMERAL 32768

struct key {
	__u8 protocol;
	__u8 zero;
	__u16 port;
};

/* LRU: somebody may try all ports. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct key);
	__type(value, __u64);
} xdp_packets_total SEC(".maps");

static __always_inline __u16 big_endian(const __u8 *at)
{
	return at[0] << 8 | at[1];
}

static __always_inline void read_packet(const __u8 *at, const __u8 *end, struct key *key)
{
	__u32 header;

	if (at + ETHERNET + IPV4_HEADER > end)
		return;
	at += ETHERNET;
	switch (big_endian(at - 2)) {
	case ETH_P_IP:
		header = (at[0] & 0xf) * 4;
		key->protocol = at[IPV4_PROTOCOL];
		break;
	case ETH_P_IPV6:
		header = IPV6_HEADER;
		key->protocol = at[IPV6_NEXT_HEADER];
		break;
	default:
		return;
	}
	at += header;
	if ((key->protocol != IPPROTO_TCP && key->protocol != IPPROTO_UDP) || at + 4 > end)
		return;
	key->port = big_endian(at + 2);
	if (key->port >= EPHEMERAL)
		key->port = 0;
}

SEC("xdp/lo")
int on_packet(struct xdp_md *packet)
{
	struct key key = {};

	read_packet((void *)(long)packet->data, (void *)(long)packet->data_end, &key);
	add(&xdp_packets_total, &key, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* IP fragments received, by interface and version of IP. */
#include "../probes.h"
#include "../maps.h"

#define ETH_P_IPV6 0x86dd

struct key {
	__u32 interface;
	__u8 version;
	__u8 zero[3];
};

/* LRU: interfaces of containers come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, __u64);
} ip_fragments_total SEC(".maps");

SEC("kprobe/inet_frag_queue_insert")
int BPF_KPROBE(on_fragment, void *queue, struct sk_buff *skb)
{
	struct key key = {};

	key.interface = BPF_CORE_READ(skb, dev, ifindex);
	key.version = BPF_CORE_READ(skb, protocol) == __builtin_bswap16(ETH_P_IPV6) ? 6 : 4;
	add(&ip_fragments_total, &key, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Addresses as keys. */
#ifndef NODEPROBE_ADDRESS_H
#define NODEPROBE_ADDRESS_H

#include <linux/types.h>
#include <bpf/bpf_endian.h>

/* IPv4 addresses are written as IPv6 does it, ::ffff:a.b.c.d; decoder `inet_ip` makes them IPv4 again. */
static __always_inline void map_ipv4(__u32 *words, __u32 address)
{
	words[0] = words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

#endif

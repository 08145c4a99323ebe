/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What is remembered of a socket stands in the table `connections` by the socket's address; for tcp.h. */
#ifndef NODEPROBE_TCP_TABLE_H
#define NODEPROBE_TCP_TABLE_H

#include "tcp.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, MAP_FLAGS);
	__uint(max_entries, CONNECTIONS);
	__type(key, __u64);
	__type(value, struct connection);
} connections SEC(".maps");

static __always_inline struct connection *connection_of(struct sock *sk)
{
	__u64 key = (__u64)sk;

	return bpf_map_lookup_elem(&connections, &key);
}

static __always_inline struct connection *remember(struct sock *sk,
						   const struct connection *connection)
{
	__u64 key = (__u64)sk;

	if (bpf_map_update_elem(&connections, &key, connection, BPF_NOEXIST))
		return NULL;
	return bpf_map_lookup_elem(&connections, &key);
}

static __always_inline void forget(struct sock *sk)
{
	__u64 key = (__u64)sk;

	bpf_map_delete_elem(&connections, &key);
}

#endif

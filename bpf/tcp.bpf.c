// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* TCP connections and listeners, where a socket has storage for programs (Linux 5.11): what is remembered of a socket dies
 * with it, and costs memory for living sockets only. */
#define MAP_FLAGS BPF_F_NO_PREALLOC
#define TYPED_POINTERS
#include "tcp_btf.h"

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

static __always_inline struct connection *connection_of(struct sock *sk)
{
	return bpf_sk_storage_get(&connections, sk, NULL, 0);
}

static __always_inline struct connection *remember(struct sock *sk,
						   const struct connection *connection)
{
	struct connection *kept = bpf_sk_storage_get(&connections, sk, (void *)connection,
						     BPF_SK_STORAGE_GET_F_CREATE);

	/* A socket that connected before and ended may do so again. */
	if (kept)
		*kept = *connection;
	return kept;
}

/* It goes with the socket, most of the time at once; a removal of its own would cost more than all the rest. */
static __always_inline void forget(struct sock *sk)
{
}

SEC("iter/bpf_sk_storage_map")
int live(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct connection *connection = ctx->value;
	struct sock *sk = ctx->sk;

	return sk && connection ? add_living(ctx->meta->seq, sk, connection) : 0;
}

static __always_inline struct sock *sock_of(struct file *file)
{
	struct socket *socket = file ? bpf_sock_from_file(file) : NULL;

	return socket ? socket->sk : NULL;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* TCP connections and listeners, where sockets have no storage for programs (before Linux 5.11): what is remembered stands in a
 * table by the address of the socket, and connections that find it full are counted as lost. */
#define MAP_FLAGS BPF_F_NO_PREALLOC
#define CONNECTIONS 65536
#include "tcp_btf.h"
#include "tcp_table.h"

SEC("iter/bpf_map_elem")
int live(struct bpf_iter__bpf_map_elem *ctx)
{
	struct connection *connection = ctx->value;
	__u64 *key = ctx->key;

	return key && connection ? add_living(ctx->meta->seq, (struct sock *)*key, connection) : 0;
}

static __always_inline struct sock *sock_of(struct file *file)
{
	struct socket *socket;

	/* There is no file on a socket's inode that is not the socket, but for O_PATH, which has no data. */
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return socket ? BPF_CORE_READ(socket, sk) : NULL;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

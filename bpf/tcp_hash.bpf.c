// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* TCP connections and listeners, where sockets have no storage for programs (before Linux 5.11): what is remembered stands in a
 * table by the address of the socket, and connections that find it full are counted as lost. */
#define MAP_FLAGS BPF_F_NO_PREALLOC
#include "kernel.h"

struct connection;
static struct connection *connection_of(struct sock *sk);
static struct connection *remember(struct sock *sk, const struct connection *connection);
static void forget(struct sock *sk);

#include "tcp_btf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, MAP_FLAGS);
	__uint(max_entries, 65536);
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

SEC("iter/task_file")
int listeners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct sock *sk = sock_of(ctx->file);

	return task && sk ? tell_listener(ctx->meta->seq, task, sk) : 0;
}

SEC("iter/task_file")
int adopted(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct sock *sk = sock_of(ctx->file);

	return task && sk ? adopt(task, sk) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

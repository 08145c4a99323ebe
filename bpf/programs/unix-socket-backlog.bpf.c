// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Connections that wait to be accepted when another one is made to the same Unix socket. */
#include "../kernel.h"
#include "../maps.h"

#define MAX_BUCKET 17

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_BUCKET + 2);
	__type(key, __u32);
	__type(value, __u64);
} unix_socket_backlog SEC(".maps");

SEC("fentry/security_unix_stream_connect")
int BPF_PROG(on_connect, struct sock *sock, struct sock *listening)
{
	__u32 length = listening->sk_receive_queue.qlen;
	__u32 bucket = length ? log2_up(length) + 1 : 0;

	if (bucket > MAX_BUCKET)
		bucket = MAX_BUCKET;
	add_local(&unix_socket_backlog, &bucket, 1);
	bucket = MAX_BUCKET + 1;
	if (length)
		add_local(&unix_socket_backlog, &bucket, length);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

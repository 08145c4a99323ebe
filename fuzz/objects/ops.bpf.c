// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* A seed for the fuzzer: operations of the kernel as programs, and a private section. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct sock;
struct tcp_congestion_ops {
	void (*init)(struct sock *sk);
	unsigned int (*ssthresh)(struct sock *sk);
	char name[16];
	void *owner;
};

SEC("struct_ops/on_init")
void on_init(void *ctx)
{
}

SEC("struct_ops")
unsigned int on_ssthresh(void *ctx)
{
	return 2;
}

SEC(".struct_ops")
struct tcp_congestion_ops calm = {
	.init = (void *)on_init,
	.ssthresh = (void *)on_ssthresh,
	.name = "calm",
};

SEC(".struct_ops.link")
struct tcp_congestion_ops calmer = {
	.ssthresh = (void *)on_ssthresh,
	.name = "calmer",
};

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* A seed for the fuzzer: as little as there can be. */
#define SEC(name) __attribute__((section(name), used))

SEC("tp_btf/sys_enter")
int on_enter(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

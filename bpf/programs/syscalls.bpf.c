// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* System calls, and those that failed. Calls of 32-bit programs are numbered differently and end up under wrong names. */
#include "../kernel.h"
#include "../maps.h"

#define MAX_ERRNO 133

struct pt_regs {
#if defined(__TARGET_ARCH_arm64)
	int syscallno;
#else
	unsigned long orig_ax;
#endif
} __ksym_type;

static __always_inline __u32 syscall_number(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_arm64)
	return regs->syscallno;
#else
	return regs->orig_ax;
#endif
}

struct failure {
	__u32 syscall;
	__u32 error;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, __u64);
} syscalls_total SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct failure);
	__type(value, __u64);
} syscall_errors_total SEC(".maps");

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long syscall)
{
	__u32 key = syscall;

	add_local(&syscalls_total, &key, 1);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_exit, struct pt_regs *regs, long result)
{
	struct failure key;

	/* Larger ones are the kernel's own, for calls it restarts. */
	if (result >= 0 || result < -MAX_ERRNO)
		return 0;
	key.syscall = syscall_number(regs);
	key.error = -result;
	add_local(&syscall_errors_total, &key, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

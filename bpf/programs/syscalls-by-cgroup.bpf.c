// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* System calls of each cgroup. */
#include "../kernel.h"
#include "../maps.h"

struct pt_regs;

struct key {
	__u64 cgroup;
	__u32 syscall;
	__u32 zero;
};

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, __u64);
} cgroup_syscalls_total SEC(".maps");

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long syscall)
{
	struct key key = { bpf_get_current_cgroup_id(), syscall, 0 };

	add_local(&cgroup_syscalls_total, &key, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

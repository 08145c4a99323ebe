// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Page faults of each cgroup, of programs and of the kernel on their behalf. */
#include "../kernel.h"
#include "../maps.h"

enum kind {
	USER,
	KERNEL,
};

struct key {
	__u64 cgroup;
	__u32 kind;
	__u32 zero;
};

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct key);
	__type(value, __u64);
} page_faults_total SEC(".maps");

static __always_inline int count(__u32 kind)
{
	struct key key = { bpf_get_current_cgroup_id(), kind, 0 };

	add_local(&page_faults_total, &key, 1);
	return 0;
}

SEC("tp_btf/page_fault_user")
int on_user(void *context)
{
	return count(USER);
}

SEC("tp_btf/page_fault_kernel")
int on_kernel(void *context)
{
	return count(KERNEL);
}

char LICENSE[] SEC("license") = "GPL";

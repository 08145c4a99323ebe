// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Names looked up through the C library, by cgroup: a probe on one of its functions, in all processes that use this file. */
#include "../kernel.h"
#include "../maps.h"

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} name_lookups_total SEC(".maps");

SEC("uprobe/libc.so.6:getaddrinfo")
int on_lookup(void *context)
{
	__u64 cgroup = bpf_get_current_cgroup_id();

	add(&name_lookups_total, &cgroup, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

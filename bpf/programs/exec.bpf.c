// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Programs started, by cgroup. */
#include "../tasks.h"
#include "../maps.h"

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} execs_total SEC(".maps");

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	__u64 cgroup = task_cgroup(task);

	add(&execs_total, &cgroup, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

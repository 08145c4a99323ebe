// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Processes the kernel killed for want of memory, by cgroup. What the tracepoint of the kill itself tells differs between
 * kernels, so victims are counted as they exit: the kernel has left its mark on them. */
#include "../tasks.h"
#include "../maps.h"

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} oom_kills_total SEC(".maps");

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	__u64 cgroup;

	/* Threads of a victim exit one by one; its first thread stands for all. */
	if (task->pid != task->tgid || !task->signal->oom_mm)
		return 0;
	cgroup = task_cgroup(task);
	add(&oom_kills_total, &cgroup, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* As `cgroup_id_map`, with a mark in the cgroup itself instead of a list of ids: nothing is left over when a cgroup goes. */
#include "../tasks.h"
#include "../maps.h"

#define BPF_MAP_TYPE_CGRP_STORAGE 32 /* since Linux 6.2, and not in the linux/bpf.h of all */

/* Marked from outside. */
struct {
	__uint(type, BPF_MAP_TYPE_CGRP_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} marked SEC(".maps");

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} sched_migrations_marked_total SEC(".maps");

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(on_migrate, struct task_struct *task)
{
	__u64 cgroup = task_cgroup(task);

	if (bpf_cgrp_storage_get(&marked, task->cgroups->dfl_cgrp, NULL, 0))
		add(&sched_migrations_marked_total, &cgroup, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

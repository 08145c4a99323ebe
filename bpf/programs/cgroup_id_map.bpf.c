// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Threads moved to another CPU, for those cgroups only whose paths match a pattern: `cgroup_id_map` of the config keeps their ids
 * in a map. */
#include "../tasks.h"
#include "../maps.h"

/* Filled from outside. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} selected SEC(".maps");

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} sched_migrations_selected_total SEC(".maps");

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(on_migrate, struct task_struct *task)
{
	__u64 cgroup = task_cgroup(task);

	if (bpf_map_lookup_elem(&selected, &cgroup))
		add(&sched_migrations_selected_total, &cgroup, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

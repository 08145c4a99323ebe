// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Processes the kernel killed for want of memory, by the cgroups they were in.
 *
 * The kernel marks its victims (mark_oom_victim) while some other task is current, and what its tracepoint tells of them differs
 * between kernels: a thread's number, later the task. But the mark is on the whole process for as long as there is anything of it,
 * so victims are counted at their end (ended.h); one that ends before it is marked, when the kernel lets go of it. It also marks
 * processes that are about to end anyway, to let them have the rest of the memory; those that were not killed are not counted. */
#define TYPED_POINTERS
#include "kernel.h"
#include "ended.h"
#include "task_cgroups.h"

#define SIGKILL 9

/* Mirrored by `each_owner` in src/collectors/oom/kernel.rs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct cgroup_ids);
	__type(value, __u64);
} owners SEC(".maps");

/* What the table had no room for. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline int is_victim(struct task_struct *leader)
{
	int code;

	if (!leader->signal->oom_mm)
		return 0;
	code = leader->signal->group_exit_code;
	if (!code)
		code = leader->exit_code;
	return (code & 0x7f) == SIGKILL;
}

static __always_inline void count_kill(const struct cgroup_ids *ids)
{
	__u64 none = 0, *kills;
	__u32 zero = 0;

	kills = bpf_map_lookup_elem(&owners, ids);
	if (!kills) {
		bpf_map_update_elem(&owners, ids, &none, BPF_NOEXIST);
		kills = bpf_map_lookup_elem(&owners, ids);
	}
	if (!kills)
		kills = bpf_map_lookup_elem(&lost, &zero);
	if (kills)
		__sync_fetch_and_add(kills, 1);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct cgroup_ids ids = {};

	if (task->signal->live.counter || !is_victim(leader) || !cgroup_ids_of(leader, &ids))
		return 0;
	if (is_first_to_see_the_end(leader))
		count_kill(&ids);
	return 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(on_free, struct task_struct *task)
{
	struct cgroup_ids ids = {};

	if (task->group_leader != task || !is_victim(task) || !cgroup_ids_of(task, &ids))
		return 0;
	if (is_end_new(task))
		count_kill(&ids);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

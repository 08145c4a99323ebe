// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long threads that could run wait for a CPU. */
#include "../kernel.h"
#include "../maps.h"

#define TASK_RUNNING 0
#define MAX_BUCKET 26

/* Until Linux 5.14. */
struct task_struct___old {
	long state;
} __ksym_type;

/* Since when; threads beyond the limit are not measured. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __s32);
	__type(value, __u64);
} waiting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_BUCKET + 2);
	__type(key, __u32);
	__type(value, __u64);
} run_queue_latency_seconds SEC(".maps");

static __always_inline int is_runnable(struct task_struct *task)
{
	struct task_struct___old *old = (void *)task;

	if (bpf_core_field_exists(task->__state))
		return task->__state == TASK_RUNNING;
	return old->state == TASK_RUNNING;
}

static __always_inline int enqueued(struct task_struct *task)
{
	__s32 pid = task->pid;
	__u64 now = bpf_ktime_get_ns();

	/* The idle tasks are all 0. */
	if (pid)
		bpf_map_update_elem(&waiting, &pid, &now, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	return enqueued(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_new, struct task_struct *task)
{
	return enqueued(task);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, _Bool preempt, struct task_struct *from, struct task_struct *to)
{
	__s32 pid = to->pid;
	__u64 *since;

	if (preempt || is_runnable(from))
		enqueued(from);
	since = bpf_map_lookup_elem(&waiting, &pid);
	if (!since)
		return 0;
	observe_alone(&run_queue_latency_seconds, (bpf_ktime_get_ns() - *since) / 1000, MAX_BUCKET);
	bpf_map_delete_elem(&waiting, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

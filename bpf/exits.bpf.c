// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Tells which cgroups a process was in when its last thread exited. By the time user space reads the accounting record
 * the kernel sends of that exit, /proc/PID may be gone. */
#include "kernel.h"
#include "task_cgroups.h"

const volatile struct {
	__u32 tells_threads; /* also of threads that are not the last one */
} settings;

/* Mirrored by `Ended` in src/collectors/delays/owners.rs. */
struct ended {
	struct cgroup_ids ids;
	__u32 process;
	__u32 thread;
	__u32 is_last;
	__u32 has_sum; /* what the process waited comes as a sum over threads */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
} records SEC(".maps");

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct ended ended = {};

	/* do_exit has counted this thread off. Of two that exit at once both may look like the last. */
	ended.is_last = BPF_CORE_READ(task, signal, live.counter) <= 0;
	if (!ended.is_last && !settings.tells_threads)
		return 0;
	ended.process = BPF_CORE_READ(task, tgid);
	ended.thread = BPF_CORE_READ(task, pid);
	ended.has_sum = BPF_CORE_READ(task, signal, stats) != NULL;
	cgroup_ids_of(task, &ended.ids);
	/* Nobody waits for it: it is taken when the accounting record is, which looks in /proc where the ring was full. */
	bpf_ringbuf_output(&records, &ended, sizeof(ended), BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

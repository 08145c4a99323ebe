/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The end of a process, told once: by its last thread, whichever that is. */
#ifndef NODEPROBE_PROCESSES_H
#define NODEPROBE_PROCESSES_H

#include "kernel.h"

/* Processes whose first thread has exited while others lived. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} left SEC(".maps");

/* Threads that exit together may all find no other alive, so that alone does not make one the last. The first thread is, when it
 * finds none; otherwise it leaves a note, and whoever removes that is. It looks again behind the note: who has looked for it too
 * early had gone by then. */
static __always_inline int is_last_thread(struct task_struct *task)
{
	__u32 process = task->tgid;
	__u64 note = 0, *kept;

	if (task->pid != process)
		return !task->signal->live.counter && !bpf_map_delete_elem(&left, &process);
	if (!task->signal->live.counter)
		return 1;
	/* Without room for a note it is told too early. */
	if (bpf_map_update_elem(&left, &process, &note, BPF_ANY))
		return 1;
	kept = bpf_map_lookup_elem(&left, &process);
	if (kept)
		__sync_fetch_and_add(kept,
				     1); /* a barrier: the note is seen before the next read */
	return !((volatile struct signal_struct *)task->signal)->live.counter &&
	       !bpf_map_delete_elem(&left, &process);
}

/* A thread that executes another program becomes the first one of its process; the one before it has left a note. */
static __always_inline void forget_first_thread(struct task_struct *task, __s32 old_pid)
{
	__u32 process = task->tgid;

	if (old_pid != task->pid)
		bpf_map_delete_elem(&left, &process);
}

#endif

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Counts the end of each process once, of which the kernel tells twice, and either may be missed.
 *
 * The first is the exit of its last thread (sched_process_exit), in that thread. Threads that exit together may each look like the
 * last one, and a thread that another one interrupts (Linux 7.0) may find that our program is at work for the other and is not run.
 * The second is when the kernel lets go of the process (sched_process_free), on top of whatever runs on that processor; there are
 * kernels that run no programs on top of some tasks. Whichever comes first counts. */
#ifndef NODEPROBE_ENDED_H
#define NODEPROBE_ENDED_H

#include "kernel.h"

#define ENOENT 2

/* No two processes have the same; a thread that executes another program takes both over from the first one. */
struct ended_key {
	__u64 start_ns;
	__u32 pid;
	__u32 pad;
};

/* Processes whose end is counted and that the kernel has not let go of, with the time when that was last known. One that finds no
 * room is counted when the kernel lets go of it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct ended_key);
	__type(value, __u64);
} ended SEC(".maps");

static __always_inline struct ended_key ended_key_of(struct task_struct *leader)
{
	struct ended_key key = {};

	key.start_ns = leader->start_time;
	key.pid = leader->tgid;
	return key;
}

/* Whether this is the first to find that the process has ended. */
static __always_inline int is_first_to_see_the_end(struct task_struct *leader)
{
	struct ended_key key = ended_key_of(leader);
	__u64 now_ns = bpf_ktime_get_ns();

	return !bpf_map_update_elem(&ended, &key, &now_ns, BPF_NOEXIST);
}

/* Whether the kernel lets go of a process whose end nobody counted. */
static __always_inline int is_end_new(struct task_struct *leader)
{
	struct ended_key key = ended_key_of(leader);

	return bpf_map_delete_elem(&ended, &key) == -ENOENT;
}

#endif

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The cgroup of a task, as the id that decoder `cgroup` and its like take: that of the v2 hierarchy. */
#ifndef NODEPROBE_TASKS_H
#define NODEPROBE_TASKS_H

#include "kernel.h"

static __always_inline __u64 task_cgroup(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

#endif

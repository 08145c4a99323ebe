/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which cgroups a task is in, as ids that user space resolves (a cgroup's id is the inode number of its directory). */
#ifndef NODEPROBE_CGROUP_IDS_H
#define NODEPROBE_CGROUP_IDS_H

#include <linux/types.h>

/* The hierarchies a container may be visible in, in the order in which user space prefers them. */
enum cgroup_place {
	CGROUP_V2,
	CGROUP_MEMORY,
	CGROUP_CPU,
	CGROUP_PIDS,
	CGROUP_PLACES,
};

struct cgroup_ids {
	__u64 id[CGROUP_PLACES]; /* 0: the root, or a hierarchy that is v2 or does not exist */
};

#endif

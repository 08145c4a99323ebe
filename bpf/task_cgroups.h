/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reads which cgroups a task is in, by the kernel's type information. */
#ifndef NODEPROBE_TASK_CGROUPS_H
#define NODEPROBE_TASK_CGROUPS_H

#include "kernel.h"
#include "cgroup_ids.h"

/* A root says nothing about who the task is; leaving it out keeps keys of one container equal. */
static __always_inline __u64 cgroup_id(struct cgroup *cgroup)
{
	struct kernfs_node *node;

	if (!FIELD(cgroup, level))
		return 0;
	node = FIELD(cgroup, kn);
	return FIELD(node, id);
}

static __always_inline __u64 cgroup_v1_id(struct css_set *set, int subsys)
{
	struct cgroup_subsys_state *css;
	struct cgroup_root *root;
	struct cgroup *cgroup;

#ifdef TYPED_POINTERS
	css = set->subsys[subsys];
#else
	void *slots = __builtin_preserve_access_index(&set->subsys[0]);

	css = NULL;
	bpf_probe_read_kernel(&css, sizeof(css), slots + subsys * sizeof(css));
#endif
	cgroup = FIELD(css, cgroup);
	root = FIELD(cgroup, root);
	/* Hierarchy 0 is v2, which has its own place. */
	return FIELD(root, hierarchy_id) ? cgroup_id(cgroup) : 0;
}

/* Gives 0 for a task that is in no cgroup but roots, and so in no container. */
SHARED int cgroup_ids_of(struct task_struct *task, struct cgroup_ids *ids)
{
	struct css_set *set = FIELD(task, cgroups);

	ids->id[CGROUP_V2] = cgroup_id(FIELD(set, dfl_cgrp));
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		ids->id[CGROUP_MEMORY] = cgroup_v1_id(
			set, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, cpu_cgrp_id))
		ids->id[CGROUP_CPU] =
			cgroup_v1_id(set, bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id));
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		ids->id[CGROUP_PIDS] =
			cgroup_v1_id(set, bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id));
	return ids->id[CGROUP_V2] || ids->id[CGROUP_MEMORY] || ids->id[CGROUP_CPU] ||
	       ids->id[CGROUP_PIDS];
}

static __always_inline int current_cgroup_ids(struct cgroup_ids *ids)
{
#ifdef TYPED_POINTERS
	return cgroup_ids_of(bpf_get_current_task_btf(), ids);
#else
	return cgroup_ids_of((void *)bpf_get_current_task(), ids);
#endif
}

#endif

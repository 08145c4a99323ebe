// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The life of processes by the cgroups they are in: how many are gone, how many programs they executed, how often a cgroup got
 * its first process, and who is there.
 *
 * A process is counted when its last thread ends, or else when the kernel lets go of it (ended.h). Until its parent has taken note of
 * its end it is also among those that are there. */
#define TYPED_POINTERS
#include "kernel.h"
#include "ended.h"
#include "task_cgroups.h"

#define HIERARCHIES 4
#define PF_KTHREAD 0x00200000

/* The hierarchies containers are looked for in; 0 is v2, negative is none. */
const volatile struct {
	__s32 hierarchy[HIERARCHIES];
} settings;

/* Mirrored by `Counts` in src/collectors/processes/kernel.rs. */
struct counts {
	__u64 gone;
	__u64 execs;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct cgroup_ids);
	__type(value, struct counts);
} owners SEC(".maps");

/* Mirrored by `each_cgroup` in src/collectors/processes/kernel.rs. */
struct cgroup_key {
	__u64 id;
	__u32 hierarchy;
	__u32 pad;
};

struct runs {
	__u64 begun; /* how often it got a first process, here or below it */
	__u64 was_populated; /* it had one when it was seen first */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct cgroup_key);
	__type(value, struct runs);
} cgroups SEC(".maps");

/* What the tables had no room for. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* A process that is there; mirrored by `Process` in src/collectors/processes/kernel.rs. */
struct process {
	struct cgroup_ids ids;
	__u64 start_ns;
	__u64 executed;
	__u32 pid;
	__u32 has_ended; /* its parent has not taken note of it, nor is it counted */
};

static __always_inline void lose(void)
{
	__u32 zero = 0;
	__u64 *missed = bpf_map_lookup_elem(&lost, &zero);

	if (missed)
		__sync_fetch_and_add(missed, 1);
}

static __always_inline struct counts *counts_of(const struct cgroup_ids *ids)
{
	struct counts *counts, none = {};

	counts = bpf_map_lookup_elem(&owners, ids);
	if (counts)
		return counts;
	bpf_map_update_elem(&owners, ids, &none, BPF_NOEXIST);
	counts = bpf_map_lookup_elem(&owners, ids);
	if (!counts)
		lose();
	return counts;
}

/* A thread that executes another program becomes the first one of its process, and what was the first is a thread like others. */
static __always_inline int is_process(struct task_struct *task)
{
	return task->group_leader == task && !(task->flags & PF_KTHREAD);
}

static __always_inline void count_end(const struct cgroup_ids *ids)
{
	struct counts *counts = counts_of(ids);

	if (counts)
		__sync_fetch_and_add(&counts->gone, 1);
}

/* Of the first thread's cgroups, as where it is listed: the kernel does not move threads that have ended with the others. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct cgroup_ids ids = {};

	if (task->signal->live.counter || !is_process(leader) || !cgroup_ids_of(leader, &ids))
		return 0;
	if (is_first_to_see_the_end(leader))
		count_end(&ids);
	return 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(on_free, struct task_struct *task)
{
	struct cgroup_ids ids = {};

	if (is_process(task) && cgroup_ids_of(task, &ids) && is_end_new(task))
		count_end(&ids);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	struct cgroup_ids ids = {};
	struct counts *counts;

	if (!cgroup_ids_of(task, &ids))
		return 0;
	counts = counts_of(&ids);
	if (counts)
		__sync_fetch_and_add(&counts->execs, 1);
	return 0;
}

static __always_inline int is_wanted(int hierarchy)
{
	for (int i = 0; i < HIERARCHIES; i++)
		if (settings.hierarchy[i] == hierarchy)
			return 1;
	return 0;
}

/* The kernel tells this for a cgroup and all above it that change, in both directions, one at a time. */
SEC("tp_btf/cgroup_notify_populated")
int BPF_PROG(on_populated, struct cgroup *cgroup, const char *path, int is_populated)
{
	struct cgroup_key key = {};
	struct runs *runs, new = {};

	key.hierarchy = cgroup->root->hierarchy_id;
	if (!cgroup->level || !is_wanted(key.hierarchy))
		return 0;
	key.id = cgroup->kn->id;
	runs = bpf_map_lookup_elem(&cgroups, &key);
	if (!runs) {
		new.was_populated = !is_populated;
		bpf_map_update_elem(&cgroups, &key, &new, BPF_NOEXIST);
		runs = bpf_map_lookup_elem(&cgroups, &key);
	}
	if (!runs)
		lose();
	else if (is_populated)
		__sync_fetch_and_add(&runs->begun, 1);
	return 0;
}

SEC("iter/task")
int present(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct process about = {};
	struct ended_key key;
	__u64 *known_ns;

	if (!task || !is_process(task) || !cgroup_ids_of(task, &about.ids))
		return 0;
	about.start_ns = task->start_time;
	about.executed = task->self_exec_id;
	about.pid = task->tgid;
	about.has_ended = !task->signal->live.counter;
	if (about.has_ended) {
		key = ended_key_of(task);
		known_ns = bpf_map_lookup_elem(&ended, &key);
		if (known_ns) {
			*known_ns = bpf_ktime_get_ns();
			return 0;
		}
	}
	bpf_seq_write(ctx->meta->seq, &about, sizeof(about));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long block devices take for the requests of each container. A request belongs to the cgroup its first bio is charged to,
 * which for written pages is that of their writer, not the kernel thread that brings them to the disk. */
#include "../block.h"
#include "../maps.h"

#define MAX_BUCKET 27

struct key {
	__u64 cgroup;
	__u32 operation;
	__u32 bucket;
};

/* LRU: cgroups come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct key);
	__type(value, __u64);
} container_disk_latency_seconds SEC(".maps");

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_complete, struct request *rq, int error, unsigned int bytes)
{
	struct bio *bio = rq->bio;
	struct cgroup *cgroup;
	struct key key = {};

	if (!is_last_piece(rq, bytes) || !bio)
		return 0;
	cgroup = bio->bi_blkg->blkcg->css.cgroup;
	/* The ids of v1's hierarchies repeat each other's, so they would name wrong containers. */
	if (!cgroup || cgroup->root->hierarchy_id)
		return 0;
	key.cgroup = cgroup->kn->id;
	key.operation = rq->cmd_flags & REQ_OP_MASK;
	observe(&container_disk_latency_seconds, &key, request_microseconds(rq), MAX_BUCKET);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

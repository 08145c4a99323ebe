// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long block devices take for a request, from when it was made to its completion: queueing is in it, as in iostat's
 * await. The kernel itself stamps requests, so nothing has to be remembered here. */
#include "../block.h"
#include "../maps.h"

#define MAX_BUCKET 27

struct key {
	__u32 device;
	__u32 operation;
	__u32 bucket;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, __u64);
} bio_latency_seconds SEC(".maps");

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_complete, struct request *rq, int error, unsigned int bytes)
{
	struct key key = {};

	if (!is_last_piece(rq, bytes))
		return 0;
	key.device = request_device(rq);
	key.operation = rq->cmd_flags & REQ_OP_MASK;
	observe(&bio_latency_seconds, &key, request_microseconds(rq), MAX_BUCKET);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

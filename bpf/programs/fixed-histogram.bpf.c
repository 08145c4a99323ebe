// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Sizes of block requests, in buckets whose bounds are chosen freely (`bucket_type: fixed`): the key holds the bound itself,
 * and the sum is at the last bound plus one. */
#include "../block.h"
#include "../maps.h"

/* Those of bucket_keys; no request reaches the last one. */
static const __u32 bounds[] = { 4096, 16384, 65536, 262144, 1048576, 1073741824 };

#define LAST (sizeof(bounds) / sizeof(bounds[0]) - 1)

struct key {
	__u32 device;
	__u32 operation;
	__u32 bound;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, __u64);
} disk_request_size_bytes SEC(".maps");

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_complete, struct request *rq, int error, unsigned int bytes)
{
	struct key key = {};
	__u32 i = 0;

	/* Flushes have no data. */
	if (!is_last_piece(rq, bytes) || !bytes)
		return 0;
	key.device = request_device(rq);
	key.operation = rq->cmd_flags & REQ_OP_MASK;
#pragma unroll
	for (__u32 bound = 0; bound < LAST; bound++)
		i += bytes > bounds[bound];
	key.bound = bounds[i];
	add(&disk_request_size_bytes, &key, 1);
	key.bound = bounds[LAST] + 1;
	add(&disk_request_size_bytes, &key, bytes);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

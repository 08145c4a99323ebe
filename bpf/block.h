/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Block requests, as the kernel completes them. */
#ifndef NODEPROBE_BLOCK_H
#define NODEPROBE_BLOCK_H

#include "kernel.h"

#define REQ_OP_MASK 0xff

struct gendisk {
	int major;
	int first_minor;
} __ksym_type;

struct request_queue {
	struct gendisk *disk;
} __ksym_type;

struct blkcg {
	struct cgroup_subsys_state css;
} __ksym_type;

struct blkcg_gq {
	struct blkcg *blkcg;
} __ksym_type;

struct bio {
	struct blkcg_gq *bi_blkg;
} __ksym_type;

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	struct bio *bio;
	__u64 start_time_ns;
} __ksym_type;

/* Until Linux 5.16. */
struct request___old {
	struct gendisk *rq_disk;
} __ksym_type;

/* As the kernel's new_encode_dev, which decoder `majorminor` takes apart. */
static __always_inline __u32 request_device(struct request *rq)
{
	struct request___old *old = (void *)rq;
	struct gendisk *disk = bpf_core_field_exists(old->rq_disk) ? old->rq_disk : rq->q->disk;
	__u32 minor;

	if (!disk)
		return 0;
	minor = disk->first_minor;
	return (minor & 0xff) | disk->major << 8 | (minor & ~0xff) << 12;
}

/* A request may be completed in pieces; what is left of it is still in it here. The kernel stamps requests unless the disk's
 * queue/iostats is 0. */
static __always_inline int is_last_piece(struct request *rq, __u32 bytes)
{
	return bytes >= rq->__data_len && rq->start_time_ns;
}

static __always_inline __u64 request_microseconds(struct request *rq)
{
	__s64 nanoseconds = bpf_ktime_get_ns() - rq->start_time_ns;

	return nanoseconds < 0 ? 0 : (__u64)nanoseconds / 1000;
}

#endif

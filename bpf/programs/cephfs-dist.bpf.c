// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long operations on files of ceph take. */
#define HISTOGRAM cephfs_latency_seconds
#include "../timed.h"

TIMED(ceph_read_iter, OPERATION_READ)
TIMED(ceph_write_iter, OPERATION_WRITE)
TIMED(ceph_mkdir, OPERATION_MKDIR)
TIMED(ceph_unlink, OPERATION_UNLINK)
TIMED(ceph_fsync, OPERATION_FSYNC)

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long operations on files of xfs take. */
#define HISTOGRAM xfs_latency_seconds
#include "../timed.h"

TIMED(xfs_file_read_iter, OPERATION_READ)
TIMED(xfs_file_write_iter, OPERATION_WRITE)
TIMED(xfs_file_open, OPERATION_OPEN)
TIMED(xfs_file_fsync, OPERATION_FSYNC)

char LICENSE[] SEC("license") = "GPL";

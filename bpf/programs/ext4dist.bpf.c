// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* How long operations on files of ext4 take. */
#define HISTOGRAM ext4_latency_seconds
#include "../timed.h"

TIMED(ext4_file_read_iter, OPERATION_READ)
TIMED(ext4_file_write_iter, OPERATION_WRITE)
TIMED(ext4_file_open, OPERATION_OPEN)
TIMED(ext4_sync_file, OPERATION_FSYNC)
TIMED(ext4_file_getattr, OPERATION_GETATTR)

char LICENSE[] SEC("license") = "GPL";

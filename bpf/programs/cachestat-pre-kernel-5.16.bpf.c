// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* As `cachestat`, with the names of before Linux 5.16. */
#define ON_DIRTY "raw_tp/writeback_dirty_page"
#define ON_USE "kprobe/mark_page_accessed"
#include "cachestat.bpf.c"

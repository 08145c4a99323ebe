/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Logarithms for buckets, by the names that programs written for ebpf_exporter use. They round up: bounds are inclusive. */
#ifndef NODEPROBE_BITS_BPF_H
#define NODEPROBE_BITS_BPF_H

#include "../log2.h"

static __always_inline __u64 log2l(__u64 value)
{
	return log2_up(value);
}

static __always_inline __u64 log2(__u32 value)
{
	return log2_up(value);
}

#endif

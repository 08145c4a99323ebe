/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Buckets that double. */
#ifndef NODEPROBE_LOG2_H
#define NODEPROBE_LOG2_H

/* The power of two that is `value` or the next one above: a bucket's bound is inclusive. */
static __always_inline __u32 log2_up(__u64 value)
{
	__u32 bits = 0;

	if (value < 2)
		return 0;
	value--;
#pragma unroll
	for (int width = 32; width; width >>= 1) {
		if (value >> width) {
			value >>= width;
			bits += width;
		}
	}
	return bits + 1;
}

#endif

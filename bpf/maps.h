/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Counting into maps that become metrics. Values are __u64; keys have no bytes that nobody has written. */
#ifndef NODEPROBE_MAPS_H
#define NODEPROBE_MAPS_H

#include "log2.h"

/* Hash maps have no entry before the first count. Whoever loses the race to make it finds the winner's; in a full map nobody
 * does, and the count is lost. */
static __always_inline __u64 *find_or_make(void *map, const void *key)
{
	__u64 zero = 0, *value = bpf_map_lookup_elem(map, key);

	if (value)
		return value;
	bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

static __always_inline void add(void *map, const void *key, __u64 n)
{
	__u64 *value = find_or_make(map, key);

	if (value)
		__sync_fetch_and_add(value, n);
}

/* For per-CPU maps that one program writes to: nobody else is there. */
static __always_inline void add_local(void *map, const void *key, __u64 n)
{
	__u64 *value = find_or_make(map, key);

	if (value)
		*value += n;
}

/* For `bucket_type: exp2`: `bucket` is the last field of `key`, `max` what YAML has as bucket_max. Larger values count in the
 * last bucket; the sum of all is in the one behind it. */
#define OBSERVE(add, map, key, bucket, value, max)         \
	({                                                 \
		__u64 observed = value;                    \
		__u32 power = log2_up(observed);           \
		*(bucket) = power > (max) ? (max) : power; \
		add(map, key, 1);                          \
		*(bucket) = (max) + 1;                     \
		if (observed)                              \
			add(map, key, observed);           \
	})

#define observe(map, key, value, max) OBSERVE(add, map, key, &(key)->bucket, value, max)
#define observe_local(map, key, value, max) OBSERVE(add_local, map, key, &(key)->bucket, value, max)

/* The same for a histogram without labels, in a per-CPU array of max + 2. */
static __always_inline void observe_alone(void *map, __u64 value, __u32 max)
{
	__u32 bucket;

	OBSERVE(add_local, map, &bucket, &bucket, value, max);
}

#endif

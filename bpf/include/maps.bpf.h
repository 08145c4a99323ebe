/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Counting into maps, by the names that programs written for ebpf_exporter use; comes after vmlinux.h.
 *
 * Those whose name ends with nosync are for per-CPU maps. Histograms take a key with a field `bucket`, by name and not by
 * address, and write to it. */
#ifndef NODEPROBE_MAPS_BPF_H
#define NODEPROBE_MAPS_BPF_H

#include <bpf/bpf_helpers.h>
#include "bits.bpf.h"

static __always_inline __u64 *nodeprobe_find_or_make(void *map, const void *key)
{
	__u64 zero = 0, *value = bpf_map_lookup_elem(map, key);

	if (value)
		return value;
	bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

static __always_inline int increment_map(void *map, const void *key, __u64 increment)
{
	__u64 *value = nodeprobe_find_or_make(map, key);

	if (!value)
		return 0;
	__sync_fetch_and_add(value, increment);
	return *value;
}

static __always_inline int increment_map_nosync(void *map, const void *key, __u64 increment)
{
	__u64 *value = nodeprobe_find_or_make(map, key);

	if (!value)
		return 0;
	*value += increment;
	return *value;
}

/* These two leave the calling function when there is nothing to point at. */
#define lookup_or_zero_init_key(map, key, into)            \
	do {                                               \
		(into) = nodeprobe_find_or_make(map, key); \
		if (!(into))                               \
			return 0;                          \
	} while (0)

#define read_array_ptr(map, key, into)                  \
	do {                                            \
		(into) = bpf_map_lookup_elem(map, key); \
		if (!(into))                            \
			return 0;                       \
	} while (0)

#define nodeprobe_histogram(map, key, slot, value, max, increment)              \
	do {                                                                    \
		__u64 nodeprobe_value = (value), nodeprobe_slot = (slot);       \
		(key).bucket = nodeprobe_slot > (max) ? (max) : nodeprobe_slot; \
		increment(map, &(key), 1);                                      \
		(key).bucket = (max) + 1;                                       \
		if (nodeprobe_value)                                            \
			increment(map, &(key), nodeprobe_value);                \
	} while (0)

#define increment_exp2_histogram(map, key, value, max) \
	nodeprobe_histogram(map, key, log2_up(value), value, max, increment_map)
#define increment_exp2_histogram_nosync(map, key, value, max) \
	nodeprobe_histogram(map, key, log2_up(value), value, max, increment_map_nosync)
#define increment_exp2zero_histogram(map, key, value, max) \
	nodeprobe_histogram(map, key, (value) ? log2_up(value) + 1 : 0, value, max, increment_map)
#define increment_exp2zero_histogram_nosync(map, key, value, max)                   \
	nodeprobe_histogram(map, key, (value) ? log2_up(value) + 1 : 0, value, max, \
			    increment_map_nosync)

#endif

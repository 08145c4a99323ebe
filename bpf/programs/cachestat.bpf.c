// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* What happens to the page cache. Uses of pages that are in it are told by a function only; without kprobes they are missing. */
#include "../kernel.h"
#include "../maps.h"

/* Before Linux 5.16 these two have other names. */
#ifndef ON_DIRTY
#define ON_DIRTY "raw_tp/writeback_dirty_folio"
#define ON_USE "kprobe/folio_mark_accessed"
#endif

enum operation {
	ADDED,
	REMOVED,
	DIRTIED,
	USED,
	OPERATIONS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OPERATIONS);
	__type(key, __u32);
	__type(value, __u64);
} page_cache_operations_total SEC(".maps");

static __always_inline int count(__u32 operation)
{
	add_local(&page_cache_operations_total, &operation, 1);
	return 0;
}

SEC("raw_tp/mm_filemap_add_to_page_cache")
int on_add(void *context)
{
	return count(ADDED);
}

SEC("raw_tp/mm_filemap_delete_from_page_cache")
int on_remove(void *context)
{
	return count(REMOVED);
}

SEC(ON_DIRTY)
int on_dirty(void *context)
{
	return count(DIRTIED);
}

SEC(ON_USE)
int on_use(void *context)
{
	return count(USED);
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Pages that enter the page cache, by the way the kernel took there. */
#include "../kernel.h"
#include "../maps.h"

#define FRAMES 20
#define OWN_FRAMES 3 /* this program, and what the tracepoint calls it with */

struct stack {
	__u64 frames[FRAMES];
};

/* LRU: there are more ways than anybody wants to see. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct stack);
	__type(value, __u64);
} page_cache_fills_total SEC(".maps");

SEC("tp_btf/mm_filemap_add_to_page_cache")
int on_add(void *context)
{
	struct stack stack = {};

	if (bpf_get_stack(context, &stack, sizeof(stack), OWN_FRAMES) > 0)
		add(&page_cache_fills_total, &stack, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

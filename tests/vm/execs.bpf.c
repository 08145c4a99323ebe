// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Counts executed programs; without any header, so that clang alone compiles it.
struct {
	int (*type)[2]; // BPF_MAP_TYPE_ARRAY
	int (*max_entries)[1];
	unsigned int *key;
	unsigned long long *value;
} vm_execs_total __attribute__((section(".maps"), used));

static void *(*const map_lookup_elem)(void *map, const void *key) = (void *)1;

__attribute__((section("raw_tp/sched_process_exec"), used)) int on_exec(void *context)
{
	unsigned int key = 0;
	unsigned long long *count = map_lookup_elem(&vm_execs_total, &key);
	(void)context;
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] __attribute__((section("license"), used)) = "Dual BSD/GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Processes made, by the name of their maker; the config sorts the names into families and leaves some out. */
#include "../kernel.h"
#include "../maps.h"

struct comm {
	char text[16];
};

/* LRU: programs name themselves as they like. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct comm);
	__type(value, __u64);
} forks_total SEC(".maps");

SEC("raw_tp/sched_process_fork")
int on_fork(void *context)
{
	struct comm comm = {};

	if (!bpf_get_current_comm(&comm, sizeof(comm)))
		add(&forks_total, &comm, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

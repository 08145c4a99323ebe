// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Last-level cache: samples of accesses and of misses, by CPU. Every sample stands for as many as it took to fill the
 * sampling period. */
#include "../kernel.h"
#include "../maps.h"

struct bpf_perf_event_data {
	__u64 sample_period;
} __ksym_type;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} llc_references_total SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} llc_misses_total SEC(".maps");

static __always_inline int count(struct bpf_perf_event_data *event, void *map)
{
	__u32 cpu = bpf_get_smp_processor_id();

	add(map, &cpu, event->sample_period);
	return 0;
}

SEC("perf_event/type=0,config=2,frequency=1")
int on_reference(struct bpf_perf_event_data *event)
{
	return count(event, &llc_references_total);
}

SEC("perf_event/type=0,config=3,frequency=1")
int on_miss(struct bpf_perf_event_data *event)
{
	return count(event, &llc_misses_total);
}

char LICENSE[] SEC("license") = "GPL";

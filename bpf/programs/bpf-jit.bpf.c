// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Bytes of memory that compiled BPF programs take, read once a second: a gauge, from a variable of the kernel whose address the
 * config asks for (`kaddrs`). */
#include "../kernel.h"

#define PAGE_BYTES 4096

/* Filled in before loading. */
const volatile __u64 kaddr_bpf_jit_current = 0;

/* Came together with counting bytes instead of pages, in Linux 5.18. */
struct bpf_prog_pack {
} __ksym_type;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} bpf_jit_bytes SEC(".maps");

SEC("perf_event/type=1,config=0,frequency=1")
int on_second(void *context)
{
	__u32 zero = 0;
	__u64 bytes = 0;

	if (bpf_probe_read_kernel(&bytes, sizeof(bytes), (void *)kaddr_bpf_jit_current))
		return 0;
	if (!bpf_core_type_exists(struct bpf_prog_pack))
		bytes *= PAGE_BYTES;
	bpf_map_update_elem(&bpf_jit_bytes, &zero, &bytes, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

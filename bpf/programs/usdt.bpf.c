// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Modules that Python loads: a probe that the program brings along. */
#include "../probes.h"
#include "../maps.h"

#include <stdbool.h>
#include <bpf/usdt.bpf.h>

struct module {
	char name[128];
};

/* LRU: there is no end to modules. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct module);
	__type(value, __u64);
} python_imports_total SEC(".maps");

SEC("usdt/python3:python:import__find__load__start")
int BPF_USDT(on_import, const char *name)
{
	struct module module = {};

	if (bpf_probe_read_user_str(module.name, sizeof(module.name), name) > 0)
		add(&python_imports_total, &module, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Programs that do nothing, one of each type: what it costs to be called. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define EMPTY(name, section)    \
	SEC(section)            \
	int name(void *context) \
	{                       \
		return 0;       \
	}

#if defined(TRACEPOINT)
EMPTY(empty, "tracepoint/raw_syscalls/sys_enter")
#elif defined(RAW_TP)
EMPTY(empty, "raw_tp/sys_enter")
#elif defined(TP_BTF)
EMPTY(empty, "tp_btf/sys_enter")
#elif defined(STATE)
EMPTY(empty, "tp_btf/inet_sock_set_state")
#elif defined(KPROBE)
EMPTY(empty, "kprobe/__x64_sys_getppid")
#elif defined(FENTRY)
EMPTY(empty, "fentry/__x64_sys_getppid")
#elif defined(UPROBE)
EMPTY(empty, "uprobe/" UPROBE)
#endif

char LICENSE[] SEC("license") = "GPL";

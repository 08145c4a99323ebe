/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Registers, for programs on functions (kprobe, uprobe, usdt); comes before kernel.h. bpf_tracing.h takes the kernel's names
 * of registers when it believes that vmlinux.h is there, and those are what the kernel's BTF has. */
#ifndef NODEPROBE_PROBES_H
#define NODEPROBE_PROBES_H

#define __VMLINUX_H__

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bp, ax, cx, dx, si, di, r8, r9, r10, r11, r12, r13, r14, r15, bx, orig_ax, ip,
		sp;
} __attribute__((preserve_access_index));
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	unsigned long long regs[31], sp, pc, pstate;
} __attribute__((preserve_access_index));

struct pt_regs {
	unsigned long long regs[31], sp, pc, pstate, orig_x0;
	int syscallno;
} __attribute__((preserve_access_index));
#elif defined(__TARGET_ARCH_arm)
struct pt_regs {
	unsigned long uregs[18];
} __attribute__((preserve_access_index));
#endif

#include "kernel.h"

#endif

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The address of the function a kprobe is on, from its instruction pointer: x86 has already passed a breakpoint there, which is
 * one byte. */
#ifndef NODEPROBE_REGS_IP_BPF_H
#define NODEPROBE_REGS_IP_BPF_H

#if defined(__TARGET_ARCH_x86)
#define KPROBE_REGS_IP_FIX(ip) ((ip)-1)
#else
#define KPROBE_REGS_IP_FIX(ip) (ip)
#endif

#endif

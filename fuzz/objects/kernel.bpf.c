// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* A seed for the fuzzer: what refers to the kernel. CO-RE relocations, settings and symbols of it, its own functions. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

struct task_struct {
	int pid;
	struct task_struct *parent;
} __attribute__((preserve_access_index));

extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_BPF __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig __weak;
extern const void bpf_prog_active __ksym __weak;
extern const int runqueues __ksym __weak;
extern void bpf_rcu_read_lock(void) __ksym __weak;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} records SEC(".maps");

SEC("?kprobe/do_exit+4")
int on_exit(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	if (!record)
		return 0;
	*record = BPF_CORE_READ(task, parent, pid) + bpf_core_type_size(struct task_struct);
	if (LINUX_KERNEL_VERSION > 1 && CONFIG_BPF && bpf_core_field_exists(task->pid))
		*record += CONFIG_DEFAULT_HOSTNAME[0] + (long)&bpf_prog_active;
	if (&bpf_rcu_read_lock)
		bpf_rcu_read_lock();
	if (&runqueues)
		bpf_printk("%d", *record);
	bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("perf_event/type=0,config=2,frequency=1")
int on_event(void *ctx)
{
	return 0;
}

SEC("xdp/lo")
int on_packet(void *ctx)
{
	return 2;
}

SEC("usdt/./a.out:one:two")
int on_usdt(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

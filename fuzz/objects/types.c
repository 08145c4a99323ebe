// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* What the fuzzer's kernel says of its types. */
struct list_head {
	struct list_head *next, *prev;
};

struct task_struct {
	long state;
	struct list_head tasks;
	struct task_struct *parent;
	int pid;
	unsigned int flags : 3, more : 29;
	enum { RUNNING, SLEEPING = 5 } mode;
	union {
		long numbers[4];
		char name[16];
	};
};

struct sock;
struct tcp_congestion_ops {
	void (*init)(struct sock *sk);
	unsigned int (*ssthresh)(struct sock *sk);
	char name[16];
	void *owner;
};

struct bpf_struct_ops_common_value {
	int refcnt;
	int state;
};

struct bpf_struct_ops_tcp_congestion_ops {
	struct bpf_struct_ops_common_value common;
	struct tcp_congestion_ops data __attribute__((aligned(64)));
};

typedef void (*btf_trace_sys_enter)(void *, struct task_struct *, long);
typedef void (*btf_trace_sched_process_exec)(void *, struct task_struct *);

struct task_struct init_task;
struct bpf_struct_ops_tcp_congestion_ops ops;
btf_trace_sys_enter on_sys_enter;
btf_trace_sched_process_exec on_exec;
int runqueues;
int bpf_prog_active;

void bpf_rcu_read_lock(void)
{
}

int do_exit(struct task_struct *task)
{
	return task->pid;
}

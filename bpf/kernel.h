/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The kernel types our programs read, trimmed to the fields they use. Offsets are corrected at load time from the running
 * kernel's BTF (preserve_access_index), so only names and types have to be right. */
#ifndef NODEPROBE_KERNEL_H
#define NODEPROBE_KERNEL_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define __ksym_type __attribute__((preserve_access_index))

/* Reads a field of a kernel object. Where its pointer has a type for the verifier (tp_btf, Linux 5.11 for the current task) that
 * is a load; where it is only a number, or may be, a call. */
#ifdef TYPED_POINTERS
#define FIELD(object, field) ((object)->field)
#else
#define FIELD(object, field) BPF_CORE_READ(object, field)
#endif

/* A function that programs of an object share instead of having a copy each. The kernel checks it where it is called, as if it
 * were static; but the symbols of static functions are stripped, and libbpf finds functions by their symbols. */
#define SHARED __hidden __noinline

enum cgroup_subsys_id {
	cpu_cgrp_id = 1,
	memory_cgrp_id = 4,
	pids_cgrp_id = 11,
};

struct kernfs_node {
	__u64 id;
} __ksym_type;

struct cgroup_root {
	int hierarchy_id;
} __ksym_type;

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
	int level;
} __ksym_type;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
} __ksym_type;

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
} __ksym_type;

struct mm_struct;

typedef struct {
	int counter;
} __ksym_type atomic_t;

struct taskstats;

struct signal_struct {
	struct taskstats *stats; /* there once a thread of several exited */
	atomic_t live; /* threads that have not begun to exit */
	struct mm_struct *oom_mm;
	int group_exit_code;
} __ksym_type;

struct task_struct {
	struct css_set *cgroups;
	struct signal_struct *signal;
	unsigned int __state;
	unsigned int flags;
	__s32 exit_code;
	__s32 pid;
	__s32 tgid;
	struct task_struct *group_leader;
	__u64 start_time; /* nanoseconds on the monotonic clock */
	__u64 self_exec_id; /* changes at each exec */
	char comm[16];
} __ksym_type;

struct ns_common {
	unsigned int inum;
} __ksym_type;

struct net {
	struct ns_common ns;
} __ksym_type;

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__u32 u6_addr32[4];
	} in6_u;
} __ksym_type;

struct sock_common {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr; /* the local address */
	__u16 skc_dport; /* network byte order */
	__u16 skc_num; /* the local port, in the host's */
	__u16 skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_reuse : 4, skc_reuseport : 1, skc_ipv6only : 1, skc_net_refcnt : 1;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
} __ksym_type;

struct sk_buff_head {
	__u32 qlen;
} __ksym_type;

struct sock {
	struct sock_common __sk_common;
	struct sk_buff_head sk_receive_queue;
	__u32 sk_ack_backlog;
	__u16 sk_protocol;
} __ksym_type;

struct socket {
	struct sock *sk;
} __ksym_type;

struct inet_sock {
	__u16 inet_sport; /* the local port, network byte order */
} __ksym_type;

struct minmax_sample {
	__u32 t;
	__u32 v;
} __ksym_type;

struct minmax {
	struct minmax_sample s[3];
} __ksym_type;

struct tcp_sock {
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_received;
	__u32 total_retrans;
	__u32 segs_in;
	__u32 rcv_ssthresh;
	struct minmax rtt_min; /* microseconds */
} __ksym_type;

struct inode {
	__u16 i_mode;
} __ksym_type;

struct file {
	struct inode *f_inode;
	void *private_data;
} __ksym_type;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __ksym_type;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __ksym_type;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} __ksym_type;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
} __ksym_type;

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
} __ksym_type;

struct net_device {
	int ifindex;
} __ksym_type;

struct dst_entry {
	struct net_device *dev;
} __ksym_type;

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst;
	unsigned char *head;
	unsigned int tail; /* behind head, where it is 64 bits wide */
	__u16 protocol; /* network byte order */
	__u16 transport_header;
	__u16 network_header;
} __ksym_type;

#endif

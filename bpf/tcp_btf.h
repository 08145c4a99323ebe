/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What tcp.h needs of sockets and tasks, read by the kernel's type information; and the programs, which all such objects share.
 *
 * The kernel does not run a program on a CPU that is in the middle of it: when an interrupt takes a task out of the program
 * and brings a packet that changes another socket's state, that change is missed (`recursion_misses` of the program). So the
 * program is there twice, and what it does for a change it does once: the connection says what was seen. A change that finds
 * one of the two in use is handled by the other, and there are only two levels, tasks and softirqs. Since Linux 7.0 one task can
 * take the place of another in the middle of the program, so there the program is attached a third time. */
#ifndef NODEPROBE_TCP_BTF_H
#define NODEPROBE_TCP_BTF_H

#include "tcp.h"
#include "task_cgroups.h"

#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define SOCK_DONE 1 /* bit of enum sock_flags: the peer's FIN was received */
#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* sk_protocol was a bit field before Linux 5.6. */
struct sock___old {
	unsigned int sk_padding : 1, sk_kern_sock : 1, sk_no_check_tx : 1, sk_no_check_rx : 1,
		sk_userlocks : 4, sk_protocol : 8, sk_type : 16;
} __ksym_type;

/* Of every number what user space knows about its address being translated. */
enum mark {
	MARK_UNKNOWN,
	MARK_SAME,
	MARK_TRANSLATED,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} marks SEC(".maps");

/* A connection whose destination is translated, or may be: for user space to ask by whom. */
struct told {
	__u64 since_ns;
	__u64 connect_ns;
	__u64 sent;
	__u64 received;
	__u32 retransmits;
	__u32 rtt;
	__u32 number;
	__u32 netns;
	__u32 pid;
	__u16 phase;
	__u16 family;
	__u16 port; /* local, host byte order */
	__u16 pad[3];
	__u8 address[16]; /* local */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} told SEC(".maps");

#define TOLD_WAKE (128 * 1024)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct living);
} living SEC(".maps");

/* Ports that are listened on while connections made before the start are looked for: those to them are inbound. */
struct listening {
	__u32 netns;
	__u32 port;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, MAP_FLAGS);
	__uint(max_entries, 1);
	__type(key, struct listening);
	__type(value, __u32);
} listening SEC(".maps");

struct listener {
	struct cgroup_ids ids;
	__u32 netns;
	__u32 pid;
	__u8 address[16];
	__u16 port;
	__u16 family;
	__u16 is_v6_only;
	__u16 pad;
};

SHARED int is_tcp(struct sock *sk)
{
#ifdef TYPED_POINTERS
	return sk->sk_protocol == IPPROTO_TCP;
#else
	struct sock___old *old = (void *)sk;

	if (bpf_core_field_size(sk->sk_protocol) == sizeof(sk->sk_protocol))
		return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP;
	return BPF_CORE_READ_BITFIELD_PROBED(old, sk_protocol) == IPPROTO_TCP;
#endif
}

/* Listens for plain TCP too (RFC 8684), through a socket of its own that nobody has open. */
static __always_inline int is_mptcp(struct sock *sk)
{
	return bpf_core_field_size(sk->sk_protocol) == sizeof(sk->sk_protocol) &&
	       FIELD(sk, sk_protocol) == IPPROTO_MPTCP;
}

static __always_inline __u32 netns_of(struct sock *sk)
{
	struct net *net = FIELD(sk, __sk_common.skc_net.net);

	return FIELD(net, ns.inum);
}

/* ::ffff:a.b.c.d is IPv4 spoken through an IPv6 socket. */
static __always_inline __u16 write_address(__u8 *to, const __u32 *words)
{
	if (words[0] || words[1] || words[2] != __builtin_bswap32(0xffff)) {
		__builtin_memcpy(to, words, 16);
		return AF_INET6;
	}
	__builtin_memcpy(to, &words[3], sizeof(words[3]));
	return AF_INET;
}

static __always_inline void read_words(__u32 *words, const struct in6_addr *address)
{
#ifdef TYPED_POINTERS
	for (int i = 0; i < 4; i++)
		words[i] = address->in6_u.u6_addr32[i];
#else
	BPF_CORE_READ_INTO((__u32(*)[4])words, address, in6_u.u6_addr32);
#endif
}

static __always_inline __u16 read_address(struct sock *sk, __u8 *to, const struct in6_addr *v6,
					  __u32 v4)
{
	__u32 words[4];

	if (FIELD(sk, __sk_common.skc_family) == AF_INET6) {
		read_words(words, v6);
		return write_address(to, words);
	}
	__builtin_memcpy(to, &v4, sizeof(v4));
	return AF_INET;
}

static __always_inline void read_destination(struct sock *sk, struct destination *to)
{
	to->port = __builtin_bswap16(FIELD(sk, __sk_common.skc_dport));
	to->family = read_address(sk, to->address, &sk->__sk_common.skc_v6_daddr,
				  FIELD(sk, __sk_common.skc_daddr));
}

static __always_inline __u16 read_local_address(struct sock *sk, __u8 *to)
{
	return read_address(sk, to, &sk->__sk_common.skc_v6_rcv_saddr,
			    FIELD(sk, __sk_common.skc_rcv_saddr));
}

/* The kernel's own counters (struct tcp_sock; RFC 4898). */
SHARED int read_progress(struct sock *sk, struct progress *progress)
{
#ifdef TYPED_POINTERS
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
#else
	struct tcp_sock *tcp = (void *)sk;
#endif
	__u64 again;

	if (!tcp)
		return 0;
	again = FIELD(tcp, bytes_retrans);
	progress->sent = FIELD(tcp, bytes_sent);
	progress->sent -= progress->sent < again ? progress->sent : again;
	progress->received = FIELD(tcp, bytes_received);
	/* It counts sequence numbers, and the peer's FIN takes one. */
	if (progress->received && FIELD(sk, __sk_common.skc_flags) >> SOCK_DONE & 1)
		progress->received--;
	progress->retransmits = FIELD(tcp, total_retrans);
	progress->segments = FIELD(tcp, segs_in);
	progress->rtt = FIELD(tcp, rtt_min.s[0].v);
	if (progress->rtt == ~0U)
		progress->rtt = 0;
	return 1;
}

/* Nothing that is read can have fallen, but two readings of a socket that works are not one. */
static __always_inline void subtract_start(struct progress *progress,
					   const struct connection *connection)
{
	progress->sent -= progress->sent < connection->sent ? progress->sent : connection->sent;
	progress->received -= progress->received < connection->received ? progress->received
									: connection->received;
	progress->retransmits -= connection->retransmits;
}

static __always_inline __u32 mark_of(__u32 number, const struct control *control)
{
	__u32 *mark;

	if (!control || !control->is_nat_in_use)
		return MARK_SAME;
	mark = bpf_map_lookup_elem(&marks, &number);
	return mark ? *mark : MARK_SAME;
}

SHARED void describe(struct sock *sk, const struct connection *connection,
		     const struct progress *progress, struct told *about)
{
	about->since_ns = connection->since_ns;
	about->connect_ns = connection->connect_ns;
	about->sent = progress->sent;
	about->received = progress->received;
	about->retransmits = progress->retransmits;
	about->rtt = progress->rtt;
	about->number = connection->number;
	about->pid = connection->pid;
	about->phase = connection->phase;
	about->netns = netns_of(sk);
	about->family = read_local_address(sk, about->address);
	/* Not skc_num, which is 0 again when the socket is closed. */
	about->port = __builtin_bswap16(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

SHARED void on_connect(struct sock *sk)
{
	struct connection connection = { .since_ns = bpf_ktime_get_ns(),
					 .pid = bpf_get_current_pid_tgid() >> 32 };
	struct connection *known = connection_of(sk);
	struct destination to = {};
	struct cgroup_ids ids = {};

	/* The first of the two has done it. */
	if (known && known->phase != PHASE_ENDED)
		return;
	read_destination(sk, &to);
	if (is_ignored(&to, netns_of(sk)) || !current_cgroup_ids(&ids))
		return;
	begin(sk, &ids, &to, &connection);
}

/* Tells user space of a connection that has ended, if it may have to ask where it went. Before it is counted: what user space
 * finds counted, it has been told of. */
static __always_inline void tell(struct sock *sk, struct connection *connection,
				 const struct progress *progress, const struct counts *mine)
{
	__u32 mark = mark_of(connection->number, find_control());
	__u64 wake = BPF_RB_NO_WAKEUP, ends = mine->ends;
	struct told about = {};

	if (mark == MARK_SAME)
		return;
	/* A few are enough to find out whether it is translated, but soon. */
	if (mark == MARK_UNKNOWN && ends >= 32 && ends % 64)
		return;
	connection->phase = PHASE_ENDED;
	describe(sk, connection, progress, &about);
	if ((mark == MARK_UNKNOWN && !ends) ||
	    bpf_ringbuf_query(&told, BPF_RB_AVAIL_DATA) > TOLD_WAKE)
		wake = BPF_RB_FORCE_WAKEUP;
	/* What finds the ring full has no peer in the end. */
	bpf_ringbuf_output(&told, &about, sizeof(about), wake);
}

static __always_inline void on_end(struct sock *sk, struct connection *connection,
				   struct counts *mine)
{
	struct progress progress = {};

	read_progress(sk, &progress);
	subtract_start(&progress, connection);
	if (connection->phase != PHASE_PENDING)
		tell(sk, connection, &progress, mine);
	connection->phase = PHASE_ENDED;
	end(mine, &progress);
	forget(sk);
}

/* The change this CPU works on, so that the second program knows that the first did not miss it. */
struct current_change {
	__u64 socket;
	__u32 new_state;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct current_change);
} current SEC(".maps");

SHARED int handle(struct sock *sk, int old_state, int new_state)
{
	struct connection *connection;
	struct tallies *changes;
	struct counts *mine;

	if (old_state == TCP_CLOSE && new_state == TCP_SYN_SENT) {
		if (is_tcp(sk))
			on_connect(sk);
		return 0;
	}
	if (new_state == TCP_LISTEN || old_state == TCP_LISTEN) {
		changes = find_tallies();
		if (changes)
			__sync_fetch_and_add(&changes->listens, 1);
		return 0;
	}
	connection = connection_of(sk);
	if (!connection || connection->phase == PHASE_ENDED)
		return 0;
	mine = bpf_map_lookup_elem(&counts, &connection->number);
	if (mine && advance(connection, mine, old_state, new_state))
		on_end(sk, connection, mine);
	return 0;
}

/* Handles a change unless a program before has. */
static __always_inline int handle_once(struct sock *sk, int old_state, int new_state)
{
	__u32 zero = 0;
	struct current_change *change = bpf_map_lookup_elem(&current, &zero);

	if (change && change->socket == (__u64)sk && change->new_state == new_state)
		return 0;
	if (change) {
		change->socket = (__u64)sk;
		change->new_state = new_state;
	}
	return handle(sk, old_state, new_state);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old_state, int new_state)
{
	__u32 zero = 0;
	struct current_change *change = bpf_map_lookup_elem(&current, &zero);

	if (change) {
		change->socket = (__u64)sk;
		change->new_state = new_state;
	}
	return handle(sk, old_state, new_state);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state_again, struct sock *sk, int old_state, int new_state)
{
	return handle_once(sk, old_state, new_state);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state_third, struct sock *sk, int old_state, int new_state)
{
	return handle_once(sk, old_state, new_state);
}

/* Adds up what connections that have not ended have done, and tells of those whose destination is or may be translated. */
static __always_inline int add_living(struct seq_file *seq, struct sock *sk,
				      struct connection *connection)
{
	const struct control *control = find_control();
	__u32 now = span(bpf_ktime_get_ns());
	struct progress progress = {};
	struct told about = {};
	struct living *sum;
	__u32 number;

	/* A pass that is read in pieces may come by here again. */
	if (!control || connection->phase == PHASE_ENDED || connection->pass == control->pass)
		return 0;
	read_progress(sk, &progress);
	/* Where the socket may be another one by now, what was read is worth something only if it ended after that. */
	if (connection->phase == PHASE_ENDED)
		return 0;
	subtract_start(&progress, connection);
	if (connection->segments != progress.segments)
		connection->heard_span = now;
	connection->segments = progress.segments;
	/* A path that nothing came over for a minute may be another one now. */
	if (connection->phase != PHASE_ESTABLISHED || now - connection->heard_span >= RTT_SPANS)
		progress.rtt = 0;
	number = connection->number;
	sum = bpf_map_lookup_elem(&living, &number);
	if (!sum)
		return 0;
	if (connection->phase != PHASE_PENDING && mark_of(number, control) != MARK_SAME) {
		describe(sk, connection, &progress, &about);
		/* There was no room for it in this piece: the kernel comes by again with the next one. */
		if (bpf_seq_write(seq, &about, sizeof(about)))
			return 0;
	}
	connection->pass = control->pass;
	if (sum->pass != control->pass) {
		__builtin_memset(sum, 0, sizeof(*sum));
		sum->pass = control->pass;
	}
	sum->sent += progress.sent;
	sum->received += progress.received;
	sum->retransmits += progress.retransmits;
	if (progress.rtt && (!sum->rtt || progress.rtt < sum->rtt))
		sum->rtt = progress.rtt;
	return 0;
}

/* Sockets that listen, once for every task that has them open. */
static __always_inline int tell_listener(struct seq_file *seq, struct task_struct *task,
					 struct sock *sk)
{
	struct listener about = {};

	if (FIELD(sk, __sk_common.skc_state) != TCP_LISTEN || (!is_tcp(sk) && !is_mptcp(sk)))
		return 0;
	if (!cgroup_ids_of(task, &about.ids))
		return 0;
	about.netns = netns_of(sk);
	about.pid = FIELD(task, tgid);
	about.port = FIELD(sk, __sk_common.skc_num);
	about.family = FIELD(sk, __sk_common.skc_family);
	if (about.family == AF_INET6) {
		about.family = read_local_address(sk, about.address);
		about.is_v6_only = BPF_CORE_READ_BITFIELD_PROBED(&sk->__sk_common, skc_ipv6only);
	} else {
		read_local_address(sk, about.address);
	}
	bpf_seq_write(seq, &about, sizeof(about));
	return 0;
}

/* Connections that were made before the programs were attached count from now on: as if made now, with nothing done yet. */
static __always_inline int adopt(struct task_struct *task, struct sock *sk)
{
	int state = FIELD(sk, __sk_common.skc_state);
	struct connection connection = { .since_ns = bpf_ktime_get_ns(), .pid = FIELD(task, tgid) };
	struct listening local = { .netns = netns_of(sk) };
	struct destination to = {};
	struct cgroup_ids ids = {};
	struct progress before = {};
	struct connection *known;
	struct counts *mine;

	/* Seen already, be it ended: as one that others have open too. */
	if ((state != TCP_ESTABLISHED && state != TCP_SYN_SENT) || !is_tcp(sk) || connection_of(sk))
		return 0;
	local.port = FIELD(sk, __sk_common.skc_num);
	if (bpf_map_lookup_elem(&listening, &local))
		return 0;
	read_destination(sk, &to);
	if (is_ignored(&to, local.netns) || !cgroup_ids_of(task, &ids))
		return 0;
	read_progress(sk, &before);
	connection.sent = before.sent;
	connection.received = before.received;
	connection.retransmits = before.retransmits;
	connection.segments = before.segments;
	if (state == TCP_ESTABLISHED)
		connection.phase = PHASE_ESTABLISHED;
	mine = begin(sk, &ids, &to, &connection);
	if (!mine)
		return 0;
	if (state == TCP_ESTABLISHED)
		__sync_fetch_and_add(&mine->successes, 1);
	/* It was closed before it was remembered, so nobody else will end it. */
	known = connection_of(sk);
	if (known && known->phase != PHASE_ENDED && FIELD(sk, __sk_common.skc_state) == TCP_CLOSE &&
	    advance(known, mine, state, TCP_CLOSE))
		on_end(sk, known, mine);
	return 0;
}

/* The socket a file is; how to know depends on the kernel. */
static struct sock *sock_of(struct file *file);

SEC("iter/task_file")
int listeners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct sock *sk = sock_of(ctx->file);

	return task && sk ? tell_listener(ctx->meta->seq, task, sk) : 0;
}

SEC("iter/task_file")
int adopted(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct sock *sk = sock_of(ctx->file);

	return task && sk ? adopt(task, sk) : 0;
}

#endif

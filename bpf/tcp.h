/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Counts outbound TCP connections by who made them (cgroups) and where to (address and port): the part that does not depend
 * on how the kernel lets a program remember a socket. Whoever includes it defines the three functions declared below.
 *
 * A socket's state changes from CLOSE to SYN_SENT in the task that connects, so that is where the owner is read; the later
 * changes happen in softirq and find the connection by its socket.
 *
 * Who and where are looked up once, for the number of an entry in `counts`; from then on the connection knows the number.
 * Numbers are handed out and taken back by user space, which alone writes to `free_numbers` and deletes keys: first the key,
 * so that nobody new finds the number, and much later, when as many connections have ended as began, the number. So no count
 * is ever lost to a key that is removed, and two processors that make one key at once lose none either. */
#ifndef NODEPROBE_TCP_H
#define NODEPROBE_TCP_H

#include "kernel.h"
#include "cgroup_ids.h"

#define AF_INET 2
#define AF_INET6 10
#define PORT_RANGES 4
#define NETWORKS 16
#define RTT_SPANS 4
#define RTT_SPAN_SHIFT 34 /* a span is 2^34 ns, 17 seconds */

enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_CLOSE = 7,
	TCP_LISTEN = 10,
};

struct network {
	__u64 address[2];
	__u64 mask[2];
	__u64 family;
};

/* Written by `settings` in src/collectors/tcp/kernel.rs. */
const volatile struct {
	__u32 host_netns; /* inode number of the host's network namespace; 0 keeps loopback everywhere */
	__u32 destinations_per_owner;
	struct {
		__u16 first;
		__u16 last;
	} ignored_ports[PORT_RANGES]; /* unused: first > last */
	__u32 networks; /* how many there are; 0 keeps all public addresses */
	__u32 pad;
	struct network public_networks[NETWORKS];
	/* Offsets in the record of the classic tracepoint, where that is used. */
	struct {
		__u16 skaddr;
		__u16 oldstate;
		__u16 newstate;
		__u16 dport;
		__u16 protocol;
		__u16 protocol_size;
		__u16 daddr_v6;
		__u16 skaddr_size;
	} fields;
} settings;

/* What user space may change while the programs run. */
struct control {
	__u32 pass; /* of the program `live` */
	__u32 is_nat_in_use;
};

struct counts {
	__u64 attempts;
	__u64 successes;
	__u64 failures;
	__u64 closes; /* of those that succeeded: no longer ESTABLISHED */
	__u64 ends; /* of all: CLOSE */
	__u64 connect_ns; /* of those that succeeded */
	/* Of those that ended. */
	__u64 sent;
	__u64 received;
	__u64 retransmits;
	__u64 rtt
		[RTT_SPANS]; /* the smallest of those that ended in a span: number of the span << 32 | microseconds */
};

/* The same of those that have not ended, added up by the program `live` in one pass. */
struct living {
	__u32 pass;
	__u32 rtt; /* the smallest, in microseconds; 0: none */
	__u64 sent;
	__u64 received;
	__u64 retransmits;
};

/* Who: all cgroups of the connecting task. User space decides which of them is a container. */
struct owner {
	__u64 id; /* what destinations refer to; unique */
	__u32 other; /* number of the counts of destinations beyond a cap */
	__u32 made; /* destinations, ever */
};

struct destination {
	__u64 owner;
	union {
		__u8 address[16]; /* IPv4 in the first four bytes */
		__u64 halves[2];
	};
	__u16 port; /* host byte order */
	__u16 family;
	__u32 pad;
};

/* Sizes are set by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, MAP_FLAGS);
	__uint(max_entries, 1);
	__type(key, struct cgroup_ids);
	__type(value, struct owner);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, MAP_FLAGS);
	__uint(max_entries, 1);
	__type(key, struct destination);
	__type(value, __u32);
} destinations SEC(".maps");

/* Destinations of an owner that user space has removed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, MAP_FLAGS);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u32);
} removed SEC(".maps");

/* Number 0 is for connections of owners beyond the cap of `owners`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__uint(value_size, sizeof(__u32));
} free_numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

struct tallies {
	__u64 lost; /* connections that could not be followed for want of memory */
	__u64 listens; /* changes of sockets to and from LISTEN */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tallies);
} tallies SEC(".maps");

enum phase {
	PHASE_PENDING,
	PHASE_ESTABLISHED,
	PHASE_CLOSING, /* no longer ESTABLISHED, but bytes may still flow */
	PHASE_ENDED,
};

/* What is remembered of a socket between its state changes. */
struct connection {
	__u64 since_ns; /* when it was first seen; also tells it from others */
	__u64 connect_ns;
	/* Before it was first seen. */
	__u64 sent;
	__u64 received;
	__u32 retransmits;
	__u32 number; /* of its counts */
	__u32 phase;
	__u32 pid; /* of a process in its network namespace */
	/* Only the program `live` looks at these. */
	__u32 pass;
	__u32 segments;
	__u32 heard_span;
	__u32 pad;
};

/* What is remembered of the socket; NULL when there is nothing. */
static struct connection *connection_of(struct sock *sk);
/* NULL when there is no memory for it. */
static struct connection *remember(struct sock *sk, const struct connection *connection);
static void forget(struct sock *sk);

struct progress {
	__u64 sent;
	__u64 received;
	__u32 retransmits;
	__u32 rtt; /* microseconds; 0: not measured yet */
	__u32 segments; /* received, those without data too */
};

static __always_inline __u32 span(__u64 now_ns)
{
	return now_ns >> RTT_SPAN_SHIFT;
}

static __always_inline struct tallies *find_tallies(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tallies, &zero);
}

static __always_inline const struct control *find_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

static __always_inline int is_loopback(const struct destination *to)
{
	if (to->family == AF_INET)
		return to->address[0] == 127;
	return !to->halves[0] && to->halves[1] == __builtin_bswap64(1);
}

static __always_inline int is_link_local(const struct destination *to)
{
	if (to->family == AF_INET)
		return to->address[0] == 169 && to->address[1] == 254;
	return to->address[0] == 0xfe && (to->address[1] & 0xc0) == 0x80;
}

/* RFC 1918, RFC 6598, RFC 4193. */
static __always_inline int is_private(const struct destination *to)
{
	const __u8 *a = to->address;

	if (to->family == AF_INET6)
		return (a[0] & 0xfe) == 0xfc;
	return a[0] == 10 || (a[0] == 172 && (a[1] & 0xf0) == 16) || (a[0] == 192 && a[1] == 168) ||
	       (a[0] == 100 && (a[1] & 0xc0) == 64);
}

static __always_inline int is_in_wanted_network(const struct destination *to)
{
#pragma nounroll
	for (int i = 0; i < NETWORKS; i++) {
		const volatile struct network *network = &settings.public_networks[i];

		if (network->family == to->family &&
		    (to->halves[0] & network->mask[0]) == network->address[0] &&
		    (to->halves[1] & network->mask[1]) == network->address[1])
			return 1;
	}
	return 0;
}

/* What nobody wants to see is left out before it costs a key. */
SHARED int is_ignored(const struct destination *to, __u32 netns)
{
	for (int i = 0; i < PORT_RANGES; i++)
		if (to->port >= settings.ignored_ports[i].first &&
		    to->port <= settings.ignored_ports[i].last &&
		    to->port != 50051) /* gRPC's usual port lies in the ephemeral range */
			return 1;
	if (is_link_local(to))
		return 1;
	/* A container's own loopback connects no services; that of the host's namespace does. */
	if (is_loopback(to))
		return settings.host_netns && netns != settings.host_netns;
	return settings.networks && !is_private(to) && !is_in_wanted_network(to);
}

static __always_inline struct owner *find_owner(const struct cgroup_ids *ids)
{
	struct owner *owner = bpf_map_lookup_elem(&owners, ids);
	struct owner new = {};

	if (owner || bpf_map_pop_elem(&free_numbers, &new.other))
		return owner;
	/* One CPU runs one of these at a time, so time and CPU number make the id unique: for 52 days, and then only owners
	 * that are made in the same nanosecond of two such periods could meet. */
	new.id = bpf_ktime_get_ns() << 12 | (bpf_get_smp_processor_id() & 0xfff);
	if (bpf_map_update_elem(&owners, ids, &new, BPF_NOEXIST))
		bpf_map_push_elem(&free_numbers, &new.other, 0);
	return bpf_map_lookup_elem(&owners, ids);
}

static __always_inline int has_room(const struct owner *owner)
{
	__u32 *gone;

	if (owner->made < settings.destinations_per_owner)
		return 1;
	gone = bpf_map_lookup_elem(&removed, &owner->id);
	return gone && owner->made - *gone < settings.destinations_per_owner;
}

static __always_inline __u32 find_number(struct owner *owner, const struct destination *to)
{
	__u32 *number = bpf_map_lookup_elem(&destinations, to), new;

	if (number)
		return *number;
	if (!has_room(owner) || bpf_map_pop_elem(&free_numbers, &new))
		return owner->other;
	if (!bpf_map_update_elem(&destinations, to, &new, BPF_NOEXIST)) {
		__sync_fetch_and_add(&owner->made, 1);
		return new;
	}
	bpf_map_push_elem(&free_numbers, &new, 0);
	number = bpf_map_lookup_elem(&destinations, to);
	return number ? *number : owner->other;
}

/* From now on the socket's changes count. */
SHARED struct counts *begin(struct sock *sk, const struct cgroup_ids *ids, struct destination *to,
			    struct connection *connection)
{
	struct owner *owner = find_owner(ids);
	struct tallies *missed;
	struct counts *mine;

	if (owner) {
		to->owner = owner->id;
		connection->number = find_number(owner, to);
	}
	mine = bpf_map_lookup_elem(&counts, &connection->number);
	if (!mine)
		return NULL;
	/* Counted first: a number with a connection that has not ended is not taken back. */
	__sync_fetch_and_add(&mine->attempts, 1);
	if (remember(sk, connection))
		return mine;
	__sync_fetch_and_add(&mine->attempts, -1);
	missed = find_tallies();
	if (missed)
		__sync_fetch_and_add(&missed->lost, 1);
	return NULL;
}

static __always_inline void add_some(__u64 *to, __u64 n)
{
	if (n)
		__sync_fetch_and_add(to, n);
}

/* Writers may overwrite each other, which can cost the smallest of a span but makes no number that was not measured. */
static __always_inline void note_rtt(struct counts *mine, __u32 rtt, __u64 now_ns)
{
	__u32 now = span(now_ns);
	volatile __u64 *slot = &mine->rtt[now % RTT_SPANS];
	__u64 old = *slot;

	if (rtt && (old >> 32 != now || (__u32)old > rtt))
		*slot = (__u64)now << 32 | rtt;
}

/* What a change of state makes of a connection; true when it has ended and should be forgotten. */
SHARED int advance(struct connection *connection, struct counts *mine, int old_state, int new_state)
{
	/* A socket that comes from a later state was established, seen or not. */
	if (connection->phase == PHASE_PENDING &&
	    (new_state == TCP_ESTABLISHED ||
	     (old_state != TCP_SYN_SENT && old_state != TCP_SYN_RECV))) {
		connection->phase = PHASE_ESTABLISHED;
		connection->connect_ns = bpf_ktime_get_ns() - connection->since_ns;
		add_some(&mine->connect_ns, connection->connect_ns);
		add_some(&mine->successes, 1);
	}
	if (connection->phase == PHASE_ESTABLISHED && new_state != TCP_ESTABLISHED) {
		connection->phase = PHASE_CLOSING;
		add_some(&mine->closes, 1);
	}
	if (new_state != TCP_CLOSE)
		return 0;
	if (connection->phase == PHASE_PENDING)
		add_some(&mine->failures, 1);
	return 1;
}

SHARED void end(struct counts *mine, const struct progress *progress)
{
	add_some(&mine->sent, progress->sent);
	add_some(&mine->received, progress->received);
	add_some(&mine->retransmits, progress->retransmits);
	note_rtt(mine, progress->rtt, bpf_ktime_get_ns());
	add_some(&mine->ends, 1);
}

#endif

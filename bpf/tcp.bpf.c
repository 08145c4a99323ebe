// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Counts outbound TCP connections by who made them (cgroups) and where to (address and port).
 *
 * A socket's state changes from CLOSE to SYN_SENT in the task that connects, so that is where the owner is read; the later
 * changes happen in softirq and find the owner in the socket's own storage, which dies with the socket. Counters are
 * cumulative, are created with zero before they are added to, and are removed only by user space, only when nothing can
 * touch them any more: no count is lost when two CPUs create one key at once.
 *
 * The kernel does not run a program on a CPU that is in the middle of it: when an interrupt takes a task out of the program
 * and brings a packet that changes another socket's state, that change is missed (`recursion_misses` of the program). So the
 * program is there twice, and what it does for a change it does once: the socket's storage says what was seen. A change that
 * finds one of the two in use is handled by the other, and there are only two levels, tasks and softirqs. */
#include "kernel.h"
#include "cgroup_ids.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define PORT_RANGES 4

enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_CLOSE = 7,
};

/* Written by `load` in src/collectors/tcp.rs. */
const volatile struct {
	__u32 host_netns; /* inode number of the host's network namespace; 0 keeps loopback everywhere */
	__u32 destinations_per_owner;
	struct {
		__u16 first;
		__u16 last;
	} ignored_ports[PORT_RANGES]; /* unused: first > last */
} settings;

struct counts {
	__u64 attempts;
	__u64 successes;
	__u64 failures;
	__u64 closes; /* of those that succeeded */
};

/* Who: all cgroups of the connecting task. User space decides which of them is a container. */
struct owner {
	__u64 id; /* what destinations refer to; unique */
	__u32 destinations;
	__u32 pad;
	struct counts other; /* destinations beyond a cap */
};

struct destination {
	__u64 owner;
	__u8 address[16]; /* IPv4 in the first four bytes */
	__u16 port; /* host byte order */
	__u16 family;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct cgroup_ids);
	__type(value, struct owner);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct destination);
	__type(value, struct counts);
} destinations SEC(".maps");

/* Connections of owners beyond the cap of `owners`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} stray SEC(".maps");

/* Connections that could not be followed, because the kernel had no memory for the socket's storage. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

enum slot {
	SLOT_DESTINATION,
	SLOT_OTHER,
	SLOT_STRAY,
};

enum phase {
	PHASE_OVER,
	PHASE_PENDING,
	PHASE_ESTABLISHED,
};

/* What a socket remembers between its state changes. */
struct connection {
	struct cgroup_ids ids;
	struct destination destination;
	__u32 slot;
	__u32 phase;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/* sk_protocol was a bit field before Linux 5.6. */
struct sock___old {
	unsigned int sk_padding : 1, sk_kern_sock : 1, sk_no_check_tx : 1, sk_no_check_rx : 1,
		sk_userlocks : 4, sk_protocol : 8, sk_type : 16;
} __ksym_type;

static __always_inline int is_tcp(struct sock *sk)
{
	struct sock___old *old = (void *)sk;

	if (bpf_core_field_size(sk->sk_protocol) == sizeof(sk->sk_protocol))
		return sk->sk_protocol == IPPROTO_TCP;
	return BPF_CORE_READ_BITFIELD_PROBED(old, sk_protocol) == IPPROTO_TCP;
}

static __always_inline void read_destination(struct sock *sk, struct destination *to)
{
	__u32 words[4];

	to->port = __builtin_bswap16(sk->__sk_common.skc_dport);
	to->family = AF_INET;
	if (sk->__sk_common.skc_family == AF_INET6) {
		BPF_CORE_READ_INTO(&words, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
		/* ::ffff:a.b.c.d is IPv4 spoken through an IPv6 socket. */
		if (words[0] || words[1] || words[2] != __builtin_bswap32(0xffff)) {
			to->family = AF_INET6;
			__builtin_memcpy(to->address, words, sizeof(words));
			return;
		}
		__builtin_memcpy(to->address, &words[3], sizeof(words[3]));
		return;
	}
	words[0] = sk->__sk_common.skc_daddr;
	__builtin_memcpy(to->address, &words[0], sizeof(words[0]));
}

static __always_inline int is_loopback(const struct destination *to)
{
	const __u64 *halves = (const void *)to->address;

	if (to->family == AF_INET)
		return to->address[0] == 127;
	return !halves[0] && halves[1] == __builtin_bswap64(1);
}

static __always_inline int is_link_local(const struct destination *to)
{
	if (to->family == AF_INET)
		return to->address[0] == 169 && to->address[1] == 254;
	return to->address[0] == 0xfe && (to->address[1] & 0xc0) == 0x80;
}

/* What nobody wants to see is left out before it costs a key. */
static __always_inline int is_ignored(struct sock *sk, const struct destination *to)
{
	for (int i = 0; i < PORT_RANGES; i++)
		if (to->port >= settings.ignored_ports[i].first &&
		    to->port <= settings.ignored_ports[i].last &&
		    to->port != 50051) /* gRPC's usual port lies in the ephemeral range */
			return 1;
	if (is_link_local(to))
		return 1;
	/* A container's own loopback connects no services; that of the host's namespace does. */
	return is_loopback(to) && settings.host_netns &&
	       sk->__sk_common.skc_net.net->ns.inum != settings.host_netns;
}

static __always_inline struct owner *find_owner(const struct cgroup_ids *ids)
{
	struct owner *owner = bpf_map_lookup_elem(&owners, ids);
	struct owner new = {};

	if (owner)
		return owner;
	/* One CPU runs one of these at a time, so time and CPU number make the id unique: for 52 days, and then only owners
	 * that are made in the same nanosecond of two such periods could meet. */
	new.id = bpf_ktime_get_ns() << 12 | (bpf_get_smp_processor_id() & 0xfff);
	bpf_map_update_elem(&owners, ids, &new, BPF_NOEXIST);
	return bpf_map_lookup_elem(&owners, ids);
}

static __always_inline struct counts *find_destination(struct owner *owner,
						       const struct destination *to)
{
	struct counts *counts = bpf_map_lookup_elem(&destinations, to);
	struct counts zero = {};

	if (counts || owner->destinations >= settings.destinations_per_owner)
		return counts;
	if (!bpf_map_update_elem(&destinations, to, &zero, BPF_NOEXIST))
		__sync_fetch_and_add(&owner->destinations, 1);
	return bpf_map_lookup_elem(&destinations, to);
}

static __always_inline struct counts *find_counts(const struct connection *connection)
{
	struct owner *owner;
	__u32 zero = 0;

	/* A key that is gone belonged to nobody who is exported. */
	switch (connection->slot) {
	case SLOT_DESTINATION:
		return bpf_map_lookup_elem(&destinations, &connection->destination);
	case SLOT_OTHER:
		owner = bpf_map_lookup_elem(&owners, &connection->ids);
		return owner ? &owner->other : NULL;
	default:
		return bpf_map_lookup_elem(&stray, &zero);
	}
}

static __always_inline void count_lost(void)
{
	__u32 zero = 0;
	__u64 *missed = bpf_map_lookup_elem(&lost, &zero);

	if (missed)
		__sync_fetch_and_add(missed, 1);
}

static __always_inline void on_connect(struct sock *sk, int is_last)
{
	struct connection connection = {}, *kept = bpf_sk_storage_get(&connections, sk, NULL, 0);
	struct counts *counts = NULL;
	struct owner *owner;
	__u32 zero = 0;

	/* The first of the two has done it. */
	if (kept && kept->phase != PHASE_OVER)
		return;
	read_destination(sk, &connection.destination);
	if (is_ignored(sk, &connection.destination))
		return;
	if (!current_cgroup_ids(&connection.ids))
		return;
	connection.phase = PHASE_PENDING;
	owner = find_owner(&connection.ids);
	if (owner) {
		connection.destination.owner = owner->id;
		counts = find_destination(owner, &connection.destination);
		if (!counts) {
			connection.slot = SLOT_OTHER;
			counts = &owner->other;
		}
	} else {
		connection.slot = SLOT_STRAY;
		counts = bpf_map_lookup_elem(&stray, &zero);
	}
	kept = bpf_sk_storage_get(&connections, sk, &connection, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept) {
		if (is_last)
			count_lost();
		return;
	}
	/* A socket that failed before may connect again. */
	*kept = connection;
	if (counts)
		__sync_fetch_and_add(&counts->attempts, 1);
}

static __always_inline int handle(struct sock *sk, int old_state, int new_state, int is_last)
{
	struct connection *connection;
	struct counts *counts;

	/* Sockets change to LISTEN, SYN_RECV and the closing states without being anybody's outbound connection. */
	if (!is_tcp(sk))
		return 0;
	if (old_state == TCP_CLOSE && new_state == TCP_SYN_SENT) {
		on_connect(sk, is_last);
		return 0;
	}
	connection = bpf_sk_storage_get(&connections, sk, NULL, 0);
	if (!connection)
		return 0;
	/* A socket that comes from a later state was established, seen or not. */
	if (connection->phase == PHASE_PENDING &&
	    (new_state == TCP_ESTABLISHED ||
	     (old_state != TCP_SYN_SENT && old_state != TCP_SYN_RECV))) {
		connection->phase = PHASE_ESTABLISHED;
		counts = find_counts(connection);
		if (counts)
			__sync_fetch_and_add(&counts->successes, 1);
	}
	if (connection->phase == PHASE_PENDING && new_state == TCP_CLOSE) {
		connection->phase = PHASE_OVER;
		counts = find_counts(connection);
		if (counts)
			__sync_fetch_and_add(&counts->failures, 1);
		bpf_sk_storage_delete(&connections, sk);
	} else if (connection->phase == PHASE_ESTABLISHED && new_state != TCP_ESTABLISHED) {
		connection->phase = PHASE_OVER;
		counts = find_counts(connection);
		if (counts)
			__sync_fetch_and_add(&counts->closes, 1);
		bpf_sk_storage_delete(&connections, sk);
	}
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old_state, int new_state)
{
	return handle(sk, old_state, new_state, 0);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state_again, struct sock *sk, int old_state, int new_state)
{
	return handle(sk, old_state, new_state, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* TCP connections where the kernel exports no type information: from the fields of the classic tracepoint, whose places user
 * space has read in its format file. What only stands in the socket (bytes, retransmits, round trips, the network namespace) is
 * not known here, and whose a connection is only in the v2 hierarchy (Linux 4.18).
 *
 * The kernel skips such programs in an interrupt that came while another one ran. A connection whose end is missed that way is
 * ended when its socket connects again. */
#define MAP_FLAGS 0 /* memory is not to be allocated in such programs before Linux 6.1 */
#define CONNECTIONS 8192
#include "tcp_table.h"

#define IPPROTO_TCP 6

#define READ_FIELD(to, ctx, name) \
	bpf_probe_read_kernel(to, sizeof(*(to)), (void *)(ctx) + settings.fields.name)

static __always_inline int is_tcp(void *ctx)
{
	__u16 protocol = 0;

	/* It had one byte before Linux 5.6. */
	if (settings.fields.protocol_size == 1)
		bpf_probe_read_kernel(&protocol, 1, ctx + settings.fields.protocol);
	else
		READ_FIELD(&protocol, ctx, protocol);
	return protocol == IPPROTO_TCP;
}

/* Of a 32-bit kernel, as the size of one in the record says. */
static __always_inline int has_short_pointers(void)
{
	return settings.fields.skaddr_size == sizeof(__u32);
}

/* Where pointers have four bytes the next field follows at once. */
static __always_inline struct sock *read_socket(void *ctx)
{
	__u64 wide = 0;
	__u32 narrow = 0;

	if (has_short_pointers()) {
		READ_FIELD(&narrow, ctx, skaddr);
		return (void *)(__u64)narrow;
	}
	READ_FIELD(&wide, ctx, skaddr);
	return (void *)wide;
}

static __always_inline void read_destination(void *ctx, struct destination *to)
{
	__u32 words[4] = {};

	READ_FIELD(&to->port, ctx, dport);
	READ_FIELD(&words, ctx, daddr_v6);
	to->family = AF_INET6;
	/* IPv4 is written as ::ffff:a.b.c.d there. */
	if (words[0] || words[1] || words[2] != __builtin_bswap32(0xffff)) {
		__builtin_memcpy(to->address, words, sizeof(words));
		return;
	}
	to->family = AF_INET;
	__builtin_memcpy(to->address, &words[3], sizeof(words[3]));
}

static __always_inline void finish(struct sock *sk, struct connection *connection, int old_state,
				   int new_state)
{
	struct counts *mine = bpf_map_lookup_elem(&counts, &connection->number);
	struct progress nothing = {};

	if (!mine || !advance(connection, mine, old_state, new_state))
		return;
	connection->phase = PHASE_ENDED;
	end(mine, &nothing);
	forget(sk);
}

SEC("tracepoint/sock/inet_sock_set_state")
int on_state(void *ctx)
{
	struct connection connection = {}, *old;
	struct destination to = {};
	struct cgroup_ids ids = {};
	struct tallies *changes;
	int old_state = 0, new_state = 0;
	struct sock *sk;

	if (!is_tcp(ctx))
		return 0;
	sk = read_socket(ctx);
	READ_FIELD(&old_state, ctx, oldstate);
	READ_FIELD(&new_state, ctx, newstate);
	if (new_state == TCP_LISTEN || old_state == TCP_LISTEN) {
		changes = find_tallies();
		if (changes)
			__sync_fetch_and_add(&changes->listens, 1);
		return 0;
	}
	old = connection_of(sk);
	if (old_state != TCP_CLOSE || new_state != TCP_SYN_SENT) {
		if (old)
			finish(sk, old, old_state, new_state);
		return 0;
	}
	if (old)
		finish(sk, old, TCP_SYN_SENT, TCP_CLOSE);
	read_destination(ctx, &to);
	ids.id[CGROUP_V2] = bpf_get_current_cgroup_id();
	/* There inode numbers have 32 bits, and ids a generation above them (kernfs_id_ino). */
	if (has_short_pointers())
		ids.id[CGROUP_V2] = (__u32)ids.id[CGROUP_V2];
	/* The root's is 1. */
	if (ids.id[CGROUP_V2] <= 1 || is_ignored(&to, 0))
		return 0;
	connection.since_ns = bpf_ktime_get_ns();
	connection.pid = bpf_get_current_pid_tgid() >> 32;
	begin(sk, &ids, &to, &connection);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

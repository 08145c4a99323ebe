/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Spans, by the names that programs written for ebpf_exporter use: such programs compile, but nodeprobe exports no spans. */
#ifndef NODEPROBE_TRACING_BPF_H
#define NODEPROBE_TRACING_BPF_H

#include <bpf/bpf_helpers.h>

struct span_parent_t {
	__u64 trace_id_hi;
	__u64 trace_id_lo;
	__u64 span_id;
};

struct span_base_t {
	struct span_parent_t parent;
	__u64 span_id;
	__u64 span_monotonic_timestamp_ns;
	__u64 span_duration_ns;
};

static __always_inline void fill_span_base(struct span_base_t *base, struct span_parent_t *parent)
{
	base->parent = *parent;
	base->span_monotonic_timestamp_ns = bpf_ktime_get_ns();
	base->span_duration_ns = 0;
}

/* `fill` is what sets the other fields of `span`; leaves the calling function when the ring is full. */
#define submit_span(ring, type, parent, fill)                    \
	type *span = bpf_ringbuf_reserve(ring, sizeof(type), 0); \
	if (!span)                                               \
		return 0;                                        \
	fill_span_base(&span->span_base, parent);                \
	fill;                                                    \
	bpf_ringbuf_submit(span, 0)

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Records of one thread -> poll spans, by a stack of the polls that are open.
 *
 * Records may be missing (no chunk was free, the process was killed between two of
 * them), so that begins and ends need not match:
 *   - an end whose function is open deeper in the stack closes what lies above it; those
 *     are "lost", their own end is missing;
 *   - an end whose function is not open at all is "stray": its begin is missing;
 *   - what is still open when the trace ends is "open".
 *
 * It is also decided here which task a poll belongs to, see begin_task() in spans.c.
 */
#ifndef AF_TRACE_SPANS_H
#define AF_TRACE_SPANS_H

#include "trace/internal.h"
#include "trace/pauses.h"

#define AF_SPAN_DEPTH_MAX 65536 /* deeper than any stack lets polls nest; bounds memory */

struct af_open_span {
	struct af_span span;
	int32_t root;	/* index in the stack of the innermost task root, or -1 */
	bool owns_task; /* this span is a poll of its task as a whole */
	bool points;	/* ... by a pointer: the first poll inside is of it, too */
	bool fresh;	/* ... and the first one that we know of */
	bool owes_wait; /* ... its wait, from wait_begin, is not told yet */
	uint64_t wait_begin;
	bool own;			/* this span polls the future of the root below it */
	bool own_seen;			/* root: the poll of its own future has begun */
	enum af_span_result own_result; /* root: and what became of it */
	uint64_t own_state;		/* root: and the state it left */
	uint32_t own_function;
	uint64_t longest_child;
	uint32_t longest_function; /* inner_function and inner_duration of that child */
	uint64_t longest_duration;
};

/* A future that a thread drives; see driven.h. */
#define AF_DRIVEN_MAX 8 /* of one thread: more are nested in no program */
#define AF_DRIVEN_PARTS 8
struct af_driven {
	uint64_t address, size;
	const struct af_driven_type *type;
	uint32_t task;
	bool waits; /* since `begin` */
	bool owes;  /* ... until `end`: not told yet, as it may go on */
	uint64_t begin, end;
	uint32_t stay; /* number in the map, where it is known */
	uint32_t nodes[AF_WAIT_NODES], n_nodes;
	uint32_t parts[AF_DRIVEN_PARTS]; /* tasks that turned out to be polled by it; 0: none */
};

struct af_span_stack {
	const struct af_thread *thread;
	struct af_open_span *open;
	uint32_t depth, room;
	uint64_t last;		       /* ns of the last record: time never runs back */
	uint32_t nodes[AF_WAIT_NODES]; /* of the task whose poll begins next */
	uint32_t n_nodes;
	struct af_driven driven[AF_DRIVEN_MAX];
	uint32_t n_driven;
	/* Futures that nobody seemed to poll, and were polled since the last wait. */
	uint32_t loose[AF_DRIVEN_PARTS], n_loose;
};

/* What all threads of a walk share. */
struct af_walker {
	struct af_trace *trace;
	const struct af_visitor *visitor;
	void *context;
	struct af_walk *counts;
	struct af_pauses pauses;
	bool stopped; /* the visitor wants no more */
	bool no_memory;
};

/* To the visitor; without the time at which recording was off. */
void af_walker_wait(struct af_walker *walker, const struct af_wait *wait);
/* Recording is off from `now` on; on again (since when it was off is told as well). */
void af_walker_off(struct af_walker *walker, uint64_t now, bool stopped);
void af_walker_on(struct af_walker *walker, uint64_t since, uint64_t now);

/* Applies one record at `now` ns. */
void af_span_stack_apply(struct af_span_stack *stack, struct af_walker *walker,
			 const struct afr_record *record, uint64_t now);
/* Closes what is open at the end of the trace. */
void af_span_stack_finish(struct af_span_stack *stack, struct af_walker *walker, uint64_t end);

#endif

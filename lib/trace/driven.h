/* SPDX-License-Identifier: MIT */
/*
 * Futures that a thread drives itself, and whose polls are inlined in the driver: of them the
 * trace has waits only (AFR_WAIT). Each is a task, known by its address and type. Polls of what lies
 * in it, on the same thread, are its own: else its children would look like tasks.
 */
#ifndef AF_TRACE_DRIVEN_H
#define AF_TRACE_DRIVEN_H

#include "trace/spans.h"

/* When functions have been read: names for such futures. False when memory is short. */
bool af_driven_read(struct af_trace *trace);

/* AFR_WAIT and AFR_WAITED at `now` ns. */
void af_driven_begin(struct af_span_stack *stack, struct af_walker *walker,
		     const struct afr_record *record, uint64_t now);
void af_driven_end(struct af_span_stack *stack, struct af_walker *walker,
		   const struct afr_record *record, uint64_t now);
/* What lies at `self` is polled: the task of the thread's driven future that it is in, or
   is awaited by; 0 if it lies in none. */
uint32_t af_driven_owner(struct af_span_stack *stack, struct af_walker *walker, uint64_t self,
			 uint32_t function);
/* Such a poll is taken for one of `task`, as nothing else is known. */
void af_driven_see(struct af_span_stack *stack, uint32_t task);
/* At the end of the trace: what still waits. */
void af_driven_finish(struct af_span_stack *stack, struct af_walker *walker, uint64_t end);

/* The task of such a future at `address`, of type `type` in map `map`; 0 if it is none. */
uint32_t af_driven_task(const struct af_trace *trace, uint32_t map, uint32_t type,
			uint64_t address);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The trace model: what happened in one traced process, read from a raw trace
 * (record/rawtrace.h). A raw trace may hold hundreds of millions of records, so the
 * model is never in memory as a whole: af_trace_walk() goes through the file once, in
 * order of time, and hands out each poll span as it begins and as it ends. What stays
 * in memory is bounded by threads, tasks and functions.
 *
 * Nothing in the file is trusted. A file that is cut off at any byte gives everything
 * up to the cut; records that cannot be are skipped and counted.
 *
 * One thread at a time may use one trace; several traces are independent.
 */
#ifndef AF_TRACE_H
#define AF_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "record/rawtrace.h"

#define AF_WAIT_NODES 8 /* of a wait that has ended */

struct af_trace;

/* A poll function of one of the objects; strings belong to the trace, never NULL. */
struct af_function {
	const char *name;    /* what it polls, as people write it */
	const char *future;  /* full type name of the future, "" if unknown */
	const char *file;    /* definition, "" if unknown */
	const char *library; /* file name of the library it is in; "": the executable */
	uint32_t line;
	bool root;	 /* an executor's entry of a task */
	bool trap;	 /* hooked by int3 */
	bool pointer;	 /* the future is a Pin, Box or reference: another one's */
	bool hand;	 /* the future is hand-written: it has no awaits of its own */
	bool blocking;	 /* runs a blocking closure: being long is its purpose */
	uint32_t object; /* which map, and which poll in it: for af_function_await() */
	uint32_t poll;
};

struct af_thread {
	uint32_t index;	 /* for af_trace_thread() */
	uint32_t number; /* in this session, in order of appearance; never reused */
	uint32_t tid;	 /* the kernel's; may be reused by a later thread */
	char name[16];	 /* the last one it had; may be empty */
};

enum af_task_state {
	AF_TASK_ALIVE,
	AF_TASK_READY,
	AF_TASK_PANICKED,
	AF_TASK_DROPPED, /* by a runtime that shut down */
	AF_TASK_GONE,	 /* it was not there any more at the end: ready, or dropped */
	AF_TASK_UNKNOWN, /* recording was off afterwards: what became of it is not known */
};

/*
 * A task: one instance of a future that an executor polls. Its identity is the
 * executor's id where that is known, else the address it lives at for as long as
 * nothing shows that another future has moved in.
 */
struct af_task {
	uint32_t number;   /* 1, 2, ... in order of first sight */
	uint32_t function; /* by which it was first polled: names it */
	uint32_t state;	   /* enum af_task_state */
	uint64_t subject;  /* the executor's id, or the address */
	uint64_t polls;	   /* outermost polls of it that have ended or were cut off */
	uint64_t busy;	   /* ns in those */
	uint64_t first,
		last; /* ns since the trace began: begin of first, end of last poll, or of the task
				 if it was dropped */
	uint32_t polling;   /* polls of it that are open: more than one for a moment, when
				 another thread takes it before its executor's entry returns */
	bool pending;	    /* its last poll is known to have returned Pending, or it was seen
				 to be parked at the end */
	bool rooted;	    /* polled by an executor's root that we know, not just a future */
	uint64_t known;	    /* AF_TASK_UNKNOWN: ns until when it was there */
	uint64_t parked;    /* the state its future was last left in, AF_STATE_NONE if unknown */
	uint32_t parked_in; /* the function that polls that future */
	uint32_t part_of;   /* it was none after all: number of the task that awaits it; 0 */
};

enum af_span_result {
	AF_SPAN_UNKNOWN, /* the poll returned, what it returned cannot be told */
	AF_SPAN_READY,
	AF_SPAN_PENDING,
	AF_SPAN_PANICKED,
	AF_SPAN_OPEN, /* had not returned when the trace ended */
	AF_SPAN_LOST, /* its end was dropped: closed with the one around it */
};
const char *af_span_result_text(enum af_span_result result);

/* One poll. Spans of a thread nest: a child lies within its parent, to the ns. */
struct af_span {
	const struct af_thread *thread;
	uint32_t function;	    /* for af_trace_function() */
	uint32_t task;		    /* task number; final when the span has ended */
	uint32_t depth;		    /* 0: outermost on its thread */
	bool outermost;		    /* no other poll waits for it: depth 0, a task root, or in a
				   blocking closure, where executors run their loops */
	bool first_poll;	    /* the coroutine had not begun before this poll */
	uint64_t self;		    /* address of the future (of the task, for a root), 0 unknown */
	uint64_t begin, end;	    /* ns since the trace began; end: when it has ended */
	enum af_span_result result; /* when it has ended */
	uint64_t state;		    /* coroutine state after return, AF_STATE_NONE if not known */
	/* The longest poll inside, for "what is this long poll really about" */
	uint32_t inner_function; /* innermost span that explains most of this one, or itself */
	uint64_t inner_duration; /* ns of it */
	uint64_t cookie;	 /* the visitor's own; 0 at begin */
};
#define AF_STATE_NONE UINT64_MAX

/* Recording was off, and what was polled then is not in the trace. */
struct af_off {
	uint64_t begin, end; /* ns since the trace began */
	bool stopped;	     /* since the recording had reached its --max-size: until the end */
	bool open;	     /* ... or it was still paused when the trace ended */
};

/*
 * A task between two of its polls, or after its last one: where it stood. `nodes` are the innermost levels of its
 * await stacks, one for each branch of a join or select, for af_trace_level(); none where
 * its memory was not read. Then `task` may say in which state it was left (parked).
 *
 * Where recording was off meanwhile there are two: one until it was, `cut`, and one from when it
 * was on again, of which the begin is not known. Nothing is told of the time in between.
 */
struct af_wait {
	const struct af_task *task;
	uint64_t begin, end; /* ns since the trace began */
	bool open;	     /* it still waited when the trace ended */
	bool unknown_begin;  /* it has stood there since `begin` or longer */
	bool dropped;	     /* its end was that of the task, which was dropped */
	bool cut;	     /* recording was off from its end on */
	uint32_t n_nodes;
	const uint32_t *nodes; /* good for the length of the call */
};

/* One level of an await stack: a future, and where it stands. */
struct af_level {
	uint32_t parent;  /* node of the level above; 0: this is the task's own future */
	const char *name; /* as people write it */
	const char *file; /* the await point; "" if it has none (hand-written futures) */
	uint32_t line;
	bool started; /* it has been polled at least once, as far as can be told */
};

/*
 * Called in order of time over all threads; false stops the walk. In `begin` everything
 * up to `self` and `begin` is set (the task may still turn out to be a new one). Any
 * may be NULL. The span is good for the length of the call; what a visitor wants to find
 * again at the end goes into its cookie.
 */
struct af_visitor {
	bool (*begin)(void *context, struct af_span *span);
	bool (*end)(void *context, struct af_span *span);
	/* When it ends: just before the begin of the next poll, or at the trace's end. */
	bool (*wait)(void *context, const struct af_wait *wait);
	/* When recording is on again, or at the trace's end. */
	bool (*off)(void *context, const struct af_off *off);
};

/* What the walk came across beside spans. All are counts of this walk. */
struct af_walk {
	uint64_t records; /* good ones */
	uint64_t spans;
	uint64_t panicked;
	uint64_t open;	     /* not ended when the trace ended */
	uint64_t lost;	     /* spans whose end is missing */
	uint64_t stray;	     /* ends whose begin is missing */
	uint64_t inherited;  /* ends whose begin is the parent's: open when it forked */
	uint64_t unfinished; /* slots that were never written */
	uint64_t bad;	     /* records that make no sense */
	uint64_t end;	     /* ns: last time of the trace */
	uint64_t pauses;     /* how often recording was off since the program wanted it */
	uint64_t off;	     /* ns that it was off for that */
};

/* What is known of the process and the recording; constant after open. */
struct af_trace_info {
	uint32_t pid;
	uint32_t parent_pid;	/* of which it is a forked copy; 0 if it is none */
	const char *executable; /* absolute path, "" if unknown */
	const char *directory;	/* it was started in, "" if unknown */
	uint64_t realtime;	/* ns since the epoch at time 0 of the trace */
	uint32_t n_threads;
	uint32_t n_functions;
	bool cut;	      /* the file ends in the middle or without an END block */
	bool clock_estimated; /* no calibration at the end: durations may be off */
	uint32_t bad_maps;    /* embedded future maps that could not be used */
	uint32_t left_out;    /* tasks that were there at the end and could not be read */
	bool has_hooks, has_end;
	uint64_t stopped; /* ns: from then on nothing was recorded, see AFR_LIMIT_STOPPED; else
			     UINT64_MAX */
	struct afr_hooks hooks; /* zero if there were none */
	struct afr_end end;
};

/* Opens a raw trace and reads everything but the records. */
struct af_error *af_trace_open(struct af_trace **out, const char *raw_path) af_must_check;
void af_trace_close(struct af_trace *trace); /* accepts NULL */

const struct af_trace_info *af_trace_info(const struct af_trace *trace);
const struct af_thread *af_trace_thread(const struct af_trace *trace, uint32_t index);
/* Never NULL: a number that no map knows gives a function that says so. */
const struct af_function *af_trace_function(const struct af_trace *trace, uint32_t number);
/* Where a coroutine stands in `state` (3 and up): false if that cannot be told. */
bool af_function_await(const struct af_trace *trace, const struct af_function *function,
		       uint64_t state, const char **file, uint32_t *line);

/* The level that is node `number`; false if the trace does not know it. The depth of a
   stack is at most AF_LEVELS_MAX: a way upwards ends there, whatever the file says. */
bool af_trace_level(const struct af_trace *trace, uint32_t number, struct af_level *level);
#define AF_LEVELS_MAX 64

/* May be called again; the tasks are those of the last walk. */
struct af_error *af_trace_walk(struct af_trace *trace, const struct af_visitor *visitor,
			       void *context, struct af_walk *walk) af_must_check;
uint32_t af_trace_n_tasks(const struct af_trace *trace);
/* Task `number`, 1 to n_tasks. Valid until the next walk, or the next call to begin. */
const struct af_task *af_trace_task(const struct af_trace *trace, uint32_t number);

#endif

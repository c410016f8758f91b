/* SPDX-License-Identifier: MIT */
/*
 * Every task of a process, and where each stands.
 *
 * First all are found (af_task_list_find), which is fast and keeps little; then they are read
 * and shown to a visitor, so that a hundred thousand trees need not be in memory at once. A
 * live process goes on meanwhile: what a visitor sees of one task belongs together (snapshot.h).
 */
#ifndef AF_RUNTIMES_TASKS_H
#define AF_RUNTIMES_TASKS_H

#include "analysis/text.h"
#include "inspect/task.h"
#include "runtimes/headers.h"
#include "runtimes/recorder.h"
#include "runtimes/snapshot.h"
#include "runtimes/threads.h"
#include "runtimes/wakers.h"

enum af_found_by {
	AF_BY_HEADER = 1, /* a header in the heap: tokio, async-task */
	AF_BY_STACK,	  /* a future that a thread drives in its own frame: block_on */
	AF_BY_WAKER,	  /* what an Arc that is a waker points to: any executor */
};

struct af_found_task {
	struct af_task task; /* by a stack: `header` is the future's address, `root` AFM_NONE */
	uint8_t found_by;    /* enum af_found_by */
	uint8_t executor;    /* enum afm_executor; AFM_X_OTHER: block_on */
	bool blocking;	     /* a closure on a blocking pool, no future */
	bool moving;	     /* was polled again each time it was read */
	bool has_owner;
	pid_t thread;	  /* that polls or drives it; 0: none, or not known */
	uint32_t vtable;  /* by a header: in headers.vtables */
	uint32_t driven;  /* by a stack: in threads.driven */
	uint32_t woken;	  /* by a waker: in wakers */
	uint64_t spawned; /* address of the Location of the call that spawned it, or 0 */
	char name[48];	  /* what the program calls it; "" where it has none */
	uint64_t owner;	  /* tokio: the id of the runtime's list of tasks */
	bool has_polled;  /* the process is recorded, and this task's last poll is known: */
	uint64_t polled;  /* how long ago it began, ns */
};

struct af_task_list {
	struct af_process *process;
	struct af_snapshot snapshot;
	struct af_target target; /* memory of the snapshot */
	struct af_headers headers;
	struct af_threads threads;
	struct af_wakers wakers;
	struct af_recorder recorder;		/* the caller's to find, if it asks for times */
	VECTOR(struct af_found_task) items;	/* by executor, id, address */
	struct af_map by_address;		/* header -> index in `items` */
	uint32_t counts[AF_TASK_CANCELLED + 1]; /* by enum af_task_state, when they were found */
};

struct af_error *af_task_list_find(struct af_task_list *tasks,
				   struct af_process *process) af_must_check;
/* For find.c: reads what a waker leads to, and finds its future: the only one that it holds. */
bool af_task_list_read_woken(struct af_task_list *list, struct af_found_task *found,
			     struct af_await_tree *tree);
/* running.c; af_task_list_find calls it: sets `thread` of tasks that are running. */
void af_task_list_match_threads(struct af_task_list *list);
/* The same: whether what a thread drives is a task of its own. What is driven within a task's
   poll is the task's, unless it is by a block_on. */
bool af_task_list_is_own(const struct af_task_list *list, const struct af_driven *driven);
void af_task_list_deinit(struct af_task_list *tasks); /* accepts a zeroed one */

/* Where a task stands. `nodes` is empty unless the task is parked or scheduled (or was found by
   a stack) and could be read in one picture. */
struct af_task_view {
	struct af_found_task
		*found; /* read anew; `moving` is set where it was in motion each time */
	const struct af_node *nodes;
	uint32_t n_nodes;
	uint32_t cut;	   /* AF_CUT_* */
	uint64_t likeness; /* as of struct af_await_tree */
	const char *more;  /* what `more` has added, and how much of it */
	size_t more_size;
};

struct af_task_visitor {
	void *arg;
	bool timed; /* wants to know when each was polled last, if list->recorder can tell */
	/* Reads more of a task in the same picture as its tree, and adds what it makes of it to
	   `text`. Called once for each try; may be NULL. */
	void (*more)(void *arg, const struct af_target *target, const struct af_found_task *found,
		     const struct af_await_tree *tree, struct af_text *text);
	/* Each task, in order; those that have ended meanwhile are left out. */
	void (*visit)(void *arg, const struct af_task_view *view);
	/* Asked now and then; true: the tasks that are left are not read. May be NULL. */
	bool (*stop)(void *arg);
};

/* The place that a core::panic::Location at `address` names: a path of up to `size` - 1 bytes and
   a line. False if no such thing lies there. */
bool af_task_list_location(const struct af_task_list *list, uint64_t address, char *path,
			   size_t size, uint32_t *line);

/* Reads all tasks. `tree` is for its use. */
struct af_error *af_task_list_visit(struct af_task_list *list, struct af_await_tree *tree,
				    const struct af_task_visitor *visitor) af_must_check;

#endif

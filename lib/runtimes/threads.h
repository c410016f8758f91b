/* SPDX-License-Identifier: MIT */
/*
 * What the threads of a process do at this moment: which polls are on their stacks, and which
 * futures they drive in their own frames (block_on).
 */
#ifndef AF_RUNTIMES_THREADS_H
#define AF_RUNTIMES_THREADS_H

#include "runtimes/process.h"
#include "runtimes/snapshot.h"

/* A poll function on a stack. */
struct af_thread_poll {
	uint32_t image, poll; /* in the image's map's `polls` */
	uint64_t pc;	      /* within it */
};

struct af_thread_polls {
	uint32_t thread;     /* in process->threads */
	uint32_t first, n;   /* in `polls`, outermost first */
	uint64_t top;	     /* the end of its stack; 0: not known */
	const char *unknown; /* why they cannot be told; NULL: they can */
};

/* A future that a thread drives itself. */
struct af_driven {
	uint32_t thread;	/* in process->threads */
	uint32_t image, driver; /* in the image's map's `drivers` */
	uint64_t address;	/* of the future */
	bool running;		/* it is being polled at this moment */
	bool inside;		/* further out on the stack something is polled */
	bool begun;		/* find.c: it has been polled */
	uint64_t sp;		/* of the frame that drives it */
};

struct af_threads {
	VECTOR(struct af_thread_polls) items;
	VECTOR(struct af_thread_poll) polls;
	VECTOR(struct af_driven) driven;
};

/* Whether `address` lies in the stack of a thread, used or not: nothing that lives longer than
   a function does. */
bool af_threads_on_stack(const struct af_threads *threads, const struct af_process *process,
			 uint64_t address);
/* Looks at every thread of the process, without stopping it. */
struct af_error *af_threads_look(struct af_threads *threads, struct af_process *process,
				 struct af_snapshot *snapshot) af_must_check;
void af_threads_deinit(struct af_threads *threads); /* accepts a zeroed one */

#endif

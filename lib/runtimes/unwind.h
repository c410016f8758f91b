/* SPDX-License-Identifier: MIT */
/*
 * The call stack of a thread of a process, from the unwind tables of its files (libdw reads
 * them) and whatever reads its memory. Nothing is attached to or stopped.
 *
 * Of a live thread that waits in a system call only stack pointer and pc are known. Registers
 * that a function on the stack has saved become known on the way, and a frame pointer can be
 * found by the call that made the frame; where one is needed that is not known, the stack ends
 * there, `complete` false.
 */
#ifndef AF_RUNTIMES_UNWIND_H
#define AF_RUNTIMES_UNWIND_H

#include "runtimes/process.h"

#define AF_MAX_FRAMES 256

struct af_frame {
	uint64_t pc; /* in this function: of one that has called another, within the call */
	uint64_t cfa;
	uint64_t registers[AF_REGISTERS]; /* as they are in this function, by DWARF number */
	uint32_t known;			  /* bit n: registers[n] is known */
	uint32_t module;		  /* in process->modules, or AFM_NONE */
};

struct af_stack_trace {
	uint32_t n;
	bool complete;			       /* the last frame is the thread's first */
	struct af_frame frames[AF_MAX_FRAMES]; /* innermost first */
};

struct af_unwinder {
	struct af_process *process;
	struct af_unwind_file *files; /* by module, opened at need */
	bool guesses;		      /* private: a frame pointer is being looked for */
};

struct af_error *af_unwinder_init(struct af_unwinder *unwinder,
				  struct af_process *process) af_must_check;
void af_unwinder_deinit(struct af_unwinder *unwinder); /* accepts a zeroed one */

/* The stack of `thread`, which has at least sp and pc; frames[0] is where it is. */
void af_unwind(struct af_unwinder *unwinder, struct af_memory *memory,
	       const struct af_process_thread *thread, struct af_stack_trace *trace);

#endif

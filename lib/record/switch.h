/* SPDX-License-Identifier: MIT */
/*
 * Recording off and on. Cells jump to their stubs through tables near them, one of each place:
 * "off" is another address in these, of code that steps over the cell's call and goes straight on
 * into the function. So it costs nothing while recording is on, and while it is off a poll takes four
 * jumps more than one that is not hooked.
 *
 * A thread that has read its address goes on there: a poll that began while
 * recording was on has a stub below it, whose exit is recorded whenever it comes. One that began
 * while it was off is not recorded, even if it ends later.
 *
 * Off by a pause is on again by a resume, and a forked process inherits it. Off since the raw trace
 * is full is for good, but in this process only: a forked one has a file of its own.
 */
#ifndef AF_RECORD_SWITCH_H
#define AF_RECORD_SWITCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define AF_STUBS 7
#define AF_OFFS 16 /* ways past a stub: see struct af_ways */
#define AF_OFF_SIZE 32

/* Memory of one place's, never given back: its cells hold displacements to it. */
struct af_ways {
	/* Where cells jump to: only the switch writes here. AF_OFFS alike while recording is on, one
	   of which is a cell's: so that not all of them share one jump while it is off. */
	_Atomic uint64_t in[AF_STUBS][AF_OFFS];
	uint64_t on[AF_STUBS];	  /* where they lead to then */
	uint64_t enter[AF_STUBS]; /* what the cells call then */
	/* Past the stubs: AF_OFFS pieces of code near the cells, AF_OFF_SIZE bytes each; the second
	   ones are for where a forked process is to record. */
	uint64_t off, off_full;
};

/* `ways` are those of place `place` (parked.h) from now on; all but `in` is filled, and stays. Before
   any cell of the place is reached. One caller at a time. */
void af_switch_add(uint32_t place, struct af_ways *ways);

/*
 * Recording off, and on again. Both leave a record that says from when and until when, so that
 * nobody takes for a wait what was not recorded. Again is once. Any thread, any context, at any
 * moment; only futex and rt_sigprocmask are called, but where a forked process has its first
 * record by a resume. False: it cannot be on again, since the file is full.
 */
void af_switch_pause(void);
bool af_switch_resume(void);
bool af_switch_is_off(void);
/* A session has just begun: if it is off, the trace is to say so. */
void af_switch_tell(void);

/* The file is full: nothing is recorded any more. With all signals blocked. */
void af_switch_full(void);
/* A forked process has its own file. With all signals blocked. */
void af_switch_forked(void);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * When tasks of a process were polled last, where it is recorded by asyncflame: the session, which is mapped
 * there, has it. What threads have recorded and nobody has drained yet lies in their chunks; of all
 * else whoever drains keeps the newest poll of each task, until another task takes its place
 * (struct af_polled). Nothing is asked of the recorded program, nor of its companion.
 *
 * All of it is read as hostile: it says when, at worst wrongly, and nothing else.
 */
#ifndef AF_RUNTIMES_RECORDER_H
#define AF_RUNTIMES_RECORDER_H

#include "inspect/task.h"
#include "record/session.h"
#include "runtimes/process.h"

struct af_recorder {
	struct af_process *process; /* NULL: it is not recorded */

	/* private */
	uint64_t at;		      /* of the session in the process */
	struct af_session *head;      /* a copy of its first fields */
	VECTOR(uint32_t) functions;   /* by image: its first function, or AFM_NONE */
	VECTOR(struct af_lane) lanes; /* by chunk */
	struct af_map known;	      /* word1 of a record -> index in `ticks` */
	VECTOR(uint64_t) ticks;	      /* of the newest of these records */
	struct af_polled *drained;    /* a copy of the table */
	uint64_t n_drained;	      /* records, when it was made */
	uint64_t
		on_since; /* ticks: it was off before, and polls have left no record; as of the last update */
	uint64_t now; /* the moment that times are told from, in ticks */
	double tick;  /* ns */
};
struct af_lane {
	uint64_t taken; /* of the chunk, when it was read */
	uint32_t next;	/* record that is not written yet */
};

/* `recorder->process` is NULL afterwards if the process is not recorded, or a core. Times are told from now, or
   from when it was frozen. */
void af_recorder_find(struct af_recorder *recorder, struct af_process *process);
void af_recorder_deinit(struct af_recorder *recorder); /* accepts a zeroed one */

/* Reads what was recorded since. After a task was read, before the next question. */
void af_recorder_update(struct af_recorder *recorder);

/* How long before that moment the last poll of this task has begun, ns; 0: after it. False: not known. */
bool af_recorder_polled(const struct af_recorder *recorder, const struct af_task *task,
			uint64_t *ago);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Where a task has been parked: read at the entry of its root's poll, before it runs.
 *
 * At that moment the task is ours to read: the executor has handed it over with a reference,
 * nobody polls it, and it still stands at the await of its last poll. The map's steps say
 * where to look (struct afm_step): a handful of loads, no type is looked at. What is found
 * is a path in a tree of nodes that all tasks share, kept in the session: a node is one
 * level of an await stack, below another. Records carry the number of the innermost one.
 *
 * Pointers are followed only while nothing can free what they point to. async-task frees a
 * future only in `run`. tokio may drop the future of a task that is about to be polled, when
 * its runtime shuts down: so the `shutdown` entries of tokio's task vtables are replaced by
 * one of ours, which waits for those who are reading (parked_guard.c).
 */
#ifndef AF_RECORD_PARKED_H
#define AF_RECORD_PARKED_H

#include <stdbool.h>
#include <stdint.h>

#include "futuremap/futuremap.h"
#include "record/rawtrace.h"
#include "record/session.h"

struct af_hook;

#define AF_PARKED_LEAVES 8 /* of one task at a time: more are not told */
#define AF_PLACES 256	   /* objects and addresses that one was loaded at */

/*
 * Makes the steps of `map` those that roots of place `place` follow, an object with the number
 * `number` in the session, loaded at load_bias; copies what it needs. Before any hook of
 * that place: other places may be in use by other threads. One caller at a time. False if
 * there is no memory: then nothing is read.
 */
bool af_parked_start(uint32_t place, const struct af_futuremap *map, uint64_t load_bias,
		     uint32_t number);
/* The object is not there any more, until af_parked_start with the same arguments: what
   refers to it is not followed, and the trace says so. */
void af_parked_stop(uint32_t place);

/* What a root's hook keeps for af_parked_record; 0 where there is nothing to read. */
uint64_t af_parked_root(uint32_t place, const struct afm_root *root);

/* From the stubs of roots, at entry: records where the task at `header` was parked. No
   libc, no vector registers, signal safe. */
void af_parked_record(uint64_t header, const struct af_hook *hook);

/* The same of a future that no task holds, and of which nobody can take anything away now; `root`
   as of af_parked_future(), `payload` the records' function. */
void af_parked_read(uint64_t at, uint64_t root, uint64_t payload);
/* Another one that is perhaps not there: its pointers are followed through the kernel, and with `far`
   all of it is read so. False, and nothing recorded, if something was not there, or it is not
   waiting for anything. */
bool af_parked_read_doubtful(uint64_t at, uint64_t root, bool far, uint64_t payload);
/* Of values of step `step` of place `place`; 0 if they are not to be read. */
uint64_t af_parked_future(uint32_t place, uint32_t step);
/* Writes a record. */
void af_parked_note(enum afr_kind kind, uint64_t word1);

/*
 * A runtime that shuts down is about to drop the future of the task at `header`, of an object at
 * `place`, of which the caller has a reference: records where it stands and that it ends. `dropped` is the record's
 * word: function, and the task's id. `root` as of af_parked_root(), 0: where is not read.
 * Another thread may poll the task at the same time: so pointers are followed through the
 * kernel, which takes longer, and is given up when it has taken long altogether.
 */
void af_parked_dropped(uint32_t place, uint64_t header, uint64_t root, uint64_t dropped);

#endif

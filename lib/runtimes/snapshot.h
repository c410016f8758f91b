/* SPDX-License-Identifier: MIT */
/*
 * Reading a process that goes on meanwhile, and finding out afterwards whether what was read
 * belongs together.
 *
 * Everything that is read since af_snapshot_begin is remembered, piece by piece.
 * af_snapshot_compare reads all of it once more and compares. Pieces that do not differ stood
 * from their first reading to their second; so between the last of the first and the first of
 * the second all of them stood at once. (But for values that changed and changed back, all of
 * them, in the same order.) What cannot be written to is not read again; what is stopped or
 * dead always holds.
 *
 * Pages are kept, so that the hundreds of tasks that lie in one cost one read; an old page
 * is found out by the comparison. Many tasks are compared at once for the same reason.
 */
#ifndef AF_RUNTIMES_SNAPSHOT_H
#define AF_RUNTIMES_SNAPSHOT_H

#include "runtimes/process.h"

#define AF_SNAPSHOT_LINE 16384
#define AF_SNAPSHOT_LINES 512

/* One read: `size` bytes at `at` in what was read. */
struct af_read {
	uint64_t address;
	uint32_t at, size;
	bool holds;
};

/* Reads by address. */
struct af_order {
	uint64_t address;
	uint32_t read;
};

struct af_snapshot {
	struct af_memory memory; /* what reads for the picture go through */

	/* private */
	struct af_process *process;
	uint8_t *lines; /* AF_SNAPSHOT_LINES times AF_SNAPSHOT_LINE bytes */
	struct af_snapshot_line *heads;
	uint32_t epoch;
	uint64_t clock;
	bool still; /* nothing can change: nothing is remembered */
	bool short_of_memory;
	const struct af_mapping *last; /* where the last read was */
	VECTOR(struct af_read) reads;  /* since begin */
	VECTOR(uint8_t) bytes;	       /* what they gave, one after another */
	VECTOR(uint8_t) again;	       /* what is there now */
	VECTOR(struct af_piece)
	pieces; /* to be read again: runs of reads that lie close together */
	VECTOR(struct af_order) order;
};

struct af_error *af_snapshot_init(struct af_snapshot *snapshot,
				  struct af_process *process) af_must_check;
void af_snapshot_deinit(struct af_snapshot *snapshot); /* accepts a zeroed one */

/* What is read from now on is to be compared. */
void af_snapshot_begin(struct af_snapshot *snapshot);
/* How many reads there were since begin. */
static inline size_t af_snapshot_mark(const struct af_snapshot *snapshot)
{
	return snapshot->reads.count;
}
/* Compares all reads since begin with what is there now. */
void af_snapshot_compare(struct af_snapshot *snapshot);
/* After that: whether reads `from` up to `to` (marks) still hold. */
bool af_snapshot_held(const struct af_snapshot *snapshot, size_t from, size_t to);
/* Both for all of them. */
bool af_snapshot_holds(struct af_snapshot *snapshot);
/* Keeps no page: the next read sees what is there now. */
void af_snapshot_forget(struct af_snapshot *snapshot);

#endif

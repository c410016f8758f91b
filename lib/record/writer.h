/* SPDX-License-Identifier: MIT */
/*
 * Drains the session's chunks into a raw trace file: in the companion, or where there is
 * none in the host itself (preload/own.c). So: no libc, no vector register, no errno, no
 * allocation. One caller at a time. In the companion what the host can write is copied
 * once, then checked.
 *
 * Whoever drains says in session->mark how far the file is good. If it dies in the middle
 * another one goes on from there: nothing is lost, nothing is written twice.
 */
#ifndef AF_RECORD_WRITER_H
#define AF_RECORD_WRITER_H

#include <stdbool.h>
#include <stddef.h>

#include "record/session.h"

struct af_writer {
	struct af_session *session;
	int fd;		   /* the raw trace; -1 none */
	bool own;	   /* in the host: threads' names are as they were, patience is endless */
	bool seekable;	   /* a file, not a pipe or a device */
	int error;	   /* errno of the first failure to write, 0 if there was none */
	uint64_t good;	   /* bytes of whole blocks */
	uint64_t reserved; /* how far the file system has room set aside */
	uint32_t in_a_row; /* full chunks written, one behind the other */
	uint64_t records;
	uint64_t unfinished;	  /* slots taken but never written */
	uint64_t lost;		  /* records that could not be written */
	bool full;		  /* nothing more is kept (KEEP_OLDEST) */
	uint64_t stopped;	  /* ... of what came later than these ticks */
	uint32_t kept[AF_CHUNKS]; /* ... slots of each that had been written by then, or lost */
	uint64_t nodes_at;	  /* KEEP_NEWEST: where the next ones go */
	uint64_t slots_at;	  /* ... and the first slot; each one chunk */
	uint32_t n_slots, slots;  /* ... how many there are, have been written */
	uint32_t nodes;		  /* of session->node_order, written so far */
	uint64_t objects;	  /* bit by bit: whose maps are in the file */
	/* Sees each chunk before it is written, or lost; may be NULL. */
	void (*watch)(void *watcher, const struct af_chunk *chunk, const struct afr_record *records,
		      uint32_t count);
	void *watcher;
	uint16_t begins[AF_CHUNK_RECORDS]; /* of tasks' polls, in the chunk that is looked at */
	uint32_t n_begins;
	uint32_t patience[AF_CHUNKS];		  /* drains a slot has not been written for */
	struct afr_record copy[AF_CHUNK_RECORDS]; /* scratch */
};

/*
 * Takes over fd, an empty file, and writes the header and what is known at the start: process
 * and maps. Maps of libraries that are loaded later follow. Of more than session->keep_bytes it keeps what session->keep says: with the newest
 * chunks lie in slots that are overwritten in turn, behind room for all the nodes there can be,
 * and the file is a good one at any moment. Returns 0 or errno.
 */
int af_writer_begin(struct af_writer *writer, int fd, struct af_session *session);
/* Takes over fd, a file that another writer of this session has left in the middle. Returns
   0 or errno. */
int af_writer_resume(struct af_writer *writer, int fd, struct af_session *session);

enum af_drain {
	AF_DRAIN_FULL, /* only chunks that threads have left */
	AF_DRAIN_GONE, /* and those whose threads are no more */
	AF_DRAIN_ALL,  /* the host is gone, or at its end: everything committed */
};
/* True if anything was drained. What cannot be written is counted, its chunk given back. */
bool af_writer_drain(struct af_writer *writer, enum af_drain what);

/* A copy of what there is, into fd, an empty file, which is then complete in itself: with what
   threads have recorded in the chunks that they are still writing. For the companion. Returns
   0 or errno. */
int af_writer_snapshot(struct af_writer *writer, int fd);

/* Adds a block of AFR_B_LOOK, behind all chunks: when everything has been drained. False where
   there is no room for it. */
bool af_writer_look(struct af_writer *writer, const void *look, size_t size);

/* Calibration, hooks, end: also after a failure, if there is room again. The file is complete
   after this. Returns writer->error. */
int af_writer_finish(struct af_writer *writer, enum afr_end_reason reason);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Drains the session's chunks into a raw trace file: in the companion, never in the host.
 * One thread. What the host can write is copied once, then checked.
 */
#ifndef AF_RECORD_WRITER_H
#define AF_RECORD_WRITER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "record/session.h"

struct af_writer {
	int fd; /* the raw trace */
	struct af_session *session;
	uint64_t records;
	uint64_t unfinished;			  /* slots taken but never written */
	uint64_t lost_to_disk;			  /* records that could not be written */
	struct af_error *error;			  /* the first failure to write; NULL if none */
	struct afr_record copy[AF_CHUNK_RECORDS]; /* of a chunk with slots never written */
	uint32_t nodes;	    /* of session->node_order, so many have been written */
	uint32_t *patience; /* per chunk: drains for which a slot has not been written */
};

/* Writes the header and what is known at the start: process and map. Takes fd over. */
struct af_error *af_writer_init(struct af_writer *writer, int fd, struct af_session *session,
				const void *map, size_t map_size) af_must_check;
void af_writer_deinit(struct af_writer *writer);

enum af_drain {
	AF_DRAIN_FULL, /* only chunks that threads have left */
	AF_DRAIN_GONE, /* and those whose threads are no more */
	AF_DRAIN_ALL,  /* the host is gone, or at its end: everything committed */
};
/* True if anything was drained. */
bool af_writer_drain(struct af_writer *writer, enum af_drain what);

/* Calibration, hooks, end. The file is complete after this. */
struct af_error *af_writer_finish(struct af_writer *writer,
				  enum afr_end_reason reason) af_must_check;

#endif

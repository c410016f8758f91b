/* SPDX-License-Identifier: MIT */
/*
 * The records of one thread in order of time.
 *
 * A thread writes its records in order but for one case: a signal handler that polls
 * while the interrupted code stands between taking a slot and reading the clock. Then a
 * run of the handler's records and one of the interrupted code's have changed places.
 * A window of records is kept sorted by ticks, which puts them back so that they nest.
 */
#ifndef AF_TRACE_STREAM_H
#define AF_TRACE_STREAM_H

#include "trace/internal.h"

#define AF_STREAM_WINDOW 64

struct af_stream {
	const struct af_chunk_entry *chunk, *chunks_end;
	uint32_t next;		  /* record in `chunk` */
	uint32_t head, tail;	  /* of what is in `window` */
	uint64_t unfinished, bad; /* records passed over */
	struct afr_record window[2 * AF_STREAM_WINDOW];
};

void af_stream_init(struct af_stream *stream, const struct af_trace *trace,
		    const struct af_thread_entry *thread);
/* Drops the first record, if there is one, and fills the window up. */
void af_stream_advance(struct af_stream *stream);

/* The first record, or NULL when there are no more. */
static inline const struct afr_record *af_stream_first(const struct af_stream *stream)
{
	return stream->head < stream->tail ? &stream->window[stream->head] : NULL;
}

#endif

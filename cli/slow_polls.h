/* SPDX-License-Identifier: MIT */
/*
 * Watches the records of a session, as they are drained and where threads still write, for a
 * poll that takes too long: when it ends, or while it goes on. In the companion, one thread.
 */
#ifndef AF_CLI_SLOW_POLLS_H
#define AF_CLI_SLOW_POLLS_H

#include <stdbool.h>
#include <stdint.h>

#include "futuremap/futuremap.h"
#include "record/writer.h"

struct slow_polls {
	struct af_session *session;
	const struct af_futuremap *maps; /* by object: names, and which closures may block */
	struct slow_thread *threads;	 /* by number */
	uint32_t n_threads;
	uint64_t limit;	   /* ticks; grows exact with the length of the recording */
	uint32_t function; /* of the last one found */
	uint64_t ticks;	   /* that it has taken */
	bool open;	   /* and it has not ended */
	bool found;
};

void slow_polls_init(struct slow_polls *slow, struct af_session *session,
		     const struct af_futuremap *maps);
void slow_polls_deinit(struct slow_polls *slow);

/* Looks at a chunk that is about to be drained; af_writer.watch. */
void slow_polls_watch(void *slow, const struct af_chunk *chunk, const struct afr_record *records,
		      uint32_t count);
/* Looks at what threads have written since. True once for each poll that is too long; the
   fields above say which. */
bool slow_polls_look(struct slow_polls *slow);
/* Of the one found: its name, and how long it has taken in ns. */
const char *slow_polls_name(const struct slow_polls *slow);
uint64_t slow_polls_ns(const struct slow_polls *slow);

#endif

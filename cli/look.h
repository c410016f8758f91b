/* SPDX-License-Identifier: MIT */
/*
 * Where the tasks of the companion's host stand: a child of the companion looks
 * (runtimes/look.h), so that whatever the host's memory holds cannot hurt the recording, and
 * the recording goes on meanwhile.
 *
 * When the host ends in order it waits for a look, for a bounded time. A host that is killed
 * leaves nothing to look at; so there are looks while it runs, now and then, that take little of
 * a processor's time. One of them holds for every task that is not polled afterwards.
 */
#ifndef AF_CLI_LOOK_H
#define AF_CLI_LOOK_H

#include <stdbool.h>
#include <sys/types.h>

#include "record/writer.h"

struct look {
	struct af_session *session;
	const struct af_futuremap *maps; /* by object */
	pid_t child;			 /* that looks at this moment, or 0 */
	int result;			 /* memory that it writes to */
	bool asked;			 /* the host has said that it ends: `child` is for that */
	bool impossible;   /* not while it runs: not permitted, or it takes too long */
	uint64_t next;	   /* when the next one is due, ms of CLOCK_MONOTONIC */
	uint64_t interval; /* ms between two */
	void *block;	   /* what was seen; NULL: nothing */
	size_t size;
};

void look_init(struct look *look, struct af_session *session, const struct af_futuremap *maps);
/* To be called often while the host runs: looks now and then, and when the host ends, and lets
   that go on then. True while the host waits for it. */
bool look_go_on(struct look *look);
/* Adds what was seen last to a snapshot, a file that is complete. */
void look_append(const struct look *look, int fd);
/* The host is gone: adds to the recording what was seen. */
void look_finish(struct look *look, struct af_writer *writer);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Where the tasks of the companion's host stand when it ends. A child of the companion looks
 * (runtimes/look.h), so that whatever the host's memory holds cannot hurt the recording, and
 * the recording goes on meanwhile. The host waits for it at its exit, for a bounded time.
 */
#ifndef AF_CLI_LOOK_H
#define AF_CLI_LOOK_H

#include <stdbool.h>
#include <sys/types.h>

#include "record/writer.h"

struct look {
	struct af_session *session;
	const struct af_futuremap *map;
	pid_t child; /* that looks at this moment, or 0 */
	int result;  /* memory that it writes to */
	bool asked;  /* the host has said that it ends */
	void *block; /* what was seen; NULL: nothing */
	size_t size;
};

void look_init(struct look *look, struct af_session *session, const struct af_futuremap *map);
/* To be called often while the host runs: looks when the host ends, lets the host go on then.
   True while a child is at it. */
bool look_go_on(struct look *look);
/* The host is gone: adds to the recording what was seen. */
void look_finish(struct look *look, struct af_writer *writer);

#endif

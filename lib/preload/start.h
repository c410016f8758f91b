/* SPDX-License-Identifier: MIT */
/*
 * Shared memory and a companion, for the constructor and for a process that was forked:
 * there the caller may be any thread, in a signal handler, with libc in any state. So: no
 * libc, no vector register, no errno, no signal to the host, no cancellation point. What
 * needs much room lies in static memory: one caller at a time.
 */
#ifndef AF_PRELOAD_START_H
#define AF_PRELOAD_START_H

#include "record/session.h"

/* Memory for a session with as many chunks as the host's limits (address space, file size)
   allow, zero but for its sizes; NULL if there can be none. *fd is the memory's
   descriptor, the caller's to close. */
struct af_session *af_session_map(int *fd);

/* Starts the companion on the session, whose memory is `fd`. NULL or why not. *answer is
   a pipe from which one byte can be read when session->map_state is set, or the end of
   file if the companion has died; the caller's to close. */
const char *af_companion_start(struct af_session *session, int fd, int *answer);

/* A new file in the wrapper's run directory, with a lock for which the wrapper waits: so made
   before the program runs on, that the shortest one is waited for. (One process has several
   if it calls exec.) -1 without a wrapper. */
int af_report_create(const struct af_session *session);

/* Memory for the session that `description` (a session's head) describes, to which a companion
   is still to be started; in this process, which may be a forked copy of the one that
   described it. NULL if there is none. *fd as above. */
struct af_session *af_session_late(const struct af_session *description, int *fd);

/* af_record_fork: the forked process's own session and companion, NULL if it can have
   none. */
struct af_session *af_session_fork(struct af_session *parents);

#endif

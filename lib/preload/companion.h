/* SPDX-License-Identifier: MIT */
/*
 * The companion: the process that makes the map, drains the chunks, and when the host
 * ends, however it ends, makes the trace. It is the program asyncflame under a hidden
 * verb, started from the constructor by a double fork, so that the host never waits for
 * it by accident; it has nothing of the host's but stderr and the session's memory.
 */
#ifndef AF_PRELOAD_COMPANION_H
#define AF_PRELOAD_COMPANION_H

#include <stdbool.h>

#include "preload/config.h"
#include "preload/start.h"
#include "record/session.h"

/* Fills in who and what, from now on the start of the session: its head only, the memory of
   which is zero. NULL or why that cannot be. */
const char *af_session_describe(struct af_session *s, const struct af_config *config);

/* Makes the session's memory and fills in the same. NULL if that cannot be had; then *why says
   so. *fd is the memory's descriptor, the caller's to close. */
struct af_session *af_session_create(const struct af_config *config, int *fd, const char **why);
void af_session_destroy(struct af_session *session);

/* Waits for the companion's answer (af_companion_start): true if it came, false if the
   companion has died. */
bool af_companion_answered(int answer);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Where there is no companion, because none could be started or somebody has killed it, the
 * host's own threads drain: whoever has filled a chunk writes it out before taking the next.
 * No thread of ours, which the host could see; no descriptor that the host could close
 * without our knowing; nothing lost but what a killed host has not written yet (at most a
 * chunk per thread). The raw trace is kept, for the wrapper or the user to convert.
 *
 * As bare as start.h: no libc, no vector register. One thread at a time, by a lock.
 */
#ifndef AF_PRELOAD_OWN_H
#define AF_PRELOAD_OWN_H

#include <stdbool.h>

#include "record/session.h"

/* Whether the companion still works. A dead one that nobody has reaped counts as gone (in a
   container without an init the host itself may be who should). */
bool af_companion_lives(const struct af_session *session);

/* af_record_drain: drains, if that is the host's to do. */
bool af_own_drain(struct af_session *session);

/* The host is at its end, in order: everything that was committed, and the end of the file.
   NULL if there is no file, else its path (static). */
const char *af_own_finish(struct af_session *session);

#endif

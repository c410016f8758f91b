/* SPDX-License-Identifier: MIT */
/*
 * How the wrapper learns what became of the recordings: a private directory, in which
 * the companion of each traced process keeps a file.
 *
 * For each session there is a PID-N.session (PID: its host's; N counts the programs that it
 * has been), on which the companion holds flock(LOCK_EX) for its life. Lines in it:
 *
 *	recording RAW_PATH	where it is written; may be resumed by the host, if the
 *	output OUTPUT_PATH	companion dies; and at last, if it does not, one of
 *
 *	traced OUTPUT_PATH POLLS
 *	nothing REASON
 *	failed REASON
 *
 * When the program has ended we wait for those companions whose host is gone, since
 * their traces are about to appear, and make the trace where there is no companion to do
 * it. A host that lives on (a daemon) is not waited for.
 */
#ifndef AF_CLI_SESSIONS_H
#define AF_CLI_SESSIONS_H

#include <limits.h>
#include <stdbool.h>

struct sessions {
	char directory[PATH_MAX];
	unsigned traced;   /* recordings that came to a trace */
	unsigned living;   /* still going on */
	char reason[1024]; /* of one that did not, "" if there was none */
};

/* Makes the directory; false and errno if there can be none. */
bool sessions_init(struct sessions *sessions);
/* Waits as said above, fills in what came of it, removes the directory. */
void sessions_finish(struct sessions *sessions, bool quiet);

#endif

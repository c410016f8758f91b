/* SPDX-License-Identifier: MIT */
/*
 * The program that is to be traced, before it is started: where it is, whether it can be
 * run, whether it can be traced, and if not, what would mend it.
 */
#ifndef AF_CLI_TARGET_H
#define AF_CLI_TARGET_H

#include <limits.h>
#include <stdbool.h>

enum target_kind {
	TARGET_TRACEABLE,   /* holds futures, and they can be traced */
	TARGET_OTHER,	    /* a script, or no sign of async Rust: is simply run */
	TARGET_UNTRACEABLE, /* runs, but asyncflame cannot look in: `message` */
	TARGET_NO_START,    /* cannot be started: `message` and `status` */
};

struct target {
	enum target_kind kind;
	int status;		    /* exit status that goes with the refusal */
	char path[PATH_MAX];	    /* resolved through PATH, as execvp does */
	const char *base;	    /* its last component */
	char message[2 * PATH_MAX]; /* one line, why; for TARGET_OTHER what it is */
};

/* Looks `program` up and looks at it; its map is built and cached on the way, with
   progress on a terminal if it takes long. */
void target_check(struct target *target, const char *program, bool quiet);

#endif

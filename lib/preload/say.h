/* SPDX-License-Identifier: MIT */
/* A line of ours on the host's stderr, by one write. */
#ifndef AF_PRELOAD_SAY_H
#define AF_PRELOAD_SAY_H

/* "asyncflame: WHAT: WHY" */
void af_say(const char *what, const char *why);

#endif

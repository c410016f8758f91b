/* SPDX-License-Identifier: MIT */
/* What ASYNCFLAME_* ask for. Strings point into the environment: good until the host's
   main begins to change it. Allocates nothing. */
#ifndef AF_PRELOAD_CONFIG_H
#define AF_PRELOAD_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

struct af_config {
	const char *output;	   /* ASYNCFLAME_OUTPUT, or NULL */
	const char *filter;	   /* ASYNCFLAME_FILTER, or NULL */
	const char *program;	   /* ASYNCFLAME_PROGRAM: the asyncflame program, or NULL */
	const char *run_directory; /* ASYNCFLAME_RUN: the wrapper's, or NULL */
	uint32_t main_pid;	   /* ASYNCFLAME_MAIN_PID, or 0 without a wrapper */
	bool children_only;	   /* ASYNCFLAME_CHILDREN: leave main_pid alone */
	bool generated_only, quiet, format_raw;
	bool int3;     /* ASYNCFLAME_INT3: see trap.h */
	bool paused;   /* ASYNCFLAME_PAUSED: until the program resumes */
	uint32_t keep; /* enum af_keep, from ASYNCFLAME_FLIGHT_RECORDER, or _MAX_SIZE and _KEEP */
	uint64_t keep_bytes; /* the size that they say */
	uint64_t slow_poll;  /* ASYNCFLAME_SLOW_POLL in ns, or 0 */
};

/* Never fails: what is malformed counts as unset, but for the filter, which the caller
   checks. */
void af_config_read(struct af_config *config);

#endif

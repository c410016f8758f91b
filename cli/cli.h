/* SPDX-License-Identifier: MIT */
/*
 * The program asyncflame: one file a verb, each thin. A verb gets its own name as
 * argv[0] and returns the exit status. It speaks on stderr; stdout is for what was asked
 * for (help, JSON), and under `run` belongs to the traced program alone.
 */
#ifndef AF_CLI_H
#define AF_CLI_H

#include <stdbool.h>

#include "base/error.h"

/* `run` ends like env and timeout do. */
enum cli_status {
	CLI_FAILED = 125,	  /* asyncflame itself: usage, or it cannot trace */
	CLI_CANNOT_EXECUTE = 126, /* the program is there and cannot be started */
	CLI_NOT_FOUND = 127,	  /* there is no such program */
	CLI_SIGNALLED = 128,	  /* and the number of the signal that ended it */
};

int cmd_run(int argc, char **argv);
int cmd_map(int argc, char **argv);
int cmd_deps(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_convert(int argc, char **argv);
/* What libasyncflame.so starts; no verb for people. */
int cmd_companion(int argc, char **argv);

/* One line on stderr, with "asyncflame: " before it. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for an error, which is destroyed. Returns `status`. */
int cli_fail(int status, struct af_error *error);
/* Whether to colour what goes to stderr: a terminal, and NO_COLOR unset or empty. */
bool cli_colour(void);

#endif

/* SPDX-License-Identifier: MIT */
/* The libraries that a program loads at its start. */
#ifndef AF_CLI_LIBRARIES_H
#define AF_CLI_LIBRARIES_H

#include <stdbool.h>

/* Calls `visit` with the path of each, as this machine's dynamic loader finds them now; nothing of
   the program is run. False if the loader cannot be asked. */
bool libraries_of(const char *program, void (*visit)(const char *path, void *data), void *data);

#endif

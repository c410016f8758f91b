/* SPDX-License-Identifier: MIT */
/*
 * Why the kernel does not let us look into a process, and what would mend it.
 */
#ifndef AF_RUNTIMES_FORBIDDEN_H
#define AF_RUNTIMES_FORBIDDEN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* `others`: it is another user's, called `user` (NULL if that has no name here). `scope`:
   kernel.yama.ptrace_scope, -1 where there is none. */
struct af_error *af_forbidden(pid_t pid, bool others, const char *user, long scope);

#endif

/* SPDX-License-Identifier: MIT */
/* The traced program as our child: started, passed its signals, waited for. */
#ifndef AF_CLI_CHILD_H
#define AF_CLI_CHILD_H

/* Called in the child just before exec, to set what only it can know. */
typedef void child_prepare(void *arg);

/* Called in us on SIGUSR2. */
typedef void child_asked(void *arg);

/*
 * Starts `path` with `argv` and waits for its end. Returns its exit status, 128 + n if
 * signal n ended it; if it could not be started says why and returns 126 or 127.
 *
 * Ctrl-C and the like reach the program from the terminal, along with us: we ignore them
 * and see what it makes of them. Signals sent to us alone are passed on to it, but SIGUSR2
 * where `usr2` is not NULL. When it
 * stops, we stop, so that a shell's job control works.
 */
int child_run(const char *path, char **argv, child_prepare *prepare, child_asked *usr2, void *arg);

#endif

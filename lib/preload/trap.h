/* SPDX-License-Identifier: MIT */
/*
 * int3 in the host, on request (ASYNCFLAME_INT3): functions without room for a jump trap into the
 * kernel, and our handler of SIGTRAP leads them to their cell (patch/apply/traps.c).
 *
 * The kernel ends a process that meets int3 while SIGTRAP is blocked or ignored. So from the
 * constructor on the library stands before sigaction, signal, pthread_sigmask and sigprocmask:
 * SIGTRAP is left out of every mask, and the host's own action for it is kept here. What is none
 * of our traps goes on to it: its handler is called as the kernel would have, and the default
 * action ends the process where it stood. Without the request these four do what libc's do.
 *
 * Not covered, and told in docs/guide.md: masks and actions by raw system calls, or by other ways of libc's
 * (ppoll, sigset, setcontext); waiting for SIGTRAP by sigwait; a debugger.
 */
#ifndef AF_PRELOAD_TRAP_H
#define AF_PRELOAD_TRAP_H

/* It was asked for. In the constructor, with one thread, before anything is hooked. */
void af_trap_allow(void);

#endif

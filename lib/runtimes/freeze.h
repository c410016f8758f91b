/* SPDX-License-Identifier: MIT */
/*
 * One picture of a live process: its threads are stopped (PTRACE_SEIZE, PTRACE_INTERRUPT), their
 * registers are read, all memory that can change is copied, and they run on. It stands still for
 * about as long as copying its memory takes.
 *
 * No signal is sent, and none is lost. A thread that waits in one of the few system calls that
 * Linux never restarts (epoll_wait, nanosleep's remainder and the like: signal(7)) sees EINTR, as
 * it does when a debugger attaches. If we die in between, the kernel lets all threads go; a
 * process that was stopped before stays stopped.
 */
#ifndef AF_RUNTIMES_FREEZE_H
#define AF_RUNTIMES_FREEZE_H

#include "runtimes/process.h"

/* Whether there is more memory than can be copied while a process may stand still. Then set
   process->rehearsing, read all that will be asked for, and clear it: that is copied first. */
bool af_process_wants_rehearsal(struct af_process *process);

/*
 * Stops, copies, lets go; when it returns the process runs. From then on af_process_read shows
 * that moment, and threads have all their registers. process->stood_still is the time. What was read at
 * a rehearsal, and stacks, are copied in any case, all else as long as there is time: a note says
 * how much is missing.
 */
struct af_error *af_process_freeze(struct af_process *process) af_must_check;

#endif

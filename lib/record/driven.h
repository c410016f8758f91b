/* SPDX-License-Identifier: MIT */
/*
 * Where a future was parked that a thread drives itself, as every block_on does: such a one has no
 * task root.
 *
 * Where its polls are functions of their own, it is read when one begins: then it is ours, as a
 * task is. Where they are inlined in the driver, nothing tells of them; but between two polls the
 * driver waits, by a function that is hooked. The return address of that call, and the registers
 * of the driver's frame, which are still there, lead to the future (struct afm_stay). The
 * kernel is asked before a pointer is followed: that debug info is right is not taken for granted.
 */
#ifndef AF_RECORD_DRIVEN_H
#define AF_RECORD_DRIVEN_H

#include <stdint.h>

#include "futuremap/futuremap.h"

struct af_hook;

/* What a poll's hook keeps: place and step in one word; 0 where there is nothing to read. */
uint32_t af_driven_root(uint32_t place, const struct afm_poll *poll);

/* From the stubs of polls: records where the future at `self` was parked. */
void af_driven_poll(uint64_t self, const struct af_hook *hook);

/*
 * From the stub of functions that wait. `saved`: any, rbx, r12, r13, r14, r15 as they were at the call,
 * to be kept for the end of it; `frame`: the stub's rbp. Returns the address of the future that waits,
 * whose wait has been recorded as begun; 0 where there is none; AF_DRIVEN_CONTEXT where the function
 * does not wait itself, but runs the loop of a driver that has called it.
 */
uint64_t af_driven_wait(const struct af_hook *hook, uint64_t *saved, const uint64_t *frame);
#define AF_DRIVEN_CONTEXT 1
/* And that it has ended, where that was not 0. */
void af_driven_waited(uint64_t future, const uint64_t *saved);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Tasks of executors that nobody has heard of, by their wakers: a waker that is an Arc<W> leads
 * to W, and W to a future. What a parked task waits for holds its waker, so looking through the
 * memory for wakers finds it; the Arc's counts tell whether W still lives. A task whose waker
 * is of another make, or held by nobody, is not found.
 */
#ifndef AF_RUNTIMES_WAKERS_H
#define AF_RUNTIMES_WAKERS_H

#include "runtimes/process.h"

/* What a waker leads to: W at `address`. */
struct af_woken {
	uint64_t address;
	uint32_t image, type;
};

struct af_wakers {
	VECTOR(struct af_woken) items; /* by address, each once */
	bool failed;		       /* memory was short */
};

/* `memory` reads the process. */
void af_wakers_find(struct af_wakers *wakers, struct af_process *process, struct af_memory *memory);
void af_wakers_deinit(struct af_wakers *wakers);

#endif

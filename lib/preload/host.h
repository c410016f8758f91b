/* SPDX-License-Identifier: MIT */
/*
 * What the constructor finds out about the process it lives in, from the program headers
 * in memory. libc only, no allocation.
 */
#ifndef AF_PRELOAD_HOST_H
#define AF_PRELOAD_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "futuremap/futuremap.h"
#include "patch/apply/apply.h"

struct af_host {
	struct af_object_place place; /* the executable */
	uint8_t build_id[AFM_BUILD_ID_MAX];
	uint32_t build_id_size; /* 0: it has none */
	bool may_hold_futures;	/* read-only data shows Rust, and a sign of async
					   code or debug info to look into */
};

/* Cheap: program headers and notes. Does not fill may_hold_futures. */
void af_host_find(struct af_host *host);
/* Looks through the executable's read-only data; as long as that is. */
void af_host_look(struct af_host *host);
/* Threads of this process; 1 in an ordinary constructor. */
unsigned af_host_threads(void);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Finding tasks by their headers. Every task of tokio and of async-task holds the address of a
 * vtable in its header, and a vtable is a constant in the object's data whose entry `poll` (or
 * `run`) is a task root of the map. So: collect the vtables, look through the writable memory
 * for words that point at one, and step back to the header. What was found is a candidate
 * only; inspect/task.h tells whether a task lies there.
 */
#ifndef AF_RUNTIMES_HEADERS_H
#define AF_RUNTIMES_HEADERS_H

#include "runtimes/process.h"

/* A candidate. */
struct af_header {
	uint64_t address; /* of the header */
	uint32_t vtable;  /* index in `vtables` */
};

struct af_vtable {
	uint64_t address;
	uint32_t image, root; /* index in the image's map's `roots` */
	/* From the header to these fields, or AFM_NONE. */
	uint32_t vtable, state, owner;
	uint32_t spawned; /* to the address of the Location where it was spawned, or AFM_NONE */
	uint8_t executor; /* enum afm_executor */
	bool blocking;	  /* a closure on tokio's blocking pool, no future */
};

struct af_headers {
	VECTOR(struct af_header) items;
	VECTOR(struct af_vtable) vtables;
	bool failed; /* memory was short */
};

/* The vtables of all executors in all images. */
void af_headers_find_vtables(struct af_headers *headers, struct af_process *process);
/* Candidates, by ascending address. */
void af_headers_find(struct af_headers *headers, struct af_process *process);
void af_headers_deinit(struct af_headers *headers);

#endif

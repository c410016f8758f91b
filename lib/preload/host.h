/* SPDX-License-Identifier: MIT */
/*
 * What the library finds out about the process it lives in, from the program headers in
 * memory. libc only, no allocation.
 */
#ifndef AF_PRELOAD_HOST_H
#define AF_PRELOAD_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "futuremap/futuremap.h"
#include "patch/apply/apply.h"

/* The executable, or a library. */
struct af_host_image {
	struct af_object_place place; /* but for its index */
	uint8_t build_id[AFM_BUILD_ID_MAX];
	uint32_t build_id_size; /* 0: it has none */
	const char *name;	/* as the loader has it ("": the executable); good for the call */
	bool executable;
};

/* How often libraries have been loaded and unloaded, and how many objects are there. */
struct af_host_loads {
	unsigned long long loaded, unloaded;
	size_t objects;
};

/* Calls `visit` for each object from number `first` on, in the order of loading: the executable
   is number 0. False from it ends the round. Returns the state that was seen. Takes the
   loader's lock on its list. */
struct af_host_loads af_host_images(size_t first,
				    bool (*visit)(const struct af_host_image *image, void *data),
				    void *data);

/* Whether Rust's std is linked into it, or linked by it: a look at the names that it imports,
   which are a handful and were just read by the loader. Most libraries have none of it. */
bool af_host_has_rust(const struct af_host_image *image);
/* Whether it imports a function by which a library can be loaded later. */
bool af_host_may_load(const struct af_host_image *image);
/* Whether its read-only data shows Rust, and a sign of async code or debug info to look into.
   As long as that data is. */
bool af_host_may_hold_futures(const struct af_host_image *image);
/* Threads of this process; 1 in an ordinary constructor. */
unsigned af_host_threads(void);

#endif

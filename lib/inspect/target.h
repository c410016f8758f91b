/* SPDX-License-Identifier: MIT */
/*
 * What is looked at: memory, and the objects in it whose maps are known. And the small
 * questions that everybody asks of a type in memory: which variant is active, where a field is.
 *
 * All of it reads only the maps and the memory given; nothing allocates. Types are named by an
 * image (index in target.images) and an index in that image's map; a `dyn` may lead from one
 * image to another.
 */
#ifndef AF_INSPECT_TARGET_H
#define AF_INSPECT_TARGET_H

#include <string.h>

#include "futuremap/futuremap.h"
#include "inspect/memory.h"

struct af_image {
	struct af_futuremap map; /* checked (af_futuremap_check) */
	uint64_t bias;		 /* run-time address = link-time address + bias */
	uint64_t text, text_end; /* run-time bounds of its code; 0: not known */
	uint32_t object;	 /* the caller's number for it */
	/* What each type is to a walk (shape.h), found at first need: one entry per type of the
	   map, zeroed by the caller. NULL: found anew each time, which is slower. */
	uint16_t *shapes;
};

struct af_target {
	struct af_memory *memory;
	const struct af_image *images;
	uint32_t n_images;
};

static inline const struct afm_type *af_target_type(const struct af_target *target, uint32_t image,
						    uint32_t type)
{
	return af_futuremap_types(&target->images[image].map, type);
}

static inline const char *af_target_string(const struct af_target *target, uint32_t image,
					   uint32_t string)
{
	return af_futuremap_string(&target->images[image].map, string);
}

/* The type behind the vtable at run-time `address`: image and type. False if no map knows it,
   or if two different types claim it. */
bool af_target_vtable(const struct af_target *target, uint64_t address, uint32_t *image,
		      uint32_t *type);

/* The field of `type` called `name`, outside variants; NULL if there is none. */
const struct afm_field *af_target_field(const struct af_target *target, uint32_t image,
					uint32_t type, const char *name);

/*
 * Follows a path of field names by value ("core.stage"; names divided by dots) from `*type` at
 * `*address`, to the type and address of the last one. Pointers end a path. False, with both
 * unchanged, where a name is missing.
 */
bool af_target_path(const struct af_target *target, uint32_t image, const char *path,
		    uint32_t *type, uint64_t *address);

enum af_active {
	AF_ACTIVE_FOUND,
	AF_ACTIVE_UNREADABLE, /* the tag could not be read */
	AF_ACTIVE_INVALID,    /* no variant has this tag: stale, or not of this type at all */
	AF_ACTIVE_UNTOLD,     /* debug info does not say how to tell them apart */
};

/* The active variant of the value of `type` at `address`: index in the map's `variants`.
   Also of AFM_T_CENUM. For types without variants AF_ACTIVE_UNTOLD. */
enum af_active af_target_variant(const struct af_target *target, uint32_t image, uint32_t type,
				 uint64_t address, uint32_t *variant);

#endif

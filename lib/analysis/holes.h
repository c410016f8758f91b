/* SPDX-License-Identifier: MIT */
/*
 * Holes: padding between functions, where the second half of a short jump can lie.
 */
#ifndef AF_ANALYSIS_HOLES_H
#define AF_ANALYSIS_HOLES_H

#include "analysis/object.h"
#include "analysis/vector.h"
#include "patch/plan/site.h"

struct af_holes {
	VECTOR(struct af_code_range) items; /* by address */
};

/* Finds the holes of an object: what lies between the functions of its symbol table and is
   nothing but padding. False if memory is short. */
bool af_holes_collect(struct af_holes *holes, const struct af_object *object);
void af_holes_deinit(struct af_holes *holes); /* accepts a zeroed one */
/* Takes AFM_PATCH_NEAR bytes that an 8-bit displacement reaches from `from`; 0 if there are
   none. */
uint64_t af_holes_take(struct af_holes *holes, uint64_t from);

#endif

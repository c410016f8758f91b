/* SPDX-License-Identifier: MIT */
/*
 * What of a value there is to drop, as its type tells: the parts of it that may own something and
 * can be moved out each by itself, and whether there surely is something.
 */
#ifndef AF_ANALYSIS_OWNED_H
#define AF_ANALYSIS_OWNED_H

#include "analysis/build.h"

struct af_owned_part {
	uint64_t offset, size;
	uint32_t type;	/* AFM_NONE: an enum's tag */
	bool sometimes; /* of a variant of an enum: there only if that is the active one */
	bool hollow; /* a Box, out of which what it owns can be moved: the rest is dropped still */
};

/* Up to `max` parts of the value of a type that lies at `offset`; returns how many. More than max:
   there are too many to be told. */
uint32_t af_owned_parts(const struct af_builder *b, uint32_t type, uint64_t offset,
			struct af_owned_part *parts, uint32_t max);
/* Whether dropping a value of this type surely looks at it. */
bool af_owned_surely(const struct af_builder *b, uint32_t type);

#endif

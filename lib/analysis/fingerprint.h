/* SPDX-License-Identifier: MIT */
/*
 * How types are told apart, and the copies of one type found to be that. Pure functions on bytes,
 * for several threads.
 */
#ifndef AF_ANALYSIS_FINGERPRINT_H
#define AF_ANALYSIS_FINGERPRINT_H

#include "analysis/debuginfo.h"

static inline uint64_t af_mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15;
	return hash ^ hash >> 32;
}

/* Of a structure's, union's or enumeration's own members: their names, places, lines. */
uint64_t af_fingerprint(const struct af_die *type);

/* The same for every unit's copy of a type, if the strings were merged; never the same for two
   types. `path` is that of its namespace (struct af_namespace). Less than 2^63. */
uint64_t af_copy_key(uint64_t path, const struct af_die *type);
/* The same without its members: for copies of one definition. */
uint64_t af_copy_head(uint64_t path, const struct af_die *type);

#endif

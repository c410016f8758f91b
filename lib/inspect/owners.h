/* SPDX-License-Identifier: MIT */
/*
 * Which memory of the heap a value owns alone: what its Boxes, Vecs, Strings and hash maps point to.
 * Two places that own the same cannot both be alive: one was moved out, and what is left there are stale
 * bytes. What is shared (Arc, Rc) or borrowed is no sign of that, and not looked at.
 *
 * Thread safety as target.h.
 */
#ifndef AF_INSPECT_OWNERS_H
#define AF_INSPECT_OWNERS_H

#include "inspect/locals.h"

struct af_owner {
	uint64_t memory; /* what is owned */
	uint64_t place;	 /* where the pointer to it lies */
};

/*
 * What the value of `type` at `address` owns, by value: of an enum its active variant, of a coroutine
 * all that its state stores, nothing behind a pointer. Up to `max`; returns how many. Bounded work
 * whatever the memory says.
 */
uint32_t af_owners_find(const struct af_target *target, uint32_t image, uint32_t type,
			uint64_t address, struct af_owner *owners, uint32_t max);

#endif

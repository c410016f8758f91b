/* SPDX-License-Identifier: MIT */
/*
 * The walks through tasks that were taken before, so that most of them need none of the map's tables,
 * whose cache lines are cold where polls are few: what was loaded, in order, and what came of it.
 *
 * A walk is decided by what it loads. So all walks of one root are a tree: a node is one load, its
 * branches are the values that it has had, and at the end of each branch stands the result.
 * Nodes are added, and never changed or taken away; there is room for some thousand.
 * No libc, no vector registers; any thread, signal handlers too.
 */
#ifndef AF_RECORD_PARKED_KNOWN_H
#define AF_RECORD_PARKED_KNOWN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define AF_KNOWN_BASES 16	   /* pointers followed in one walk */
#define AF_KNOWN_EPOCHS (1u << 12) /* from then on nothing is known */

/* An unsigned integer of 1, 2, 4 or 8 bytes of the host's; 0 for any other size. */
static inline uint64_t af_load_tag(uint64_t at, uint32_t size)
{
	switch (size) {
	case 1:
		return *(const volatile uint8_t *)at;
	case 2:
		return *(const volatile uint16_t *)at;
	case 4:
		return *(const volatile uint32_t *)at;
	case 8:
		return *(const volatile uint64_t *)at;
	default:
		return 0;
	}
}

/* Whether there may be anything at a pointer's value. */
static inline bool af_is_plausible(uint64_t pointer)
{
	return pointer >= 4096 && !(pointer >> 47);
}

/*
 * The task at `at` of the root `root` (parked.h), whose place is `place`. `epoch` is another one whenever the
 * same loads may lead elsewhere. Pointers are followed only inside the guard, if `guarded`; `inside`
 * is set where it was entered. Returns the number of leaves, at most `most`, or -1: it is not known.
 */
int af_known_walk(uint64_t root, uint32_t epoch, uint64_t at, uint32_t place, bool guarded,
		  bool *inside, uint32_t *leaves, int most);

/* A walk that is taken, and remembered. */
struct af_trail {
	struct af_known_head *head; /* NULL: not, or no more */
	_Atomic uint32_t *link;	    /* where what comes next belongs */
	uint64_t bases[AF_KNOWN_BASES];
	uint32_t n_bases;
};
void af_trail_begin(struct af_trail *trail, uint64_t root, uint32_t epoch, uint64_t at);
/* `size` bytes at `at`, which is reached from bases[base], were `value`, or were not. */
void af_trail_value(struct af_trail *trail, uint32_t base, uint64_t at, uint32_t size,
		    uint64_t value, bool equal);
/* The pointer at `at` is followed: returns the number of the base that it is. */
uint32_t af_trail_pointer(struct af_trail *trail, uint32_t base, uint64_t at, uint64_t pointer);
void af_trail_end(struct af_trail *trail, const uint32_t *leaves, uint32_t n_leaves);
/* It has met what nothing that it loads decides. */
static inline void af_trail_give_up(struct af_trail *trail)
{
	trail->head = 0;
}

#endif

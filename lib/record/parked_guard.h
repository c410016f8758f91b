/* SPDX-License-Identifier: MIT */
/*
 * The guard of what tokio's tasks point to.
 *
 * Who reads a task enters, follows its pointers, and leaves, within a microsecond or so. Who
 * shuts a task down (tokio's `shutdown` of its vtable, which drops the future) keeps new
 * readers out and waits until all have left; they may enter again some time after the last
 * shutdown. No system call on either side: the host may have forbidden any.
 */
#ifndef AF_RECORD_PARKED_GUARD_H
#define AF_RECORD_PARKED_GUARD_H

#include <stdbool.h>
#include <stdint.h>

/* True: pointers of a task whose root is of place `place` (parked.h) may be followed until
   af_guard_leave(), of the same thread. False: not now, or nothing is guarded. Nests (signal
   handlers). */
bool af_guard_enter(uint32_t place);
void af_guard_leave(void);

/* A task vtable whose `shutdown` is to go through us. */
struct af_guard_vtable {
	uint64_t address;
	void (*shutdown)(void *header); /* what was there */
	uint64_t root;			/* af_parked_root() of its tasks */
	uint64_t payload;		/* for their records: AFR_FUNCTION_SHIFT */
};

/*
 * Readers may enter: `vtables` of place `place`, sorted by address, are guarded from now on. The
 * vtable's address lies in a task's header at `vtable_offset`, and at `id_offset` of the vtable how
 * far from the header the task's id lies. False, and nobody may enter, if these are others
 * than before, if the place has had other vtables, or without memory. Before any hook of
 * that place; one caller at a time.
 */
bool af_guard_start(uint32_t place, const struct af_guard_vtable *vtables, uint32_t count,
		    uint32_t vtable_offset, uint32_t id_offset);

/* Not all of them could be guarded, or the object is gone: nobody may enter. Those that were
   still come to af_guard_shutdown(). */
void af_guard_stop(uint32_t place);

/* Stands in the guarded vtables for `shutdown`: records where the task stands, which is its end,
   and lets no reader be inside around the real one. */
void af_guard_shutdown(void *header);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The objects of this process that are traced: the executable, and libraries that hold futures.
 *
 * One entry is one build at one address, its index the `place` of record/parked.h. Entries are
 * never given to another: what a poll on its way through a stub or cell still uses stays,
 * and a library that comes back to where it was finds its hooks and cells again.
 *
 * One caller at a time: the constructor, then whoever holds the loader's lock (loads.c). libc
 * only, nothing of malloc's; after the constructor no environment either.
 */
#ifndef AF_PRELOAD_OBJECTS_H
#define AF_PRELOAD_OBJECTS_H

#include <stdbool.h>

#include "record/session.h"

/* Looks at what was loaded and unloaded since the last call. True if something came that holds
   futures, as its map in the cache or its data says. */
bool af_objects_find(void);
/* Whether one of the objects can load others. */
bool af_objects_may_load(void);

/* Enters what came into the session's list: with its map where that is in the cache, else
   wanted from the companion. */
void af_objects_enter(struct af_session *s);
/* Of one whose map is still wanted: its state, to be waited for, and the object's name; NULL if
   there is none. */
_Atomic uint32_t *af_objects_wanted(struct af_session *s, const char **name);

/* Opens the maps of those that came, where they are ready: how many. What cannot be opened is
   told by `say`, which may be NULL. */
unsigned af_objects_open(struct af_session *s, void (*say)(const char *what, const char *why));
/* Hooks those whose map is open; or where `why` (enum af_refusal) is not 0, counts their
   functions as refused. */
void af_objects_hook(struct af_session *s, uint32_t why);
/* Lets go of what came, hooked or not. */
void af_objects_settle(void);

#endif

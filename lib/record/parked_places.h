/* SPDX-License-Identifier: MIT */
/*
 * What the walks through tasks (parked.h) know of each place, an object at an address: its steps and
 * vtables. No libc, no vector registers; looked up by any thread, signal handlers too.
 */
#ifndef AF_RECORD_PARKED_PLACES_H
#define AF_RECORD_PARKED_PLACES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "futuremap/futuremap.h"
#include "record/parked.h"

/* The tables of each place's map, copied: the file may be gone or cut short while we run. They
   stay when the object goes: it may come again, and a root's poll may be on its way here. */
struct af_parked_place {
	const struct afm_step *steps;
	const struct afm_step_case *cases;
	const struct afm_step_way *ways;
	const struct afm_vtable *vtables; /* by address */
	const struct afm_stay *stays;	  /* by address */
	uint32_t n_vtables, n_stays;
	uint32_t tokio_state; /* offset of Header.state, or AFM_NONE */
	uint32_t number;      /* of the object in the session */
	uint64_t load_bias;
	uint64_t low, high; /* run-time addresses of its first and its last vtable */
	_Atomic bool loaded;
};
extern struct af_parked_place af_parked_places[AF_PLACES];

/* The step of the type that has this vtable, in whichever object it is: a task of one may hold futures of
   another; and whose it is. AFM_NONE: there is none, or which cannot be told. */
uint32_t af_parked_vtable_step(uint64_t vtable, const struct af_parked_place **place);

/* How often a place has come or gone. To be read before anything else here: whoever finds the new
   number finds what has changed, too. */
uint32_t af_parked_changes(void);

/* It is not there any more; true if the same build is nowhere else either. */
bool af_parked_places_stop(uint32_t place);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The variables of a coroutine where it stands: which of those that debug info lists are
 * alive, as far as can be known from outside.
 *
 * A state lists what is stored in it, not what is alive: variables that were moved out keep
 * their bytes, arguments are listed for ever. What is to be dropped in a state is alive; where the
 * map knows that of a variable (AFM_FF_DROPPED and its like), perhaps by a drop flag (a `bool` called
 * `__N`, 0 once it is gone), nothing is in doubt. Of others little tells: one that may have been
 * moved mostly has a flag too, which does not say whose it is. So one flag at 0 that is not known to
 * be another's makes doubtful everything that could be moved. Nothing is said with more certainty
 * than that:
 *
 * - a variable that is moved where nothing can panic between its making and its move, and that
 *   was borrowed before, has no flag, and is taken for alive (owners.h tells of some);
 * - so is one whose type has nothing to drop: its bytes are what it was when it was moved;
 * - a reference that is stored is taken to point to something that lives.
 *
 * Thread safety as target.h.
 */
#ifndef AF_INSPECT_LOCALS_H
#define AF_INSPECT_LOCALS_H

#include "inspect/value.h"

enum af_local_life {
	AF_LOCAL_ALIVE,
	AF_LOCAL_PASSED,   /* an argument as it was passed; the function is done with it, or works
			      on a copy that is not stored */
	AF_LOCAL_DOUBTFUL, /* may have been moved out: its memory must not be shown as it */
	AF_LOCAL_SHADOWED, /* several have this name, and which is where is not told */
	AF_LOCAL_CLAIMED,  /* another place owns the same memory: was moved there, or from there.
			      Never said by af_locals_find, which looks at one future */
	AF_LOCAL_MOVED,	   /* was moved out, for certain */
};

struct af_local {
	const char *name; /* as the user wrote it; in the map */
	uint32_t type;	  /* in the image's map; never AFM_NONE */
	uint64_t address; /* where it is */
	enum af_local_life life;
	bool is_certain; /* nothing else can tell more of its life */
	bool is_gone;	 /* an argument's own place: nothing has lived there since the first poll */
	bool by_reference; /* captured by reference: the type is a pointer to the variable's */
};

/*
 * The variables of the coroutine of `type` at `address` whose active variant (index in the
 * map's `variants`) is `variant`, in the order of their declaration, captured ones last: up to
 * `max` of them; returns how many. Temporaries of the compiler and of select! and join!, drop
 * flags and what is awaited are left out. None for a state that has returned or panicked.
 * Of a hand-written future, whatever `variant`, the fields that hold no futures; of tokio's only
 * the deadline of a Sleep.
 */
uint32_t af_locals_find(const struct af_target *target, uint32_t image, uint32_t type,
			uint64_t address, uint32_t variant, struct af_local *locals, uint32_t max);

/* "__7": what the compiler made, a drop flag if it is a bool. */
bool af_fate_is_numbered(const char *name);
/* What the map knows of a member of a coroutine at `address` in the state `variant`. */
enum af_fate {
	AF_FATE_UNKNOWN,
	AF_FATE_ALIVE,
	AF_FATE_MOVED,
	AF_FATE_DOUBTFUL, /* a part of it was moved out, or its flag cannot be read */
};
enum af_fate af_locals_fate(const struct af_target *target, uint32_t image, uint64_t address,
			    const struct afm_variant *variant, const struct afm_field *field);
/* Whether a drop flag of a variable that the map does not know is not 1: then any of these may have
   been moved. */
bool af_locals_any_gone(const struct af_target *target, uint32_t image, uint64_t address,
			const struct afm_variant *variant);

/* The value of one: as af_value_print, or "<moved>", "<moved?>", "<shadowed>", or with " (as passed)"
   or " (moved?)". */
void af_local_print(struct af_line *line, const struct af_value_options *options,
		    const struct af_target *target, uint32_t image, const struct af_local *local);

/* From a timer of tokio's (Sleep), at `*address`, to the Instant of its end. It is in the timer's
   entry, which some versions have in an enum of the kinds of timers. False if there is none. */
bool af_locals_deadline(const struct af_target *target, uint32_t image, uint32_t *type,
			uint64_t *address);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A value in memory as text, on one line, as Rust's {:?} would write it:
 *
 *     Order { id: 17, items: [Pair("tea", 2)], place: None, waited: 1.5s }
 *
 * Types are recognised by qualified name and by structure, not by version: what has the
 * name of a Vec but not its fields is shown as the struct that it is. Boxes, references, Rc
 * and Arc show what they point to. What a lock guards is shown while nobody holds it.
 *
 * The memory may be stale, torn, or hold no value of this type at all: what could not be read
 * says <unreadable>, what cannot be (a bool of 2, an enum's unknown tag, text that is no UTF-8,
 * a length beyond its capacity) <invalid>. Work is bounded by the options whatever the memory says.
 *
 * Other than Rust's: SystemTime is a date, an Instant is told from `now`, a dyn is its trait
 * (or the future behind it) and its address, an io::Error its number only, LinkedList its length
 * only, a socket or file its descriptor, types of a runtime's own nothing but their name.
 *
 * Reads only through the target, allocates nothing. Any thread, also in a signal handler.
 */
#ifndef AF_INSPECT_VALUE_H
#define AF_INSPECT_VALUE_H

#include "inspect/line.h"
#include "inspect/target.h"

#define AF_VALUE_TEXT_MAX 256 /* no longer texts are shown */

struct af_value_options {
	uint32_t max_text;     /* bytes of one string; up to AF_VALUE_TEXT_MAX */
	uint32_t max_elements; /* of one list or map */
	uint32_t max_depth;    /* braces within braces */
	uint32_t max_steps;    /* values looked at, all in all */
	bool open_future;      /* a hand-written future is shown by its fields if it is what was
				  asked for; else "<future NAME>", as all those within */
	bool has_now;	       /* CLOCK_MONOTONIC of the moment that is shown: */
	int64_t now_seconds;
	uint32_t now_nanoseconds;
};
/* 100 bytes, 32 elements, 8 deep, 2000 steps, no clock. */
extern const struct af_value_options af_value_defaults;

/* Appends the value of `type` at `address` to the line. `options` NULL: the defaults. */
void af_value_print(struct af_line *line, const struct af_value_options *options,
		    const struct af_target *target, uint32_t image, uint32_t type,
		    uint64_t address);

#endif

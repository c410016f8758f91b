/* SPDX-License-Identifier: MIT */
/*
 * When recording was off, as a walk comes to know it: paused by the program, or stopped since the
 * file was full. Polls may have been made then that nobody has seen, so nothing is believed of
 * that time. The newest intervals are remembered, as many as a program will have, not more.
 */
#ifndef AF_TRACE_PAUSES_H
#define AF_TRACE_PAUSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace/trace.h"

struct af_pauses {
	struct af_off *off; /* by time; they do not overlap */
	size_t n, room;
	uint64_t forgotten; /* ns: until then there were more */
};

void af_pauses_deinit(struct af_pauses *pauses);
/* It is off: the last interval has no end yet. */
bool af_pauses_is_off(const struct af_pauses *pauses);
/* Until when, in ns, the last interval but one that has no end went; 0: there was none. */
uint64_t af_pauses_last_end(const struct af_pauses *pauses);

/* Times in ns. Off that is off already, or on that is on, is no news. False when memory is short. */
bool af_pauses_begin(struct af_pauses *pauses, uint64_t now, bool stopped);
/* `since`: where the begin is not in the trace. */
bool af_pauses_end(struct af_pauses *pauses, uint64_t since, uint64_t now);

/* From the first to the last moment of [begin, end) at which it was off: false if there is none. */
bool af_pauses_within(const struct af_pauses *pauses, uint64_t begin, uint64_t end,
		      struct af_off *gap);

#endif

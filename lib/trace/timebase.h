/* SPDX-License-Identifier: MIT */
/*
 * Ticks to nanoseconds since the trace began. Monotonic and exact to the ns for any
 * session: one 64 by 64 bit multiplication and a shift.
 */
#ifndef AF_TRACE_TIMEBASE_H
#define AF_TRACE_TIMEBASE_H

#include <stdbool.h>
#include <stdint.h>

#include "record/rawtrace.h"

struct af_timebase {
	uint64_t multiplier;
	unsigned shift;
	bool estimated; /* the rate was not in the file */
};

/* `clock` is the last calibration in the file, or NULL where the file has none. */
void af_timebase_init(struct af_timebase *base, const struct afr_header *header,
		      const struct afr_clock *clock);

static inline uint64_t af_timebase_ns(const struct af_timebase *base, uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * base->multiplier) >> base->shift);
}

#endif

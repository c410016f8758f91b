/* SPDX-License-Identifier: MIT */
/*
 * What the two parts of finding drivers share: drivers.c reads debug info, extend.c code.
 */
#ifndef AF_ANALYSIS_DRIVERS_H
#define AF_ANALYSIS_DRIVERS_H

#include "analysis/build.h"

struct af_span {
	uint64_t start, end;
};

/* Adds to the driver, the last one so far, places that follow from those it has. `polls` is
   the code of the inlined polls of its future. */
void af_drivers_extend(struct af_builder *b, const struct af_die *function,
		       struct afm_driver *driver, const struct af_span *polls, size_t n_polls);

#endif

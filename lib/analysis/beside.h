/* SPDX-License-Identifier: MIT */
/*
 * Inside analysis: what the second pass asks of the code and the symbols, and not of types, is done
 * by a thread beside it, where there is a core for that: who calls polls, and the patch sites.
 * The map does not depend on who did it.
 */
#ifndef AF_ANALYSIS_BESIDE_H
#define AF_ANALYSIS_BESIDE_H

#include "analysis/drivers.h"

struct af_beside;

/* After af_polls_collect; b->beside. */
void af_beside_start(struct af_builder *b);
/* Waits for the callers of polls, which the caller of this frees. Before af_polls_complete. */
void af_beside_callers(struct af_builder *b, struct af_callers *callers);
/* Waits for the patch sites. After af_polls_complete. */
void af_beside_sites(struct af_builder *b);
/* Ends the thread, if there still is one. */
void af_beside_stop(struct af_builder *b);

#endif

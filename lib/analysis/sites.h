/* SPDX-License-Identifier: MIT */
/*
 * Inside analysis: the patch sites in the making (sites.c), for beside.c.
 */
#ifndef AF_ANALYSIS_SITES_H
#define AF_ANALYSIS_SITES_H

#include "analysis/build.h"

struct af_sites;

/* After af_polls_collect, before af_polls_complete. NULL when memory is short. */
struct af_sites *af_sites_create(const struct af_builder *b);
void af_sites_destroy(struct af_sites *sites); /* accepts NULL */
/* In any thread: reads code, symbols, and the builder's `parts`. */
void af_sites_plan(struct af_sites *sites);
/* After af_polls_complete: gives the builder what was planned. */
void af_sites_complete(struct af_builder *b, struct af_sites *sites);

#endif

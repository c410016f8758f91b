/* SPDX-License-Identifier: MIT */
/*
 * A future map for people and their tools. docs/formats.md documents the JSON's keys; they are
 * only ever added to.
 */
#ifndef AF_VIEWS_MAP_H
#define AF_VIEWS_MAP_H

#include <stdio.h>

#include "futuremap/futuremap.h"

/* Write what the filter wants of the map to `out`; errors are left in the stream. */
void af_map_print_json(const struct af_futuremap *map, const struct af_filter *filter, FILE *out);
void af_map_print_text(const struct af_futuremap *map, const struct af_filter *filter, FILE *out);
/* Every type with its fields and variants, as JSON. */
void af_map_print_types(const struct af_futuremap *map, FILE *out);

/* "futures", "no-async", "stripped", "line-tables-only". */
const char *af_map_verdict_name(uint32_t verdict);
/* "async fn", "async block", "async closure", "coroutine", "hand-written". */
const char *af_map_future_kind_name(uint32_t kind);
/* "async body", "hand-written", "generator", "task root". */
const char *af_map_poll_kind_name(uint32_t kind);
/* Whether the filter wants a future; polls and roots of one are judged as it is. */
bool af_map_wants_future(const struct af_futuremap *map, const struct af_filter *filter,
			 const struct afm_future *future);
bool af_map_wants_poll(const struct af_futuremap *map, const struct af_filter *filter,
		       const struct afm_poll *poll);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The size report: the largest futures, and what each holds across each await.
 */
#ifndef AF_VIEWS_SIZES_H
#define AF_VIEWS_SIZES_H

#include <stdio.h>

#include "base/error.h"
#include "futuremap/futuremap.h"

/* Largest first. Errors of the stream are left in it. */
struct af_error *af_sizes_print(const struct af_futuremap *map, const struct af_filter *filter,
				bool json, FILE *out) af_must_check;

#endif

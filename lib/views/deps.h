/* SPDX-License-Identifier: MIT */
/*
 * Who awaits whom: the graph from each future to the futures that it awaits.
 */
#ifndef AF_VIEWS_DEPS_H
#define AF_VIEWS_DEPS_H

#include <stdio.h>

#include "base/error.h"
#include "futuremap/futuremap.h"

struct af_deps_options {
	struct af_filter filter; /* which futures become nodes */
	const char *root;	 /* only what this future (and its instances) awaits; or NULL */
	bool collapse;		 /* one node for all instances of a generic */
};

struct af_error *af_deps_print_json(const struct af_futuremap *map,
				    const struct af_deps_options *options, FILE *out) af_must_check;
struct af_error *af_deps_print_dot(const struct af_futuremap *map,
				   const struct af_deps_options *options, FILE *out) af_must_check;

#endif

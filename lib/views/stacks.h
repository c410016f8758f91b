/* SPDX-License-Identifier: MIT */
/*
 * The await stacks of a process, as text, JSON (docs/formats.md) or a graph for Graphviz.
 */
#ifndef AF_VIEWS_STACKS_H
#define AF_VIEWS_STACKS_H

#include <stdio.h>

#include "runtimes/tasks.h"

enum af_stacks_format { AF_STACKS_TEXT, AF_STACKS_JSON, AF_STACKS_DOT };

struct af_stacks_options {
	enum af_stacks_format format;
	struct af_filter filter; /* only tasks with a matching future in their stack */
	bool group;		 /* equal stacks once, with their number */
	bool values;		 /* variables too */
	bool colour;		 /* text only */
};

/* Reads and prints every task of `tasks`, then the threads. */
struct af_error *af_stacks_print(struct af_task_list *tasks,
				 const struct af_stacks_options *options, FILE *out) af_must_check;

#endif

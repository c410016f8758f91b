/* SPDX-License-Identifier: MIT */
/*
 * What a trace says of a wait, as JSON text: by which await stacks the task was parked. Made
 * once for each node and kept, as programs wait at few places many times.
 */
#ifndef AF_VIEWS_WAITS_H
#define AF_VIEWS_WAITS_H

#include <stdbool.h>
#include <stddef.h>

#include "trace/trace.h"

struct af_wait_node;

struct af_wait_texts {
	const struct af_trace *trace;
	struct af_wait_node *nodes; /* by number */
	size_t n_nodes;
	char *text; /* the last one made */
	size_t room;
};

/* `trace` must outlive it. */
void af_wait_texts_init(struct af_wait_texts *texts, const struct af_trace *trace);
void af_wait_texts_deinit(struct af_wait_texts *texts);

/*
 * The members `"name":...,"args":{...}` of this wait, without a brace around them: in the
 * arguments `at`, the innermost await point known; `stack`, outermost level first; `also`,
 * stacks of other branches; `more`, how many further ones there are; `open`;
 * `dropped`; `unknown_begin`. Valid until the next call; NULL if memory is short.
 */
const char *af_wait_members(struct af_wait_texts *texts, const struct af_wait *wait);

#endif

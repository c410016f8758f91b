/* SPDX-License-Identifier: MIT */
/*
 * What the JSON lines of one poll function have in common, made when it is first met.
 *
 * Type names of web servers run to thousands of bytes, and a name stands in every event.
 * One that is too long is cut and gets the function's number, to be still its own; the
 * type's whole name then stands in the first event of the function only.
 */
#ifndef AF_VIEWS_FUNCTION_TEXTS_H
#define AF_VIEWS_FUNCTION_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace/trace.h"

struct af_function_text {
	char *head;	  /* members, from the name to the last argument that is always there */
	size_t length;	  /* of it */
	bool once;	  /* too long for every line: to be shortened after the first */
	uint64_t state;	  /* for which `parked` was made */
	char parked[400]; /* escaped path/file.rs:LINE, or "" */
};

struct af_function_texts {
	struct af_trace *trace;
	struct af_function_text *items;
	uint32_t n; /* the last one serves every unknown function */
};

/* False when memory is short; to be given to deinit in any case. The trace must outlive it. */
bool af_function_texts_init(struct af_function_texts *texts, struct af_trace *trace);
void af_function_texts_deinit(struct af_function_texts *texts);

/* Owned by `texts`; NULL when memory is short. Any number will do. */
struct af_function_text *af_function_text(struct af_function_texts *texts, uint32_t number);
/* The head again, with long names cut. False when memory is short. */
bool af_function_text_shorten(struct af_function_texts *texts, uint32_t number,
			      struct af_function_text *text);
/* The await point that a state of the function's coroutine stands for, escaped; "" if there is
   none to be told. Good until the next call for this function. */
const char *af_function_text_parked(struct af_function_texts *texts, struct af_function_text *text,
				    uint32_t number, uint64_t state);

#endif

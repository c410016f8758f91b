/* SPDX-License-Identifier: MIT */
/*
 * What a recording comes to, for a person at a terminal: how much was seen, what was
 * not hooked and why, what was lost, the longest polls, and how to open the trace.
 */
#ifndef AF_VIEWS_SUMMARY_H
#define AF_VIEWS_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "trace/trace.h"

#define AF_SUMMARY_LONGEST 5
#define AF_SUMMARY_TEXT 128

/* A future as a line shows it. Text that is too long is cut. */
struct af_summary_place {
	char name[AF_SUMMARY_TEXT];
	char at[AF_SUMMARY_TEXT]; /* path/file.rs:LINE, "" if unknown */
};

/* A long outermost poll; the longest one of its kind (same future, same inner one). */
struct af_summary_poll {
	uint64_t duration; /* ns */
	uint64_t begin;	   /* ns since the trace began */
	uint32_t function, inner_function;
	uint64_t inner_duration;
	bool open; /* had not returned at the end */
	struct af_summary_place place;
	struct af_summary_place inner; /* name "": it is the poll itself */
	char thread[16];
};

/* Holds no pointers: may be copied, and outlives the trace. */
struct af_summary {
	struct af_trace_info info; /* its strings are NULL here */
	struct af_walk walk;
	uint32_t tasks;
	uint64_t first, last; /* ns: begin of the first poll, end of the last */
	uint32_t n_longest;
	struct af_summary_poll longest[AF_SUMMARY_LONGEST];
};

/* To be filled along with somebody's walk: init, each span at its end, done. */
void af_summary_init(struct af_summary *summary);
void af_summary_add(struct af_summary *summary, const struct af_trace *trace,
		    const struct af_span *span);
void af_summary_done(struct af_summary *summary, const struct af_trace *trace,
		     const struct af_walk *walk);
/* Or by a walk of its own. */
struct af_error *af_summary_collect(struct af_summary *summary,
				    struct af_trace *trace) af_must_check;

/* `trace_path`: where the trace is, NULL if there is none. */
void af_summary_print(const struct af_summary *summary, FILE *to, bool colour,
		      const char *trace_path);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Chrome trace JSON (the Trace Event Format), as Perfetto, chrome://tracing and
 * speedscope read it. docs/reading-traces.md says what is in it.
 */
#ifndef AF_VIEWS_CHROME_H
#define AF_VIEWS_CHROME_H

#include "base/error.h"
#include "trace/trace.h"
#include "views/summary.h"

/* Writes the whole trace to `output_path`, all of it or nothing. `summary` is filled
   in the same pass; may be NULL. */
struct af_error *af_chrome_write(struct af_trace *trace, const char *output_path,
				 struct af_summary *summary) af_must_check;

#endif

/* SPDX-License-Identifier: MIT */
/* A line on the terminal that shows how far the analysis is, when it takes over a second. */
#ifndef AF_CLI_PROGRESS_H
#define AF_CLI_PROGRESS_H

#include <stdbool.h>
#include <time.h>

#include "analysis/analysis.h"

struct progress {
	struct timespec start;
	bool wanted, shown;
};

/* The clock starts. Nothing is ever shown if `quiet`, or if stderr is no terminal. */
void progress_begin(struct progress *progress, bool quiet);
/* Options that report to it; it must outlive them. */
struct af_analysis_options progress_options(struct progress *progress);
/* Takes the line away. */
void progress_end(struct progress *progress);

#endif

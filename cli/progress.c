/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

void progress_begin(struct progress *progress, bool quiet)
{
	*progress = (struct progress){.wanted = !quiet && isatty(STDERR_FILENO)};
	clock_gettime(CLOCK_MONOTONIC, &progress->start);
}

static void show(void *arg, double fraction)
{
	static const char bar[] = "##############################";
	struct progress *progress = arg;
	struct timespec now;

	if (!progress->wanted)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	double seconds = (double)(now.tv_sec - progress->start.tv_sec) +
			 (double)(now.tv_nsec - progress->start.tv_nsec) / 1e9;
	if (seconds < 1 || !(fraction >= 0 && fraction <= 1))
		return;
	progress->shown = true;
	fprintf(stderr, "\rasyncflame: reading debug info [%-30.*s] %3.0f %%", (int)(fraction * 30),
		bar, fraction * 100);
}

struct af_analysis_options progress_options(struct progress *progress)
{
	return (struct af_analysis_options){.progress = show, .progress_arg = progress};
}

void progress_end(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}

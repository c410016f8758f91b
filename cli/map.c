/* SPDX-License-Identifier: MIT */
/*
 * asyncflame map OBJECT: the future map of an object, as JSON or for people.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "analysis/analysis.h"
#include "cli.h"
#include "views/map.h"
#include "views/sizes.h"

struct arguments {
	const char *object;
	bool text, json; /* as asked for; neither: the usual */
	bool sizes, types;
	struct af_filter filter;
};

static const struct argp_option options[] = {
	{"format", 'f', "FORMAT", 0, "json (the usual one) or text (of --sizes the usual one)", 0},
	{"sizes", 's', NULL, 0, "the largest futures, and what each holds across each await", 0},
	{"types", 't', NULL, 0, "every type that a future can lead to, with its layout, as JSON",
	 0},
	{"filter", 'F', "PATTERNS", 0,
	 "only futures whose name or source path matches; !PATTERN excludes", 0},
	{"generated-only", 'g', NULL, 0, "only what the compiler made of async code", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	const char *why;

	switch (key) {
	case 'f':
		if (strcmp(arg, "json") && strcmp(arg, "text"))
			argp_error(state, "--format is json or text, not %s", arg);
		a->text = !strcmp(arg, "text");
		a->json = !a->text;
		return 0;
	case 's':
		a->sizes = true;
		return 0;
	case 't':
		a->types = true;
		return 0;
	case 'F':
		why = af_filter_check(arg);
		if (why)
			argp_error(state, "--filter: %s", why);
		a->filter.pattern = arg;
		return 0;
	case 'g':
		a->filter.generated_only = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->object)
			argp_error(state, "one object, please");
		a->object = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which object?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* A line on a terminal that shows how far the analysis is, when it takes over a second. */
struct progress {
	struct timespec start;
	bool shown;
};

static void show_progress(void *arg, double fraction)
{
	struct progress *p = arg;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	double elapsed = (double)(now.tv_sec - p->start.tv_sec) +
			 (double)(now.tv_nsec - p->start.tv_nsec) / 1e9;
	if (elapsed < 1 && !p->shown)
		return;
	p->shown = true;
	fprintf(stderr, "\rasyncflame: reading debug info: %3.0f %%", fraction * 100);
}

static int print(const struct arguments *a, const struct af_futuremap *map)
{
	struct af_error *error = NULL;

	if (a->sizes)
		error = af_sizes_print(map, &a->filter, a->json, stdout);
	else if (a->types)
		af_map_print_types(map, stdout);
	else if (a->text)
		af_map_print_text(map, &a->filter, stdout);
	else
		af_map_print_json(map, &a->filter, stdout);
	if (error) {
		fprintf(stderr, "asyncflame: %s\n", error->message);
		af_error_destroy(error);
		return 125;
	}
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "asyncflame: standard output: %s\n", strerror(errno));
		return 125;
	}
	return 0;
}

int cmd_map(int argc, char **argv)
{
	static const struct argp argp = {
		options,  parse,
		"OBJECT", "Prints what debug info knows of the async code in OBJECT.",
		NULL,	  NULL,
		NULL,
	};
	struct arguments a = {0};
	struct progress progress = {0};
	struct af_analysis_options analysis = {0};
	struct af_futuremap map;
	void *data;

	argp_err_exit_status = 125;
	argv[0] = (char[]){"asyncflame map"}; /* what help and errors call it */
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	clock_gettime(CLOCK_MONOTONIC, &progress.start);
	if (isatty(STDERR_FILENO)) {
		analysis.progress = show_progress;
		analysis.progress_arg = &progress;
	}
	struct af_error *error = af_analysis_build(a.object, &analysis, &data, &map.size);
	if (progress.shown)
		fputs("\r\033[K", stderr);
	if (error) {
		fprintf(stderr, "asyncflame: %s\n", error->message);
		af_error_destroy(error);
		return 125;
	}
	map.header = data;
	int status = print(&a, &map);
	free(data);
	return status;
}

/* SPDX-License-Identifier: MIT */
#include "object.h"

#include <stdlib.h>

#include "analysis/analysis.h"
#include "progress.h"

static const struct argp_option options[] = {
	{"filter", 'F', "PATTERNS", 0,
	 "only futures whose name or source path matches; !PATTERN excludes", 0},
	{"generated-only", 'g', NULL, 0, "only what the compiler made of async code", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct object *object = state->input;
	const char *why;

	switch (key) {
	case 'F':
		why = af_filter_check(arg);
		if (why)
			argp_error(state, "--filter: %s", why);
		object->filter.pattern = arg;
		return 0;
	case 'g':
		object->filter.generated_only = true;
		return 0;
	case ARGP_KEY_ARG:
		if (object->path)
			argp_error(state, "one object, please");
		object->path = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which object?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {options, parse, "OBJECT", NULL, NULL, NULL, NULL};
const struct argp_child object_arguments[] = {{&argp, 0, NULL, 0}, {0}};

struct af_error *object_read(struct object *object)
{
	struct progress progress;

	progress_begin(&progress, false);
	const struct af_analysis_options analysis = progress_options(&progress);
	struct af_error *error =
		af_analysis_build(object->path, &analysis, &object->data, &object->map.size);
	progress_end(&progress);
	object->map.header = object->data;
	return error;
}

void object_deinit(struct object *object)
{
	free(object->data);
}

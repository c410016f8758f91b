/* SPDX-License-Identifier: MIT */
/*
 * asyncflame map OBJECT: the future map of an object, as JSON or for people.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "object.h"
#include "views/map.h"
#include "views/sizes.h"

struct arguments {
	struct object object;
	bool text, json; /* as asked for; neither: the usual */
	bool sizes, types;
};

static const struct argp_option options[] = {
	{"format", 'f', "FORMAT", 0, "json (the usual one) or text (of --sizes the usual one)", 0},
	{"sizes", 's', NULL, 0, "the largest futures, and what each holds across each await", 0},
	{"types", 't', NULL, 0, "every type that a future can lead to, with its layout, as JSON",
	 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->object;
		return 0;
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
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static struct af_error *print(const struct arguments *a)
{
	const struct af_futuremap *map = &a->object.map;
	const struct af_filter *filter = &a->object.filter;

	if (a->sizes) {
		struct af_error *error = af_sizes_print(map, filter, a->json, stdout);
		if (error)
			return error;
	} else if (a->types) {
		af_map_print_types(map, stdout);
	} else if (a->text) {
		af_map_print_text(map, filter, stdout);
	} else {
		af_map_print_json(map, filter, stdout);
	}
	if (fflush(stdout) || ferror(stdout))
		return af_error_system(errno, "standard output");
	return NULL;
}

int cmd_map(int argc, char **argv)
{
	static const struct argp argp = {
		options,
		parse,
		NULL,
		"Prints what debug info knows of the async code in OBJECT.",
		object_arguments,
		NULL,
		NULL,
	};
	struct arguments a = {0};

	argp_err_exit_status = CLI_FAILED;
	argv[0] = (char[]){"asyncflame map"}; /* what help and errors call it */
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	struct af_error *error = object_read(&a.object);
	if (!error)
		error = print(&a);
	object_deinit(&a.object);
	return error ? cli_fail(CLI_FAILED, error) : 0;
}

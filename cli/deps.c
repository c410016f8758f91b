/* SPDX-License-Identifier: MIT */
/*
 * asyncflame deps OBJECT: which future awaits which.
 */
#include <argp.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "object.h"
#include "views/deps.h"

struct arguments {
	struct object object;
	const char *format;
	struct af_deps_options deps;
};

static const struct argp_option options[] = {
	{"format", 'f', "FORMAT", 0, "json (the usual one), dot, or svg (made by Graphviz's dot)",
	 0},
	{"root", 'r', "NAME", 0, "only what the future NAME awaits, directly or not", 0},
	{"collapse", 'c', NULL, 0, "one node for all instances of a generic", 0},
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
		if (strcmp(arg, "json") && strcmp(arg, "dot") && strcmp(arg, "svg"))
			argp_error(state, "--format is json, dot or svg, not %s", arg);
		a->format = arg;
		return 0;
	case 'r':
		a->deps.root = arg;
		return 0;
	case 'c':
		a->deps.collapse = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Lets dot make an svg on our standard output out of what is written to *to. */
static struct af_error *start_dot(FILE **to, pid_t *pid)
{
	extern char **environ;
	char *const argv[] = {"dot", "-Tsvg", NULL};
	posix_spawn_file_actions_t actions;
	int ends[2];

	if (pipe(ends) < 0)
		return af_error_system(errno, "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
	posix_spawn_file_actions_addclose(&actions, ends[0]);
	posix_spawn_file_actions_addclose(&actions, ends[1]);
	int failed = posix_spawnp(pid, "dot", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[0]);
	if (failed) {
		close(ends[1]);
		return af_error_system(failed, "dot (Graphviz, needed for svg) cannot be started");
	}
	*to = fdopen(ends[1], "w");
	return *to ? NULL : af_error_system(errno, "pipe");
}

static struct af_error *print(const struct arguments *a, const struct af_futuremap *map)
{
	struct af_error *error;
	FILE *to = stdout;
	pid_t pid;
	int status;

	if (!a->format || !strcmp(a->format, "json"))
		error = af_deps_print_json(map, &a->deps, stdout);
	else if (!strcmp(a->format, "dot"))
		error = af_deps_print_dot(map, &a->deps, stdout);
	else {
		error = start_dot(&to, &pid);
		if (error)
			return error;
		error = af_deps_print_dot(map, &a->deps, to);
		fclose(to);
		if (waitpid(pid, &status, 0) < 0 || status)
			error = error ? error : af_error_create("dot has failed");
		return error;
	}
	if (!error && (fflush(stdout) || ferror(stdout)))
		error = af_error_system(errno, "standard output");
	return error;
}

int cmd_deps(int argc, char **argv)
{
	static const struct argp argp = {
		options,	  parse, NULL, "Prints which future in OBJECT awaits which.",
		object_arguments, NULL,	 NULL,
	};
	struct arguments a = {0};

	argp_err_exit_status = CLI_FAILED;
	argv[0] = (char[]){"asyncflame deps"};
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	a.deps.filter = a.object.filter;
	struct af_error *error = object_read(&a.object);
	if (!error)
		error = print(&a, &a.object.map);
	object_deinit(&a.object);
	return error ? cli_fail(CLI_FAILED, error) : 0;
}

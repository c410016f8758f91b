/* SPDX-License-Identifier: MIT */
/*
 * asyncflame dump PID|CORE: where every task of a process stands.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "progress.h"
#include "runtimes/freeze.h"
#include "runtimes/modules.h"
#include "views/stacks.h"

struct arguments {
	const char *what; /* a pid or the path of a core */
	const char *executable;
	struct af_stacks_options stacks;
	bool freeze;
};

static const struct argp_option options[] = {
	{"format", 'f', "FORMAT", 0, "text (the usual one), json, or dot (for Graphviz)", 0},
	{"group", 'g', NULL, 0, "equal stacks once, with how many there are, most first", 0},
	{"values", 'v', NULL, 0, "the variables that live across each await, too", 0},
	{"filter", 'F', "PATTERNS", 0,
	 "only tasks with a matching future in their stack, by its name or source path; "
	 "!PATTERN excludes",
	 0},
	{"freeze", 'z', NULL, 0,
	 "stop the process while it is read, some milliseconds, for one picture of all tasks", 0},
	{"exe", 'e', "PROGRAM", 0, "the program that the core is of, where it lies elsewhere now",
	 0},
	{0},
};

static const char doc[] =
	"Prints where every task of a process stands: which future at which await, and what that one "
	"awaits in turn, down to the timer, socket, lock or task that is waited for.\v"
	"The process needs no preparation but debug info (a release build gets it by "
	"CARGO_PROFILE_RELEASE_DEBUG=full). It is not stopped, and nothing runs in it: its memory is "
	"read. You must be its user, or root.\n"
	"\n"
	"  asyncflame dump 4711                         every task of process 4711\n"
	"  asyncflame dump --group 4711                 what most of them wait for\n"
	"  asyncflame dump --filter 'shop::db' -v 4711  those in shop::db, with variables\n"
	"  asyncflame dump core.4711 --exe ./shop       the same after a crash\n"
	"\n"
	"How to read it: a task's first line says what was spawned and whether the task is parked (waits "
	"to be woken), scheduled (was woken, waits for its turn) or running. Below it, each line is a "
	"future and the await it stands at; the last ones are what is waited for. The tasks of a join or "
	"select branch. A stack in which the same await shows in every task is where to look first.";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	const char *why;

	switch (key) {
	case 'f':
		if (!strcmp(arg, "text"))
			a->stacks.format = AF_STACKS_TEXT;
		else if (!strcmp(arg, "json"))
			a->stacks.format = AF_STACKS_JSON;
		else if (!strcmp(arg, "dot"))
			a->stacks.format = AF_STACKS_DOT;
		else
			argp_error(state, "--format is text, json or dot, not %s", arg);
		return 0;
	case 'g':
		a->stacks.group = true;
		return 0;
	case 'v':
		a->stacks.values = true;
		return 0;
	case 'z':
		a->freeze = true;
		return 0;
	case 'e':
		a->executable = arg;
		return 0;
	case 'F':
		why = af_filter_check(arg);
		if (why)
			argp_error(state, "--filter: %s", why);
		a->stacks.filter.pattern = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->what)
			argp_error(state, "one process or core, please");
		a->what = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which process or core?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static struct af_error *load_modules(const struct arguments *a, struct af_process *process)
{
	struct progress progress;
	progress_begin(&progress, false);
	struct af_modules_options modules = {.executable = a->executable,
					     .analysis = progress_options(&progress)};
	struct af_error *error = af_modules_load(process, &modules);
	progress_end(&progress);
	return error;
}

/* All digits and no such file: a process. */
static bool is_pid(const char *what, pid_t *pid)
{
	char *end;
	errno = 0;
	long number = strtol(what, &end, 10);
	*pid = (pid_t)number;
	return *what >= '0' && *what <= '9' && !*end && !errno && number > 0 && number == *pid;
}

static struct af_error *open_process(const struct arguments *a, struct af_process *process)
{
	pid_t pid;
	if (is_pid(a->what, &pid))
		return af_process_open_live(process, pid);
	if (a->freeze)
		return af_error_create("--freeze is for a process that runs; %s is a file",
				       a->what);
	return af_process_open_core(process, a->what);
}

static struct af_error *print(const struct arguments *a, struct af_process *process, FILE *to)
{
	struct af_task_list tasks = {0};
	struct af_error *error = af_task_list_find(&tasks, process);
	if (!error)
		error = af_process_still_there(process);
	if (!error)
		af_recorder_find(&tasks.recorder, process);
	if (!error)
		error = af_stacks_print(&tasks, &a->stacks, to);
	if (!error && (fflush(to) || ferror(to)))
		error = af_error_system(errno, "standard output");
	af_task_list_deinit(&tasks);
	return error;
}

/* All that will be read, while the process runs: so that this is what is copied of a large one. */
static void rehearse(const struct arguments *a, struct af_process *process)
{
	FILE *nowhere = fopen("/dev/null", "we");
	process->rehearsing = nowhere;
	if (!nowhere)
		return;
	af_error_destroy(print(a, process, nowhere));
	process->rehearsing = false;
	fclose(nowhere);
}

static struct af_error *freeze(const struct arguments *a, struct af_process *process)
{
	if (af_process_wants_rehearsal(process))
		rehearse(a, process);
	return af_process_freeze(process);
}

static struct af_error *dump(const struct arguments *a, struct af_process *process)
{
	struct af_error *error = open_process(a, process);
	if (error)
		return error;
	error = load_modules(a, process);
	if (!error && !process->core)
		error = af_process_refresh(process);
	if (!error && a->freeze)
		error = freeze(a, process);
	if (!error)
		error = print(a, process, stdout);
	/* Of a process that ended meanwhile this is all there is to say. */
	struct af_error *gone = af_process_still_there(process);
	if (gone) {
		af_error_destroy(error);
		return gone;
	}
	return error;
}

int cmd_dump(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "PID|CORE", doc, NULL, NULL, NULL};
	struct arguments a = {0};
	struct af_process process = {0};
	const char *no_colour = getenv("NO_COLOR");

	argp_err_exit_status = CLI_FAILED;
	argv[0] = (char[]){"asyncflame dump"};
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	a.stacks.colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
	struct af_error *error = dump(&a, &process);
	af_process_close(&process);
	return error ? cli_fail(CLI_FAILED, error) : 0;
}

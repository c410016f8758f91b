/* SPDX-License-Identifier: MIT */
/* The verbs and their help. A first word that is no verb is a program to be traced. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "asyncflame.h"
#include "cli.h"

struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary; /* NULL: not for people */
};

static const struct verb verbs[] = {
	{"run", cmd_run, "trace a program (the word may be left out)"},
	{"convert", cmd_convert, "make a trace from the raw trace of a recording"},
	{"map", cmd_map, "show the future map of a program: its async code, as JSON"},
	{"dump", cmd_dump, "show where every task of a running process, or of a core, stands"},
	{"deps", cmd_deps, "show which future of a program awaits which"},
	{"doctor", cmd_doctor, "say what of a program would be traced, and what mends the rest"},
	{"companion", cmd_companion, NULL},
};

void cli_say(const char *format, ...)
{
	va_list args;
	char text[4096];
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "asyncflame: %s\n", text);
}

int cli_fail(int status, struct af_error *error)
{
	cli_say("%s", error->message);
	af_error_destroy(error);
	return status;
}

bool cli_colour(void)
{
	const char *no_colour = getenv("NO_COLOR");
	return isatty(STDERR_FILENO) && !(no_colour && *no_colour);
}

static void print_help(FILE *to)
{
	fputs("asyncflame shows what an async Rust program does: every poll, every task.\n"
	      "\n"
	      "  asyncflame ./app              run ./app and write app.trace.json\n"
	      "  asyncflame -o t.json ./app    ... to t.json\n"
	      "\n"
	      "Open the trace at https://ui.perfetto.dev. The program needs no change; it needs\n"
	      "debug info, which an optimised build gets by\n"
	      "\n"
	      "  CARGO_PROFILE_RELEASE_DEBUG=full cargo build --release\n"
	      "\n"
	      "Verbs:\n",
	      to);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (verbs[i].summary)
			fprintf(to, "  %-9s %s\n", verbs[i].name, verbs[i].summary);
	fputs("  help      asyncflame help VERB: what a verb can do, with examples\n"
	      "\n"
	      "Guide: docs/guide.md; how to read a trace: docs/reading-traces.md\n",
	      to);
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(verbs[i].name, name) && verbs[i].run)
			return &verbs[i];
	return NULL;
}

static int help(const char *name)
{
	if (!name) {
		print_help(stdout);
		return 0;
	}
	const struct verb *verb = find_verb(name);
	if (!verb) {
		cli_say("no such verb: %s (asyncflame --help lists them)", name);
		return CLI_FAILED;
	}
	char option[] = "--help", *words[] = {(char *)verb->name, option, NULL};
	return verb->run(2, words);
}

/* Files are mapped. One that is cut off meanwhile ends the reader of what is no longer there. */
static void on_bus(int signal)
{
	static const char text[] =
		"asyncflame: a file became shorter while it was read; nothing more can be said of it\n";
	ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);
	(void)written;
	(void)signal;
	_exit(CLI_FAILED);
}

int main(int argc, char **argv)
{
	const char *first = argc > 1 ? argv[1] : NULL;
	if (!first) {
		print_help(stderr);
		return CLI_FAILED;
	}
	if (!strcmp(first, "--help") || !strcmp(first, "-h"))
		return help(NULL);
	if (!strcmp(first, "--version") || !strcmp(first, "-V")) {
		puts("asyncflame " ASYNCFLAME_VERSION_TEXT);
		return 0;
	}
	if (!strcmp(first, "help"))
		return help(argv[2]);
	const struct verb *verb = find_verb(first);
	struct sigaction bus = {.sa_handler = on_bus};
	if (verb && verb->summary && verb->run != cmd_run)
		sigaction(SIGBUS, &bus, NULL);
	if (verb)
		return verb->run(argc - 1, argv + 1);
	return cmd_run(argc, argv);
}

/* SPDX-License-Identifier: MIT */
/*
 * asyncflame run: looks at the program, sets the environment, starts it. Everything else
 * is the library's and its companion's, so that LD_PRELOAD by hand does the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "cli.h"
#include "futuremap/futuremap.h"
#include "record/units.h"
#include "sessions.h"
#include "target.h"

static const char help[] =
	"asyncflame [run] [OPTIONS] [--] PROGRAM [ARGS]\n"
	"\n"
	"Runs PROGRAM and records every poll of its futures. When it has ended, by itself or\n"
	"killed, there is a trace to be opened at https://ui.perfetto.dev.\n"
	"\n"
	"  -o, --output FILE       where the trace goes; PROGRAM.trace.json without it\n"
	"      --filter PATTERNS   trace only futures whose name or file matches: app::*,\n"
	"                          src/db.rs, and !app::noise to leave some out\n"
	"      --generated-only    only async fn and async blocks (and tasks), none that was\n"
	"                          written by hand in a library\n"
	"      --format FORMAT     chrome (JSON) or raw (for asyncflame convert); without it\n"
	"                          the ending of FILE decides: .raw is raw\n"
	"      --children          leave PROGRAM itself alone, trace what it starts\n"
	"      --max-size SIZE     of the recording at most this much: 64M, 2G\n"
	"      --keep newest|oldest  ... and which part of it; newest without it\n"
	"      --flight-recorder SIZE  record into memory, the newest SIZE of it; written at\n"
	"                          the end, and as FILE.1, FILE.2 whenever asyncflame gets\n"
	"                          SIGUSR2\n"
	"      --slow-poll TIME    ... and when a poll takes longer: 500us, 20ms\n"
	"      --int3              hook functions without room for a jump too, by a breakpoint and a\n"
	"                          handler of SIGTRAP: 1 to 3 us a poll; a program that blocks SIGTRAP\n"
	"                          by raw system calls is killed by it, as is one whose debugger\n"
	"                          keeps SIGTRAP to itself\n"
	"      --paused            record nothing until PROGRAM calls asyncflame_resume()\n"
	"  -q, --quiet             no summary at the end\n"
	"  -h, --help\n"
	"\n"
	"PROGRAM keeps its stdin, stdout, arguments, signals and exit status. What it starts\n"
	"is traced as well, each process into a file of its own, if it holds futures.\n"
	"\n"
	"Exit status: PROGRAM's own; 128+n if signal n ended it; 125 if asyncflame cannot\n"
	"trace it (it is not started then); 126 if it cannot be executed; 127 if there is none.\n"
	"\n"
	"Each option has a variable that says the same: ASYNCFLAME_OUTPUT, _FILTER,\n"
	"_GENERATED_ONLY, _FORMAT, _CHILDREN, _MAX_SIZE, _KEEP, _FLIGHT_RECORDER,\n"
	"_SLOW_POLL, _INT3, _PAUSED, _QUIET.\n"
	"\n"
	"Examples:\n"
	"  asyncflame ./target/release/shop --port 8080\n"
	"  asyncflame --filter 'shop::*,!shop::metrics' -o shop.json ./target/release/shop\n"
	"  asyncflame --flight-recorder 64M --slow-poll 20ms ./target/release/shop\n"
	"  asyncflame --children cargo test\n";

struct options {
	const char *output, *filter, *format;
	const char *max_size, *keep, *flight, *slow_poll;
	bool generated_only, children, paused, quiet, int3;
};

/* What goes into the child's environment beside the options. */
struct launch {
	const struct options *options;
	char program[PATH_MAX]; /* of asyncflame */
	char library[PATH_MAX];
	char output[PATH_MAX];
	struct sessions sessions;
};

/* Options */

static bool flag_from_environment(const char *name)
{
	const char *value = getenv(name);
	return value && *value && strcmp(value, "0");
}

static const char *text_from_environment(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

enum {
	OPTION_FILTER = 256,
	OPTION_GENERATED_ONLY,
	OPTION_FORMAT,
	OPTION_CHILDREN,
	OPTION_MAX_SIZE,
	OPTION_KEEP,
	OPTION_FLIGHT,
	OPTION_SLOW_POLL,
	OPTION_INT3,
	OPTION_PAUSED
};

/* Returns the index of the program in argv, or minus (1 + exit status) if we are done. */
static int parse(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{"output", required_argument, NULL, 'o'},
		{"filter", required_argument, NULL, OPTION_FILTER},
		{"generated-only", no_argument, NULL, OPTION_GENERATED_ONLY},
		{"format", required_argument, NULL, OPTION_FORMAT},
		{"children", no_argument, NULL, OPTION_CHILDREN},
		{"max-size", required_argument, NULL, OPTION_MAX_SIZE},
		{"keep", required_argument, NULL, OPTION_KEEP},
		{"flight-recorder", required_argument, NULL, OPTION_FLIGHT},
		{"slow-poll", required_argument, NULL, OPTION_SLOW_POLL},
		{"int3", no_argument, NULL, OPTION_INT3},
		{"paused", no_argument, NULL, OPTION_PAUSED},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	*options = (struct options){
		.output = text_from_environment("ASYNCFLAME_OUTPUT"),
		.filter = text_from_environment("ASYNCFLAME_FILTER"),
		.format = text_from_environment("ASYNCFLAME_FORMAT"),
		.max_size = text_from_environment("ASYNCFLAME_MAX_SIZE"),
		.keep = text_from_environment("ASYNCFLAME_KEEP"),
		.flight = text_from_environment("ASYNCFLAME_FLIGHT_RECORDER"),
		.slow_poll = text_from_environment("ASYNCFLAME_SLOW_POLL"),
		.generated_only = flag_from_environment("ASYNCFLAME_GENERATED_ONLY"),
		.children = flag_from_environment("ASYNCFLAME_CHILDREN"),
		.paused = flag_from_environment("ASYNCFLAME_PAUSED"),
		.quiet = flag_from_environment("ASYNCFLAME_QUIET"),
		.int3 = flag_from_environment("ASYNCFLAME_INT3"),
	};
	char name[] = "asyncflame";
	argv[0] = name;
	for (;;) {
		/* clang-format off */
		switch (getopt_long(argc, argv, "+o:qh", longs, NULL)) {
		case 'o': options->output = optarg; break;
		case OPTION_FILTER: options->filter = optarg; break;
		case OPTION_GENERATED_ONLY: options->generated_only = true; break;
		case OPTION_FORMAT: options->format = optarg; break;
		case OPTION_CHILDREN: options->children = true; break;
		case OPTION_MAX_SIZE: options->max_size = optarg; break;
		case OPTION_KEEP: options->keep = optarg; break;
		case OPTION_FLIGHT: options->flight = optarg; break;
		case OPTION_SLOW_POLL: options->slow_poll = optarg; break;
		case OPTION_INT3: options->int3 = true; break;
		case OPTION_PAUSED: options->paused = true; break;
		case 'q': options->quiet = true; break;
		case 'h': fputs(help, stdout); return -1;
		case -1: return optind;
		default: cli_say("see asyncflame help run"); return -1 - CLI_FAILED;
		}
		/* clang-format on */
	}
}

static bool check_size(const char *option, const char *size)
{
	uint64_t bytes;
	if (!size || af_parse_size(size, &bytes))
		return true;
	cli_say("%s %s: is no size, as 64M and 2G are", option, size);
	return false;
}

/* What is kept of a long recording. */
static bool check_keep(const struct options *options)
{
	uint64_t ns;
	if (!check_size("--max-size", options->max_size) ||
	    !check_size("--flight-recorder", options->flight))
		return false;
	if (options->max_size && options->flight) {
		cli_say("--max-size and --flight-recorder: one of them, please");
		return false;
	}
	if (options->keep && strcmp(options->keep, "oldest") && strcmp(options->keep, "newest")) {
		cli_say("--keep %s: there are oldest and newest", options->keep);
		return false;
	}
	if (options->keep && !options->max_size) {
		cli_say("--keep %s: of what? --max-size says", options->keep);
		return false;
	}
	if (options->slow_poll && !af_parse_duration(options->slow_poll, &ns)) {
		cli_say("--slow-poll %s: is no duration, as 500us and 20ms are",
			options->slow_poll);
		return false;
	}
	if (options->slow_poll && !options->flight) {
		cli_say("--slow-poll %s: makes a --flight-recorder write what it has",
			options->slow_poll);
		return false;
	}
	return true;
}

static bool check_options(struct options *options)
{
	const char *why = options->filter ? af_filter_check(options->filter) : NULL;
	if (why) {
		cli_say("--filter %s: %s", options->filter, why);
		return false;
	}
	if (options->format && strcmp(options->format, "chrome") &&
	    strcmp(options->format, "raw")) {
		cli_say("--format %s: there are chrome and raw", options->format);
		return false;
	}
	if (!check_keep(options))
		return false;
	size_t length = options->output ? strlen(options->output) : 0;
	if (!options->format)
		options->format = length > 4 && !strcmp(options->output + length - 4, ".raw")
					  ? "raw"
					  : "chrome";
	return true;
}

/* The output: absolute, since the program may change its directory, and writable, since
   nobody wants to learn that afterwards. */

static bool can_create_in(const char *directory)
{
	char name[PATH_MAX];
	int n = snprintf(name, sizeof(name), "%s/.asyncflame.XXXXXX", directory);
	int fd = n > 0 && (size_t)n < sizeof(name) ? mkstemp(name) : -1;
	if (fd < 0)
		return false;
	close(fd);
	unlink(name);
	return true;
}

static bool check_output(const char *output)
{
	struct stat st;
	bool exists = stat(output, &st) == 0;
	if (exists && S_ISDIR(st.st_mode)) {
		cli_say("output %s: is a directory", output);
		return false;
	}
	if (exists && access(output, W_OK) < 0) {
		cli_say("output %s: %s", output, strerror(errno));
		return false;
	}
	if (exists && !S_ISREG(st.st_mode))
		return true;
	/* The file that a symbolic link leads to is what will be replaced. */
	char *real = exists ? realpath(output, NULL) : NULL;
	char *directory = strdup(real ? real : output);
	char *slash = directory ? strrchr(directory, '/') : NULL;
	if (slash)
		slash[slash == directory] = '\0';
	bool good = directory && can_create_in(directory);
	if (!good)
		cli_say("output %s: cannot be created: %s", output, strerror(errno));
	free(directory);
	free(real);
	return good;
}

static bool set_output(struct launch *launch, const struct target *target)
{
	const struct options *options = launch->options;
	char name[PATH_MAX], directory[PATH_MAX] = "";
	if (options->output)
		snprintf(name, sizeof(name), "%s", options->output);
	else
		snprintf(name, sizeof(name), "%.200s.trace.%s", target->base,
			 strcmp(options->format, "raw") ? "json" : "raw");
	if (name[0] != '/' && !getcwd(directory, sizeof(directory))) {
		cli_say("the current directory: %s", strerror(errno));
		return false;
	}
	int n = snprintf(launch->output, sizeof(launch->output), "%s%s%s", directory,
			 name[0] == '/' ? "" : "/", name);
	if (n < 0 || (size_t)n >= sizeof(launch->output)) {
		cli_say("output %s: %s", name, strerror(ENAMETOOLONG));
		return false;
	}
	return check_output(launch->output);
}

/* The library */

static bool find_program(struct launch *launch)
{
	ssize_t n = readlink("/proc/self/exe", launch->program, sizeof(launch->program) - 1);
	if (n <= 0) {
		cli_say("/proc/self/exe: %s", strerror(n ? errno : ENOENT));
		return false;
	}
	launch->program[n] = '\0';
	return true;
}

/* Beside the program, as it lies in the build directory or where it is installed. */
static bool find_library(struct launch *launch)
{
	static const char *const places[] = {
#if defined(__x86_64__)
		"../lib/x86_64-linux-gnu/",
#elif defined(__aarch64__)
		"../lib/aarch64-linux-gnu/",
#endif
		"../lib/",
		"../lib/asyncflame/",
		"../lib64/",
	};
	const char *given = text_from_environment("ASYNCFLAME_LIBRARY");
	if (given) {
		if (realpath(given, launch->library))
			return true;
		cli_say("ASYNCFLAME_LIBRARY=%s: %s", given, strerror(errno));
		return false;
	}
	int directory = (int)(strrchr(launch->program, '/') + 1 - launch->program);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char path[2 * PATH_MAX];
		snprintf(path, sizeof(path), "%.*s%slibasyncflame.so", directory, launch->program,
			 places[i]);
		if (realpath(path, launch->library))
			return true;
	}
	cli_say("libasyncflame.so is not beside %s; ASYNCFLAME_LIBRARY can name it",
		launch->program);
	return false;
}

/* LD_PRELOAD is split at blanks and colons, and knows no quotes: a library that lies
   behind such a name gets another one in the run directory. */
static bool plain_library(struct launch *launch)
{
	char link[PATH_MAX + 32];
	if (!strpbrk(launch->library, " :"))
		return true;
	snprintf(link, sizeof(link), "%s/libasyncflame.so", launch->sessions.directory);
	if (strpbrk(link, " :") || strlen(link) >= sizeof(launch->library) ||
	    symlink(launch->library, link) < 0) {
		cli_say("%s: a name with blanks or colons cannot be preloaded", launch->library);
		return false;
	}
	strcpy(launch->library, link);
	return true;
}

/* Between fork and exec */

static void set_or_unset(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

static void prepare(void *arg)
{
	const struct launch *launch = arg;
	const struct options *options = launch->options;
	char pid[16], *preload = NULL;
	const char *others = text_from_environment("LD_PRELOAD");
	if (others && asprintf(&preload, "%s:%s", launch->library, others) < 0)
		preload = NULL;
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	setenv("LD_PRELOAD", preload ? preload : launch->library, 1);
	setenv("ASYNCFLAME_PROGRAM", launch->program, 1);
	setenv("ASYNCFLAME_OUTPUT", launch->output, 1);
	setenv("ASYNCFLAME_RUN", launch->sessions.directory, 1);
	setenv("ASYNCFLAME_MAIN_PID", pid, 1);
	setenv("ASYNCFLAME_FORMAT", options->format, 1);
	set_or_unset("ASYNCFLAME_FILTER", options->filter);
	set_or_unset("ASYNCFLAME_MAX_SIZE", options->max_size);
	set_or_unset("ASYNCFLAME_KEEP", options->keep);
	set_or_unset("ASYNCFLAME_FLIGHT_RECORDER", options->flight);
	set_or_unset("ASYNCFLAME_SLOW_POLL", options->slow_poll);
	set_or_unset("ASYNCFLAME_GENERATED_ONLY", options->generated_only ? "1" : NULL);
	set_or_unset("ASYNCFLAME_CHILDREN", options->children ? "1" : NULL);
	set_or_unset("ASYNCFLAME_INT3", options->int3 ? "1" : NULL);
	set_or_unset("ASYNCFLAME_PAUSED", options->paused ? "1" : NULL);
	set_or_unset("ASYNCFLAME_QUIET", options->quiet ? "1" : NULL);
	free(preload);
}

/* The companions look at the time of this file (cli/flight.c). */
static void ask_for_snapshot(void *arg)
{
	const struct launch *launch = arg;
	char path[PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s/snapshot", launch->sessions.directory);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || futimens(fd, NULL) < 0)
		cli_say("no snapshot: %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* All of it */

static void say_if_nothing(const struct launch *launch, const struct target *target)
{
	const struct sessions *sessions = &launch->sessions;
	if (sessions->traced || sessions->living || launch->options->quiet)
		return;
	if (sessions->reason[0])
		cli_say("nothing was traced: %s", sessions->reason);
	else if (target->kind == TARGET_OTHER)
		cli_say("nothing was traced: %s, and nothing that it started holds futures",
			target->message);
	else if (launch->options->children)
		cli_say("nothing was traced: %s started nothing that holds futures", target->base);
	else
		cli_say("nothing was traced: the library made no recording of %s", target->base);
}

static int start(struct launch *launch, const struct target *target, char **argv)
{
	if (!sessions_init(&launch->sessions)) {
		cli_say("no place for a run directory (XDG_RUNTIME_DIR, /tmp): %s",
			strerror(errno));
		return CLI_FAILED;
	}
	if (!plain_library(launch)) {
		sessions_finish(&launch->sessions, launch->options->quiet);
		return CLI_FAILED;
	}
	int status = child_run(target->path, argv, prepare,
			       launch->options->flight ? ask_for_snapshot : NULL, launch);
	sessions_finish(&launch->sessions, launch->options->quiet);
	if (status != CLI_NOT_FOUND && status != CLI_CANNOT_EXECUTE)
		say_if_nothing(launch, target);
	return status;
}

int cmd_run(int argc, char **argv)
{
	static struct launch launch;
	static struct target target;
	struct options options;
	int program = parse(&options, argc, argv);
	if (program < 0)
		return -1 - program;
	if (program == argc) {
		cli_say("no program given; see asyncflame help run");
		return CLI_FAILED;
	}
	launch.options = &options;
	if (!check_options(&options) || !find_program(&launch) || !find_library(&launch))
		return CLI_FAILED;
	target_check(&target, argv[program], options.quiet);
	if (target.kind == TARGET_NO_START ||
	    (target.kind == TARGET_UNTRACEABLE && !options.children)) {
		cli_say("%s", target.message);
		return target.status;
	}
	if (!set_output(&launch, &target))
		return CLI_FAILED;
	return start(&launch, &target, argv + program);
}

/* SPDX-License-Identifier: MIT */
/* asyncflame convert: a raw trace, whole or cut off, to a trace that viewers read. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "trace/trace.h"
#include "views/chrome.h"

static const char help[] =
	"asyncflame convert [OPTIONS] RAW\n"
	"\n"
	"Makes a Chrome trace from RAW, a recording that asyncflame run --format raw has kept\n"
	"or that a killed one has left behind. A recording that is cut off gives everything up\n"
	"to the cut.\n"
	"\n"
	"  -o, --output FILE    where the trace goes; RAW with .json for .raw without it\n"
	"      --format chrome  the one format there is\n"
	"  -q, --quiet          no summary\n"
	"  -h, --help\n"
	"\n"
	"Example:\n"
	"  asyncflame -o shop.raw ./shop && asyncflame convert shop.raw -o shop.json\n";

struct options {
	const char *output;
	bool quiet;
};

static int usage(void)
{
	cli_say("see asyncflame help convert");
	return CLI_FAILED;
}

/* Returns the index of RAW in argv, or minus (1 + exit status) if we are done. */
static int parse(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{"output", required_argument, NULL, 'o'},
		{"format", required_argument, NULL, 'f'},
		{"quiet", no_argument, NULL, 'q'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	char name[] = "asyncflame";
	argv[0] = name;
	for (;;) {
		/* clang-format off */
		switch (getopt_long(argc, argv, "o:qh", longs, NULL)) {
		case 'o': options->output = optarg; break;
		case 'q': options->quiet = true; break;
		case 'h': fputs(help, stdout); return -1;
		case 'f':
			if (!strcmp(optarg, "chrome"))
				break;
			cli_say("--format %s: there is only chrome", optarg);
			return -1 - CLI_FAILED;
		case -1: return optind == argc - 1 ? optind : -1 - usage();
		default: return -1 - usage();
		}
		/* clang-format on */
	}
}

static bool cut_end(const char *text, size_t *length, const char *end)
{
	size_t n = strlen(end);
	bool found = *length > n && !strncmp(text + *length - n, end, n);
	*length -= found ? n : 0;
	return found;
}

/* out.raw -> out.json; out.json.recording, which was left behind -> out.json */
static char *default_output(const char *raw)
{
	size_t length = strlen(raw), whole;
	if (!cut_end(raw, &length, ".raw"))
		cut_end(raw, &length, ".recording");
	whole = length;
	const char *suffix = cut_end(raw, &length, ".json") ? "" : ".json";
	char *output;
	return asprintf(&output, "%.*s%s", (int)whole, raw, suffix) < 0 ? NULL : output;
}

int cmd_convert(int argc, char **argv)
{
	struct options options = {0};
	int raw = parse(&options, argc, argv);
	if (raw < 0)
		return -1 - raw;
	char *output = options.output ? strdup(options.output) : default_output(argv[raw]);
	if (!output) {
		cli_say("out of memory");
		return CLI_FAILED;
	}
	static struct af_summary summary;
	struct af_trace *trace = NULL;
	struct af_error *error = af_trace_open(&trace, argv[raw]);
	if (!error)
		error = af_chrome_write(trace, output, &summary);
	if (!error && !options.quiet)
		af_summary_print(&summary, stderr, cli_colour(), output);
	af_trace_close(trace);
	free(output);
	return error ? cli_fail(CLI_FAILED, error) : 0;
}

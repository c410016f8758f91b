/* SPDX-License-Identifier: MIT */
#include "preload/config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "record/session.h"
#include "record/units.h"

static const char *text(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

/* Set, and not to something that means no. */
static bool flag(const char *name)
{
	const char *value = text(name);
	return value && strcmp(value, "0") && strcmp(value, "no") && strcmp(value, "false");
}

static bool ends_in(const char *string, const char *end)
{
	size_t n = strlen(string), m = strlen(end);
	return n >= m && !strcmp(string + n - m, end);
}

static void read_keep(struct af_config *config)
{
	const char *size = text("ASYNCFLAME_FLIGHT_RECORDER"), *which = text("ASYNCFLAME_KEEP");
	const char *slow = text("ASYNCFLAME_SLOW_POLL");
	if (slow && !af_parse_duration(slow, &config->slow_poll))
		config->slow_poll = 0;
	if (size && af_parse_size(size, &config->keep_bytes))
		config->keep = AF_KEEP_IN_MEMORY;
	else if ((size = text("ASYNCFLAME_MAX_SIZE")) && af_parse_size(size, &config->keep_bytes))
		config->keep = which && !strcmp(which, "oldest") ? AF_KEEP_OLDEST : AF_KEEP_NEWEST;
	else
		config->keep_bytes = 0;
}

void af_config_read(struct af_config *config)
{
	const char *format = text("ASYNCFLAME_FORMAT"), *pid = text("ASYNCFLAME_MAIN_PID");
	*config = (struct af_config){
		.output = text("ASYNCFLAME_OUTPUT"),
		.filter = text("ASYNCFLAME_FILTER"),
		.program = text("ASYNCFLAME_PROGRAM"),
		.run_directory = text("ASYNCFLAME_RUN"),
		.main_pid = pid ? (uint32_t)strtoul(pid, NULL, 10) : 0,
		.children_only = flag("ASYNCFLAME_CHILDREN"),
		.generated_only = flag("ASYNCFLAME_GENERATED_ONLY"),
		.quiet = flag("ASYNCFLAME_QUIET"),
		.int3 = flag("ASYNCFLAME_INT3"),
		.paused = flag("ASYNCFLAME_PAUSED"),
	};
	config->format_raw =
		format ? !strcmp(format, "raw") : config->output && ends_in(config->output, ".raw");
	read_keep(config);
}

/* SPDX-License-Identifier: MIT */
#include "preload/config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

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
	};
	config->format_raw =
		format ? !strcmp(format, "raw") : config->output && ends_in(config->output, ".raw");
}

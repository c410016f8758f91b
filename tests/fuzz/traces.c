/* SPDX-License-Identifier: MIT */
/* Whatever a raw trace's bytes are, it is an error or can be walked, and spans nest in time. */
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "trace/trace.h"

static size_t read_strings(const struct af_function *function)
{
	return strlen(function->name) + strlen(function->future) + strlen(function->file);
}

static bool at_begin(void *context, struct af_span *span)
{
	span->cookie = span->begin + 1;
	return true;
}

static bool at_end(void *context, struct af_span *span)
{
	const char *file;
	uint32_t line;
	const struct af_trace *trace = context;
	const struct af_function *function = af_trace_function(trace, span->function);
	if (span->cookie != span->begin + 1 || span->end < span->begin)
		abort();
	if (af_function_await(trace, function, span->state, &file, &line) && !file)
		abort();
	read_strings(function);
	read_strings(af_trace_function(trace, span->inner_function));
	return true;
}

static bool at_wait(void *context, const struct af_wait *wait)
{
	const struct af_trace *trace = context;
	struct af_level level;
	if (wait->end < wait->begin)
		abort();
	for (uint32_t i = 0; i < wait->n_nodes; i++) {
		uint32_t number = wait->nodes[i];
		for (uint32_t depth = 0; depth < AF_LEVELS_MAX; depth++) {
			if (!af_trace_level(trace, number, &level))
				break;
			if (strlen(level.name) + strlen(level.file) > SIZE_MAX / 2)
				abort();
			number = level.parent;
		}
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct af_visitor visitor = {at_begin, at_end, at_wait};
	struct af_trace *trace;
	struct af_walk walk;

	struct af_error *error = af_trace_open(&trace, fuzz_input(data, size));
	if (!error) {
		const struct af_trace_info *info = af_trace_info(trace);
		for (uint32_t i = 0; i < info->n_threads; i++)
			if (af_trace_thread(trace, i)->index != i)
				abort();
		error = af_trace_walk(trace, &visitor, trace, &walk);
		for (uint32_t i = 1; !error && i <= af_trace_n_tasks(trace); i++)
			if (af_trace_task(trace, i)->number != i)
				abort();
		af_trace_close(trace);
	}
	af_error_destroy(error);
	return 0;
}

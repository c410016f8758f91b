/* SPDX-License-Identifier: MIT */
/* What a trace says about its process, threads, functions and await points. */
#include "trace/internal.h"

const struct af_trace_info *af_trace_info(const struct af_trace *trace)
{
	return &trace->info;
}

const struct af_thread *af_trace_thread(const struct af_trace *trace, uint32_t index)
{
	return &trace->threads[index].thread;
}

const struct af_function *af_trace_function(const struct af_trace *trace, uint32_t number)
{
	static const struct af_function unknown = {
		.name = "(unknown function)",
		.future = "",
		.file = "",
		.library = "",
		.object = AFM_NONE,
	};
	if (number >= trace->info.n_functions || !trace->functions[number].name)
		return &unknown;
	return &trace->functions[number];
}

uint32_t af_trace_owner(const struct af_trace *trace, uint32_t number)
{
	uint32_t object = af_trace_function(trace, number)->object;
	return object == AFM_NONE ? 0 : trace->objects[object].number;
}

const char *af_span_result_text(enum af_span_result result)
{
	static const char *const text[] = {
		[AF_SPAN_UNKNOWN] = "unknown", [AF_SPAN_READY] = "ready",
		[AF_SPAN_PENDING] = "pending", [AF_SPAN_PANICKED] = "panicked",
		[AF_SPAN_OPEN] = "open",       [AF_SPAN_LOST] = "lost",
	};
	return text[result];
}

/* The variant with this discriminant: rustc numbers them in order, so look there first. */
static const struct afm_variant *find_variant(const struct af_futuremap *map,
					      const struct afm_type *type, uint64_t discr)
{
	for (uint32_t n = 0; n <= type->n_variants; n++) {
		uint64_t i = n ? n - 1 : discr;
		if (i >= type->n_variants)
			continue;
		const struct afm_variant *variant =
			af_futuremap_variants(map, type->first_variant + (uint32_t)i);
		if (variant->discr == discr && !(variant->flags & AFM_VF_DEFAULT))
			return variant;
	}
	return NULL;
}

bool af_function_await(const struct af_trace *trace, const struct af_function *function,
		       uint64_t state, const char **file, uint32_t *line)
{
	if (function->object == AFM_NONE || state < 3)
		return false;
	const struct af_futuremap *map = &trace->maps[function->object];
	const struct afm_poll *poll = af_futuremap_polls(map, function->poll);
	/* Where the linker folded several bodies into one, the state says how far it
	   got, but not in which of them. */
	if (poll->n_futures != 1)
		return false;
	const struct afm_future *future =
		af_futuremap_futures(map, *af_futuremap_poll_futures(map, poll->first_future));
	const struct afm_variant *variant =
		find_variant(map, af_futuremap_types(map, future->type), state);
	if (!variant || !variant->line)
		return false;
	*file = af_futuremap_string(map, variant->file);
	*line = variant->line;
	return true;
}

/* Of what a look has seen. */
static bool seen_level(const struct af_futuremap *map, const struct af_trace_node *node,
		       struct af_level *level)
{
	if (node->type >= map->header->types.count)
		return false;
	const struct afm_type *type = af_futuremap_types(map, node->type);
	bool future = type->future != AFM_NONE;
	*level = (struct af_level){
		.parent = node->parent,
		.name = af_futuremap_string(
			map, future ? af_futuremap_futures(map, type->future)->name : type->name),
		.file = "",
		.started = node->state != AFR_LEVEL_NOT_STARTED,
	};
	if (node->state != AFR_LEVEL_SUSPENDED || node->variant >= map->header->variants.count)
		return true;
	const struct afm_variant *variant = af_futuremap_variants(map, node->variant);
	level->file = af_futuremap_string(map, variant->file);
	level->line = variant->line;
	return true;
}

bool af_trace_level(const struct af_trace *trace, uint32_t number, struct af_level *level)
{
	if (!number || number > trace->n_nodes || !trace->nodes[number - 1].number)
		return false;
	const struct af_trace_node *node = &trace->nodes[number - 1];
	uint32_t index = af_trace_map(trace, node->object);
	if (index == AFM_NONE)
		return false;
	if (node->step_case == AFM_NONE)
		return seen_level(&trace->maps[index], node, level);
	if (node->step_case >= trace->maps[index].header->step_cases.count)
		return false;
	const struct af_futuremap *map = &trace->maps[index];
	const struct afm_step_case *c = af_futuremap_step_cases(map, node->step_case);
	const struct afm_step *step = af_futuremap_steps(map, c->step);
	const struct afm_type *type = af_futuremap_types(map, step->type);
	uint32_t name = type->name;
	if (type->future != AFM_NONE)
		name = af_futuremap_futures(map, type->future)->name;
	*level = (struct af_level){
		.parent = node->parent,
		.name = af_futuremap_string(map, name),
		.file = "",
		.started = true,
	};
	if (!(step->flags & AFM_SF_COROUTINE) || c->variant == AFM_NONE)
		return true;
	/* An unresumed coroutine's place is where it is defined. */
	const struct afm_variant *variant = af_futuremap_variants(map, c->variant);
	level->started = c->tag != 0;
	level->file = af_futuremap_string(map, variant->file);
	level->line = variant->line;
	return true;
}

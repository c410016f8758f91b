/* SPDX-License-Identifier: MIT */
#include "trace/driven.h"

#include <stdlib.h>
#include <string.h>

/* Names */

static struct af_driven_type *find_type(const struct af_trace *trace, uint32_t map, uint32_t type)
{
	for (uint32_t i = 0; i < trace->n_driven_types; i++)
		if (trace->driven_types[i].map == map && trace->driven_types[i].type == type)
			return &trace->driven_types[i];
	return NULL;
}

static void add_type(struct af_trace *trace, uint32_t index, uint32_t type)
{
	const struct af_futuremap *map = &trace->maps[index];
	const struct afm_type *t = af_futuremap_types(map, type);
	uint32_t function = trace->info.n_functions;
	if (t->future == AFM_NONE || function >= AFR_FUNCTIONS_MAX || find_type(trace, index, type))
		return;
	const struct afm_future *future = af_futuremap_futures(map, t->future);
	trace->functions[function] = (struct af_function){
		.name = af_futuremap_string(map, future->name),
		.future = af_futuremap_string(map, t->name),
		.file = af_futuremap_string(map, future->file),
		.line = future->line,
		.library = "",
		.object = AFM_NONE,
	};
	trace->driven_types[trace->n_driven_types++] = (struct af_driven_type){
		.map = index, .type = type, .function = function, .size = t->size};
	trace->info.n_functions++;
}

bool af_driven_read(struct af_trace *trace)
{
	size_t n = 0;
	for (size_t i = 0; i < trace->n_maps; i++)
		n += trace->maps[i].header->stays.count;
	struct af_function *more =
		reallocarray(trace->functions, trace->info.n_functions + n + 1, sizeof(*more));
	if (!more)
		return false;
	trace->functions = more;
	trace->driven_types = calloc(n + 1, sizeof(*trace->driven_types));
	if (!trace->driven_types)
		return false;
	for (uint32_t i = 0; i < trace->n_maps; i++) {
		const struct af_futuremap *map = &trace->maps[i];
		for (uint32_t k = 0; k < map->header->stays.count; k++)
			add_type(trace, i,
				 af_futuremap_steps(map, af_futuremap_stays(map, k)->step)->type);
	}
	return true;
}

/* The future that the outermost level above node `number` is; NULL if that cannot be told. */
static const struct af_driven_type *type_above(const struct af_trace *trace, uint32_t number)
{
	struct af_level level;
	for (uint32_t i = 0; i < AF_LEVELS_MAX && af_trace_level(trace, number, &level); i++) {
		const struct af_trace_node *node = &trace->nodes[number - 1];
		if (node->parent) {
			number = node->parent;
			continue;
		}
		uint32_t index = af_trace_map(trace, node->object);
		if (index == AFM_NONE || node->step_case == AFM_NONE)
			return NULL;
		const struct af_futuremap *map = &trace->maps[index];
		uint32_t step = af_futuremap_step_cases(map, node->step_case)->step;
		return find_type(trace, index, af_futuremap_steps(map, step)->type);
	}
	return NULL;
}

/* Tasks */

uint32_t af_driven_task(const struct af_trace *trace, uint32_t map, uint32_t type, uint64_t address)
{
	const struct af_driven_type *t = find_type(trace, map, type);
	return t ? af_tasks_lookup(&trace->tasks, AF_KEY_SELF, address & AFR_SUBJECT_MASK,
				   t->function)
		 : 0;
}

/* Whether polls of the future are recorded: then they say when it waits. */
static bool has_polls(const struct af_trace *trace, const struct af_driven_type *t,
		      uint64_t address)
{
	const struct af_futuremap *map = &trace->maps[t->map];
	const struct afm_future *future =
		af_futuremap_futures(map, af_futuremap_types(map, t->type)->future);
	for (uint32_t i = 0; i < future->n_polls; i++) {
		uint32_t function = trace->objects[t->map].first_function +
				    *af_futuremap_future_polls(map, future->first_poll + i);
		uint32_t task = af_tasks_lookup(&trace->tasks, AF_KEY_SELF, address, function);
		if (task && af_tasks_get(&trace->tasks, task)->state == AF_TASK_ALIVE)
			return true;
	}
	return false;
}

static uint32_t node_future(const struct af_futuremap *map, const struct af_trace_node *node)
{
	if (node->step_case == AFM_NONE)
		return AFM_NONE;
	uint32_t step = af_futuremap_step_cases(map, node->step_case)->step;
	return af_futuremap_types(map, af_futuremap_steps(map, step)->type)->future;
}

/* Whether a level of the stacks that `d` waits with is of the type that `function` polls. */
static bool is_level(const struct af_trace *trace, const struct af_driven *d,
		     const struct af_function *function)
{
	struct af_level level;
	if (function->object == AFM_NONE)
		return false;
	const struct af_futuremap *map = &trace->maps[function->object];
	const struct afm_poll *poll = af_futuremap_polls(map, function->poll);
	if (poll->n_futures != 1)
		return false;
	uint32_t future = *af_futuremap_poll_futures(map, poll->first_future);
	for (uint32_t i = 0; i < d->n_nodes; i++) {
		uint32_t number = d->nodes[i];
		for (uint32_t k = 0; k < AF_LEVELS_MAX && af_trace_level(trace, number, &level);
		     k++) {
			const struct af_trace_node *node = &trace->nodes[number - 1];
			if (af_trace_map(trace, node->object) == function->object &&
			    node_future(map, node) == future)
				return true;
			number = level.parent;
		}
	}
	return false;
}

/* What lies in the future, or is awaited behind a pointer, and was polled before we knew, looked
   like a task. */
static void take_parts(struct af_span_stack *stack, const struct af_trace *trace,
		       struct af_driven *d)
{
	for (uint32_t i = 0; i < stack->n_loose; i++) {
		struct af_task *task = af_tasks_get(&trace->tasks, stack->loose[i]);
		bool inside = task->subject - d->address < d->size;
		if (task->state != AF_TASK_ALIVE || task->number == d->task ||
		    (!inside && !is_level(trace, d, af_trace_function(trace, task->function))))
			continue;
		task->state = AF_TASK_GONE;
		task->pending = false;
		/* One whose waits were told keeps the track that they are on. */
		if (task->polls <= 1)
			task->part_of = d->task;
		memmove(d->parts + 1, d->parts, sizeof(d->parts) - sizeof(d->parts[0]));
		d->parts[0] = task->number;
	}
	stack->n_loose = 0;
}

static bool is_part(const struct af_trace *trace, const struct af_driven *d, uint64_t self,
		    uint32_t function)
{
	for (uint32_t i = 0; i < AF_DRIVEN_PARTS && d->parts[i]; i++) {
		const struct af_task *task = af_tasks_get(&trace->tasks, d->parts[i]);
		if (task->subject == self && task->function == function)
			return true;
	}
	return self - d->address < d->size;
}

/* Waits */

static void tell(struct af_walker *walker, struct af_driven *d)
{
	struct af_task *task = af_tasks_get(&walker->trace->tasks, d->task);
	struct af_wait wait = {
		.task = task,
		.begin = d->begin,
		.end = d->end,
		.open = d->waits,
		.n_nodes = d->n_nodes,
		.nodes = d->nodes,
	};
	d->waits = d->owes = false;
	if (walker->visitor->wait && !walker->stopped &&
	    !walker->visitor->wait(walker->context, &wait))
		walker->stopped = true;
}

/* Whether the driver comes from one of its stays to another without a poll. */
static bool is_quiet(const struct af_trace *trace, const struct af_driven *d, uint32_t to)
{
	const struct af_futuremap *map = &trace->maps[d->type->map];
	if (d->stay >= map->header->stays.count || to >= map->header->stays.count)
		return false;
	uint8_t number = af_futuremap_stays(map, to)->number;
	return number < 64 && (af_futuremap_stays(map, d->stay)->quiet >> number & 1);
}

/* Makes room for a future at [address, address + size): what lay there is gone. */
static struct af_driven *take_place(struct af_span_stack *stack, struct af_walker *walker,
				    uint64_t address, uint64_t size)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < stack->n_driven; i++) {
		struct af_driven *d = &stack->driven[i];
		bool over = d->address < address + size && address < d->address + d->size;
		if (over) {
			if (d->owes)
				tell(walker, d);
			af_tasks_get(&walker->trace->tasks, d->task)->state = AF_TASK_GONE;
		} else {
			stack->driven[kept++] = *d;
		}
	}
	if (kept == AF_DRIVEN_MAX) {
		if (stack->driven[0].owes)
			tell(walker, &stack->driven[0]);
		memmove(stack->driven, stack->driven + 1, --kept * sizeof(*stack->driven));
	}
	stack->n_driven = kept + 1;
	return &stack->driven[kept];
}

static struct af_driven *find_driven(struct af_span_stack *stack, struct af_walker *walker,
				     const struct af_driven_type *t, uint64_t address, uint64_t now)
{
	for (uint32_t i = 0; i < stack->n_driven; i++)
		if (stack->driven[i].address == address && stack->driven[i].type == t)
			return &stack->driven[i];
	struct af_tasks *tasks = &walker->trace->tasks;
	uint32_t task = af_tasks_find(tasks, AF_KEY_SELF, address, t->function, true, now);
	if (!task) {
		walker->no_memory = true;
		return NULL;
	}
	struct af_driven *d = take_place(stack, walker, address, t->size ? t->size : 1);
	*d = (struct af_driven){
		.address = address, .size = t->size ? t->size : 1, .type = t, .task = task};
	return d;
}

void af_driven_begin(struct af_span_stack *stack, struct af_walker *walker,
		     const struct afr_record *record, uint64_t now)
{
	uint64_t address = afr_subject(record);
	const struct af_driven_type *t =
		stack->n_nodes ? type_above(walker->trace, stack->nodes[0]) : NULL;
	struct af_driven *d = NULL;
	if (t && !has_polls(walker->trace, t, address))
		d = find_driven(stack, walker, t, address, now);
	if (d) {
		struct af_off off; /* what was polled then, nobody knows */
		bool goes_on = d->owes && is_quiet(walker->trace, d, afr_function(record)) &&
			       !af_pauses_within(&walker->pauses, d->end, now, &off);
		if (d->owes && !goes_on)
			tell(walker, d);
		if (!goes_on)
			d->begin = now;
		d->waits = true;
		d->owes = false;
		d->stay = afr_function(record);
		d->n_nodes = stack->n_nodes;
		memcpy(d->nodes, stack->nodes, sizeof(d->nodes));
		take_parts(stack, walker->trace, d);
	}
	stack->n_nodes = 0;
}

void af_driven_end(struct af_span_stack *stack, struct af_walker *walker,
		   const struct afr_record *record, uint64_t now)
{
	for (uint32_t i = 0; i < stack->n_driven; i++) {
		struct af_driven *d = &stack->driven[i];
		if (d->address != afr_subject(record) || !d->waits)
			continue;
		d->waits = false;
		d->owes = true;
		d->end = af_tasks_get(&walker->trace->tasks, d->task)->last = now;
	}
}

uint32_t af_driven_owner(struct af_span_stack *stack, struct af_walker *walker, uint64_t self,
			 uint32_t function)
{
	for (uint32_t i = stack->n_driven; i-- > 0;) {
		struct af_driven *d = &stack->driven[i];
		if (!is_part(walker->trace, d, self, function))
			continue;
		if (d->owes) /* so it is polled */
			tell(walker, d);
		return d->task;
	}
	return 0;
}

void af_driven_see(struct af_span_stack *stack, uint32_t task)
{
	for (uint32_t i = 0; i < stack->n_loose; i++)
		if (stack->loose[i] == task)
			return;
	if (stack->n_loose < AF_DRIVEN_PARTS)
		stack->loose[stack->n_loose++] = task;
}

void af_driven_finish(struct af_span_stack *stack, struct af_walker *walker, uint64_t end)
{
	for (uint32_t i = 0; i < stack->n_driven; i++) {
		struct af_driven *d = &stack->driven[i];
		if (d->waits)
			d->end = af_tasks_get(&walker->trace->tasks, d->task)->last = end;
		if (d->owes || (d->waits && d->begin < end))
			tell(walker, d);
	}
}

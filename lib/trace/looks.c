/* SPDX-License-Identifier: MIT */
/*
 * What a look from outside has seen of the tasks (AFR_B_LOOK), and which of the trace's tasks
 * these are. Levels that many tasks have in common become one node, as they are one among the
 * recorder's.
 */
#include <stdlib.h>
#include <string.h>

#include "trace/driven.h"

#define SEEN_NODES_MAX (1u << 20)

/* Nodes by what they are, while they are made. Open addressing, a power of two. */
struct nodes {
	struct af_trace *trace;
	uint32_t first, room;
	uint32_t *slots, n_slots; /* numbers; 0: free */
};

static uint32_t hash(const struct af_trace_node *node)
{
	uint64_t h = node->parent;
	h = h * UINT64_C(0x9e3779b97f4a7c15) + node->type;
	h = h * UINT64_C(0x9e3779b97f4a7c15) + node->variant;
	h = h * UINT64_C(0x9e3779b97f4a7c15) + node->state;
	return (uint32_t)(h ^ h >> 32);
}

static bool is_same(const struct af_trace_node *a, const struct af_trace_node *b)
{
	return a->parent == b->parent && a->object == b->object && a->type == b->type &&
	       a->variant == b->variant && a->state == b->state;
}

static uint32_t *find_slot(const struct nodes *n, const struct af_trace_node *node)
{
	uint32_t i = hash(node) & (n->n_slots - 1);
	while (n->slots[i] && !is_same(&n->trace->nodes[n->slots[i] - 1], node))
		i = (i + 1) & (n->n_slots - 1);
	return &n->slots[i];
}

static bool make_room(struct nodes *n)
{
	struct af_trace *trace = n->trace;
	if (trace->n_nodes == n->room) {
		uint32_t room = n->room + n->room / 2 + 64;
		struct af_trace_node *more = realloc(trace->nodes, room * sizeof(*more));
		if (!more)
			return false;
		trace->nodes = more;
		n->room = room;
	}
	uint32_t used = trace->n_nodes - n->first;
	if (used * 2 < n->n_slots)
		return true;
	free(n->slots);
	n->n_slots = n->n_slots ? n->n_slots * 2 : 256;
	n->slots = calloc(n->n_slots, sizeof(*n->slots));
	for (uint32_t i = n->first; n->slots && i < trace->n_nodes; i++)
		*find_slot(n, &trace->nodes[i]) = i + 1;
	return n->slots;
}

/* Its number; 0 when memory is short, or there are too many. */
static uint32_t node_of(struct nodes *n, struct af_trace_node node)
{
	if (!make_room(n))
		return 0;
	uint32_t *slot = find_slot(n, &node);
	if (*slot || n->trace->n_nodes - n->first == SEEN_NODES_MAX)
		return *slot;
	*slot = node.number = n->trace->n_nodes + 1;
	n->trace->nodes[n->trace->n_nodes++] = node;
	return *slot;
}

/* The nodes of a task's levels; those that nothing is below are its innermost ones. */
static bool read_levels(struct nodes *n, struct af_seen_task *seen, uint32_t *numbers,
			uint8_t *has_below)
{
	struct af_trace *trace = n->trace;
	const struct afr_look_level *levels = trace->look_levels + seen->told->first_level;
	uint32_t count = seen->told->n_levels;
	memset(has_below, 0, count);
	for (uint32_t i = 0; i < count; i++) {
		bool root = levels[i].parent == AFM_NONE;
		if (!root && (levels[i].parent >= i || !numbers[levels[i].parent]))
			return true; /* no tree: nothing is believed of it */
		if (!root)
			has_below[levels[i].parent] = 1;
		numbers[i] = node_of(n, (struct af_trace_node){
						.parent = root ? 0 : numbers[levels[i].parent],
						.object = levels[i].object,
						.step_case = AFM_NONE,
						.type = levels[i].type,
						.variant = levels[i].variant,
						.state = levels[i].state,
					});
		if (!numbers[i])
			return n->slots;
	}
	seen->first_node = trace->n_seen_nodes;
	for (uint32_t i = 0; i < count; i++)
		if (!has_below[i])
			trace->seen_nodes[trace->n_seen_nodes++] = numbers[i];
	seen->n_nodes = trace->n_seen_nodes - seen->first_node;
	return true;
}

/* The future of a task as the map knows it; NULL if it does not. */
static const struct afm_future *future_of(const struct af_trace *trace,
					  const struct afr_look_level *level)
{
	uint32_t index = af_trace_map(trace, level->object);
	if (index == AFM_NONE || level->type >= trace->maps[index].header->types.count)
		return NULL;
	const struct af_futuremap *map = &trace->maps[index];
	uint32_t future = af_futuremap_types(map, level->type)->future;
	return future == AFM_NONE ? NULL : af_futuremap_futures(map, future);
}

/* What a future is called whose polls were all inlined: it has no function that could be. */
static bool name_driven(struct af_trace *trace, struct af_seen_task *seen)
{
	const struct afr_look_level *level = trace->look_levels + seen->told->first_level;
	const struct afm_future *future = seen->n_nodes ? future_of(trace, level) : NULL;
	uint32_t n = trace->info.n_functions;
	if (!future || seen->told->found_by != AFR_BY_STACK || n >= AFR_FUNCTIONS_MAX)
		return true;
	const struct af_futuremap *map = &trace->maps[af_trace_map(trace, level->object)];
	struct af_function *more = realloc(trace->functions, (n + 1) * sizeof(*more));
	if (!more)
		return false;
	trace->functions = more;
	trace->functions[n] = (struct af_function){
		.name = af_futuremap_string(map, future->name),
		.future = af_futuremap_string(map, af_futuremap_types(map, level->type)->name),
		.file = af_futuremap_string(map, future->file),
		.line = future->line,
		.library = "",
		.object = AFM_NONE,
	};
	seen->function = trace->info.n_functions++;
	return true;
}

static bool read_tasks(struct nodes *n, const struct afr_look_task *tasks)
{
	struct af_trace *trace = n->trace;
	uint32_t levels = trace->look->n_levels, used = 0;
	uint32_t *numbers = calloc(levels + 1, sizeof(*numbers));
	uint8_t *has_below = calloc(levels + 1, 1);
	bool good = numbers && has_below;
	for (uint32_t i = 0; i < trace->look->n_tasks && good; i++) {
		struct af_seen_task *seen = &trace->seen[trace->n_seen++];
		*seen = (struct af_seen_task){.told = &tasks[i], .function = AFM_NONE};
		/* One task's after another's: so there is room for all of them. */
		if (tasks[i].first_level != used || tasks[i].n_levels > levels - used)
			continue;
		used += tasks[i].n_levels;
		good = read_levels(n, seen, numbers, has_below) && name_driven(trace, seen);
	}
	free(numbers);
	free(has_below);
	return good;
}

bool af_trace_read_look(struct af_trace *trace)
{
	const struct afr_look *look = trace->look;
	size_t size = trace->look_size;
	trace->look = NULL;
	/* Where records are missing, polls since may be. */
	bool all = !trace->info.end.dropped && trace->info.end.limit != AFR_LIMIT_STOPPED;
	if (!look || size < sizeof(*look) || !all)
		return true;
	size -= sizeof(*look);
	if (size / sizeof(struct afr_look_task) < look->n_tasks)
		return true;
	size -= look->n_tasks * sizeof(struct afr_look_task);
	if (size / sizeof(struct afr_look_level) < look->n_levels)
		return true;
	const struct afr_look_task *tasks = (const void *)(look + 1);
	trace->look = look;
	trace->info.left_out = look->left_out;
	trace->look_levels = (const void *)(tasks + look->n_tasks);
	trace->seen = calloc(look->n_tasks + 1, sizeof(*trace->seen));
	trace->seen_nodes = calloc(look->n_levels + 1, sizeof(*trace->seen_nodes));
	struct nodes nodes = {.trace = trace, .first = trace->n_nodes, .room = trace->n_nodes};
	bool good = trace->seen && trace->seen_nodes && read_tasks(&nodes, tasks);
	free(nodes.slots);
	return good;
}

void af_trace_forget_look(struct af_trace *trace)
{
	free(trace->seen);
	free(trace->seen_nodes);
}

/* --- which task it is ---------------------------------------------------------------- */

/* A future that is polled by nobody we know is a task itself, by its address and function. */
static uint32_t task_of_future(const struct af_trace *trace, const struct afr_look_level *level)
{
	const struct afm_future *future = future_of(trace, level);
	if (!future)
		return 0;
	uint32_t index = af_trace_map(trace, level->object);
	const struct af_futuremap *map = &trace->maps[index];
	uint32_t driven = af_driven_task(trace, index, level->type, level->address);
	if (driven)
		return driven;
	for (uint32_t i = 0; i < future->n_polls; i++) {
		uint32_t poll = *af_futuremap_future_polls(map, future->first_poll + i);
		uint32_t function = trace->objects[index].first_function + poll;
		uint64_t address = level->address & AFR_SUBJECT_MASK;
		uint32_t task = af_tasks_lookup(&trace->tasks, AF_KEY_SELF, address, function);
		if (!task)
			task = af_tasks_lookup(&trace->tasks, AF_KEY_INNER, address, function);
		if (task)
			return task;
	}
	return 0;
}

static uint32_t task_of(const struct af_trace *trace, const struct af_seen_task *seen)
{
	const struct afr_look_task *told = seen->told;
	uint32_t task = 0;
	if (told->found_by == AFR_BY_HEADER && told->id)
		task = af_tasks_lookup(&trace->tasks, AF_KEY_ID,
				       af_tasks_id(&trace->tasks, told->object, told->id), 0);
	if (!task && told->found_by == AFR_BY_HEADER)
		task = af_tasks_lookup(&trace->tasks, AF_KEY_ADDRESS,
				       told->address & AFR_SUBJECT_MASK, 0);
	/* From the outermost future inwards, as long as there is one way. */
	const struct afr_look_level *levels = trace->look_levels + told->first_level;
	for (uint32_t i = 0; i < told->n_levels && seen->n_nodes && !task; i++) {
		if (i && levels[i].parent != i - 1)
			break;
		task = task_of_future(trace, &levels[i]);
	}
	return task;
}

/* Whether `i` tells more of a task than `known` does. Memory that was given back may still look like a
   task that has ended, with a number that means something else by now. */
static bool tells_more(const struct af_trace *trace, uint32_t i, uint32_t known)
{
	return known == AFM_NONE || trace->seen[i].told->state != AFR_LOOK_ENDED ||
	       trace->seen[known].told->state == AFR_LOOK_ENDED;
}

uint32_t *af_trace_match_look(struct af_trace *trace)
{
	uint32_t n = trace->tasks.n_tasks;
	uint32_t *seen = calloc(n + 1, sizeof(*seen));
	for (uint32_t i = 0; seen && i <= n; i++)
		seen[i] = AFM_NONE;
	for (uint32_t i = 0; seen && i < trace->n_seen; i++) {
		uint32_t task = task_of(trace, &trace->seen[i]);
		trace->seen[i].matched = task;
		if (task && tells_more(trace, i, seen[task]))
			seen[task] = i;
	}
	return seen;
}

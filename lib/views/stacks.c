/* SPDX-License-Identifier: MIT */
/*
 * Reads task by task, and hands each to the writer of the format; with --group, after all
 * have been read. Groups are found by a hash of the stack without its addresses.
 */
#include "views/stacks.h"

#include <stdlib.h>
#include <time.h>

#include "views/stacks_internal.h"

#define MAX_NODES 65536u /* in one task's tree */
#define MAX_IDS 1000u

const char *af_stacks_executor(const struct af_found_task *found)
{
	if (found->found_by == AF_BY_STACK)
		return "block_on";
	switch (found->executor) {
	case AFM_X_TOKIO:
		return "tokio";
	case AFM_X_ASYNC_TASK:
		return "async-task";
	default:
		return "other";
	}
}

const char *af_stacks_state(const struct af_found_task *found)
{
	static const char *const names[] = {
		[AF_TASK_IDLE] = "parked",	   [AF_TASK_SCHEDULED] = "scheduled",
		[AF_TASK_RUNNING] = "running",	   [AF_TASK_DONE] = "finished",
		[AF_TASK_CANCELLED] = "cancelled",
	};
	unsigned state = found->task.state;
	return state < sizeof(names) / sizeof(names[0]) && names[state] ? names[state] : "unknown";
}

static const struct afm_future *future_of_type(const struct af_futuremap *map, uint32_t type,
					       const char **name)
{
	if (type == AFM_NONE)
		return NULL;
	const struct afm_type *t = af_futuremap_types(map, type);
	*name = af_futuremap_string(map, t->name);
	if (t->future == AFM_NONE)
		return NULL;
	const struct afm_future *future = af_futuremap_futures(map, t->future);
	*name = af_futuremap_string(map, future->name);
	return future;
}

const struct afm_future *af_stacks_future(const struct af_target *target,
					  const struct af_found_task *found, const char **name)
{
	const struct af_futuremap *map = &target->images[found->task.image].map;
	uint32_t type = found->task.future_type;
	*name = "unknown";
	if (found->found_by == AF_BY_HEADER) {
		const struct afm_root *root = af_futuremap_roots(map, found->task.root);
		*name = af_futuremap_string(map, af_futuremap_polls(map, root->poll)->name);
		type = root->future_type;
		if (root->future != AFM_NONE) {
			const struct afm_future *future = af_futuremap_futures(map, root->future);
			*name = af_futuremap_string(map, future->name);
			return future;
		}
	}
	return future_of_type(map, type, name);
}

/* What executors put around the future that somebody spawned. */
static bool is_wrapper(const char *name)
{
	static const char *const heads[] = {
		"tokio::runtime::task::trace::Root<", "async_executor::",	 "core::pin::Pin<",
		"async_std::task::builder::",	      "async_global_executor::",
	};
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (!strncmp(name, heads[i], strlen(heads[i])))
			return true;
	return false;
}

const struct afm_future *af_stacks_title(const struct af_target *target,
					 const struct af_stack *stack, const char **name,
					 uint32_t *image)
{
	const struct afm_future *future = af_stacks_future(target, &stack->found, name);
	uint32_t at = 0;
	*image = stack->found.task.image;
	/* An executor that a thread runs is no wrapper of what it runs. */
	while (stack->found.found_by != AF_BY_STACK && is_wrapper(*name) && at < stack->n_nodes) {
		const struct af_node *node = &stack->nodes[at];
		*name = af_stacks_node_name(target, node);
		*image = node->image;
		future = node->future == AFM_NONE
				 ? NULL
				 : af_futuremap_futures(&target->images[node->image].map,
							node->future);
		if (node->first_child == AF_NODE_NONE)
			break;
		at = node->first_child;
	}
	return future;
}

const char *af_stacks_node_name(const struct af_target *target, const struct af_node *node)
{
	const struct af_futuremap *map = &target->images[node->image].map;
	if (node->future != AFM_NONE)
		return af_futuremap_string(map, af_futuremap_futures(map, node->future)->name);
	if (node->type != AFM_NONE)
		return af_futuremap_string(map, af_futuremap_types(map, node->type)->name);
	return "unknown";
}

const char *af_stacks_node_state(const struct af_node *node)
{
	static const char *const names[] = {
		[AF_NODE_UNKNOWN] = "unknown",
		[AF_NODE_UNREADABLE] = "unreadable",
		[AF_NODE_NOT_STARTED] = "not started",
		[AF_NODE_SUSPENDED] = "suspended",
		[AF_NODE_DONE] = "done",
		[AF_NODE_PANICKED] = "panicked",
		[AF_NODE_HAND] = "hand-written",
		[AF_NODE_SAME] = "same",
	};
	return node->status < sizeof(names) / sizeof(names[0]) ? names[node->status] : "unknown";
}

const struct afm_variant *af_stacks_await(const struct af_target *target,
					  const struct af_node *node)
{
	if (node->status != AF_NODE_SUSPENDED || node->variant == AFM_NONE)
		return NULL;
	const struct afm_variant *variant =
		af_futuremap_variants(&target->images[node->image].map, node->variant);
	return variant->line ? variant : NULL;
}

const struct af_found_task *af_stacks_task_of(const struct af_task_list *tasks, pid_t thread)
{
	const struct af_found_task *last = NULL;
	for (size_t i = 0; i < tasks->items.count; i++) {
		const struct af_found_task *found = &tasks->items.items[i];
		if (found->found_by == AF_BY_HEADER && found->thread == thread &&
		    (!last || last->blocking))
			last = found;
	}
	return last;
}

bool af_stacks_task_id(const struct af_task_list *tasks, uint64_t address, uint64_t *id)
{
	uint32_t i = af_map_get(&tasks->by_address, address);
	if (i == UINT32_MAX || !tasks->items.items[i].task.has_id)
		return false;
	*id = tasks->items.items[i].task.id;
	return true;
}

/* Whether the filter wants a task: one of the futures of its stack, or what was spawned. */
static bool wants(const struct af_target *target, const struct af_stacks_options *options,
		  const struct af_task_view *view)
{
	const struct af_found_task *found = view->found;
	const char *name;
	if (!options->filter.pattern || !*options->filter.pattern)
		return true;
	const struct af_futuremap *map = &target->images[found->task.image].map;
	const struct afm_future *future = af_stacks_future(target, found, &name);
	if (af_filter_wants(&options->filter, name,
			    future ? af_futuremap_string(map, future->file) : "", true))
		return true;
	for (uint32_t i = 0; i < view->n_nodes; i++) {
		const struct af_node *node = &view->nodes[i];
		const struct afm_variant *at = af_stacks_await(target, node);
		map = &target->images[node->image].map;
		if (af_filter_wants(&options->filter, af_stacks_node_name(target, node),
				    at ? af_futuremap_string(map, at->file) : "", true))
			return true;
	}
	return false;
}

/* Groups */

struct groups {
	VECTOR(struct af_stack) items;
	struct af_map by_key;
	bool failed;
};

static uint64_t mix(uint64_t hash, uint64_t more)
{
	hash = (hash ^ more) * 0x9e3779b97f4a7c15;
	return hash ^ hash >> 32;
}

static uint64_t group_key(const struct af_task_view *view)
{
	const struct af_found_task *found = view->found;
	uint64_t key = mix(1, view->n_nodes ? view->likeness : 0);
	key = mix(key, found->task.state | found->moving << 8 | found->found_by << 16);
	key = mix(key, (uint64_t)found->task.image << 32 | found->task.root);
	key = mix(key, found->task.future_type);
	return key == UINT64_MAX ? 0 : key;
}

static void add_id(struct groups *groups, struct af_stack *group, const struct af_found_task *found)
{
	group->count++;
	if (!found->task.has_id || group->n_ids == MAX_IDS)
		return;
	/* Room is doubled: at 1, 2, 4, ... */
	if (!(group->n_ids & (group->n_ids - 1))) {
		uint32_t room = group->n_ids ? group->n_ids * 2 : 1;
		uint64_t *grown = reallocarray(group->ids, room, sizeof(*grown));
		if (!grown) {
			groups->failed = true;
			return;
		}
		group->ids = grown;
	}
	group->ids[group->n_ids++] = found->task.id;
}

static void *copy(struct groups *groups, const void *data, size_t size)
{
	void *to = size ? malloc(size) : NULL;
	if (to)
		memcpy(to, data, size);
	groups->failed |= size && !to;
	return to;
}

static void add_to_groups(struct groups *groups, uint64_t key, const struct af_stack *stack,
			  size_t texts)
{
	uint32_t at = af_map_get(&groups->by_key, key);
	if (at == UINT32_MAX) {
		struct af_stack *group = vector_push(&groups->items);
		if (!group) {
			groups->failed = true;
			return;
		}
		*group = *stack;
		group->nodes = copy(groups, stack->nodes, stack->n_nodes * sizeof(*stack->nodes));
		group->values =
			copy(groups, stack->values, stack->n_values * sizeof(*stack->values));
		group->texts = copy(groups, stack->texts, texts);
		if (!group->nodes)
			group->n_nodes = 0;
		if (!group->values || !group->texts)
			group->n_values = 0;
		at = (uint32_t)groups->items.count - 1;
		af_map_set(&groups->by_key, key, at);
	}
	add_id(groups, &groups->items.items[at], &stack->found);
}

static int compare_groups(const void *a, const void *b)
{
	const struct af_stack *x = a, *y = b;
	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return x->found.task.header < y->found.task.header ? -1 : 1;
}

static void write_groups(struct groups *groups, struct af_stacks_writer *writer,
			 const struct af_stacks_format_functions *format)
{
	vector_sort(&groups->items, compare_groups);
	for (size_t i = 0; i < groups->items.count; i++, writer->written++)
		format->stack(writer, &groups->items.items[i]);
}

static void free_groups(struct groups *groups)
{
	for (size_t i = 0; i < groups->items.count; i++) {
		struct af_stack *group = &groups->items.items[i];
		free((void *)group->nodes);
		free((void *)group->values);
		free((void *)group->texts);
		free(group->ids);
	}
	vector_deinit(&groups->items);
	af_map_deinit(&groups->by_key);
}

/* All of it */

struct printer {
	struct af_stacks_writer *writer;
	const struct af_stacks_format_functions *format;
	struct groups groups;
	VECTOR(struct af_stack_value) values;
	struct af_value_options values_as;
	struct af_claims claims;
	struct af_elsewhere elsewhere;
};

static uint32_t number_of(const struct printer *p, const struct af_found_task *found)
{
	return (uint32_t)(found - p->writer->tasks->items.items);
}

/* Records (stacks_values.c) to values that point into the text. */
static void parse_values(struct printer *p, const struct af_task_view *view)
{
	p->values.count = 0;
	for (size_t at = 0; at < view->more_size;) {
		struct af_stack_value *value = vector_push(&p->values);
		if (!value) {
			p->groups.failed = true;
			return;
		}
		char *end;
		value->node = (uint32_t)strtoul(view->more + at, &end, 10);
		value->life = (uint8_t)(end[1] - '0');
		at += strlen(view->more + at) + 1;
		value->name = (uint32_t)at;
		at += strlen(view->more + at) + 1;
		value->type = (uint32_t)at;
		at += strlen(view->more + at) + 1;
		value->value = (uint32_t)at;
		at += strlen(view->more + at) + 1;
	}
}

static void read_more(void *arg, const struct af_target *target, const struct af_found_task *found,
		      const struct af_await_tree *tree, struct af_text *text)
{
	struct printer *p = arg;
	af_stacks_read_timers(&p->values_as, target, tree, text);
	if (!p->writer->options->values)
		return;
	af_claims_find(&p->claims, &p->elsewhere, target, number_of(p, found), tree);
	af_stacks_read_values(&p->values_as, target, tree, &p->claims, text);
}

static void read_owned(void *arg, const struct af_target *target, const struct af_found_task *found,
		       const struct af_await_tree *tree, struct af_text *text)
{
	struct printer *p = arg;
	af_elsewhere_read(&p->claims, target, found, number_of(p, found), tree, text);
}

static void add_owned(void *arg, const struct af_task_view *view)
{
	struct printer *p = arg;
	af_elsewhere_add(&p->elsewhere, view->more, view->more_size);
}

/* What every task owns, so that a variable which was moved from one to another is found out. */
static struct af_error *read_elsewhere(struct printer *p, struct af_task_list *tasks,
				       struct af_await_tree *tree)
{
	const struct af_task_visitor visitor = {.arg = p, .more = read_owned, .visit = add_owned};
	struct af_error *error = af_task_list_visit(tasks, tree, &visitor);
	af_elsewhere_sort(&p->elsewhere);
	if (p->elsewhere.full)
		af_process_note(tasks->process,
				"too many variables to compare them all: some that were moved to "
				"another task are not marked");
	return error;
}

static void print_task(void *arg, const struct af_task_view *view)
{
	struct printer *p = arg;
	struct af_stacks_writer *w = p->writer;
	if (!wants(w->target, w->options, view))
		return;
	struct af_stack stack = {
		.found = *view->found,
		.n_nodes = view->n_nodes,
		.nodes = view->nodes,
		.cut = view->cut,
	};
	parse_values(p, view);
	stack.values = p->values.items;
	stack.n_values = (uint32_t)p->values.count;
	stack.texts = view->more;
	if (w->options->group) {
		add_to_groups(&p->groups, group_key(view), &stack, view->more_size);
		return;
	}
	stack.count = 1;
	p->format->stack(w, &stack);
	w->written++;
}

/* A live process shares our clock: an Instant is then told as how long ago. */
static void set_clock(struct af_value_options *options, const struct af_process *process)
{
	struct timespec now;
	if (process->core || clock_gettime(CLOCK_MONOTONIC, &now) < 0)
		return;
	options->has_now = true;
	options->now_seconds = now.tv_sec;
	options->now_nanoseconds = (uint32_t)now.tv_nsec;
}

struct af_error *af_stacks_print(struct af_task_list *tasks,
				 const struct af_stacks_options *options, FILE *out)
{
	static const struct af_stacks_format_functions *const formats[] = {
		[AF_STACKS_TEXT] = &af_stacks_text,
		[AF_STACKS_JSON] = &af_stacks_json,
		[AF_STACKS_DOT] = &af_stacks_dot,
	};
	const struct af_stacks_format_functions *format = formats[options->format];
	struct af_stacks_writer writer = {
		.tasks = tasks,
		.target = &tasks->target,
		.options = options,
		.out = out,
	};
	struct af_await_tree tree;
	size_t size = af_await_tree_size(MAX_NODES);
	void *block = malloc(size);
	if (!block || !af_await_tree_init(&tree, block, size)) {
		free(block);
		return af_error_create("out of memory");
	}
	format->begin(&writer);
	struct printer printer = {
		.writer = &writer,
		.format = format,
		.values_as = af_value_defaults,
	};
	set_clock(&printer.values_as, tasks->process);
	const struct af_task_visitor visitor = {
		.arg = &printer,
		.timed = !options->group,
		/* In a group every task's timer ends at another time. */
		.more = options->values || !options->group ? read_more : NULL,
		.visit = print_task,
	};
	struct af_error *error = options->values ? read_elsewhere(&printer, tasks, &tree) : NULL;
	if (!error)
		error = af_task_list_visit(tasks, &tree, &visitor);
	write_groups(&printer.groups, &writer, format);
	if (!error && (printer.groups.failed || printer.groups.by_key.failed))
		error = af_error_create("out of memory");
	free_groups(&printer.groups);
	vector_deinit(&printer.values);
	af_claims_deinit(&printer.claims);
	af_elsewhere_deinit(&printer.elsewhere);
	format->end(&writer);
	free(block);
	return error;
}

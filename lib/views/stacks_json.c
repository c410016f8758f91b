/* SPDX-License-Identifier: MIT */
/* Await stacks as JSON; docs/formats.md, "The dump". One task a line. */
#include <inttypes.h>
#include <stdlib.h>

#include "views/json.h"
#include "views/map.h"
#include "views/stacks_internal.h"

static void put(const struct af_stacks_writer *w, const char *text)
{
	fputs_unlocked(text, w->out);
}

static void put_text(const struct af_stacks_writer *w, const char *text)
{
	char buffer[1024], *escaped = NULL;
	/* An escaped byte is six bytes at most. */
	if (strlen(text) < sizeof(buffer) / 6)
		af_json_escape(buffer, sizeof(buffer), text);
	else
		escaped = af_json_escaped(text);
	putc_unlocked('"', w->out);
	put(w, escaped ? escaped : strlen(text) < sizeof(buffer) / 6 ? buffer : "");
	putc_unlocked('"', w->out);
	free(escaped);
}

/* `, "key": "text"`, or null for NULL. */
static void put_key_text(const struct af_stacks_writer *w, const char *key, const char *text)
{
	put(w, key);
	if (text)
		put_text(w, text);
	else
		put(w, "null");
}

static void put_number(const struct af_stacks_writer *w, const char *key, uint64_t number)
{
	char buffer[24], *at = buffer + sizeof(buffer);
	*--at = '\0';
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	put(w, key);
	put(w, at);
}

static void put_hex(const struct af_stacks_writer *w, const char *key, uint64_t number)
{
	char buffer[24], *at = buffer + sizeof(buffer);
	*--at = '\0';
	do
		*--at = "0123456789abcdef"[number % 16];
	while (number /= 16);
	put(w, key);
	put(w, "\"0x");
	put(w, at);
	put(w, "\"");
}

static void put_place(const struct af_stacks_writer *w, const struct af_futuremap *map,
		      uint32_t file, uint32_t line)
{
	put_key_text(w, "\"file\": ", line ? af_futuremap_string(map, file) : NULL);
	if (line)
		put_number(w, ", \"line\": ", line);
	else
		put(w, ", \"line\": null");
}

static void put_build_id(const struct af_stacks_writer *w, const struct af_module *module)
{
	if (!module || !module->build_id_size) {
		put(w, "null");
		return;
	}
	putc('"', w->out);
	for (uint32_t i = 0; i < module->build_id_size; i++)
		fprintf(w->out, "%02x", module->build_id[i]);
	putc('"', w->out);
}

static void json_begin(struct af_stacks_writer *w)
{
	const struct af_process *p = w->tasks->process;
	const uint32_t *counts = w->tasks->counts;
	const char *comma = "\n";

	put(w, "{\"format\": \"asyncflame-dump\", \"version\": 1,\n \"process\": {");
	if (p->pid)
		put_number(w, "\"pid\": ", (uint64_t)p->pid);
	else
		put(w, "\"pid\": null");
	put_key_text(w, ", \"core\": ", p->core);
	put_key_text(w, ", \"executable\": ", p->executable);
	put(w, ", \"build_id\": ");
	put_build_id(w, p->modules.count ? &p->modules.items[0] : NULL);
	put(w, "},\n \"frozen_ns\": ");
	if (p->core)
		put(w, "null");
	else
		put_number(w, "", p->stood_still);
	put(w, ",\n \"objects\": [");
	for (size_t i = 0; i < p->modules.count; i++) {
		const struct af_module *module = &p->modules.items[i];
		if (module->image == AFM_NONE)
			continue;
		put(w, comma);
		put_key_text(w, "  {\"path\": ", module->path);
		put(w, ", \"build_id\": ");
		put_build_id(w, module);
		put_hex(w, ", \"bias\": ", module->bias);
		put(w, "}");
		comma = ",\n";
	}
	put_number(w, "],\n \"counts\": {\"tasks\": ", w->tasks->items.count);
	put_number(w, ", \"parked\": ", counts[AF_TASK_IDLE]);
	put_number(w, ", \"scheduled\": ", counts[AF_TASK_SCHEDULED]);
	put_number(w, ", \"running\": ", counts[AF_TASK_RUNNING]);
	put_number(w, ", \"finished\": ", counts[AF_TASK_DONE]);
	put_number(w, ", \"cancelled\": ", counts[AF_TASK_CANCELLED]);
	put(w, "},\n ");
	put(w, w->options->group ? "\"groups\": [" : "\"tasks\": [");
}

static void put_node_place(const struct af_stacks_writer *w, const struct af_node *node)
{
	const struct af_futuremap *map = &w->target->images[node->image].map;
	const struct afm_variant *at = af_stacks_await(w->target, node);
	put(w, ", ");
	put_place(w, map, at ? at->file : 0, at ? at->line : 0);
	if (at && at->line_index)
		put_number(w, ", \"line_index\": ", at->line_index);
	if (at && at->macro_line) {
		put_key_text(w, ", \"macro_file\": ", af_futuremap_string(map, at->macro_file));
		put_number(w, ", \"macro_line\": ", at->macro_line);
	}
}

static void put_identity(const struct af_stacks_writer *w, const struct af_node *node)
{
	const struct af_futuremap *map = &w->target->images[node->image].map;
	const struct afm_future *future =
		node->future == AFM_NONE ? NULL : af_futuremap_futures(map, node->future);

	put_key_text(w, "{\"name\": ", af_stacks_node_name(w->target, node));
	put_key_text(w, ", \"type\": ",
		     node->type == AFM_NONE
			     ? NULL
			     : af_futuremap_string(map, af_futuremap_types(map, node->type)->name));
	put_key_text(w, ", \"kind\": ", future ? af_map_future_kind_name(future->kind) : NULL);
	put_key_text(w, ", \"state\": ", af_stacks_node_state(node));
	put_node_place(w, node);
	put_key_text(w, ", \"variant\": ",
		     node->variant == AFM_NONE
			     ? NULL
			     : af_futuremap_string(
				       map, af_futuremap_variants(map, node->variant)->name));
	put(w, ", \"definition\": {");
	put_place(w, map, future ? future->file : 0, future ? future->line : 0);
	put(w, "}");
}

static void put_relation(const struct af_stacks_writer *w, const struct af_node *node)
{
	static const char *const names[] = {"root", "awaited", "child", "held"};
	uint64_t id;

	put_key_text(w, ", \"relation\": ", node->relation < 4 ? names[node->relation] : NULL);
	put_key_text(w, ", \"label\": ",
		     node->label ? af_target_string(w->target, node->label_image, node->label)
				 : NULL);
	if (node->index != AFM_NONE)
		put_number(w, ", \"index\": ", node->index);
	else
		put(w, ", \"index\": null");
	put_key_text(w, ", \"waits_for\": ", af_wait_name(node->wait));
	if (node->task)
		put_hex(w, ", \"task\": ", node->task);
	if (node->task && af_stacks_task_id(w->tasks, node->task, &id))
		put_number(w, ", \"task_id\": ", id);
	put(w, node->flags & AF_NODE_DISABLED ? ", \"disabled\": true" : "");
	put(w, node->flags & (AF_NODE_CUT | AF_NODE_LOST) ? ", \"incomplete\": true" : "");
	put_hex(w, ", \"address\": ", node->address);
}

static void put_values(const struct af_stacks_writer *w, const struct af_stack *stack, uint32_t i)
{
	static const char *const lives[] = {"alive",	"passed",   "doubtful",
					    "shadowed", "doubtful", "moved"};
	const char *comma = "";
	if (!w->options->values)
		return;
	put(w, ", \"values\": [");
	for (uint32_t v = 0; v < stack->n_values; v++) {
		const struct af_stack_value *value = &stack->values[v];
		if (value->node != i || value->life == AF_STACKS_TIMER)
			continue;
		put(w, comma);
		put_key_text(w, "{\"name\": ", stack->texts + value->name);
		put_key_text(w, ", \"type\": ", stack->texts + value->type);
		put_key_text(w, ", \"value\": ", stack->texts + value->value);
		put_key_text(w, ", \"life\": ",
			     value->life < sizeof(lives) / sizeof(lives[0]) ? lives[value->life]
									    : NULL);
		put(w, "}");
		comma = ", ";
	}
	put(w, "]");
}

/* Nodes lie in the order in which they are written; what closes is told by the depths. */
static void put_tree(const struct af_stacks_writer *w, const struct af_stack *stack)
{
	if (!stack->n_nodes) {
		put(w, "null");
		return;
	}
	for (uint32_t i = 0; i < stack->n_nodes; i++) {
		const struct af_node *node = &stack->nodes[i];
		put_identity(w, node);
		put_relation(w, node);
		put_values(w, stack, i);
		put(w, ", \"children\": [");
		int depth = node->depth;
		int next = i + 1 < stack->n_nodes ? stack->nodes[i + 1].depth : 0;
		if (next > depth)
			continue;
		for (put(w, "]}"); depth > next; depth--)
			put(w, "]}");
		if (i + 1 < stack->n_nodes)
			put(w, ", ");
	}
}

static void put_group(const struct af_stacks_writer *w, const struct af_stack *stack)
{
	put_number(w, "\"count\": ", stack->count);
	put(w, ", \"ids\": [");
	for (uint32_t i = 0; i < stack->n_ids; i++)
		put_number(w, i ? ", " : "", stack->ids[i]);
	put(w, "], ");
}

static void put_future(const struct af_stacks_writer *w, const struct af_found_task *found)
{
	const char *name;
	const struct af_futuremap *map = &w->target->images[found->task.image].map;
	const struct afm_future *future = af_stacks_future(w->target, found, &name);
	uint32_t type = found->task.future_type;

	if (found->found_by == AF_BY_HEADER)
		type = af_futuremap_roots(map, found->task.root)->future_type;
	put_key_text(w, ", \"future\": {\"name\": ", name);
	put_key_text(w, ", \"type\": ",
		     type == AFM_NONE
			     ? NULL
			     : af_futuremap_string(map, af_futuremap_types(map, type)->name));
	put(w, ", ");
	put_place(w, map, future ? future->file : 0, future ? future->line : 0);
	put(w, "}, \"spawned\": ");
	char path[1024];
	uint32_t line;
	if (!af_task_list_location(w->tasks, found->spawned, path, sizeof(path), &line)) {
		put(w, "null");
		return;
	}
	put_key_text(w, "{\"file\": ", path);
	put_number(w, ", \"line\": ", line);
	put(w, "}");
}

static void json_stack(struct af_stacks_writer *w, const struct af_stack *stack)
{
	const struct af_found_task *found = &stack->found;

	put(w, w->written ? ",\n  {" : "\n  {");
	if (w->options->group)
		put_group(w, stack);
	if (found->task.has_id)
		put_number(w, "\"id\": ", found->task.id);
	else
		put(w, "\"id\": null");
	put_key_text(w, ", \"name\": ", *found->name ? found->name : NULL);
	put_key_text(w, ", \"executor\": ", af_stacks_executor(found));
	put_hex(w, ", \"address\": ", found->task.header);
	put_key_text(w, ", \"state\": ", af_stacks_state(found));
	put(w, found->moving ? ", \"moving\": true" : ", \"moving\": false");
	put(w, found->blocking ? ", \"blocking\": true" : ", \"blocking\": false");
	if (found->has_owner)
		put_number(w, ", \"owner\": ", found->owner);
	else
		put(w, ", \"owner\": null");
	if (found->thread)
		put_number(w, ", \"thread\": ", (uint64_t)found->thread);
	else
		put(w, ", \"thread\": null");
	if (found->has_polled && !w->options->group)
		put_number(w, ", \"polled_ns_ago\": ", found->polled);
	else
		put(w, ", \"polled_ns_ago\": null");
	put_future(w, found);
	put(w, stack->cut ? ", \"incomplete\": true" : "");
	put(w, ", \"tree\": ");
	put_tree(w, stack);
	put(w, "}");
}

static void put_thread(struct af_stacks_writer *w, const struct af_thread_polls *polls)
{
	const struct af_process_thread *thread = &w->tasks->process->threads.items[polls->thread];
	put_number(w, "{\"tid\": ", (uint64_t)thread->tid);
	put_key_text(w, ", \"name\": ", *thread->name ? thread->name : NULL);
	put(w, ", \"polls\": [");
	for (uint32_t i = 0; i < polls->n; i++) {
		const struct af_thread_poll *at = &w->tasks->threads.polls.items[polls->first + i];
		const struct af_image *image = &w->target->images[at->image];
		const struct afm_poll *poll = af_futuremap_polls(&image->map, at->poll);
		put(w, i ? ", " : "");
		put_key_text(w, "{\"name\": ", af_futuremap_string(&image->map, poll->name));
		put_key_text(w, ", \"kind\": ", af_map_poll_kind_name(poll->kind));
		put(w, ", ");
		put_place(w, &image->map, poll->file, poll->line);
		put_hex(w, ", \"address\": ", image->bias + poll->address);
		put_hex(w, ", \"pc\": ", image->bias + at->pc);
		put(w, "}");
	}
	put(w, "], \"task\": ");
	const struct af_found_task *task = af_stacks_task_of(w->tasks, thread->tid);
	if (task)
		put_hex(w, "", task->task.header);
	else
		put(w, "null");
	put_key_text(w, ", \"unknown\": ", polls->unknown);
	put(w, "}");
}

static void json_end(struct af_stacks_writer *w)
{
	const struct af_process *p = w->tasks->process;
	const char *comma = "";
	put(w, "],\n \"threads\": [");
	for (size_t i = 0; i < w->tasks->threads.items.count; i++) {
		put(w, i ? ",\n  " : "\n  ");
		put_thread(w, &w->tasks->threads.items.items[i]);
	}
	put(w, "],\n \"notes\": [");
	for (size_t i = 0; i < p->notes.count; i++, comma = ", ") {
		put(w, comma);
		put_text(w, p->notes.items[i]);
	}
	put(w, "]}\n");
}

const struct af_stacks_format_functions af_stacks_json = {json_begin, json_stack, json_end};

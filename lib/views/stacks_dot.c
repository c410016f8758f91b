/* SPDX-License-Identifier: MIT */
/* Await stacks as a graph for Graphviz: who awaits whom, across tasks. */
#include <inttypes.h>

#include "views/stacks_internal.h"

/* As in a quoted string of DOT: quotes and backslashes escaped, control characters gone,
   generic arguments left out. */
static void put_label(FILE *out, const char *text, bool name)
{
	int depth = 0;
	for (const char *p = text; *p; p++) {
		bool kept = !name || p == text || (p[-1] == ':' && *p == '<') || p[-1] == ' ';
		if (name && *p == '<' && (depth || !kept)) {
			depth++;
		} else if (name && *p == '>' && depth && p[-1] != '-') {
			depth--;
		} else if (!depth) {
			if (*p == '"' || *p == '\\')
				putc_unlocked('\\', out);
			putc_unlocked((unsigned char)*p < ' ' ? '?' : *p, out);
		}
	}
}

static void dot_begin(struct af_stacks_writer *w)
{
	fputs("digraph tasks {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n",
	      w->out);
}

static void put_task(struct af_stacks_writer *w, const struct af_stack *stack)
{
	const struct af_found_task *found = &stack->found;
	const char *name;
	uint32_t image;
	(void)af_stacks_title(w->target, stack, &name, &image);
	fprintf(w->out, "  \"t%" PRIx64 "\" [style=filled, fillcolor=\"#e8eef7\", label=\"",
		found->task.header);
	if (w->options->group)
		fprintf(w->out, "%" PRIu64 " x ", stack->count);
	if (found->found_by == AF_BY_STACK)
		fprintf(w->out, "block_on of thread %d", found->thread);
	else if (found->task.has_id && !w->options->group)
		fprintf(w->out, "task %" PRIu64, found->task.id);
	else
		fputs("task", w->out);
	fprintf(w->out, ", %s\\n", found->moving ? "moving" : af_stacks_state(found));
	put_label(w->out, name, true);
	fputs("\"];\n", w->out);
}

static void put_node(struct af_stacks_writer *w, const struct af_stack *stack, uint32_t i)
{
	const struct af_node *node = &stack->nodes[i];
	const struct af_futuremap *map = &w->target->images[node->image].map;
	const struct afm_variant *at = af_stacks_await(w->target, node);
	uint64_t task = stack->found.task.header;

	fprintf(w->out, "  \"n%" PRIx64 "-%" PRIu32 "\" [label=\"", task, i);
	put_label(w->out, af_stacks_node_name(w->target, node), true);
	if (at) {
		fputs("\\n", w->out);
		put_label(w->out, af_futuremap_string(map, at->file), false);
		fprintf(w->out, ":%" PRIu32, at->line);
	} else if (af_wait_name(node->wait)) {
		fprintf(w->out, "\\nwaits for %s", af_wait_name(node->wait));
	} else if (node->status != AF_NODE_HAND) {
		fprintf(w->out, "\\n%s", af_stacks_node_state(node));
	}
	fputs("\"];\n", w->out);
	if (node->parent == AF_NODE_NONE)
		fprintf(w->out, "  \"t%" PRIx64 "\" -> \"n%" PRIx64 "-%" PRIu32 "\";\n", task, task,
			i);
	else
		fprintf(w->out,
			"  \"n%" PRIx64 "-%" PRIu32 "\" -> \"n%" PRIx64 "-%" PRIu32 "\"%s;\n", task,
			node->parent, task, i,
			node->relation == AF_IS_HELD ? " [style=dotted]" : "");
	if (node->task)
		fprintf(w->out,
			"  \"n%" PRIx64 "-%" PRIu32 "\" -> \"t%" PRIx64 "\" [style=dashed];\n",
			task, i, node->task);
}

static void dot_stack(struct af_stacks_writer *w, const struct af_stack *stack)
{
	put_task(w, stack);
	for (uint32_t i = 0; i < stack->n_nodes; i++)
		put_node(w, stack, i);
}

static void dot_end(struct af_stacks_writer *w)
{
	fputs("}\n", w->out);
}

const struct af_stacks_format_functions af_stacks_dot = {dot_begin, dot_stack, dot_end};

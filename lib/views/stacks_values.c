/* SPDX-License-Identifier: MIT */
/*
 * The variables of a task's futures. While the task is read each becomes a record of text, since texts
 * move as they grow: the node, a digit for its life, and three strings.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "views/stacks_internal.h"

#define MAX_VALUE 1024

static void add_value(struct af_text *text, uint32_t node, unsigned life, const char *name,
		      const char *type, const char *value)
{
	char head[16];
	snprintf(head, sizeof(head), "%u %c", node, '0' + (char)life);
	af_text_append(text, head, strlen(head) + 1);
	af_text_append(text, name, strlen(name) + 1);
	af_text_append(text, type, strlen(type) + 1);
	af_text_append(text, value, strlen(value) + 1);
}

/* "in 3.2s" of "in 3.214068154s". */
static void shorten(char *text)
{
	char *point = strchr(text, '.');
	if (!point)
		return;
	char *digits = point + 1 + (point[1] != '\0');
	size_t n = strspn(digits, "0123456789");
	memmove(digits, digits + n, strlen(digits + n) + 1);
}

/* A timer is told by tokio's Sleep::deadline and async-io's Timer::when, an Option. */
static void read_timer(const struct af_value_options *options, const struct af_target *target,
		       const struct af_node *node, uint32_t at, struct af_text *text)
{
	struct af_local locals[AF_CLAIMS_LOCALS];
	char value[64];
	struct af_line line;
	uint32_t n = af_locals_find(target, node->image, node->type, node->address, node->variant,
				    locals, AF_CLAIMS_LOCALS);
	for (uint32_t i = 0; i < n; i++) {
		const char *from = value;
		if (strcmp(locals[i].name, "deadline") && strcmp(locals[i].name, "when"))
			continue;
		af_line_init(&line, value, sizeof(value));
		af_local_print(&line, options, target, node->image, &locals[i]);
		if (!strncmp(from, "Some(", 5) && value[strlen(value) - 1] == ')') {
			value[strlen(value) - 1] = '\0';
			from += 5;
		}
		shorten(value);
		if (!strncmp(from, "in ", 3) || strstr(from, " ago"))
			add_value(text, at, AF_STACKS_TIMER, "", "", from);
		return;
	}
}

static void read_locals(const struct af_value_options *options, const struct af_target *target,
			const struct af_node *node, uint32_t at, const struct af_claims *claims,
			struct af_text *text)
{
	struct af_local locals[AF_CLAIMS_LOCALS];
	char value[MAX_VALUE];
	struct af_line line;
	uint32_t n = af_locals_find(target, node->image, node->type, node->address, node->variant,
				    locals, AF_CLAIMS_LOCALS);
	for (uint32_t i = 0; i < n; i++) {
		const struct afm_type *type = af_target_type(target, node->image, locals[i].type);
		if (af_claims_marked(claims, at, i))
			locals[i].life = AF_LOCAL_CLAIMED;
		af_line_init(&line, value, sizeof(value));
		af_local_print(&line, options, target, node->image, &locals[i]);
		add_value(text, at, locals[i].life, locals[i].name,
			  af_target_string(target, node->image, type->name), value);
	}
}

void af_stacks_read_timers(const struct af_value_options *options, const struct af_target *target,
			   const struct af_await_tree *tree, struct af_text *text)
{
	for (uint32_t i = 0; options->has_now && i < tree->n_nodes; i++)
		if (tree->nodes[i].wait == AF_WAIT_TIMER)
			read_timer(options, target, &tree->nodes[i], i, text);
}

void af_stacks_read_values(const struct af_value_options *options, const struct af_target *target,
			   const struct af_await_tree *tree, const struct af_claims *claims,
			   struct af_text *text)
{
	for (uint32_t i = 0; i < tree->n_nodes; i++)
		if (af_claims_has_locals(&tree->nodes[i]))
			read_locals(options, target, &tree->nodes[i], i, claims, text);
}

const char *af_stacks_timer(const struct af_stack *stack, uint32_t i)
{
	/* They come before all variables. */
	for (uint32_t v = 0; v < stack->n_values && stack->values[v].life == AF_STACKS_TIMER; v++)
		if (stack->values[v].node == i)
			return stack->texts + stack->values[v].value;
	return NULL;
}

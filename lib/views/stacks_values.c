/* SPDX-License-Identifier: MIT */
/*
 * The variables of a task's futures. While the task is read each becomes a record of text, since texts
 * move as they grow: the node, a digit for its life, and three strings.
 *
 * Locals that seem alive are claims on the memory that they own. Two claims on one memory cannot both
 * be right, so a variable is marked
 * - if a future further in owns the same: it was moved there before that one was awaited;
 * - if another variable owns the same, unless that is one further out: which of both is stale
 *   cannot be told.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/owners.h"
#include "views/stacks_internal.h"

#define MAX_LOCALS 64
#define MAX_VALUE 1024
#define MAX_OWNERS 256 /* of one value */
#define NO_LOCAL UINT32_MAX

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

struct claim {
	uint64_t memory, place;
	uint32_t node, local; /* NO_LOCAL: something of the node */
};

struct claims {
	VECTOR(struct claim) items;
	VECTOR(uint64_t) marked; /* node and local, ascending */
};

static bool has_locals(const struct af_node *node)
{
	return node->future != AFM_NONE &&
	       (node->status == AF_NODE_SUSPENDED || node->status == AF_NODE_NOT_STARTED ||
		node->status == AF_NODE_HAND);
}

static void add_claims(struct claims *claims, const struct af_target *target,
		       const struct af_node *node, uint32_t at, uint32_t type, uint64_t address,
		       uint32_t local)
{
	struct af_owner owners[MAX_OWNERS];
	uint32_t n = af_owners_find(target, node->image, type, address, owners, MAX_OWNERS);
	for (uint32_t i = 0; i < n; i++) {
		struct claim *claim = vector_push(&claims->items);
		if (claim)
			*claim = (struct claim){owners[i].memory, owners[i].place, at, local};
	}
}

/* By memory and place; of one place what lies furthest in first, and there variables first. */
static int compare_claims(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	if (x->memory != y->memory)
		return x->memory < y->memory ? -1 : 1;
	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	if (x->node != y->node)
		return x->node > y->node ? -1 : 1;
	return x->local < y->local ? -1 : x->local > y->local;
}

static int compare_marks(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

/* Whether node `outer` lies around node `inner`. */
static bool is_around(const struct af_await_tree *tree, uint32_t outer, uint32_t inner)
{
	while (inner != outer && inner < tree->n_nodes)
		inner = tree->nodes[inner].parent;
	return inner == outer;
}

static bool contradicts(const struct af_await_tree *tree, const struct claim *claim,
			const struct claim *other)
{
	if (other->place == claim->place)
		return false;
	if (other->node != claim->node && is_around(tree, claim->node, other->node))
		return true;
	return other->local != NO_LOCAL &&
	       (other->node == claim->node || !is_around(tree, other->node, claim->node));
}

/* Notes the variables among claims[0..n), all on one memory, that others contradict. */
static void judge(struct claims *marks, const struct af_await_tree *tree,
		  const struct claim *claims, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool stale = false;
		/* What a place further in has to say of it is said by that. */
		if (claims[i].local == NO_LOCAL || (i && claims[i - 1].place == claims[i].place))
			continue;
		for (size_t k = 0; k < n && !stale; k++)
			stale = contradicts(tree, &claims[i], &claims[k]);
		uint64_t *mark = stale ? vector_push(&marks->marked) : NULL;
		if (mark)
			*mark = (uint64_t)claims[i].node << 32 | claims[i].local;
	}
}

static void find_claims(struct claims *claims, const struct af_target *target,
			const struct af_await_tree *tree)
{
	struct af_local locals[MAX_LOCALS];
	for (uint32_t i = 0; i < tree->n_nodes; i++) {
		const struct af_node *node = &tree->nodes[i];
		if (!has_locals(node))
			continue;
		add_claims(claims, target, node, i, node->type, node->address, NO_LOCAL);
		uint32_t n = af_locals_find(target, node->image, node->type, node->address,
					    node->variant, locals, MAX_LOCALS);
		for (uint32_t k = 0; k < n; k++)
			if (locals[k].life == AF_LOCAL_ALIVE && !locals[k].by_reference)
				add_claims(claims, target, node, i, locals[k].type,
					   locals[k].address, k);
	}
	vector_sort(&claims->items, compare_claims);
	const struct claim *all = claims->items.items;
	for (size_t i = 0, end, n = claims->items.count; i < n; i = end) {
		for (end = i; end < n && all[end].memory == all[i].memory; end++)
			;
		judge(claims, tree, all + i, end - i);
	}
	vector_sort(&claims->marked, compare_marks);
}

static bool is_marked(const struct claims *claims, uint32_t node, uint32_t local)
{
	uint64_t key = (uint64_t)node << 32 | local;
	return claims->marked.count && bsearch(&key, claims->marked.items, claims->marked.count,
					       sizeof(key), compare_marks);
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
	struct af_local locals[MAX_LOCALS];
	char value[64];
	struct af_line line;
	uint32_t n = af_locals_find(target, node->image, node->type, node->address, node->variant,
				    locals, MAX_LOCALS);
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

void af_stacks_read_values(const struct af_value_options *options, const struct af_target *target,
			   const struct af_await_tree *tree, bool variables, struct af_text *text)
{
	struct af_local locals[MAX_LOCALS];
	struct claims claims = {0};
	char value[MAX_VALUE];
	for (uint32_t i = 0; options->has_now && i < tree->n_nodes; i++)
		if (tree->nodes[i].wait == AF_WAIT_TIMER)
			read_timer(options, target, &tree->nodes[i], i, text);
	if (!variables)
		return;
	find_claims(&claims, target, tree);
	for (uint32_t i = 0; i < tree->n_nodes; i++) {
		const struct af_node *node = &tree->nodes[i];
		if (!has_locals(node))
			continue;
		uint32_t n = af_locals_find(target, node->image, node->type, node->address,
					    node->variant, locals, MAX_LOCALS);
		for (uint32_t k = 0; k < n; k++) {
			const struct afm_type *type =
				af_target_type(target, node->image, locals[k].type);
			struct af_line line;
			if (is_marked(&claims, i, k))
				locals[k].life = AF_LOCAL_CLAIMED;
			af_line_init(&line, value, sizeof(value));
			af_local_print(&line, options, target, node->image, &locals[k]);
			add_value(text, i, locals[k].life, locals[k].name,
				  af_target_string(target, node->image, type->name), value);
		}
	}
	vector_deinit(&claims.items);
	vector_deinit(&claims.marked);
}

const char *af_stacks_timer(const struct af_stack *stack, uint32_t i)
{
	/* They come before all variables. */
	for (uint32_t v = 0; v < stack->n_values && stack->values[v].life == AF_STACKS_TIMER; v++)
		if (stack->values[v].node == i)
			return stack->texts + stack->values[v].value;
	return NULL;
}

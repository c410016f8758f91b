/* SPDX-License-Identifier: MIT */
#include "views/stacks_claims.h"

#include <stdlib.h>
#include <string.h>

#define MAX_OWNERS 256		 /* of one value */
#define MAX_CLAIMS (1u << 20)	 /* of one task */
#define MAX_ELSEWHERE (2u << 20) /* of all tasks: 48 MiB */
#define MAX_OTHERS 64		 /* claims on one memory that are looked at */

bool af_claims_has_locals(const struct af_node *node)
{
	return node->future != AFM_NONE &&
	       (node->status == AF_NODE_SUSPENDED || node->status == AF_NODE_NOT_STARTED ||
		node->status == AF_NODE_HAND);
}

void af_claims_deinit(struct af_claims *claims)
{
	vector_deinit(&claims->items);
	vector_deinit(&claims->marked);
	vector_deinit(&claims->awaited);
	vector_deinit(&claims->gone);
}

static int compare_numbers(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static bool is_among(const uint64_t *items, size_t n, uint64_t number)
{
	return n && bsearch(&number, items, n, sizeof(number), compare_numbers);
}

/* --- of one task ---------------------------------------------------------------------- */

static void add_claims(struct af_claims *claims, const struct af_target *target, uint32_t image,
		       uint32_t type, uint64_t address, uint32_t node, uint32_t local, bool sure)
{
	struct af_owner owners[MAX_OWNERS];
	uint32_t n = af_owners_find(target, image, type, address, owners, MAX_OWNERS);
	for (uint32_t i = 0; i < n && claims->items.count < MAX_CLAIMS; i++) {
		struct af_claim *claim = vector_push(&claims->items);
		if (claim)
			*claim = (struct af_claim){owners[i].memory, owners[i].place, node, local,
						   sure};
	}
}

static void add_locals(struct af_claims *claims, const struct af_target *target,
		       const struct af_node *node, uint32_t at, bool held)
{
	struct af_local locals[AF_CLAIMS_LOCALS];
	uint32_t n = af_locals_find(target, node->image, node->type, node->address, node->variant,
				    locals, AF_CLAIMS_LOCALS);
	for (uint32_t i = 0; i < n; i++) {
		const struct af_local *local = &locals[i];
		uint64_t size = af_target_type(target, node->image, local->type)->size;
		struct af_place *gone = local->is_gone ? vector_push(&claims->gone) : NULL;
		if (gone)
			*gone = (struct af_place){local->address, local->address + size};
		if (local->life == AF_LOCAL_ALIVE && !local->by_reference)
			add_claims(claims, target, node->image, local->type, local->address, at, i,
				   local->is_certain && !held);
	}
}

/* By memory and place; of one place what lies furthest in first, and there variables first. */
static int compare_claims(const void *a, const void *b)
{
	const struct af_claim *x = a, *y = b;
	if (x->memory != y->memory)
		return x->memory < y->memory ? -1 : 1;
	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	if (x->node != y->node)
		return x->node > y->node ? -1 : 1;
	return x->local < y->local ? -1 : x->local > y->local;
}

static bool is_held(const struct af_await_tree *tree, uint32_t node)
{
	for (; node < tree->n_nodes; node = tree->nodes[node].parent)
		if (tree->nodes[node].relation == AF_IS_HELD ||
		    tree->nodes[node].flags & AF_NODE_DISABLED)
			return true;
	return false;
}

/* `root`: the value that the executor keeps, if that is not the tree's first future itself. */
static void collect(struct af_claims *claims, const struct af_target *target,
		    const struct af_await_tree *tree, const struct af_task *root)
{
	claims->items.count = claims->marked.count = claims->awaited.count = claims->gone.count = 0;
	if (root && tree->n_nodes && root->future && root->future_type != AFM_NONE &&
	    root->future != tree->nodes[0].address)
		add_claims(claims, target, root->image, root->future_type, root->future, 0,
			   AF_NO_LOCAL, false);
	for (uint32_t i = 0; i < tree->n_nodes; i++) {
		const struct af_node *node = &tree->nodes[i];
		uint64_t *awaited = node->status == AF_NODE_SAME || is_held(tree, i)
					    ? NULL
					    : vector_push(&claims->awaited);
		if (awaited)
			*awaited = node->address;
		if (!af_claims_has_locals(node))
			continue;
		add_claims(claims, target, node->image, node->type, node->address, i, AF_NO_LOCAL,
			   false);
		add_locals(claims, target, node, i, is_held(tree, i));
	}
	vector_sort(&claims->items, compare_claims);
	vector_sort(&claims->awaited, compare_numbers);
}

/* Whether node `outer` lies around node `inner`. */
static bool is_around(const struct af_await_tree *tree, uint32_t outer, uint32_t inner)
{
	while (inner != outer && inner < tree->n_nodes)
		inner = tree->nodes[inner].parent;
	return inner == outer;
}

static bool contradicts(const struct af_await_tree *tree, const struct af_claim *claim,
			const struct af_claim *other)
{
	if (other->place == claim->place)
		return false;
	if (other->node != claim->node && is_around(tree, claim->node, other->node))
		return true;
	return other->local != AF_NO_LOCAL &&
	       (other->node == claim->node || !is_around(tree, other->node, claim->node));
}

/* Whether the task awaits what lies in this memory: then it owns it, whoever else seems to. */
static bool is_certain(const struct af_claims *claims, const struct af_await_tree *tree,
		       const struct af_claim *claim)
{
	const struct af_node *node = &tree->nodes[claim->node];
	if (claim->sure || is_among(claims->awaited.items, claims->awaited.count, claim->memory))
		return true;
	return node->status == AF_NODE_NOT_STARTED && !is_held(tree, claim->node);
}

/* --- of all tasks --------------------------------------------------------------------- */

static bool is_gone(const struct af_claims *claims, uint64_t place)
{
	for (size_t i = 0; i < claims->gone.count; i++)
		if (place >= claims->gone.items[i].start && place < claims->gone.items[i].end)
			return true;
	return false;
}

void af_elsewhere_read(struct af_claims *claims, const struct af_target *target,
		       const struct af_found_task *found, uint32_t task,
		       const struct af_await_tree *tree, struct af_text *text)
{
	collect(claims, target, tree, &found->task);
	for (size_t i = 0; i < claims->items.count; i++) {
		const struct af_claim *claim = &claims->items.items[i];
		if ((i && claim[-1].place == claim->place && claim[-1].memory == claim->memory) ||
		    is_gone(claims, claim->place))
			continue;
		struct af_owned owned = {claim->memory, claim->place, task,
					 is_certain(claims, tree, claim)};
		af_text_append(text, (const char *)&owned, sizeof(owned));
	}
}

void af_elsewhere_add(struct af_elsewhere *elsewhere, const char *data, size_t size)
{
	size_t n = size / sizeof(struct af_owned), room = MAX_ELSEWHERE - elsewhere->items.count;
	elsewhere->full |= n > room;
	n = n < room ? n : room;
	if (!n)
		return;
	if (!vector_reserve(&elsewhere->items, n)) {
		elsewhere->full = true;
		return;
	}
	memcpy(elsewhere->items.items + elsewhere->items.count, data, n * sizeof(struct af_owned));
	elsewhere->items.count += n;
}

static int compare_owned(const void *a, const void *b)
{
	const struct af_owned *x = a, *y = b;
	if (x->memory != y->memory)
		return x->memory < y->memory ? -1 : 1;
	return x->place < y->place ? -1 : x->place > y->place;
}

void af_elsewhere_sort(struct af_elsewhere *elsewhere)
{
	vector_sort(&elsewhere->items, compare_owned);
}

void af_elsewhere_deinit(struct af_elsewhere *elsewhere)
{
	vector_deinit(&elsewhere->items);
}

/* Whether another task owns the memory of this claim, still at this moment. */
static bool owned_elsewhere(const struct af_elsewhere *elsewhere, const struct af_target *target,
			    uint32_t task, const struct af_claim *claim, bool certain)
{
	const struct af_owned *all = elsewhere->items.items;
	size_t low = 0, high = elsewhere->items.count;
	uint64_t now;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (all[middle].memory < claim->memory)
			low = middle + 1;
		else
			high = middle;
	}
	high = elsewhere->items.count - low < MAX_OTHERS ? elsewhere->items.count
							 : low + MAX_OTHERS;
	for (; low < high && all[low].memory == claim->memory; low++)
		if (all[low].task != task && all[low].place != claim->place &&
		    (all[low].certain || !certain) &&
		    af_memory_read_u64(target->memory, all[low].place, &now) &&
		    now == claim->memory)
			return true;
	return false;
}

/* --- the judgement -------------------------------------------------------------------- */

/* Notes the variables among claims[0..n), all on one memory, that others contradict. */
static void judge(struct af_claims *marks, const struct af_elsewhere *elsewhere,
		  const struct af_target *target, uint32_t task, const struct af_await_tree *tree,
		  const struct af_claim *claims, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool stale = false;
		/* What a place further in has to say of it is said by that. */
		if (claims[i].local == AF_NO_LOCAL || claims[i].sure ||
		    (i && claims[i - 1].place == claims[i].place))
			continue;
		for (size_t k = 0; k < n && !stale; k++)
			stale = contradicts(tree, &claims[i], &claims[k]);
		stale = stale || owned_elsewhere(elsewhere, target, task, &claims[i],
						 is_certain(marks, tree, &claims[i]));
		uint64_t *mark = stale ? vector_push(&marks->marked) : NULL;
		if (mark)
			*mark = (uint64_t)claims[i].node << 32 | claims[i].local;
	}
}

void af_claims_find(struct af_claims *claims, const struct af_elsewhere *elsewhere,
		    const struct af_target *target, uint32_t task, const struct af_await_tree *tree)
{
	collect(claims, target, tree, NULL);
	const struct af_claim *all = claims->items.items;
	for (size_t i = 0, end, n = claims->items.count; i < n; i = end) {
		for (end = i; end < n && all[end].memory == all[i].memory; end++)
			;
		judge(claims, elsewhere, target, task, tree, all + i, end - i);
	}
	vector_sort(&claims->marked, compare_numbers);
}

bool af_claims_marked(const struct af_claims *claims, uint32_t node, uint32_t local)
{
	return is_among(claims->marked.items, claims->marked.count, (uint64_t)node << 32 | local);
}

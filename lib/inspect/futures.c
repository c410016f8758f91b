/* SPDX-License-Identifier: MIT */
/*
 * Nodes: what a coroutine awaits and what it merely holds, what a hand-written future holds,
 * and which task a handle stands for.
 */
#include "inspect/locals.h"
#include "inspect/task.h"
#include "inspect/walk.h"

/* Whether a field before this one is the same: an argument that became a variable is listed
   twice, in the place of that. */
static bool is_repeated(const struct af_futuremap *map, const struct afm_variant *v, uint32_t index)
{
	const struct afm_field *all = af_futuremap_fields(map, v->first_field);

	for (uint32_t i = 0; i < index; i++)
		if (all[i].name == all[index].name && all[i].offset == all[index].offset)
			return true;
	return false;
}

/* Pushes what a coroutine holds but does not await. What is known to be alive is gone through like
   anything else, what is known to be gone is not there. Of the rest, whether it may be shown behind
   pointers say drop flags, where there are any: one that is 0 speaks for all. Skipped then is what is
   in Unresumed at the same place: an argument that may have been moved out long ago
   (`keep_captured`: that is the state it is in). */
static void push_held(struct af_walker *w, const struct af_tree_item *item, uint32_t node,
		      const struct afm_variant *v, bool keep_captured)
{
	const struct af_futuremap *map = af_walk_map(w, item->image);
	struct af_tree_item below = af_walk_below(item, node, AF_IS_HELD);
	struct af_tree_item sure = below;
	bool alive = true, asked = false;

	if (w->tree->held == AF_HELD_NONE)
		return;
	sure.flags |= AF_ITEM_HELD | AF_ITEM_SURE;
	below.flags |= AF_ITEM_HELD;
	below.flags &= (uint8_t)~AF_ITEM_SURE;
	if (w->tree->held == AF_HELD_VALUES)
		below.flags |= AF_ITEM_NO_POINTERS;
	for (uint32_t i = v->n_fields; i-- > 0;) {
		const struct afm_field *field = af_futuremap_fields(map, v->first_field + i);
		if (field->type == AFM_NONE || v->first_field + i == v->awaitee ||
		    !(af_futuremap_types(map, field->type)->flags & AFM_TF_REACHES_FUTURE))
			continue;
		enum af_fate fate = af_locals_fate(w->target, item->image, item->address, v, field);
		if (fate == AF_FATE_ALIVE && !is_repeated(map, v, i))
			af_walk_push_field(w, &sure, v->first_field + i);
		if (fate == AF_FATE_ALIVE || fate == AF_FATE_MOVED ||
		    ((field->flags & AFM_FF_CAPTURED) && !keep_captured))
			continue;
		if (!asked) {
			asked = true;
			alive = !af_locals_any_gone(w->target, item->image, item->address, v);
			if (!alive)
				below.flags |= AF_ITEM_NO_POINTERS | AF_ITEM_DOUBTFUL;
		}
		/* A temporary: the likeliest to be stale. */
		const char *name = af_futuremap_string(map, field->name);
		if (!alive && name[0] == '_' && name[1] == '_')
			continue;
		af_walk_push_field(w, &below, v->first_field + i);
	}
}

void af_walk_coroutine(struct af_walker *w, const struct af_tree_item *item)
{
	const struct af_futuremap *map = af_walk_map(w, item->image);
	uint32_t variant, node;
	enum af_active active = af_walk_variant(w, item, &variant);

	/* Once polled it is pinned; before that it may have gone anywhere. */
	if (af_walk_is_doubtful(item) &&
	    (active != AF_ACTIVE_FOUND ||
	     strncmp(af_futuremap_string(map, af_futuremap_variants(map, variant)->name), "Suspend",
		     7)))
		return;
	node = af_walk_node(w, item);
	if (node == AF_NODE_NONE)
		return;
	struct af_node *made = &w->tree->nodes[node];
	if (active != AF_ACTIVE_FOUND) {
		made->status =
			active == AF_ACTIVE_UNREADABLE ? AF_NODE_UNREADABLE : AF_NODE_UNKNOWN;
		return;
	}
	const struct afm_variant *v = af_futuremap_variants(map, variant);
	const char *name = af_futuremap_string(map, v->name);
	made->variant = variant;
	if (!strcmp(name, "Unresumed")) {
		made->status = AF_NODE_NOT_STARTED;
		push_held(w, item, node, v, true);
	} else if (!strcmp(name, "Returned")) {
		made->status = AF_NODE_DONE;
	} else if (!strcmp(name, "Panicked")) {
		made->status = AF_NODE_PANICKED;
	} else {
		made->status = AF_NODE_SUSPENDED;
		push_held(w, item, node, v, false);
		if (v->awaitee == AFM_NONE)
			return;
		/* Last, so that it is looked at first: what the awaitee borrows from the
		   coroutine is awaited, and not held. */
		const struct afm_field *awaitee = af_futuremap_fields(map, v->awaitee);
		struct af_tree_item below = af_walk_below(item, node, AF_IS_AWAITED);
		below.flags |= AF_ITEM_FUTURE;
		af_walk_push(w, &below, item->image, awaitee->type,
			     item->address + awaitee->offset);
	}
}

/* Names of a combinator's states in which it holds nothing any more. */
static bool is_end(const char *variant)
{
	static const char *const ends[] = {"Complete", "Empty", "Done", "Gone", "Terminated"};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (!strcmp(variant, ends[i]))
			return true;
	return false;
}

static void hand_enum(struct af_walker *w, const struct af_tree_item *item, uint32_t node)
{
	const struct af_futuremap *map = af_walk_map(w, item->image);
	struct af_tree_item below = af_walk_below(item, node, AF_IS_CHILD);
	struct af_node *made = &w->tree->nodes[node];
	uint32_t variant;

	enum af_active active = af_walk_variant(w, item, &variant);
	if (active == AF_ACTIVE_FOUND) {
		const struct afm_variant *v = af_futuremap_variants(map, variant);
		made->variant = variant;
		made->flags |= AF_NODE_IN_STATE;
		if (!v->n_fields && is_end(af_futuremap_string(map, v->name)))
			made->status = AF_NODE_DONE;
		af_walk_push_fields(w, &below, v->first_field, v->n_fields);
	} else if (active == AF_ACTIVE_UNREADABLE) {
		made->status = AF_NODE_UNREADABLE;
	} else if (active == AF_ACTIVE_INVALID) {
		made->status = AF_NODE_UNKNOWN;
	} else {
		made->flags |= AF_NODE_LOST;
	}
}

/* futures-rs writes `struct Map { inner: map::Map }`, an outside and an inside. */
static bool is_inside(struct af_walker *w, const struct af_tree_item *item)
{
	static const char crate[] = "futures_util::";
	const struct af_node *above;

	if (item->parent == AF_NODE_NONE || item->relation != AF_IS_CHILD)
		return false;
	above = &w->tree->nodes[item->parent];
	return above->address == item->address && above->image == item->image &&
	       above->n_children == 0 &&
	       !strcmp(af_target_string(w->target, item->label_image, item->label), "inner") &&
	       !strncmp(af_target_string(w->target, item->image,
					 af_target_type(w->target, item->image, item->type)->name),
			crate, sizeof(crate) - 1) &&
	       !strncmp(
		       af_target_string(w->target, above->image,
					af_target_type(w->target, above->image, above->type)->name),
		       crate, sizeof(crate) - 1);
}

void af_walk_hand(struct af_walker *w, const struct af_tree_item *item)
{
	const struct afm_type *t = af_target_type(w->target, item->image, item->type);
	uint32_t node;

	if (is_inside(w, item)) {
		uint32_t variant;
		if (t->n_variants && af_walk_variant(w, item, &variant) == AF_ACTIVE_FOUND) {
			const struct af_futuremap *map = af_walk_map(w, item->image);
			const struct afm_variant *v = af_futuremap_variants(map, variant);
			if (!v->n_fields && is_end(af_futuremap_string(map, v->name)))
				w->tree->nodes[item->parent].status = AF_NODE_DONE;
		}
		struct af_tree_item below = af_walk_below(item, item->parent, AF_IS_CHILD);
		below.relation = item->relation;
		af_walk_fields(w, &below);
		return;
	}
	node = af_walk_is_doubtful(item) ? AF_NODE_NONE : af_walk_node(w, item);
	if (node == AF_NODE_NONE)
		return;
	w->tree->nodes[node].status = AF_NODE_HAND;
	if (t->n_variants) {
		hand_enum(w, item, node);
		return;
	}
	struct af_tree_item below = af_walk_below(item, node, AF_IS_CHILD);
	uint32_t before = w->tree->n_items;
	af_walk_push_fields(w, &below, t->first_field, t->n_fields);
	/* The closure's fields are what has names. */
	if (af_shape_of(w->target, item->image, item->type) == AF_SHAPE_POLL_FN)
		for (uint32_t i = before; i < w->tree->n_items; i++)
			w->tree->items[i].label = 0;
}

void af_walk_leaf(struct af_walker *w, const struct af_tree_item *item)
{
	uint32_t node = af_walk_is_doubtful(item) ? AF_NODE_NONE : af_walk_node(w, item);
	if (node != AF_NODE_NONE)
		w->tree->nodes[node].status = AF_NODE_HAND;
}

/* The place of the header's address in a handle, and what is there. */
static uint64_t header_of(struct af_walker *w, const struct af_tree_item *item, const char *name)
{
	uint32_t type = item->type;
	uint64_t at = item->address, header;

	if (!af_target_path(w->target, item->image, name, &type, &at) ||
	    af_dig_pointee(w->target, item->image, type) == AFM_NONE ||
	    !af_walk_read_u64(w, at, &header))
		return 0;
	return header;
}

static bool is_known_task(const struct af_await_tree *tree, uint64_t task)
{
	for (uint32_t i = 0; i < tree->n_nodes; i++)
		if (tree->nodes[i].task == task)
			return true;
	return false;
}

void af_walk_task_handle(struct af_walker *w, const struct af_tree_item *item)
{
	bool tokio = af_shape_of(w->target, item->image, item->type) == AF_SHAPE_JOIN_HANDLE;
	uint64_t header = header_of(w, item, tokio ? "raw" : "ptr");

	/* `for handle in handles { handle.await }`: the copy it was moved from. */
	if ((item->flags & AF_ITEM_HELD) &&
	    (!header || af_walk_is_doubtful(item) || is_known_task(w->tree, header)))
		return;
	uint32_t node = af_walk_node(w, item);
	if (node == AF_NODE_NONE)
		return;
	struct af_node *made = &w->tree->nodes[node];
	made->status = header ? AF_NODE_HAND : AF_NODE_UNREADABLE;
	made->task = header;
	made->wait = AF_WAIT_TASK;
	if (tokio && header && af_task_is_blocking(w->target, item->image, header))
		made->wait = AF_WAIT_BLOCKING;
}

/* What the future above says that a leaf waits for; false if nothing more can be told. */
static bool outer_wait(struct af_walker *w, const struct af_node **node, enum af_wait *wait)
{
	bool awaited = (*node)->relation == AF_IS_AWAITED;

	if ((*node)->parent == AF_NODE_NONE)
		return false;
	*node = &w->tree->nodes[(*node)->parent];
	enum af_shape shape = af_shape_of(w->target, (*node)->image, (*node)->type);
	enum af_wait outer = af_shape_own_wait(w->target, (*node)->image, (*node)->type);
	if (outer != AF_WAIT_NONE)
		*wait = outer;
	/* What is around the leaf alone, and is written by hand, may say nothing. */
	if (!awaited)
		return shape == AF_SHAPE_HAND && (*node)->n_children == 1;
	return shape == AF_SHAPE_COROUTINE && outer != AF_WAIT_NONE;
}

/* A library's future knows better than the primitive that it is made of: `send` waits for room in a
   channel by way of a semaphore, a lock by way of an event. Of I/O and timers there is nothing to
   know better. */
static enum af_wait wait_of(struct af_walker *w, const struct af_node *leaf)
{
	enum af_wait wait = af_shape_wait(w->target, leaf->image, leaf->type);
	enum af_wait outer = wait;
	const struct af_node *node = leaf;

	while (wait != AF_WAIT_IO && wait != AF_WAIT_TIMER && wait != AF_WAIT_NEVER &&
	       outer_wait(w, &node, &outer))
		wait = outer;
	return wait;
}

/* tokio's select! keeps the branches that it no longer polls in a mask beside them. */
static void mark_disabled(struct af_walker *w, const struct af_node *node)
{
	const struct af_futuremap *map = af_walk_map(w, node->image);
	uint32_t type = node->type;
	uint64_t at = node->address, mask;

	if (!af_target_path(w->target, node->image, "f", &type, &at))
		return;
	if (!af_target_path(w->target, node->image, "_ref__disabled", &type, &at) &&
	    !af_target_path(w->target, node->image, "disabled", &type, &at))
		return;
	const struct afm_type *t = af_futuremap_types(map, type);
	if (t->kind == AFM_T_POINTER) {
		if (t->target == AFM_NONE || !af_walk_read_u64(w, at, &at))
			return;
		t = af_futuremap_types(map, t->target);
	}
	if (t->kind != AFM_T_UNSIGNED ||
	    !af_memory_read_number(w->target->memory, at, t->size, &mask))
		return;
	for (uint32_t i = node->first_child; i != AF_NODE_NONE; i = w->tree->nodes[i].next)
		if (w->tree->nodes[i].index < 64 && mask >> w->tree->nodes[i].index & 1)
			w->tree->nodes[i].flags |= AF_NODE_DISABLED;
}

void af_walk_finish(struct af_walker *w)
{
	for (uint32_t i = 0; i < w->tree->n_nodes; i++) {
		struct af_node *node = &w->tree->nodes[i];
		if (node->relation == AF_IS_HELD && node->status != AF_NODE_SUSPENDED)
			node->flags |= AF_NODE_UNSURE;
		if (node->n_children > 1 &&
		    af_shape_of(w->target, node->image, node->type) == AF_SHAPE_POLL_FN)
			mark_disabled(w, node);
		if (node->wait || node->status != AF_NODE_HAND)
			continue;
		uint32_t child = node->first_child;
		while (child != AF_NODE_NONE && w->tree->nodes[child].relation == AF_IS_HELD)
			child = w->tree->nodes[child].next;
		if (child == AF_NODE_NONE)
			node->wait = (uint8_t)wait_of(w, node);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * The walk itself: the stack of places, and the book-keeping of nodes, of what was met before,
 * and of limits.
 */
#include "inspect/walk.h"

/* The same place between futures, through another pointer: two clones of a Shared, but also a
   ring of Rc. So many times it is gone through again. */
#define PLACE_VISITS 16

bool af_walk_read(struct af_walker *w, uint64_t address, void *to, size_t size)
{
	w->tree->n_reads++;
	if (af_memory_read(w->target->memory, address, to, size))
		return true;
	w->tree->n_failed++;
	return false;
}

bool af_walk_read_u64(struct af_walker *w, uint64_t address, uint64_t *value)
{
	return af_walk_read(w, address, value, sizeof(*value));
}

enum af_active af_walk_variant(struct af_walker *w, const struct af_tree_item *item,
			       uint32_t *variant)
{
	w->tree->n_reads++;
	enum af_active active =
		af_target_variant(w->target, item->image, item->type, item->address, variant);
	if (active == AF_ACTIVE_UNREADABLE)
		w->tree->n_failed++;
	return active;
}

void af_walk_lost(struct af_walker *w, const struct af_tree_item *item)
{
	if (item->parent != AF_NODE_NONE)
		w->tree->nodes[item->parent].flags |= AF_NODE_LOST;
}

void af_walk_push(struct af_walker *w, const struct af_tree_item *item, uint32_t image,
		  uint32_t type, uint64_t address)
{
	struct af_await_tree *tree = w->tree;

	if (type == AFM_NONE)
		return;
	if (item->depth >= tree->max_depth || tree->n_items == tree->max_items) {
		tree->cut |= item->depth >= tree->max_depth ? AF_CUT_DEPTH : AF_CUT_NODES;
		if (item->parent != AF_NODE_NONE)
			tree->nodes[item->parent].flags |= AF_NODE_CUT;
		return;
	}
	struct af_tree_item *pushed = &tree->items[tree->n_items++];
	*pushed = *item;
	pushed->image = image;
	pushed->type = type;
	pushed->address = address;
	pushed->depth++;
	pushed->flags &= (uint8_t)~AF_ITEM_BY_POINTER;
}

void af_walk_push_pointee(struct af_walker *w, const struct af_tree_item *item, uint32_t image,
			  uint32_t type, uint64_t address)
{
	const struct afm_type *t;

	if (type == AFM_NONE)
		return;
	t = af_target_type(w->target, image, type);
	if ((item->flags & AF_ITEM_NO_POINTERS) || !address || (t->align && address % t->align) ||
	    address > UINT64_MAX - t->size) {
		af_walk_lost(w, item);
		return;
	}
	uint32_t before = w->tree->n_items;
	af_walk_push(w, item, image, type, address);
	if (w->tree->n_items > before)
		w->tree->items[before].flags |=
			(item->flags & (AF_ITEM_HELD | AF_ITEM_SURE)) == AF_ITEM_HELD
				? AF_ITEM_BY_POINTER | AF_ITEM_UNSURE
				: AF_ITEM_BY_POINTER;
}

/* "__7" is 7, of a tuple a place; anything else none. */
static uint32_t position(const char *name)
{
	uint32_t value = 0;

	if (name[0] != '_' || name[1] != '_' || !name[2])
		return AFM_NONE;
	for (name += 2; *name; name++) {
		if (*name < '0' || *name > '9' || value > 100000)
			return AFM_NONE;
		value = value * 10 + (uint32_t)(*name - '0');
	}
	return value;
}

static void label(struct af_walker *w, struct af_tree_item *item, const struct afm_field *field)
{
	const struct af_futuremap *map = af_walk_map(w, item->image);
	const char *name = af_futuremap_string(map, field->name);
	uint32_t at = position(name);

	if (at != AFM_NONE) {
		const char *type =
			af_futuremap_string(map, af_futuremap_types(map, item->type)->name);
		/* Of places within places the outermost: the branch of a select!. */
		if (*type == '(' && item->index == AFM_NONE)
			item->index = at;
	} else if (!item->label && *name) {
		/* A closure's captured reference. */
		uint32_t skip = !strncmp(name, "_ref__", 6) && name[6] ? 6 : 0;
		item->label = field->name + skip;
		item->label_image = item->image;
	}
}

void af_walk_push_field(struct af_walker *w, const struct af_tree_item *item, uint32_t index)
{
	const struct afm_field *field = af_futuremap_fields(af_walk_map(w, item->image), index);
	struct af_tree_item below = *item;

	label(w, &below, field);
	af_walk_push(w, &below, item->image, field->type, item->address + field->offset);
}

uint32_t af_walk_push_fields(struct af_walker *w, const struct af_tree_item *item, uint32_t first,
			     uint32_t n)
{
	const struct af_futuremap *map = af_walk_map(w, item->image);
	uint32_t pushed = 0;

	for (uint32_t i = n; i-- > 0;) {
		const struct afm_field *field = af_futuremap_fields(map, first + i);
		if (field->type == AFM_NONE ||
		    !(af_futuremap_types(map, field->type)->flags & AFM_TF_REACHES_FUTURE))
			continue;
		af_walk_push_field(w, item, first + i);
		pushed++;
	}
	return pushed;
}

static uint32_t hash(uint32_t image, uint32_t type, uint64_t address)
{
	uint64_t h = (address ^ (uint64_t)type << 40 ^ image) * 0x9e3779b97f4a7c15;
	return (uint32_t)(h >> 32);
}

/* What was noted of a place; a fresh note if nothing was. NULL if there is no room. */
static struct af_tree_seen *note(struct af_walker *w, uint32_t image, uint32_t type,
				 uint64_t address)
{
	struct af_await_tree *tree = w->tree;

	for (uint32_t i = hash(image, type, address);; i++) {
		struct af_tree_seen *seen = &tree->seen[i & tree->seen_mask];
		if (seen->epoch == tree->epoch) {
			if (seen->address == address && seen->type == type && seen->image == image)
				return seen;
			continue;
		}
		/* A quarter stays free, so that the search ends. */
		if (tree->n_seen >= tree->seen_mask - tree->seen_mask / 4)
			return NULL;
		tree->n_seen++;
		*seen = (struct af_tree_seen){.address = address,
					      .image = image,
					      .type = type,
					      .node = AF_NODE_NONE,
					      .epoch = tree->epoch};
		return seen;
	}
}

static uint32_t add_node(struct af_walker *w, const struct af_tree_item *item)
{
	struct af_await_tree *tree = w->tree;

	/* A tree has one root: of a wrapper's fields the first that is a future. */
	if (item->parent == AF_NODE_NONE && tree->n_nodes)
		return AF_NODE_NONE;
	if (tree->n_nodes == tree->max_nodes) {
		tree->cut |= AF_CUT_NODES;
		if (item->parent != AF_NODE_NONE)
			tree->nodes[item->parent].flags |= AF_NODE_CUT;
		return AF_NODE_NONE;
	}
	uint32_t node = tree->n_nodes++;
	struct af_node *added = &tree->nodes[node];
	*added = (struct af_node){
		.address = item->address,
		.parent = item->parent,
		.first_child = AF_NODE_NONE,
		.last_child = AF_NODE_NONE,
		.next = AF_NODE_NONE,
		.image = item->image,
		.type = item->type,
		.future = af_target_type(w->target, item->image, item->type)->future,
		.variant = AFM_NONE,
		.index = item->index,
		.label = item->label,
		.label_image = item->label_image,
		.same_as = AF_NODE_NONE,
		.relation = item->relation,
		.flags = item->flags & AF_ITEM_UNSURE ? AF_NODE_UNSURE : 0,
	};
	if (item->parent == AF_NODE_NONE)
		return node;
	struct af_node *parent = &tree->nodes[item->parent];
	if (parent->last_child == AF_NODE_NONE)
		parent->first_child = node;
	else
		tree->nodes[parent->last_child].next = node;
	parent->last_child = node;
	parent->n_children++;
	added->depth = (uint16_t)(parent->depth + 1);
	return node;
}

uint32_t af_walk_node(struct af_walker *w, const struct af_tree_item *item)
{
	struct af_tree_seen *seen = note(w, item->image, item->type, item->address);
	uint32_t node;

	if (!seen) {
		w->tree->cut |= AF_CUT_NODES;
		return AF_NODE_NONE;
	}
	if (seen->node == AF_NODE_NONE) {
		seen->node = add_node(w, item);
		return seen->node;
	}
	if (item->flags & AF_ITEM_HELD) /* what is awaited is held as well */
		return AF_NODE_NONE;
	node = add_node(w, item);
	if (node != AF_NODE_NONE) {
		w->tree->nodes[node].status = AF_NODE_SAME;
		w->tree->nodes[node].same_as = seen->node;
	}
	return AF_NODE_NONE;
}

void af_walk_failed(struct af_walker *w, const struct af_tree_item *item, uint32_t type,
		    enum af_node_status status)
{
	struct af_tree_item failed = *item;

	if (item->flags & AF_ITEM_HELD)
		return;
	if (type != AFM_NONE)
		failed.type = type;
	uint32_t node = add_node(w, &failed);
	if (node != AF_NODE_NONE)
		w->tree->nodes[node].status = (uint8_t)status;
}

struct af_tree_item af_walk_below(const struct af_tree_item *item, uint32_t node,
				  enum af_node_relation relation)
{
	struct af_tree_item below = *item;

	below.parent = node;
	below.relation = (uint8_t)relation;
	below.label = below.label_image = 0;
	below.index = AFM_NONE;
	below.flags &= (uint8_t) ~(AF_ITEM_FUTURE | AF_ITEM_BY_POINTER);
	return below;
}

/* Whether this place, to which a pointer led, was gone through too often. */
static bool worn(struct af_walker *w, const struct af_tree_item *item)
{
	struct af_tree_seen *seen = note(w, item->image, item->type, item->address);

	if (!seen) {
		w->tree->cut |= AF_CUT_NODES;
		return true;
	}
	return seen->count++ >= (item->flags & AF_ITEM_HELD ? 1 : PLACE_VISITS);
}

static void visit(struct af_walker *w, const struct af_tree_item *item)
{
	enum af_shape shape = af_shape_of(w->target, item->image, item->type);

	if (!af_shape_is_node(shape) && shape != AF_SHAPE_NOTHING &&
	    (item->flags & AF_ITEM_BY_POINTER) && worn(w, item)) {
		af_walk_lost(w, item);
		return;
	}
	switch (shape) {
	case AF_SHAPE_COROUTINE:
		af_walk_coroutine(w, item);
		break;
	case AF_SHAPE_HAND:
	case AF_SHAPE_POLL_FN:
		af_walk_hand(w, item);
		break;
	case AF_SHAPE_LEAF:
		af_walk_leaf(w, item);
		break;
	case AF_SHAPE_JOIN_HANDLE:
	case AF_SHAPE_TASK:
		af_walk_task_handle(w, item);
		break;
	case AF_SHAPE_FIELDS:
		af_walk_fields(w, item);
		break;
	case AF_SHAPE_MAYBE_DONE:
		af_walk_maybe_done(w, item);
		break;
	case AF_SHAPE_ORDERED:
		af_walk_ordered(w, item);
		break;
	case AF_SHAPE_POINTER:
		af_walk_pointer(w, item);
		break;
	case AF_SHAPE_DYN:
		af_walk_dynamic(w, item);
		break;
	case AF_SHAPE_FUTURE_OBJ:
		af_walk_future_obj(w, item);
		break;
	case AF_SHAPE_ARRAY:
		af_walk_array(w, item);
		break;
	case AF_SHAPE_SLICE:
		af_walk_slice(w, item);
		break;
	case AF_SHAPE_VEC:
		af_walk_vec(w, item);
		break;
	case AF_SHAPE_DEQUE:
		af_walk_deque(w, item);
		break;
	case AF_SHAPE_ARC:
		af_walk_counted(w, item);
		break;
	case AF_SHAPE_FUTURES_UNORDERED:
		af_walk_futures_unordered(w, item);
		break;
	case AF_SHAPE_JOIN_SET:
		af_walk_join_set(w, item);
		break;
	case AF_SHAPE_UNSEEN:
	case AF_SHAPE_NOTHING:
		if (item->flags & AF_ITEM_FUTURE)
			af_walk_leaf(w, item);
	}
}

void af_walk(struct af_walker *w, const struct af_tree_item *root)
{
	struct af_await_tree *tree = w->tree;

	tree->items[0] = *root;
	tree->n_items = 1;
	for (uint32_t steps = 0; tree->n_items; steps++) {
		struct af_tree_item item = tree->items[--tree->n_items];
		if (steps >= tree->max_steps) {
			tree->cut |= AF_CUT_STEPS;
			return;
		}
		visit(w, &item);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * What lies between futures and holds one at a time, or a few: pointers, structs, enums.
 */
#include "inspect/walk.h"

void af_walk_pointer(struct af_walker *w, const struct af_tree_item *item)
{
	uint32_t to = af_target_type(w->target, item->image, item->type)->target;
	uint64_t address;

	if (item->flags & AF_ITEM_NO_POINTERS)
		af_walk_lost(w, item);
	else if (!af_walk_read_u64(w, item->address, &address))
		af_walk_failed(w, item, to, AF_NODE_UNREADABLE);
	else
		af_walk_push_pointee(w, item, item->image, to, address);
}

void af_walk_dynamic(struct af_walker *w, const struct af_tree_item *item)
{
	const struct afm_field *data =
		af_target_field(w->target, item->image, item->type, "pointer");
	const struct afm_field *table =
		af_target_field(w->target, item->image, item->type, "vtable");
	uint64_t address, vtable;
	uint32_t image, type;

	if (item->flags & AF_ITEM_NO_POINTERS) {
		af_walk_lost(w, item);
		return;
	}
	if (!data || !table || !af_walk_read_u64(w, item->address + data->offset, &address) ||
	    !af_walk_read_u64(w, item->address + table->offset, &vtable)) {
		af_walk_failed(w, item, AFM_NONE, AF_NODE_UNREADABLE);
		return;
	}
	if (!af_target_vtable(w->target, vtable, &image, &type)) {
		if ((item->flags & AF_ITEM_FUTURE))
			af_walk_failed(w, item, AFM_NONE, AF_NODE_UNKNOWN);
		else
			af_walk_lost(w, item);
		return;
	}
	if ((item->flags & AF_ITEM_FUTURE) ||
	    af_shape_is_node(af_shape_of(w->target, image, type)) ||
	    (af_target_type(w->target, image, type)->flags & AFM_TF_REACHES_FUTURE))
		af_walk_push_pointee(w, item, image, type, address);
}

/* LocalFutureObj { future: *mut dyn Future, drop_fn }: its only owner, so it may be followed. */
void af_walk_future_obj(struct af_walker *w, const struct af_tree_item *item)
{
	struct af_tree_item object = *item;

	if (!af_target_path(w->target, item->image, "future", &object.type, &object.address)) {
		af_walk_lost(w, item);
		return;
	}
	object.flags |= AF_ITEM_FUTURE;
	af_walk_dynamic(w, &object);
}

/* Arc and Rc: a pointer to {strong, weak, data}. */
void af_walk_counted(struct af_walker *w, const struct af_tree_item *item)
{
	uint32_t inner = item->type, type;
	uint64_t at = item->address, address, strong;

	if (item->flags & AF_ITEM_NO_POINTERS) {
		af_walk_lost(w, item);
		return;
	}
	if (!af_target_path(w->target, item->image, "ptr", &inner, &at))
		return;
	inner = af_dig_pointee(w->target, item->image, inner);
	if (inner == AFM_NONE)
		return;
	if (!af_walk_read_u64(w, at, &address) || !address) {
		af_walk_lost(w, item);
		return;
	}
	/* Nobody holds a reference: its value is dropped. */
	type = inner;
	at = address;
	if (af_target_path(w->target, item->image, "strong", &type, &at) &&
	    (!af_walk_read_u64(w, at, &strong) || !strong || strong > INT64_MAX)) {
		af_walk_lost(w, item);
		return;
	}
	type = inner;
	at = address;
	if (af_target_path(w->target, item->image, "data", &type, &at) ||
	    af_target_path(w->target, item->image, "value", &type, &at))
		af_walk_push_pointee(w, item, item->image, type, at);
}

static void variants(struct af_walker *w, const struct af_tree_item *item)
{
	const struct af_futuremap *map = af_walk_map(w, item->image);
	const struct afm_variant *v;
	uint32_t variant;

	switch (af_walk_variant(w, item, &variant)) {
	case AF_ACTIVE_FOUND:
		v = af_futuremap_variants(map, variant);
		/* Option<F>, where F is a future that the map has no poll of. */
		if (!af_walk_push_fields(w, item, v->first_field, v->n_fields) &&
		    (item->flags & AF_ITEM_FUTURE) && v->n_fields == 1)
			af_walk_push_field(w, item, v->first_field);
		break;
	case AF_ACTIVE_UNREADABLE:
		af_walk_failed(w, item, AFM_NONE, AF_NODE_UNREADABLE);
		break;
	case AF_ACTIVE_INVALID:
		af_walk_failed(w, item, AFM_NONE, AF_NODE_UNKNOWN);
		break;
	case AF_ACTIVE_UNTOLD:
		af_walk_lost(w, item);
	}
}

/* The only field with a size: what a Pin of a type without futures holds. */
static const struct afm_field *only_field(const struct af_futuremap *map, const struct afm_type *t)
{
	const struct afm_field *only = NULL;

	for (uint32_t i = 0; i < t->n_fields; i++) {
		const struct afm_field *field = af_futuremap_fields(map, t->first_field + i);
		if (field->type == AFM_NONE || !af_futuremap_types(map, field->type)->size)
			continue;
		if (only)
			return NULL;
		only = field;
	}
	return only;
}

void af_walk_fields(struct af_walker *w, const struct af_tree_item *item)
{
	const struct af_futuremap *map = af_walk_map(w, item->image);
	const struct afm_type *t = af_futuremap_types(map, item->type);

	if (t->n_variants) {
		variants(w, item);
		return;
	}
	if (af_walk_push_fields(w, item, t->first_field, t->n_fields) ||
	    !(item->flags & AF_ITEM_FUTURE))
		return;
	const struct afm_field *only = only_field(map, t);
	if (only)
		af_walk_push(w, item, item->image, only->type, item->address + only->offset);
	else
		af_walk_leaf(w, item);
}

/* Done and Gone are worth a node: which of join!'s branches have ended. */
void af_walk_maybe_done(struct af_walker *w, const struct af_tree_item *item)
{
	const struct af_futuremap *map = af_walk_map(w, item->image);
	const struct afm_type *t = af_futuremap_types(map, item->type);
	uint32_t variant, of = AFM_NONE;

	enum af_active active = af_walk_variant(w, item, &variant);
	for (uint32_t i = 0; i < t->n_variants; i++) {
		const struct afm_variant *v = af_futuremap_variants(map, t->first_variant + i);
		if (!strcmp(af_futuremap_string(map, v->name), "Future") && v->n_fields) {
			of = af_futuremap_fields(map, v->first_field)->type;
			if (active == AF_ACTIVE_FOUND && variant == t->first_variant + i) {
				struct af_tree_item below = *item;
				below.flags |= AF_ITEM_FUTURE;
				af_walk_push_field(w, &below, v->first_field);
				return;
			}
		}
	}
	af_walk_failed(w, item, of,
		       active == AF_ACTIVE_FOUND	? AF_NODE_DONE
		       : active == AF_ACTIVE_UNREADABLE ? AF_NODE_UNREADABLE
							: AF_NODE_UNKNOWN);
}

void af_walk_ordered(struct af_walker *w, const struct af_tree_item *item)
{
	const struct afm_type *t = af_target_type(w->target, item->image, item->type);
	const struct afm_field *index =
		af_target_field(w->target, item->image, item->type, "index");
	struct af_tree_item below = *item;
	uint64_t value;

	if (index && af_walk_read_u64(w, item->address + index->offset, &value) && value < AFM_NONE)
		below.index = (uint32_t)value;
	af_walk_push_fields(w, &below, t->first_field, t->n_fields);
}

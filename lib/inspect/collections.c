/* SPDX-License-Identifier: MIT */
/*
 * Many at a time. What an untyped or raw pointer of these points to is known from their source,
 * so that it may be followed; that it makes sense (a length within the capacity, an aligned
 * address, a list without a ring) is checked first.
 */
#include "inspect/walk.h"

/* How many elements may be pushed: so that the stack keeps room for what is below each. */
static uint32_t most(const struct af_walker *w)
{
	uint32_t room = (w->tree->max_items - w->tree->n_items) / 2;
	return room < w->tree->max_elements ? room : w->tree->max_elements;
}

static void cut(struct af_walker *w, const struct af_tree_item *item)
{
	w->tree->cut |= AF_CUT_ELEMENTS;
	if (item->parent != AF_NODE_NONE)
		w->tree->nodes[item->parent].flags |= AF_NODE_CUT;
}

struct elements {
	uint32_t type;
	uint64_t at, n; /* of the memory */
	uint64_t first; /* of a ring: the element that comes first */
};

static bool is_wanted(struct af_walker *w, uint32_t image, uint32_t type)
{
	enum af_shape shape;

	if (type == AFM_NONE)
		return false;
	shape = af_shape_of(w->target, image, type);
	return shape != AF_SHAPE_NOTHING && af_target_type(w->target, image, type)->size;
}

static void push_elements(struct af_walker *w, const struct af_tree_item *item,
			  const struct elements *e, uint64_t count)
{
	const struct afm_type *t = af_target_type(w->target, item->image, e->type);
	struct af_tree_item below = *item;
	uint64_t bytes, end;

	if (!e->n || __builtin_mul_overflow(e->n, t->size, &bytes) ||
	    __builtin_add_overflow(e->at, bytes, &end) || (t->align && e->at % t->align)) {
		af_walk_lost(w, item);
		return;
	}
	/* What a Vec holds is behind its pointer; an array has none. */
	if ((item->flags & AF_ITEM_HELD) && e->at != item->address)
		below.flags |= AF_ITEM_UNSURE;
	if (count > most(w)) {
		count = most(w);
		cut(w, item);
	}
	for (uint32_t i = (uint32_t)count; i-- > 0;) {
		below.index = item->index == AFM_NONE ? i : item->index;
		af_walk_push(w, &below, item->image, e->type,
			     e->at + (e->first + i) % e->n * t->size);
	}
}

void af_walk_array(struct af_walker *w, const struct af_tree_item *item)
{
	const struct afm_type *t = af_target_type(w->target, item->image, item->type);
	struct elements e = {t->target, item->address, t->length, 0};

	if (is_wanted(w, item->image, t->target) && t->length)
		push_elements(w, item, &e, e.n);
}

static bool follows(struct af_walker *w, const struct af_tree_item *item)
{
	if (!(item->flags & AF_ITEM_NO_POINTERS))
		return true;
	af_walk_lost(w, item);
	return false;
}

void af_walk_slice(struct af_walker *w, const struct af_tree_item *item)
{
	const struct afm_field *data =
		af_target_field(w->target, item->image, item->type, "data_ptr");
	const struct afm_field *length =
		af_target_field(w->target, item->image, item->type, "length");
	struct elements e = {0};

	if (!data || !length || data->type == AFM_NONE)
		return;
	e.type = af_target_type(w->target, item->image, data->type)->target;
	if (!is_wanted(w, item->image, e.type) || !follows(w, item))
		return;
	if (!af_walk_read_u64(w, item->address + data->offset, &e.at) ||
	    !af_walk_read_u64(w, item->address + length->offset, &e.n))
		af_walk_lost(w, item);
	else if (e.n)
		push_elements(w, item, &e, e.n);
}

/* A number of the type's own or of its RawVec. */
static bool number(struct af_walker *w, const struct af_tree_item *item, const char *name,
		   uint64_t *value)
{
	uint32_t type = item->type;
	uint64_t at = item->address;

	return af_dig(w->target, item->image, name, &type, &at) &&
	       af_target_type(w->target, item->image, type)->size == 8 &&
	       af_walk_read_u64(w, at, value);
}

/* RawVec: `ptr` is a pointer to anything, so T is taken from the container's name. */
static bool raw_vec(struct af_walker *w, const struct af_tree_item *item, struct elements *e,
		    uint64_t *capacity)
{
	e->type = af_target_type(w->target, item->image, item->type)->template_arg;
	return is_wanted(w, item->image, e->type) && follows(w, item) &&
	       number(w, item, "ptr", &e->at) && number(w, item, "cap", capacity);
}

void af_walk_vec(struct af_walker *w, const struct af_tree_item *item)
{
	struct elements e = {0};
	uint64_t capacity;

	if (!raw_vec(w, item, &e, &capacity))
		return;
	if (!number(w, item, "len", &e.n) || e.n > capacity)
		af_walk_lost(w, item);
	else if (e.n)
		push_elements(w, item, &e, e.n);
}

/* A ring of `cap` places: {head, len}, and before Rust 1.67 {tail, head} with tail first. */
void af_walk_deque(struct af_walker *w, const struct af_tree_item *item)
{
	struct elements e = {0};
	uint64_t capacity, count, end;

	if (!raw_vec(w, item, &e, &capacity))
		return;
	e.n = capacity;
	bool known = number(w, item, "len", &count) && number(w, item, "head", &e.first);
	if (!known && capacity && number(w, item, "tail", &e.first) &&
	    number(w, item, "head", &end) && end < capacity) {
		count = (end + capacity - e.first % capacity) % capacity;
		known = true;
	}
	if (!known || count > capacity || (capacity && e.first >= capacity))
		af_walk_lost(w, item);
	else if (count)
		push_elements(w, item, &e, count);
}

/* Ends a list that has become a ring: Brent's rabbit and turtle. */
struct ring {
	uint64_t turtle, steps, next;
};

static bool is_ring(struct ring *ring, uint64_t address)
{
	if (address == ring->turtle)
		return true;
	if (ring->steps++ == ring->next) {
		ring->turtle = address;
		ring->next = ring->next * 2 + 1;
	}
	return false;
}

/* A list of entries of one type: where in an entry the next one's address lies, and what of it
   is pushed. */
struct list {
	uint32_t type;		    /* of what is pushed */
	uint64_t value_at, next_at; /* in an entry */
	uint32_t flags;		    /* AF_ITEM_* of what is pushed */
};

static void push_list(struct af_walker *w, const struct af_tree_item *item, const struct list *list,
		      uint64_t address)
{
	struct af_tree_item below = *item;
	struct ring ring = {0};
	uint32_t left = most(w);

	below.flags |= (uint8_t)list->flags;
	for (; address; left--) {
		if (!left) {
			cut(w, item);
			return;
		}
		if (is_ring(&ring, address))
			break;
		af_walk_push_pointee(w, &below, item->image, list->type, address + list->value_at);
		if (!af_walk_read_u64(w, address + list->next_at, &address))
			break;
	}
	if (address)
		af_walk_lost(w, item);
}

/* The top of the stack, which is looked at first, is number 0; unless the whole list is one of
   several already. */
static void number_items(struct af_walker *w, const struct af_tree_item *item, uint32_t from)
{
	for (uint32_t i = from; i < w->tree->n_items && item->index == AFM_NONE; i++)
		w->tree->items[i].index = w->tree->n_items - 1 - i;
}

/*
 * FuturesUnordered: Task { future: Option<Fut>, next_all, prev_all, ... }, from `head_all`, the
 * newest, by `next_all`, so that the oldest ends on top. Never by the queue of those ready to
 * run, whose pointers may be old. While a task is being linked its `next_all` is an empty stub
 * for a moment, and the list seems to end there.
 */
void af_walk_futures_unordered(struct af_walker *w, const struct af_tree_item *item)
{
	uint32_t task = item->type, next, before = w->tree->n_items;
	struct list list = {.flags = AF_ITEM_FUTURE};
	uint64_t at = item->address, address;

	if (!af_target_path(w->target, item->image, "head_all", &task, &at) || !follows(w, item))
		return;
	task = af_dig_pointee(w->target, item->image, task);
	if (task == AFM_NONE)
		return;
	next = list.type = task;
	if (!af_target_path(w->target, item->image, "next_all", &next, &list.next_at) ||
	    !af_target_path(w->target, item->image, "future", &list.type, &list.value_at))
		return;
	if (af_walk_read_u64(w, at, &address))
		push_list(w, item, &list, address);
	else
		af_walk_lost(w, item);
	number_items(w, item, before);
}

/* One of the two lists of a JoinSet: ListEntry { value: JoinHandle, pointers: { next } }. */
static void push_entries(struct af_walker *w, const struct af_tree_item *item, uint32_t lists,
			 uint64_t at, const char *name)
{
	struct list list = {0};
	uint32_t entry = lists, next;
	uint64_t address;

	if (!af_dig(w->target, item->image, name, &entry, &at) ||
	    !af_dig(w->target, item->image, "head", &entry, &at))
		return;
	entry = af_dig_pointee(w->target, item->image, entry);
	if (entry == AFM_NONE)
		return;
	next = list.type = entry;
	if (!af_dig(w->target, item->image, "value", &list.type, &list.value_at) ||
	    !af_dig(w->target, item->image, "next", &next, &list.next_at))
		return;
	if (af_walk_read_u64(w, at, &address))
		push_list(w, item, &list, address);
	else
		af_walk_lost(w, item);
}

/*
 * JoinSet: an Arc of a mutex of two lists, those that have been woken and those that have not.
 * The newest entry is a list's head. Entries are handles; the tasks are found on their own.
 */
void af_walk_join_set(struct af_walker *w, const struct af_tree_item *item)
{
	uint32_t type = item->type, before = w->tree->n_items;
	uint64_t at = item->address, address;

	if (!af_dig(w->target, item->image, "lists", &type, &at) ||
	    !af_dig(w->target, item->image, "ptr", &type, &at) || !follows(w, item))
		return;
	type = af_dig_pointee(w->target, item->image, type);
	if (type == AFM_NONE)
		return;
	if (!af_walk_read_u64(w, at, &address) || !address) {
		af_walk_lost(w, item);
		return;
	}
	if (!af_target_path(w->target, item->image, "data", &type, &address))
		return;
	push_entries(w, item, type, address, "idle");
	push_entries(w, item, type, address, "notified");
	number_items(w, item, before);
}

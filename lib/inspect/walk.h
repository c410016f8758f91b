/* SPDX-License-Identifier: MIT */
/*
 * The walk behind an await tree: a stack of places to look at, and what the kinds of places
 * share. Internal to lib/inspect. walk.c takes places from the stack until there are none;
 * collections.c and futures.c say what lies below one.
 *
 * A place is pushed and later popped, so what is pushed last is looked at first, with all that
 * is below it. Whoever pushes several does so from the last to the first.
 */
#ifndef AF_INSPECT_WALK_H
#define AF_INSPECT_WALK_H

#include "inspect/shape.h"

struct af_tree_item {
	uint64_t address;
	uint32_t image, type;
	uint32_t parent; /* node above */
	uint32_t label, label_image, index;
	uint16_t depth;
	uint8_t relation; /* of the next node to its parent */
	uint8_t flags;
};
#define AF_ITEM_HELD 1u	       /* held by a coroutine somewhere above */
#define AF_ITEM_NO_POINTERS 2u /* ... and pointers may be stale */
#define AF_ITEM_BY_POINTER 4u  /* came through a pointer: may be a second way to the same */
#define AF_ITEM_UNSURE 16u     /* held, and a pointer was followed since */
#define AF_ITEM_DOUBTFUL 32u   /* held, where a drop flag says that something is gone */
#define AF_ITEM_SURE 64u       /* held, and surely alive */
#define AF_ITEM_FUTURE 8u      /* leads to a future, even if the map knows no poll of it */

struct af_tree_seen {
	uint64_t address;
	uint32_t image, type;
	uint32_t node; /* made of it, or AF_NODE_NONE */
	uint32_t epoch;
	uint32_t count;
	uint32_t reserved;
};

struct af_walker {
	struct af_await_tree *tree;
	const struct af_target *target;
};

static inline const struct af_futuremap *af_walk_map(const struct af_walker *w, uint32_t image)
{
	return &w->target->images[image].map;
}

/* walk.c */
bool af_walk_read(struct af_walker *w, uint64_t address, void *to, size_t size);
bool af_walk_read_u64(struct af_walker *w, uint64_t address, uint64_t *value);
enum af_active af_walk_variant(struct af_walker *w, const struct af_tree_item *item,
			       uint32_t *variant);
/* The node above `item` may have children that could not be found. */
void af_walk_lost(struct af_walker *w, const struct af_tree_item *item);
/* Pushes a copy of `item` that looks at another place. */
void af_walk_push(struct af_walker *w, const struct af_tree_item *item, uint32_t image,
		  uint32_t type, uint64_t address);
/* The same behind a pointer: dropped if `item` must not follow any, or where no value of
   `type` can lie. */
void af_walk_push_pointee(struct af_walker *w, const struct af_tree_item *item, uint32_t image,
			  uint32_t type, uint64_t address);
/* Pushes the fields from which a future can be reached; returns how many. */
uint32_t af_walk_push_fields(struct af_walker *w, const struct af_tree_item *item, uint32_t first,
			     uint32_t n);
void af_walk_push_field(struct af_walker *w, const struct af_tree_item *item, uint32_t field);
/* Makes the node of `item`; AF_NODE_NONE if it was met before or there is no room. */
uint32_t af_walk_node(struct af_walker *w, const struct af_tree_item *item);
/* A node instead of what could not be looked into. Nothing for what is merely held. */
void af_walk_failed(struct af_walker *w, const struct af_tree_item *item, uint32_t type,
		    enum af_node_status status);
/* Whether `item` is held and may have been moved out: anything but a coroutine that was polled. */
static inline bool af_walk_is_doubtful(const struct af_tree_item *item)
{
	return item->relation == AF_IS_HELD && (item->flags & AF_ITEM_DOUBTFUL);
}
/* An item like `item` whose next node will be a child of `node`. */
struct af_tree_item af_walk_below(const struct af_tree_item *item, uint32_t node,
				  enum af_node_relation relation);

/* Walks from `root` until nothing is left, or a limit is met. */
void af_walk(struct af_walker *w, const struct af_tree_item *root);

/* places.c: what holds one */
void af_walk_pointer(struct af_walker *w, const struct af_tree_item *item);
void af_walk_dynamic(struct af_walker *w, const struct af_tree_item *item);
void af_walk_future_obj(struct af_walker *w, const struct af_tree_item *item);
void af_walk_counted(struct af_walker *w, const struct af_tree_item *item);
void af_walk_fields(struct af_walker *w, const struct af_tree_item *item);
void af_walk_maybe_done(struct af_walker *w, const struct af_tree_item *item);
void af_walk_ordered(struct af_walker *w, const struct af_tree_item *item);

/* futures.c: what is a node */
void af_walk_coroutine(struct af_walker *w, const struct af_tree_item *item);
void af_walk_hand(struct af_walker *w, const struct af_tree_item *item);
void af_walk_leaf(struct af_walker *w, const struct af_tree_item *item);
void af_walk_task_handle(struct af_walker *w, const struct af_tree_item *item);
/* After the walk: what leaves wait for, and which branches select! no longer polls. */
void af_walk_finish(struct af_walker *w);

/* collections.c: what has many below */
void af_walk_array(struct af_walker *w, const struct af_tree_item *item);
void af_walk_slice(struct af_walker *w, const struct af_tree_item *item);
void af_walk_vec(struct af_walker *w, const struct af_tree_item *item);
void af_walk_deque(struct af_walker *w, const struct af_tree_item *item);
void af_walk_futures_unordered(struct af_walker *w, const struct af_tree_item *item);
void af_walk_join_set(struct af_walker *w, const struct af_tree_item *item);

/* dig.c: fields behind wrappers, by name */
/* The field called `name` in `type` or in what it holds by value, nearest first. Sets its type
   and adds its offset to `*address`. False if there is none. */
bool af_dig(const struct af_target *target, uint32_t image, const char *name, uint32_t *type,
	    uint64_t *address);
/* Through wrappers of one size (UnsafeCell, Atomic, NonNull, Option) to the pointer in them:
   the type it points to. Its place is that of the wrapper. AFM_NONE if there is none. */
uint32_t af_dig_pointee(const struct af_target *target, uint32_t image, uint32_t type);
/* In the same way to the enum in them. */
uint32_t af_dig_enum(const struct af_target *target, uint32_t image, uint32_t type);

/* await_tree.c */
/* Leaves the tree with a root of `type` (AFM_NONE: type 0) alone. */
void af_await_tree_clear(struct af_await_tree *tree, const struct af_target *target, uint32_t image,
			 uint32_t type, enum af_node_status status);

#endif

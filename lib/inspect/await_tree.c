/* SPDX-License-Identifier: MIT */
/*
 * A tree's storage, its hashes, and where a wait ends.
 */
#include "inspect/walk.h"

#define DEFAULT_ELEMENTS 1024
#define DEFAULT_DEPTH 512
#define STEPS_PER_NODE 64
#define ITEMS_PER_NODE 2
#define SEEN_PER_NODE 4 /* a power of two */

static size_t nodes_size(uint32_t nodes)
{
	return (size_t)nodes * sizeof(struct af_node);
}

static size_t items_size(uint32_t nodes)
{
	return ((size_t)nodes * ITEMS_PER_NODE + 16) * sizeof(struct af_tree_item);
}

static uint32_t seen_count(uint32_t nodes)
{
	uint32_t n = 16;
	while (n < (uint64_t)nodes * SEEN_PER_NODE)
		n *= 2;
	return n;
}

size_t af_await_tree_size(uint32_t nodes)
{
	return nodes_size(nodes) + items_size(nodes) +
	       seen_count(nodes) * sizeof(struct af_tree_seen);
}

bool af_await_tree_init(struct af_await_tree *tree, void *block, size_t size)
{
	uint32_t nodes = 0;

	/* The most that fit; a hundred million are more than anybody needs. */
	for (uint32_t step = 1u << 26; step; step /= 2)
		if (af_await_tree_size(nodes + step) <= size)
			nodes += step;
	if (!nodes)
		return false;
	*tree = (struct af_await_tree){
		.max_nodes = nodes,
		.max_elements = DEFAULT_ELEMENTS,
		.max_depth = DEFAULT_DEPTH,
		.max_steps =
			nodes > UINT32_MAX / STEPS_PER_NODE ? UINT32_MAX : nodes * STEPS_PER_NODE,
		.held = AF_HELD_VALUES,
		.max_items = nodes * ITEMS_PER_NODE + 16,
		.seen_mask = seen_count(nodes) - 1,
	};
	tree->nodes = block;
	tree->seen = (struct af_tree_seen *)((char *)block + nodes_size(nodes));
	tree->items = (struct af_tree_item *)(tree->seen + seen_count(nodes));
	memset(tree->seen, 0, seen_count(nodes) * sizeof(struct af_tree_seen));
	return true;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15;
	return hash ^ hash >> 29;
}

static void hash_tree(struct af_await_tree *tree)
{
	uint64_t likeness = tree->n_nodes, identity;

	for (uint32_t i = 0; i < tree->n_nodes; i++) {
		const struct af_node *n = &tree->nodes[i];
		likeness = mix(likeness, (uint64_t)n->image << 32 | n->type);
		likeness = mix(likeness, (uint64_t)n->variant << 32 | (uint32_t)n->depth << 16 |
						 (uint32_t)n->status << 8 | n->relation);
	}
	identity = likeness;
	for (uint32_t i = 0; i < tree->n_nodes; i++)
		identity = mix(mix(identity, tree->nodes[i].address), tree->nodes[i].task);
	tree->likeness = likeness;
	tree->identity = identity;
}

static void start(struct af_await_tree *tree)
{
	tree->n_nodes = tree->cut = tree->n_failed = tree->n_seen = 0;
	tree->n_reads = 0;
	if (!++tree->epoch) {
		/* After four thousand million trees: notes of the first ones would seem new. */
		memset(tree->seen, 0, ((size_t)tree->seen_mask + 1) * sizeof(struct af_tree_seen));
		tree->epoch = 1;
	}
}

void af_await_tree_clear(struct af_await_tree *tree, const struct af_target *target, uint32_t image,
			 uint32_t type, enum af_node_status status)
{
	struct af_walker w = {tree, target};
	const struct af_tree_item root = {
		.image = image, .type = type, .parent = AF_NODE_NONE, .index = AFM_NONE};

	start(tree);
	/* A map that has roots and no types is nobody's, but may be given. */
	if (target->images[image].map.header->types.count)
		af_walk_failed(&w, &root, type == AFM_NONE ? 0 : type, status);
	hash_tree(tree);
}

bool af_await_tree_read(struct af_await_tree *tree, const struct af_target *target, uint32_t image,
			uint32_t type, uint64_t address)
{
	struct af_walker w = {tree, target};
	const struct af_tree_item root = {
		.address = address,
		.image = image,
		.type = type,
		.parent = AF_NODE_NONE,
		.index = AFM_NONE,
		.relation = AF_IS_ROOT,
		.flags = AF_ITEM_FUTURE,
	};

	start(tree);
	af_walk(&w, &root);
	if (!tree->n_nodes) /* an empty Option, say */
		af_walk_failed(&w, &root, AFM_NONE, AF_NODE_UNKNOWN);
	af_walk_finish(&w);
	hash_tree(tree);
	return tree->nodes[0].status != AF_NODE_UNKNOWN &&
	       tree->nodes[0].status != AF_NODE_UNREADABLE;
}

static bool counts(const struct af_node *node)
{
	return node->relation != AF_IS_HELD;
}

/* The only child that counts; the other than the timer where there are two, as in a Timeout. */
static uint32_t only_child(const struct af_await_tree *tree, uint32_t node)
{
	uint32_t only = AF_NODE_NONE, timer = AF_NODE_NONE, n = 0;

	for (uint32_t i = tree->nodes[node].first_child; i != AF_NODE_NONE; i = tree->nodes[i].next)
		if (counts(&tree->nodes[i])) {
			n++;
			if (tree->nodes[i].wait == AF_WAIT_TIMER)
				timer = i;
			else
				only = i;
		}
	if (n == 1)
		return only == AF_NODE_NONE ? timer : only;
	return n == 2 && timer != AF_NODE_NONE ? only : AF_NODE_NONE;
}

uint32_t af_await_tree_innermost(const struct af_await_tree *tree)
{
	uint32_t node = 0, next;

	if (!tree->n_nodes)
		return AF_NODE_NONE;
	/* Children lie behind their parents, so this ends. */
	while ((next = only_child(tree, node)) != AF_NODE_NONE)
		node = next;
	return node;
}

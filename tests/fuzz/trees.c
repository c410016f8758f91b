/* SPDX-License-Identifier: MIT */
/*
 * Random memory behind a real map (trees.afmap, beside which this runs): whatever a type's bytes
 * and whatever its pointers lead to, a tree is sound and within its limits, and the same again.
 *
 * Addresses are folded into the input, so that every pointer leads somewhere, often back; a
 * part of them cannot be read. Words that begin with 0xa5 are vtables or functions of the map.
 */
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "inspect/task.h"

#define BIAS UINT64_C(0x100000000)
#define NODES 300

static struct af_image image = {.bias = BIAS};
static const uint8_t *bytes;
static size_t n_bytes;

static uint64_t known_address(uint64_t word)
{
	const struct afm_header *header = image.map.header;
	uint32_t i = (uint32_t)word;

	if (word >> 32 & 1 && header->vtables.count)
		return BIAS + af_futuremap_vtables(&image.map, i % header->vtables.count)->address;
	if (header->roots.count) {
		const struct afm_root *root =
			af_futuremap_roots(&image.map, i % (uint32_t)header->roots.count);
		return BIAS + af_futuremap_polls(&image.map, root->poll)->address;
	}
	return word;
}

static bool read_folded(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	uint8_t *out = to;

	if (address % 61 == 7)
		return false;
	for (size_t i = 0; i < size; i++)
		out[i] = bytes[(address % n_bytes + i) % n_bytes];
	if (size == 8 && out[7] == 0xa5) {
		uint64_t word;
		memcpy(&word, out, 8);
		word = known_address(word);
		memcpy(out, &word, 8);
	}
	return true;
}

static struct af_memory memory = {read_folded, NULL};
static struct af_target target = {&memory, &image, 1};

static void load(void)
{
	if (image.map.header)
		return;
	if (af_futuremap_open(&image.map, -100 /* AT_FDCWD */, "trees.afmap", false))
		abort();
	image.shapes = calloc(image.map.header->types.count + 1, sizeof(*image.shapes));
	if (!image.shapes)
		abort();
}

static void check(const struct af_await_tree *tree)
{
	if (!tree->n_nodes || tree->n_nodes > tree->max_nodes)
		abort();
	/* So much work at most: a step looks at one value, or begins a list. */
	if (tree->n_reads > (uint64_t)tree->max_steps * 4 + (uint64_t)tree->max_items * 64)
		abort();
	for (uint32_t i = 0; i < tree->n_nodes; i++) {
		const struct af_node *n = &tree->nodes[i];
		if (i ? n->parent >= i : n->parent != AF_NODE_NONE)
			abort();
		if (n->type >= image.map.header->types.count || n->status > AF_NODE_SAME ||
		    n->relation > AF_IS_HELD ||
		    (n->status == AF_NODE_SAME) != (n->same_as != AF_NODE_NONE) ||
		    (n->same_as != AF_NODE_NONE && n->same_as >= i) ||
		    (i && n->depth != tree->nodes[n->parent].depth + 1))
			abort();
		uint32_t children = 0, last = i;
		for (uint32_t c = n->first_child; c != AF_NODE_NONE; c = tree->nodes[c].next) {
			if (c <= last || c >= tree->n_nodes || tree->nodes[c].parent != i)
				abort();
			last = c;
			children++;
		}
		if (children != n->n_children)
			abort();
		if (strlen(af_target_string(&target, n->label_image, n->label)) > 1 << 20)
			abort();
	}
	if (af_await_tree_innermost(tree) >= tree->n_nodes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct af_await_tree tree;
	struct af_task task;
	uint32_t head[3];

	load();
	if (size < sizeof(head) + 8)
		return 0;
	memcpy(head, data, sizeof(head));
	bytes = data + sizeof(head);
	n_bytes = size - sizeof(head);
	uint32_t nodes = head[1] % NODES + 1;
	/* On the heap and no larger, so that a step beyond is seen. */
	void *block = malloc(af_await_tree_size(nodes));
	if (!block || !af_await_tree_init(&tree, block, af_await_tree_size(nodes)))
		abort();
	tree.held = head[1] >> 16 & 3 ? AF_HELD_POINTERS : AF_HELD_VALUES;
	if (head[1] >> 24 && image.map.header->roots.count) {
		uint32_t root = head[0] % (uint32_t)image.map.header->roots.count;
		af_task_read_tree(&target, 0, root, head[2] & ~127u, &task, &tree);
		check(&tree);
	} else {
		uint32_t type = head[0] % (uint32_t)image.map.header->types.count;
		af_await_tree_read(&tree, &target, 0, type, head[2]);
		check(&tree);
		uint64_t identity = tree.identity;
		af_await_tree_read(&tree, &target, 0, type, head[2]);
		if (tree.identity != identity)
			abort();
	}
	free(block);
	return 0;
}

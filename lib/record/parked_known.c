/* SPDX-License-Identifier: MIT */
#include "record/parked_known.h"

#include "record/parked_guard.h"

#define NODES 16384	  /* of all walks, */
#define NODES_OF_ROOT 512 /* and of one root: branches of a join may multiply */
#define HEADS 1024	  /* a power of two */
#define PROBES 8
#define EPOCH_SHIFT 20 /* bits of a root that are 0 */

/* Below 16: a value of so many bytes. */
enum { KNOWN_POINTER = 16, KNOWN_LEAF, KNOWN_END, KNOWN_NOT = 32 /* a value: another one */ };

/* 24 bytes; those of one walk mostly lie one behind the other. */
struct node {
	uint64_t value;		/* that was loaded; KNOWN_LEAF: the leaf */
	uint32_t offset;	/* from the base */
	_Atomic uint32_t next;	/* index of the node that comes then; 0: not known */
	_Atomic uint32_t other; /* the same load with another value */
	uint8_t what;
	uint8_t base;
};

struct af_known_head {
	_Atomic uint64_t key; /* root and epoch; 0: free */
	_Atomic uint32_t first;
	_Atomic uint32_t n_nodes;
};

static struct node nodes[NODES]; /* from 1 on */
static _Atomic uint32_t n_nodes;
static struct af_known_head heads[HEADS];

/* That of the root; where there is none, and it is wanted, a new one. */
static struct af_known_head *head_of(uint64_t root, uint32_t epoch, bool wanted)
{
	uint64_t key = root | (uint64_t)epoch << EPOCH_SHIFT;
	uint64_t hash = key * UINT64_C(0x9e3779b97f4a7c15) >> 48;
	for (uint32_t i = 0; epoch < AF_KNOWN_EPOCHS && i < PROBES; i++) {
		struct af_known_head *head = &heads[(hash + i) % HEADS];
		uint64_t seen = atomic_load_explicit(&head->key, memory_order_relaxed);
		if (!seen && (!wanted || atomic_compare_exchange_strong(&head->key, &seen, key)))
			return wanted ? head : 0;
		if (seen == key)
			return head;
	}
	return 0;
}

/* Acquire: pairs with the release in add(); the node is there. */
static const struct node *node_at(const _Atomic uint32_t *link)
{
	uint32_t index = atomic_load_explicit(link, memory_order_acquire);
	return index ? &nodes[index] : 0;
}

int af_known_walk(uint64_t root, uint32_t epoch, uint64_t at, uint32_t place, bool guarded,
		  bool *inside, uint32_t *leaves, int most)
{
	uint64_t bases[AF_KNOWN_BASES];
	uint32_t n_bases = 1;
	int n_leaves = 0;
	const struct af_known_head *head = head_of(root, epoch, false);
	bases[0] = at;
	for (const struct node *node = head ? node_at(&head->first) : 0; node;
	     node = node_at(&node->next)) {
		if (node->what == KNOWN_END)
			return n_leaves;
		if (node->what == KNOWN_LEAF) {
			if (n_leaves < most)
				leaves[n_leaves++] = (uint32_t)node->value;
			continue;
		}
		uint64_t from = bases[node->base] + node->offset;
		if (node->what == KNOWN_POINTER) {
			if (guarded && !*inside && !(*inside = af_guard_enter(place)))
				return -1;
			uint64_t pointer = af_load_tag(from, sizeof(pointer));
			if (!af_is_plausible(pointer))
				return -1;
			bases[n_bases++ % AF_KNOWN_BASES] = pointer;
			continue;
		}
		uint64_t value = af_load_tag(from, node->what & ~KNOWN_NOT);
		while (node && (node->value == value) == !!(node->what & KNOWN_NOT))
			node = node_at(&node->other);
		if (!node)
			return -1;
	}
	return -1;
}

/* --- adding -------------------------------------------------------------------------- */

void af_trail_begin(struct af_trail *trail, uint64_t root, uint32_t epoch, uint64_t at)
{
	trail->head = head_of(root, epoch, true);
	if (trail->head)
		trail->link = &trail->head->first;
	trail->bases[0] = at;
	trail->n_bases = 1;
}

static uint32_t take_node(struct af_known_head *head)
{
	if (atomic_load_explicit(&n_nodes, memory_order_relaxed) >= NODES - 1 ||
	    atomic_load_explicit(&head->n_nodes, memory_order_relaxed) >= NODES_OF_ROOT)
		return 0;
	atomic_fetch_add_explicit(&head->n_nodes, 1, memory_order_relaxed);
	uint32_t taken = atomic_fetch_add_explicit(&n_nodes, 1, memory_order_relaxed) + 1;
	return taken < NODES ? taken : 0;
}

/* Goes on to the node that is like `want`, made where there is none. */
static void add(struct af_trail *trail, const struct node *want)
{
	_Atomic uint32_t *link = trail->link;
	uint32_t index, made = 0;
	while (trail->head) {
		index = atomic_load_explicit(link, memory_order_acquire);
		struct node *node = &nodes[index];
		if (index && ((node->what ^ want->what) & ~KNOWN_NOT || node->base != want->base ||
			      node->offset != want->offset))
			break; /* something else decided as well: rather nothing */
		if (index && node->value == want->value && node->what == want->what) {
			trail->link = &node->next;
			return;
		}
		if (index) {
			link = &node->other;
			continue;
		}
		if (!made && !(made = take_node(trail->head)))
			break;
		nodes[made].value = want->value;
		nodes[made].offset = want->offset;
		nodes[made].what = want->what;
		nodes[made].base = want->base;
		/* Another thread's node may be there first: then it is that one, or a branch. */
		atomic_compare_exchange_strong_explicit(link, &index, made, memory_order_release,
							memory_order_relaxed);
	}
	trail->head = 0;
}

void af_trail_value(struct af_trail *trail, uint32_t base, uint64_t at, uint32_t size,
		    uint64_t value, bool equal)
{
	uint64_t offset = at - trail->bases[base];
	if (offset > UINT32_MAX)
		af_trail_give_up(trail);
	if (!trail->head)
		return;
	const struct node want = {
		.value = value,
		.offset = (uint32_t)offset,
		.what = (uint8_t)(equal ? size : size | KNOWN_NOT),
		.base = (uint8_t)base,
	};
	add(trail, &want);
}

uint32_t af_trail_pointer(struct af_trail *trail, uint32_t base, uint64_t at, uint64_t pointer)
{
	uint64_t offset = at - trail->bases[base];
	if (offset > UINT32_MAX || trail->n_bases == AF_KNOWN_BASES || !af_is_plausible(pointer))
		af_trail_give_up(trail);
	if (!trail->head)
		return 0;
	const struct node want = {
		.offset = (uint32_t)offset,
		.what = KNOWN_POINTER,
		.base = (uint8_t)base,
	};
	add(trail, &want);
	trail->bases[trail->n_bases] = pointer;
	return trail->n_bases++;
}

void af_trail_end(struct af_trail *trail, const uint32_t *leaves, uint32_t n_leaves)
{
	for (uint32_t i = 0; i < n_leaves && trail->head; i++) {
		const struct node want = {.value = leaves[i], .what = KNOWN_LEAF};
		add(trail, &want);
	}
	const struct node want = {.what = KNOWN_END};
	if (trail->head)
		add(trail, &want);
}

/* SPDX-License-Identifier: MIT */
/*
 * Await trees with many below one, with what is shared, and what their limits cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tree_maker.h"

/* --- lists */

static void make_vec(size_t word, uint64_t pointer, uint64_t length, uint64_t capacity)
{
	heap[word] = capacity;
	heap[word + 1] = pointer;
	heap[word + 2] = length;
}

static void goes_over_vectors(void **state)
{
	uint32_t h = hand("app::All", 24);
	maker_field(m, h, "all", vec(maybe_done(leaf)), 0);

	make_vec(0, at(10), 3, 4);
	heap[12] = 2;
	assert_string_equal(show(h, 0), "app::All[app::Never app::Never:done app::Never]");
	assert_int_equal(tree.nodes[3].index, 2);
	make_vec(0, at(10), 5, 4);
	assert_string_equal(show(h, 0), "app::All");
	assert_true(tree.nodes[0].flags & AF_NODE_LOST);
	make_vec(0, UINT64_MAX - 20, 3, 4);
	assert_string_equal(show(h, 0), "app::All");
	make_vec(0, at(10), UINT64_MAX / 2, UINT64_MAX);
	assert_string_equal(show(h, 0), "app::All");
}

static void cuts_long_lists(void **state)
{
	uint32_t h = hand("app::All", 24);
	maker_field(m, h, "all", vec(leaf), 0);

	make_vec(0, at(10), 1000, 1000);
	tree.max_elements = 10;
	read_at(h, 0);
	assert_int_equal(tree.n_nodes, 11);
	assert_true(tree.cut & AF_CUT_ELEMENTS);
	assert_true(tree.nodes[0].flags & AF_NODE_CUT);
	tree.max_elements = 1000;
	read_at(h, 0);
	assert_true(tree.n_nodes <= 256 && tree.n_nodes > 200);
	assert_true(tree.cut);
}

static void goes_over_slices_and_arrays(void **state)
{
	uint32_t h = hand("app::Both", 32), slice = structure("alloc::boxed::Box<[T]>", 16);
	uint32_t array = maker_type(m, AFM_T_ARRAY, "[T; 2]", 16);
	maker_field(m, slice, "data_ptr", maker_pointer(m, "*T", leaf), 0);
	maker_field(m, slice, "length", u64_type, 8);
	m->types[array].target = leaf;
	m->types[array].length = 2;
	maker_field(m, h, "slice", slice, 0);
	maker_field(m, h, "array", array, 16);

	heap[0] = at(20);
	heap[1] = 3;
	read_at(h, 0);
	assert_int_equal(tree.n_nodes, 6);
	assert_int_equal(tree.nodes[3].address, at(22));
	assert_int_equal(tree.nodes[4].address, at(2));
}

static void goes_round_rings(void **state)
{
	uint32_t raw = structure("alloc::raw_vec::RawVec<T>", 16), h = hand("app::Queue", 32);
	uint32_t deque = structure("alloc::collections::vec_deque::VecDeque<T>", 32);
	maker_field(m, raw, "ptr", maker_pointer(m, "*const u8", u8_type), 0);
	maker_field(m, raw, "cap", u64_type, 8);
	maker_field(m, deque, "buf", raw, 16);
	maker_field(m, deque, "head", u64_type, 0);
	uint32_t second = (uint32_t)m->header.fields.count;
	maker_field(m, deque, "len", u64_type, 8);
	m->types[deque].template_arg = leaf;
	maker_field(m, h, "queue", deque, 0);

	heap[0] = 3;
	heap[1] = 2;
	heap[2] = at(20);
	heap[3] = 4;
	read_at(h, 0);
	assert_int_equal(tree.n_nodes, 3);
	assert_int_equal(tree.nodes[1].address, at(23));
	assert_int_equal(tree.nodes[2].address, at(20));
	/* Before 1.67: `head` is behind the last, `tail` the first. */
	m->fields[second].name = m->fields[second - 1].name;
	m->fields[second - 1].name = m->types[maker_type(m, AFM_T_OPAQUE, "tail", 0)].name;
	heap[0] = 3;
	heap[1] = 1;
	read_at(h, 0);
	assert_int_equal(tree.n_nodes, 3);
	assert_int_equal(tree.nodes[1].address, at(23));
	assert_int_equal(tree.nodes[2].address, at(20));
}

/* Task { future: Option<F>, next_all } of three words. */
static uint32_t unordered(void)
{
	uint32_t task = structure("Task<F>", 24);
	uint32_t next = wrap("core::sync::atomic::AtomicPtr<Task<F>>", "p",
			     wrap("core::cell::UnsafeCell<*mut Task<F>>", "value",
				  maker_pointer(m, "*mut Task<F>", task)));
	maker_field(m, task, "future",
		    wrap("core::cell::UnsafeCell<Option<F>>", "value", optional(leaf)), 0);
	maker_field(m, task, "next_all", next, 16);
	uint32_t type =
		structure("futures_util::stream::futures_unordered::FuturesUnordered<F>", 16);
	maker_field(m, type, "head_all", next, 8);
	return type;
}

static void make_task(size_t word, uint64_t some, uint64_t next)
{
	heap[word] = some;
	heap[word + 2] = next;
}

static void goes_over_futures_unordered_from_the_oldest(void **state)
{
	uint32_t h = hand("app::Next", 8);
	maker_field(m, h, "stream", reference(unordered()), 0);

	heap[0] = at(2);
	heap[3] = at(10);
	make_task(10, 1, at(20));
	make_task(20, 0, at(30));
	make_task(30, 1, 0);
	assert_string_equal(show(h, 0), "app::Next[app::Never app::Never]");
	assert_int_equal(tree.nodes[1].address, at(31));
	assert_int_equal(tree.nodes[1].index, 0);
	assert_int_equal(tree.nodes[2].address, at(11));
	assert_int_equal(tree.nodes[2].index, 2);
	/* A ring, as it may seem while it changes. */
	make_task(30, 1, at(10));
	read_at(h, 0);
	assert_true(tree.nodes[0].flags & AF_NODE_LOST);
	assert_true(tree.n_nodes < 30);
}

/* --- shared */

static void shows_what_two_share_once(void **state)
{
	uint32_t cell = wrap("core::cell::UnsafeCell<F>", "value", leaf);
	uint32_t shared = hand("app::Shared", 8), both = hand("app::Both", 16);
	maker_field(m, shared, "inner", arc(cell), 0);
	maker_field(m, both, "a", shared, 0);
	maker_field(m, both, "b", shared, 8);

	heap[0] = heap[1] = at(10);
	heap[10] = 2;
	assert_string_equal(show(both, 0),
			    "app::Both[app::Shared[app::Never] app::Shared[app::Never:=]]");
	assert_int_equal(tree.nodes[4].same_as, 2);
	heap[10] = 0; /* nobody's: its value is dropped */
	assert_string_equal(show(both, 0), "app::Both[app::Shared app::Shared]");
	assert_true(tree.nodes[1].flags & AF_NODE_LOST);
}

static void ends_in_a_ring_of_counted_pointers(void **state)
{
	uint32_t node = structure("app::Node", 8), h = hand("app::Owner", 8);
	uint32_t counted = arc(node);
	maker_field(m, node, "next", counted, 0);
	maker_field(m, h, "first", counted, 0);

	heap[0] = at(10);
	heap[10] = heap[20] = 1;
	heap[12] = at(20);
	heap[22] = at(10);
	assert_string_equal(show(h, 0), "app::Owner");
	assert_true(tree.nodes[0].flags & AF_NODE_LOST);
	assert_true(tree.n_reads < 200);
}

static void ends_where_a_future_awaits_itself(void **state)
{
	uint32_t c = coroutine("c", 16);
	suspend(c, SUSPENDED);
	uint32_t box = boxed(c);
	awaits(c, box, 8);

	heap[0] = SUSPENDED;
	heap[1] = at(0);
	assert_string_equal(show(c, 0), "c[c:=]");
}

/* --- limits and hashes */

static void keeps_its_limits(void **state)
{
	uint32_t c = coroutine("c", 16), box = boxed(c);
	suspend(c, SUSPENDED);
	awaits(c, box, 8);

	for (size_t i = 0; i < 1000; i++) {
		heap[i * 2] = SUSPENDED;
		heap[i * 2 + 1] = at(i * 2 + 2);
	}
	read_at(c, 0);
	assert_true(tree.cut & AF_CUT_DEPTH);
	assert_int_equal(tree.n_nodes, 512 / 3 + 1);
	tree.max_depth = 10000;
	read_at(c, 0);
	assert_int_equal(tree.n_nodes, 256);
	assert_int_equal(tree.cut, AF_CUT_NODES);
	assert_true(tree.nodes[255].flags & AF_NODE_CUT);
	tree.max_steps = 30;
	read_at(c, 0);
	assert_int_equal(tree.cut, AF_CUT_STEPS);
	assert_int_equal(tree.n_nodes, 10);
}

static void needs_room_for_one_node(void **state)
{
	assert_false(af_await_tree_init(&tree, block, af_await_tree_size(1) - 1));
	assert_true(af_await_tree_init(&tree, block, af_await_tree_size(1)));
	assert_int_equal(tree.max_nodes, 1);
	uint32_t c = awaiting("c", leaf);
	heap[0] = SUSPENDED;
	assert_string_equal(show(c, 0), "c");
	assert_int_equal(tree.cut, AF_CUT_NODES);
}

static void tells_trees_apart(void **state)
{
	uint32_t c = awaiting("c", boxed(leaf));

	heap[0] = heap[2] = SUSPENDED;
	heap[1] = heap[3] = at(10);
	read_at(c, 0);
	uint64_t identity = tree.identity, likeness = tree.likeness;
	read_at(c, 0);
	assert_true(tree.identity == identity && tree.likeness == likeness);
	read_at(c, 2);
	assert_true(tree.identity != identity && tree.likeness == likeness);
	heap[1] = at(11);
	read_at(c, 0);
	assert_true(tree.identity != identity && tree.likeness == likeness);
	heap[0] = 0;
	read_at(c, 0);
	assert_true(tree.likeness != likeness);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		TEST(goes_over_vectors),
		TEST(cuts_long_lists),
		TEST(goes_over_slices_and_arrays),
		TEST(goes_round_rings),
		TEST(goes_over_futures_unordered_from_the_oldest),
		TEST(shows_what_two_share_once),
		TEST(ends_in_a_ring_of_counted_pointers),
		TEST(ends_where_a_future_awaits_itself),
		TEST(keeps_its_limits),
		TEST(needs_room_for_one_node),
		TEST(tells_trees_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Await trees of hand-made memory: what lies below one future, and the traps. That trees of
 * real programs are right is for the end-to-end tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tree_maker.h"

/* --- coroutines */

static void follows_awaitees_to_the_leaf(void **state)
{
	uint32_t inner = awaiting("inner", leaf), outer = awaiting("outer", inner);

	heap[0] = SUSPENDED;
	heap[1] = SUSPENDED;
	assert_string_equal(show(outer, 0), "outer[inner[app::Never]]");
	assert_int_equal(tree.nodes[0].relation, AF_IS_ROOT);
	assert_int_equal(tree.nodes[1].relation, AF_IS_AWAITED);
	assert_int_equal(tree.nodes[2].address, at(2));
	assert_int_equal(tree.nodes[0].status, AF_NODE_SUSPENDED);
	assert_string_equal(af_target_string(&target, 0, m->variants[tree.nodes[0].variant].name),
			    "Suspend0");
	assert_int_equal(af_await_tree_innermost(&tree), 2);
	assert_int_equal(tree.cut, 0);
}

static void tells_the_states_of_coroutines(void **state)
{
	uint32_t c = awaiting("c", leaf);

	assert_string_equal(show(c, 0), "c:0");
	heap[0] = 1;
	assert_string_equal(show(c, 0), "c:done");
	heap[0] = 2;
	assert_string_equal(show(c, 0), "c:panicked");
	heap[0] = 200;
	assert_string_equal(show(c, 0), "c:?");
	assert_false(read_at(c, 0));
	assert_string_equal(show(c, 1 << 20), "c:!");
	assert_int_equal(tree.n_failed, 1);
}

static void picks_the_awaitee_of_the_state(void **state)
{
	uint32_t other = hand("app::Other", 8), c = awaiting("c", leaf);

	suspend(c, 4);
	awaits(c, other, 16);
	heap[0] = 4;
	assert_string_equal(show(c, 0), "c[app::Other]");
}

static void sees_through_generators(void **state)
{
	uint32_t inner = awaiting("inner", leaf);
	uint32_t generator = wrap("core::future::from_generator::GenFuture<T>", "__0", inner);
	m->types[generator].future = m->types[inner].future;

	heap[0] = heap[1] = SUSPENDED;
	assert_string_equal(show(awaiting("outer", generator), 0), "outer[inner[app::Never]]");
}

/* --- pointers */

static void sees_through_pins_boxes_and_references(void **state)
{
	uint32_t inner = awaiting("inner", boxed(boxed(leaf)));
	uint32_t outer = awaiting("outer", reference(inner));

	heap[0] = SUSPENDED;
	heap[1] = at(10);
	heap[10] = SUSPENDED;
	heap[11] = at(20);
	heap[20] = at(30);
	assert_string_equal(show(outer, 0), "outer[inner[app::Never]]");
	assert_int_equal(tree.nodes[2].address, at(30));
}

static void says_what_pointers_lead_nowhere(void **state)
{
	uint32_t c = awaiting("c", boxed(awaiting("inner", leaf)));

	heap[0] = SUSPENDED;
	assert_string_equal(show(c, 0), "c");
	assert_true(tree.nodes[0].flags & AF_NODE_LOST);
	heap[1] = 0x7000000;
	assert_string_equal(show(c, 0), "c[inner:!]");
}

static void follows_no_misaligned_pointer(void **state)
{
	uint32_t inner = awaiting("inner", leaf), c = awaiting("c", boxed(inner));

	m->types[inner].align = 8;
	heap[0] = SUSPENDED;
	heap[1] = at(10) + 4;
	assert_string_equal(show(c, 0), "c");
	assert_true(tree.nodes[0].flags & AF_NODE_LOST);
}

static void follows_no_raw_pointer(void **state)
{
	uint32_t own = hand("app::Own", 8), c;
	maker_field(m, own, "raw", maker_pointer(m, "*const T", leaf), 0);
	c = awaiting("c", own);

	heap[0] = SUSPENDED;
	heap[1] = at(10);
	assert_string_equal(show(c, 0), "c[app::Own]");
}

static uint32_t dynamic(void)
{
	uint32_t type = structure("alloc::boxed::Box<dyn core::future::future::Future>", 16);
	maker_field(m, type, "pointer", maker_pointer(m, "*dyn Future", u8_type), 0);
	maker_field(m, type, "vtable", maker_pointer(m, "&[usize; 3]", u64_type), 8);
	return type;
}

static void finds_what_is_dyn_by_its_vtable(void **state)
{
	uint32_t inner = awaiting("inner", leaf), c = awaiting("c", dynamic());

	maker_vtable(m, 0x1000, leaf);
	maker_vtable(m, 0x2000, inner);
	heap[0] = SUSPENDED;
	heap[1] = at(10);
	heap[2] = BIAS + 0x2000;
	heap[10] = SUSPENDED;
	assert_string_equal(show(c, 0), "c[inner[app::Never]]");
	heap[2] = BIAS + 0x2008;
	show(c, 0);
	assert_int_equal(tree.n_nodes, 2);
	assert_int_equal(tree.nodes[1].status, AF_NODE_UNKNOWN);
}

/* futures' LocalFutureObj owns what its raw pointer points to; of others nobody knows that. */
static void follows_the_raw_pointer_of_a_future_obj(void **state)
{
	uint32_t inner = awaiting("inner", leaf),
		 raw = structure("*mut dyn core::future::Future", 16);
	maker_field(m, raw, "pointer", maker_pointer(m, "*dyn Future", u8_type), 0);
	maker_field(m, raw, "vtable", maker_pointer(m, "&[usize; 3]", u64_type), 8);
	uint32_t object = structure("futures_task::future_obj::LocalFutureObj<()>", 24);
	maker_field(m, object, "future", raw, 0);
	uint32_t own = hand("app::Own", 24);
	maker_field(m, own, "future", raw, 0);
	uint32_t c = awaiting("c", object), d = awaiting("d", own);

	maker_vtable(m, 0x2000, inner);
	heap[0] = SUSPENDED;
	heap[1] = at(10);
	heap[2] = BIAS + 0x2000;
	heap[10] = SUSPENDED;
	assert_string_equal(show(c, 0), "c[inner[app::Never]]");
	assert_string_equal(show(d, 0), "d[app::Own]");
}

static void believes_no_vtable_of_two_types(void **state)
{
	uint32_t inner = awaiting("inner", leaf), c = awaiting("c", dynamic());

	maker_vtable(m, 0x2000, leaf);
	maker_vtable(m, 0x2000, inner);
	heap[0] = SUSPENDED;
	heap[1] = at(10);
	heap[2] = BIAS + 0x2000;
	show(c, 0);
	assert_int_equal(tree.nodes[1].status, AF_NODE_UNKNOWN);
}

/* --- enums */

static void looks_into_the_active_variant(void **state)
{
	uint32_t holder = hand("app::Holder", 16);
	maker_field(m, holder, "slot", optional(leaf), 0);
	uint32_t c = awaiting("c", holder);

	heap[0] = SUSPENDED;
	assert_string_equal(show(c, 0), "c[app::Holder]");
	heap[1] = 1;
	assert_string_equal(show(c, 0), "c[app::Holder[app::Never]]");
	assert_string_equal(af_target_string(&target, 0, tree.nodes[2].label), "slot");
	heap[1] = 7;
	show(c, 0);
	assert_int_equal(tree.nodes[2].status, AF_NODE_UNKNOWN);
}

static void takes_what_no_variant_claims_for_the_default(void **state)
{
	uint32_t niche = hand("app::Niche", 8);
	m->types[niche].discr_offset = 0;
	m->types[niche].discr_size = 8;
	maker_variant(m, niche, "Small", UINT64_C(0x8000000000000000), 0);
	maker_variant(m, niche, "Big", 0, AFM_VF_DEFAULT);
	maker_field(m, niche, "__0", reference(leaf), 0);

	heap[0] = at(5);
	assert_string_equal(show(niche, 0), "app::Niche[app::Never]");
	heap[0] = UINT64_C(0x8000000000000000);
	assert_string_equal(show(niche, 0), "app::Niche");
	assert_int_equal(tree.nodes[0].flags, AF_NODE_IN_STATE);
}

static void guesses_no_variant_without_a_tag(void **state)
{
	uint32_t result = hand("app::Infallible", 8);
	maker_variant(m, result, "Ok", 0, AFM_VF_DEFAULT);
	maker_variant(m, result, "Err", 0, AFM_VF_DEFAULT);
	maker_field(m, result, "__0", leaf, 0);

	assert_string_equal(show(result, 0), "app::Infallible");
	assert_true(tree.nodes[0].flags & AF_NODE_LOST);
}

static void enters_no_union(void **state)
{
	uint32_t u = maker_type(m, AFM_T_UNION, "MaybeUninit", 8), h = hand("app::H", 8);
	maker_field(m, u, "value", leaf, 0);
	maker_field(m, h, "slot", u, 0);
	m->types[u].flags |= AFM_TF_REACHES_FUTURE;
	assert_string_equal(show(h, 0), "app::H");
}

static void ends_combinators_that_are_complete(void **state)
{
	uint32_t inside = hand("futures_util::future::future::map::Map<F>", 16);
	m->types[inside].discr_offset = 0;
	m->types[inside].discr_size = 8;
	maker_variant(m, inside, "Incomplete", 0, 0);
	maker_field(m, inside, "future", leaf, 8);
	maker_variant(m, inside, "Complete", 1, 0);
	uint32_t map = hand("futures_util::future::future::Map<F>", 16);
	maker_field(m, map, "inner", inside, 0);

	assert_string_equal(show(map, 0), "futures_util::future::future::Map<F>[app::Never]");
	heap[0] = 1;
	assert_string_equal(show(map, 0), "futures_util::future::future::Map<F>:done");
}

/* --- join! and select! */

/* A coroutine whose branches lie in a tuple at 40, and whose awaitee borrows it. */
static uint32_t joining(uint32_t mask)
{
	uint32_t branch = maybe_done(leaf);
	uint32_t tuple = structure("(MaybeDone<F>, MaybeDone<F>)", 32);
	maker_field(m, tuple, "__0", branch, 0);
	maker_field(m, tuple, "__1", branch, 16);
	uint32_t closure = structure("app::f::{closure_env#0}", 16);
	maker_field(m, closure, "_ref__futures", reference(tuple), 0);
	if (mask)
		maker_field(m, closure, "_ref__disabled", reference(u8_type), 8);
	uint32_t type = coroutine("joins", 80);
	uint32_t awaitee = poll_fn(closure);
	suspend(type, SUSPENDED);
	maker_field(m, type, "futures", tuple, 40);
	awaits(type, awaitee, 8);
	heap[0] = SUSPENDED;
	heap[1] = at(5);
	heap[2] = at(12);
	return type;
}

static void finds_branches_once_and_awaited(void **state)
{
	uint32_t joins = joining(0);

	assert_string_equal(show(joins, 0),
			    "joins[core::future::poll_fn::PollFn<app::f::{closure_env#0}>"
			    "[app::Never app::Never]]");
	assert_int_equal(tree.nodes[2].relation, AF_IS_CHILD);
	assert_int_equal(tree.nodes[2].index, 0);
	assert_int_equal(tree.nodes[3].index, 1);
	assert_string_equal(af_target_string(&target, 0, tree.nodes[3].label), "futures");
	assert_int_equal(af_await_tree_innermost(&tree), 1);

	heap[5] = 1;
	show(joins, 0);
	assert_int_equal(tree.nodes[2].status, AF_NODE_DONE);
	assert_int_equal(tree.nodes[2].type, leaf);
	assert_int_equal(tree.nodes[3].status, AF_NODE_HAND);
	assert_int_equal(af_await_tree_innermost(&tree), 1);
}

/* select! over StreamMap::next(): a branch that leads through a list of pairs. */
static void numbers_branches_and_not_what_lies_in_them(void **state)
{
	uint32_t pair = structure("(u64, app::Never)", 16);
	maker_field(m, pair, "__1", leaf, 8);
	uint32_t tuple = structure("(Next<StreamMap<K, V>>, app::Never)", 32);
	maker_field(m, tuple, "__0", wrap("app::Next", "stream", vec(pair)), 0);
	maker_field(m, tuple, "__1", leaf, 24);
	uint32_t closure = wrap("app::f::{closure_env#0}", "_ref__futures", reference(tuple));
	uint32_t selects = awaiting("selects", poll_fn(closure));

	heap[0] = SUSPENDED;
	heap[1] = at(4);
	heap[4] = 2;
	heap[5] = at(20);
	heap[6] = 2;
	read_at(selects, 0);
	assert_int_equal(tree.n_nodes, 5);
	assert_int_equal(tree.nodes[2].index, 0);
	assert_int_equal(tree.nodes[3].index, 0);
	assert_int_equal(tree.nodes[3].address, at(23));
	assert_int_equal(tree.nodes[4].index, 1);

	uint32_t pairs = hand("app::Pairs", 24);
	maker_field(m, pairs, "entries", vec(pair), 0);
	read_at(pairs, 4);
	assert_int_equal(tree.n_nodes, 3);
	assert_int_equal(tree.nodes[1].index, 0);
	assert_int_equal(tree.nodes[2].index, 1);
}

static void marks_branches_that_select_has_disabled(void **state)
{
	uint32_t selects = joining(1);

	heap[12] = 2;
	read_at(selects, 0);
	assert_false(tree.nodes[2].flags & AF_NODE_DISABLED);
	assert_true(tree.nodes[3].flags & AF_NODE_DISABLED);
}

/* --- held */

/* Awaits a leaf at 8 and holds: another by value at 16, a box at 24, an argument at 32. */
static uint32_t holding(bool flag)
{
	uint32_t value = hand("app::Value", 8), kept = hand("app::Boxed", 8);
	uint32_t box = boxed(kept);
	uint32_t type = coroutine("c", 56);
	suspend(type, SUSPENDED);
	maker_field(m, type, "value", value, 16);
	maker_field(m, type, "boxed", box, 24);
	maker_field(m, type, "argument", value, 32);
	m->fields[m->header.fields.count - 1].flags |= AFM_FF_CAPTURED;
	if (flag)
		maker_field(m, type, "__3", bool_type, 40);
	maker_field(m, type, "__4", value, 48);
	awaits(type, leaf, 8);
	heap[0] = SUSPENDED;
	heap[3] = at(20);
	return type;
}

static void shows_what_is_held_by_value(void **state)
{
	uint32_t c = holding(false);

	assert_string_equal(show(c, 0), "c[app::Never held app::Value held app::Value]");
	assert_int_equal(af_await_tree_innermost(&tree), 1);
	tree.held = AF_HELD_NONE;
	assert_string_equal(show(c, 0), "c[app::Never]");
	tree.held = AF_HELD_POINTERS;
	assert_string_equal(show(c, 0),
			    "c[app::Never held app::Value held app::Boxed held app::Value]");
	assert_true(tree.nodes[3].flags & AF_NODE_UNSURE);
}

static void follows_nothing_held_when_a_drop_flag_is_clear(void **state)
{
	uint32_t c = holding(true);

	tree.held = AF_HELD_POINTERS;
	/* One flag, of who knows whom: nothing that could have been moved. */
	assert_string_equal(show(c, 0), "c[app::Never]");
	heap[5] = 1;
	assert_string_equal(show(c, 0),
			    "c[app::Never held app::Value held app::Boxed held app::Value]");
}

/* A poll pins: what is parked is where it was. */
static void shows_what_is_held_and_was_polled(void **state)
{
	uint32_t inner = awaiting("inner", leaf), c = coroutine("c", 48);
	suspend(c, SUSPENDED);
	maker_field(m, c, "__1", bool_type, 16);
	maker_field(m, c, "parked", inner, 24);
	awaits(c, leaf, 8);

	heap[0] = SUSPENDED;
	assert_string_equal(show(c, 0), "c[app::Never]");
	heap[3] = SUSPENDED;
	assert_string_equal(show(c, 0), "c[app::Never held inner[app::Never]]");
	assert_false(tree.nodes[2].flags & AF_NODE_UNSURE);
	heap[2] = 1;
	heap[3] = 0;
	assert_string_equal(show(c, 0), "c[app::Never held inner:0]");
	assert_true(tree.nodes[2].flags & AF_NODE_UNSURE);
}

static void shows_arguments_of_what_has_not_begun(void **state)
{
	uint32_t c = maker_type(m, AFM_T_STRUCT, "c", 16);
	maker_future(m, c, "c", AFM_F_ASYNC_FN, 0);
	maker_variant(m, c, "Unresumed", 0, 0);
	maker_field(m, c, "argument", leaf, 8);

	assert_string_equal(show(c, 0), "c:0[held app::Never]");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		TEST(follows_awaitees_to_the_leaf),
		TEST(tells_the_states_of_coroutines),
		TEST(picks_the_awaitee_of_the_state),
		TEST(sees_through_generators),
		TEST(sees_through_pins_boxes_and_references),
		TEST(says_what_pointers_lead_nowhere),
		TEST(follows_no_misaligned_pointer),
		TEST(follows_no_raw_pointer),
		TEST(finds_what_is_dyn_by_its_vtable),
		TEST(follows_the_raw_pointer_of_a_future_obj),
		TEST(believes_no_vtable_of_two_types),
		TEST(looks_into_the_active_variant),
		TEST(takes_what_no_variant_claims_for_the_default),
		TEST(guesses_no_variant_without_a_tag),
		TEST(enters_no_union),
		TEST(ends_combinators_that_are_complete),
		TEST(finds_branches_once_and_awaited),
		TEST(numbers_branches_and_not_what_lies_in_them),
		TEST(marks_branches_that_select_has_disabled),
		TEST(shows_what_is_held_by_value),
		TEST(follows_nothing_held_when_a_drop_flag_is_clear),
		TEST(shows_what_is_held_and_was_polled),
		TEST(shows_arguments_of_what_has_not_begun),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

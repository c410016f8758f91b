/* SPDX-License-Identifier: MIT */
/*
 * Which variables of a future are shown as alive, and which memory they own. Against real programs that is
 * tests/end_to_end/test_values.py and test_await_stacks.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "inspect/owners.h"
#include "value_maker.h"

static const char *show_locals(void)
{
	static char text[1024];
	struct af_local locals[16];
	struct af_line line;
	uint32_t variant;

	af_line_init(&line, text, sizeof(text));
	if (af_target_variant(target, 0, coroutine_type, HEAP, &variant) != AF_ACTIVE_FOUND)
		return "none";
	uint32_t n = af_locals_find(target, 0, coroutine_type, HEAP, variant, locals, 16);
	for (uint32_t i = 0; i < n; i++) {
		af_line_put(&line, i ? ", " : "");
		af_line_put(&line, locals[i].name);
		af_line_put(&line, "=");
		af_local_print(&line, NULL, target, 0, &locals[i]);
	}
	return text;
}

static void only_what_is_alive_is_shown(void **state)
{
	uint8_t *bytes = (uint8_t *)heap;

	memset(heap, 0, sizeof(heap));
	put_vec(heap, 8, HEAP + 800, 1);
	put_vec(heap + 3, 8, HEAP + 801, 1);
	memcpy(heap + 100, "xy", 2);
	bytes[48] = 7;
	bytes[49] = 1;
	bytes[50] = 3;
	assert_string_equal(show_locals(), "text=\"x\", other=\"y\", twice=<shadowed>, "
					   "id=7 (as passed), moved=<moved?>");
	/* One flag that is not 1 makes all that can be moved doubtful, and nothing else. */
	for (int flag = 0; flag < 256; flag += flag ? 254 : 2) {
		bytes[49] = (uint8_t)flag;
		assert_string_equal(show_locals(), "text=<moved?>, other=<moved?>, "
						   "twice=<shadowed>, id=7 (as passed), "
						   "moved=<moved?>");
	}
	/* Before the first poll all arguments are there; after the last none. */
	bytes[50] = 0;
	put_vec(heap + 7, 8, HEAP + 800, 2);
	put_vec(heap + 10, 8, HEAP + 801, 1);
	assert_string_equal(show_locals(), "id=7, moved=\"xy\", other=\"y\"");
	bytes[50] = 1;
	assert_string_equal(show_locals(), "");
	bytes[50] = 2;
	assert_string_equal(show_locals(), "");
	bytes[50] = 4;
	assert_string_equal(show_locals(), "none");
}

static void hand_written_futures_have_their_fields(void **state)
{
	struct af_local locals[4];

	maker.types[option_type].flags |= AFM_TF_REACHES_FUTURE;
	assert_int_equal(af_locals_find(target, 0, hand_type, HEAP, AFM_NONE, locals, 4), 1);
	assert_string_equal(locals[0].name, "tries");
	assert_int_equal(locals[0].address, HEAP + 8);
	assert_int_equal(locals[0].life, AF_LOCAL_ALIVE);
	maker.types[option_type].flags = 0;
	assert_int_equal(af_locals_find(target, 0, hand_type, HEAP, AFM_NONE, locals, 4), 2);
	assert_int_equal(af_locals_find(target, 0, hand_type, HEAP, AFM_NONE, locals, 1), 1);
	assert_int_equal(af_locals_find(target, 0, holder_type, HEAP, AFM_NONE, locals, 4), 0);
	assert_int_equal(af_locals_find(target, 0, sleep_type, HEAP, AFM_NONE, locals, 4), 1);
	assert_string_equal(locals[0].name, "deadline");
	assert_int_equal(locals[0].type, instant_type);
	assert_int_equal(locals[0].address, HEAP + 16);
	assert_int_equal(af_locals_find(target, 0, kind_sleep_type, HEAP, AFM_NONE, locals, 4), 1);
	assert_int_equal(locals[0].type, instant_type);
	assert_int_equal(locals[0].address, HEAP + 16);
}

static struct afm_field *suspended(uint32_t number)
{
	const struct afm_type *type = &maker.types[coroutine_type];
	return &maker.fields[maker.variants[type->first_variant + 3].first_field + number];
}

/* Fields of Suspend0: text, other, twice, twice, __3, __4, __awaitee, id, moved, other. */
static void what_drop_glue_tells_is_certain(void **state)
{
	static const uint32_t told[] = {0, 1, 8};
	uint8_t *bytes = (uint8_t *)heap;

	memset(heap, 0, sizeof(heap));
	put_vec(heap, 8, HEAP + 800, 1);
	put_vec(heap + 3, 8, HEAP + 801, 1);
	memcpy(heap + 100, "xy", 2);
	put_vec(heap + 7, 8, HEAP + 800, 2);
	bytes[50] = 3;
	/* The flag is another's: of text and moved it tells nothing. */
	suspended(0)->flags |= AFM_FF_DROPPED;
	suspended(1)->flags |= AFM_FF_FLAGGED | 4u << AFM_FF_FLAG_SHIFT;
	suspended(8)->flags |= AFM_FF_GONE;
	assert_string_equal(show_locals(), "text=\"x\", other=<moved>, twice=<shadowed>, "
					   "id=0 (as passed), moved=<moved>");
	bytes[49] = 1;
	assert_string_equal(show_locals(), "text=\"x\", other=\"y\", twice=<shadowed>, "
					   "id=0 (as passed), moved=<moved>");
	bytes[49] = 2;
	assert_string_equal(show_locals(), "text=\"x\", other=<moved?>, twice=<shadowed>, "
					   "id=0 (as passed), moved=<moved>");
	/* A part of it is gone; the argument is where it was; a flag that is none. */
	suspended(0)->flags |= AFM_FF_GONE;
	suspended(1)->flags = AFM_FF_FLAGGED | 10u << AFM_FF_FLAG_SHIFT;
	suspended(8)->flags = AFM_FF_CAPTURED | AFM_FF_DROPPED;
	bytes[49] = 1;
	assert_string_equal(show_locals(), "text=<moved?>, other=\"y\", twice=<shadowed>, "
					   "id=0 (as passed), moved=\"xy\"");
	for (size_t i = 0; i < 3; i++)
		suspended(told[i])->flags = 0;
}

/* What seems to be owned by several is one constant, or nothing. */
static void only_memory_of_the_heap_is_owned(void **state)
{
	struct af_owner owners[4];

	memset(heap, 0, sizeof(heap));
	put_vec(heap, 4, HEAP + 800, 1);
	assert_int_equal(af_owners_find(target, 0, string_type, HEAP, owners, 4), 1);
	assert_int_equal(owners[0].memory, HEAP + 800);
	assert_int_equal(owners[0].place, HEAP + 8);
	put_vec(heap, 0, 1, 0);
	assert_int_equal(af_owners_find(target, 0, string_type, HEAP, owners, 4), 0);
	/* ctrl, bucket mask: of a table that has room, and of one that has none */
	heap[0] = HEAP + 800;
	heap[1] = 3;
	assert_int_equal(af_owners_find(target, 0, map_type, HEAP, owners, 4), 1);
	assert_int_equal(owners[0].memory, HEAP + 800);
	heap[1] = 0;
	assert_int_equal(af_owners_find(target, 0, map_type, HEAP, owners, 4), 0);
}

/* The place of an argument owns nothing once the function has made a variable of it. */
static void arguments_are_gone_after_the_first_poll(void **state)
{
	struct af_local locals[16];
	uint8_t *bytes = (uint8_t *)heap;

	memset(heap, 0, sizeof(heap));
	for (unsigned polled = 0; polled < 2; polled++) {
		uint32_t variant, gone = 0, n;
		bytes[50] = polled ? 3 : 0;
		assert_int_equal(af_target_variant(target, 0, coroutine_type, HEAP, &variant),
				 AF_ACTIVE_FOUND);
		n = af_locals_find(target, 0, coroutine_type, HEAP, variant, locals, 16);
		for (uint32_t i = 0; i < n; i++) {
			gone += locals[i].is_gone;
			assert_true(!locals[i].is_gone || !strcmp(locals[i].name, "id") ||
				    !strcmp(locals[i].name, "moved"));
		}
		assert_int_equal(gone, polled ? 2 : 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_is_alive_is_shown),
		cmocka_unit_test(what_drop_glue_tells_is_certain),
		cmocka_unit_test(hand_written_futures_have_their_fields),
		cmocka_unit_test(only_memory_of_the_heap_is_owned),
		cmocka_unit_test(arguments_are_gone_after_the_first_poll),
	};

	return cmocka_run_group_tests(tests, set_up_values, NULL);
}

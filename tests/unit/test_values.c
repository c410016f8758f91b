/* SPDX-License-Identifier: MIT */
/*
 * Values in memory that is missing, stale, torn or made to mislead. That the same code reads
 * real values as the program prints them is tests/end_to_end/test_values.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "value_maker.h"

static void what_cannot_be_is_invalid(void **state)
{
	heap[0] = 2;
	assert_string_equal(show(bool_type, HEAP), "<invalid>");
	assert_string_equal(show(option_type, HEAP), "<invalid>");
	heap[0] = 0xd800;
	assert_string_equal(show(char_type, HEAP), "<invalid>");
	heap[0] = 0x110000;
	assert_string_equal(show(char_type, HEAP), "<invalid>");
	heap[0] = 0;
	assert_string_equal(show(node_type, HEAP), "Node { next: <invalid> }");
	heap[0] = 5;
	heap[1] = 1000000000;
	assert_string_equal(show(instant_type, HEAP), "<invalid>");
}

/* It may be a function item, which has no bytes: what lies there is somebody else's. */
static void a_function_that_is_nowhere_is_no_address(void **state)
{
	heap[0] = 3;
	assert_string_equal(show(function_type, HEAP), "<function>");
	heap[0] = HEAP;
	assert_memory_equal(show(function_type, HEAP), "0x", 2);

	struct af_image image = target->images[0];
	struct af_target other = *target;
	struct af_line line;
	char text[64];
	other.images = &image;
	image.text = 0x5000;
	image.text_end = 0x6000;
	for (int i = 0; i < 2; i++) {
		heap[0] = i ? 0x5fff : HEAP; /* code; memory, but no code */
		af_line_init(&line, text, sizeof(text));
		af_value_print(&line, NULL, &other, 0, function_type, HEAP);
		assert_string_equal(text, i ? "0x5fff" : "<function>");
	}
}

static void what_is_not_there_is_unreadable(void **state)
{
	const uint32_t types[] = {u8_type,  bool_type, string_type, vec_u8,   str_type,
				  map_type, tree_type, option_type, arc_type, instant_type};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		for (uint64_t address = 8; address < HEAP; address += 50000)
			assert_string_equal(show(types[i], address), "<unreadable>");
	/* Half of it is there. */
	assert_string_equal(show(string_type, HEAP + sizeof(heap) - 16), "<unreadable>");
	assert_string_equal(show(usize_type, UINT64_MAX - 3), "<unreadable>");
	assert_string_equal(show(node_type, UINT64_MAX - 7), "Node { next: <unreadable> }");
	put_vec(heap, 9, HEAP + sizeof(heap), 9);
	assert_string_equal(show(string_type, HEAP), "<unreadable>");
	assert_string_equal(
		show(vec_u8, HEAP),
		"[<unreadable>, <unreadable>, <unreadable>, <unreadable>, <unreadable>, "
		"<unreadable>, <unreadable>, <unreadable>, <unreadable>]");
}

static void texts_are_checked(void **state)
{
	char *text = (char *)(heap + 100);

	memcpy(text, "caf\xc3\xa9", 5);
	put_vec(heap, 8, HEAP + 800, 5);
	assert_string_equal(show(string_type, HEAP), "\"caf\xc3\xa9\"");
	heap[2] = 4; /* ends in the middle of a character */
	assert_string_equal(show(string_type, HEAP), "<invalid>");
	heap[2] = 9; /* more than its capacity */
	assert_string_equal(show(string_type, HEAP), "<invalid>");
	put_vec(heap, UINT64_MAX, HEAP + 800, UINT64_MAX);
	assert_string_equal(show(string_type, HEAP), "<invalid>");
	put_vec(heap, 8, UINT64_MAX - 2, 5);
	assert_string_equal(show(string_type, HEAP), "<invalid>");
	text[1] = (char)0xc0;
	put_vec(heap, 8, HEAP + 800, 5);
	assert_string_equal(show(string_type, HEAP), "<invalid>");
}

static void long_texts_are_cut_between_characters(void **state)
{
	struct af_value_options options = af_value_defaults;

	memset(heap + 100, 'a', 200);
	memcpy((char *)(heap + 100) + 7, "\xf0\x9f\xa6\x80", 4);
	put_vec(heap, 200, HEAP + 800, 200);
	options.max_text = 9;
	assert_string_equal(show_with(string_type, HEAP, &options), "\"aaaaaaa\"... (200 bytes)");
	options.max_text = 11;
	assert_string_equal(show_with(string_type, HEAP, &options),
			    "\"aaaaaaa\xf0\x9f\xa6\x80\"... (200 bytes)");
	options.max_text = UINT32_MAX;
	put_vec(heap, 2000, HEAP + 800, 2000);
	assert_non_null(strstr(show_with(string_type, HEAP, &options), "\"... (2000 bytes)"));
}

static void nothing_is_endless(void **state)
{
	/* A box of itself. */
	heap[0] = HEAP;
	const char *text = show(node_type, HEAP);
	assert_int_equal(strncmp(text, "Node { next: Node { next: ", 26), 0);
	assert_non_null(strstr(text, "Node { .. }"));
	/* A list of itself, and of so many nothings. */
	put_vec(heap, 1, HEAP, 1);
	assert_string_equal(show(vec_vec, HEAP), "[[[[[[[[[..]]]]]]]]]");
	put_vec(heap, 0, 8, UINT64_MAX);
	assert_non_null(strstr(show(vec_unit, HEAP), "(), .. 18446744073709551583 more]"));
	/* A list of many lists of itself. */
	for (int i = 0; i < 300; i += 3)
		put_vec(heap + i, 100, HEAP, 100);
	assert_true(strlen(show(vec_vec, HEAP)) < 8192);
}

static void maps_are_bounded(void **state)
{
	/* ctrl, mask, growth left, items; two buckets of four in use. */
	heap[0] = HEAP + 80;
	heap[1] = 3;
	heap[3] = 2;
	memcpy(heap + 10, "\xff\x01\xff\x02", 4);
	memcpy((char *)(heap + 10) - 8, "\x07\x08\0\0\x05\x06\0\0", 8);
	assert_string_equal(show(map_type, HEAP), "{5: 6, 7: 8}");
	heap[3] = 3;
	assert_string_equal(show(map_type, HEAP), "{5: 6, 7: 8, <invalid>}");
	heap[3] = 5;
	assert_string_equal(show(map_type, HEAP), "<invalid>");
	heap[1] = UINT64_MAX;
	assert_string_equal(show(map_type, HEAP), "<invalid>");
	heap[1] = (UINT64_C(1) << 30) - 1;
	heap[0] = HEAP + 8000;
	heap[3] = 1 << 20;
	memset(heap + 1000, 0xff, 192);
	assert_string_equal(show(map_type, HEAP), "{<unreadable>}");
}

static void trees_are_bounded(void **state)
{
	char *keys = (char *)(heap + 11) + 2;

	/* A leaf of two keys. */
	heap[0] = HEAP + 80;
	heap[1] = 0;
	heap[2] = 2;
	heap[11] = 2;
	keys[0] = 4;
	keys[1] = 9;
	assert_string_equal(show(tree_type, HEAP), "{4, 9}");
	heap[2] = 3;
	assert_string_equal(show(tree_type, HEAP), "{4, 9, <invalid>}");
	/* An inner node that is its own child, at every height. */
	heap[13] = heap[14] = heap[15] = HEAP + 80;
	heap[2] = 1000000;
	for (heap[1] = 3; heap[1] < 15; heap[1]++)
		assert_non_null(strstr(show(tree_type, HEAP), ".. 999968 more}"));
	heap[1] = UINT64_MAX;
	assert_string_equal(show(tree_type, HEAP), "{<invalid>}");
	heap[1] = 0;
	((char *)(heap + 11))[0] = 12;
	assert_string_equal(show(tree_type, HEAP), "{<invalid>}");
}

/* What malloc leaves behind in freed memory is no count. */
static void freed_arcs_are_not_alive(void **state)
{
	heap[0] = HEAP + 80;
	heap[10] = 2;
	heap[11] = 1;
	heap[12] = 42;
	assert_string_equal(show(arc_type, HEAP), "42");
	heap[10] = 0;
	assert_string_equal(show(arc_type, HEAP), "<invalid>");
	heap[10] = 0x00005563e8616e20;
	assert_string_equal(show(arc_type, HEAP), "<invalid>");
}

static void instants_are_told_from_now(void **state)
{
	struct af_value_options options = af_value_defaults;

	options.has_now = true;
	options.now_seconds = 100;
	options.now_nanoseconds = 250000000;
	heap[0] = 98;
	heap[1] = 750000000;
	assert_string_equal(show_with(instant_type, HEAP, &options), "1.5s ago");
	heap[0] = 100;
	assert_string_equal(show_with(instant_type, HEAP, &options), "in 500ms");
	heap[0] = (uint64_t)INT64_MIN;
	assert_non_null(strstr(show_with(instant_type, HEAP, &options), "s ago"));
	heap[0] = INT64_MAX;
	assert_non_null(strstr(show_with(instant_type, HEAP, &options), "in "));
}

static const char *show_float(double number)
{
	memcpy(heap, &number, sizeof(number));
	return show(f64_type, HEAP);
}

/* Expectations are what Rust prints. */
static void floats_have_the_fewest_digits(void **state)
{
	assert_string_equal(show_float(0.3), "0.3");
	assert_string_equal(show_float(0.1 + 0.2), "0.30000000000000004");
	assert_string_equal(show_float(123456.0), "123456.0");
	assert_string_equal(show_float(1e15), "1000000000000000.0");
	assert_string_equal(show_float(1e16), "1e16");
	assert_string_equal(show_float(1.2345678e20), "1.2345678e20");
	assert_string_equal(show_float(0.00012), "0.00012");
	assert_string_equal(show_float(0.00001), "1e-5");
	assert_string_equal(show_float(5e-324), "5e-324");
	assert_string_equal(show_float(-0.0), "-0.0");
	assert_string_equal(show_float(100.5), "100.5");
}

static void a_line_keeps_to_its_buffer(void **state)
{
	char text[40];

	memset(heap + 100, 'a', 200);
	memcpy((char *)(heap + 100) + 3, "\xc3\xa9", 2);
	put_vec(heap, 200, HEAP + 800, 90);
	for (size_t size = 0; size < sizeof(text); size++) {
		struct af_line line;
		memset(text, '#', sizeof(text));
		af_line_init(&line, text, size);
		af_value_print(&line, NULL, target, 0, string_type, HEAP);
		assert_true(line.full);
		for (size_t i = size; i < sizeof(text); i++)
			assert_int_equal(text[i], '#');
		if (size)
			assert_int_equal(strlen(text), line.length);
		if (size >= AF_LINE_MIN)
			assert_string_equal(text + line.length - 3, "...");
		for (size_t i = 0; i < line.length; i++)
			if (text[i] == (char)0xc3)
				assert_int_equal((uint8_t)text[i + 1], 0xa9);
	}
}

static void futures_are_named_or_opened(void **state)
{
	struct af_value_options options = af_value_defaults;

	options.open_future = true;
	heap[1] = 9;
	heap[2] = 0;
	assert_string_equal(show(hand_type, HEAP), "<future app::Hand>");
	assert_string_equal(show_with(hand_type, HEAP, &options), "Hand { tries: 9, next: None }");
	assert_string_equal(show_with(coroutine_type, HEAP, &options), "<future app::work>");
	assert_string_equal(show_with(holder_type, HEAP, &options),
			    "Holder { held: <future app::Hand> }");
}

/* Memory that is there wherever one looks, and says anything: mostly what may pass for a
   length or an address. */
struct noise {
	struct af_memory memory;
	uint64_t seed;
	uint64_t reads;
};

static uint64_t random_of(uint64_t seed)
{
	seed ^= seed >> 33;
	seed *= 0xff51afd7ed558ccd;
	seed ^= seed >> 33;
	seed *= 0xc4ceb9fe1a85ec53;
	return seed ^ seed >> 33;
}

static bool read_noise(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct noise *noise = (struct noise *)memory;
	uint8_t *bytes = to;

	noise->reads++;
	for (size_t i = 0; i < size; i++) {
		uint64_t word = random_of(noise->seed ^ (address + i) >> 3);
		uint64_t shape = word >> 56;
		word = shape < 100   ? word & 0xf
		       : shape < 200 ? HEAP + (word & 0xfff8)
		       : shape < 220 ? word & 0xffff
				     : word;
		bytes[i] = (uint8_t)(word >> ((address + i) & 7) * 8);
	}
	return random_of(noise->seed ^ address) % 50 != 0;
}

static void noise_ends_within_bounds(void **state)
{
	struct noise noise = {.memory.read = read_noise};
	struct af_target noisy = *target;
	static char text[16384 + 8];

	noisy.memory = &noise.memory;
	for (noise.seed = 1; noise.seed < 3000; noise.seed++) {
		uint32_t n = (uint32_t)maker.header.types.count;
		size_t size = noise.seed % 2 ? 16384 : 64;
		for (uint32_t type = 0; type < n; type++) {
			struct af_line line;
			memset(text + size, '#', 8);
			noise.reads = 0;
			af_line_init(&line, text, size);
			af_value_print(&line, NULL, &noisy, 0, type, HEAP);
			assert_true(line.length && line.length == strlen(text));
			assert_memory_equal(text + size, "########", 8);
			assert_true(noise.reads < 20000);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_cannot_be_is_invalid),
		cmocka_unit_test(a_function_that_is_nowhere_is_no_address),
		cmocka_unit_test(what_is_not_there_is_unreadable),
		cmocka_unit_test(texts_are_checked),
		cmocka_unit_test(long_texts_are_cut_between_characters),
		cmocka_unit_test(nothing_is_endless),
		cmocka_unit_test(maps_are_bounded),
		cmocka_unit_test(trees_are_bounded),
		cmocka_unit_test(freed_arcs_are_not_alive),
		cmocka_unit_test(instants_are_told_from_now),
		cmocka_unit_test(floats_have_the_fewest_digits),
		cmocka_unit_test(a_line_keeps_to_its_buffer),
		cmocka_unit_test(futures_are_named_or_opened),
		cmocka_unit_test(noise_ends_within_bounds),
	};

	return cmocka_run_group_tests(tests, set_up_values, NULL);
}

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

#include "inspect/locals.h"
#include "map_maker.h"

#define HEAP UINT64_C(0x10000)

/* The types of the tests, in one map, and a heap of 8 KiB. */
static struct map_maker maker;
static struct af_memory_buffer buffer;
static uint64_t heap[1024];
static uint32_t u8_type, usize_type, unit_type, bool_type, char_type, string_type, vec_u8, vec_unit,
	vec_vec, node_type, str_type, map_type, tree_type, option_type, instant_type, arc_type,
	coroutine_type, f64_type, hand_type, holder_type, sleep_type;
static const struct af_target *target;

/* Vec<T>, as rustc 1.95 has it. */
static uint32_t make_vec(const char *name, uint32_t element)
{
	struct map_maker *m = &maker;
	uint32_t pointer = maker_pointer(m, "*const u8", u8_type);
	uint32_t inner =
		maker_type(m, AFM_T_STRUCT, "alloc::raw_vec::RawVecInner<alloc::Global>", 16);
	maker_field(m, inner, "ptr", pointer, 8);
	maker_field(m, inner, "cap", usize_type, 0);
	uint32_t raw = maker_type(m, AFM_T_STRUCT, "alloc::raw_vec::RawVec<T>", 16);
	maker_field(m, raw, "inner", inner, 0);
	uint32_t vec = maker_type(m, AFM_T_STRUCT, name, 24);
	maker_field(m, vec, "buf", raw, 0);
	maker_field(m, vec, "len", usize_type, 16);
	m->types[vec].template_arg = element;
	return vec;
}

static void make_hash_map(void)
{
	struct map_maker *m = &maker;
	uint32_t pair = maker_type(m, AFM_T_STRUCT, "(u8, u8)", 2);
	maker_field(m, pair, "__0", u8_type, 0);
	maker_field(m, pair, "__1", u8_type, 1);
	uint32_t inner = maker_type(m, AFM_T_STRUCT, "hashbrown::raw::RawTableInner", 32);
	maker_field(m, inner, "bucket_mask", usize_type, 8);
	maker_field(m, inner, "ctrl", maker_pointer(m, "*const u8", u8_type), 0);
	maker_field(m, inner, "items", usize_type, 24);
	uint32_t table = maker_type(m, AFM_T_STRUCT, "hashbrown::raw::RawTable<(u8, u8)>", 32);
	m->types[table].template_arg = pair;
	maker_field(m, table, "table", inner, 0);
	map_type = maker_type(m, AFM_T_STRUCT, "hashbrown::map::HashMap<u8, u8>", 32);
	maker_field(m, map_type, "table", table, 0);
}

/* Nodes of u8 without values: len at 8, keys at 10, children from 24. */
static void make_tree_map(void)
{
	struct map_maker *m = &maker;
	uint32_t u16_type = maker_type(m, AFM_T_UNSIGNED, "u16", 2);
	uint32_t rows[2];
	for (int i = 0; i < 2; i++) {
		uint32_t element = maker_type(m, AFM_T_UNION, "MaybeUninit", !i);
		m->types[element].template_arg = i ? unit_type : u8_type;
		rows[i] = maker_type(m, AFM_T_ARRAY, "row", 0);
		m->types[rows[i]].target = element;
		m->types[rows[i]].length = 11;
	}
	uint32_t leaf = maker_type(m, AFM_T_STRUCT, "LeafNode<u8, ()>", 24);
	maker_field(m, leaf, "len", u16_type, 8);
	maker_field(m, leaf, "keys", rows[0], 10);
	maker_field(m, leaf, "vals", rows[1], 21);
	uint32_t reference = maker_type(m, AFM_T_STRUCT, "NodeRef<>", 16);
	maker_field(m, reference, "height", usize_type, 8);
	maker_field(m, reference, "node", maker_pointer(m, "*const LeafNode", leaf), 0);
	uint32_t root = maker_type(m, AFM_T_STRUCT, "core::option::Option<NodeRef>", 16);
	m->types[root].discr_offset = 0;
	m->types[root].discr_size = 8;
	maker_variant(m, root, "None", 0, 0);
	maker_variant(m, root, "Some", 0, AFM_VF_DEFAULT);
	maker_field(m, root, "__0", reference, 0);
	uint32_t map = maker_type(m, AFM_T_STRUCT,
				  "alloc::collections::btree::map::BTreeMap<u8, SetValZST>", 24);
	maker_field(m, map, "root", root, 0);
	maker_field(m, map, "length", usize_type, 16);
	tree_type = maker_type(m, AFM_T_STRUCT, "alloc::collections::btree::set::BTreeSet<u8>", 24);
	maker_field(m, tree_type, "map", map, 0);
}

static void make_arc(void)
{
	struct map_maker *m = &maker;
	uint32_t inner = maker_type(m, AFM_T_STRUCT, "alloc::sync::ArcInner<u8>", 24);
	maker_field(m, inner, "strong", usize_type, 0);
	maker_field(m, inner, "weak", usize_type, 8);
	maker_field(m, inner, "data", u8_type, 16);
	uint32_t pointer = maker_type(m, AFM_T_STRUCT, "core::ptr::NonNull<ArcInner>", 8);
	maker_field(m, pointer, "pointer", maker_pointer(m, "*const ArcInner<u8>", inner), 0);
	arc_type = maker_type(m, AFM_T_STRUCT, "alloc::sync::Arc<u8>", 8);
	maker_field(m, arc_type, "ptr", pointer, 0);
}

/* {text: String@0, other: String@24, id: u8@48, __3: bool@49}, state at 50; `id` and `moved`
   are arguments, and so is `other`, which became a variable. */
static void make_coroutine(void)
{
	struct map_maker *m = &maker;
	coroutine_type = maker_type(m, AFM_T_STRUCT, "app::work::{async_fn_env#0}", 104);
	maker_variant(m, coroutine_type, "Unresumed", 0, 0);
	maker_field(m, coroutine_type, "id", u8_type, 48);
	maker_field(m, coroutine_type, "moved", string_type, 56);
	maker_field(m, coroutine_type, "other", string_type, 80);
	maker_variant(m, coroutine_type, "Returned", 1, 0);
	maker_field(m, coroutine_type, "id", u8_type, 48);
	maker_variant(m, coroutine_type, "Panicked", 2, 0);
	maker_variant(m, coroutine_type, "Suspend0", 3, 0);
	maker_field(m, coroutine_type, "text", string_type, 0);
	maker_field(m, coroutine_type, "other", string_type, 24);
	maker_field(m, coroutine_type, "twice", string_type, 0);
	maker_field(m, coroutine_type, "twice", string_type, 0);
	maker_field(m, coroutine_type, "__3", bool_type, 49);
	maker_field(m, coroutine_type, "__4", string_type, 0);
	maker_field(m, coroutine_type, "__awaitee", unit_type, 0);
	maker_field(m, coroutine_type, "id", u8_type, 48);
	maker_field(m, coroutine_type, "moved", string_type, 56);
	maker_field(m, coroutine_type, "other", string_type, 24);
	maker_future(m, coroutine_type, "app::work", AFM_F_ASYNC_FN, 50);
}

static void make_rest(void)
{
	struct map_maker *m = &maker;
	string_type = maker_type(m, AFM_T_STRUCT, "alloc::string::String", 24);
	maker_field(m, string_type, "vec", vec_u8, 0);
	str_type = maker_type(m, AFM_T_STRUCT, "&str", 16);
	maker_field(m, str_type, "data_ptr", maker_pointer(m, "*u8", u8_type), 0);
	maker_field(m, str_type, "length", usize_type, 8);
	node_type = maker_type(m, AFM_T_STRUCT, "app::Node", 8);
	maker_field(m, node_type, "next",
		    maker_pointer(m, "alloc::boxed::Box<app::Node, Global>", node_type), 0);
	option_type = maker_type(m, AFM_T_STRUCT, "core::option::Option<u8>", 2);
	m->types[option_type].discr_offset = 0;
	m->types[option_type].discr_size = 1;
	maker_variant(m, option_type, "None", 0, 0);
	maker_variant(m, option_type, "Some", 1, 0);
	maker_field(m, option_type, "__0", u8_type, 1);
	hand_type = maker_type(m, AFM_T_STRUCT, "app::Hand", 24);
	maker_field(m, hand_type, "tries", u8_type, 8);
	maker_field(m, hand_type, "next", option_type, 16);
	maker_future(m, hand_type, "app::Hand", AFM_F_HAND, AFM_NONE);
	holder_type = maker_type(m, AFM_T_STRUCT, "app::Holder", 24);
	maker_field(m, holder_type, "held", hand_type, 0);
	uint32_t timespec = maker_type(m, AFM_T_STRUCT, "std::sys::Timespec", 16);
	maker_field(m, timespec, "tv_sec", maker_type(m, AFM_T_SIGNED, "i64", 8), 0);
	maker_field(m, timespec, "tv_nsec", maker_type(m, AFM_T_UNSIGNED, "u32", 4), 8);
	uint32_t unix_instant = maker_type(m, AFM_T_STRUCT, "std::sys::Instant", 16);
	maker_field(m, unix_instant, "t", timespec, 0);
	instant_type = maker_type(m, AFM_T_STRUCT, "std::time::Instant", 16);
	maker_field(m, instant_type, "__0", unix_instant, 0);
	sleep_type = maker_type(m, AFM_T_STRUCT, "tokio::time::sleep::Sleep", 32);
	maker_field(m, sleep_type, "registered", u8_type, 0);
	maker_field(m, sleep_type, "deadline", instant_type, 16);
	maker_future(m, sleep_type, "tokio::time::sleep::Sleep", AFM_F_HAND, AFM_NONE);
}

static int set_up(void **state)
{
	static struct af_image image;
	static struct af_target all;
	struct map_maker *m = &maker;

	maker_init(m);
	u8_type = maker_type(m, AFM_T_UNSIGNED, "u8", 1);
	usize_type = maker_type(m, AFM_T_UNSIGNED, "usize", 8);
	unit_type = maker_type(m, AFM_T_UNSIGNED, "()", 0);
	bool_type = maker_type(m, AFM_T_BOOL, "bool", 1);
	char_type = maker_type(m, AFM_T_CHAR, "char", 4);
	f64_type = maker_type(m, AFM_T_FLOAT, "f64", 8);
	vec_u8 = make_vec("alloc::vec::Vec<u8, Global>", u8_type);
	vec_unit = make_vec("alloc::vec::Vec<(), Global>", unit_type);
	vec_vec = make_vec("alloc::vec::Vec<Endless, Global>", AFM_NONE);
	m->types[vec_vec].template_arg = vec_vec;
	make_rest();
	make_hash_map();
	make_tree_map();
	make_arc();
	make_coroutine();

	image.map = maker_map(m);
	af_memory_buffer_init(&buffer);
	af_memory_buffer_add(&buffer, HEAP, heap, sizeof(heap));
	all = (struct af_target){.memory = &buffer.memory, .images = &image, .n_images = 1};
	target = &all;
	return 0;
}

static const char *show_with(uint32_t type, uint64_t address, const struct af_value_options *o)
{
	static char text[8192];
	struct af_line line;

	af_line_init(&line, text, sizeof(text));
	af_value_print(&line, o, target, 0, type, address);
	assert_int_equal(strlen(text), line.length);
	return text;
}

static const char *show(uint32_t type, uint64_t address)
{
	return show_with(type, address, NULL);
}

/* Capacity, address, length: what a Vec or String holds. */
static void put_vec(uint64_t *at, uint64_t capacity, uint64_t address, uint64_t length)
{
	at[0] = capacity;
	at[1] = address;
	at[2] = length;
}

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
		cmocka_unit_test(only_what_is_alive_is_shown),
		cmocka_unit_test(hand_written_futures_have_their_fields),
		cmocka_unit_test(noise_ends_within_bounds),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}

/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "value_maker.h"

struct map_maker maker;
uint64_t heap[HEAP_WORDS];
uint32_t u8_type, usize_type, unit_type, bool_type, char_type, string_type, vec_u8, vec_unit,
	vec_vec, node_type, str_type, map_type, tree_type, option_type, instant_type, arc_type,
	coroutine_type, f64_type, hand_type, holder_type, sleep_type, function_type,
	kind_sleep_type;
const struct af_target *target;
static struct af_memory_buffer buffer;

/* Vec<T>, as rustc 1.95 has it. */
static uint32_t make_vec(const char *name, uint32_t element)
{
	struct map_maker *m = &maker;
	uint32_t pointer = maker_pointer(m, "*const u8", u8_type);
	uint32_t unique = maker_type(m, AFM_T_STRUCT, "core::ptr::unique::Unique<u8>", 8);
	maker_field(m, unique, "pointer", pointer, 0);
	uint32_t inner =
		maker_type(m, AFM_T_STRUCT, "alloc::raw_vec::RawVecInner<alloc::Global>", 16);
	maker_field(m, inner, "ptr", unique, 8);
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
	uint32_t entry = maker_type(m, AFM_T_STRUCT, "tokio::runtime::time::entry::TimerEntry", 24);
	maker_field(m, entry, "deadline", instant_type, 8);
	uint32_t kind = maker_type(m, AFM_T_STRUCT, "tokio::runtime::Timer", 24);
	maker_variant(m, kind, "Traditional", 0, 0);
	maker_field(m, kind, "__0", entry, 0);
	kind_sleep_type = maker_type(m, AFM_T_STRUCT, "tokio::time::sleep::Sleep", 32);
	maker_field(m, kind_sleep_type, "entry", kind, 8);
	maker_future(m, kind_sleep_type, "tokio::time::sleep::Sleep", AFM_F_HAND, AFM_NONE);
}

int set_up_values(void **state)
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
	uint32_t code = maker_type(m, AFM_T_FUNCTION, "fn", 0);
	function_type = maker_pointer(m, "fn() -> u8", code);
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

const char *show_with(uint32_t type, uint64_t address, const struct af_value_options *o)
{
	static char text[8192];
	struct af_line line;

	af_line_init(&line, text, sizeof(text));
	af_value_print(&line, o, target, 0, type, address);
	assert_int_equal(strlen(text), line.length);
	return text;
}

const char *show(uint32_t type, uint64_t address)
{
	return show_with(type, address, NULL);
}

void put_vec(uint64_t *at, uint64_t capacity, uint64_t address, uint64_t length)
{
	at[0] = capacity;
	at[1] = address;
	at[2] = length;
}

/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tree_maker.h"

struct map_maker maker;
uint64_t heap[HEAP_WORDS];
struct af_image image;
static struct af_memory_buffer buffer;
struct af_target target = {&buffer.memory, &image, 1};
struct af_await_tree tree;
uint64_t block[1 << 16];
uint32_t u8_type, u64_type, bool_type, leaf;

int set_up(void **state)
{
	maker_init(m);
	memset(heap, 0, sizeof(heap));
	af_memory_buffer_init(&buffer);
	af_memory_buffer_add(&buffer, HEAP, heap, sizeof(heap));
	u8_type = maker_type(m, AFM_T_UNSIGNED, "u8", 1);
	u64_type = maker_type(m, AFM_T_UNSIGNED, "u64", 8);
	bool_type = maker_type(m, AFM_T_BOOL, "bool", 1);
	leaf = maker_type(m, AFM_T_STRUCT, "app::Never", 8);
	maker_future(m, leaf, "app::Never", AFM_F_HAND, AFM_NONE);
	m->types[leaf].discr_size = 0;
	assert_true(af_await_tree_init(&tree, block, af_await_tree_size(256)));
	return 0;
}

/* --- types */

uint32_t hand(const char *name, uint64_t size)
{
	uint32_t type = maker_type(m, AFM_T_STRUCT, name, size);
	maker_future(m, type, name, AFM_F_HAND, AFM_NONE);
	m->types[type].discr_size = 0;
	return type;
}

uint32_t structure(const char *name, uint64_t size)
{
	return maker_type(m, AFM_T_STRUCT, name, size);
}

uint32_t wrap(const char *name, const char *field, uint32_t of)
{
	uint32_t type = structure(name, m->types[of].size);
	maker_field(m, type, field, of, 0);
	return type;
}

uint32_t reference(uint32_t to)
{
	return maker_pointer(m, "&mut T", to);
}

uint32_t boxed(uint32_t of)
{
	return wrap("core::pin::Pin<alloc::boxed::Box<T>>", "__pointer",
		    maker_pointer(m, "alloc::boxed::Box<T, A>", of));
}

/* The states that every coroutine has. */
uint32_t coroutine(const char *name, uint64_t size)
{
	uint32_t type = maker_type(m, AFM_T_STRUCT, name, size);
	maker_future(m, type, name, AFM_F_ASYNC_FN, 0);
	maker_variant(m, type, "Unresumed", 0, 0);
	maker_variant(m, type, "Returned", 1, 0);
	maker_variant(m, type, "Panicked", 2, 0);
	return type;
}

void suspend(uint32_t type, uint64_t state)
{
	char name[32];
	snprintf(name, sizeof(name), "Suspend%u", (unsigned)state - 3);
	maker_variant(m, type, name, state, 0);
}

void awaits(uint32_t type, uint32_t awaitee, uint64_t offset)
{
	struct afm_type *t = &m->types[type];
	maker_field(m, type, "__awaitee", awaitee, offset);
	m->variants[t->first_variant + t->n_variants - 1].awaitee =
		(uint32_t)m->header.fields.count - 1;
}

/* Awaits one thing in its only await, at offset 8. */
uint32_t awaiting(const char *name, uint32_t awaitee)
{
	uint32_t type = coroutine(name, 8 + m->types[awaitee].size);
	suspend(type, SUSPENDED);
	awaits(type, awaitee, 8);
	return type;
}

uint32_t maybe_done(uint32_t of)
{
	uint32_t type = structure("futures_util::future::maybe_done::MaybeDone<F>", 16);
	m->types[type].discr_offset = 0;
	m->types[type].discr_size = 8;
	maker_variant(m, type, "Future", 0, 0);
	maker_field(m, type, "__0", of, 8);
	maker_variant(m, type, "Done", 1, 0);
	maker_variant(m, type, "Gone", 2, 0);
	return type;
}

uint32_t optional(uint32_t of)
{
	uint32_t type = structure("core::option::Option<F>", 16);
	m->types[type].discr_offset = 0;
	m->types[type].discr_size = 8;
	maker_variant(m, type, "None", 0, 0);
	maker_variant(m, type, "Some", 1, 0);
	maker_field(m, type, "__0", of, 8);
	return type;
}

uint32_t vec(uint32_t of)
{
	uint32_t inner = structure("alloc::raw_vec::RawVecInner<A>", 16);
	maker_field(m, inner, "ptr", maker_pointer(m, "*const u8", u8_type), 8);
	maker_field(m, inner, "cap", u64_type, 0);
	uint32_t raw = wrap("alloc::raw_vec::RawVec<T>", "inner", inner);
	uint32_t type = structure("alloc::vec::Vec<T, A>", 24);
	maker_field(m, type, "buf", raw, 0);
	maker_field(m, type, "len", u64_type, 16);
	m->types[type].template_arg = of;
	return type;
}

/* Pruning aside: a test has little that leads nowhere. */
static void all_reach(void)
{
	for (uint32_t i = 0; i < m->header.types.count; i++)
		if (m->types[i].kind == AFM_T_STRUCT || m->types[i].kind == AFM_T_POINTER ||
		    m->types[i].kind == AFM_T_ARRAY)
			m->types[i].flags |= AFM_TF_REACHES_FUTURE;
}

/* --- memory */

uint64_t at(size_t word)
{
	return HEAP + word * 8;
}

bool read_at(uint32_t type, size_t word)
{
	all_reach();
	image = (struct af_image){.map = maker_map(m), .bias = BIAS};
	return af_await_tree_read(&tree, &target, 0, type, at(word));
}

/* The tree in a line: "type:status[children]". */
static char shown[1024];

static void show_node(uint32_t node)
{
	static const char *const statuses[] = {"?", "!", "0", "", "done", "panicked", "", "="};
	static const char *const relations[] = {"", "", "", "held "};
	const struct af_node *n = &tree.nodes[node];
	const char *name = af_target_string(&target, 0, m->types[n->type].name);
	size_t length = strlen(shown);

	snprintf(shown + length, sizeof(shown) - length, "%s%s%s%s", relations[n->relation], name,
		 *statuses[n->status] ? ":" : "", statuses[n->status]);
	if (n->first_child == AF_NODE_NONE)
		return;
	strcat(shown, "[");
	for (uint32_t i = n->first_child; i != AF_NODE_NONE; i = tree.nodes[i].next) {
		if (i != n->first_child)
			strcat(shown, " ");
		show_node(i);
	}
	strcat(shown, "]");
}

const char *show(uint32_t type, size_t word)
{
	read_at(type, word);
	shown[0] = '\0';
	show_node(0);
	return shown;
}

uint32_t poll_fn(uint32_t closure)
{
	uint32_t type = hand("core::future::poll_fn::PollFn<app::f::{closure_env#0}>",
			     m->types[closure].size);
	maker_field(m, type, "f", closure, 0);
	return type;
}

uint32_t arc(uint32_t of)
{
	uint32_t inner = structure("alloc::sync::ArcInner<T>", 16 + m->types[of].size);
	uint32_t count = wrap("core::sync::atomic::AtomicUsize", "v", u64_type);
	maker_field(m, inner, "strong", count, 0);
	maker_field(m, inner, "weak", count, 8);
	maker_field(m, inner, "data", of, 16);
	return wrap("alloc::sync::Arc<T>", "ptr",
		    wrap("core::ptr::non_null::NonNull<ArcInner<T>>", "pointer",
			 maker_pointer(m, "*const ArcInner<T>", inner)));
}

/* SPDX-License-Identifier: MIT */
/*
 * Where the user wrote an await. A state's own line is that of the `.await` after macros are
 * expanded: for `join!` and `select!` a line of the macro's crate. The variable `__awaitee` in
 * the coroutine's body carries the line of the user's statement instead, and the same type as
 * the awaitee of the state. So: a state that lies in another file than its coroutine, where no
 * such variable stands, takes the place of the variables of its type that no other state has, in
 * order. (In the same file both are the user's: `.await` may be lines below its statement, and
 * is the better one.)
 */
#include <dwarf.h>

#include "analysis/build.h"

/* "a::f::{async_fn_env#0}<T>" and "a::f::{async_fn#0}<T>" both become "a::f::{async_fn#0}". */
static uint32_t body_name(struct af_builder *b, const char *name)
{
	struct af_text text = {0};
	const char *last = af_name_last(name);

	af_text_append(&text, name, (size_t)(last - name));
	for (const char *p = last; *p && *p != '<'; p++) {
		if (!strncmp(p, "_env#", 5))
			p += 4;
		af_text_append(&text, p, 1);
	}
	uint32_t string = af_strings_add(&b->scratch, af_text_get(&text));
	b->failed |= text.failed;
	af_text_deinit(&text);
	return string;
}

static uint32_t body_of(struct af_builder *b, af_die_id id)
{
	struct af_text text = {0};
	struct af_die die;

	if (!af_die_at(b->info, id, &die))
		return 0;
	af_name_qualify(b, &die, &text);
	uint32_t name = body_name(b, af_text_get(&text));
	af_text_deinit(&text);
	return name;
}

void af_awaits_collect(struct af_builder *b)
{
	for (size_t i = 0; i < b->info->files.count; i++) {
		const struct af_index *index = &b->indexes[i];
		uint64_t file = (uint64_t)index->file->number << 32;
		uint32_t body = 0, last = 0;
		for (size_t k = 0; k < index->awaitees.count && !b->failed; k++) {
			const struct af_awaitee *found = &index->awaitees.items[k];
			struct af_die die;
			if (found->body != last || !body)
				body = body_of(b, file | found->body);
			last = found->body;
			if (!af_die_at(b->info, file | found->offset, &die))
				continue;
			struct af_await await = {.body = body};
			await.type = af_types_intern(b, af_die_reference(&die, DW_AT_type));
			af_name_place(b, &die, &await.file, &await.line);
			if (!await.line || await.type == AFM_NONE)
				continue;
			struct af_await *kept = builder_push(b, awaits);
			if (kept)
				*kept = await;
		}
	}
}

static bool same_place(const struct af_await *await, const struct afm_variant *variant)
{
	return await->line == variant->line && await->file == variant->file;
}

/* Whether a variable of the state's own type stands where the state says it is. */
static bool is_confirmed(const struct af_await *awaits, size_t n, const struct afm_variant *variant,
			 uint32_t type)
{
	for (size_t i = 0; i < n; i++)
		if (awaits[i].type == type && same_place(&awaits[i], variant))
			return true;
	return false;
}

static bool is_taken(const struct af_builder *b, const struct afm_type *type,
		     const struct af_await *await)
{
	for (uint32_t v = 3; v < type->n_variants; v++) {
		const struct afm_variant *variant = &b->variants.items[type->first_variant + v];
		if (variant->awaitee != AFM_NONE && same_place(await, variant) &&
		    b->fields.items[variant->awaitee].type == await->type)
			return true;
	}
	return false;
}

static void place_states(struct af_builder *b, const struct afm_type *type,
			 const struct af_await *awaits, size_t n)
{
	uint32_t own_file = b->variants.items[type->first_variant].file;

	for (uint32_t v = 3; v < type->n_variants; v++) {
		struct afm_variant *variant = &b->variants.items[type->first_variant + v];
		if (variant->awaitee == AFM_NONE || variant->file == own_file)
			continue;
		uint32_t awaited = b->fields.items[variant->awaitee].type;
		if (is_confirmed(awaits, n, variant, awaited))
			continue;
		for (size_t i = 0; i < n; i++) {
			if (awaits[i].type != awaited || is_taken(b, type, &awaits[i]))
				continue;
			variant->macro_file = variant->file;
			variant->macro_line = variant->line;
			variant->file = awaits[i].file;
			variant->line = awaits[i].line;
			break;
		}
	}
}

static int compare_bodies(const void *a, const void *b)
{
	const struct af_await *x = a, *y = b;
	if (x->body != y->body)
		return x->body < y->body ? -1 : 1;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->line < y->line ? -1 : x->line > y->line;
}

void af_awaits_complete(struct af_builder *b)
{
	const struct af_await *all = b->awaits.items;
	size_t n = b->awaits.count;

	if (!n)
		return;
	vector_sort(&b->awaits, compare_bodies);
	for (size_t i = 0; i < b->futures.count && !b->failed; i++) {
		const struct afm_future *future = &b->futures.items[i];
		const struct afm_type *type = &b->types.items[future->type];
		if (future->kind == AFM_F_HAND || !type->n_variants)
			continue;
		uint32_t body = body_name(b, af_strings_get(&b->strings, type->name));
		size_t low = 0, high = n, end;
		while (low < high) {
			size_t middle = low + (high - low) / 2;
			if (all[middle].body < body)
				low = middle + 1;
			else
				high = middle;
		}
		for (end = low; end < n && all[end].body == body; end++)
			;
		place_states(b, type, all + low, end - low);
	}
}

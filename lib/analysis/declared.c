/* SPDX-License-Identifier: MIT */
/*
 * Futures that debug info says little of where they are polled. With several codegen units the type of
 * `self` is a bare declaration, Pin<&mut a::Join<..>> without members, in every unit that only
 * inlines the poll; the type itself is described in another. And where LLVM has merged two polls
 * of one code, the one that is gone left nothing but the type.
 *
 * - Such a poll's future is the one type of that name, if it is only one. Types are known by name
 *   once all fields were read, so these polls wait until then.
 * - What a coroutine awaits is a future whether its poll is known or not: `__awaitee` holds
 *   nothing else, nor does a Pin, Box or &mut that is awaited point to anything else.
 */
#include "analysis/polls.h"

/* The innermost X of what only stands for a future, by its name: GenFuture<X>. */
static const char *unwrapped(const char *name, size_t *length)
{
	static const char head[] = "core::future::from_generator::GenFuture<";
	size_t size = sizeof(head) - 1;

	if (*length > size && !strncmp(name, head, size) && name[*length - 1] == '>') {
		*length -= size + 1;
		return name + size;
	}
	return name;
}

bool af_declared_match(const char *pin, struct af_match *match)
{
	const char *name = pin + strlen("Pin<&mut ");
	size_t length = strlen(name);

	if (!length || name[length - 1] != '>')
		return false;
	length--;
	match->future = AF_DIE_NONE;
	match->declared = unwrapped(name, &length);
	match->declared_length = length;
	return true;
}

uint32_t af_declared_type(struct af_builder *b, const char *name, size_t length)
{
	struct af_text text = {0};

	af_text_append(&text, name, length);
	uint32_t string = af_strings_find(&b->strings, af_text_get(&text));
	b->failed |= text.failed;
	af_text_deinit(&text);
	uint32_t type = string ? af_map_get(&b->name_types, string) : UINT32_MAX;
	if (type == UINT32_MAX || af_map_get(&b->twice_named, string) != UINT32_MAX ||
	    b->types.items[type].kind != AFM_T_STRUCT ||
	    (b->types.items[type].flags & AFM_TF_DECLARATION))
		return AFM_NONE;
	return type;
}

/* What an awaited type is a future by: X of Pin<&mut X>, Pin<Box<X>>, &mut X. AFM_NONE where that
   is a `dyn`, a generator's wrapper, or not described. */
static uint32_t awaited(const struct af_builder *b, uint32_t type)
{
	for (int i = 0; i < 8 && type != AFM_NONE; i++) {
		const struct afm_type *t = &b->types.items[type];
		if (t->kind == AFM_T_POINTER) {
			type = t->target;
		} else if (af_types_named(b, type, "core::pin::Pin<") ||
			   af_types_named(b, type, "core::future::from_generator::GenFuture<")) {
			type = t->n_fields == 1 ? b->fields.items[t->first_field].type : AFM_NONE;
		} else {
			bool fat = af_types_field(b, type, "data_ptr") != AFM_NONE ||
				   af_types_field(b, type, "vtable") != AFM_NONE;
			bool plain = t->kind == AFM_T_STRUCT && !(t->flags & AFM_TF_DECLARATION);
			return plain && !fat ? type : AFM_NONE;
		}
	}
	return AFM_NONE;
}

static void add_awaitees(struct af_builder *b)
{
	/* Those that are added await nothing by a name of ours. */
	for (size_t i = 0, n = b->futures.count; i < n; i++) {
		if (b->futures.items[i].kind == AFM_F_HAND)
			continue;
		const struct afm_type type = b->types.items[b->futures.items[i].type];
		for (uint32_t v = 0; v < type.n_variants; v++) {
			const struct afm_variant variant =
				b->variants.items[type.first_variant + v];
			for (uint32_t k = 0; k < variant.n_fields; k++) {
				const struct afm_field *field =
					&b->fields.items[variant.first_field + k];
				uint32_t found = field->flags & AFM_FF_AWAITEE
							 ? awaited(b, field->type)
							 : AFM_NONE;
				if (found != AFM_NONE && b->types.items[found].future == AFM_NONE)
					af_futures_add(b, found, false);
			}
		}
	}
}

void af_declared_complete(struct af_builder *b)
{
	af_polls_declared(b);
	add_awaitees(b);
}

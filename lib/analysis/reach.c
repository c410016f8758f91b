/* SPDX-License-Identifier: MIT */
/*
 * From which types can a future be reached? Whoever walks a task's memory need look into no
 * others. A least fixed point: futures and `dyn Future` do, and so does what holds, points to, or
 * is generic over (Vec<T>, whose pointer is untyped) something that does; and `dyn Trait`, if
 * some type does that implements it (a stream, say).
 */
#include "analysis/build.h"

static bool reaches(const struct af_builder *b, uint32_t type)
{
	return type != AFM_NONE && (b->types.items[type].flags & AFM_TF_REACHES_FUTURE);
}

static bool any_field(const struct af_builder *b, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (reaches(b, b->fields.items[first + i].type))
			return true;
	return false;
}

static bool follows(const struct af_builder *b, const struct afm_type *type)
{
	if (reaches(b, type->target) || reaches(b, type->template_arg) ||
	    any_field(b, type->first_field, type->n_fields))
		return true;
	for (uint32_t i = 0; i < type->n_variants; i++) {
		const struct afm_variant *v = &b->variants.items[type->first_variant + i];
		if (any_field(b, v->first_field, v->n_fields))
			return true;
	}
	return false;
}

/* The trait of a `dyn Trait` behind a fat pointer; 0 of other types. */
static uint32_t dyn_trait(struct af_builder *b, uint32_t type)
{
	const struct afm_type *t = &b->types.items[type];

	if (t->kind != AFM_T_STRUCT || t->n_fields != 2 ||
	    af_types_field(b, type, "vtable") == AFM_NONE)
		return 0;
	const char *found = strstr(af_strings_get(&b->strings, t->name), "dyn ");
	return found ? af_trait_name(b, found + 4) : 0;
}

static bool mark(struct afm_type *type, bool does)
{
	if (!does || (type->flags & AFM_TF_REACHES_FUTURE))
		return false;
	type->flags |= AFM_TF_REACHES_FUTURE;
	return true;
}

/* Goes over all `dyn Trait` once more. */
static bool mark_dyn(struct af_builder *b, const struct af_implementor *dyns, size_t n)
{
	struct af_map traits = {0};
	bool marked = false;

	for (size_t i = 0; i < b->implementors.count; i++)
		if (reaches(b, b->implementors.items[i].type))
			af_map_set(&traits, b->implementors.items[i].trait, 1);
	for (size_t i = 0; i < n; i++)
		marked |= mark(&b->types.items[dyns[i].type],
			       af_map_get(&traits, dyns[i].trait) != UINT32_MAX);
	b->failed |= traits.failed;
	af_map_deinit(&traits);
	return marked;
}

void af_reach_mark(struct af_builder *b)
{
	VECTOR(struct af_implementor) dyns = {0};
	uint32_t future = af_trait_name(b, "core::future::future::Future");
	bool again = true;

	for (size_t i = 0; i < b->types.count; i++) {
		struct afm_type *type = &b->types.items[i];
		uint32_t trait = dyn_trait(b, (uint32_t)i);
		mark(type, type->future != AFM_NONE || (trait && trait == future));
		struct af_implementor *dyn = trait ? vector_push(&dyns) : NULL;
		if (dyn)
			*dyn = (struct af_implementor){trait, (uint32_t)i};
		b->failed |= trait && !dyn;
	}
	/* Types are met before what they hold, so that going backwards takes few rounds. */
	while (again && !b->failed) {
		again = mark_dyn(b, dyns.items, dyns.count);
		for (size_t i = b->types.count; i-- > 0;)
			again |= mark(&b->types.items[i], follows(b, &b->types.items[i]));
	}
	vector_deinit(&dyns);
}

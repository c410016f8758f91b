/* SPDX-License-Identifier: MIT */
/*
 * From which types can a future be reached? Whoever walks a task's memory need look into no
 * others. A least fixed point: futures and `dyn Future` (or Stream) do, and so does what holds,
 * points to, or is generic over (Vec<T>, whose pointer is untyped) something that does.
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

static bool is_root(const struct af_builder *b, const struct afm_type *type)
{
	const char *name = af_strings_get(&b->strings, type->name);
	return type->future != AFM_NONE || (type->kind == AFM_T_STRUCT && strstr(name, "dyn ") &&
					    (strstr(name, "Future<") || strstr(name, "Stream<")));
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

void af_reach_mark(struct af_builder *b)
{
	bool again = true;

	for (size_t i = 0; i < b->types.count; i++)
		if (is_root(b, &b->types.items[i]))
			b->types.items[i].flags |= AFM_TF_REACHES_FUTURE;
	/* Types are met before what they hold, so that going backwards takes few rounds. */
	while (again) {
		again = false;
		for (size_t i = b->types.count; i-- > 0;) {
			struct afm_type *type = &b->types.items[i];
			if ((type->flags & AFM_TF_REACHES_FUTURE) || !follows(b, type))
				continue;
			type->flags |= AFM_TF_REACHES_FUTURE;
			again = true;
		}
	}
}

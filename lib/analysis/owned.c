/* SPDX-License-Identifier: MIT */
#include "analysis/owned.h"

#define DEPTH_MAX 12
#define BUDGET 400 /* types looked at for one value */

struct search {
	const struct af_builder *b;
	struct af_owned_part *parts;
	uint32_t n, max;
	int budget;
	bool shallow; /* not asked what a Box holds */
};

static const char *name_of(const struct af_builder *b, const struct afm_type *t)
{
	return af_strings_get(&b->strings, t->name);
}

static bool begins(const char *name, const char *head)
{
	return !strncmp(name, head, strlen(head));
}

static void look(struct search *s, uint32_t type, uint64_t offset, bool sometimes, int depth);

/* A Box of what may own something itself; not one of a slice or a dyn. */
static bool is_hollow(const struct af_builder *b, uint32_t type)
{
	struct af_owned_part part;

	if (type == AFM_NONE || b->types.items[type].kind != AFM_T_POINTER ||
	    !begins(name_of(b, &b->types.items[type]), "alloc::boxed::Box<"))
		return false;
	/* A pointer within is a part only of something that holds it. */
	struct search s = {.b = b, .parts = &part, .max = 1, .budget = BUDGET, .shallow = true};
	look(&s, b->types.items[type].target, 0, false, 1);
	return s.n != 0;
}

static void add(struct search *s, uint64_t offset, uint64_t size, uint32_t type, bool sometimes)
{
	if (s->n < s->max)
		s->parts[s->n] = (struct af_owned_part){offset, size, type, sometimes,
							!s->shallow && is_hollow(s->b, type)};
	s->n += s->n <= s->max;
}

static void look_at_fields(struct search *s, uint32_t first, uint32_t n, uint64_t offset,
			   bool sometimes, int depth)
{
	for (uint32_t i = first; i < first + n && s->n <= s->max; i++)
		look(s, s->b->fields.items[i].type, offset + s->b->fields.items[i].offset,
		     sometimes, depth + 1);
}

/* Whose fields nobody can move out but its own code, which does not. */
static bool is_closed(const struct afm_type *t, const char *name)
{
	static const char *const closed[] = {
		"alloc::", "std::", "hashbrown::", "core::", "tokio::"};

	if (t->n_variants || begins(name, "core::ops::range::"))
		return false;
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++)
		if (begins(name, closed[i]))
			return true;
	return false;
}

static void look_at_struct(struct search *s, uint32_t type, uint64_t offset, bool sometimes,
			   int depth)
{
	const struct afm_type *t = &s->b->types.items[type];
	const char *name = name_of(s->b, t);
	uint32_t before = s->n;

	if (!t->size || name[0] == '&' || (name[0] == '*' && !depth))
		return;
	/* A wide pointer; what is not described; a future, which is moved as a whole. */
	if (name[0] == '*' || (t->flags & AFM_TF_DECLARATION) || t->future != AFM_NONE ||
	    begins(name, "alloc::boxed::Box<")) {
		add(s, offset, t->size, type, sometimes);
		return;
	}
	if (t->n_variants && t->discr_size)
		add(s, offset + t->discr_offset, t->discr_size, AFM_NONE, sometimes);
	uint32_t tags = s->n - before;
	look_at_fields(s, t->first_field, t->n_fields, offset, sometimes, depth);
	for (uint32_t i = 0; i < t->n_variants && s->n <= s->max; i++) {
		const struct afm_variant *v = &s->b->variants.items[t->first_variant + i];
		look_at_fields(s, v->first_field, v->n_fields, offset,
			       sometimes || t->n_variants > 1, depth);
	}
	if (s->n == before + tags) {
		s->n = before;
	} else if (is_closed(t, name)) {
		s->n = before;
		add(s, offset, t->size, type, sometimes);
	}
}

static void look(struct search *s, uint32_t type, uint64_t offset, bool sometimes, int depth)
{
	if (type == AFM_NONE)
		return;
	if (depth > DEPTH_MAX || --s->budget < 0) {
		s->n = s->max + 1;
		return;
	}
	const struct afm_type *t = &s->b->types.items[type];
	const char *name = name_of(s->b, t);
	switch (t->kind) {
	case AFM_T_POINTER:
		if (begins(name, "alloc::boxed::Box<") || (depth && name[0] == '*'))
			add(s, offset, t->size, type, sometimes);
		return;
	case AFM_T_ARRAY: {
		uint32_t before = s->n;
		look(s, t->target, offset, sometimes, depth + 1);
		if (s->n > before && s->n <= s->max) {
			s->n = before;
			add(s, offset, t->size, type, sometimes);
		}
		return;
	}
	case AFM_T_STRUCT:
		look_at_struct(s, type, offset, sometimes, depth);
		return;
	case AFM_T_UNION:
	case AFM_T_OPAQUE:
		if (t->size)
			add(s, offset, t->size, type, sometimes);
		return;
	default:
		return;
	}
}

uint32_t af_owned_parts(const struct af_builder *b, uint32_t type, uint64_t offset,
			struct af_owned_part *parts, uint32_t max)
{
	struct search s = {.b = b, .parts = parts, .max = max, .budget = BUDGET};

	look(&s, type, offset, false, 0);
	return s.n;
}

/* --- for sure --------------------------------------------------------------------------- */

static bool has_size(const struct af_builder *b, uint32_t type)
{
	return type != AFM_NONE && b->types.items[type].size;
}

static bool surely(const struct af_builder *b, uint32_t type, int depth, int *budget);

static bool any_surely(const struct af_builder *b, uint32_t first, uint32_t n, int depth,
		       int *budget)
{
	for (uint32_t i = first; i < first + n; i++)
		if (surely(b, b->fields.items[i].type, depth + 1, budget))
			return true;
	return false;
}

/* Where nothing is allocated for elements without size, optimised code has nothing to look at. */
static int known(const struct af_builder *b, const struct afm_type *t, const char *name)
{
	static const char *const counted[] = {"alloc::rc::Rc<", "alloc::sync::Arc<",
					      "std::os::fd::owned::OwnedFd",
					      "alloc::string::String"};
	static const char *const sized[] = {"alloc::vec::Vec<", "hashbrown::raw::RawTable<",
					    "alloc::collections::vec_deque::VecDeque<"};
	static const char *const never[] = {
		"core::mem::manually_drop::ManuallyDrop<", "core::mem::maybe_uninit::MaybeUninit<",
		"core::marker::PhantomData<", "core::ptr::non_null::NonNull<"};

	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
		if (begins(name, counted[i]))
			return 1;
	for (size_t i = 0; i < sizeof(sized) / sizeof(sized[0]); i++)
		if (begins(name, sized[i]))
			return has_size(b, t->template_arg);
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (begins(name, never[i]))
			return 0;
	if (begins(name, "alloc::boxed::Box<[") && t->kind == AFM_T_STRUCT) {
		uint32_t data = t->n_fields ? b->fields.items[t->first_field].type : AFM_NONE;
		return data != AFM_NONE && has_size(b, b->types.items[data].target);
	}
	/* A wide one: its vtable or length is looked at. */
	if (begins(name, "alloc::boxed::Box<"))
		return t->kind == AFM_T_STRUCT || has_size(b, t->target);
	return -1;
}

static bool surely(const struct af_builder *b, uint32_t type, int depth, int *budget)
{
	if (type == AFM_NONE || depth > DEPTH_MAX || --*budget < 0)
		return false;
	const struct afm_type *t = &b->types.items[type];
	const char *name = name_of(b, t);
	int is = t->kind == AFM_T_STRUCT || t->kind == AFM_T_POINTER ? known(b, t, name) : 0;

	if (is >= 0 || t->kind != AFM_T_STRUCT || !t->size || name[0] == '&' || name[0] == '*' ||
	    (t->flags & AFM_TF_DECLARATION))
		return is > 0;
	if (any_surely(b, t->first_field, t->n_fields, depth, budget))
		return true;
	/* Of a coroutine only what it was made with is dropped for certain, in its first state. */
	uint32_t n = t->future != AFM_NONE && t->n_variants ? 1 : t->n_variants;
	for (uint32_t i = 0; i < n; i++) {
		const struct afm_variant *v = &b->variants.items[t->first_variant + i];
		if (any_surely(b, v->first_field, v->n_fields, depth, budget))
			return true;
	}
	return false;
}

bool af_owned_surely(const struct af_builder *b, uint32_t type)
{
	int budget = BUDGET;
	return surely(b, type, 0, &budget);
}

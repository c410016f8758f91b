/* SPDX-License-Identifier: MIT */
/*
 * The ways down to what is awaited (struct afm_step), from every task root and every vtable of
 * a future. What a way goes through: a coroutine's `__awaitee`, the fields of a struct or of an
 * enum's variant that lead to futures, arrays, boxes, pins, `&mut`. What it does not: anything shared
 * (Arc, Rc, `&`), collections, raw pointers, unions.
 */
#include <stdlib.h>

#include "analysis/build.h"

#define NESTING_MAX 64 /* by value; deeper than any type that people write */

enum leads { LEADS_UNKNOWN = 0, LEADS_ASKED, LEADS_NO, LEADS_YES };

struct stepper {
	struct af_builder *b;
	uint8_t *leads;		/* by type: enum leads */
	uint32_t *step_of;	/* by type: its step, or AFM_NONE */
	VECTOR(uint32_t) queue; /* types whose steps have no cases yet: queue[i] is of step i */
};

/* Of several fields that lead to futures, the one that says more than all of them. */
static const struct {
	const char *type, *field;
} chosen_fields[] = {
	{"tokio::time::timeout::Timeout<", "value"}, /* and `delay`, a Sleep */
	{"tracing::instrument::Instrumented<", "inner"},
	{"futures_util::future::abortable::Abortable<", "task"},
	{"futures_util::abortable::Abortable<", "task"},
};

static const struct afm_type *type_at(const struct stepper *s, uint32_t type)
{
	return &s->b->types.items[type];
}

static const char *name_of(const struct stepper *s, uint32_t type)
{
	return af_strings_get(&s->b->strings, type_at(s, type)->name);
}

/* Whoever holds one of these owns what it points to, or has it for itself. */
static bool is_exclusive(const struct stepper *s, uint32_t type)
{
	const char *name = name_of(s, type);
	return !strncmp(name, "&mut ", 5) || !strncmp(name, "alloc::boxed::Box<", 18);
}

/* A future that says something: not GenFuture, which wraps one (rustc before 1.64), nor the
   pointers, which are futures where what they point to is. */
static bool is_future(const struct stepper *s, uint32_t type)
{
	uint32_t future = type_at(s, type)->future;
	return future != AFM_NONE && s->b->futures.items[future].type == type &&
	       !af_types_named(s->b, type, "core::pin::Pin<") && !is_exclusive(s, type);
}

/* `dyn Future` behind a fat pointer: fields `pointer` and `vtable`. */
static bool is_dyn(const struct stepper *s, uint32_t type, uint32_t *pointer, uint32_t *vtable)
{
	const char *name = name_of(s, type);
	if (type_at(s, type)->kind != AFM_T_STRUCT || !strstr(name, "dyn ") ||
	    !strstr(name, "Future<"))
		return false;
	uint32_t p = af_types_field(s->b, type, "pointer");
	uint32_t v = af_types_field(s->b, type, "vtable");
	if (p == AFM_NONE || v == AFM_NONE)
		return false;
	*pointer = (uint32_t)s->b->fields.items[p].offset;
	*vtable = (uint32_t)s->b->fields.items[v].offset;
	return true;
}

static bool leads(struct stepper *s, uint32_t type, unsigned depth);

static bool any_leads(struct stepper *s, uint32_t first, uint32_t n, unsigned depth)
{
	for (uint32_t i = 0; i < n; i++)
		if (leads(s, s->b->fields.items[first + i].type, depth))
			return true;
	return false;
}

static bool find_leads(struct stepper *s, uint32_t type, unsigned depth)
{
	uint32_t pointer, vtable;
	const struct afm_type *t = type_at(s, type);
	if (is_future(s, type) || is_dyn(s, type, &pointer, &vtable))
		return true;
	if (t->kind == AFM_T_POINTER)
		return is_exclusive(s, type) && leads(s, t->target, depth + 1);
	if (t->kind == AFM_T_ARRAY)
		return t->length && leads(s, t->target, depth + 1);
	if (t->kind != AFM_T_STRUCT || (t->flags & AFM_TF_DECLARATION))
		return false;
	if (any_leads(s, t->first_field, t->n_fields, depth + 1))
		return true;
	for (uint32_t i = 0; i < t->n_variants; i++) {
		const struct afm_variant *v = &s->b->variants.items[t->first_variant + i];
		if (any_leads(s, v->first_field, v->n_fields, depth + 1))
			return true;
	}
	return false;
}

/* Whether a way from this type comes to a future. A type that is asked for while it is being
   looked at leads nowhere new. */
static bool leads(struct stepper *s, uint32_t type, unsigned depth)
{
	if (type == AFM_NONE || depth > NESTING_MAX || s->leads[type] == LEADS_ASKED ||
	    s->leads[type] == LEADS_NO)
		return false;
	if (s->leads[type] == LEADS_YES)
		return true;
	s->leads[type] = LEADS_ASKED;
	bool yes = find_leads(s, type, depth);
	s->leads[type] = yes ? LEADS_YES : LEADS_NO;
	return yes;
}

/* The step of values of this type; its cases are made when its turn comes. */
static uint32_t step_for(struct stepper *s, uint32_t type)
{
	if (s->step_of[type] != AFM_NONE)
		return s->step_of[type];
	struct afm_step *step = builder_push(s->b, steps);
	uint32_t *queued = vector_push(&s->queue);
	if (!step || !queued) {
		s->b->failed = true;
		return AFM_NONE;
	}
	step->type = type;
	*queued = type;
	return s->step_of[type] = (uint32_t)s->b->steps.count - 1;
}

static void add_way(struct stepper *s, struct afm_step_case *c, struct afm_step_way way)
{
	if (c->n_ways == AFM_WAYS_MAX) {
		c->flags |= AFM_SCF_CUT;
		return;
	}
	if (way.offset == UINT32_MAX || (way.via != AFM_V_DYN && way.next == AFM_NONE))
		return;
	struct afm_step_way *added = builder_push(s->b, step_ways);
	if (!added)
		return;
	*added = way;
	if (!c->n_ways++)
		c->first_way = (uint32_t)s->b->step_ways.count - 1;
}

static bool is_chosen(const struct stepper *s, uint32_t type, const struct afm_field *field)
{
	for (size_t k = 0; k < sizeof(chosen_fields) / sizeof(chosen_fields[0]); k++)
		if (af_types_named(s->b, type, chosen_fields[k].type) &&
		    !strcmp(af_strings_get(&s->b->strings, field->name), chosen_fields[k].field))
			return true;
	return false;
}

static void go_to(struct stepper *s, struct afm_step_case *c, uint32_t type, uint64_t offset,
		  unsigned depth);

/* On from every field of `type` in [first, first + n) that leads to a future. */
static void go_to_fields(struct stepper *s, struct afm_step_case *c, uint32_t type, uint32_t first,
			 uint32_t n, uint64_t offset, unsigned depth)
{
	for (uint32_t i = first; i < first + n; i++) {
		const struct afm_field field = s->b->fields.items[i];
		if (!is_chosen(s, type, &field))
			continue;
		go_to(s, c, field.type, offset + field.offset, depth);
		return;
	}
	for (uint32_t i = first; i < first + n; i++) {
		const struct afm_field field = s->b->fields.items[i];
		go_to(s, c, field.type, offset + field.offset, depth);
	}
}

/* On from a value of this type that lies at `offset`. */
static void go_to(struct stepper *s, struct afm_step_case *c, uint32_t type, uint64_t offset,
		  unsigned depth)
{
	uint32_t pointer, vtable;
	if (!leads(s, type, 0) || offset >= UINT32_MAX / 2 || depth > NESTING_MAX)
		return;
	const struct afm_type t = *type_at(s, type);
	struct afm_step_way way = {.via = AFM_V_VALUE, .offset = (uint32_t)offset};
	if (is_future(s, type) || t.n_variants) {
		way.next = step_for(s, type);
		add_way(s, c, way);
	} else if (is_dyn(s, type, &pointer, &vtable)) {
		way.via = AFM_V_DYN;
		way.offset += pointer;
		way.vtable = (uint32_t)offset + vtable;
		way.next = AFM_NONE;
		add_way(s, c, way);
	} else if (t.kind == AFM_T_POINTER) {
		way.via = AFM_V_POINTER;
		way.next = step_for(s, t.target);
		add_way(s, c, way);
	} else if (t.kind == AFM_T_ARRAY) {
		/* One more than there is room for, so that the cut is seen. */
		for (uint64_t i = 0; i < t.length && i <= AFM_WAYS_MAX; i++)
			go_to(s, c, t.target, offset + i * type_at(s, t.target)->size, depth + 1);
	} else {
		go_to_fields(s, c, type, t.first_field, t.n_fields, offset, depth + 1);
	}
}

static void add_case(struct stepper *s, struct afm_step *step, uint32_t at,
		     struct afm_step_case made)
{
	struct afm_step_case *c = builder_push(s->b, step_cases);
	if (!c)
		return;
	made.step = at;
	*c = made;
	if (c->n_ways)
		step->flags |= AFM_SF_HAS_WAYS;
	if (!step->n_cases++)
		step->first_case = (uint32_t)s->b->step_cases.count - 1;
}

/* From one state of a coroutine, or one variant of an enum. */
static void add_variant(struct stepper *s, struct afm_step *step, uint32_t at, uint32_t variant)
{
	const struct afm_variant v = s->b->variants.items[variant];
	struct afm_step_case made = {.variant = variant, .tag = v.discr};
	if (v.flags & AFM_VF_DEFAULT)
		made.flags = AFM_SCF_DEFAULT;
	if (!(step->flags & AFM_SF_COROUTINE)) {
		go_to_fields(s, &made, step->type, v.first_field, v.n_fields, 0, 0);
	} else if (v.awaitee != AFM_NONE) {
		const struct afm_field awaitee = s->b->fields.items[v.awaitee];
		go_to(s, &made, awaitee.type, awaitee.offset, 0);
	}
	add_case(s, step, at, made);
}

static void add_variants(struct stepper *s, struct afm_step *step, uint32_t at)
{
	const struct afm_type t = *type_at(s, step->type);
	uint32_t other = AFM_NONE;
	bool dense = true;
	for (uint32_t i = 0; i < t.n_variants; i++) {
		const struct afm_variant *v = &s->b->variants.items[t.first_variant + i];
		if (v->flags & AFM_VF_DEFAULT) {
			other = t.first_variant + i;
			continue;
		}
		dense &= v->discr == step->n_cases;
		add_variant(s, step, at, t.first_variant + i);
	}
	if (other != AFM_NONE)
		add_variant(s, step, at, other);
	else if (dense)
		step->flags |= AFM_SF_DENSE;
}

static bool has_tag(const struct afm_type *type)
{
	return type->n_variants && type->discr_offset != AFM_NONE &&
	       (type->discr_size == 1 || type->discr_size == 2 || type->discr_size == 4 ||
		type->discr_size == 8);
}

static void make_cases(struct stepper *s, uint32_t at)
{
	uint32_t type = s->queue.items[at];
	const struct afm_type t = *type_at(s, type);
	struct afm_step step = {.type = type};
	if (is_future(s, type)) {
		step.flags |= AFM_SF_LEVEL;
		if (s->b->futures.items[t.future].kind != AFM_F_HAND)
			step.flags |= AFM_SF_COROUTINE;
	}
	if (has_tag(&t)) {
		step.tag_size = (uint16_t)t.discr_size;
		step.tag_offset = t.discr_offset;
		add_variants(s, &step, at);
	} else {
		struct afm_step_case made = {.variant = AFM_NONE};
		/* Which of several variants without a tag holds is not told. */
		if (t.n_variants)
			;
		else if (step.flags & AFM_SF_LEVEL)
			go_to_fields(s, &made, type, t.first_field, t.n_fields, 0, 0);
		else
			go_to(s, &made, type, 0, 0);
		add_case(s, &step, at, made);
	}
	s->b->steps.items[at] = step;
}

/* What drivers poll: by `stays` where that is inlined, else by the hooks of its polls. */
static void make_driven(struct stepper *s)
{
	struct af_builder *b = s->b;
	size_t kept = 0;

	for (size_t i = 0; i < b->stays.count; i++) {
		struct afm_stay stay = b->stays.items[i];
		uint32_t type = b->futures.items[stay.step].type;
		if (!leads(s, type, 0))
			continue;
		stay.step = step_for(s, type);
		b->stays.items[kept++] = stay;
	}
	b->stays.count = kept;
	for (size_t i = 0; i < b->drivers.count; i++) {
		const struct afm_future *future = &b->futures.items[b->drivers.items[i].future];
		uint32_t step = leads(s, future->type, 0) ? step_for(s, future->type) : AFM_NONE;
		for (uint32_t k = 0; k < future->n_polls; k++) {
			uint32_t poll = b->future_polls.items[future->first_poll + k];
			if (b->polls.items[poll].n_futures == 1)
				b->polls.items[poll].step = step;
		}
	}
}

/* A hand-written future that holds none waits for itself: its poll says so. */
static void spare_leaves(struct af_builder *b)
{
	for (size_t i = 0; i < b->polls.count && !b->failed; i++) {
		uint32_t *step = &b->polls.items[i].step;
		if (*step != AFM_NONE &&
		    !(b->steps.items[*step].flags & (AFM_SF_COROUTINE | AFM_SF_HAS_WAYS)))
			*step = AFM_NONE;
	}
}

void af_steps_make(struct af_builder *b)
{
	size_t n = b->types.count;
	struct stepper s = {.b = b, .leads = calloc(n + 1, 1), .step_of = malloc((n + 1) * 4)};

	if (!s.leads || !s.step_of) {
		b->failed = true;
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		s.step_of[i] = AFM_NONE;
	for (size_t i = 0; i < b->roots.count; i++) {
		/* Until now the type of what lies there. */
		uint32_t type = b->roots.items[i].step;
		b->roots.items[i].step =
			type != AFM_NONE && leads(&s, type, 0) ? step_for(&s, type) : AFM_NONE;
	}
	for (size_t i = 0; i < b->vtables.count; i++) {
		uint32_t type = b->vtables.items[i].type;
		if (leads(&s, type, 0))
			b->vtables.items[i].step = step_for(&s, type);
	}
	make_driven(&s);
	for (uint32_t i = 0; i < s.queue.count && !b->failed; i++)
		make_cases(&s, i);
	spare_leaves(b);
out:
	vector_deinit(&s.queue);
	free(s.leads);
	free(s.step_of);
}

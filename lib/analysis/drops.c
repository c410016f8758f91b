/* SPDX-License-Identifier: MIT */
/*
 * Which of a coroutine's stored variables are alive in each of its states. Debug info lists what is
 * stored; what of it is to be dropped knows the coroutine's drop glue, which is asked here (glue.h):
 *
 * - a variable that it touches on every way is alive, if every part of it is that could have been
 *   moved out by itself (owned.h);
 * - one that it does so if a drop flag (a `bool` called `__N`) is 1, and leaves alone if that is
 *   0, is that flag's;
 * - one that it never touches, though there surely is something to drop in it, was moved out;
 *   one of which it never touches such a part, in part.
 *
 * What is neither, and all that the glue of a state tells if it cannot be followed, is not known.
 */
#include <stdlib.h>

#include "analysis/function.h"
#include "analysis/glue.h"
#include "analysis/owned.h"
#include "analysis/polls.h"

#define FLAGS_MAX 12
#define PARTS_MAX 24 /* of one variable */
#define GLUES_MAX 3  /* of one coroutine that are tried */

/* A function that drops a coroutine. */
struct glue_function {
	uint32_t type;
	bool wrapped; /* GenFuture's */
	uint64_t entry, size;
};

struct member {
	uint32_t field;		 /* in `fields` */
	uint32_t first, n_parts; /* ranges; if there are several, first - 1 is that of the whole */
	bool hollow;		 /* it may be dropped without what was in it */
};

struct state {
	struct af_builder *b;
	struct af_glue *glue;
	const struct afm_variant *variant;
	struct af_glue_question question;
	uint32_t n_ranges, n_members, n_flags;
	/* Of ranges that are parts: whether all ways must touch it, whether something must be made of it;
	   and that there surely is something in it. */
	struct range_kind {
		bool always, used, surely;
	} kinds[AF_GLUE_RANGES];
	struct af_glue_range ranges[AF_GLUE_RANGES];
	struct member members[AF_GLUE_RANGES];
	uint32_t flags[FLAGS_MAX]; /* in `fields` */
	struct af_glue_answer all, by_flag[FLAGS_MAX][2];
};

static const char *name_of(const struct af_builder *b, const struct afm_field *field)
{
	return af_strings_get(&b->strings, field->name);
}

static bool is_drop_flag(const struct af_builder *b, const struct afm_field *field)
{
	const char *name = name_of(b, field);

	return name[0] == '_' && name[1] == '_' && name[2] >= '0' && name[2] <= '9' &&
	       field->type != AFM_NONE && b->types.items[field->type].kind == AFM_T_BOOL;
}

/* --- what is asked ------------------------------------------------------------------------ */

/* What has no size and no code of its own when it is dropped. */
static bool is_nothing(const struct af_builder *b, const struct afm_field *field)
{
	const struct afm_type *type = field->type == AFM_NONE ? NULL : &b->types.items[field->type];
	const char *name = type ? af_strings_get(&b->strings, type->name) : "";

	return type && !type->size &&
	       (!strcmp(name, "()") || type->kind == AFM_T_ARRAY ||
		!strncmp(name, "core::marker::", 14) || (field->flags & AFM_FF_AWAITEE));
}

static bool same_place(const struct afm_field *a, const struct afm_field *b)
{
	return a->offset == b->offset && a->name == b->name && a->type == b->type;
}

/* Whether another member lies in a member's bytes, be it without size: then a touch of the one is
   not told from that of the other. */
static bool is_shared(const struct af_builder *b, const struct afm_variant *v,
		      const struct afm_field *field)
{
	uint64_t end = field->offset + b->types.items[field->type].size;

	for (uint32_t i = 0; i < v->n_fields; i++) {
		const struct afm_field *other = &b->fields.items[v->first_field + i];
		uint64_t size = other->type == AFM_NONE ? 0 : b->types.items[other->type].size;
		if (!same_place(field, other) && !is_nothing(b, other) && other->offset < end &&
		    other->offset + (size ? size : 1) > field->offset)
			return true;
	}
	return false;
}

static bool add_range(struct state *s, uint64_t offset, uint64_t size, struct range_kind kind)
{
	if (s->n_ranges == AF_GLUE_RANGES)
		return false;
	s->kinds[s->n_ranges] = kind;
	s->ranges[s->n_ranges++] = (struct af_glue_range){offset, size, false};
	return true;
}

/* False if there is no room for more. Sets *any if there may be something to drop. */
static bool add_member(struct state *s, uint32_t index, bool *any)
{
	const struct afm_field *field = &s->b->fields.items[index];
	const struct afm_type *type = &s->b->types.items[field->type];
	struct af_owned_part parts[PARTS_MAX];
	uint32_t n = af_owned_parts(s->b, field->type, field->offset, parts, PARTS_MAX);

	*any |= n != 0;
	if (n > PARTS_MAX)
		return true;
	/* Without a part (a guard, a file): something must be made of it, and not only a tag looked at. */
	if (!add_range(s, field->offset, type->size, (struct range_kind){true, !n, false}))
		return false;
	struct member *member = &s->members[s->n_members];
	*member = (struct member){index, s->n_ranges - (n <= 1), n > 1 ? n : 1, false};
	s->ranges[s->n_ranges - 1].inside = n > 1;
	for (uint32_t i = 0; i < n; i++) {
		const struct af_owned_part *part = &parts[i];
		member->hollow |= part->hollow;
		/* Nothing of a single one can be moved out alone. */
		if (n > 1 && !add_range(s, part->offset, part->size,
					(struct range_kind){!part->sometimes, part->sometimes,
							    af_owned_surely(s->b, part->type)}))
			return false;
	}
	s->n_members++;
	return true;
}

/* Whether a member may be one that is dropped. */
static bool is_member(const struct af_builder *b, const struct afm_field *field)
{
	const struct afm_type *type = field->type == AFM_NONE ? NULL : &b->types.items[field->type];
	const char *name = type ? af_strings_get(&b->strings, type->name) : "";

	return type && type->size && name[0] != '&' && name[0] != '*' &&
	       (type->kind == AFM_T_STRUCT || type->kind == AFM_T_POINTER ||
		type->kind == AFM_T_ARRAY) &&
	       !(field->flags & AFM_FF_AWAITEE);
}

/* Fills in what is to be asked of a state; false if there is nothing. */
static bool describe(struct state *s)
{
	const struct afm_variant *v = s->variant;
	bool any = false, room = true;

	s->n_ranges = s->n_members = s->n_flags = 0;
	if (v->n_fields > AF_GLUE_RANGES)
		return false;
	for (uint32_t i = 0; i < v->n_fields; i++) {
		uint32_t index = v->first_field + i;
		const struct afm_field *field = &s->b->fields.items[index];
		if (is_drop_flag(s->b, field)) {
			if (s->n_flags == FLAGS_MAX)
				return false;
			s->flags[s->n_flags++] = index;
		} else if (room && is_member(s->b, field) && !is_shared(s->b, v, field)) {
			room = add_member(s, index, &any);
		}
	}
	return any || (s->n_flags && s->n_members);
}

/* --- what the answers mean ---------------------------------------------------------------- */

static bool is_touched(const struct af_glue_answer *answer, const struct member *m, bool always)
{
	uint32_t whole = m->n_parts > 1 ? m->first - 1 : m->first;
	return af_glue_bit(always ? answer->always : answer->ever, whole);
}

/* Whether all of a member is dropped, as far as it is there. */
static bool is_dropped(const struct state *s, const struct af_glue_answer *answer,
		       const struct member *m)
{
	for (uint32_t i = m->first; i < m->first + m->n_parts; i++)
		if ((s->kinds[i].always && !af_glue_bit(answer->always, i)) ||
		    (s->kinds[i].used && !af_glue_bit(answer->used, i)))
			return false;
	return true;
}

/* Whether a flag other than `except` has a say in whether something is made of a part. */
static bool depends(const struct state *s, const struct member *m, uint32_t except)
{
	for (uint32_t f = 0; f < s->n_flags; f++)
		for (uint32_t i = m->first; f != except && i < m->first + m->n_parts; i++)
			if (s->kinds[i].used && (!af_glue_bit(s->by_flag[f][0].used, i) ||
						 !af_glue_bit(s->by_flag[f][1].used, i)))
				return true;
	return false;
}

/* Whether a part of what is dropped is not, though there surely is something in it. */
static bool is_cut(const struct state *s, const struct member *m)
{
	for (uint32_t i = m->first; i < m->first + m->n_parts; i++)
		if (s->kinds[i].surely && !af_glue_bit(s->all.ever, i))
			return true;
	return false;
}

static uint32_t judge(const struct state *s, const struct member *m)
{
	uint32_t found = 0, n = 0, type = s->b->fields.items[m->field].type;

	if (!is_touched(&s->all, m, false))
		return af_owned_surely(s->b, type) ? AFM_FF_GONE : 0;
	if (is_dropped(s, &s->all, m))
		return m->hollow || depends(s, m, UINT32_MAX) ? 0 : AFM_FF_DROPPED;
	if (is_cut(s, m))
		return AFM_FF_DROPPED | AFM_FF_GONE;
	for (uint32_t f = 0; f < s->n_flags && !m->hollow; f++) {
		if (is_touched(&s->by_flag[f][0], m, false) ||
		    !is_dropped(s, &s->by_flag[f][1], m) || depends(s, m, f))
			continue;
		found = AFM_FF_FLAGGED | (s->flags[f] - s->variant->first_field)
						 << AFM_FF_FLAG_SHIFT;
		n++;
	}
	return n == 1 ? found : 0;
}

/* Whether the flags have something to tell. */
static bool is_open(const struct state *s)
{
	for (uint32_t i = 0; i < s->n_members; i++) {
		const struct member *m = &s->members[i];
		bool used = false;
		for (uint32_t k = m->first; k < m->first + m->n_parts; k++)
			used |= s->kinds[k].used;
		if (is_touched(&s->all, m, false) && (used || !is_dropped(s, &s->all, m)))
			return true;
	}
	return false;
}

static bool ask(struct state *s)
{
	struct af_glue_question q = s->question;

	q.flag = UINT64_MAX;
	af_glue_next(s->glue);
	if (!af_glue_ask(s->glue, &q, &s->all))
		return false;
	for (uint32_t f = 0; f < s->n_flags && is_open(s); f++)
		for (uint8_t set = 0; set < 2; set++) {
			q.flag = s->b->fields.items[s->flags[f]].offset;
			q.flag_value = set;
			if (!af_glue_ask(s->glue, &q, &s->by_flag[f][set]))
				return false;
		}
	return true;
}

/* Whether glue tells of at least one state that is worth asking for. */
static bool read_glue(struct state *s, const struct afm_type *type, const struct glue_function *g)
{
	bool told = false;

	af_glue_begin(s->glue);
	for (uint32_t v = 3; v < type->n_variants; v++) {
		s->variant = &s->b->variants.items[type->first_variant + v];
		if (!describe(s))
			continue;
		s->question = (struct af_glue_question){
			.entry = g->entry,
			.start = g->entry,
			.end = g->entry + g->size,
			.ranges = s->ranges,
			.n_ranges = s->n_ranges,
			.state = s->variant->discr,
			.state_offset = type->discr_offset,
			.state_size = type->discr_size,
		};
		if (!ask(s))
			continue;
		told = true;
		for (uint32_t i = 0; i < s->n_members; i++)
			s->b->fields.items[s->members[i].field].flags |= judge(s, &s->members[i]);
	}
	return told;
}

/* --- which functions ---------------------------------------------------------------------- */

static bool is_whole(const struct af_die *die)
{
	struct af_ranges ranges;
	uint64_t start, end;

	return af_ranges_start(&ranges, die) && af_ranges_next(&ranges, &start, &end) &&
	       !af_ranges_next(&ranges, &start, &end);
}

static bool read_function(struct af_builder *b, af_die_id id, struct glue_function *out)
{
	struct af_function f;

	if (!af_function_read(b, id, &f) || !f.name || strncmp(f.name, "drop_in_place<", 14) ||
	    !af_die_entry(&f.dies[0], &out->entry, &out->size) || out->entry <= 1 || !out->size ||
	    !is_whole(&f.dies[0]))
		return false;
	af_die_id dropped =
		af_die_unwrap_gen_future(b, af_function_template(b, &f, 0), &out->wrapped);
	if (!af_name_is_coroutine(af_die_name(b, dropped)))
		return false;
	out->type = af_types_intern(b, dropped);
	return out->type != AFM_NONE;
}

static int compare_functions(const void *a, const void *b)
{
	const struct glue_function *x = a, *y = b;
	if (x->type != y->type)
		return x->type < y->type ? -1 : 1;
	if (x->wrapped != y->wrapped)
		return x->wrapped ? 1 : -1;
	return x->entry < y->entry ? -1 : x->entry > y->entry;
}

struct glue_functions {
	VECTOR(struct glue_function) items;
};

static void find_functions(struct af_builder *b, struct glue_functions *functions)
{
	struct glue_function function;

	for (size_t i = 0; i < b->info->files.count; i++) {
		const struct af_index *index = &b->indexes[i];
		for (size_t k = 0; k < index->functions.count && !b->failed; k++) {
			const struct af_found *found = &index->functions.items[k];
			if (!(found->what & AF_FOUND_CONCRETE) ||
			    !(found->what & (AF_FOUND_DROP | AF_FOUND_UNNAMED)) ||
			    !read_function(b, (uint64_t)index->file->number << 32 | found->offset,
					   &function))
				continue;
			struct glue_function *kept = vector_push(&functions->items);
			b->failed |= !kept;
			if (kept)
				*kept = function;
		}
	}
	vector_sort(&functions->items, compare_functions);
}

void af_drops_complete(struct af_builder *b)
{
	struct glue_functions functions = {0};
	size_t n_types = b->types.count;
	struct state *s = calloc(1, sizeof(*s));

	find_functions(b, &functions);
	if (s && functions.items.count)
		s->glue = af_glue_create(b->object);
	b->failed |= !s;
	for (size_t i = 0, end; s && s->glue && i < functions.items.count; i = end) {
		const struct glue_function *g = &functions.items.items[i];
		for (end = i;
		     end < functions.items.count && functions.items.items[end].type == g->type;
		     end++)
			;
		if (g->type >= n_types || b->types.items[g->type].future == AFM_NONE)
			continue;
		const struct afm_type type = b->types.items[g->type];
		s->b = b;
		for (size_t k = i; k < end && k < i + GLUES_MAX; k++)
			if (read_glue(s, &type, &functions.items.items[k]))
				break;
	}
	if (s)
		af_glue_destroy(s->glue);
	free(s);
	vector_deinit(&functions.items);
}

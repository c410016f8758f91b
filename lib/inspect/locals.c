/* SPDX-License-Identifier: MIT */
/*
 * Which variables of a coroutine are alive; locals.h says how far that can be known.
 *
 * LLVM takes members of one name for one member, so that several fields of one name all read
 * as the first. One of them is the captured argument of that name, if there is one, which
 * comes behind the stored variables: two then mean that the argument became the variable.
 */
#include <string.h>

#include "inspect/locals.h"

#define DEPTH_MAX 8
#define BUDGET 200	/* types looked at for one variable */
#define FIELDS_MAX 4096 /* of one state; more are not looked at */

struct state {
	const struct af_target *target;
	const struct af_futuremap *map;
	uint32_t image;
	uint64_t address;
	const struct afm_type *type;
	const struct afm_variant *variant;
	const struct afm_variant *unresumed;
	bool is_function; /* else a block or closure, which uses what it captured in place */
	bool all_kept;	  /* no drop flag is 0 but those whose variable is known */
};

static const char *name_of(const struct state *s, const struct afm_field *field)
{
	return af_futuremap_string(s->map, field->name);
}

static uint32_t n_fields(const struct afm_variant *variant)
{
	return variant->n_fields < FIELDS_MAX ? variant->n_fields : FIELDS_MAX;
}

/* How many of the variant's fields have this name. */
static uint32_t count(const struct state *s, const struct afm_variant *variant, uint32_t name)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_fields(variant); i++)
		n += af_futuremap_fields(s->map, variant->first_field + i)->name == name;
	return n;
}

/* What moving a value of a type out of its place would mean. */
enum movement {
	COPIES,	 /* it can be copied only: it is where it was */
	MOVES,	 /* it has nothing to free: its bytes stay what they were */
	DANGLES, /* it owns memory, which may be somebody else's by now */
};

static enum movement of_pointer(const char *name)
{
	/* References, also mutable ones: where they point to outlives the coroutine. */
	return name[0] == '&' || name[0] == '*' || strstr(name, "fn(") == name ||
			       !strncmp(name, "unsafe ", 7) || !strncmp(name, "extern ", 7)
		       ? COPIES
		       : DANGLES;
}

static bool is_copy_struct(const char *name)
{
	static const char *const known[] = {
		"core::option::Option<",
		"core::time::Duration",
		"core::net::",
		"std::net::",
		"std::time::Instant",
		"std::time::SystemTime",
		"tokio::time::instant::Instant",
		"core::marker::PhantomData<",
		"core::num::nonzero::",
		"core::num::niche_types::",
		"core::cmp::Ordering",
	};

	if (name[0] == '(' || name[0] == '&' || name[0] == '*')
		return true;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strncmp(name, known[i], strlen(known[i])))
			return true;
	return false;
}

static enum movement movement(const struct state *s, uint32_t type, int depth, int *budget);

static enum movement of_fields(const struct state *s, uint32_t first, uint32_t n, int depth,
			       int *budget)
{
	enum movement worst = COPIES;

	for (uint32_t i = 0; i < n && worst != DANGLES; i++) {
		enum movement m = movement(s, af_futuremap_fields(s->map, first + i)->type,
					   depth + 1, budget);
		worst = m > worst ? m : worst;
	}
	return worst;
}

static enum movement of_struct(const struct state *s, const struct afm_type *t, const char *name,
			       int depth, int *budget)
{
	/* A wide reference or raw pointer: copied as it is, whatever it points to. */
	if (name[0] == '&' || name[0] == '*')
		return COPIES;
	if (t->flags & AFM_TF_DECLARATION)
		return DANGLES;
	enum movement worst = of_fields(s, t->first_field, t->n_fields, depth, budget);
	for (uint32_t i = 0; i < t->n_variants && worst != DANGLES; i++) {
		const struct afm_variant *v = af_futuremap_variants(s->map, t->first_variant + i);
		enum movement m = of_fields(s, v->first_field, v->n_fields, depth, budget);
		worst = m > worst ? m : worst;
	}
	return worst == COPIES && !is_copy_struct(name) ? MOVES : worst;
}

static enum movement movement(const struct state *s, uint32_t type, int depth, int *budget)
{
	if (type == AFM_NONE || depth > DEPTH_MAX || --*budget < 0)
		return DANGLES;
	const struct afm_type *t = af_futuremap_types(s->map, type);
	const char *name = af_futuremap_string(s->map, t->name);

	switch (t->kind) {
	case AFM_T_UNSIGNED:
	case AFM_T_SIGNED:
	case AFM_T_FLOAT:
	case AFM_T_BOOL:
	case AFM_T_CHAR:
	case AFM_T_CENUM: /* perhaps not Copy, but all that it is stays there */
		return COPIES;
	case AFM_T_POINTER:
		/* A raw pointer within a struct is how that owns something. */
		return depth && name[0] == '*' ? DANGLES : of_pointer(name);
	case AFM_T_ARRAY:
		return movement(s, t->target, depth + 1, budget);
	case AFM_T_STRUCT:
		return of_struct(s, t, name, depth, budget);
	default:
		return DANGLES;
	}
}

/* Of an argument the function has made a variable, which is not stored here. */
static bool is_gone_argument(const struct state *s, const struct afm_field *field)
{
	return s->is_function && s->variant != s->unresumed &&
	       count(s, s->variant, field->name) == 1 && count(s, s->unresumed, field->name);
}

static enum af_local_life life_of(const struct state *s, const struct afm_field *field,
				  enum af_fate fate)
{
	uint32_t same = count(s, s->variant, field->name);
	bool is_captured = count(s, s->unresumed, field->name) != 0;
	int budget = BUDGET;

	if (s->variant == s->unresumed)
		return AF_LOCAL_ALIVE;
	if (same <= 1 + (uint32_t)is_captured && fate != AF_FATE_UNKNOWN)
		return fate == AF_FATE_ALIVE   ? AF_LOCAL_ALIVE
		       : fate == AF_FATE_MOVED ? AF_LOCAL_MOVED
					       : AF_LOCAL_DOUBTFUL;
	enum movement moved = movement(s, field->type, 0, &budget);
	if (same > 1 + (uint32_t)is_captured)
		return AF_LOCAL_SHADOWED;
	if (is_captured && same == 1) {
		if (s->is_function)
			return moved == DANGLES ? AF_LOCAL_DOUBTFUL : AF_LOCAL_PASSED;
		return moved == COPIES ? AF_LOCAL_ALIVE : AF_LOCAL_DOUBTFUL;
	}
	return moved == COPIES || s->all_kept ? AF_LOCAL_ALIVE : AF_LOCAL_DOUBTFUL;
}

/* Variables that select!, join! and their like make: no file or line tells them from the user's,
   so only the names that these are known to use, and only at an await within a macro. */
static bool is_macros(const struct state *s, const char *name)
{
	static const char *const known[] = {"disabled", "futures", "futures_init", "rotator",
					    "skip_next_time"};

	if (!s->variant->macro_line)
		return false;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(name, known[i]))
			return true;
	return !strncmp(name, "_fut", 4) && name[4] >= '0' && name[4] <= '9';
}

static bool is_users(const struct state *s, const struct afm_field *field)
{
	const char *name = name_of(s, field);

	return field->type != AFM_NONE && name[0] && !af_fate_is_numbered(name) &&
	       !(field->flags & (AFM_FF_AWAITEE | AFM_FF_ARTIFICIAL)) &&
	       strncmp(name, "__", 2) != 0 && strcmp(name, "_task_context") != 0 &&
	       !is_macros(s, name);
}

/* Whether a field before this one has its name already. */
static bool is_repeated(const struct state *s, uint32_t index)
{
	const struct afm_field *first = af_futuremap_fields(s->map, s->variant->first_field);

	for (uint32_t i = 0; i < index; i++)
		if (first[i].name == first[index].name)
			return true;
	return false;
}

static struct af_local make(const struct state *s, const struct afm_field *field)
{
	static const char reference[] = "_ref__";
	enum af_fate fate = af_locals_fate(s->target, s->image, s->address, s->variant, field);
	struct af_local local = {.name = name_of(s, field),
				 .type = field->type,
				 .address = s->address + field->offset,
				 .life = life_of(s, field, fate),
				 .is_gone = is_gone_argument(s, field)};

	local.is_certain = fate == AF_FATE_ALIVE && local.life == AF_LOCAL_ALIVE;
	local.is_gone = (local.is_gone && !local.is_certain) || local.life == AF_LOCAL_MOVED;
	if (!strncmp(local.name, reference, sizeof(reference) - 1)) {
		local.name += sizeof(reference) - 1;
		local.by_reference = true;
	}
	return local;
}

bool af_locals_deadline(const struct af_target *target, uint32_t image, uint32_t *type,
			uint64_t *address)
{
	static const char *const paths[] = {"deadline", "inner.deadline", "entry.deadline"};
	const struct af_futuremap *map = &target->images[image].map;
	uint32_t variant;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (af_target_path(target, image, paths[i], type, address))
			return true;
	if (!af_target_path(target, image, "entry", type, address) ||
	    !af_target_type(target, image, *type)->n_variants ||
	    af_target_variant(target, image, *type, *address, &variant) != AF_ACTIVE_FOUND)
		return false;
	const struct afm_variant *v = af_futuremap_variants(map, variant);
	if (v->n_fields != 1)
		return false;
	const struct afm_field *field = af_futuremap_fields(map, v->first_field);
	*type = field->type;
	*address += field->offset;
	return *type != AFM_NONE && af_target_path(target, image, "deadline", type, address);
}

/* A hand-written future by its fields, without futures and closures. Those of tokio's own mean
   nothing to its users, but for a timer's end. */
static uint32_t find_fields(const struct af_target *target, uint32_t image, uint32_t type,
			    uint64_t address, struct af_local *locals, uint32_t max)
{
	const struct afm_type *t = af_target_type(target, image, type);
	const char *name = af_target_string(target, image, t->name);
	uint32_t n = 0;

	if (!strcmp(name, "tokio::time::sleep::Sleep")) {
		struct af_local end = {.name = "deadline", .type = type, .address = address};
		if (max && af_locals_deadline(target, image, &end.type, &end.address))
			locals[n++] = end;
		return n;
	}
	if (!strncmp(name, "tokio::", 7) || t->kind != AFM_T_STRUCT || t->n_variants)
		return 0;
	for (uint32_t i = 0; i < t->n_fields && n < max; i++) {
		const struct afm_field *field =
			af_futuremap_fields(&target->images[image].map, t->first_field + i);
		if (field->type == AFM_NONE)
			continue;
		const struct afm_type *held = af_target_type(target, image, field->type);
		if (!held->size || held->flags & AFM_TF_REACHES_FUTURE ||
		    strstr(af_target_string(target, image, held->name), "{closure_env#"))
			continue;
		locals[n++] =
			(struct af_local){.name = af_target_string(target, image, field->name),
					  .type = field->type,
					  .address = address + field->offset};
	}
	return n;
}

uint32_t af_locals_find(const struct af_target *target, uint32_t image, uint32_t type,
			uint64_t address, uint32_t variant, struct af_local *locals, uint32_t max)
{
	const struct af_futuremap *map = &target->images[image].map;
	const struct afm_type *t = af_futuremap_types(map, type);
	uint32_t n = 0;

	if (t->future == AFM_NONE)
		return 0;
	const struct afm_future *future = af_futuremap_futures(map, t->future);
	if (future->kind == AFM_F_HAND)
		return find_fields(target, image, type, address, locals, max);
	uint32_t state = variant - t->first_variant;
	if (variant < t->first_variant || state >= t->n_variants || state == 1 || state == 2)
		return 0;
	struct state s = {.target = target,
			  .map = map,
			  .image = image,
			  .address = address,
			  .type = t,
			  .variant = af_futuremap_variants(map, variant),
			  .unresumed = af_futuremap_variants(map, t->first_variant),
			  .is_function = future->kind == AFM_F_ASYNC_FN};
	s.all_kept = !af_locals_any_gone(target, image, address, s.variant);
	for (uint32_t i = 0; i < n_fields(s.variant) && n < max; i++) {
		const struct afm_field *field =
			af_futuremap_fields(map, s.variant->first_field + i);
		if (is_users(&s, field) && !is_repeated(&s, i))
			locals[n++] = make(&s, field);
	}
	return n;
}

void af_local_print(struct af_line *line, const struct af_value_options *options,
		    const struct af_target *target, uint32_t image, const struct af_local *local)
{
	switch (local->life) {
	case AF_LOCAL_MOVED:
		af_line_put(line, "<moved>");
		return;
	case AF_LOCAL_DOUBTFUL:
		af_line_put(line, "<moved?>");
		return;
	case AF_LOCAL_SHADOWED:
		af_line_put(line, "<shadowed>");
		return;
	case AF_LOCAL_ALIVE:
	case AF_LOCAL_PASSED:
	case AF_LOCAL_CLAIMED:
		break;
	}
	af_value_print(line, options, target, image, local->type, local->address);
	if (local->life == AF_LOCAL_PASSED)
		af_line_put(line, " (as passed)");
	else if (local->life == AF_LOCAL_CLAIMED)
		af_line_put(line, " (moved?)");
}

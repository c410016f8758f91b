/* SPDX-License-Identifier: MIT */
/*
 * A patch site for every poll, or the reason why there is none. Planned beside the rest
 * (beside.c), from a copy of the polls, since these are still being completed.
 */
#include "analysis/sites.h"

#include <stdlib.h>

#include "analysis/holes.h"
#include "patch/plan/site.h"

#define PARTS_MAX 32

/* One per distinct address, in the order that polls will have. */
struct planned {
	uint64_t address;
	uint32_t size;
	uint32_t root, future; /* which of several at one address is kept */
	uint32_t park;	       /* it is no poll; or AFM_NONE */
	uint32_t site, refusal;
};

struct af_sites {
	const struct af_builder *b;
	struct af_planner *planner;
	struct af_plan_text text;
	struct af_holes holes; /* found when the first short function asks */
	bool searched, failed;
	VECTOR(struct planned) polls;
	VECTOR(struct afm_site) sites; /* these three as in the map */
	VECTOR(struct afm_fixup) fixups;
	VECTOR(uint8_t) code;
};

static const uint8_t *object_bytes(const void *arg, uint64_t address, uint64_t *available)
{
	return af_object_bytes(arg, address, available);
}

static void add_site(struct af_sites *s, uint32_t poll, const struct af_site_plan *plan,
		     int8_t hole)
{
	struct afm_site *site = vector_push(&s->sites);

	if (!site || !vector_reserve(&s->code, plan->code_length) ||
	    !vector_reserve(&s->fixups, plan->n_fixups)) {
		s->failed = true;
		return;
	}
	*site = (struct afm_site){
		.address = plan->address,
		.poll = poll,
		.code = (uint32_t)s->code.count,
		.code_length = plan->code_length,
		.displaced = plan->displaced,
		.n_fixups = plan->n_fixups,
		.first_fixup = (uint32_t)s->fixups.count,
		.patch = plan->patch,
		.hole = hole,
	};
	memcpy(site->original, plan->original, sizeof(site->original));
	memcpy(s->code.items + s->code.count, plan->code, plan->code_length);
	s->code.count += plan->code_length;
	if (plan->n_fixups)
		memcpy(s->fixups.items + s->fixups.count, plan->fixups,
		       plan->n_fixups * sizeof(*plan->fixups));
	s->fixups.count += plan->n_fixups;
	s->polls.items[poll].site = (uint32_t)s->sites.count - 1;
}

/* Where a near jump has no room: a short one, to a hole that holds the near one. */
static bool find_hole(struct af_sites *s, struct af_site_plan *plan, int8_t *hole)
{
	uint64_t available;

	if (plan->displaced + AFM_PATCH_NEAR > AFM_SITE_ORIGINAL_MAX)
		return false;
	if (!s->searched) {
		s->searched = true;
		s->failed |= !af_holes_collect(&s->holes, s->b->object);
	}
	uint64_t from = plan->address + AFM_PATCH_SHORT, at = af_holes_take(&s->holes, from);
	const uint8_t *bytes = at ? af_object_bytes(s->b->object, at, &available) : NULL;
	if (!bytes || available < AFM_PATCH_NEAR)
		return false;
	*hole = (int8_t)(at - from);
	memcpy(plan->original + plan->displaced, bytes, AFM_PATCH_NEAR);
	return true;
}

/* And where there is no such hole: one byte, int3. */
static bool plan_less(struct af_sites *s, const struct af_plan_function *function,
		      struct af_site_plan *plan, int8_t *hole)
{
	_Static_assert(AFM_TRAP_DISPLACED == AFM_PATCH_SHORT, "one plan does for both");
	if (af_planner_plan(s->planner, &s->text, function, AFM_PATCH_SHORT, plan))
		return false;
	if (!find_hole(s, plan, hole))
		plan->patch = AFM_PATCH_TRAP;
	return true;
}

/* The other ranges of a split function, which may branch back to its entry. False if they are
   too many to look through: then they are taken to. */
static bool find_parts(const struct af_builder *b, struct af_plan_function *function,
		       struct af_code_range parts[PARTS_MAX])
{
	function->parts = parts;
	for (size_t i = 0; i < b->parts.count; i++) {
		if (b->parts.items[i].entry != function->address)
			continue;
		if (function->n_parts == PARTS_MAX)
			return false;
		parts[function->n_parts++] = b->parts.items[i].range;
	}
	return true;
}

static void plan_one(struct af_sites *s, uint32_t poll, uint64_t next)
{
	struct planned *p = &s->polls.items[poll];
	struct af_code_range parts[PARTS_MAX];
	struct af_plan_function function = {.address = p->address, .size = p->size, .next = next};
	struct af_site_plan plan;
	int8_t hole = 0;

	if (!s->planner) {
		p->refusal = AF_REFUSAL_ARCHITECTURE;
		return;
	}
	if (!find_parts(s->b, &function, parts)) {
		p->refusal = AF_REFUSAL_JUMP_INTO_PATCH;
		return;
	}
	p->refusal = af_planner_plan(s->planner, &s->text, &function, AFM_PATCH_NEAR, &plan);
	bool less = af_refusal_of_length(p->refusal) && plan_less(s, &function, &plan, &hole);
	if (p->refusal && !less)
		return;
	/* Where it takes an int3 the map keeps why. */
	if (plan.patch != AFM_PATCH_TRAP)
		p->refusal = AF_REFUSAL_NONE;
	add_site(s, poll, &plan, hole);
}

/* As polls.c orders and joins them. */
static int compare_planned(const void *a, const void *b)
{
	const struct planned *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	if (x->root != y->root)
		return x->root < y->root ? -1 : 1;
	return x->future < y->future ? -1 : x->future > y->future;
}

static void join_planned(struct af_sites *s)
{
	struct planned *all = s->polls.items;
	size_t kept = 0;

	vector_sort(&s->polls, compare_planned);
	for (size_t i = 0; i < s->polls.count; i++)
		if (!kept || all[i].address != all[kept - 1].address)
			all[kept++] = all[i];
	s->polls.count = kept;
}

struct af_sites *af_sites_create(const struct af_builder *b)
{
	struct af_sites *s = calloc(1, sizeof(*s));

	if (!s || !vector_reserve(&s->polls, b->polls.count + b->parks.count)) {
		free(s);
		return NULL;
	}
	s->b = b;
	s->planner = af_planner_create(b->object->machine);
	s->text = (struct af_plan_text){object_bytes, b->object};
	for (size_t i = 0; i < b->polls.count; i++) {
		const struct afm_poll *poll = &b->polls.items[i];
		*vector_push(&s->polls) = (struct planned){.address = poll->address,
							   .size = poll->size,
							   .root = poll->root,
							   .future = poll->first_future,
							   .park = AFM_NONE,
							   .site = AFM_NONE};
	}
	for (uint32_t i = 0; i < b->parks.count; i++)
		*vector_push(&s->polls) = (struct planned){.address = b->parks.items[i].address,
							   .size = b->parks.items[i].size,
							   .park = i,
							   .site = AFM_NONE};
	return s;
}

void af_sites_destroy(struct af_sites *s)
{
	if (!s)
		return;
	af_holes_deinit(&s->holes);
	af_planner_destroy(s->planner);
	vector_deinit(&s->polls);
	vector_deinit(&s->sites);
	vector_deinit(&s->fixups);
	vector_deinit(&s->code);
	free(s);
}

void af_sites_plan(struct af_sites *s)
{
	join_planned(s);
	size_t n = s->polls.count;
	uint64_t *addresses = reallocarray(NULL, n + 1, 2 * sizeof(*addresses));

	if (!addresses) {
		s->failed = true;
		return;
	}
	uint64_t *next = addresses + n;
	for (size_t i = 0; i < n; i++)
		addresses[i] = s->polls.items[i].address;
	af_object_next_functions(s->b->object, addresses, n, next);
	for (uint32_t i = 0; i < n && !s->failed; i++)
		plan_one(s, i, next[i]);
	free(addresses);
}

/* Takes over a table that was made beside. */
#define take(to, from)                              \
	do {                                        \
		vector_deinit(to);                  \
		(to)->items = (from)->items;        \
		(to)->count = (from)->count;        \
		(to)->capacity = (from)->capacity;  \
		memset((from), 0, sizeof(*(from))); \
	} while (0)

void af_sites_complete(struct af_builder *b, struct af_sites *s)
{
	uint32_t poll = 0;

	if (s->failed || s->polls.count != b->polls.count + b->parks.count) {
		b->failed = true;
		return;
	}
	for (size_t i = 0; i < s->polls.count; i++) {
		const struct planned *planned = &s->polls.items[i];
		bool park = planned->park != AFM_NONE;
		uint32_t number = park ? (uint32_t)b->polls.count + planned->park : poll;
		if (planned->site != AFM_NONE)
			s->sites.items[planned->site].poll = number;
		if (park) {
			b->parks.items[planned->park].site = planned->site;
			b->parks.items[planned->park].refusal = planned->refusal;
			continue;
		}
		b->polls.items[poll].site = planned->site;
		b->polls.items[poll++].refusal = planned->refusal;
	}
	take(&b->sites, &s->sites);
	take(&b->fixups, &s->fixups);
	take(&b->code, &s->code);
}

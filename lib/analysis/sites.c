/* SPDX-License-Identifier: MIT */
/*
 * A patch site for every poll, or the reason why there is none.
 */
#include <stdlib.h>

#include "analysis/build.h"
#include "analysis/holes.h"
#include "patch/plan/site.h"

#define PARTS_MAX 32

struct site_planner {
	struct af_builder *b;
	struct af_planner *planner;
	struct af_plan_text text;
	struct af_holes holes; /* found when the first short function asks */
	bool searched;
};

static const uint8_t *object_bytes(const void *arg, uint64_t address, uint64_t *available)
{
	return af_object_bytes(arg, address, available);
}

static void add_site(struct af_builder *b, uint32_t poll, const struct af_site_plan *plan,
		     int8_t hole)
{
	if (!vector_reserve(&b->code, plan->code_length) ||
	    !vector_reserve(&b->fixups, plan->n_fixups)) {
		b->failed = true;
		return;
	}
	struct afm_site *site = builder_push(b, sites);
	if (!site)
		return;
	*site = (struct afm_site){
		.address = plan->address,
		.poll = poll,
		.code = (uint32_t)b->code.count,
		.code_length = plan->code_length,
		.displaced = plan->displaced,
		.n_fixups = plan->n_fixups,
		.first_fixup = (uint32_t)b->fixups.count,
		.patch = plan->patch,
		.hole = hole,
	};
	memcpy(site->original, plan->original, sizeof(site->original));
	memcpy(b->code.items + b->code.count, plan->code, plan->code_length);
	b->code.count += plan->code_length;
	if (plan->n_fixups)
		memcpy(b->fixups.items + b->fixups.count, plan->fixups,
		       plan->n_fixups * sizeof(*plan->fixups));
	b->fixups.count += plan->n_fixups;
	b->polls.items[poll].site = (uint32_t)b->sites.count - 1;
}

/* Where a near jump has no room: a short one, to a hole that holds the near one. */
static bool plan_short(struct site_planner *s, const struct af_plan_function *function,
		       struct af_site_plan *plan, int8_t *hole)
{
	uint64_t available;

	if (af_planner_plan(s->planner, &s->text, function, AFM_PATCH_SHORT, plan) ||
	    plan->displaced + AFM_PATCH_NEAR > AFM_SITE_ORIGINAL_MAX)
		return false;
	if (!s->searched) {
		s->searched = true;
		s->b->failed |= !af_holes_collect(&s->holes, s->b->object);
	}
	uint64_t from = plan->address + AFM_PATCH_SHORT, at = af_holes_take(&s->holes, from);
	const uint8_t *bytes = at ? af_object_bytes(s->b->object, at, &available) : NULL;
	if (!bytes || available < AFM_PATCH_NEAR)
		return false;
	*hole = (int8_t)(at - from);
	memcpy(plan->original + plan->displaced, bytes, AFM_PATCH_NEAR);
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

static void plan_one(struct site_planner *s, uint32_t poll, uint64_t next)
{
	struct afm_poll *p = &s->b->polls.items[poll];
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
	if (af_refusal_of_length(p->refusal) && plan_short(s, &function, &plan, &hole))
		p->refusal = AF_REFUSAL_NONE;
	if (!p->refusal)
		add_site(s->b, poll, &plan, hole);
}

void af_sites_plan(struct af_builder *b)
{
	size_t n = b->polls.count;
	struct site_planner s = {
		.b = b,
		.planner = af_planner_create(b->object->machine),
		.text = {object_bytes, b->object},
	};
	uint64_t *addresses = reallocarray(NULL, n + 1, 2 * sizeof(*addresses));

	if (!addresses) {
		b->failed = true;
	} else {
		uint64_t *next = addresses + n;
		for (size_t i = 0; i < n; i++)
			addresses[i] = b->polls.items[i].address;
		af_object_next_functions(b->object, addresses, n, next);
		for (uint32_t i = 0; i < n && !b->failed; i++)
			plan_one(&s, i, next[i]);
	}
	free(addresses);
	af_holes_deinit(&s.holes);
	af_planner_destroy(s.planner);
}

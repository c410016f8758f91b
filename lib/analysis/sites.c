/* SPDX-License-Identifier: MIT */
/*
 * A patch site for every poll, or the reason why there is none.
 */
#include <stdlib.h>

#include "analysis/build.h"
#include "patch/plan/site.h"

static void add_site(struct af_builder *b, uint32_t poll, const struct af_site_plan *plan)
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

static void plan_one(struct af_builder *b, struct af_planner *planner, uint32_t poll, uint64_t next)
{
	struct afm_poll *p = &b->polls.items[poll];
	struct af_site_plan plan = {0};
	uint64_t available, room = next - p->address, size = p->size;
	const uint8_t *bytes = af_object_bytes(b->object, p->address, &available);

	if (!size || size > room)
		size = room;
	if (!bytes || !size || size > available)
		p->refusal = AF_REFUSAL_NO_BYTES;
	else if (!planner)
		p->refusal = AF_REFUSAL_ARCHITECTURE;
	else
		p->refusal = af_planner_plan(planner, p->address, bytes, size, room, &plan);
	if (!p->refusal)
		add_site(b, poll, &plan);
}

void af_sites_plan(struct af_builder *b)
{
	size_t n = b->polls.count;
	struct af_planner *planner = af_planner_create(b->object->machine);
	uint64_t *addresses = reallocarray(NULL, n + 1, 2 * sizeof(*addresses));

	if (!addresses) {
		b->failed = true;
	} else {
		uint64_t *next = addresses + n;
		for (size_t i = 0; i < n; i++)
			addresses[i] = b->polls.items[i].address;
		af_object_next_functions(b->object, addresses, n, next);
		for (uint32_t i = 0; i < n && !b->failed; i++)
			plan_one(b, planner, i, next[i]);
	}
	free(addresses);
	af_planner_destroy(planner);
}

/* SPDX-License-Identifier: MIT */
/*
 * Where a driver's future is while its thread waits. Debug info places the `self` of an inlined
 * poll inside that poll only; block_on parks outside it, between two polls. So the places are
 * carried on through the code: a place still holds at an instruction if on every way there it
 * held before and nothing on the way has changed its register or its slot of the frame (callees
 * keep both), and if the next poll can be reached from there, so that the future has not ended.
 * Ways that cannot be told (landing pads, targets of indirect jumps) count as ways on which
 * nothing held. A jump by a table may go to any entry of any table that the function refers to.
 *
 * Where the register is free while the thread waits, the code keeps the future's address in the
 * frame and loads it before the next poll. That slot is a place too, wherever every way on that
 * polls again begins with such a load, and nothing before it changes the slot.
 */
#include <elf.h>
#include <stdlib.h>

#include "analysis/code.h"
#include "analysis/drivers.h"

/* Beyond these, a driver is left with what debug info says. */
#define WORK_MAX (1u << 26) /* places times instructions */
#define ROUNDS_MAX 100
#define CALLS_MAX 64

enum { HOLDS = 1, REACHES = 2, GIVEN = 4 }; /* of a place, at an instruction */
static bool changes(const struct af_flow_instruction *in, const struct afm_place *place)
{
	if (place->base > 31)
		return false;
	if (in->changes >> place->base & 1)
		return true;
	if (!(place->flags & AFM_PL_POINTER) || in->base != (int)place->base)
		return false;
	/* The slot itself: written, or handed to somebody who may. */
	if (in->width == 255)
		return in->offset == place->offset;
	return in->offset < place->offset + 8 && place->offset < in->offset + in->width;
}

/* Sets `bit` for the instructions in a span of code. */
static void mark(struct af_code *flow, uint64_t start, uint64_t end, uint8_t bit)
{
	for (size_t i = af_code_lower_bound(flow, start);
	     i < flow->code.count && flow->code.items[i].address < end; i++)
		flow->state[i] |= bit;
}

/* Whether an entry of a table is or was in this state. */
static bool any_entry(const struct af_code *flow, uint8_t bit)
{
	for (size_t i = 0; i < flow->entries.count; i++)
		if (flow->state[flow->entries.items[i]] & bit)
			return true;
	return false;
}

/* Carries REACHES backwards: what can get to an instruction that has it. */
static void reach(struct af_code *flow)
{
	bool again = true;

	for (int round = 0; again && round < ROUNDS_MAX; round++) {
		bool by_table = any_entry(flow, REACHES);
		again = false;
		for (size_t i = flow->code.count; i-- > 0;) {
			if (flow->state[i] & REACHES)
				continue;
			if (((flow->state[i] & AF_CODE_TABLE) && by_table) ||
			    (af_code_falls(flow, i) && (flow->state[i + 1] & REACHES)) ||
			    (flow->jumps[i] != AFM_NONE &&
			     (flow->state[flow->jumps[i]] & REACHES))) {
				flow->state[i] |= REACHES;
				again = true;
			}
		}
	}
}

/* Takes HOLDS from where an instruction leads that the place does not survive. */
static bool take_away(struct af_code *flow, size_t i)
{
	uint32_t next[2] = {af_code_falls(flow, i) ? (uint32_t)i + 1 : AFM_NONE, flow->jumps[i]};
	bool taken = false;

	for (int k = 0; k < 2; k++) {
		if (next[k] == AFM_NONE || (flow->state[next[k]] & (HOLDS | GIVEN)) != HOLDS)
			continue;
		flow->state[next[k]] &= (uint8_t)~HOLDS;
		taken = true;
	}
	for (size_t k = 0; (flow->state[i] & AF_CODE_TABLE) && k < flow->entries.count; k++) {
		uint8_t *entry = &flow->state[flow->entries.items[k]];
		taken |= (*entry & (HOLDS | GIVEN)) == HOLDS;
		if (!(*entry & GIVEN))
			*entry &= (uint8_t)~HOLDS;
	}
	return taken;
}

/* HOLDS where the place holds on every way: begins with all that a known way leads to, and takes
   away until nothing changes. False if that cannot be told. */
static bool hold(struct af_code *flow, const struct afm_place *place, uint32_t entry)
{
	size_t n = flow->code.count;
	bool again = true;

	for (size_t i = 0; i < n; i++) {
		if (af_code_falls(flow, i))
			flow->state[i + 1] |= HOLDS;
		if (flow->jumps[i] != AFM_NONE)
			flow->state[flow->jumps[i]] |= HOLDS;
	}
	for (size_t i = 0; i < flow->entries.count; i++)
		flow->state[flow->entries.items[i]] |= HOLDS;
	if (entry != AFM_NONE)
		flow->state[entry] &= (uint8_t)~HOLDS;
	for (size_t i = 0; i < n; i++)
		if (flow->state[i] & GIVEN)
			flow->state[i] |= HOLDS;
	for (int round = 0; again && round < ROUNDS_MAX; round++) {
		again = false;
		for (size_t i = 0; i < n; i++)
			if (!(flow->state[i] & HOLDS) || changes(&flow->code.items[i], place))
				again |= take_away(flow, i);
	}
	/* A jump table outside could lead to anywhere. */
	for (size_t i = 0; i < n; i++)
		if (flow->code.items[i].kind == AF_FLOW_TABLE &&
		    !(flow->state[i] & (HOLDS | AF_CODE_TABLE)))
			return false;
	return !again;
}

static bool same_where(const struct afm_place *a, const struct afm_place *b)
{
	return a->base == b->base && a->offset == b->offset && a->then == b->then &&
	       !((a->flags ^ b->flags) & AFM_PL_POINTER);
}

/* What debug info does not say, as further places. */
static void add_derived(struct af_code *flow, const struct afm_place *where,
			struct afm_driver *driver)
{
	struct afm_place *last = NULL;

	for (size_t i = 0; i < flow->code.count; i++) {
		const struct af_flow_instruction *in = &flow->code.items[i];
		if ((flow->state[i] & (HOLDS | REACHES | GIVEN)) != (HOLDS | REACHES))
			continue;
		if (last && last->end == in->address) {
			last->end += in->size;
			continue;
		}
		last = builder_push(flow->b, places);
		if (!last)
			return;
		*last = *where;
		last->start = in->address;
		last->end = in->address + in->size;
		last->flags |= AFM_PL_DERIVED;
		driver->n_places++;
	}
}

/* What a register holds ahead of instruction i, by what has set it: `lea rdi, [rsp+48]`, or `mov
   rdi, r14`, or `mov rbx, [rsp+40]`. Looks back over the few instructions that surely run before.
   Returns the one that has set it; AFM_NONE: unknown. */
static uint32_t find_setter(const struct af_code *flow, uint32_t i, int8_t number)
{
	for (uint32_t k = i, steps = 0; k > 0 && steps < 12; k--, steps++) {
		const struct af_flow_instruction *in = &flow->code.items[k - 1];
		if ((flow->state[k] & AF_CODE_TARGET) || !af_code_falls(flow, k - 1) ||
		    (in->changes & 1u << 7))
			break;
		if (!(in->changes >> number & 1))
			continue;
		if (in->to != number || !af_frame_keeps(flow->b, (unsigned int)in->from))
			break;
		/* Nothing between may change what it is made of. */
		struct afm_place of = {.base = (uint16_t)in->from,
				       .offset = in->add,
				       .flags = in->loads ? AFM_PL_POINTER : 0};
		for (uint32_t later = k; later < i; later++)
			if (changes(&flow->code.items[later], &of))
				return AFM_NONE;
		return k - 1;
	}
	return AFM_NONE;
}

/* The code ahead of a call of the future's poll may say what it hands over. False if it does not. */
static bool see_call(struct af_code *flow, struct afm_driver *driver,
		     const struct af_poll_code *call)
{
	static const int8_t registers[] = {[AFM_R_RDI] = 5, [AFM_R_RSI] = 4, [AFM_R_RDX] = 1};
	uint32_t i = af_code_find(flow, call->start), setter;

	if (i == AFM_NONE || !call->self_register || call->self_register > AFM_R_RDX)
		return false;
	setter = find_setter(flow, i, registers[call->self_register]);
	struct afm_place *place = setter == AFM_NONE ? NULL : builder_push(flow->b, places);
	if (!place)
		return false;
	const struct af_flow_instruction *in = &flow->code.items[setter];
	*place = (struct afm_place){
		.start = in->loads ? in->address : call->start,
		.end = call->start + flow->code.items[i].size,
		.offset = in->add,
		.base = (uint16_t)in->from,
		.flags = (uint16_t)(AFM_PL_DERIVED | (in->loads ? AFM_PL_POINTER : 0))};
	driver->n_places++;
	return true;
}

static bool seen_before(const struct afm_place *given, size_t k)
{
	for (size_t i = 0; i < k; i++)
		if (same_where(&given[i], &given[k]))
			return true;
	return false;
}

static void extend(struct af_code *flow, struct afm_driver *driver, const struct afm_place *given,
		   size_t n, const struct af_poll_code *polls, size_t n_polls)
{
	uint32_t entry = af_code_find(flow, driver->address);

	if ((n + n_polls) * flow->code.count > WORK_MAX)
		return;
	for (size_t k = 0; k < n && !flow->b->failed; k++) {
		if (seen_before(given, k))
			continue;
		for (size_t i = 0; i < flow->code.count; i++)
			flow->state[i] &= AF_CODE_TABLE | AF_CODE_TARGET;
		for (size_t i = k; i < n; i++)
			if (same_where(&given[i], &given[k]))
				mark(flow, given[i].start, given[i].end, GIVEN);
		for (size_t i = 0; i < n_polls; i++)
			mark(flow, polls[i].start, polls[i].end, REACHES);
		reach(flow);
		if (hold(flow, &given[k], entry))
			add_derived(flow, &given[k], driver);
	}
}

/* What every call of the poll is given is where the future is; variables that were only moved from
   are not. */
static void see_calls(struct af_code *flow, struct afm_driver *driver,
		      const struct af_poll_code *polls, size_t n_polls, bool copies)
{
	struct afm_place *first;
	uint32_t before = driver->n_places;
	size_t seen = 0;

	for (size_t i = 0; i < n_polls && i < CALLS_MAX; i++)
		seen += see_call(flow, driver, &polls[i]);
	if (!copies || !seen || seen < n_polls)
		return;
	first = &flow->b->places.items[driver->first_place]; /* the table moves while it grows */
	driver->n_places -= before;
	memmove(first, first + before, driver->n_places * sizeof(*first));
	flow->b->places.count -= before;
}

/* The slot of the frame from which a place's register was loaded before it began, or that is the place,
   if it begins with the load. */
static bool find_slot(const struct af_code *flow, const struct afm_place *given,
		      struct afm_place *slot)
{
	uint32_t i = af_code_find(flow, given->start), setter = i;
	bool pointer = given->flags & AFM_PL_POINTER;

	if (i == AFM_NONE || given->base > 31)
		return false;
	if (!pointer)
		setter = find_setter(flow, i, (int8_t)given->base);
	if (setter == AFM_NONE || !flow->code.items[setter].loads)
		return false;
	const struct af_flow_instruction *load = &flow->code.items[setter];
	struct afm_place found = {.start = load->address,
				  .end = load->address + load->size,
				  .offset = load->add,
				  .then = pointer ? given->then : given->offset,
				  .base = (uint16_t)load->from,
				  .flags = AFM_PL_POINTER};
	if (pointer && !same_where(&found, given))
		return false;
	*slot = found;
	return true;
}

/* Makes slots of the places that have one. Returns how many. */
static size_t find_slots(const struct af_code *flow, struct afm_place *places, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		kept += find_slot(flow, &places[i], &places[kept]);
	return kept;
}

/* Whether the slot that holds at instruction i is lost on a way on from there that REACHES a load. */
static bool is_lost(const struct af_code *flow, size_t i, const struct afm_place *slot)
{
	const struct af_flow_instruction *in = &flow->code.items[i];
	bool by_table = flow->state[i] & AF_CODE_TABLE;

	if (in->kind == AF_FLOW_TABLE && !by_table)
		return true;
	if (!(flow->state[i] & REACHES))
		return false;
	if (changes(in, slot) || (af_code_falls(flow, i) && !(flow->state[i + 1] & HOLDS)) ||
	    (flow->jumps[i] != AFM_NONE && !(flow->state[flow->jumps[i]] & HOLDS)))
		return true;
	for (size_t k = 0; by_table && k < flow->entries.count; k++)
		if (!(flow->state[flow->entries.items[k]] & HOLDS))
			return true;
	return false;
}

/* HOLDS where the slot is what will be loaded, if anything will: begins with everything, and takes
   away. False if that does not end. */
static bool hold_until_load(struct af_code *flow, const struct afm_place *slot)
{
	bool again = true;

	for (size_t i = 0; i < flow->code.count; i++)
		flow->state[i] |= HOLDS;
	for (int round = 0; again && round < ROUNDS_MAX; round++) {
		again = false;
		for (size_t i = flow->code.count; i-- > 0;) {
			if ((flow->state[i] & (HOLDS | GIVEN)) != HOLDS || !is_lost(flow, i, slot))
				continue;
			flow->state[i] &= (uint8_t)~HOLDS;
			again = true;
		}
	}
	return !again;
}

/* Adds what the slots are worth, of which equal ones stand for one slot with several loads. */
static void extend_slots(struct af_code *flow, struct afm_driver *driver,
			 const struct afm_place *slots, size_t n)
{
	if (n * flow->code.count > WORK_MAX)
		return;
	for (size_t k = 0; k < n && !flow->b->failed; k++) {
		if (seen_before(slots, k))
			continue;
		for (size_t i = 0; i < flow->code.count; i++)
			flow->state[i] &= AF_CODE_TABLE | AF_CODE_TARGET;
		for (size_t i = k; i < n; i++)
			if (same_where(&slots[i], &slots[k]))
				mark(flow, slots[i].start, slots[i].end, GIVEN | REACHES);
		reach(flow);
		if (hold_until_load(flow, &slots[k]))
			add_derived(flow, &slots[k], driver);
	}
}

void af_drivers_extend(struct af_builder *b, const struct af_die *function,
		       struct afm_driver *driver, const struct af_poll_code *polls, size_t n_polls,
		       bool copies)
{
	struct af_code flow = {.b = b};

	if (af_code_decode(&flow, function)) {
		see_calls(&flow, driver, polls, n_polls, copies);
		/* The table moves while it grows. */
		size_t n = driver->n_places;
		struct afm_place *given = reallocarray(NULL, n + 1, sizeof(*given));
		if (n && given)
			memcpy(given, &b->places.items[driver->first_place], n * sizeof(*given));
		if (given && !b->failed) {
			extend(&flow, driver, given, n, polls, n_polls);
			extend_slots(&flow, driver, given, find_slots(&flow, given, n));
		}
		b->failed |= !given;
		free(given);
	}
	af_code_deinit(&flow);
}

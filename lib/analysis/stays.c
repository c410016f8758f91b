/* SPDX-License-Identifier: MIT */
/*
 * What a driver is known to hold between two polls that are inlined in it: its places without the
 * code of polls, at each call. Where two futures might be meant, neither is.
 */
#include <stdlib.h>

#include "analysis/code.h"
#include "analysis/drivers.h"

#define STAYS_MAX 2000 /* calls of one function, and spans of polls in it: beyond, none */
#define NUMBERED 64    /* stays of one function that know of each other */
#define ROUNDS_MAX 100
#define WORK_MAX (1u << 20) /* calls times instructions */

static bool is_polled(const struct af_stay_search *s, uint64_t pc)
{
	for (size_t i = 0; i < s->polled.count; i++)
		if (pc >= s->polled.items[i].start && pc < s->polled.items[i].end)
			return true;
	return false;
}

/* How much rather this one than another of the same future. */
static int rank(const struct afm_stay *stay)
{
	return (stay->flags & AFM_PL_HELD ? 0 : 2) + (stay->flags & AFM_PL_POINTER ? 0 : 1);
}

/* The one place that holds at `pc`; NULL where there is none, or there are several futures. */
static const struct afm_stay *stay_at(const struct af_stay_search *s, uint64_t pc)
{
	const struct afm_stay *found = NULL;

	for (size_t i = 0; i < s->places.count; i++) {
		const struct af_found_stay *place = &s->places.items[i];
		if (pc < place->start || pc >= place->end)
			continue;
		const struct afm_stay *stay = &place->stay;
		bool other = found && found->step != stay->step;
		if (other && !((found->flags ^ stay->flags) & AFM_PL_HELD))
			return NULL;
		if (!found || rank(stay) > rank(found))
			found = stay;
	}
	return found;
}

void af_stays_add(struct af_builder *b, struct af_stay_search *s, const struct afm_driver *driver,
		  bool inlined)
{
	for (uint32_t i = 0; i < driver->n_places; i++) {
		const struct afm_place *place = &b->places.items[driver->first_place + i];
		if (place->base > AFM_B_REGISTER_MAX)
			continue;
		struct af_found_stay *found = vector_push(&s->places);
		if (!found) {
			b->failed = true;
			return;
		}
		*found = (struct af_found_stay){
			.start = place->start,
			.end = place->end,
			.stay = {.offset = place->offset,
				 .then = place->then,
				 .base = place->base,
				 .flags = (uint8_t)((place->flags & AFM_PL_POINTER) |
						    (inlined ? 0 : AFM_PL_HELD)),
				 .step = driver->future},
		};
	}
}

/* Of an instruction. */
enum { REACHES = 1, LOUDLY = 2, QUIET_DONE = 4, LOUD_DONE = 8, STOPS = 16, POLLS = 32 };

/* Sets `bit`, and `done` when it has been seen to, where a way leads from where it is set. Where code
   polls, it goes on as LOUDLY; calls that are recorded end a way. */
static bool follow_ways(struct af_code *flow, uint8_t bit, uint8_t done)
{
	bool again = false;

	for (size_t k = 0; k < flow->code.count; k++) {
		uint32_t next[2] = {af_code_falls(flow, k) ? (uint32_t)k + 1 : AFM_NONE,
				    flow->jumps[k]};
		uint8_t then = bit;
		if ((flow->state[k] & (bit | done)) != bit)
			continue;
		flow->state[k] |= done;
		again = true;
		if (flow->state[k] & STOPS)
			continue;
		if (flow->state[k] & POLLS)
			then = LOUDLY;
		for (int way = 0; way < 2; way++)
			if (next[way] != AFM_NONE)
				flow->state[next[way]] |= then;
		for (size_t e = 0; (flow->state[k] & AF_CODE_TABLE) && e < flow->entries.count; e++)
			flow->state[flow->entries.items[e]] |= then;
	}
	return again;
}

/* Sets REACHES where a way without a poll leads to from instruction i, LOUDLY where one with. */
static bool follow_from(struct af_code *flow, size_t i)
{
	bool again = i < flow->code.count;

	for (size_t k = 0; k < flow->code.count; k++)
		flow->state[k] &= AF_CODE_TABLE | AF_CODE_TARGET | STOPS | POLLS;
	if (again)
		flow->state[i] |= REACHES;
	for (int round = 0; again && round < ROUNDS_MAX; round++) {
		again = follow_ways(flow, REACHES, QUIET_DONE);
		again |= follow_ways(flow, LOUDLY, LOUD_DONE);
	}
	return !again;
}

/* The call that a stay is the return address of. */
static const struct af_flow_instruction *call_of(const struct af_code *flow,
						 const struct afm_stay *stay)
{
	return &flow->code.items[af_code_lower_bound(flow, stay->address) - 1];
}

/* Numbers as many stays of the driver as there are numbers, those first that surely wait, and last
   those that do only if what they call ends by a jump. Which has which number: returned in `stays`. */
static size_t number_calls(struct af_code *flow, size_t first, struct afm_stay **stays)
{
	static const enum af_call order[] = {AF_CALL_PARK, AF_CALL_UNKNOWN, AF_CALL_OTHER};
	struct af_builder *b = flow->b;
	size_t n = 0, most = WORK_MAX / flow->code.count;

	for (size_t k = 0; k < sizeof(order) / sizeof(order[0]); k++)
		for (size_t i = first; i < b->stays.count && n < NUMBERED && n < most; i++) {
			const struct af_flow_instruction *in = call_of(flow, &b->stays.items[i]);
			if (af_parks_called(b, in->address, in->size) != order[k])
				continue;
			stays[n] = &b->stays.items[i];
			stays[n]->number = (uint8_t)n;
			n++;
		}
	return n;
}

/* Which stays follow on which without a poll in between, for certain. `first`: the driver's, in
   b->stays. */
static void number_stays(struct af_code *flow, const struct af_stay_search *s, size_t first)
{
	struct af_builder *b = flow->b;
	struct afm_stay *stays[NUMBERED];

	for (size_t i = 0; i < flow->code.count; i++) {
		const struct af_flow_instruction *in = &flow->code.items[i];
		/* Any entry of any table: more ways than there are, which join less. */
		if (in->kind == AF_FLOW_TABLE && !flow->entries.count)
			return;
		if (in->kind == AF_FLOW_TABLE)
			flow->state[i] |= AF_CODE_TABLE;
		if (in->call && af_parks_called(b, in->address, in->size) == AF_CALL_PARK)
			flow->state[i] |= STOPS;
		if (is_polled(s, in->address))
			flow->state[i] |= POLLS;
	}
	size_t n = number_calls(flow, first, stays);
	for (size_t i = 0; i < n; i++) {
		if (!follow_from(flow, af_code_lower_bound(flow, stays[i]->address)))
			continue;
		for (size_t k = 0; k < n; k++) {
			ptrdiff_t at = call_of(flow, stays[k]) - flow->code.items;
			if ((flow->state[at] & (REACHES | LOUDLY)) == REACHES)
				stays[i]->quiet |= UINT64_C(1) << k;
		}
	}
}

void af_stays_find(struct af_builder *b, const struct af_die *function, struct af_stay_search *s)
{
	struct af_code flow = {.b = b};
	size_t first = b->stays.count;

	if (s->places.count && s->places.count < STAYS_MAX && s->polled.count < STAYS_MAX &&
	    af_code_decode(&flow, function)) {
		for (size_t i = 0; i < flow.code.count; i++) {
			const struct af_flow_instruction *in = &flow.code.items[i];
			const struct afm_stay *place =
				in->call && !is_polled(s, in->address)
					? stay_at(s, in->address + in->size - 1)
					: NULL;
			struct afm_stay *stay = place ? builder_push(b, stays) : NULL;
			if (!stay)
				continue;
			*stay = *place;
			stay->address = in->address + in->size;
			stay->number = 255;
		}
		number_stays(&flow, s, first);
	}
	af_code_deinit(&flow);
	s->places.count = s->polled.count = 0;
}

static int compare(const void *a, const void *b)
{
	const struct afm_stay *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

void af_stays_complete(struct af_builder *b)
{
	size_t kept = 0;

	vector_sort(&b->stays, compare);
	/* One code that several functions share says nothing. */
	for (size_t i = 0, end; i < b->stays.count; i = end) {
		const struct afm_stay *stay = &b->stays.items[i];
		for (end = i + 1;
		     end < b->stays.count && (stay + (end - i))->address == stay->address; end++)
			;
		if (end == i + 1)
			b->stays.items[kept++] = *stay;
	}
	b->stays.count = kept;
}

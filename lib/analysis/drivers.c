/* SPDX-License-Identifier: MIT */
/*
 * Drivers: functions that poll a future without being polls themselves, as every block_on does,
 * and where in their frame that future lies. A driver's future has no task: while its thread is
 * parked, the frame is the only way to it.
 *
 * A function is a driver if it
 * - holds an inlined instance of a poll that is not inside another poll's: what is polled is that
 *   instance's `self`, whose location debug info keeps;
 * - or calls a poll (callers.c);
 * - or is called block_on..., or is a closure inside one, or has one of these inlined, and has its
 *   poll called by a closure, as unoptimised code does, and optimised code often.
 * Then the variables tell as well that point to a future of the type that is polled; in a
 * block_on, to one of any type (`let mut f = pin!(f)`).
 *
 * Variables that hold a future by value count where the function itself calls its poll and nothing
 * points to it. Else `fn block_on<F>(future: F)` hands it on, and what stays behind looks like a
 * future that has not begun.
 */
#include <stdlib.h>

#include "analysis/beside.h"
#include "analysis/drivers.h"
#include "analysis/polls.h"

/* A function to look at, and why. */
struct candidate {
	uint32_t offset;
	bool block_on;
};

struct collector {
	struct af_builder *b;
	struct af_place_search search;
	struct af_callers callers;
	VECTOR(struct candidate) candidates; /* of one file */
	VECTOR(struct af_poll_code) polls;   /* code that polls one future of one function */
};

static int compare_places(const void *a, const void *b)
{
	const struct af_found_place *x = a, *y = b;
	if (x->source.future != y->source.future)
		return x->source.future < y->source.future ? -1 : 1;
	if (x->place.start != y->place.start)
		return x->place.start < y->place.start ? -1 : 1;
	return x->place.end < y->place.end ? -1 : x->place.end > y->place.end;
}

static bool same_place(const struct afm_place *a, const struct afm_place *b)
{
	return a->base == b->base && a->offset == b->offset && a->then == b->then &&
	       a->flags == b->flags;
}

/* A new place, or more of one that is there. */
static void keep_place(struct af_builder *b, struct afm_driver *driver, const struct afm_place *new)
{
	/* They come in order, so that only the last few can touch it. */
	uint32_t i = driver->n_places > 16 ? driver->n_places - 16 : 0;
	for (; i < driver->n_places; i++) {
		struct afm_place *old = &b->places.items[driver->first_place + i];
		if (!same_place(old, new) || new->start > old->end)
			continue;
		if (new->end > old->end)
			old->end = new->end;
		return;
	}
	struct afm_place *place = builder_push(b, places);
	if (!place)
		return;
	*place = *new;
	driver->n_places++;
}

/* Notes the code that polls the future whose sources these are. */
static void note_polls(struct collector *c, const struct af_found_place *found, size_t n,
		       bool *called)
{
	c->polls.count = 0;
	*called = false;
	for (size_t i = 0; i < n; i++) {
		enum af_source how = found[i].source.how;
		if (how != AF_SOURCE_SELF && how != AF_SOURCE_CALL)
			continue;
		struct af_poll_code *code = vector_push(&c->polls);
		*called |= how == AF_SOURCE_CALL;
		if (code)
			*code = (struct af_poll_code){found[i].place.start, found[i].place.end,
						      found[i].self_register};
	}
}

/* Which of its sources tell where a future is: see the head of this file. */
static enum af_source last_source(const struct af_found_place *found, size_t n, bool called)
{
	enum af_source best = AF_SOURCE_PARAMETER;

	for (size_t i = 0; i < n; i++)
		if (found[i].source.how < best)
			best = found[i].source.how;
	if (best <= AF_SOURCE_POINTER || !called)
		return AF_SOURCE_POINTER;
	return best;
}

/* A driver is called what it was written as, wherever it is inlined. */
static void name_driver(struct af_builder *b, const struct af_function *f,
			struct afm_driver *driver)
{
	struct af_text name = {0}, shown = {0};

	af_name_qualify(b, af_function_home(f), &name);
	af_name_display(b, af_text_get(&name), &shown);
	driver->name = af_strings_add(&b->strings, af_text_get(&shown));
	af_name_place(b, af_function_home(f), &driver->file, &driver->line);
	b->failed |= name.failed | shown.failed;
	af_text_deinit(&name);
	af_text_deinit(&shown);
}

/* The block_on in which one of these is, or AF_DIE_NONE. */
static af_die_id block_on_of(const struct af_found_place *found, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (found[i].block_on != AF_DIE_NONE)
			return found[i].block_on;
	return AF_DIE_NONE;
}

/* A driver of one future, whose places are found[0..n). */
static void keep_driver(struct collector *c, struct afm_driver driver, const struct af_function *f,
			const struct af_found_place *found, size_t n)
{
	struct af_builder *b = c->b;
	af_die_id block_on = block_on_of(found, n);
	bool called, inlined = false;
	struct af_function written;

	for (size_t i = 0; i < n; i++)
		inlined |= found[i].source.how == AF_SOURCE_SELF;
	note_polls(c, found, n, &called);
	if (!c->polls.count && block_on == AF_DIE_NONE)
		return;
	enum af_source last = last_source(found, n, called);
	driver.future = found->source.future;
	driver.first_place = (uint32_t)b->places.count;
	for (size_t i = 0; i < n; i++)
		if (found[i].source.how <= last &&
		    (c->polls.count || found[i].block_on != AF_DIE_NONE))
			keep_place(b, &driver, &found[i].place);
	af_drivers_extend(b, &f->dies[0], &driver, c->polls.items, c->polls.count,
			  last > AF_SOURCE_POINTER);
	if (!driver.n_places)
		return;
	name_driver(b, af_function_read(b, block_on, &written) ? &written : f, &driver);
	struct afm_driver *kept = builder_push(b, drivers);
	if (kept)
		*kept = driver;
	if (inlined || block_on != AF_DIE_NONE)
		af_stays_add(b, &c->search.stays, &driver, inlined);
}

static void keep_drivers(struct collector *c, const struct af_function *f, uint64_t address,
			 uint64_t size)
{
	const struct af_found_place *found = c->search.found.items;
	struct afm_driver driver = {.address = address,
				    .size = size > UINT32_MAX ? 0 : (uint32_t)size};
	size_t n = c->search.found.count;

	vector_sort(&c->search.found, compare_places);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i; end < n && found[end].source.future == found[i].source.future; end++)
			;
		keep_driver(c, driver, f, found + i, end - i);
	}
	af_stays_find(c->b, &f->dies[0], &c->search.stays);
}

/* Whether an address lies in a poll that is inlined in this function. */
static bool in_inlined_poll(const struct collector *c, uint64_t address)
{
	for (size_t i = 0; i < c->search.found.count; i++) {
		const struct af_found_place *found = &c->search.found.items[i];
		if (found->source.how == AF_SOURCE_SELF && address >= found->place.start &&
		    address < found->place.end)
			return true;
	}
	return false;
}

/* The outermost block_on that is inlined around an address, or AF_DIE_NONE. */
static af_die_id block_on_at(const struct collector *c, uint64_t address)
{
	for (size_t i = 0; i < c->search.block_ons.count; i++) {
		const struct af_block_on_code *code = &c->search.block_ons.items[i];
		if (address >= code->span.start && address < code->span.end)
			return code->block_on;
	}
	return AF_DIE_NONE;
}

/* A future whose poll is called is driven, whatever variables there are. */
static void add_calls(struct collector *c, af_die_id function, bool block_on)
{
	for (size_t i = 0; i < c->callers.count; i++) {
		const struct af_caller *caller = &c->callers.items[i];
		if (caller->function != function || in_inlined_poll(c, caller->address))
			continue;
		struct af_found_place *found = vector_push(&c->search.found);
		if (found)
			*found = (struct af_found_place){
				.source = {caller->future, AF_SOURCE_CALL},
				.self_register = caller->self_register,
				.block_on = block_on ? function : block_on_at(c, caller->address),
				.place = {.start = caller->address, .end = caller->address + 1},
			};
	}
}

static void search_function(struct collector *c, uint32_t offset, bool block_on)
{
	struct af_function f;
	struct af_match match;
	uint64_t address, size;
	af_die_id id = (uint64_t)c->search.index->file->number << 32 | offset;

	if (!af_function_read(c->b, id, &f) || !af_die_entry(&f.dies[0], &address, &size) ||
	    address <= 1)
		return;
	/* Polls and tasks are found otherwise; so are bodies of rustc < 1.64. */
	if (af_polls_match(c->b, &f, &match) || af_polls_match_root(c->b, &f, &match) ||
	    (f.name && !strncmp(f.name, "{async_", 7)))
		return;
	c->search.found.count = 0;
	c->search.stays.polled.count = 0;
	c->search.block_ons.count = 0;
	af_places_walk(&c->search, &f.dies[0], block_on);
	add_calls(c, id, block_on);
	if (c->search.found.count && !c->b->failed)
		keep_drivers(c, &f, address, size);
}

static void add_candidate(struct collector *c, uint32_t offset, bool block_on)
{
	struct candidate *candidate = vector_push(&c->candidates);

	if (candidate)
		*candidate = (struct candidate){offset, block_on};
	else
		c->b->failed = true;
}

static int compare_candidates(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return y->block_on - x->block_on; /* the one that says so first */
}

static void search_file(struct collector *c, const struct af_index *index)
{
	const struct af_builder *b = c->b;
	uint64_t number = index->file->number;
	uint32_t last = 0;

	c->search.index = index;
	c->search.next = 0;
	c->candidates.count = 0;
	for (size_t i = 0; i < index->instances.count; i++)
		add_candidate(c, index->instances.items[i].function, false);
	for (size_t i = 0; i < c->callers.count; i++)
		if (c->callers.items[i].function >> 32 == number)
			add_candidate(c, (uint32_t)c->callers.items[i].function, false);
	for (size_t i = 0; i < b->block_ons.count; i++)
		if (b->block_ons.items[i] >> 32 == number)
			add_candidate(c, (uint32_t)b->block_ons.items[i], true);
	vector_sort(&c->candidates, compare_candidates);
	for (size_t i = 0; i < c->candidates.count && !b->failed; i++) {
		const struct candidate *candidate = &c->candidates.items[i];
		if (candidate->offset != last)
			search_function(c, candidate->offset, candidate->block_on);
		last = candidate->offset;
	}
}

static int compare_drivers(const void *a, const void *b)
{
	const struct afm_driver *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->future < y->future ? -1 : x->future > y->future;
}

void af_drivers_collect(struct af_builder *b)
{
	struct collector c = {.b = b, .search = {.b = b}};

	af_parks_slots(b);
	af_beside_callers(b, &c.callers);
	for (size_t f = 0; f < b->info->files.count; f++)
		search_file(&c, &b->indexes[f]);
	vector_sort(&b->drivers, compare_drivers);
	for (uint32_t i = 0; i < b->drivers.count; i++) {
		const struct afm_driver *driver = &b->drivers.items[i];
		for (uint32_t k = 0; k < driver->n_places; k++)
			b->places.items[driver->first_place + k].driver = i;
	}
	af_stays_complete(b);
	af_place_search_deinit(&c.search);
	vector_deinit(&c.callers);
	vector_deinit(&c.candidates);
	vector_deinit(&c.polls);
}

/* SPDX-License-Identifier: MIT */
/*
 * Drivers: functions that poll a future without being polls themselves, as every block_on does,
 * and where in their frame that future lies. A driver's future has no task: while its thread is
 * parked, the frame is the only way to it.
 *
 * A function is a driver if it
 * - holds an inlined instance of a poll that is not inside another poll's: what is polled is that
 *   instance's `self`, whose location debug info keeps; so do other variables that point to a
 *   future of that type;
 * - or is called block_on..., or is a closure inside one: then the variables tell that point to a
 *   future of any type (`let mut f = pin!(f)`), as unoptimised code inlines nothing.
 *
 * Variables that hold a future by value are left alone: `fn block_on<F>(future: F)` hands it on,
 * and what stays behind looks like a future that has not begun.
 */
#include <dwarf.h>
#include <elf.h>
#include <stdlib.h>

#include "analysis/drivers.h"
#include "analysis/polls.h"

/* A place before its driver is known by number. */
struct found_place {
	uint32_t future;
	bool self; /* of an inlined poll */
	struct afm_place place;
};

struct scope {
	struct af_die die;
	unsigned int depth;
};

struct search {
	struct af_builder *b;
	const struct af_index *index;
	struct af_frame_place frame; /* what DW_OP_fbreg counts from */
	bool has_frame;
	bool block_on;		     /* the function that is being walked is called so */
	bool self;		     /* what is being looked at is an inlined poll's */
	size_t next;		     /* in index->polls_inlined */
	VECTOR(struct scope) scopes; /* blocks and instances around, outermost first */
	VECTOR(struct found_place) found;
	VECTOR(struct af_span) polls; /* of one future */
	struct af_map origins;	      /* DIE of an abstract poll -> future + 1, 0: none */
	struct af_map pointed;	      /* DIE of a type -> future + 1, 0: none */
};

/* The type of a variable or parameter: its own, or its origin's. */
static af_die_id type_of(struct af_builder *b, const struct af_die *die)
{
	struct af_die own = *die;

	for (int i = 0; i < AF_FUNCTION_CHAIN; i++) {
		af_die_id type = af_types_target(b, &own);
		if (type != AF_DIE_NONE)
			return type;
		if (!af_die_at(b->info, af_die_reference(&own, DW_AT_abstract_origin), &own))
			break;
	}
	return AF_DIE_NONE;
}

static uint32_t future_at(struct af_builder *b, af_die_id id)
{
	uint32_t type = id == AF_DIE_NONE ? AFM_NONE : af_types_intern(b, id);
	return type == AFM_NONE ? AFM_NONE : b->types.items[type].future;
}

/* Spares the map the types that variables point to and that are no futures. */
static bool has_futures_name(struct af_builder *b, const struct af_die *die)
{
	struct af_text name = {0};

	af_name_qualify(b, die, &name);
	uint32_t string = af_strings_find(&b->strings, af_text_get(&name));
	uint32_t type = string ? af_map_get(&b->name_types, string) : UINT32_MAX;
	b->failed |= name.failed;
	af_text_deinit(&name);
	return type != UINT32_MAX && b->types.items[type].future != AFM_NONE;
}

/* The future that a value of this type points to: X of Pin<&mut X>, &mut X, Pin<Box<X>>. */
static uint32_t pointed_future(struct search *s, af_die_id id)
{
	struct af_die die;
	bool wrapped;
	uint32_t known = af_map_get(&s->pointed, id);

	if (known != UINT32_MAX)
		return known - 1;
	af_die_id target = id;
	if (!strncmp(af_die_name(s->b, id), "Pin<", 4))
		target = af_die_first_member(s->b, id);
	target = af_die_unwrap_gen_future(s->b, af_die_pointee(s->b, target), &wrapped);
	uint32_t future = AFM_NONE;
	if (af_die_at(s->b->info, target, &die) && die.abbrev->tag == DW_TAG_structure_type &&
	    has_futures_name(s->b, &die))
		future = future_at(s->b, target);
	af_map_set(&s->pointed, id, future + 1);
	return future;
}

/* The future that an inlined instance polls, AFM_NONE if it is no poll. */
static uint32_t polled_future(struct search *s, const struct af_die *instance)
{
	af_die_id origin = af_die_reference(instance, DW_AT_abstract_origin);
	uint32_t known = af_map_get(&s->origins, origin), future = AFM_NONE;
	struct af_function f;
	struct af_match match = {0};

	if (known != UINT32_MAX)
		return known - 1;
	if (af_function_read(s->b, origin, &f) && af_polls_match(s->b, &f, &match))
		future = future_at(s->b, match.future);
	af_map_set(&s->origins, origin, future + 1);
	return future;
}

/* Whether an unwinder knows what this register was in a frame that has called others. */
static bool is_kept(const struct af_builder *b, unsigned int base)
{
	if (base == AF_FRAME_CFA)
		return true;
	if (b->object->machine == EM_AARCH64)
		return base >= 19 && base <= 31;
	return base == 3 || base == 6 || base == 7 || (base >= 12 && base <= 15);
}

static void add_place(struct search *s, uint32_t future, uint64_t start, uint64_t end,
		      const struct af_frame_place *at)
{
	if (start <= 1 || start >= end)
		return;
	struct found_place *found = vector_push(&s->found);
	if (!found) {
		s->b->failed = true;
		return;
	}
	*found = (struct found_place){
		.future = future,
		.self = s->self,
		.place = {.start = start,
			  .end = end,
			  .offset = at->offset,
			  .then = at->then,
			  .base = (uint16_t)(at->base == AF_FRAME_CFA ? AFM_B_CFA : at->base),
			  .flags = at->indirect ? AFM_PL_POINTER : 0},
	};
}

/* A place that holds in all of a variable's scope: the innermost one around that has code. */
static void add_in_scope(struct search *s, uint32_t future, const struct af_frame_place *at)
{
	struct af_ranges ranges;
	uint64_t start, end;

	for (size_t i = s->scopes.count; i-- > 0;) {
		if (!af_ranges_start(&ranges, &s->scopes.items[i].die))
			continue;
		while (af_ranges_next(&ranges, &start, &end))
			add_place(s, future, start, end, at);
		return;
	}
}

/* Every place of a variable that points to `future`. */
static void add_places(struct search *s, uint32_t future, const struct af_die *die)
{
	struct af_locations l;
	struct af_frame_place at;

	if (!af_locations_start(&l, die))
		return;
	while (af_locations_next(&l)) {
		if (!af_location_place(l.code, l.size, s->has_frame ? &s->frame : NULL, &at) ||
		    !is_kept(s->b, at.base))
			continue;
		/* The variable is the pointer: in memory, it is one step further. */
		if (!at.value) {
			if (at.indirect)
				continue;
			at.indirect = true;
		}
		if (l.to == UINT64_MAX)
			add_in_scope(s, future, &at);
		else
			add_place(s, future, l.from, l.to, &at);
	}
}

/* `self` of an inlined poll: its first parameter. */
static void see_self(struct search *s, uint32_t future, const struct af_die *instance)
{
	struct af_walk walk;
	struct af_die child;
	unsigned int depth;

	af_walk_start(&walk, instance);
	while (af_walk_next(&walk, &child, &depth)) {
		if (child.abbrev->tag == DW_TAG_formal_parameter) {
			s->self = true;
			add_places(s, future, &child);
			s->self = false;
			return;
		}
		af_walk_skip_children(&walk);
	}
}

static void enter_scope(struct search *s, const struct af_die *die, unsigned int depth)
{
	struct scope *scope = vector_push(&s->scopes);

	if (scope)
		*scope = (struct scope){*die, depth};
	else
		s->b->failed = true;
}

/* Whether the index pass has noted this inlined instance as perhaps a poll's. They come in the
   same order as DIEs do. */
static bool is_noted(struct search *s, uint32_t offset)
{
	while (s->next < s->index->polls_inlined.count &&
	       s->index->polls_inlined.items[s->next].offset < offset)
		s->next++;
	return s->next < s->index->polls_inlined.count &&
	       s->index->polls_inlined.items[s->next].offset == offset;
}

static void walk_function(struct search *s, const struct af_die *function)
{
	struct af_walk walk;
	struct af_die die;
	unsigned int depth;
	uint32_t future;

	enter_scope(s, function, 0);
	af_walk_start(&walk, function);
	while (af_walk_next(&walk, &die, &depth) && !s->b->failed) {
		while (s->scopes.count && s->scopes.items[s->scopes.count - 1].depth >= depth)
			s->scopes.count--;
		switch (die.abbrev->tag) {
		case DW_TAG_inlined_subroutine:
			enter_scope(s, &die, depth);
			if (!is_noted(s, die.offset))
				break;
			future = polled_future(s, &die);
			if (future == AFM_NONE)
				break;
			see_self(s, future, &die);
			af_walk_skip_children(&walk);
			break;
		case DW_TAG_lexical_block:
			enter_scope(s, &die, depth);
			break;
		case DW_TAG_variable:
		case DW_TAG_formal_parameter:
			future = pointed_future(s, type_of(s->b, &die));
			if (future != AFM_NONE)
				add_places(s, future, &die);
			break;
		case DW_TAG_subprogram:
			af_walk_skip_children(&walk);
		}
	}
	s->scopes.count = 0;
}

static void read_frame_base(struct search *s, const struct af_die *function)
{
	struct af_value value;

	s->has_frame = af_die_attribute(function, DW_AT_frame_base, &value) && value.data &&
		       af_location_place(value.data, value.size, NULL, &s->frame) &&
		       !s->frame.indirect;
}

static int compare_places(const void *a, const void *b)
{
	const struct found_place *x = a, *y = b;
	if (x->future != y->future)
		return x->future < y->future ? -1 : 1;
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

/* What was found in one function: a driver for each future. */
static void keep_drivers(struct search *s, const struct af_function *f, uint64_t address,
			 uint64_t size)
{
	struct af_builder *b = s->b;
	struct af_text name = {0}, shown = {0};
	struct afm_driver driver = {.address = address,
				    .size = size > UINT32_MAX ? 0 : (uint32_t)size};

	af_name_qualify(b, af_function_home(f), &name);
	af_name_display(b, af_text_get(&name), &shown);
	driver.name = af_strings_add(&b->strings, af_text_get(&shown));
	af_name_place(b, af_function_home(f), &driver.file, &driver.line);
	for (size_t i = 0; i < s->found.count;) {
		driver.future = s->found.items[i].future;
		driver.first_place = (uint32_t)b->places.count;
		driver.n_places = 0;
		s->polls.count = 0;
		for (; i < s->found.count && s->found.items[i].future == driver.future; i++) {
			const struct afm_place *place = &s->found.items[i].place;
			struct af_span *span =
				s->found.items[i].self ? vector_push(&s->polls) : NULL;
			if (span)
				*span = (struct af_span){place->start, place->end};
			keep_place(b, &driver, place);
		}
		af_drivers_extend(b, &f->dies[0], &driver, s->polls.items, s->polls.count);
		struct afm_driver *kept = builder_push(b, drivers);
		if (kept)
			*kept = driver;
	}
	s->found.count = 0;
	b->failed |= name.failed | shown.failed;
	af_text_deinit(&name);
	af_text_deinit(&shown);
}

/* Places of futures that nothing in the function polls are of no use, but in a block_on: there
   something that it calls does. */
static void drop_unpolled(struct search *s)
{
	size_t kept = 0, n = s->found.count;

	vector_sort(&s->found, compare_places);
	for (size_t i = 0, end; i < n; i = end) {
		bool polled = s->block_on;
		for (end = i; end < n && s->found.items[end].future == s->found.items[i].future;
		     end++)
			polled |= s->found.items[end].self;
		for (size_t k = i; polled && k < end; k++)
			s->found.items[kept++] = s->found.items[k];
	}
	s->found.count = kept;
}

static void search_function(struct search *s, uint32_t offset, bool block_on)
{
	struct af_function f;
	struct af_match match;
	uint64_t address, size;

	if (!af_function_read(s->b, (uint64_t)s->index->file->number << 32 | offset, &f) ||
	    !af_die_entry(&f.dies[0], &address, &size) || address <= 1)
		return;
	/* Polls and tasks are found otherwise; so are bodies of rustc < 1.64. */
	if (af_polls_match(s->b, &f, &match) || af_polls_match_root(s->b, &f, &match) ||
	    (f.name && !strncmp(f.name, "{async_", 7)))
		return;
	read_frame_base(s, &f.dies[0]);
	s->block_on = block_on;
	walk_function(s, &f.dies[0]);
	drop_unpolled(s);
	if (s->found.count && !s->b->failed)
		keep_drivers(s, &f, address, size);
}

static int compare_drivers(const void *a, const void *b)
{
	const struct afm_driver *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->future < y->future ? -1 : x->future > y->future;
}

/* Functions that hold inlined polls, and those of `block_ons`, in the order of their DIEs. */
static void search_file(struct search *s, const af_die_id *block_ons, size_t n)
{
	const struct af_index *index = s->index;
	uint64_t file = (uint64_t)index->file->number << 32;
	size_t i = 0, k = 0;
	uint32_t last = 0;

	s->next = 0;
	while (k < n && block_ons[k] < file)
		k++;
	while (!s->b->failed) {
		uint32_t a = i < index->polls_inlined.count ? index->polls_inlined.items[i].function
							    : UINT32_MAX;
		uint32_t b = k < n && block_ons[k] >> 32 == index->file->number
				     ? (uint32_t)block_ons[k]
				     : UINT32_MAX;
		uint32_t offset = a < b ? a : b;
		if (offset == UINT32_MAX)
			break;
		if (b <= a)
			k++;
		else
			i++;
		if (offset != last)
			search_function(s, offset, b <= a);
		last = offset;
	}
}

void af_drivers_collect(struct af_builder *b)
{
	struct search s = {.b = b};

	for (size_t f = 0; f < b->info->files.count; f++) {
		s.index = &b->indexes[f];
		search_file(&s, b->block_ons.items, b->block_ons.count);
	}
	vector_sort(&b->drivers, compare_drivers);
	for (uint32_t i = 0; i < b->drivers.count; i++) {
		const struct afm_driver *driver = &b->drivers.items[i];
		for (uint32_t k = 0; k < driver->n_places; k++)
			b->places.items[driver->first_place + k].driver = i;
	}
	b->failed |= s.origins.failed | s.pointed.failed;
	af_map_deinit(&s.origins);
	af_map_deinit(&s.pointed);
	vector_deinit(&s.scopes);
	vector_deinit(&s.found);
	vector_deinit(&s.polls);
}

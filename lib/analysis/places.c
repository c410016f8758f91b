/* SPDX-License-Identifier: MIT */
/*
 * The places of futures in one function's frame, from its debug info: `self` of inlined polls, and
 * variables that are a future or point to one.
 */
#include <dwarf.h>
#include <elf.h>

#include "analysis/drivers.h"
#include "analysis/polls.h"

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

/* The future that a type is; AFM_NONE if it is none. */
static uint32_t future_of(struct af_place_search *s, af_die_id id)
{
	struct af_die die;
	bool wrapped;

	id = af_die_unwrap_gen_future(s->b, id, &wrapped);
	if (!af_die_at(s->b->info, id, &die) || die.abbrev->tag != DW_TAG_structure_type ||
	    !has_futures_name(s->b, &die))
		return AFM_NONE;
	return future_at(s->b, id);
}

/* The future that a value of this type is, or points to: X of Pin<&mut X>, &mut X, Pin<Box<X>>. */
static uint32_t known_future(struct af_place_search *s, af_die_id id, bool pointer)
{
	struct af_map *map = pointer ? &s->pointed : &s->valued;
	uint32_t known = id == AF_DIE_NONE ? 0 : af_map_get(map, id);

	if (known != UINT32_MAX)
		return known - 1;
	af_die_id target = id;
	if (pointer && !strncmp(af_die_name(s->b, id), "Pin<", 4))
		target = af_die_first_member(s->b, id);
	if (pointer)
		target = af_die_pointee(s->b, target);
	uint32_t future = future_of(s, target);
	af_map_set(map, id, future + 1);
	return future;
}

/* What an inlined instance is of: a poll of a future, which is given, plus 1; AF_BLOCK_ON; else 0. */
static uint32_t read_origin(struct af_place_search *s, af_die_id origin)
{
	uint32_t known = origin == AF_DIE_NONE ? 0 : af_map_get(&s->origins, origin);
	struct af_function f;
	struct af_match match = {0};

	if (known != UINT32_MAX)
		return known;
	known = 0;
	if (af_function_read(s->b, origin, &f)) {
		if (af_function_is_block_on(s->b, &f)) {
			known = AF_BLOCK_ON;
		} else if (af_polls_match(s->b, &f, &match)) {
			uint32_t type = af_match_type(s->b, &match);
			known = type == AFM_NONE ? 0 : s->b->types.items[type].future + 1;
		}
	}
	af_map_set(&s->origins, origin, known);
	return known;
}

bool af_frame_keeps(const struct af_builder *b, unsigned int base)
{
	if (base == AF_FRAME_CFA)
		return true;
	if (b->object->machine == EM_AARCH64)
		return base >= 19 && base <= 31;
	return base == 3 || base == 6 || base == 7 || (base >= 12 && base <= 15);
}

static void add_place(struct af_place_search *s, const struct af_place_source *source,
		      uint64_t start, uint64_t end, const struct af_frame_place *at)
{
	if (start <= 1 || start >= end)
		return;
	struct af_found_place *found = vector_push(&s->found);
	if (!found) {
		s->b->failed = true;
		return;
	}
	*found = (struct af_found_place){
		.source = *source,
		.block_on = s->scopes.items[s->scopes.count - 1].block_on,
		.place = {.start = start,
			  .end = end,
			  .offset = at->offset,
			  .then = at->then,
			  .base = (uint16_t)(at->base == AF_FRAME_CFA ? AFM_B_CFA : at->base),
			  .flags = at->indirect ? AFM_PL_POINTER : 0},
	};
}

/* A place that holds in all of a variable's scope: the innermost one around that has code. */
static void add_in_scope(struct af_place_search *s, const struct af_place_source *source,
			 const struct af_frame_place *at)
{
	struct af_ranges ranges;
	uint64_t start, end;

	for (size_t i = s->scopes.count; i-- > 0;) {
		if (!af_ranges_start(&ranges, &s->scopes.items[i].die))
			continue;
		while (af_ranges_next(&ranges, &start, &end))
			add_place(s, source, start, end, at);
		return;
	}
}

/* Every place of a variable. */
static void add_places(struct af_place_search *s, const struct af_place_source *source,
		       const struct af_die *die)
{
	struct af_locations l;
	struct af_frame_place at;

	if (!af_locations_start(&l, die))
		return;
	while (af_locations_next(&l)) {
		if (!af_location_place(l.code, l.size, s->has_frame ? &s->frame : NULL, &at) ||
		    !af_frame_keeps(s->b, at.base))
			continue;
		/* A future in registers cannot be polled. A pointer in memory is one step more. */
		if (source->how >= AF_SOURCE_VARIABLE && at.value)
			continue;
		if (source->how < AF_SOURCE_VARIABLE && !at.value) {
			if (at.indirect)
				continue;
			at.indirect = true;
		}
		if (l.to == UINT64_MAX)
			add_in_scope(s, source, &at);
		else
			add_place(s, source, l.from, l.to, &at);
	}
}

static void note_block_on(struct af_place_search *s, const struct af_die *instance,
			  af_die_id origin)
{
	struct af_block_on_code code = {.block_on = origin};
	struct af_ranges ranges;

	if (!af_ranges_start(&ranges, instance))
		return;
	while (af_ranges_next(&ranges, &code.span.start, &code.span.end)) {
		struct af_block_on_code *added = vector_push(&s->block_ons);
		s->b->failed |= !added;
		if (added)
			*added = code;
	}
}

static void note_polled(struct af_place_search *s, const struct af_die *instance)
{
	struct af_ranges ranges;
	struct af_code_span span;

	if (!af_ranges_start(&ranges, instance))
		return;
	while (af_ranges_next(&ranges, &span.start, &span.end)) {
		struct af_code_span *added = vector_push(&s->stays.polled);
		s->b->failed |= !added;
		if (added)
			*added = span;
	}
}

/* `self` of an inlined poll: its first parameter, or what that has become (function.c). */
static void see_self(struct af_place_search *s, uint32_t future, const struct af_die *instance)
{
	struct af_walk walk;
	struct af_die child;
	unsigned int depth;

	af_walk_start(&walk, instance);
	while (af_walk_next(&walk, &child, &depth)) {
		if ((child.abbrev->tag == DW_TAG_formal_parameter ||
		     child.abbrev->tag == DW_TAG_variable) &&
		    !strncmp(af_die_name(s->b, type_of(s->b, &child)), "Pin<&mut ", 9)) {
			add_places(s, &(struct af_place_source){future, AF_SOURCE_SELF}, &child);
			return;
		}
		af_walk_skip_children(&walk);
	}
}

static void see_variable(struct af_place_search *s, const struct af_die *die)
{
	af_die_id type = type_of(s->b, die);
	struct af_place_source source = {known_future(s, type, true), AF_SOURCE_POINTER};

	if (source.future != AFM_NONE)
		add_places(s, &source, die);
	source.future = known_future(s, type, false);
	source.how = die->abbrev->tag == DW_TAG_variable ? AF_SOURCE_VARIABLE : AF_SOURCE_PARAMETER;
	if (source.future != AFM_NONE)
		add_places(s, &source, die);
}

static void enter_scope(struct af_place_search *s, const struct af_die *die, unsigned int depth,
			af_die_id block_on)
{
	size_t n = s->scopes.count;
	struct af_scope *scope = vector_push(&s->scopes);

	if (!scope) {
		s->b->failed = true;
		return;
	}
	if (n && s->scopes.items[n - 1].block_on != AF_DIE_NONE)
		block_on = s->scopes.items[n - 1].block_on;
	*scope = (struct af_scope){*die, depth, block_on};
}

/* Whether the index pass has noted this inlined instance. They come in the same order as DIEs do. */
static bool is_noted(struct af_place_search *s, uint32_t offset)
{
	while (s->next < s->index->instances.count &&
	       s->index->instances.items[s->next].offset < offset)
		s->next++;
	return s->next < s->index->instances.count &&
	       s->index->instances.items[s->next].offset == offset;
}

static void read_frame_base(struct af_place_search *s, const struct af_die *function)
{
	struct af_value value;

	s->has_frame = af_die_attribute(function, DW_AT_frame_base, &value) && value.data &&
		       af_location_place(value.data, value.size, NULL, &s->frame) &&
		       !s->frame.indirect;
}

/* An inlined instance. False if what is in it says nothing: it is a poll. */
static bool see_instance(struct af_place_search *s, const struct af_die *die, unsigned int depth)
{
	af_die_id origin = AF_DIE_NONE;
	uint32_t is = 0;

	if (is_noted(s, die->offset)) {
		origin = af_die_reference(die, DW_AT_abstract_origin);
		is = read_origin(s, origin);
	}
	enter_scope(s, die, depth, is == AF_BLOCK_ON ? origin : AF_DIE_NONE);
	if (is == AF_BLOCK_ON)
		note_block_on(s, die, origin);
	if (!is || is == AF_BLOCK_ON || s->b->failed)
		return true;
	see_self(s, is - 1, die);
	note_polled(s, die);
	return false;
}

void af_places_walk(struct af_place_search *s, const struct af_die *function, bool block_on)
{
	struct af_walk walk;
	struct af_die die;
	unsigned int depth;

	read_frame_base(s, function);
	enter_scope(s, function, 0, block_on ? af_die_id_of(function) : AF_DIE_NONE);
	af_walk_start(&walk, function);
	while (af_walk_next(&walk, &die, &depth) && !s->b->failed) {
		while (s->scopes.count && s->scopes.items[s->scopes.count - 1].depth >= depth)
			s->scopes.count--;
		switch (die.abbrev->tag) {
		case DW_TAG_inlined_subroutine:
			if (!see_instance(s, &die, depth))
				af_walk_skip_children(&walk);
			break;
		case DW_TAG_lexical_block:
			enter_scope(s, &die, depth, AF_DIE_NONE);
			break;
		case DW_TAG_variable:
		case DW_TAG_formal_parameter:
			see_variable(s, &die);
			break;
		case DW_TAG_subprogram:
			af_walk_skip_children(&walk);
		}
	}
	s->scopes.count = 0;
}

void af_place_search_deinit(struct af_place_search *s)
{
	s->b->failed |= s->origins.failed | s->pointed.failed | s->valued.failed;
	af_map_deinit(&s->origins);
	af_map_deinit(&s->pointed);
	af_map_deinit(&s->valued);
	vector_deinit(&s->scopes);
	vector_deinit(&s->found);
	vector_deinit(&s->block_ons);
	vector_deinit(&s->stays.polled);
	vector_deinit(&s->stays.places);
}

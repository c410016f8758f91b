/* SPDX-License-Identifier: MIT */
/*
 * The index pass: a linear decoder over .debug_info.
 *
 * A DIE is visited once, in the order of the bytes, and costs little more than finding its
 * end: its abbreviation says how (abbrev.c compiles that). Only namespaces, structures,
 * subprograms, variables outside functions and inlined instances are looked at, and of those
 * only a name, an origin and the presence of an address are read. What is kept is an offset
 * and a class, 8 bytes; the second pass reads it again with die.c. libdw's tree walk takes 6 to
 * 10 times as long over the same bytes, since it decodes a subtree once per level.
 *
 * Names are what costs most after that, since they lie all over .debug_str. The linker has
 * merged equal ones, so the places of names that mean nothing here are remembered.
 *
 * Parents are known while walking, so namespaces are kept as extents: the path of any DIE can
 * then be found from its offset (names.c).
 *
 * Units are independent of each other; index.c lets several threads walk some each.
 */
#include <dwarf.h>

#include "analysis/fingerprint.h"
#include "analysis/scan.h"

/* Where an attribute of a DIE lies whose attributes were passed already. */
static inline const uint8_t *at_place(const struct af_scanner *s, const struct af_abbrev *abbrev,
				      const struct af_place *place, const uint8_t *attributes)
{
	if (place->steps)
		attributes = af_skip_first(s->unit, abbrev, place->steps, attributes, s->end);
	return attributes + place->fixed;
}

/* The value of an attribute that the abbreviation has noted, or form 0. */
static void value_at(const struct af_scanner *s, const struct af_abbrev *abbrev,
		     const struct af_place *place, const uint8_t *attributes,
		     struct af_value *value)
{
	const struct af_abbrevs *table = s->unit->abbrevs;
	struct af_bytes b = {attributes, s->end, false};

	*value = (struct af_value){0};
	if (place->attribute == UINT32_MAX)
		return;
	b.pos = at_place(s, abbrev, place, attributes);
	af_form_read(s->unit, &b, &table->attributes.items[place->attribute], value);
	if (b.failed)
		*value = (struct af_value){0};
}

/* Of a plain name, its offset in .debug_str. */
static inline uint32_t name_at(const struct af_scanner *s, const struct af_abbrev *abbrev,
			       const uint8_t *attributes)
{
	uint32_t offset;

	memcpy(&offset, at_place(s, abbrev, &abbrev->name, attributes), sizeof(offset));
	return offset;
}

/* The name of a DIE whose attributes were passed already, or NULL. */
static const char *name_of(const struct af_scanner *s, const struct af_abbrev *abbrev,
			   const uint8_t *attributes)
{
	const struct af_section *strings = &s->unit->file->sections[AF_SEC_STR];
	struct af_value value;
	uint32_t offset;

	if (abbrev->plain_name) {
		offset = name_at(s, abbrev, attributes);
		return offset < strings->terminated ? (const char *)strings->data + offset : NULL;
	}
	value_at(s, abbrev, &abbrev->name, attributes, &value);
	return value.form ? af_value_string(s->unit, &value) : NULL;
}

static const char *string_at(const struct af_scanner *s, uint32_t offset)
{
	const struct af_section *strings = &s->unit->file->sections[AF_SEC_STR];
	return offset < strings->terminated ? (const char *)strings->data + offset : "";
}

static inline uint32_t *dull_slot(struct af_scanner *s, uint32_t offset)
{
	return &s->dull[offset * UINT32_C(2654435769) >> (32 - AF_SCAN_DULL_BITS)];
}

/* What the name at this offset of .debug_str may be: 0 for most. */
static uint32_t class_at(struct af_scanner *s, uint32_t offset)
{
	uint32_t class = af_name_class(string_at(s, offset));
	if (!class)
		*dull_slot(s, offset) = offset;
	return class;
}

/* What the name of a DIE may be. */
static inline uint32_t class_of(struct af_scanner *s, const struct af_abbrev *abbrev,
				const uint8_t *attributes)
{
	uint32_t offset;

	if (abbrev->plain_name) {
		offset = name_at(s, abbrev, attributes);
		return *dull_slot(s, offset) == offset ? 0 : class_at(s, offset);
	}
	const char *name = name_of(s, abbrev, attributes);
	return name ? af_name_class(name) : 0;
}

/* Where an origin or specification leads: an offset in this file, AF_ORIGIN_ELSEWHERE, or
   AF_ORIGIN_NONE. */
static inline uint32_t origin_of(const struct af_scanner *s, const struct af_abbrev *abbrev,
				 const uint8_t *attributes)
{
	struct af_value value;
	uint32_t offset;

	if (abbrev->plain_origin) {
		memcpy(&offset, at_place(s, abbrev, &abbrev->origin, attributes), sizeof(offset));
		return offset < s->unit->end - s->unit->offset ? s->unit->offset + offset
							       : AF_ORIGIN_NONE;
	}
	value_at(s, abbrev, &abbrev->origin, attributes, &value);
	af_die_id id = value.form ? af_value_reference(s->unit, &value) : AF_DIE_NONE;
	if (id == AF_DIE_NONE)
		return AF_ORIGIN_NONE;
	return id >> 32 == s->unit->file->number ? (uint32_t)id : AF_ORIGIN_ELSEWHERE;
}

static bool add_found(struct af_scanner *s, uint32_t offset, uint32_t what)
{
	struct af_found *found = vector_push(&s->part->functions);
	if (!found)
		return false;
	*found = (struct af_found){offset, what};
	return true;
}

/* A function that must be looked for at its origin: most of them are nothing. */
static bool add_unnamed(struct af_scanner *s, uint32_t offset, uint32_t what, uint32_t origin)
{
	if (origin == AF_ORIGIN_NONE)
		return true;
	struct af_unnamed *unnamed = vector_push(&s->part->unnamed);
	if (!unnamed)
		return false;
	*unnamed = (struct af_unnamed){offset, what | AF_FOUND_UNNAMED, origin};
	return true;
}

static bool add_type(struct af_scanner *s, const struct af_pending *type, uint32_t class)
{
	struct af_die die;

	/* Many types are called Cell or Context; those that are wanted lie where tasks do. */
	if (!(class & (type->of_tasks ? AF_NAME_COROUTINE | AF_NAME_LAYOUT : AF_NAME_COROUTINE)) ||
	    !af_die_in(s->unit, type->offset, &die))
		return true;
	struct af_found_type *found = vector_push(&s->part->types);
	if (!found)
		return false;
	found->offset = type->offset;
	if (class & AF_NAME_COROUTINE) {
		found->what = AF_FOUND_COROUTINE;
		found->key = af_copy_key(type->path, &die);
	} else {
		found->what = AF_FOUND_LAYOUT;
		found->key = af_copy_head(type->path, &die);
	}
	return true;
}

static bool settle(struct af_scanner *s, const struct af_pending *pending)
{
	uint32_t class = class_at(s, pending->name);
	if (pending->type)
		return add_type(s, pending, class);
	if (class & AF_NAME_FUNCTION)
		af_bits_set(s->index->named, pending->offset);
	return true;
}

static inline bool in_tasks(const struct af_scanner *s)
{
	return s->open.count && s->open.items[s->open.count - 1].of_tasks;
}

/* The path of the namespace that we are in. */
static inline uint64_t path_of(const struct af_scanner *s)
{
	return s->part->namespaces.items[s->open.items[s->open.count - 1].index].path;
}

/* The names of types and of declarations are nowhere near, and nobody waits for them: memory is
   asked for the name now, it is looked at some DIEs later. */
static bool look_later(struct af_scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
		       const uint8_t *attributes, bool type)
{
	struct af_pending pending = {.offset = offset,
				     .type = type,
				     .of_tasks = in_tasks(s),
				     .path = s->open.count ? path_of(s) : 0};

	if (!abbrev->plain_name) {
		uint32_t class = class_of(s, abbrev, attributes);
		if (type)
			return add_type(s, &pending, class);
		if (class & AF_NAME_FUNCTION)
			af_bits_set(s->index->named, offset);
		return true;
	}
	pending.name = name_at(s, abbrev, attributes);
	if (*dull_slot(s, pending.name) == pending.name)
		return true;
	__builtin_prefetch(string_at(s, pending.name));
	struct af_pending *slot = &s->pending[s->n_pending++ % AF_SCAN_PENDING];
	bool ok = s->n_pending <= AF_SCAN_PENDING || settle(s, slot);
	*slot = pending;
	return ok;
}

static bool settle_all(struct af_scanner *s)
{
	uint32_t n = s->n_pending;
	bool ok = true;

	for (uint32_t i = n < AF_SCAN_PENDING ? 0 : n - AF_SCAN_PENDING; i < n; i++)
		ok = settle(s, &s->pending[i % AF_SCAN_PENDING]) && ok;
	s->n_pending = 0;
	return ok;
}

/* A closure's namespace is the function that it is in. */
static bool in_block_on(const struct af_scanner *s, const struct af_abbrev *abbrev,
			const uint8_t *attributes)
{
	if (!s->open.count || !s->open.items[s->open.count - 1].of_block_on)
		return false;
	const char *name = name_of(s, abbrev, attributes);
	return name && !strncmp(name, "{closure", 8);
}

static bool has_code(const struct af_scanner *s, const struct af_abbrev *abbrev,
		     const uint8_t *attributes)
{
	struct af_value value;

	if (abbrev->has_ranges || abbrev->low_pc.attribute == UINT32_MAX)
		return abbrev->has_ranges;
	/* 0 and 1 are what linkers leave of dropped code. */
	if (abbrev->plain_low_pc) {
		uint64_t address;
		memcpy(&address, at_place(s, abbrev, &abbrev->low_pc, attributes), 8);
		return address > 1;
	}
	value_at(s, abbrev, &abbrev->low_pc, attributes, &value);
	return value.form != DW_FORM_addr || value.number > 1;
}

static bool at_subprogram(struct af_scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
			  uint32_t depth, const uint8_t *attributes)
{
	uint32_t what = abbrev->has_inline ? AF_FOUND_INLINE : 0;

	if (has_code(s, abbrev, attributes))
		what |= AF_FOUND_CONCRETE;
	bool named = abbrev->name.attribute != UINT32_MAX;
	if (!what)
		return !named || look_later(s, abbrev, offset, attributes, false);
	bool walked = (what & AF_FOUND_CONCRETE) && abbrev->children;
	if (walked) {
		s->function = offset;
		s->function_depth = depth;
	}
	if (!named)
		return abbrev->origin.attribute == UINT32_MAX ||
		       add_unnamed(s, offset, what, origin_of(s, abbrev, attributes));
	uint32_t class = class_of(s, abbrev, attributes) & AF_NAME_FUNCTION;
	if (walked && (class & AF_FOUND_ASYNC))
		s->function = 0;
	if (!class && walked && in_block_on(s, abbrev, attributes))
		class = AF_FOUND_BLOCK_ON;
	if (!class)
		return true;
	af_bits_set(s->index->named, offset);
	if ((class & AF_FOUND_BODY) && abbrev->children) {
		s->body = offset;
		s->body_depth = depth;
	}
	return add_found(s, offset, what | class);
}

static bool at_variable(struct af_scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
			const uint8_t *attributes)
{
	if (!(class_of(s, abbrev, attributes) & AF_NAME_VTABLE))
		return true;
	uint32_t *kept = vector_push(&s->part->vtables);
	if (!kept)
		return false;
	*kept = offset;
	return true;
}

/* A variable inside a coroutine's body: is it what `.await` keeps? */
static bool at_local(struct af_scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
		     const uint8_t *attributes)
{
	if (!(class_of(s, abbrev, attributes) & AF_NAME_AWAITEE))
		return true;
	struct af_awaitee *awaitee = vector_push(&s->part->awaitees);
	if (!awaitee)
		return false;
	*awaitee = (struct af_awaitee){offset, s->body};
	return true;
}

/* The same for one that does not lie in this unit. */
static bool is_poll_like_elsewhere(const struct af_scanner *s, af_die_id id)
{
	const struct af_debuginfo *info = s->unit->file->info;

	for (int i = 0; i < 3 && id != AF_DIE_NONE; i++) {
		struct af_unit *unit = af_file_unit(info->files.items[id >> 32], (uint32_t)id);
		struct af_die die;
		if (!unit || !af_die_in(unit, (uint32_t)id, &die))
			return false;
		const char *name = af_die_string(&die, DW_AT_name);
		if (name)
			return af_name_class(name) & (AF_FOUND_BODY | AF_FOUND_POLL);
		id = af_die_reference(&die, DW_AT_specification);
	}
	return false;
}

/* Whether the abstract subprogram at `offset` is named like a poll. */
static bool is_poll_like(struct af_scanner *s, uint32_t offset)
{
	for (int i = 0; i < 3 && offset < AF_ORIGIN_ELSEWHERE; i++) {
		if (offset < s->unit->first_die || offset >= s->unit->end)
			return is_poll_like_elsewhere(s, (uint64_t)s->unit->file->number << 32 |
								 offset);
		struct af_bytes b = {s->data + offset, s->end, false};
		uint64_t code = af_bytes_uleb(&b);
		const struct af_abbrev *abbrev =
			code ? af_abbrevs_find(s->unit->abbrevs, code) : NULL;
		/* Not passed yet, perhaps: its attributes may be cut off. */
		if (!abbrev || !af_attributes_end(s->unit, abbrev, b.pos, s->end))
			return false;
		if (abbrev->name.attribute != UINT32_MAX)
			return class_of(s, abbrev, b.pos) & (AF_FOUND_BODY | AF_FOUND_POLL);
		offset = origin_of(s, abbrev, b.pos);
	}
	return false;
}

static bool add_inlined_poll(struct af_scanner *s, uint32_t offset)
{
	struct af_inlined *found = vector_push(&s->part->polls_inlined);
	if (!found)
		return false;
	*found = (struct af_inlined){offset, s->function};
	return true;
}

/* Of a function in another file, as dwz makes them: its bits are set when all files were walked,
   which only the polls among them are worth. */
static bool at_inlined_elsewhere(struct af_scanner *s, const struct af_abbrev *abbrev,
				 uint32_t offset, const uint8_t *attributes)
{
	struct af_value value;

	value_at(s, abbrev, &abbrev->origin, attributes, &value);
	af_die_id id = af_value_reference(s->unit, &value);
	if (!is_poll_like_elsewhere(s, id))
		return true;
	af_die_id *kept = vector_push(&s->part->inlined_elsewhere);
	if (!kept)
		return false;
	*kept = id;
	return !s->function || add_inlined_poll(s, offset);
}

static bool at_inlined(struct af_scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
		       const uint8_t *attributes)
{
	uint32_t origin = origin_of(s, abbrev, attributes);

	if (origin == AF_ORIGIN_ELSEWHERE)
		return at_inlined_elsewhere(s, abbrev, offset, attributes);
	if (origin == AF_ORIGIN_NONE)
		return true;
	/* Whoever sees the first bit sees the second one; two threads may both look it up. */
	if (!af_bits_get(s->index->inlined, origin)) {
		if (is_poll_like(s, origin))
			af_bits_set(s->index->poll_like, origin);
		af_bits_set(s->index->inlined, origin);
	}
	return !s->function || !af_bits_get(s->index->poll_like, origin) ||
	       add_inlined_poll(s, offset);
}

static bool open_namespace(struct af_scanner *s, const struct af_abbrev *abbrev, uint32_t depth,
			   const uint8_t *attributes, const uint8_t *end)
{
	const char *name = name_of(s, abbrev, attributes);
	size_t n = s->open.count;
	uint64_t outer = n ? path_of(s) : 0;

	if (!abbrev->children)
		return true;
	struct af_namespace *space = vector_push(&s->part->namespaces);
	struct af_open_namespace *open = vector_push(&s->open);
	if (!space || !open)
		return false;
	space->name = name ? name : "";
	space->start = (uint32_t)(end - s->data);
	space->parent = n ? s->open.items[n - 1].index : UINT32_MAX;
	space->path = af_mix(outer, (uintptr_t)space->name);
	open->index = (uint32_t)s->part->namespaces.count - 1;
	open->depth = depth + 1;
	open->of_tasks = (n && s->open.items[n - 1].of_tasks) || !strcmp(space->name, "task") ||
			 !strcmp(space->name, "async_task");
	open->of_block_on = !strncmp(space->name, "block_on", 8);
	return true;
}

static void close_namespaces(struct af_scanner *s, uint32_t depth, uint32_t offset)
{
	while (s->open.count && s->open.items[s->open.count - 1].depth > depth) {
		uint32_t index = s->open.items[--s->open.count].index;
		s->part->namespaces.items[index].end = offset;
	}
}

/* Whether a structure can be a coroutine's state, whose first child is the part with its variants:
   so that most names need not be looked at. `end` is that of its attributes. */
static inline bool may_be_coroutine(const struct af_scanner *s, const struct af_abbrev *abbrev,
				    const uint8_t *end)
{
	if (!abbrev->children)
		return true; /* it may be described elsewhere */
	struct af_bytes b = {end, s->end, false};
	const struct af_abbrev *child = af_abbrevs_find(s->unit->abbrevs, af_bytes_uleb(&b));
	return child && child->tag == DW_TAG_variant_part;
}

/* What the pass does at a DIE that is not simply passed over. False when memory is short. */
static bool at_die(struct af_scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
		   uint32_t depth, const uint8_t *attributes, const uint8_t *end)
{
	switch (abbrev->role) {
	case AF_ROLE_NAMESPACE:
		if (abbrev->children)
			s->inner = depth + 1;
		return open_namespace(s, abbrev, depth, attributes, end);
	case AF_ROLE_TYPE:
		return (!in_tasks(s) && !may_be_coroutine(s, abbrev, end)) ||
		       look_later(s, abbrev, offset, attributes, true);
	case AF_ROLE_SUBPROGRAM:
		return at_subprogram(s, abbrev, offset, depth, attributes);
	case AF_ROLE_VARIABLE:
		if (depth == s->inner)
			return at_variable(s, abbrev, offset, attributes);
		return !s->body || at_local(s, abbrev, offset, attributes);
	case AF_ROLE_INLINED:
		return at_inlined(s, abbrev, offset, attributes);
	default:
		return true;
	}
}

/* The children of a DIE at `depth` have ended, in front of `offset`. */
static void leave(struct af_scanner *s, uint32_t depth, uint32_t offset)
{
	if (depth <= s->body_depth)
		s->body = 0;
	if (depth <= s->function_depth)
		s->function = 0;
	if (depth && depth < s->inner) {
		close_namespaces(s, depth, offset);
		s->inner = s->open.count ? s->open.items[s->open.count - 1].depth : 1;
	}
}

bool af_scan_unit(struct af_scanner *s, struct af_unit *unit)
{
	const uint8_t *data = s->data, *pos = data + unit->first_die, *end = data + unit->end;
	const struct af_abbrev *abbrevs = unit->abbrevs->items.items;
	size_t n_abbrevs = unit->abbrevs->dense ? unit->abbrevs->items.count : 0;
	uint64_t n = 0;
	uint32_t depth = 0;
	bool ok = true;

	s->unit = unit;
	s->end = end;
	s->body = s->function = 0;
	s->inner = 1;
	while (ok && pos < end) {
		const uint8_t *start = pos;
		uint64_t code = *pos++;
		if (!code) {
			if (depth)
				leave(s, --depth, (uint32_t)(pos - data));
			continue;
		}
		if (code >= 0x80) {
			struct af_bytes b = {start, end, false};
			code = af_bytes_uleb(&b);
			pos = b.pos;
		}
		const struct af_abbrev *abbrev = code - 1 < n_abbrevs
							 ? &abbrevs[code - 1]
							 : af_abbrevs_find(unit->abbrevs, code);
		if (!abbrev) {
			s->part->n_broken++;
			break;
		}
		const uint8_t *attributes = pos;
		n++;
		pos = af_attributes_end(unit, abbrev, attributes, end);
		if (!pos) {
			s->part->n_broken++;
			break;
		}
		if (abbrev->role != AF_ROLE_SKIP)
			ok = at_die(s, abbrev, (uint32_t)(start - data), depth, attributes, pos);
		depth += abbrev->children;
	}
	s->part->n_dies += n;
	close_namespaces(s, 0, unit->end);
	return settle_all(s) && ok;
}

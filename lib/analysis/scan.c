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
 * merged equal ones, so the places of names that mean nothing here are remembered. And DIEs are
 * held for a while before they are looked at, some dozens at a time: what their names wait for memory
 * goes on meanwhile.
 *
 * Parents are known while walking, so namespaces are kept as extents: the path of any DIE can
 * then be found from its offset (names.c).
 *
 * Units are independent of each other; index.c lets several threads walk some each.
 */
#include <dwarf.h>

#include "analysis/fingerprint.h"
#include "analysis/scan_values.h"

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

static uint32_t class_of(struct af_scanner *s, const struct af_abbrev *abbrev,
			 const uint8_t *attributes)
{
	if (abbrev->plain_name) {
		uint32_t offset = name_at(s, abbrev, attributes);
		return *dull_slot(s, offset) == offset ? 0 : class_at(s, offset);
	}
	const char *name = name_of(s, abbrev, attributes);
	return name ? af_name_class(name) : 0;
}

/* What the name of a DIE may be. */
static inline uint32_t class_of_held(struct af_scanner *s, const struct af_held *d)
{
	if (d->abbrev->plain_name)
		return *dull_slot(s, d->name) == d->name ? 0 : class_at(s, d->name);
	return class_of(s, d->abbrev, d->attributes);
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

static bool at_type(struct af_scanner *s, const struct af_held *d)
{
	uint32_t class = class_of_held(s, d);
	struct af_die die;

	/* Many types are called Cell or Context; those that are wanted lie where tasks do. */
	if (!(class & (d->of_tasks ? AF_NAME_COROUTINE | AF_NAME_LAYOUT : AF_NAME_COROUTINE)))
		return true;
	struct af_found_type *found = vector_push(&s->part->types);
	if (!found)
		return false;
	die = (struct af_die){s->unit, d->abbrev, d->offset, d->attributes};
	found->offset = d->offset;
	if (class & AF_NAME_COROUTINE) {
		found->what = AF_FOUND_COROUTINE;
		found->key = af_copy_key(d->path, &die);
	} else {
		found->what = AF_FOUND_LAYOUT;
		found->key = af_copy_head(d->path, &die);
	}
	return true;
}

/* A closure's namespace is the function that it is in. */
static bool in_block_on(const struct af_scanner *s, const struct af_held *d)
{
	const char *name = d->of_block_on ? name_of(s, d->abbrev, d->attributes) : NULL;
	return name && !strncmp(name, "{closure", 8);
}

static bool at_subprogram(struct af_scanner *s, const struct af_held *d)
{
	const struct af_abbrev *abbrev = d->abbrev;
	uint32_t what = abbrev->has_inline ? AF_FOUND_INLINE : 0;

	if (has_code(s, abbrev, d->attributes))
		what |= AF_FOUND_CONCRETE;
	bool walked = (what & AF_FOUND_CONCRETE) && abbrev->children;
	if (walked) {
		s->function = d->offset;
		s->function_depth = d->depth;
	}
	if (abbrev->name.attribute == UINT32_MAX)
		return !what || abbrev->origin.attribute == UINT32_MAX ||
		       add_unnamed(s, d->offset, what, origin_of(s, abbrev, d->attributes));
	uint32_t class = class_of_held(s, d) & AF_NAME_FUNCTION;
	if (walked && (class & AF_FOUND_ASYNC))
		s->function = 0;
	if (!class && walked && in_block_on(s, d))
		class = AF_FOUND_BLOCK_ON;
	if (!class)
		return true;
	af_bits_set(s->index->named, d->offset);
	if (!what)
		return true;
	if ((class & AF_FOUND_BODY) && abbrev->children) {
		s->body = d->offset;
		s->body_depth = d->depth;
	}
	return add_found(s, d->offset, what | class);
}

/* Directly in a namespace: a vtable? Inside a coroutine's body: what `.await` keeps? */
static bool at_variable(struct af_scanner *s, const struct af_held *d)
{
	if (d->outside) {
		if (!(class_of_held(s, d) & AF_NAME_VTABLE))
			return true;
		uint32_t *kept = vector_push(&s->part->vtables);
		if (kept)
			*kept = d->offset;
		return kept;
	}
	if (!s->body || !(class_of(s, d->abbrev, d->attributes) & AF_NAME_AWAITEE))
		return true;
	struct af_awaitee *awaitee = vector_push(&s->part->awaitees);
	if (awaitee)
		*awaitee = (struct af_awaitee){d->offset, s->body};
	return awaitee;
}

/* Whether drivers.c wants to know where this was inlined: a poll, or a block_on. A closure is the latter if
   its namespace is, which is not known here, but its linkage name has it too. */
static bool is_class_wanted(uint32_t class, const struct af_die *die, const char *name)
{
	if (class & (AF_FOUND_BODY | AF_FOUND_POLL | AF_FOUND_BLOCK_ON))
		return true;
	if (!name || strncmp(name, "{closure", 8))
		return false;
	const char *linkage = af_die_string(die, DW_AT_linkage_name);
	return linkage && strstr(linkage, "block_on");
}

/* The same for one that does not lie in this unit. */
static bool is_wanted_elsewhere(const struct af_scanner *s, af_die_id id)
{
	const struct af_debuginfo *info = s->unit->file->info;

	for (int i = 0; i < 3 && id != AF_DIE_NONE; i++) {
		struct af_unit *unit = af_file_unit(info->files.items[id >> 32], (uint32_t)id);
		struct af_die die;
		if (!unit || !af_die_in(unit, (uint32_t)id, &die))
			return false;
		const char *name = af_die_string(&die, DW_AT_name);
		if (name)
			return is_class_wanted(af_name_class(name), &die, name);
		id = af_die_reference(&die, DW_AT_specification);
	}
	return false;
}

/* Whether instances of the abstract subprogram at `offset` are. */
static bool is_wanted(struct af_scanner *s, uint32_t offset)
{
	for (int i = 0; i < 3 && offset < AF_ORIGIN_ELSEWHERE; i++) {
		if (offset < s->unit->first_die || offset >= s->unit->end)
			return is_wanted_elsewhere(s,
						   (uint64_t)s->unit->file->number << 32 | offset);
		struct af_bytes b = {s->data + offset, s->end, false};
		uint64_t code = af_bytes_uleb(&b);
		const struct af_abbrev *abbrev =
			code ? af_abbrevs_find(s->unit->abbrevs, code) : NULL;
		/* Not passed yet, perhaps: its attributes may be cut off. */
		if (!abbrev || !af_attributes_end(s->unit, abbrev, b.pos, s->end))
			return false;
		if (abbrev->name.attribute != UINT32_MAX)
			return is_class_wanted(class_of(s, abbrev, b.pos),
					       &(struct af_die){s->unit, abbrev, offset, b.pos},
					       name_of(s, abbrev, b.pos));
		offset = origin_of(s, abbrev, b.pos);
	}
	return false;
}

static bool add_instance(struct af_scanner *s, uint32_t offset)
{
	struct af_inlined *found = vector_push(&s->part->instances);
	if (!found)
		return false;
	*found = (struct af_inlined){offset, s->function};
	return true;
}

/* Of a function in another file, as dwz makes them: its bits are set when all files were walked,
   which only the polls among them are worth. */
static bool at_inlined_elsewhere(struct af_scanner *s, const struct af_held *d)
{
	struct af_value value;

	value_at(s, d->abbrev, &d->abbrev->origin, d->attributes, &value);
	af_die_id id = af_value_reference(s->unit, &value);
	if (!is_wanted_elsewhere(s, id))
		return true;
	af_die_id *kept = vector_push(&s->part->inlined_elsewhere);
	if (!kept)
		return false;
	*kept = id;
	return !s->function || add_instance(s, d->offset);
}

static bool at_inlined(struct af_scanner *s, const struct af_held *d)
{
	uint32_t origin = origin_of(s, d->abbrev, d->attributes);

	if (origin == AF_ORIGIN_ELSEWHERE)
		return at_inlined_elsewhere(s, d);
	if (origin == AF_ORIGIN_NONE)
		return true;
	/* Whoever sees the first bit sees the second one; two threads may both look it up. */
	if (!af_bits_get(s->index->inlined, origin)) {
		if (is_wanted(s, origin))
			af_bits_set(s->index->wanted, origin);
		af_bits_set(s->index->inlined, origin);
	}
	return !s->function || !af_bits_get(s->index->wanted, origin) || add_instance(s, d->offset);
}

/* Looks at what is held. False when memory is short. */
static bool look(struct af_scanner *s)
{
	bool ok = true;

	for (uint32_t i = 0; i < s->n_held && ok; i++) {
		const struct af_held *d = &s->held[i];
		if (d->left <= s->body_depth)
			s->body = 0;
		if (d->left <= s->function_depth)
			s->function = 0;
		switch (d->abbrev->role) {
		case AF_ROLE_TYPE:
			ok = at_type(s, d);
			break;
		case AF_ROLE_SUBPROGRAM:
			ok = at_subprogram(s, d);
			break;
		case AF_ROLE_VARIABLE:
			ok = at_variable(s, d);
			break;
		default:
			ok = at_inlined(s, d);
		}
	}
	s->n_held = 0;
	return ok;
}

/* The path of the namespace that we are in. */
static inline uint64_t path_of(const struct af_scanner *s)
{
	return s->part->namespaces.items[s->open.items[s->open.count - 1].index].path;
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

/* Keeps a DIE to be looked at, and asks memory for its name. False when memory is short. */
static bool hold(struct af_scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
		 uint32_t depth, const uint8_t *attributes)
{
	const struct af_open_namespace *in =
		s->open.count ? &s->open.items[s->open.count - 1] : NULL;
	struct af_held *d = &s->held[s->n_held];

	*d = (struct af_held){
		.abbrev = abbrev,
		.attributes = attributes,
		.path = in ? path_of(s) : 0,
		.offset = offset,
		.depth = depth,
		.left = s->left,
		.of_tasks = in && in->of_tasks,
		.of_block_on = in && in->of_block_on,
		.outside = depth == s->inner,
	};
	/* Of variables inside functions few are looked at. */
	if (abbrev->plain_name && (abbrev->role != AF_ROLE_VARIABLE || d->outside)) {
		d->name = name_at(s, abbrev, attributes);
		if (*dull_slot(s, d->name) != d->name)
			__builtin_prefetch(string_at(s, d->name));
		else if (abbrev->role == AF_ROLE_TYPE)
			return true;
	}
	s->left = UINT32_MAX;
	return ++s->n_held < AF_SCAN_HELD || look(s);
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
		if ((!s->open.count || !s->open.items[s->open.count - 1].of_tasks) &&
		    !may_be_coroutine(s, abbrev, end))
			return true;
		/* fall through */
	default:
		return hold(s, abbrev, offset, depth, attributes);
	}
}

/* The children of a DIE at `depth` have ended, in front of `offset`. */
static inline void leave(struct af_scanner *s, uint32_t depth, uint32_t offset)
{
	if (depth < s->left)
		s->left = depth;
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
	s->left = UINT32_MAX;
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
	return ok && look(s);
}

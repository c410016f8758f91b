/* SPDX-License-Identifier: MIT */
/*
 * Types: each once, though debug info repeats a type in every unit that uses it.
 *
 * What a type is, is decided by its kind, qualified name, size and a fingerprint of its own
 * members (names, places, lines), so that two types with one printed name stay two. A
 * declaration stands for the definition of that name, whichever is met first.
 *
 * A type is interned with its name and size alone; fields are read later, type after type
 * (af_types_detail), so that recursion through pointers needs no stack.
 */
#include <dwarf.h>
#include <stdio.h>

#include "analysis/build.h"
#include "analysis/fingerprint.h"

#define SEVERAL (UINT32_C(1) << 31) /* in key_types, beside an index: see identity() */

#define CHAIN_MAX 64 /* pointers to pointers, typedefs of typedefs: beyond this, broken */

/* One step from what only stands for another type: a typedef, `const T`, or the stub of a type
   that has a type unit. False if the DIE at *id is a type of its own. */
static bool stands_in(struct af_builder *b, const struct af_die *die, af_die_id *id)
{
	switch (die->abbrev->tag) {
	case DW_TAG_typedef:
	case DW_TAG_const_type:
	case DW_TAG_volatile_type:
	case DW_TAG_restrict_type:
		*id = af_die_reference(die, DW_AT_type);
		return true;
	case DW_TAG_structure_type:
	case DW_TAG_class_type:
	case DW_TAG_union_type:
	case DW_TAG_enumeration_type:
		if (!b->info->signatures.count)
			return false;
		af_die_id whole = af_die_reference(die, DW_AT_signature);
		if (whole == AF_DIE_NONE)
			return false;
		*id = whole;
		return true;
	default:
		return false;
	}
}

static af_die_id resolve(struct af_builder *b, af_die_id id)
{
	struct af_die die;

	for (int i = 0; i < CHAIN_MAX && af_die_at(b->info, id, &die); i++)
		if (!stands_in(b, &die, &id))
			return id;
	return AF_DIE_NONE;
}

af_die_id af_types_target(struct af_builder *b, const struct af_die *die)
{
	return resolve(b, af_die_reference(die, DW_AT_type));
}

static uint64_t space_path(const struct af_builder *b, const struct af_die *die)
{
	const struct af_index *index = &b->indexes[die->unit->file->number];
	uint32_t space = af_index_namespace(index, die->offset);

	return space == UINT32_MAX ? 0 : index->namespaces.items[space].path;
}

static unsigned int kind_of_base(const struct af_die *die)
{
	uint64_t encoding = 0;
	af_die_number(die, DW_AT_encoding, &encoding);
	switch (encoding) {
	case DW_ATE_boolean:
		return AFM_T_BOOL;
	case DW_ATE_float:
		return AFM_T_FLOAT;
	case DW_ATE_signed:
	case DW_ATE_signed_char:
		return AFM_T_SIGNED;
	case DW_ATE_unsigned:
	case DW_ATE_unsigned_char:
		return AFM_T_UNSIGNED;
	case DW_ATE_UTF:
		return AFM_T_CHAR;
	default:
		return AFM_T_OPAQUE;
	}
}

static int kind_of(const struct af_die *die)
{
	switch (die->abbrev->tag) {
	case DW_TAG_base_type:
		return (int)kind_of_base(die);
	case DW_TAG_pointer_type:
	case DW_TAG_reference_type:
		return AFM_T_POINTER;
	case DW_TAG_array_type:
		return AFM_T_ARRAY;
	case DW_TAG_structure_type:
	case DW_TAG_class_type:
		return AFM_T_STRUCT;
	case DW_TAG_union_type:
		return AFM_T_UNION;
	case DW_TAG_enumeration_type:
		return AFM_T_CENUM;
	case DW_TAG_subroutine_type:
		return AFM_T_FUNCTION;
	case DW_TAG_unspecified_type:
		return AFM_T_OPAQUE;
	default:
		return -1;
	}
}

static uint64_t array_length(const struct af_die *array)
{
	struct af_walk walk;
	struct af_die die;
	unsigned int depth;
	uint64_t number = 0;

	af_walk_start(&walk, array);
	while (af_walk_next(&walk, &die, &depth)) {
		if (die.abbrev->tag != DW_TAG_subrange_type)
			continue;
		if (af_die_number(&die, DW_AT_count, &number))
			return number;
		if (af_die_number(&die, DW_AT_upper_bound, &number))
			return number + 1;
	}
	return 0;
}

static uint32_t intern(struct af_builder *b, af_die_id id, int chain);

/* The name of a type that has none of its own, made of its target's. */
static void describe(struct af_builder *b, struct afm_type *type, const struct af_die *die,
		     int chain, struct af_text *text)
{
	af_die_id id = af_types_target(b, die);
	char number[32];

	type->target = id == AF_DIE_NONE ? AFM_NONE : intern(b, id, chain + 1);
	const char *target =
		type->target == AFM_NONE
			? "()"
			: af_strings_get(&b->strings, b->types.items[type->target].name);
	if (type->kind == AFM_T_POINTER) {
		if (text->length)
			return;
		af_text_add(text, "*");
		af_text_add(text, target);
	} else {
		type->length = array_length(die);
		if (text->length)
			return;
		af_text_add(text, "[");
		af_text_add(text, target);
		snprintf(number, sizeof(number), "; %llu]", (unsigned long long)type->length);
		af_text_add(text, number);
	}
}

static void name_type(struct af_builder *b, struct afm_type *type, const struct af_die *die,
		      int chain)
{
	struct af_text text = {0};

	if (type->kind == AFM_T_POINTER || type->kind == AFM_T_ARRAY) {
		const char *own = af_die_string(die, DW_AT_name);
		if (own)
			af_text_add(&text, own);
		describe(b, type, die, chain, &text);
	} else if (type->kind == AFM_T_FUNCTION) {
		const char *own = af_die_string(die, DW_AT_name);
		af_text_add(&text, own ? own : "fn");
	} else {
		af_name_qualify(b, die, &text);
	}
	type->name = af_strings_add(&b->strings, af_text_get(&text));
	b->failed |= text.failed;
	af_text_deinit(&text);
}

/* A definition takes the place of the declaration that stood for it. */
static bool stands_for(struct af_builder *b, const struct afm_type *type, af_die_id id,
		       uint32_t *index)
{
	bool declaration = type->flags & AFM_TF_DECLARATION;
	uint32_t known;

	if (type->kind != AFM_T_STRUCT && type->kind != AFM_T_UNION)
		return false;
	known = af_map_get(&b->name_types, type->name);
	if (known == UINT32_MAX)
		return false;
	if (declaration) {
		*index = known;
		return true;
	}
	if (!(b->types.items[known].flags & AFM_TF_DECLARATION))
		return false;
	b->types.items[known] = *type;
	b->type_dies.items[known] = id;
	/* Its turn may have passed already: have the fields read after all. */
	*index = known;
	if (known < b->n_detailed)
		b->types.items[known].flags |= AFM_TF_PARTIAL;
	return true;
}

static uint32_t add_type(struct af_builder *b, const struct afm_type *type, af_die_id id)
{
	struct afm_type *added = builder_push(b, types);
	af_die_id *die = builder_push(b, type_dies);

	if (!added || !die)
		return AFM_NONE;
	*added = *type;
	*die = id;
	return (uint32_t)b->types.count - 1;
}

/* What a type is, as a number. Its fingerprint belongs to that once there are two types that could
   be the same, which is seldom: until then it need not be taken. */
static uint64_t identity(struct af_builder *b, const struct afm_type *type,
			 const struct af_die *composed)
{
	const uint64_t free_key = ~UINT64_C(0) >> 1; /* the map's has the top bit */
	uint64_t key = af_mix(af_mix(af_mix(type->name, type->kind), type->size), type->target);
	struct af_die first;

	if (!composed)
		return key & free_key;
	uint64_t alone = af_mix(key, 1) & free_key;
	uint32_t known = af_map_get(&b->key_types, alone);
	if (known == UINT32_MAX)
		return alone;
	if (!(known & SEVERAL) && af_die_at(b->info, b->type_dies.items[known], &first)) {
		af_map_set(&b->key_types, af_mix(key, af_fingerprint(&first)) & free_key, known);
		af_map_set(&b->key_types, alone, known | SEVERAL);
	}
	return af_mix(key, af_fingerprint(composed)) & free_key;
}

static uint32_t intern(struct af_builder *b, af_die_id id, int chain)
{
	static const uint16_t sizes[] = {DW_AT_byte_size, DW_AT_alignment, DW_AT_declaration};
	uint32_t known = af_map_get(&b->die_types, id);
	struct af_value values[3];
	struct af_die die;
	uint64_t number;

	if (known != UINT32_MAX)
		return known;
	if (chain > CHAIN_MAX || !af_die_at(b->info, id, &die))
		return AFM_NONE;
	int kind = kind_of(&die);
	if (kind < 0)
		return AFM_NONE;
	bool composed = kind == AFM_T_STRUCT || kind == AFM_T_UNION || kind == AFM_T_CENUM;
	uint64_t copy = composed ? af_copy_key(space_path(b, &die), &die) : 0;
	if (composed && (known = af_map_get(&b->copies, copy)) != UINT32_MAX) {
		af_map_set(&b->die_types, id, known);
		return known;
	}

	struct afm_type type = {.kind = (uint16_t)kind,
				.target = AFM_NONE,
				.discr_offset = AFM_NONE,
				.future = AFM_NONE,
				.template_arg = AFM_NONE};
	af_die_attributes(&die, sizes, values, 3);
	if (af_value_constant(&values[0], &number))
		type.size = number;
	else if (kind == AFM_T_POINTER)
		type.size = die.unit->address_size;
	if (af_value_constant(&values[1], &number))
		type.align = (uint32_t)number;
	if (af_value_constant(&values[2], &number) && number)
		type.flags |= AFM_TF_DECLARATION;
	name_type(b, &type, &die, chain);

	bool declaration = type.flags & AFM_TF_DECLARATION;
	uint64_t key = identity(b, &type, composed && !declaration ? &die : NULL);
	uint32_t index = declaration ? UINT32_MAX : af_map_get(&b->key_types, key);
	if (index == UINT32_MAX && !stands_for(b, &type, id, &index)) {
		if (composed)
			af_name_place(b, &die, &type.file, &type.line);
		index = add_type(b, &type, id);
		if (index == AFM_NONE)
			return AFM_NONE;
		if (af_map_get(&b->name_types, type.name) == UINT32_MAX)
			af_map_set(&b->name_types, type.name, index);
		else
			af_map_set(&b->twice_named, type.name, 1);
	}
	if (!declaration)
		af_map_set(&b->key_types, key, index);
	if (composed)
		af_map_set(&b->copies, copy, index);
	af_map_set(&b->die_types, id, index);
	b->failed |= b->copies.failed | b->key_types.failed | b->die_types.failed |
		     b->name_types.failed | b->twice_named.failed;
	return index;
}

uint32_t af_types_intern(struct af_builder *b, af_die_id id)
{
	uint32_t known = id == AF_DIE_NONE ? UINT32_MAX : af_map_get(&b->die_types, id);

	if (known != UINT32_MAX)
		return known;
	id = resolve(b, id);
	return id == AF_DIE_NONE ? AFM_NONE : intern(b, id, 0);
}

uint32_t af_types_copy(struct af_builder *b, af_die_id id, uint64_t key)
{
	/* A stub is not the type that it stands for. */
	uint32_t known = b->info->signatures.count ? UINT32_MAX : af_map_get(&b->copies, key);

	return known != UINT32_MAX ? known : af_types_intern(b, id);
}

static void detail(struct af_builder *b, uint32_t index)
{
	struct af_die die, child;
	struct af_walk walk;
	unsigned int depth;

	b->types.items[index].flags &= (uint16_t)~AFM_TF_PARTIAL;
	struct afm_type type = b->types.items[index];
	if (!af_die_at(b->info, b->type_dies.items[index], &die))
		return;
	if (type.kind == AFM_T_CENUM) {
		af_members_enumerators(b, &die, &type);
	} else if (type.kind == AFM_T_STRUCT || type.kind == AFM_T_UNION) {
		af_members_read(b, &die, 0, &type.first_field, &type.n_fields);
		af_walk_start(&walk, &die);
		while (af_walk_next(&walk, &child, &depth)) {
			if (child.abbrev->tag == DW_TAG_variant_part)
				af_members_variants(b, &child, &type);
			else if (child.abbrev->tag == DW_TAG_template_type_parameter &&
				 type.template_arg == AFM_NONE)
				type.template_arg =
					af_types_intern(b, af_die_reference(&child, DW_AT_type));
			af_walk_skip_children(&walk);
		}
	}
	b->types.items[index] = type;
}

/* Debug info leaves the size of an array to whoever reads it. What an array holds was interned
   before it. */
static void size_arrays(struct af_builder *b)
{
	for (size_t i = 0; i < b->types.count; i++) {
		struct afm_type *type = &b->types.items[i];
		if (type->kind != AFM_T_ARRAY || type->size || type->target == AFM_NONE)
			continue;
		if (__builtin_mul_overflow(type->length, b->types.items[type->target].size,
					   &type->size))
			type->size = 0;
	}
}

void af_types_detail(struct af_builder *b)
{
	for (; b->n_detailed < b->types.count && !b->failed; b->n_detailed++)
		detail(b, (uint32_t)b->n_detailed);
	/* Definitions that took the place of a declaration behind our back; reading them may
	   bring new types, which come after. */
	for (bool again = true; again && !b->failed;) {
		again = false;
		for (size_t i = 0; i < b->types.count; i++) {
			if (!(b->types.items[i].flags & AFM_TF_PARTIAL))
				continue;
			detail(b, (uint32_t)i);
			again = true;
		}
		for (; b->n_detailed < b->types.count && !b->failed; b->n_detailed++)
			detail(b, (uint32_t)b->n_detailed);
	}
	size_arrays(b);
}

uint32_t af_types_field(const struct af_builder *b, uint32_t type, const char *name)
{
	if (type == AFM_NONE)
		return AFM_NONE;
	const struct afm_type *t = &b->types.items[type];
	for (uint32_t i = 0; i < t->n_fields; i++) {
		const struct afm_field *field = &b->fields.items[t->first_field + i];
		if (!strcmp(af_strings_get(&b->strings, field->name), name))
			return t->first_field + i;
	}
	return AFM_NONE;
}

bool af_types_named(const struct af_builder *b, uint32_t type, const char *head)
{
	return type != AFM_NONE &&
	       !strncmp(af_strings_get(&b->strings, b->types.items[type].name), head, strlen(head));
}

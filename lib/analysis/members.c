/* SPDX-License-Identifier: MIT */
/*
 * What a type consists of: fields, the variants of Rust's enums and coroutines with theirs, and the
 * names of enumerations.
 */
#include <dwarf.h>

#include "analysis/build.h"

static void read_member(struct af_builder *b, const struct af_die *die, struct afm_field *field)
{
	static const uint16_t names[] = {DW_AT_name, DW_AT_type, DW_AT_data_member_location,
					 DW_AT_decl_line, DW_AT_artificial};
	struct af_value values[5];
	uint64_t number = 0;

	af_die_attributes(die, names, values, 5);
	const char *name = af_value_string(die->unit, &values[0]);
	af_value_constant(&values[2], &number);
	*field = (struct afm_field){.name = af_strings_add(&b->strings, name), .offset = number};
	field->type = af_types_intern(b, af_value_reference(die->unit, &values[1]));
	if (af_value_constant(&values[4], &number) && number)
		field->flags |= AFM_FF_ARTIFICIAL;
	if (name && !strcmp(name, "__awaitee"))
		field->flags |= AFM_FF_AWAITEE;
	if (af_value_constant(&values[3], &number))
		field->line = (uint32_t)number;
}

void af_members_read(struct af_builder *b, const struct af_die *type, uint64_t base,
		     uint32_t *first, uint32_t *n)
{
	struct af_walk walk;
	struct af_die die;
	unsigned int depth;

	*first = (uint32_t)b->fields.count;
	af_walk_start(&walk, type);
	while (af_walk_next(&walk, &die, &depth)) {
		if (depth == 1 && die.abbrev->tag == DW_TAG_member) {
			struct afm_field field, *added;
			read_member(b, &die, &field);
			field.offset += base;
			added = builder_push(b, fields);
			if (added)
				*added = field;
		}
		if (die.abbrev->tag != DW_TAG_member)
			af_walk_skip_children(&walk);
	}
	*n = (uint32_t)b->fields.count - *first;
}

/* One variant: a member whose type is a structure that belongs to the enum. */
static void read_variant(struct af_builder *b, const struct af_die *die, const uint64_t *discr,
			 uint32_t discr_size)
{
	struct afm_variant *variant = builder_push(b, variants);
	uint64_t mask =
		discr_size && discr_size < 8 ? (UINT64_C(1) << discr_size * 8) - 1 : UINT64_MAX;
	uint64_t base = 0;
	struct af_die payload;

	if (!variant)
		return;
	size_t at = b->variants.count - 1;
	*variant = (struct afm_variant){.awaitee = AFM_NONE};
	if (discr)
		variant->discr = *discr & mask;
	else
		variant->flags |= AFM_VF_DEFAULT;
	af_name_place(b, die, &variant->file, &variant->line);
	af_die_number(die, DW_AT_data_member_location, &base);

	const char *name = af_die_string(die, DW_AT_name);
	if (af_die_at(b->info, af_types_target(b, die), &payload)) {
		uint32_t first, n;
		const char *own = af_die_string(&payload, DW_AT_name);
		af_members_read(b, &payload, base, &first, &n);
		/* A coroutine's member is called by its number, its type by what it is. */
		if (own && (!name || (name[0] >= '0' && name[0] <= '9')))
			name = own;
		b->variants.items[at].first_field = first;
		b->variants.items[at].n_fields = n;
	}
	b->variants.items[at].name = af_strings_add(&b->strings, name);
}

/* Of a discriminant; 0 (unknown) where no integer has that many bytes. */
static uint32_t tag_size(uint64_t size)
{
	return size <= 16 ? (uint32_t)size : 0;
}

void af_members_variants(struct af_builder *b, const struct af_die *part, struct afm_type *type)
{
	struct af_walk walk;
	struct af_die die, tag;
	unsigned int depth;
	uint64_t discr = 0, number;
	bool has_discr = false;
	af_die_id id = af_die_reference(part, DW_AT_discr);

	if (af_die_at(b->info, id, &tag)) {
		struct af_die base;
		if (af_die_number(&tag, DW_AT_data_member_location, &number))
			type->discr_offset = (uint32_t)number;
		if (af_die_at(b->info, af_types_target(b, &tag), &base) &&
		    af_die_number(&base, DW_AT_byte_size, &number))
			type->discr_size = tag_size(number);
	}
	type->first_variant = (uint32_t)b->variants.count;
	af_walk_start(&walk, part);
	while (af_walk_next(&walk, &die, &depth)) {
		if (depth == 1 && die.abbrev->tag == DW_TAG_variant)
			has_discr = af_die_number(&die, DW_AT_discr_value, &discr);
		else if (depth == 2 && die.abbrev->tag == DW_TAG_member)
			read_variant(b, &die, has_discr ? &discr : NULL, type->discr_size);
	}
	type->n_variants = (uint32_t)b->variants.count - type->first_variant;
}

void af_members_enumerators(struct af_builder *b, const struct af_die *enumeration,
			    struct afm_type *type)
{
	struct af_walk walk;
	struct af_die die;
	unsigned int depth;
	uint64_t number;

	type->first_variant = (uint32_t)b->variants.count;
	type->discr_offset = 0;
	type->discr_size = tag_size(type->size);
	af_walk_start(&walk, enumeration);
	while (af_walk_next(&walk, &die, &depth)) {
		if (depth != 1 || die.abbrev->tag != DW_TAG_enumerator)
			continue;
		struct afm_variant *variant = builder_push(b, variants);
		if (!variant)
			return;
		*variant = (struct afm_variant){.awaitee = AFM_NONE};
		variant->name = af_strings_add(&b->strings, af_die_string(&die, DW_AT_name));
		if (af_die_number(&die, DW_AT_const_value, &number))
			variant->discr = type->size && type->size < 8
						 ? number & ((UINT64_C(1) << type->size * 8) - 1)
						 : number;
	}
	type->n_variants = (uint32_t)b->variants.count - type->first_variant;
}

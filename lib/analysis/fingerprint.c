/* SPDX-License-Identifier: MIT */
/*
 * Fingerprints of types. Debug info repeats a type in every unit that uses it, tens of thousands
 * of times in a large program, so that telling a copy must cost little more than passing over
 * its bytes. Copies differ in what they refer to and in the numbers of files; all else is the same
 * bytes, strings included, since linkers merge equal ones. So the bytes are hashed as they lie, with
 * the others masked out (abbrev.c says which).
 *
 * Where an abbreviation does not allow that (strings by index, constants in the abbreviation),
 * its values are read.
 */
#include "analysis/fingerprint.h"

#include <dwarf.h>

static uint64_t mix_string(uint64_t hash, const char *string)
{
	for (; string && *string; string++)
		hash = (hash ^ (uint8_t)*string) * 0x100000001b3;
	return af_mix(hash, 0xff);
}

/* A string by its bytes, or by its place alone. */
static uint64_t mix_name(uint64_t hash, const char *string, bool by_place)
{
	return by_place ? af_mix(hash, (uintptr_t)string) : mix_string(hash, string);
}

/* What the attributes of one DIE say of its place, in one go over them. */
static uint64_t mix_values(uint64_t hash, const struct af_die *die, bool by_place)
{
	const struct af_abbrevs *table = die->unit->abbrevs;
	const struct af_attribute *a = &table->attributes.items[die->abbrev->first_attribute];
	struct af_bytes b = af_die_bytes(die);

	for (uint32_t i = 0; i < die->abbrev->n_attributes; i++, a++) {
		struct af_value value;
		uint64_t number;
		switch (a->name) {
		case DW_AT_name:
			af_form_read(die->unit, &b, a, &value);
			hash = mix_name(hash, af_value_string(die->unit, &value), by_place);
			break;
		case DW_AT_data_member_location:
		case DW_AT_decl_line:
		case DW_AT_discr_value:
		case DW_AT_byte_size:
		case DW_AT_declaration:
			af_form_read(die->unit, &b, a, &value);
			if (af_value_constant(&value, &number))
				hash = af_mix(hash, number + a->name);
			break;
		default:
			if (a->size >= 0)
				af_bytes_skip(&b, (uint64_t)a->size);
			else
				af_form_skip(die->unit, &b, a->form);
		}
	}
	return hash;
}

/* The bytes of a DIE's attributes that all copies have, [from, to). Where `end` leaves room, they
   are read beyond `to` and that cut off. */
static uint64_t mix_bytes(uint64_t hash, const struct af_abbrev *abbrev, const uint8_t *from,
			  const uint8_t *to, const uint8_t *end)
{
	uint64_t words[2] = {0}, word;
	size_t size = (size_t)(to - from);

	hash = af_mix(hash, abbrev->kinds);
	if ((size_t)(end - from) >= sizeof(words))
		memcpy(words, from, sizeof(words));
	else
		memcpy(words, from, size < sizeof(words) ? size : sizeof(words));
	if (size < 8)
		words[0] &= (UINT64_C(1) << size * 8) - 1;
	hash = af_mix(hash, words[0] & abbrev->common[0]);
	if (size <= 8)
		return hash;
	if (size < 16)
		words[1] &= (UINT64_C(1) << (size - 8) * 8) - 1;
	hash = af_mix(hash, words[1] & abbrev->common[1]);
	for (from += 16; from < to; from += 8) {
		word = 0;
		memcpy(&word, from, to - from < 8 ? (size_t)(to - from) : 8);
		hash = af_mix(hash, word);
	}
	return hash;
}

/* A DIE whose attributes end at `to`. */
static uint64_t mix_copy(uint64_t hash, const struct af_die *die, const uint8_t *to,
			 const uint8_t *end)
{
	return die->abbrev->comparable ? mix_bytes(hash, die->abbrev, die->attributes, to, end)
				       : mix_values(hash, die, true);
}

uint64_t af_fingerprint(const struct af_die *type)
{
	struct af_walk walk;
	struct af_die die;
	unsigned int depth;
	uint64_t hash = type->abbrev->tag;

	af_walk_start(&walk, type);
	while (af_walk_next(&walk, &die, &depth)) {
		if (die.abbrev->tag == DW_TAG_variant || die.abbrev->tag == DW_TAG_member)
			hash = mix_values(hash, &die, false);
		else if (die.abbrev->tag == DW_TAG_subprogram)
			af_walk_skip_children(&walk);
	}
	return hash;
}

/* The members of a type whose attributes end at `pos`, at any depth. Methods are left out: a unit
   lists those that it uses. */
static uint64_t mix_members(uint64_t hash, struct af_unit *unit, const uint8_t *pos,
			    const uint8_t *end)
{
	unsigned int depth = 1, methods = 0; /* methods: depth of the one that we are in */

	while (pos < end) {
		struct af_bytes b = {pos, end, false};
		uint64_t code = af_bytes_uleb(&b);
		if (!code) {
			pos = b.pos;
			if (--depth == methods)
				methods = 0;
			if (!depth)
				break;
			continue;
		}
		struct af_die die = {unit, af_abbrevs_find(unit->abbrevs, code), 0, b.pos};
		pos = die.abbrev ? af_attributes_end(unit, die.abbrev, b.pos, end) : NULL;
		if (!pos)
			break;
		unsigned int tag = die.abbrev->tag;
		if (!methods && (tag == DW_TAG_member || tag == DW_TAG_variant))
			hash = mix_copy(hash, &die, pos, end);
		else if (!methods && tag == DW_TAG_subprogram && die.abbrev->children)
			methods = depth;
		depth += die.abbrev->children;
	}
	return hash;
}

static uint64_t copy_key(uint64_t path, const struct af_die *type, bool members)
{
	struct af_bytes b = af_die_bytes(type);
	const uint8_t *to = af_attributes_end(type->unit, type->abbrev, b.pos, b.end);
	uint64_t hash = af_mix(path, (uint64_t)type->unit->file->number << 16 | type->abbrev->tag);

	if (!to)
		to = b.end;
	hash = mix_copy(hash, type, to, b.end);
	if (members && type->abbrev->children)
		hash = mix_members(hash, type->unit, to, b.end);
	return hash & ~UINT64_C(0) >> 1;
}

uint64_t af_copy_key(uint64_t path, const struct af_die *type)
{
	return copy_key(path, type, true);
}

uint64_t af_copy_head(uint64_t path, const struct af_die *type)
{
	return copy_key(path, type, false);
}

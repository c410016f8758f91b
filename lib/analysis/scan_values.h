/* SPDX-License-Identifier: MIT */
/*
 * Inside scan.c: what the index pass reads of a DIE whose attributes were passed already, so that
 * their end is known to lie in the unit.
 */
#ifndef AF_ANALYSIS_SCAN_VALUES_H
#define AF_ANALYSIS_SCAN_VALUES_H

#include <dwarf.h>

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
static inline void value_at(const struct af_scanner *s, const struct af_abbrev *abbrev,
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
static inline const char *name_of(const struct af_scanner *s, const struct af_abbrev *abbrev,
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

static inline const char *string_at(const struct af_scanner *s, uint32_t offset)
{
	const struct af_section *strings = &s->unit->file->sections[AF_SEC_STR];
	return offset < strings->terminated ? (const char *)strings->data + offset : "";
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

/* Whether a subprogram has an address. */
static inline bool has_code(const struct af_scanner *s, const struct af_abbrev *abbrev,
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

#endif

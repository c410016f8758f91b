/* SPDX-License-Identifier: MIT */
/*
 * Which code a DIE covers: DW_AT_low_pc with DW_AT_high_pc, .debug_ranges of DWARF 4 and
 * .debug_rnglists of DWARF 5.
 */
#include <dwarf.h>

#include "analysis/debuginfo.h"

enum { NOTHING, ONE, PAIRS, LIST };

/* .debug_ranges; a .dwo of DWARF 4 leaves its own in the object. */
static bool start_pairs(struct af_ranges *r, const struct af_value *value)
{
	const struct af_unit *unit = r->unit;
	const struct af_file *file = unit->skeleton ? unit->skeleton->file : unit->file;
	const struct af_section *s = &file->sections[AF_SEC_RANGES];
	uint64_t at = value->number + (unit->skeleton ? unit->skeleton->ranges_base : 0);

	if (at >= s->size)
		return false;
	r->bytes = af_bytes_make(s->data + at, s->size - at);
	r->kind = PAIRS;
	return true;
}

static bool start_list(struct af_ranges *r, const struct af_value *value)
{
	const struct af_unit *unit = r->unit;
	const struct af_section *s = &unit->file->sections[AF_SEC_RNGLISTS];
	uint64_t offset = value->number;

	if (value->form == DW_FORM_rnglistx) {
		uint64_t at = unit->rnglists_base + offset * unit->offset_size;
		if (offset > s->size || at > s->size || s->size - at < unit->offset_size)
			return false;
		struct af_bytes b = af_bytes_make(s->data + at, unit->offset_size);
		offset = unit->rnglists_base + af_bytes_fixed(&b, unit->offset_size);
	}
	if (offset >= s->size)
		return false;
	r->bytes = af_bytes_make(s->data + offset, s->size - offset);
	r->kind = LIST;
	return true;
}

bool af_ranges_start(struct af_ranges *r, const struct af_die *die)
{
	struct af_value value;

	*r = (struct af_ranges){.unit = die->unit, .base = die->unit->low_pc};
	/* With both, the address is only what ranges count from. */
	if (af_die_attribute(die, DW_AT_ranges, &value))
		return die->unit->version < 5 ? start_pairs(r, &value) : start_list(r, &value);
	if (af_die_attribute(die, DW_AT_low_pc, &value)) {
		if (!af_value_address(die->unit, &value, &r->start))
			return false;
		r->end = r->start;
		if (af_die_attribute(die, DW_AT_high_pc, &value)) {
			uint64_t end;
			if (af_value_address(die->unit, &value, &end))
				r->end = end;
			else if (af_value_constant(&value, &end))
				r->end = r->start + end;
		}
		r->kind = ONE;
		return true;
	}
	return false;
}

static bool next_pair(struct af_ranges *r, uint64_t *start, uint64_t *end)
{
	unsigned int size = r->unit->address_size;

	for (;;) {
		uint64_t from = af_bytes_fixed(&r->bytes, size);
		uint64_t to = af_bytes_fixed(&r->bytes, size);
		if (r->bytes.failed || (!from && !to))
			return false;
		if (from == (size == 8 ? UINT64_MAX : UINT32_MAX)) {
			r->base = to;
			continue;
		}
		*start = r->base + from;
		*end = r->base + to;
		return true;
	}
}

static bool indexed(struct af_ranges *r, uint64_t *address)
{
	struct af_value index = {.form = DW_FORM_addrx, .number = af_bytes_uleb(&r->bytes)};
	return af_value_address(r->unit, &index, address);
}

static bool next_entry(struct af_ranges *r, uint64_t *start, uint64_t *end)
{
	struct af_bytes *b = &r->bytes;

	while (!b->failed) {
		switch (af_bytes_u8(b)) {
		case DW_RLE_base_addressx:
			if (!indexed(r, &r->base))
				return false;
			break;
		case DW_RLE_base_address:
			r->base = af_bytes_fixed(b, r->unit->address_size);
			break;
		case DW_RLE_startx_endx:
			return indexed(r, start) && indexed(r, end) && !b->failed;
		case DW_RLE_startx_length:
			if (!indexed(r, start))
				return false;
			*end = *start + af_bytes_uleb(b);
			return !b->failed;
		case DW_RLE_offset_pair:
			*start = r->base + af_bytes_uleb(b);
			*end = r->base + af_bytes_uleb(b);
			return !b->failed;
		case DW_RLE_start_end:
			*start = af_bytes_fixed(b, r->unit->address_size);
			*end = af_bytes_fixed(b, r->unit->address_size);
			return !b->failed;
		case DW_RLE_start_length:
			*start = af_bytes_fixed(b, r->unit->address_size);
			*end = *start + af_bytes_uleb(b);
			return !b->failed;
		default:
			return false;
		}
	}
	return false;
}

bool af_ranges_next(struct af_ranges *r, uint64_t *start, uint64_t *end)
{
	switch (r->kind) {
	case ONE:
		r->kind = NOTHING;
		*start = r->start;
		*end = r->end;
		return true;
	case PAIRS:
		return next_pair(r, start, end);
	case LIST:
		return next_entry(r, start, end);
	default:
		return false;
	}
}

bool af_die_entry(const struct af_die *die, uint64_t *address, uint64_t *size)
{
	struct af_ranges ranges;
	uint64_t end;

	*size = 0;
	if (!af_ranges_start(&ranges, die) || !af_ranges_next(&ranges, address, &end))
		return false;
	*size = end - *address;
	return true;
}

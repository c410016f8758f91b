/* SPDX-License-Identifier: MIT */
/*
 * Location descriptions, as far as patching needs them: is this parameter in a register when
 * its function is entered?
 */
#include <dwarf.h>

#include "analysis/debuginfo.h"

static unsigned int plain_register(const uint8_t *code, uint64_t size)
{
	if (size == 1 && code[0] >= DW_OP_reg0 && code[0] <= DW_OP_reg31)
		return 1u + code[0] - DW_OP_reg0;
	return 0;
}

/* DWARF 4: pairs of offsets from the unit's base, a length and an expression. */
static unsigned int in_loc(const struct af_unit *unit, uint64_t offset, uint64_t address)
{
	const struct af_section *s = &unit->file->sections[AF_SEC_LOC];
	uint64_t base = unit->low_pc, all = unit->address_size == 8 ? UINT64_MAX : UINT32_MAX;

	if (offset >= s->size)
		return 0;
	struct af_bytes b = af_bytes_make(s->data + offset, s->size - offset);
	while (!b.failed) {
		uint64_t from = af_bytes_fixed(&b, unit->address_size);
		uint64_t to = af_bytes_fixed(&b, unit->address_size);
		if (!from && !to)
			break;
		if (from == all) {
			base = to;
			continue;
		}
		uint64_t size = af_bytes_u16(&b);
		const uint8_t *code = b.pos;
		af_bytes_skip(&b, size);
		if (!b.failed && address >= base + from && address < base + to)
			return plain_register(code, size);
	}
	return 0;
}

/* GNU's split DWARF 4: entries of a kind, indices into .debug_addr, and 32-bit lengths. */
static unsigned int in_split_loc(const struct af_unit *unit, uint64_t offset, uint64_t address)
{
	const struct af_section *s = &unit->file->sections[AF_SEC_LOC];
	struct af_value index = {.form = DW_FORM_GNU_addr_index};
	uint64_t base = unit->low_pc, from, to;

	offset += unit->loc_base;
	if (offset >= s->size)
		return 0;
	struct af_bytes b = af_bytes_make(s->data + offset, s->size - offset);
	while (!b.failed) {
		unsigned int kind = af_bytes_u8(&b);
		if (kind == 1 || kind == 2 || kind == 3) {
			index.number = af_bytes_uleb(&b);
			if (!af_value_address(unit, &index, &from))
				return 0;
		}
		switch (kind) {
		case 1: /* base address */
			base = from;
			continue;
		case 2: /* start, end */
			index.number = af_bytes_uleb(&b);
			if (!af_value_address(unit, &index, &to))
				return 0;
			break;
		case 3: /* start, length */
			to = from + af_bytes_u32(&b);
			break;
		case 4: /* two offsets */
			from = base + af_bytes_u32(&b);
			to = base + af_bytes_u32(&b);
			break;
		default:
			return 0;
		}
		uint64_t size = af_bytes_u16(&b);
		const uint8_t *code = b.pos;
		af_bytes_skip(&b, size);
		if (!b.failed && address >= from && address < to)
			return plain_register(code, size);
	}
	return 0;
}

/* Reads the bounds of one entry of a DWARF 5 list; false where the list ends. */
static bool read_bounds(const struct af_unit *unit, struct af_bytes *b, uint64_t *base,
			uint64_t *from, uint64_t *to, bool *located)
{
	struct af_value index = {.form = DW_FORM_addrx};

	*located = true;
	switch (af_bytes_u8(b)) {
	case DW_LLE_base_addressx:
		index.number = af_bytes_uleb(b);
		*located = false;
		return af_value_address(unit, &index, base);
	case DW_LLE_base_address:
		*base = af_bytes_fixed(b, unit->address_size);
		*located = false;
		return true;
	case DW_LLE_startx_endx:
		index.number = af_bytes_uleb(b);
		if (!af_value_address(unit, &index, from))
			return false;
		index.number = af_bytes_uleb(b);
		return af_value_address(unit, &index, to);
	case DW_LLE_startx_length:
		index.number = af_bytes_uleb(b);
		if (!af_value_address(unit, &index, from))
			return false;
		*to = *from + af_bytes_uleb(b);
		return true;
	case DW_LLE_offset_pair:
		*from = *base + af_bytes_uleb(b);
		*to = *base + af_bytes_uleb(b);
		return true;
	case DW_LLE_default_location:
		*from = 0;
		*to = UINT64_MAX;
		return true;
	case DW_LLE_start_end:
		*from = af_bytes_fixed(b, unit->address_size);
		*to = af_bytes_fixed(b, unit->address_size);
		return true;
	case DW_LLE_start_length:
		*from = af_bytes_fixed(b, unit->address_size);
		*to = *from + af_bytes_uleb(b);
		return true;
	default:
		return false;
	}
}

static unsigned int in_loclists(const struct af_unit *unit, const struct af_value *value,
				uint64_t address)
{
	const struct af_section *s = &unit->file->sections[AF_SEC_LOCLISTS];
	uint64_t offset = value->number, base = unit->low_pc, from = 0, to = 0;
	bool located;

	if (value->form == DW_FORM_loclistx) {
		uint64_t at = unit->loclists_base + offset * unit->offset_size;
		if (offset > s->size || at > s->size || s->size - at < unit->offset_size)
			return 0;
		struct af_bytes b = af_bytes_make(s->data + at, unit->offset_size);
		offset = unit->loclists_base + af_bytes_fixed(&b, unit->offset_size);
	}
	if (offset >= s->size)
		return 0;
	struct af_bytes b = af_bytes_make(s->data + offset, s->size - offset);
	while (!b.failed && read_bounds(unit, &b, &base, &from, &to, &located)) {
		if (!located)
			continue;
		uint64_t size = af_bytes_uleb(&b);
		const uint8_t *code = b.pos;
		af_bytes_skip(&b, size);
		if (!b.failed && address >= from && address < to)
			return plain_register(code, size);
	}
	return 0;
}

unsigned int af_location_register(const struct af_die *die, uint64_t address)
{
	struct af_value value;
	if (!af_die_attribute(die, DW_AT_location, &value))
		return 0;
	switch (value.form) {
	case DW_FORM_exprloc:
	case DW_FORM_block:
	case DW_FORM_block1:
	case DW_FORM_block2:
	case DW_FORM_block4:
		return plain_register(value.data, value.size);
	case DW_FORM_loclistx:
		return in_loclists(die->unit, &value, address);
	case DW_FORM_sec_offset:
	case DW_FORM_data4:
	case DW_FORM_data8:
		if (die->unit->version >= 5)
			return in_loclists(die->unit, &value, address);
		if (die->unit->skeleton)
			return in_split_loc(die->unit, value.number, address);
		return in_loc(die->unit, value.number, address);
	default:
		return 0;
	}
}

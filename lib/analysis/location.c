/* SPDX-License-Identifier: MIT */
/*
 * Location descriptions, as far as patching and drivers need them: is this parameter in a register
 * when its function is entered, and where in a frame is this variable?
 */
#include <dwarf.h>

#include "analysis/debuginfo.h"

enum { NOTHING, ONE, PAIRS, SPLIT, LIST };

/* DWARF 4: pairs of offsets from the unit's base, a length and an expression. */
static bool start_loc(struct af_locations *l, uint64_t offset, int kind)
{
	const struct af_section *s = &l->unit->file->sections[AF_SEC_LOC];

	if (kind == SPLIT)
		offset += l->unit->loc_base;
	if (offset >= s->size)
		return false;
	l->bytes = af_bytes_make(s->data + offset, s->size - offset);
	l->kind = kind;
	return true;
}

static bool start_loclists(struct af_locations *l, const struct af_value *value)
{
	const struct af_unit *unit = l->unit;
	const struct af_section *s = &unit->file->sections[AF_SEC_LOCLISTS];
	uint64_t offset = value->number;

	if (value->form == DW_FORM_loclistx) {
		uint64_t at = unit->loclists_base + offset * unit->offset_size;
		if (offset > s->size || at > s->size || s->size - at < unit->offset_size)
			return false;
		struct af_bytes b = af_bytes_make(s->data + at, unit->offset_size);
		offset = unit->loclists_base + af_bytes_fixed(&b, unit->offset_size);
	}
	if (offset >= s->size)
		return false;
	l->bytes = af_bytes_make(s->data + offset, s->size - offset);
	l->kind = LIST;
	return true;
}

bool af_locations_start(struct af_locations *l, const struct af_die *die)
{
	struct af_value value;

	*l = (struct af_locations){.unit = die->unit, .base = die->unit->low_pc};
	if (!af_die_attribute(die, DW_AT_location, &value))
		return false;
	switch (value.form) {
	case DW_FORM_exprloc:
	case DW_FORM_block:
	case DW_FORM_block1:
	case DW_FORM_block2:
	case DW_FORM_block4:
		l->kind = ONE;
		l->to = UINT64_MAX;
		l->code = value.data;
		l->size = value.size;
		return true;
	case DW_FORM_loclistx:
		return start_loclists(l, &value);
	case DW_FORM_sec_offset:
	case DW_FORM_data4:
	case DW_FORM_data8:
		if (die->unit->version >= 5)
			return start_loclists(l, &value);
		return start_loc(l, value.number, die->unit->skeleton ? SPLIT : PAIRS);
	default:
		return false;
	}
}

/* The bounds of an entry: 1; 0: it says something else; -1: the list is at its end. */
static int pair_bounds(struct af_locations *l)
{
	unsigned int size = l->unit->address_size;

	l->from = af_bytes_fixed(&l->bytes, size);
	l->to = af_bytes_fixed(&l->bytes, size);
	if (!l->from && !l->to)
		return -1;
	if (l->from == (size == 8 ? UINT64_MAX : UINT32_MAX)) {
		l->base = l->to;
		return 0;
	}
	l->from += l->base;
	l->to += l->base;
	return 1;
}

static bool indexed(struct af_locations *l, uint64_t *address)
{
	struct af_value index = {.form = DW_FORM_addrx, .number = af_bytes_uleb(&l->bytes)};
	return af_value_address(l->unit, &index, address);
}

/* GNU's split DWARF 4: entries of a kind, indices into .debug_addr, and 32-bit lengths. */
static int split_bounds(struct af_locations *l)
{
	switch (af_bytes_u8(&l->bytes)) {
	case 1: /* base address */
		return indexed(l, &l->base) ? 0 : -1;
	case 2: /* start, end */
		return indexed(l, &l->from) && indexed(l, &l->to) ? 1 : -1;
	case 3: /* start, length */
		if (!indexed(l, &l->from))
			return -1;
		l->to = l->from + af_bytes_u32(&l->bytes);
		return 1;
	case 4: /* two offsets */
		l->from = l->base + af_bytes_u32(&l->bytes);
		l->to = l->base + af_bytes_u32(&l->bytes);
		return 1;
	default:
		return -1;
	}
}

static int list_bounds(struct af_locations *l)
{
	struct af_bytes *b = &l->bytes;

	switch (af_bytes_u8(b)) {
	case DW_LLE_base_addressx:
		return indexed(l, &l->base) ? 0 : -1;
	case DW_LLE_base_address:
		l->base = af_bytes_fixed(b, l->unit->address_size);
		return 0;
	case DW_LLE_startx_endx:
		return indexed(l, &l->from) && indexed(l, &l->to) ? 1 : -1;
	case DW_LLE_startx_length:
		if (!indexed(l, &l->from))
			return -1;
		l->to = l->from + af_bytes_uleb(b);
		return 1;
	case DW_LLE_offset_pair:
		l->from = l->base + af_bytes_uleb(b);
		l->to = l->base + af_bytes_uleb(b);
		return 1;
	case DW_LLE_default_location:
		l->from = 0;
		l->to = UINT64_MAX;
		return 1;
	case DW_LLE_start_end:
		l->from = af_bytes_fixed(b, l->unit->address_size);
		l->to = af_bytes_fixed(b, l->unit->address_size);
		return 1;
	case DW_LLE_start_length:
		l->from = af_bytes_fixed(b, l->unit->address_size);
		l->to = l->from + af_bytes_uleb(b);
		return 1;
	default:
		return -1;
	}
}

bool af_locations_next(struct af_locations *l)
{
	int got;

	if (l->kind == ONE) {
		l->kind = NOTHING;
		return true;
	}
	while (l->kind != NOTHING && !l->bytes.failed) {
		if (l->kind == PAIRS)
			got = pair_bounds(l);
		else if (l->kind == SPLIT)
			got = split_bounds(l);
		else
			got = list_bounds(l);
		if (got < 0 || l->bytes.failed)
			return false;
		if (!got)
			continue;
		l->size = l->kind == LIST ? af_bytes_uleb(&l->bytes) : af_bytes_u16(&l->bytes);
		l->code = l->bytes.pos;
		af_bytes_skip(&l->bytes, l->size);
		return !l->bytes.failed;
	}
	return false;
}

static unsigned int plain_register(const uint8_t *code, uint64_t size)
{
	if (size == 1 && code[0] >= DW_OP_reg0 && code[0] <= DW_OP_reg31)
		return 1u + code[0] - DW_OP_reg0;
	return 0;
}

unsigned int af_location_register(const struct af_die *die, uint64_t address)
{
	struct af_locations l;

	if (!af_locations_start(&l, die))
		return 0;
	while (af_locations_next(&l))
		if (address >= l.from && address < l.to)
			return plain_register(l.code, l.size);
	return 0;
}

/* Where an expression begins: a register, one plus an offset, or the frame's base. */
static bool first_operation(struct af_bytes *b, const struct af_frame_place *frame,
			    struct af_frame_place *place)
{
	unsigned int op = af_bytes_u8(b);

	if (op >= DW_OP_reg0 && op <= DW_OP_reg31) {
		/* The object is in the register itself: nothing may follow but its end. */
		*place = (struct af_frame_place){.base = op - DW_OP_reg0, .value = true};
		return true;
	}
	if (op >= DW_OP_breg0 && op <= DW_OP_breg31) {
		*place = (struct af_frame_place){.base = op - DW_OP_breg0};
		place->offset = af_bytes_sleb(b);
		return true;
	}
	if (op == DW_OP_call_frame_cfa) {
		*place = (struct af_frame_place){.base = AF_FRAME_CFA};
		return true;
	}
	if (op != DW_OP_fbreg || !frame)
		return false;
	*place = *frame;
	place->value = false;
	place->offset = (int64_t)((uint64_t)place->offset + (uint64_t)af_bytes_sleb(b));
	return true;
}

bool af_location_place(const uint8_t *code, uint64_t size, const struct af_frame_place *frame,
		       struct af_frame_place *place)
{
	struct af_bytes b = af_bytes_make(code, size);
	uint64_t constant;

	if (!first_operation(&b, frame, place))
		return false;
	while (b.pos < b.end) {
		int64_t *offset = place->indirect ? &place->then : &place->offset;
		unsigned int op = af_bytes_u8(&b);
		if (place->value)
			return false;
		switch (op) {
		case DW_OP_deref:
			if (place->indirect)
				return false;
			place->indirect = true;
			break;
		case DW_OP_plus_uconst:
			*offset = (int64_t)((uint64_t)*offset + af_bytes_uleb(&b));
			break;
		case DW_OP_constu:
			constant = af_bytes_uleb(&b);
			op = af_bytes_u8(&b);
			if (op != DW_OP_plus && op != DW_OP_minus)
				return false;
			*offset = (int64_t)((uint64_t)*offset +
					    (op == DW_OP_plus ? constant : 0 - constant));
			break;
		case DW_OP_stack_value:
			place->value = true;
			break;
		default:
			return false;
		}
	}
	return !b.failed;
}

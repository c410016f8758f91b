/* SPDX-License-Identifier: MIT */
/*
 * Attribute values: the forms of DWARF 2 to 5 and GNU's split and alternate ones.
 */
#include <dwarf.h>

#include "analysis/debuginfo.h"

int af_form_size(uint64_t form, unsigned int address_size, unsigned int offset_size,
		 unsigned int version)
{
	/* clang-format off */
	switch (form) {
	case DW_FORM_flag_present:
	case DW_FORM_implicit_const:
		return 0;
	case DW_FORM_data1: case DW_FORM_ref1: case DW_FORM_flag:
	case DW_FORM_strx1: case DW_FORM_addrx1:
		return 1;
	case DW_FORM_data2: case DW_FORM_ref2: case DW_FORM_strx2: case DW_FORM_addrx2:
		return 2;
	case DW_FORM_strx3: case DW_FORM_addrx3:
		return 3;
	case DW_FORM_data4: case DW_FORM_ref4: case DW_FORM_strx4: case DW_FORM_addrx4:
	case DW_FORM_ref_sup4:
		return 4;
	case DW_FORM_data8: case DW_FORM_ref8: case DW_FORM_ref_sig8: case DW_FORM_ref_sup8:
		return 8;
	case DW_FORM_data16:
		return 16;
	case DW_FORM_strp: case DW_FORM_line_strp: case DW_FORM_sec_offset:
	case DW_FORM_strp_sup: case DW_FORM_GNU_strp_alt: case DW_FORM_GNU_ref_alt:
		return (int)offset_size;
	case DW_FORM_ref_addr:
		return (int)(version == 2 ? address_size : offset_size);
	case DW_FORM_addr:
		return (int)address_size;
	default:
		return -1;
	}
	/* clang-format on */
}

enum af_skip_kind af_form_skip_kind(uint64_t form)
{
	/* clang-format off */
	switch (form) {
	case DW_FORM_exprloc: case DW_FORM_block:
		return AF_SKIP_BLOCK;
	case DW_FORM_block1:
		return AF_SKIP_BLOCK1;
	case DW_FORM_block2:
		return AF_SKIP_BLOCK2;
	case DW_FORM_block4:
		return AF_SKIP_BLOCK4;
	case DW_FORM_string:
		return AF_SKIP_STRING;
	case DW_FORM_sdata: case DW_FORM_udata: case DW_FORM_ref_udata: case DW_FORM_strx:
	case DW_FORM_addrx: case DW_FORM_loclistx: case DW_FORM_rnglistx:
	case DW_FORM_GNU_str_index: case DW_FORM_GNU_addr_index:
		return AF_SKIP_LEB;
	case DW_FORM_indirect:
		return AF_SKIP_INDIRECT;
	default:
		return AF_SKIP_UNKNOWN;
	}
	/* clang-format on */
}

static void skip_value(const struct af_unit *unit, struct af_bytes *b, enum af_skip_kind kind)
{
	uint64_t form;
	switch (kind) {
	case AF_SKIP_NONE:
		return;
	case AF_SKIP_LEB:
		af_bytes_uleb(b);
		return;
	case AF_SKIP_BLOCK:
		af_bytes_skip(b, af_bytes_uleb(b));
		return;
	case AF_SKIP_BLOCK1:
		af_bytes_skip(b, af_bytes_u8(b));
		return;
	case AF_SKIP_BLOCK2:
		af_bytes_skip(b, af_bytes_u16(b));
		return;
	case AF_SKIP_BLOCK4:
		af_bytes_skip(b, af_bytes_u32(b));
		return;
	case AF_SKIP_STRING:
		af_bytes_string(b);
		return;
	case AF_SKIP_INDIRECT:
		form = af_bytes_uleb(b);
		if (form == DW_FORM_indirect || form == DW_FORM_implicit_const)
			af_bytes_fail(b);
		else
			af_form_skip(unit, b, form);
		return;
	case AF_SKIP_UNKNOWN:
		af_bytes_fail(b);
	}
}

void af_form_skip(const struct af_unit *unit, struct af_bytes *b, uint64_t form)
{
	int size = af_form_size(form, unit->address_size, unit->offset_size, unit->version);
	if (size >= 0)
		af_bytes_skip(b, (uint64_t)size);
	else
		skip_value(unit, b, af_form_skip_kind(form));
}

const uint8_t *af_skip_steps(const struct af_unit *unit, const struct af_abbrev *abbrev,
			     const uint8_t *pos, const uint8_t *end)
{
	const struct af_skip *step = &unit->abbrevs->skips.items[abbrev->more_skips];
	unsigned int kind = abbrev->skip.kind;

	for (;; step++) {
		/* What rustc writes most: a location's block, its length in one byte. */
		if (kind == AF_SKIP_BLOCK && pos < end && *pos < 0x80) {
			if (end - pos <= *pos)
				return NULL;
			pos += 1 + *pos;
		} else if (kind == AF_SKIP_LEB && pos < end && *pos < 0x80) {
			pos++;
		} else {
			struct af_bytes b = {pos, end, false};
			skip_value(unit, &b, kind);
			if (b.failed)
				return NULL;
			pos = b.pos;
		}
		if (step->fixed > end - pos)
			return NULL;
		pos += step->fixed;
		kind = step->kind;
		if (kind == AF_SKIP_NONE)
			return pos;
	}
}

const uint8_t *af_skip_first(const struct af_unit *unit, const struct af_abbrev *abbrev,
			     unsigned int steps, const uint8_t *pos, const uint8_t *end)
{
	const struct af_skip *step = &unit->abbrevs->skips.items[abbrev->more_skips];
	struct af_skip skip = abbrev->skip;

	for (; steps; steps--, skip = *step++) {
		struct af_bytes b = {pos + skip.fixed, end, false};
		if (skip.kind == AF_SKIP_BLOCK && *b.pos < 0x80)
			b.pos += 1 + *b.pos;
		else
			skip_value(unit, &b, skip.kind);
		pos = b.pos;
	}
	return pos;
}

static void read_block(struct af_bytes *b, struct af_value *value, uint64_t size)
{
	if (size > af_bytes_left(b)) {
		af_bytes_fail(b);
		return;
	}
	value->data = b->pos;
	value->size = size;
	b->pos += size;
}

void af_form_read(const struct af_unit *unit, struct af_bytes *b,
		  const struct af_attribute *attribute, struct af_value *value)
{
	uint64_t form = attribute->form;
	*value = (struct af_value){0};
	if (form == DW_FORM_indirect) {
		form = af_bytes_uleb(b);
		if (form == DW_FORM_indirect || form == DW_FORM_implicit_const ||
		    form > UINT16_MAX) {
			af_bytes_fail(b);
			return;
		}
	}
	value->form = (uint16_t)form;
	/* clang-format off */
	switch (form) {
	case DW_FORM_flag_present:
		value->number = 1;
		return;
	case DW_FORM_implicit_const:
		if (attribute->constant < unit->abbrevs->constants.count)
			value->number = (uint64_t)unit->abbrevs->constants.items[attribute->constant];
		return;
	case DW_FORM_exprloc: case DW_FORM_block:
		read_block(b, value, af_bytes_uleb(b));
		return;
	case DW_FORM_block1:
		read_block(b, value, af_bytes_u8(b));
		return;
	case DW_FORM_block2:
		read_block(b, value, af_bytes_u16(b));
		return;
	case DW_FORM_block4:
		read_block(b, value, af_bytes_u32(b));
		return;
	case DW_FORM_data16:
		read_block(b, value, 16);
		return;
	case DW_FORM_string:
		value->data = (const uint8_t *)af_bytes_string(b);
		return;
	case DW_FORM_sdata:
		value->number = (uint64_t)af_bytes_sleb(b);
		return;
	case DW_FORM_udata: case DW_FORM_ref_udata: case DW_FORM_strx: case DW_FORM_addrx:
	case DW_FORM_loclistx: case DW_FORM_rnglistx: case DW_FORM_GNU_str_index:
	case DW_FORM_GNU_addr_index:
		value->number = af_bytes_uleb(b);
		return;
	}
	/* clang-format on */
	int size = af_form_size(form, unit->address_size, unit->offset_size, unit->version);
	if (size < 0 || size > 8) {
		value->form = 0;
		af_bytes_fail(b);
		return;
	}
	value->number = af_bytes_fixed(b, (unsigned int)size);
}

static const char *string_at(const struct af_section *section, uint64_t offset)
{
	if (offset >= section->terminated)
		return NULL;
	return (const char *)section->data + offset;
}

static const char *indexed_string(const struct af_unit *unit, uint64_t index)
{
	const struct af_section *offsets = &unit->file->sections[AF_SEC_STR_OFFSETS];
	uint64_t at = unit->str_offsets_base + index * unit->offset_size;
	if (index > offsets->size || at > offsets->size || offsets->size - at < unit->offset_size)
		return NULL;
	struct af_bytes b = af_bytes_make(offsets->data + at, unit->offset_size);
	return string_at(&unit->file->sections[AF_SEC_STR], af_bytes_fixed(&b, unit->offset_size));
}

const char *af_value_string(const struct af_unit *unit, const struct af_value *value)
{
	/* clang-format off */
	switch (value->form) {
	case DW_FORM_string:
		return (const char *)value->data;
	case DW_FORM_strp:
		return string_at(&unit->file->sections[AF_SEC_STR], value->number);
	case DW_FORM_line_strp:
		return string_at(&unit->file->sections[AF_SEC_LINE_STR], value->number);
	case DW_FORM_strx: case DW_FORM_strx1: case DW_FORM_strx2: case DW_FORM_strx3:
	case DW_FORM_strx4: case DW_FORM_GNU_str_index:
		return indexed_string(unit, value->number);
	case DW_FORM_GNU_strp_alt: case DW_FORM_strp_sup:
		if (!unit->file->alternate)
			return NULL;
		return string_at(&unit->file->alternate->sections[AF_SEC_STR], value->number);
	default:
		return NULL;
	}
	/* clang-format on */
}

bool af_value_address(const struct af_unit *unit, const struct af_value *value, uint64_t *address)
{
	switch (value->form) {
	case DW_FORM_addr:
		*address = value->number;
		return true;
	case DW_FORM_addrx:
	case DW_FORM_addrx1:
	case DW_FORM_addrx2:
	case DW_FORM_addrx3:
	case DW_FORM_addrx4:
	case DW_FORM_GNU_addr_index:
		break;
	default:
		return false;
	}
	const struct af_section *addr = unit->file->addr;
	uint64_t at = unit->addr_base + value->number * unit->address_size;
	if (!addr || value->number > addr->size || at > addr->size ||
	    addr->size - at < unit->address_size)
		return false;
	struct af_bytes b = af_bytes_make(addr->data + at, unit->address_size);
	*address = af_bytes_fixed(&b, unit->address_size);
	return true;
}

static af_die_id in_file(const struct af_file *file, uint64_t offset)
{
	if (!file || offset >= file->sections[AF_SEC_INFO].size)
		return AF_DIE_NONE;
	return (uint64_t)file->number << 32 | offset;
}

/* The type that a type unit with this signature describes. */
static af_die_id by_signature(const struct af_debuginfo *info, uint64_t signature)
{
	size_t low = 0, high = info->signatures.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (info->signatures.items[middle].signature < signature)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == info->signatures.count || info->signatures.items[low].signature != signature)
		return AF_DIE_NONE;
	return info->signatures.items[low].die;
}

af_die_id af_value_reference(const struct af_unit *unit, const struct af_value *value)
{
	switch (value->form) {
	case DW_FORM_ref1:
	case DW_FORM_ref2:
	case DW_FORM_ref4:
	case DW_FORM_ref8:
	case DW_FORM_ref_udata:
		if (value->number >= unit->end - unit->offset)
			return AF_DIE_NONE;
		return in_file(unit->file, unit->offset + value->number);
	case DW_FORM_ref_addr:
		return in_file(unit->file, value->number);
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_ref_sup4:
	case DW_FORM_ref_sup8:
		return in_file(unit->file->alternate, value->number);
	case DW_FORM_ref_sig8:
		return by_signature(unit->file->info, value->number);
	default:
		return AF_DIE_NONE;
	}
}

bool af_value_constant(const struct af_value *value, uint64_t *constant)
{
	/* clang-format off */
	switch (value->form) {
	case DW_FORM_data1: case DW_FORM_data2: case DW_FORM_data4: case DW_FORM_data8:
	case DW_FORM_sdata: case DW_FORM_udata: case DW_FORM_implicit_const: case DW_FORM_flag:
	case DW_FORM_flag_present: case DW_FORM_sec_offset:
		*constant = value->number;
		return true;
	case DW_FORM_block: case DW_FORM_block1: case DW_FORM_block2: case DW_FORM_block4:
	case DW_FORM_data16: {
		uint64_t i, size = value->size < 8 ? value->size : 8;
		for (i = size; i < value->size; i++)
			if (value->data[i])
				return false;
		struct af_bytes b = af_bytes_make(value->data, value->size);
		*constant = af_bytes_fixed(&b, (unsigned int)size);
		return true;
	}
	/* clang-format on */
	default:
		return false;
	}
}

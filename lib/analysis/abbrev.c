/* SPDX-License-Identifier: MIT */
/*
 * Abbreviation tables. Each abbreviation is compiled once into what the index pass needs: its
 * role, and a skip program in which runs of fixed-size attributes are one addition. Tables
 * are kept by offset: rustc gives every unit its own, dwz and LTO let units share one.
 */
#include <dwarf.h>
#include <stdlib.h>

#include "analysis/debuginfo.h"

static enum af_role role_of(unsigned int tag)
{
	switch (tag) {
	case DW_TAG_namespace:
		return AF_ROLE_NAMESPACE;
	case DW_TAG_structure_type:
		return AF_ROLE_TYPE;
	case DW_TAG_subprogram:
		return AF_ROLE_SUBPROGRAM;
	case DW_TAG_variable:
		return AF_ROLE_VARIABLE;
	case DW_TAG_inlined_subroutine:
		return AF_ROLE_INLINED;
	default:
		return AF_ROLE_SKIP;
	}
}

/* Notes what the index pass wants of an attribute, and where it is. */
static void note(struct af_abbrev *abbrev, const struct af_attribute *attribute,
		 struct af_place place)
{
	switch (attribute->name) {
	case DW_AT_name:
		abbrev->name = place;
		abbrev->plain_name = attribute->form == DW_FORM_strp;
		break;
	case DW_AT_low_pc:
		abbrev->low_pc = place;
		abbrev->plain_low_pc = attribute->form == DW_FORM_addr && attribute->size == 8;
		break;
	case DW_AT_ranges:
		abbrev->has_ranges = true;
		break;
	case DW_AT_inline:
		abbrev->has_inline = true;
		break;
	case DW_AT_specification:
		if (abbrev->origin.attribute != UINT32_MAX)
			break;
		/* fall through */
	case DW_AT_abstract_origin:
		abbrev->origin = place;
		abbrev->plain_origin = attribute->form == DW_FORM_ref4;
	}
}

static bool is_reference(unsigned int form)
{
	switch (form) {
	case DW_FORM_ref1:
	case DW_FORM_ref2:
	case DW_FORM_ref4:
	case DW_FORM_ref8:
	case DW_FORM_ref_addr:
	case DW_FORM_ref_sig8:
		return true;
	default:
		return false;
	}
}

/* Values that mean the same in every unit of a file. */
static bool is_plain(unsigned int form)
{
	switch (form) {
	case DW_FORM_strp:
	case DW_FORM_data1:
	case DW_FORM_data2:
	case DW_FORM_data4:
	case DW_FORM_data8:
	case DW_FORM_udata:
	case DW_FORM_sdata:
	case DW_FORM_flag:
	case DW_FORM_flag_present:
		return true;
	default:
		return false;
	}
}

/* Which of an attribute's bytes are the same in every copy of a DIE: not what it refers to, nor
   the numbers of files. */
static void note_common(struct af_abbrev *abbrev, const struct af_attribute *attribute,
			uint32_t steps, uint32_t fixed)
{
	uint32_t end = fixed + (uint32_t)(attribute->size > 0 ? attribute->size : 0);

	if (attribute->name != DW_AT_decl_file && !is_reference(attribute->form)) {
		abbrev->comparable &= is_plain(attribute->form);
		abbrev->kinds =
			(abbrev->kinds ^ attribute->name ^ (uint64_t)attribute->form << 16) *
			UINT64_C(0x9e3779b97f4a7c15);
		abbrev->kinds ^= abbrev->kinds >> 32;
		return;
	}
	abbrev->comparable &= attribute->size >= 0 && !steps && end <= sizeof(abbrev->common);
	for (uint32_t i = fixed; abbrev->comparable && i < end; i++)
		((uint8_t *)abbrev->common)[i] = 0;
}

/* Takes up one attribute. False when memory is short. */
static bool add_attribute(struct af_abbrevs *table, struct af_attribute *attribute,
			  int64_t constant)
{
	if (attribute->form == DW_FORM_implicit_const) {
		int64_t *kept = vector_push(&table->constants);
		if (!kept)
			return false;
		*kept = constant;
		/* More than can be counted: their values are lost, as of an unknown index. */
		size_t index = table->constants.count - 1;
		attribute->constant = index < UINT16_MAX ? (uint16_t)index : UINT16_MAX;
	}
	struct af_attribute *kept = vector_push(&table->attributes);
	if (kept)
		*kept = *attribute;
	return kept != NULL;
}

/* Ends a step of the skip program. False when memory is short. */
static bool add_step(struct af_abbrevs *table, struct af_abbrev *abbrev, uint32_t steps,
		     struct af_skip step)
{
	if (!steps) {
		abbrev->skip = step;
		return true;
	}
	struct af_skip *kept = vector_push(&table->skips);
	if (kept)
		*kept = step;
	return kept != NULL;
}

/* Reads the attribute list of one abbreviation and compiles its skip program. */
static struct af_error *read_attributes(struct af_abbrevs *table, struct af_abbrev *abbrev,
					struct af_bytes *bytes)
{
	uint32_t fixed = 0, steps = 0;

	abbrev->first_attribute = (uint32_t)table->attributes.count;
	abbrev->more_skips = (uint32_t)table->skips.count;
	abbrev->name.attribute = abbrev->low_pc.attribute = abbrev->origin.attribute = UINT32_MAX;
	abbrev->comparable = true;
	abbrev->kinds = (uint64_t)abbrev->tag << 1 | abbrev->children;
	abbrev->common[0] = abbrev->common[1] = UINT64_MAX;
	for (;;) {
		uint64_t name = af_bytes_uleb(bytes), form = af_bytes_uleb(bytes);
		int64_t constant = form == DW_FORM_implicit_const ? af_bytes_sleb(bytes) : 0;
		if ((!name && !form) || bytes->failed)
			break;
		struct af_attribute attribute = {
			.name = name > UINT16_MAX ? 0 : (uint16_t)name,
			.form = form > UINT16_MAX ? 0 : (uint16_t)form,
		};
		int size = af_form_size(attribute.form, table->address_size, table->offset_size,
					table->version);
		attribute.size = (int16_t)size;
		if (!add_attribute(table, &attribute, constant))
			return af_error_create("out of memory");
		abbrev->n_attributes++;
		note_common(abbrev, &attribute, steps, fixed);
		note(abbrev, &attribute,
		     (struct af_place){(uint32_t)table->attributes.count - 1, (uint16_t)steps,
				       (uint16_t)fixed});
		if (size >= 0 && fixed + (uint32_t)size <= UINT16_MAX) {
			fixed += (uint32_t)size;
			continue;
		}
		/* So many bytes that they do not fit: no compiler's; not read on. */
		enum af_skip_kind kind =
			size >= 0 ? AF_SKIP_UNKNOWN : af_form_skip_kind(attribute.form);
		if (!add_step(table, abbrev, steps,
			      (struct af_skip){(uint16_t)fixed, (uint8_t)kind}))
			return af_error_create("out of memory");
		fixed = 0;
		if (++steps > UINT16_MAX)
			return af_error_create("an abbreviation with too many attributes");
	}
	if (!add_step(table, abbrev, steps, (struct af_skip){(uint16_t)fixed, AF_SKIP_NONE}))
		return af_error_create("out of memory");
	return NULL;
}

struct coded {
	uint64_t code;
	struct af_abbrev abbrev;
};

static int compare_codes(const void *a, const void *b)
{
	const struct coded *x = a, *y = b;
	return x->code < y->code ? -1 : x->code > y->code;
}

/* Codes with gaps or out of order: sorted, with their abbreviations. */
static bool sort_codes(struct af_abbrevs *table)
{
	size_t n = table->items.count;
	struct coded *all = reallocarray(NULL, n ? n : 1, sizeof(*all));
	if (!all)
		return false;
	for (size_t i = 0; i < n; i++)
		all[i] = (struct coded){table->codes.items[i], table->items.items[i]};
	if (n)
		qsort(all, n, sizeof(*all), compare_codes);
	for (size_t i = 0; i < n; i++) {
		table->codes.items[i] = all[i].code;
		table->items.items[i] = all[i].abbrev;
	}
	free(all);
	return true;
}

static struct af_error *read_table(struct af_abbrevs *table, struct af_bytes *bytes)
{
	table->dense = true;
	for (;;) {
		uint64_t code = af_bytes_uleb(bytes);
		if (!code || bytes->failed)
			break;
		uint64_t tag = af_bytes_uleb(bytes);
		bool children = af_bytes_u8(bytes) != 0;
		struct af_abbrev *abbrev = vector_push(&table->items);
		uint64_t *kept = vector_push(&table->codes);
		if (!abbrev || !kept)
			return af_error_create("out of memory");
		*kept = code;
		abbrev->tag = tag > UINT16_MAX ? 0 : (uint16_t)tag;
		abbrev->children = children;
		abbrev->role = (uint8_t)role_of(abbrev->tag);
		if (code != table->items.count)
			table->dense = false;
		struct af_error *error = read_attributes(table, abbrev, bytes);
		if (error)
			return error;
	}
	if (table->dense)
		vector_deinit(&table->codes);
	else if (!sort_codes(table))
		return af_error_create("out of memory");
	return NULL;
}

const struct af_abbrev *af_abbrevs_find_sparse(const struct af_abbrevs *abbrevs, uint64_t code)
{
	size_t low = 0, high = abbrevs->items.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (abbrevs->codes.items[middle] < code)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == abbrevs->items.count || abbrevs->codes.items[low] != code)
		return NULL;
	return &abbrevs->items.items[low];
}

void af_abbrevs_destroy(struct af_abbrevs *abbrevs)
{
	if (!abbrevs)
		return;
	vector_deinit(&abbrevs->items);
	vector_deinit(&abbrevs->codes);
	vector_deinit(&abbrevs->attributes);
	vector_deinit(&abbrevs->constants);
	vector_deinit(&abbrevs->skips);
	free(abbrevs);
}

struct af_error *af_abbrevs_get(const struct af_unit *unit, uint64_t offset,
				struct af_abbrevs **abbrevs)
{
	struct af_file *file = unit->file;
	/* Units that share a table follow each other, or all use the first one. */
	size_t count = file->abbrevs.count;
	struct af_abbrevs **kept = file->abbrevs.items;
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (kept[middle]->offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	for (size_t i = low; i < count && kept[i]->offset == offset; i++) {
		if (kept[i]->version == unit->version &&
		    kept[i]->address_size == unit->address_size &&
		    kept[i]->offset_size == unit->offset_size) {
			*abbrevs = kept[i];
			return NULL;
		}
	}

	const struct af_section *section = &file->sections[AF_SEC_ABBREV];
	if (offset >= section->size)
		return af_error_create("unit at 0x%x: abbreviations at 0x%llx lie outside "
				       ".debug_abbrev",
				       unit->offset, (unsigned long long)offset);
	struct af_abbrevs *table = calloc(1, sizeof(*table));
	if (!table)
		return af_error_create("out of memory");
	table->offset = offset;
	table->version = unit->version;
	table->address_size = unit->address_size;
	table->offset_size = unit->offset_size;
	struct af_bytes bytes = af_bytes_make(section->data + offset, section->size - offset);
	struct af_error *error = read_table(table, &bytes);
	if (!error && !vector_push(&file->abbrevs))
		error = af_error_create("out of memory");
	if (error) {
		af_abbrevs_destroy(table);
		return error;
	}
	kept = file->abbrevs.items;
	memmove(&kept[low + 1], &kept[low], (count - low) * sizeof(*kept));
	kept[low] = table;
	*abbrevs = table;
	return NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * Debug files and their units: the headers of .debug_info (or .debug_types) and of each unit
 * the few attributes of its top DIE that the rest is decoded with. A unit that cannot be
 * decoded is left out; the others are still good.
 */
#include <dwarf.h>
#include <stdlib.h>

#include "analysis/debuginfo.h"

void af_debuginfo_init(struct af_debuginfo *info)
{
	memset(info, 0, sizeof(*info));
}

static void file_destroy(struct af_file *file)
{
	for (size_t i = 0; i < file->units.count; i++)
		af_line_files_destroy(file->units.items[i].lines);
	for (size_t i = 0; i < file->abbrevs.count; i++)
		af_abbrevs_destroy(file->abbrevs.items[i]);
	for (size_t i = 0; i < AF_SEC_COUNT; i++)
		free(file->sections[i].owned);
	vector_deinit(&file->units);
	vector_deinit(&file->unit_starts);
	vector_deinit(&file->abbrevs);
	vector_deinit(&file->package);
	free(file);
}

void af_debuginfo_deinit(struct af_debuginfo *info)
{
	for (size_t i = 0; i < info->files.count; i++)
		file_destroy(info->files.items[i]);
	vector_deinit(&info->files);
	vector_deinit(&info->signatures);
}

struct af_unit *af_file_unit(const struct af_file *file, uint64_t offset)
{
	uint64_t block = offset / AF_UNIT_BLOCK;

	if (block + 1 >= file->unit_starts.count)
		return NULL;
	/* Most blocks are of one unit. */
	size_t low = file->unit_starts.items[block], high = file->unit_starts.items[block + 1];
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (file->units.items[middle].end <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == file->units.count || file->units.items[low].offset > offset)
		return NULL;
	return &file->units.items[low];
}

/* So that a unit is found at once. */
static bool index_units(struct af_file *file)
{
	size_t blocks = file->sections[AF_SEC_INFO].size / AF_UNIT_BLOCK + 2, at = 0;

	file->unit_starts.count = 0;
	if (!vector_reserve(&file->unit_starts, blocks))
		return false;
	for (uint64_t i = 0; i < blocks; i++) {
		while (at < file->units.count && file->units.items[at].end <= i * AF_UNIT_BLOCK)
			at++;
		file->unit_starts.items[file->unit_starts.count++] = (uint32_t)at;
	}
	return true;
}

/* Where the tables of a unit begin that names no base: behind the section's first header,
   which is what a .dwo means; GNU's split DWARF 4 has no header. */
static void default_bases(struct af_unit *unit)
{
	bool headed = unit->version >= 5;
	unit->str_offsets_base = headed ? 8 : 0;
	unit->rnglists_base = headed ? 12 : 0;
	unit->loclists_base = headed ? 12 : 0;
	unit->addr_base = headed ? 8 : 0;
	unit->stmt_list = UINT64_MAX;
}

/* In a .dwp, everything of a unit is counted from its own part of each section. */
static void add_package(struct af_unit *unit, uint64_t *abbrev_offset)
{
	const struct af_package_row *rows = unit->file->package.items;
	size_t low = 0, high = unit->file->package.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (rows[middle].info < unit->offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == unit->file->package.count || rows[low].info != unit->offset)
		return;
	*abbrev_offset += rows[low].offsets[AF_SEC_ABBREV];
	unit->str_offsets_base += rows[low].offsets[AF_SEC_STR_OFFSETS];
	unit->rnglists_base += rows[low].offsets[AF_SEC_RNGLISTS];
	unit->loclists_base += rows[low].offsets[AF_SEC_LOCLISTS];
	unit->loc_base = rows[low].offsets[AF_SEC_LOC];
}

static bool is_rust(const struct af_unit *unit)
{
	/* 0x9000: what rustc wrote before DW_LANG_Rust had a number. Units of dwz and the
	   skeletons of split units have no language. */
	return !unit->language || unit->language == 0x1c || unit->language == 0x9000;
}

/* Bases first: strings of other attributes may need them. */
static void read_bases(struct af_unit *unit, const struct af_die *die)
{
	struct af_value value;
	uint64_t number;

	if (af_die_number(die, DW_AT_str_offsets_base, &number))
		unit->str_offsets_base = number;
	if (af_die_number(die, DW_AT_addr_base, &number) ||
	    af_die_number(die, DW_AT_GNU_addr_base, &number))
		unit->addr_base = number;
	if (af_die_number(die, DW_AT_rnglists_base, &number))
		unit->rnglists_base = number;
	if (af_die_number(die, DW_AT_loclists_base, &number))
		unit->loclists_base = number;
	if (af_die_number(die, DW_AT_stmt_list, &number))
		unit->stmt_list = number;
	if (af_die_number(die, DW_AT_GNU_ranges_base, &number))
		unit->ranges_base = number;
	if (af_die_number(die, DW_AT_language, &number))
		unit->language = (uint16_t)number;
	if (af_die_number(die, DW_AT_GNU_dwo_id, &number))
		unit->signature = number;
	if (af_die_attribute(die, DW_AT_low_pc, &value))
		af_value_address(unit, &value, &unit->low_pc);
}

static bool read_top(struct af_unit *unit)
{
	struct af_die die;
	const uint8_t *data = unit->file->sections[AF_SEC_INFO].data;
	struct af_bytes b = af_bytes_make(data + unit->first_die, unit->end - unit->first_die);
	uint64_t code = af_bytes_uleb(&b);
	die = (struct af_die){.unit = unit, .offset = unit->first_die, .attributes = b.pos};
	die.abbrev = code ? af_abbrevs_find(unit->abbrevs, code) : NULL;
	if (!die.abbrev)
		return false;
	read_bases(unit, &die);
	unit->name = af_die_string(&die, DW_AT_name);
	unit->comp_dir = af_die_string(&die, DW_AT_comp_dir);
	unit->producer = af_die_string(&die, DW_AT_producer);
	unit->dwo_name = af_die_string(&die, DW_AT_dwo_name);
	if (!unit->dwo_name)
		unit->dwo_name = af_die_string(&die, DW_AT_GNU_dwo_name);
	unit->rust = is_rust(unit);
	return true;
}

/* Reads what stands between a unit's length and its first DIE. */
static bool read_header(struct af_unit *unit, struct af_bytes *b, bool types,
			uint64_t *abbrev_offset)
{
	unit->version = (uint8_t)af_bytes_u16(b);
	unit->offset_size = 4;
	unit->type = types ? DW_UT_type : DW_UT_compile;
	if (unit->version < 2 || unit->version > 5)
		return false;
	if (unit->version >= 5) {
		unit->type = af_bytes_u8(b);
		unit->address_size = af_bytes_u8(b);
		*abbrev_offset = af_bytes_u32(b);
	} else {
		*abbrev_offset = af_bytes_u32(b);
		unit->address_size = af_bytes_u8(b);
	}
	if (unit->type == DW_UT_type || unit->type == DW_UT_split_type) {
		unit->signature = af_bytes_u64(b);
		unit->type_offset = af_bytes_u32(b);
	} else if (unit->type == DW_UT_skeleton || unit->type == DW_UT_split_compile) {
		unit->signature = af_bytes_u64(b);
	}
	return !b->failed && (unit->address_size == 4 || unit->address_size == 8);
}

struct af_error *af_file_read_units(struct af_file *file, bool types)
{
	const struct af_section *info = &file->sections[AF_SEC_INFO];
	struct af_bytes b = af_bytes_make(info->data, info->size);

	if (info->size > UINT32_MAX)
		return af_error_create(".debug_info of more than 4 GiB is not supported");
	while (af_bytes_left(&b) > 4) {
		struct af_unit unit = {.file = file, .offset = (uint32_t)(b.pos - info->data)};
		uint64_t length = af_bytes_u32(&b), abbrev_offset;
		bool wide = length == UINT32_MAX;
		if (wide)
			length = af_bytes_u64(&b);
		if (b.failed || length > af_bytes_left(&b))
			break;
		struct af_bytes header = af_bytes_make(b.pos, length);
		af_bytes_skip(&b, length);
		unit.end = (uint32_t)(b.pos - info->data);
		if (wide || !read_header(&unit, &header, types, &abbrev_offset))
			continue;
		unit.first_die = (uint32_t)(header.pos - info->data);
		default_bases(&unit);
		add_package(&unit, &abbrev_offset);

		struct af_error *error = af_abbrevs_get(&unit, abbrev_offset, &unit.abbrevs);
		if (error) {
			af_error_destroy(error);
			continue;
		}
		if (!read_top(&unit))
			continue;
		struct af_unit *kept = vector_push(&file->units);
		if (!kept)
			return af_error_create("out of memory");
		*kept = unit;
	}
	return index_units(file) ? NULL : af_error_create("out of memory");
}

struct af_file *af_debuginfo_add(struct af_debuginfo *info,
				 const struct af_section sections[AF_SEC_COUNT])
{
	struct af_file *file = calloc(1, sizeof(*file));
	if (!file || !vector_push(&info->files)) {
		free(file);
		for (size_t i = 0; i < AF_SEC_COUNT; i++)
			free(sections[i].owned);
		return NULL;
	}
	file->info = info;
	file->number = (uint32_t)info->files.count - 1;
	memcpy(file->sections, sections, sizeof(file->sections));
	file->addr = &file->sections[AF_SEC_ADDR];
	for (int i = 0; i < AF_SEC_COUNT; i++) {
		struct af_section *section = &file->sections[i];
		const uint8_t *last =
			section->size ? memrchr(section->data, 0, section->size) : NULL;
		section->terminated = last ? (size_t)(last + 1 - section->data) : 0;
	}
	info->files.items[file->number] = file;
	return file;
}

static int compare_signatures(const void *a, const void *b)
{
	const struct af_signature *x = a, *y = b;
	if (x->signature != y->signature)
		return x->signature < y->signature ? -1 : 1;
	return x->die < y->die ? -1 : x->die > y->die;
}

struct directory {
	uint64_t stmt_list;
	const char *comp_dir;
};

static int compare_directories(const void *a, const void *b)
{
	const struct directory *x = a, *y = b;
	return x->stmt_list < y->stmt_list ? -1 : x->stmt_list > y->stmt_list;
}

/* A type unit names the line table of the unit that it was made with, and no directory: that
   unit's is its own. */
static struct af_error *place_type_units(struct af_debuginfo *info)
{
	VECTOR(struct directory) known = {0};
	const struct af_file *main = info->files.items[0];

	for (size_t u = 0; u < main->units.count; u++) {
		const struct af_unit *unit = &main->units.items[u];
		if (!unit->comp_dir || unit->stmt_list == UINT64_MAX)
			continue;
		struct directory *directory = vector_push(&known);
		if (!directory)
			return af_error_create("out of memory");
		*directory = (struct directory){unit->stmt_list, unit->comp_dir};
	}
	vector_sort(&known, compare_directories);
	for (size_t f = 0; f < info->files.count && known.count; f++) {
		struct af_file *file = info->files.items[f];
		for (size_t u = 0; u < file->units.count; u++) {
			struct af_unit *unit = &file->units.items[u];
			struct directory wanted = {.stmt_list = unit->stmt_list};
			if (!unit->type_offset || unit->comp_dir)
				continue;
			const struct directory *found =
				bsearch(&wanted, known.items, known.count, sizeof(wanted),
					compare_directories);
			unit->comp_dir = found ? found->comp_dir : NULL;
		}
	}
	vector_deinit(&known);
	return NULL;
}

struct af_error *af_debuginfo_sign_types(struct af_debuginfo *info)
{
	for (size_t f = 0; f < info->files.count; f++) {
		const struct af_file *file = info->files.items[f];
		for (size_t u = 0; u < file->units.count; u++) {
			const struct af_unit *unit = &file->units.items[u];
			uint64_t offset = (uint64_t)unit->offset + unit->type_offset;
			if (!unit->type_offset || offset >= unit->end)
				continue;
			struct af_signature *signature = vector_push(&info->signatures);
			if (!signature)
				return af_error_create("out of memory");
			*signature = (struct af_signature){unit->signature,
							   (uint64_t)file->number << 32 | offset};
		}
	}
	vector_sort(&info->signatures, compare_signatures);
	return info->signatures.count ? place_type_units(info) : NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * Debug info that lies in several places: type units, the alternate file of dwz, and split
 * DWARF, where the object keeps skeleton units and the rest is in .dwo files or one .dwp.
 * Debian's libdw 0.188 opens no .dwp; nor is its way into a .dwo needed here.
 *
 * A split unit is decoded like any other, but for what it has left in the object: addresses,
 * the line table, DWARF 4's ranges. `skeleton` leads there.
 */
#include <dwarf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "analysis/elffile.h"

/* Opens one more file; NULL where there is none to be had, which is no error. */
static struct af_elf *open_other(struct af_object *object, const char *path)
{
	struct af_elf elf;
	struct af_error *error = af_elf_open(&elf, path);
	struct af_elf *other = NULL;

	if (!error && elf.elf)
		other = vector_push(&object->others);
	if (!other) {
		af_error_destroy(error);
		af_elf_close(&elf);
		return NULL;
	}
	*other = elf;
	return other;
}

static struct af_file *add_file(struct af_debuginfo *info, const struct af_elf *elf,
				const char *suffix, struct af_error **error)
{
	struct af_section sections[AF_SEC_COUNT];

	*error = af_elf_debug_sections(elf, suffix, sections);
	if (*error)
		return NULL;
	struct af_file *file = af_debuginfo_add(info, sections);
	if (!file)
		*error = af_error_create("out of memory");
	return file;
}

/* Which of our sections a column of a unit index is about; -1 for others. Numbers of GNU's
   version 2 and of DWARF 5 (7.3.5). */
static int column_section(unsigned int version, uint32_t id)
{
	switch (id) {
	case 1:
		return AF_SEC_INFO;
	case 3:
		return AF_SEC_ABBREV;
	case 4:
		return AF_SEC_LINE;
	case 5:
		return version == 5 ? AF_SEC_LOCLISTS : AF_SEC_LOC;
	case 6:
		return AF_SEC_STR_OFFSETS;
	case 8:
		return version == 5 ? AF_SEC_RNGLISTS : -1;
	default:
		return -1;
	}
}

static int compare_rows(const void *a, const void *b)
{
	const struct af_package_row *x = a, *y = b;
	return x->info < y->info ? -1 : x->info > y->info;
}

/* Reads .debug_cu_index: behind a hash table of signatures, which is not needed, one row of
   offsets per unit. */
static struct af_error *read_package(const struct af_elf *elf, struct af_file *file)
{
	struct af_elf_section found;
	uint32_t ids[16];

	if (!af_elf_section(elf, ".debug_cu_index", &found))
		return NULL;
	struct af_bytes b = af_bytes_make(found.data, found.size);
	unsigned int version = af_bytes_u32(&b) & 0xffff;
	uint32_t columns = af_bytes_u32(&b), rows = af_bytes_u32(&b);
	uint64_t slots = af_bytes_u32(&b);
	af_bytes_skip(&b, slots * 12);
	if (b.failed || columns > 16 || rows > af_bytes_left(&b) / 4)
		return af_error_create("%s: damaged .debug_cu_index", elf->path);
	for (uint32_t i = 0; i < columns; i++)
		ids[i] = af_bytes_u32(&b);
	for (uint32_t r = 0; r < rows && !b.failed; r++) {
		struct af_package_row *row = vector_push(&file->package);
		if (!row)
			return af_error_create("out of memory");
		for (uint32_t i = 0; i < columns; i++) {
			uint32_t offset = af_bytes_u32(&b);
			int section = column_section(version, ids[i]);
			if (section >= 0)
				row->offsets[section] = offset;
		}
		row->info = row->offsets[AF_SEC_INFO];
	}
	vector_sort(&file->package, compare_rows);
	return NULL;
}

/* Ties split units to the skeletons of the same signature. */
static void tie_units(struct af_file *file, const struct af_file *main)
{
	size_t next = 0;

	file->addr = &main->sections[AF_SEC_ADDR];
	for (size_t i = 0; i < file->units.count; i++) {
		struct af_unit *unit = &file->units.items[i];
		/* Both are mostly in the same order: go on where the last one was found. */
		for (size_t k = 0; k < main->units.count; k++) {
			const struct af_unit *skeleton =
				&main->units.items[(next + k) % main->units.count];
			if (!skeleton->dwo_name || skeleton->signature != unit->signature)
				continue;
			unit->skeleton = skeleton;
			unit->addr_base = skeleton->addr_base;
			unit->low_pc = skeleton->low_pc;
			next += k + 1;
			break;
		}
	}
}

static struct af_error *add_split(struct af_object *object, struct af_debuginfo *info,
				  const struct af_file *main, const char *path)
{
	struct af_error *error;
	const struct af_elf *elf = open_other(object, path);

	if (!elf)
		return NULL;
	struct af_file *file = add_file(info, elf, ".dwo", &error);
	if (!error)
		error = read_package(elf, file);
	if (!error)
		error = af_file_read_units(file, false);
	if (!error)
		tie_units(file, main);
	return error;
}

static bool has_skeletons(const struct af_file *main)
{
	for (size_t i = 0; i < main->units.count; i++)
		if (main->units.items[i].dwo_name)
			return true;
	return false;
}

/* The .dwp beside the object (as rustc and dwp name it), else each .dwo where its skeleton
   says it was made. */
static struct af_error *find_split(struct af_object *object, struct af_debuginfo *info,
				   const struct af_file *main)
{
	char path[PATH_MAX * 2];
	const char *last = "";
	size_t before = info->files.count;

	if (!has_skeletons(main))
		return NULL;
	snprintf(path, sizeof(path), "%s.dwp", object->main.path);
	struct af_error *error = add_split(object, info, main, path);
	if (error || info->files.count > before)
		return error;
	for (size_t i = 0; i < main->units.count && !error; i++) {
		const struct af_unit *unit = &main->units.items[i];
		/* Units of one .dwo follow each other. */
		if (!unit->dwo_name || !strcmp(unit->dwo_name, last))
			continue;
		last = unit->dwo_name;
		bool relative = last[0] != '/' && unit->comp_dir;
		snprintf(path, sizeof(path), "%s%s%s", relative ? unit->comp_dir : "",
			 relative ? "/" : "", last);
		error = add_split(object, info, main, path);
	}
	return error;
}

/* .gnu_debugaltlink: a path, relative to the file that names it, and a build-id. */
static struct af_error *find_alternate(struct af_object *object, struct af_debuginfo *info,
				       struct af_file *main)
{
	struct af_elf_section link;
	struct af_error *error = NULL;
	const struct af_elf *from = object->debug.elf ? &object->debug : &object->main;
	char path[PATH_MAX * 2];

	if (!af_elf_section(from, ".gnu_debugaltlink", &link) || !memchr(link.data, 0, link.size))
		return NULL;
	const char *name = (const char *)link.data, *slash = strrchr(from->path, '/');
	int directory = name[0] != '/' && slash ? (int)(slash + 1 - from->path) : 0;
	snprintf(path, sizeof(path), "%.*s%s", directory, from->path, name);
	const struct af_elf *elf = open_other(object, path);
	/* Behind the name comes the build-id of the file that is meant. */
	const uint8_t *wanted = link.data + strlen(name) + 1;
	uint64_t size = link.size - strlen(name) - 1;
	struct af_build_id id;
	if (!elf || (af_elf_build_id(elf, &id) && size &&
		     (size != id.size || memcmp(id.bytes, wanted, size))))
		return NULL;
	main->alternate = add_file(info, elf, "", &error);
	return error ? error : af_file_read_units(main->alternate, false);
}

/* .debug_types of DWARF 4: a file of its own whose .debug_info it is, on the same strings. */
static struct af_error *add_types(struct af_debuginfo *info, const struct af_file *main)
{
	struct af_section sections[AF_SEC_COUNT];

	if (!main->sections[AF_SEC_TYPES].size)
		return NULL;
	memcpy(sections, main->sections, sizeof(sections));
	for (int i = 0; i < AF_SEC_COUNT; i++)
		sections[i].owned = NULL;
	sections[AF_SEC_INFO] = sections[AF_SEC_TYPES];
	struct af_file *file = af_debuginfo_add(info, sections);
	if (!file)
		return af_error_create("out of memory");
	file->alternate = main->alternate;
	return af_file_read_units(file, true);
}

struct af_error *af_object_debuginfo(struct af_object *object, struct af_debuginfo *info)
{
	struct af_section sections[AF_SEC_COUNT];

	af_object_find_debug(object);
	if (!af_object_has_debug(object))
		return NULL;
	struct af_error *error = af_object_sections(object, sections);
	if (error)
		return error;
	struct af_file *main = af_debuginfo_add(info, sections);
	if (!main)
		return af_error_create("out of memory");
	error = find_alternate(object, info, main);
	if (!error)
		error = af_file_read_units(main, false);
	if (!error)
		error = add_types(info, main);
	if (!error)
		error = find_split(object, info, main);
	if (!error)
		error = af_debuginfo_sign_types(info);
	return error;
}

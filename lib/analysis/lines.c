/* SPDX-License-Identifier: MIT */
/*
 * File names: the directory and file tables at the head of a unit's line program. The program
 * itself is never run, lines come from DW_AT_decl_line.
 */
#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/debuginfo.h"

struct line_file {
	const char *name;
	uint64_t directory;
};

struct af_line_files {
	bool from_zero; /* DWARF 5 numbers files from 0 */
	VECTOR(const char *) directories;
	VECTOR(struct line_file) files;
};

void af_line_files_destroy(struct af_line_files *files)
{
	if (!files)
		return;
	vector_deinit(&files->directories);
	vector_deinit(&files->files);
	free(files);
}

/* DWARF 2 to 4: strings up to an empty one. Directory 0 is the unit's own. */
static bool read_old(struct af_line_files *lines, const struct af_unit *unit, struct af_bytes *b)
{
	const char **directory = vector_push(&lines->directories);
	if (!directory)
		return false;
	*directory = unit->comp_dir;
	while (!b->failed) {
		const char *name = af_bytes_string(b);
		if (!name || !*name)
			break;
		directory = vector_push(&lines->directories);
		if (!directory)
			return false;
		*directory = name;
	}
	while (!b->failed) {
		const char *name = af_bytes_string(b);
		if (!name || !*name)
			break;
		struct line_file *file = vector_push(&lines->files);
		if (!file)
			return false;
		*file = (struct line_file){name, af_bytes_uleb(b)};
		af_bytes_uleb(b);
		af_bytes_uleb(b);
	}
	return true;
}

/* DWARF 5: a table whose columns are described before it. `directories` selects which. */
static bool read_table(struct af_line_files *lines, const struct af_unit *unit, struct af_bytes *b,
		       bool directories)
{
	struct {
		uint64_t content;
		struct af_attribute attribute;
	} columns[16];
	unsigned int n = af_bytes_u8(b);
	uint64_t count;

	if (n > 16)
		return false;
	for (unsigned int i = 0; i < n; i++) {
		columns[i].content = af_bytes_uleb(b);
		columns[i].attribute = (struct af_attribute){.form = (uint16_t)af_bytes_uleb(b)};
	}
	count = af_bytes_uleb(b);
	if (!n || count > af_bytes_left(b)) /* an entry takes a byte at least */
		return count == 0;
	for (uint64_t i = 0; i < count && !b->failed; i++) {
		struct line_file file = {0};
		for (unsigned int c = 0; c < n; c++) {
			struct af_value value;
			af_form_read(unit, b, &columns[c].attribute, &value);
			if (columns[c].content == DW_LNCT_path)
				file.name = af_value_string(unit, &value);
			else if (columns[c].content == DW_LNCT_directory_index)
				file.directory = value.number;
		}
		if (directories) {
			const char **directory = vector_push(&lines->directories);
			if (!directory)
				return false;
			*directory = file.name;
		} else {
			struct line_file *kept = vector_push(&lines->files);
			if (!kept)
				return false;
			*kept = file;
		}
	}
	return !b->failed;
}

static bool read_header(struct af_line_files *lines, const struct af_unit *unit)
{
	/* A split unit counts files by the table of its skeleton. */
	if (unit->skeleton)
		unit = unit->skeleton;
	const struct af_section *s = &unit->file->sections[AF_SEC_LINE];

	if (unit->stmt_list >= s->size)
		return false;
	struct af_bytes b = af_bytes_make(s->data + unit->stmt_list, s->size - unit->stmt_list);
	uint64_t length = af_bytes_u32(&b);
	if (length > af_bytes_left(&b))
		return false;
	b.end = b.pos + length;
	unsigned int version = af_bytes_u16(&b);
	if (version < 2 || version > 5)
		return false;
	if (version >= 5)
		af_bytes_skip(&b, 2); /* address and segment selector sizes */
	af_bytes_u32(&b);	      /* header length */
	/* minimum instruction length, (4 on: operations per instruction,) default is_stmt,
	   line base, line range */
	af_bytes_skip(&b, version >= 4 ? 5 : 4);
	unsigned int opcode_base = af_bytes_u8(&b);
	af_bytes_skip(&b, opcode_base ? opcode_base - 1 : 0);
	lines->from_zero = version >= 5;
	if (version < 5)
		return read_old(lines, unit, &b);
	return read_table(lines, unit, &b, true) && read_table(lines, unit, &b, false);
}

/* "a/b/../c" -> "a/c", "a/./c" -> "a/c": as people write it. Links are not followed: what
   was compiled may be gone, and the name is for reading. In place. */
static void simplify(char *path)
{
	char *to = path, *from = path;
	while (*from) {
		size_t length = strcspn(from, "/");
		bool end = !from[length];
		if (length == 1 && from[0] == '.' && !end) {
			from += 2;
			continue;
		}
		if (length == 2 && !memcmp(from, "..", 2) && !end && to - path > 1) {
			char *parent = to - 1; /* the slash behind the last component */
			while (parent > path && parent[-1] != '/')
				parent--;
			if (memcmp(parent, "../", 3)) {
				to = parent;
				from += 3;
				continue;
			}
		}
		memmove(to, from, length + !end);
		to += length + !end;
		from += length + !end;
	}
	*to = '\0';
}

bool af_unit_file_name(struct af_unit *unit, uint64_t number, char *path, size_t size)
{
	if (!unit->lines) {
		unit->lines = calloc(1, sizeof(*unit->lines));
		if (!unit->lines)
			return false;
		read_header(unit->lines, unit); /* what was read of a broken one is kept */
	}
	const struct af_line_files *lines = unit->lines;
	const char *comp_dir = unit->skeleton ? unit->skeleton->comp_dir : unit->comp_dir;
	if (!lines->from_zero)
		number--; /* 0, "no file", becomes too large */
	if (number >= lines->files.count || !lines->files.items[number].name)
		return false;

	const struct line_file *file = &lines->files.items[number];
	const char *directory = NULL, *root = "";
	if (file->directory < lines->directories.count)
		directory = lines->directories.items[file->directory];
	if (!directory || file->name[0] == '/')
		directory = "";
	if (directory[0] != '/' && directory != comp_dir && file->name[0] != '/' && comp_dir)
		root = comp_dir;
	snprintf(path, size, "%s%s%s%s%s", root, *root ? "/" : "", directory, *directory ? "/" : "",
		 file->name);
	simplify(path);
	return true;
}

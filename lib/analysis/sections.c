/* SPDX-License-Identifier: MIT */
/*
 * Debug sections: where they are (the object itself, a separate file by build-id or debug
 * link, a dwz alternate file) and how they are packed (zlib and zstd by SHF_COMPRESSED, zlib
 * by GNU's .zdebug_ names). libelf 0.188 knows no zstd, so both are unpacked here.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "analysis/elffile.h"

#ifndef ELFCOMPRESS_ZSTD
#define ELFCOMPRESS_ZSTD 2
#endif

static const char *const section_names[AF_SEC_COUNT] = {
	[AF_SEC_INFO] = "info",		[AF_SEC_ABBREV] = "abbrev",
	[AF_SEC_STR] = "str",		[AF_SEC_LINE] = "line",
	[AF_SEC_LINE_STR] = "line_str", [AF_SEC_STR_OFFSETS] = "str_offsets",
	[AF_SEC_ADDR] = "addr",		[AF_SEC_RANGES] = "ranges",
	[AF_SEC_RNGLISTS] = "rnglists", [AF_SEC_LOC] = "loc",
	[AF_SEC_LOCLISTS] = "loclists", [AF_SEC_TYPES] = "types",
};

/* A file cannot claim more than this many times its packed size: no zip bombs. */
#define RATIO_MAX 1200

static struct af_error *unpack(const char *name, unsigned int type, const uint8_t *from,
			       uint64_t from_size, uint64_t size, struct af_section *section)
{
	bool ok = false;

	if (size / RATIO_MAX > from_size || size > SIZE_MAX / 2)
		return af_error_create("section %s: compressed beyond belief", name);
	uint8_t *data = malloc(size ? size : 1);
	if (!data)
		return af_error_create("section %s: out of memory for %llu bytes", name,
				       (unsigned long long)size);
	if (type == ELFCOMPRESS_ZLIB) {
		uLongf got = size;
		ok = uncompress(data, &got, from, from_size) == Z_OK && got == size;
	} else if (type == ELFCOMPRESS_ZSTD) {
		ok = ZSTD_decompress(data, size, from, from_size) == size;
	}
	if (!ok) {
		free(data);
		return af_error_create("section %s: damaged or unknown compression", name);
	}
	*section = (struct af_section){.data = data, .size = size, .owned = data};
	return NULL;
}

/* One section by its short name from `file`; empty if the file has none. */
static struct af_error *load(const struct af_elf *file, const char *prefix, const char *name,
			     const char *suffix, struct af_section *section)
{
	struct af_elf_section found;
	char full[64];

	*section = (struct af_section){0};
	snprintf(full, sizeof(full), ".%s_%s%s", prefix, name, suffix);
	if (af_elf_section(file, full, &found)) {
		if (!(found.header.sh_flags & SHF_COMPRESSED)) {
			*section = (struct af_section){.data = found.data, .size = found.size};
			return NULL;
		}
		struct af_bytes b = af_bytes_make(found.data, found.size);
		uint32_t type = af_bytes_u32(&b);
		af_bytes_u32(&b);
		uint64_t size = af_bytes_u64(&b);
		af_bytes_u64(&b);
		if (b.failed)
			return af_error_create("section %s: truncated", full);
		return unpack(full, type, b.pos, af_bytes_left(&b), size, section);
	}
	snprintf(full, sizeof(full), ".z%s_%s%s", prefix, name, suffix);
	if (af_elf_section(file, full, &found) && found.size >= 12 &&
	    !memcmp(found.data, "ZLIB", 4)) {
		uint64_t size = 0;
		for (int i = 4; i < 12; i++)
			size = size << 8 | found.data[i];
		return unpack(full, ELFCOMPRESS_ZLIB, found.data + 12, found.size - 12, size,
			      section);
	}
	return NULL;
}

static bool has_info(const struct af_elf *file)
{
	struct af_elf_section found;
	return af_elf_section(file, ".debug_info", &found) ||
	       af_elf_section(file, ".zdebug_info", &found);
}

bool af_object_has_debug(const struct af_object *object)
{
	return has_info(&object->main) || has_info(&object->debug);
}

struct af_error *af_object_sections(const struct af_object *object,
				    struct af_section sections[AF_SEC_COUNT])
{
	return af_elf_debug_sections(has_info(&object->main) ? &object->main : &object->debug, "",
				     sections);
}

struct af_error *af_elf_debug_sections(const struct af_elf *file, const char *suffix,
				       struct af_section sections[AF_SEC_COUNT])
{
	memset(sections, 0, AF_SEC_COUNT * sizeof(*sections));
	if (!file->elf)
		return NULL;
	for (int i = 0; i < AF_SEC_COUNT; i++) {
		struct af_error *error =
			load(file, "debug", section_names[i], suffix, &sections[i]);
		if (!error)
			continue;
		while (i--)
			free(sections[i].owned);
		memset(sections, 0, AF_SEC_COUNT * sizeof(*sections));
		return error;
	}
	return NULL;
}

/* Whether a debug file was made with the object: by build-id, else by the link's checksum. Debug
   info of another build would put everything elsewhere. */
static bool belongs(const struct af_object *object, const struct af_elf *debug, const uint32_t *crc)
{
	struct af_build_id id;

	if (object->build_id_size && af_elf_build_id(debug, &id))
		return id.size == object->build_id_size &&
		       !memcmp(id.bytes, object->build_id, id.size);
	return crc && *crc == crc32_z(0, debug->data, debug->size);
}

static bool try_debug(struct af_object *object, const char *path, const uint32_t *crc)
{
	struct af_error *error = af_elf_open(&object->debug, path);
	if (!error && object->debug.elf && has_info(&object->debug) &&
	    belongs(object, &object->debug, crc))
		return true;
	af_error_destroy(error);
	af_elf_close(&object->debug);
	return false;
}

/* /usr/lib/debug/.build-id/12/3456....debug */
static bool find_by_build_id(struct af_object *object)
{
	char path[PATH_MAX], hex[AFM_BUILD_ID_MAX * 2 + 1] = "";

	for (uint32_t i = 0; i < object->build_id_size; i++)
		snprintf(hex + i * 2, 3, "%02x", object->build_id[i]);
	if (object->build_id_size < 2)
		return false;
	snprintf(path, sizeof(path), "/usr/lib/debug/.build-id/%.2s/%s.debug", hex, hex + 2);
	return try_debug(object, path, NULL);
}

/* .gnu_debuglink: a name, zeros up to a multiple of 4, a checksum. */
static bool read_link(const struct af_object *object, const char **name, uint32_t *crc)
{
	struct af_elf_section link;

	if (!af_elf_section(&object->main, ".gnu_debuglink", &link))
		return false;
	struct af_bytes b = af_bytes_make(link.data, link.size);
	*name = af_bytes_string(&b);
	af_bytes_skip(&b, -(uint64_t)(b.pos - link.data) & 3);
	*crc = af_bytes_u32(&b);
	return *name && !b.failed && **name && !strchr(*name, '/');
}

void af_object_find_debug(struct af_object *object)
{
	static const struct {
		const char *before, *after;
	} places[] = {{"", "/"}, {"", "/.debug/"}, {"/usr/lib/debug", "/"}};
	char path[PATH_MAX * 2], directory[PATH_MAX] = ".";
	const char *name;
	uint32_t crc;

	if (has_info(&object->main) || find_by_build_id(object) || !read_link(object, &name, &crc))
		return;
	char *real = realpath(object->main.path, NULL);
	if (real) {
		*strrchr(real, '/') = '\0';
		snprintf(directory, sizeof(directory), "%s", real);
		free(real);
	}
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%s%s%s%s", places[i].before, directory,
			 places[i].after, name);
		if (try_debug(object, path, &crc))
			return;
	}
}

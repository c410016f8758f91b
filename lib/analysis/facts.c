/* SPDX-License-Identifier: MIT */
/*
 * What can be said of an object without its debug info: is it something that can be traced,
 * and does it hold async Rust?
 */
#include <elf.h>

#include "analysis/analysis.h"
#include "analysis/elffile.h"
#include "analysis/facts.h"

/* The compiler puts one of these panic messages behind every coroutine that could be resumed
   once too often. */
static const char *const async_texts[] = {
	"`async fn` resumed after",
	"`async gen fn` resumed after",
};

static const char *const rust_texts[] = {
	"library/core/src/",
	"library/std/src/",
	"library/alloc/src/",
};

static bool holds(const uint8_t *data, uint64_t size, const char *const texts[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memmem(data, size, texts[i], strlen(texts[i])))
			return true;
	return false;
}

/* Looks through the loaded, not executable, not writable bytes: that is where texts are. */
static bool read_only_data_holds(const struct af_object *object, const char *const texts[],
				 size_t n)
{
	Elf_Scn *scn = NULL;
	struct af_elf_section section;

	while ((scn = elf_nextscn(object->main.elf, scn)))
		if (gelf_getshdr(scn, &section.header) &&
		    (section.header.sh_flags & (SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR)) ==
			    SHF_ALLOC &&
		    section.header.sh_type == SHT_PROGBITS &&
		    af_elf_section_data(&object->main, &section) &&
		    holds(section.data, section.size, texts, n))
			return true;
	return false;
}

bool af_object_async_sign(const struct af_object *object)
{
	return read_only_data_holds(object, async_texts,
				    sizeof(async_texts) / sizeof(async_texts[0]));
}

static void read_dynamic(const struct af_object *object, const GElf_Phdr *phdr, bool *pie)
{
	if (phdr->p_offset > object->main.size ||
	    phdr->p_filesz > object->main.size - phdr->p_offset)
		return;
	struct af_bytes b = af_bytes_make(object->main.data + phdr->p_offset, phdr->p_filesz);
	while (af_bytes_left(&b) >= 16) {
		uint64_t tag = af_bytes_u64(&b), value = af_bytes_u64(&b);
		if (tag == DT_NULL)
			break;
		if (tag == DT_FLAGS_1 && (value & DF_1_PIE))
			*pie = true;
	}
}

static void read_segments(const struct af_object *object, struct af_object_facts *facts)
{
	size_t n;
	bool pie = false;

	if (elf_getphdrnum(object->main.elf, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		GElf_Phdr phdr;
		if (!gelf_getphdr(object->main.elf, (int)i, &phdr))
			continue;
		if (phdr.p_type == PT_INTERP)
			facts->has_interp = true;
		if (phdr.p_type == PT_DYNAMIC) {
			facts->dynamic = true;
			if (object->elf_class == ELFCLASS64)
				read_dynamic(object, &phdr, &pie);
		}
	}
	facts->static_pie = facts->type == ET_DYN && !facts->has_interp && pie;
}

struct af_error *af_analysis_facts(const char *path, struct af_object_facts *facts)
{
	struct af_object object;

	memset(facts, 0, sizeof(*facts));
	struct af_error *error = af_object_open(&object, path);
	if (error)
		return error;
	if (object.main.elf) {
		facts->elf = true;
		facts->machine = object.machine;
		facts->type = object.type;
		facts->elf_class = object.elf_class;
		memcpy(facts->build_id, object.build_id, sizeof(facts->build_id));
		facts->build_id_size = object.build_id_size;
		if (object.little_endian) {
			read_segments(&object, facts);
			facts->async_sign = af_object_async_sign(&object);
			facts->rust =
				facts->async_sign ||
				read_only_data_holds(&object, rust_texts,
						     sizeof(rust_texts) / sizeof(rust_texts[0]));
			af_object_find_debug(&object);
			facts->has_debug_info = af_object_has_debug(&object);
		}
	}
	af_object_close(&object);
	return NULL;
}

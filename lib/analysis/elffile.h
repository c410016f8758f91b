/* SPDX-License-Identifier: MIT */
/*
 * What the files about ELF share: a mapped file and its sections.
 */
#ifndef AF_ANALYSIS_ELFFILE_H
#define AF_ANALYSIS_ELFFILE_H

#include <gelf.h>

#include "analysis/object.h"

struct af_elf_section {
	GElf_Shdr header;
	const uint8_t *data; /* as it lies in the file, perhaps compressed */
	uint64_t size;
};

/* A file that is no ELF object is mapped all the same; its `elf` is NULL then. */
struct af_error *af_elf_open(struct af_elf *file, const char *path) af_must_check;
void af_elf_close(struct af_elf *file); /* accepts a zeroed one */
/* The section of that name, if it has bytes in the file. */
bool af_elf_section(const struct af_elf *file, const char *name, struct af_elf_section *section);
/* Fills data and size of a section whose header is set. */
bool af_elf_section_data(const struct af_elf *file, struct af_elf_section *section);
struct af_build_id {
	uint8_t bytes[AFM_BUILD_ID_MAX];
	uint32_t size;
};
/* The GNU build-id, if the file has one; else *id is zeroed. */
bool af_elf_build_id(const struct af_elf *file, struct af_build_id *id);
/* All debug sections of a file; `suffix` is "" or ".dwo". */
struct af_error *af_elf_debug_sections(const struct af_elf *file, const char *suffix,
				       struct af_section sections[AF_SEC_COUNT]) af_must_check;
bool af_object_segment(const struct af_object *object, uint64_t address, GElf_Phdr *phdr);

#endif

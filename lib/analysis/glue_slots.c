/* SPDX-License-Identifier: MIT */
/*
 * What slots of the GOT hold, as far as the object's own relocations tell: functions that are called by
 * them. The loader fills them in before anything runs, and nobody changes them.
 */
#include "analysis/glue_machine.h"

#include "analysis/elffile.h"

static int compare_slots(const void *a, const void *b)
{
	const struct af_glue_got *x = a, *y = b;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static void read_relocations(struct af_glue *glue, const struct af_elf_section *relocations)
{
	for (uint64_t at = 0; at + sizeof(Elf64_Rela) <= relocations->size;
	     at += sizeof(Elf64_Rela)) {
		Elf64_Rela rela;
		memcpy(&rela, relocations->data + at, sizeof(rela));
		if (ELF64_R_TYPE(rela.r_info) != R_X86_64_RELATIVE ||
		    rela.r_offset < glue->got_start || rela.r_offset >= glue->got_end)
			continue;
		struct af_glue_got *kept = vector_push(&glue->got);
		if (!kept)
			continue;
		*kept = (struct af_glue_got){rela.r_offset, (uint64_t)rela.r_addend};
		glue->got_unordered |= kept > glue->got.items && kept[-1].slot > kept->slot;
	}
}

static bool find_got(struct af_glue *glue)
{
	Elf *elf = glue->object->main.elf;
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	size_t names;

	if (elf_getshdrstrndx(elf, &names))
		return false;
	while ((scn = elf_nextscn(elf, scn))) {
		const char *name =
			gelf_getshdr(scn, &header) ? elf_strptr(elf, names, header.sh_name) : NULL;
		if (!name || strcmp(name, ".got"))
			continue;
		glue->got_start = header.sh_addr;
		glue->got_end = header.sh_addr + header.sh_size;
		return true;
	}
	return false;
}

static void read_got(struct af_glue *glue)
{
	Elf_Scn *scn = NULL;

	glue->got_read = true;
	if (!find_got(glue))
		return;
	while ((scn = elf_nextscn(glue->object->main.elf, scn))) {
		struct af_elf_section section;
		if (gelf_getshdr(scn, &section.header) && section.header.sh_type == SHT_RELA &&
		    af_elf_section_data(&glue->object->main, &section))
			read_relocations(glue, &section);
	}
	if (glue->got_unordered) /* linkers write them in order */
		vector_sort(&glue->got, compare_slots);
}

bool af_glue_slot(struct af_glue *glue, uint64_t address, uint64_t *value)
{
	struct af_glue_got wanted = {.slot = address};

	if (!glue->got_read)
		read_got(glue);
	const struct af_glue_got *found =
		glue->got.count ? bsearch(&wanted, glue->got.items, glue->got.count, sizeof(wanted),
					  compare_slots)
				: NULL;
	if (found)
		*value = found->value;
	return found;
}

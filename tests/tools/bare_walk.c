/* SPDX-License-Identifier: MIT */
/*
 * The least that reading .debug_info can cost, for the bench to compare with: decodes the
 * abbreviations of every unit and passes over every DIE, and does nothing else. It trusts
 * its input (a unit is left when its end is passed), which the analysis must not. Rust's 32-bit
 * DWARF 4 and 5, dense abbreviation codes. Prints the DIEs and the nanoseconds, without the
 * process's start.
 */
#include <dwarf.h>
#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* How the attributes of a DIE are passed: `fixed` bytes, then one value of a form without a fixed
   size (0: none, the DIE ends here; the next step follows this one). */
struct step {
	uint16_t fixed;
	uint8_t form;
};

static struct step steps[1 << 18];
static uint32_t first_steps[1 << 16]; /* by abbreviation code */

static inline uint64_t uleb(const uint8_t **at)
{
	uint64_t value = 0;
	for (unsigned int shift = 0;; shift += 7) {
		uint8_t byte = *(*at)++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
}

/* Bytes of a form, -1 if they must be looked at. */
static int size_of(uint64_t form)
{
	/* clang-format off */
	switch (form) {
	case DW_FORM_flag_present: case DW_FORM_implicit_const:
		return 0;
	case DW_FORM_data1: case DW_FORM_ref1: case DW_FORM_flag: case DW_FORM_strx1:
	case DW_FORM_addrx1:
		return 1;
	case DW_FORM_data2: case DW_FORM_ref2: case DW_FORM_strx2: case DW_FORM_addrx2:
		return 2;
	case DW_FORM_data4: case DW_FORM_ref4: case DW_FORM_strx4: case DW_FORM_addrx4:
	case DW_FORM_strp: case DW_FORM_line_strp: case DW_FORM_sec_offset: case DW_FORM_ref_addr:
		return 4;
	case DW_FORM_addr: case DW_FORM_data8: case DW_FORM_ref8: case DW_FORM_ref_sig8:
		return 8;
	case DW_FORM_data16:
		return 16;
	case DW_FORM_exprloc: case DW_FORM_block1: case DW_FORM_udata: case DW_FORM_sdata:
	case DW_FORM_string: case DW_FORM_block: case DW_FORM_strx: case DW_FORM_addrx:
	case DW_FORM_rnglistx: case DW_FORM_loclistx: case DW_FORM_ref_udata:
		return -1;
	default:
		fprintf(stderr, "bare_walk: form 0x%" PRIx64 "\n", form);
		exit(2);
	}
	/* clang-format on */
}

static void read_abbreviations(const uint8_t *at)
{
	uint32_t n = 0;
	uint64_t code;
	while ((code = uleb(&at))) {
		if (code >= 1 << 16 || n + 64 > sizeof(steps) / sizeof(steps[0]))
			exit(2);
		uleb(&at);
		at++;
		first_steps[code] = n;
		uint16_t fixed = 0;
		for (;;) {
			uint64_t name = uleb(&at), form = uleb(&at);
			if (!name && !form)
				break;
			if (form == DW_FORM_implicit_const)
				uleb(&at);
			int size = size_of(form);
			if (size >= 0) {
				fixed = (uint16_t)(fixed + size);
				continue;
			}
			steps[n++] = (struct step){fixed, (uint8_t)form};
			fixed = 0;
		}
		steps[n++] = (struct step){fixed, 0};
	}
}

static uint64_t walk_unit(const uint8_t *at, const uint8_t *end)
{
	uint64_t n = 0, length;
	while (at < end) {
		uint32_t code = *at++;
		if (!code)
			continue;
		if (code & 0x80) {
			at--;
			code = (uint32_t)uleb(&at) & 0xffff;
		}
		n++;
		const struct step *step = &steps[first_steps[code]];
		for (;; step++) {
			at += step->fixed;
			if (!step->form)
				break;
			switch (step->form) {
			case DW_FORM_exprloc:
			case DW_FORM_block:
				length = uleb(&at);
				at += length;
				break;
			case DW_FORM_block1:
				at += 1 + *at;
				break;
			case DW_FORM_string:
				at += strlen((const char *)at) + 1;
				break;
			default:
				while (*at++ & 0x80)
					;
			}
		}
	}
	return n;
}

static uint64_t walk(const uint8_t *info, size_t size, const uint8_t *abbrev)
{
	const uint8_t *at = info;
	uint64_t n = 0;
	while (at + 11 < info + size) {
		uint32_t length, offset;
		uint16_t version;
		memcpy(&length, at, 4);
		memcpy(&version, at + 4, 2);
		const uint8_t *end = at + 4 + length;
		if (version >= 5) {
			if (at[6] != DW_UT_compile) {
				fprintf(stderr, "bare_walk: a unit of type %d\n", at[6]);
				exit(2);
			}
			memcpy(&offset, at + 8, 4);
			at += 12;
		} else {
			memcpy(&offset, at + 6, 4);
			at += 11;
		}
		read_abbreviations(abbrev + offset);
		n += walk_unit(at, end);
		at = end;
	}
	return n;
}

static const Elf64_Shdr *section(const uint8_t *file, const char *name)
{
	const Elf64_Ehdr *header = (const void *)file;
	const Elf64_Shdr *sections = (const void *)(file + header->e_shoff);
	const char *names = (const char *)file + sections[header->e_shstrndx].sh_offset;
	for (unsigned int i = 0; i < header->e_shnum; i++)
		if (!strcmp(names + sections[i].sh_name, name) &&
		    !(sections[i].sh_flags & SHF_COMPRESSED))
			return &sections[i];
	fprintf(stderr, "bare_walk: no %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	struct timespec from, to;
	struct stat status;

	clock_gettime(CLOCK_MONOTONIC, &from);
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0 || fstat(fd, &status) < 0) {
		fprintf(stderr, "usage: bare_walk OBJECT\n");
		return 2;
	}
	const uint8_t *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file == MAP_FAILED)
		return 2;
	const Elf64_Shdr *info = section(file, ".debug_info");
	uint64_t n = walk(file + info->sh_offset, info->sh_size,
			  file + section(file, ".debug_abbrev")->sh_offset);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("{\"bytes\": %" PRIu64 ", \"entries\": %" PRIu64 ", \"nanoseconds\": %" PRId64 "}\n",
	       (uint64_t)info->sh_size, n,
	       (int64_t)(to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Core files. Everything is looked up in place, in the mapped file; whatever a header says is
 * compared with the file's size before it is followed.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inspect/core.h"

static const void *map_file(const char *path, size_t *size, const char **why)
{
	struct stat status;
	/* A pipe without a writer is told at once, too. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	void *data = MAP_FAILED;

	*why = "cannot be opened";
	if (fd < 0)
		return NULL;
	*why = "not a regular file";
	if (!fstat(fd, &status) && S_ISREG(status.st_mode)) {
		*why = "empty";
		if (status.st_size > 0) {
			*why = "cannot be mapped";
			data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		}
	}
	close(fd);
	if (data == MAP_FAILED)
		return NULL;
	*size = (size_t)status.st_size;
	return data;
}

static bool inside(const struct af_core *core, uint64_t offset, uint64_t size)
{
	return offset <= core->size && size <= core->size - offset;
}

static Elf64_Phdr phdr_at(const struct af_core *core, uint32_t i)
{
	Elf64_Phdr phdr;
	memcpy(&phdr, (const uint8_t *)core->segments + (size_t)i * sizeof(phdr), sizeof(phdr));
	return phdr;
}

/* As much of a segment as the file has. */
static uint64_t held(const struct af_core *core, const Elf64_Phdr *phdr)
{
	uint64_t size = phdr->p_filesz < phdr->p_memsz ? phdr->p_filesz : phdr->p_memsz;

	if (phdr->p_offset >= core->size)
		return 0;
	return size < core->size - phdr->p_offset ? size : core->size - phdr->p_offset;
}

static bool holds(const Elf64_Phdr *phdr, uint64_t address)
{
	return phdr->p_type == PT_LOAD && address >= phdr->p_vaddr &&
	       address - phdr->p_vaddr < phdr->p_memsz;
}

/* The segment that holds `address`. */
static bool find_segment(struct af_core *core, uint64_t address, Elf64_Phdr *phdr)
{
	if (core->last < core->n_segments) {
		*phdr = phdr_at(core, core->last);
		if (holds(phdr, address))
			return true;
	}
	uint32_t low = 0, high = core->n_segments;
	while (core->sorted && high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (phdr_at(core, middle).p_vaddr <= address)
			low = middle;
		else
			high = middle;
	}
	for (; low < high; low++) {
		*phdr = phdr_at(core, low);
		if (holds(phdr, address)) {
			core->last = low;
			return true;
		}
	}
	return false;
}

static bool note_word(const struct af_core *core, size_t offset, uint64_t *word)
{
	if (offset > core->file_size || core->file_size - offset < sizeof(*word))
		return false;
	memcpy(word, core->file + offset, sizeof(*word));
	return true;
}

/* Without its name, which takes a walk to find. */
static bool mapping_range(const struct af_core *core, uint32_t i, struct af_core_mapping *mapping)
{
	size_t at = 16 + (size_t)i * 24;
	uint64_t page = 1, offset;

	if (i >= core->n_mappings || !note_word(core, 8, &page) ||
	    !note_word(core, at, &mapping->start) || !note_word(core, at + 8, &mapping->end) ||
	    !note_word(core, at + 16, &offset) ||
	    __builtin_mul_overflow(offset, page, &mapping->offset))
		return false;
	return mapping->start < mapping->end;
}

bool af_core_mapping(const struct af_core *core, uint32_t i, struct af_core_mapping *mapping)
{
	size_t at = 16 + (size_t)core->n_mappings * 24;

	if (i >= core->n_mappings)
		return false;
	mapping->name = "";
	for (uint32_t k = 0; at < core->file_size; k++) {
		const char *name = (const char *)core->file + at;
		size_t length = strnlen(name, core->file_size - at);
		if (length == core->file_size - at) /* not terminated */
			break;
		if (k == i) {
			mapping->name = name;
			break;
		}
		at += length + 1;
	}
	if (!mapping_range(core, i, mapping))
		mapping->start = mapping->end = mapping->offset = 0;
	return true;
}

static bool read_files(const struct af_core *core, uint64_t address, void *to, size_t size)
{
	for (uint32_t i = 0; core->n_files && i < core->n_mappings; i++) {
		struct af_core_mapping mapping;
		if (!mapping_range(core, i, &mapping) || address < mapping.start ||
		    address >= mapping.end || size > mapping.end - address)
			continue;
		uint64_t offset;
		if (__builtin_add_overflow(mapping.offset, address - mapping.start, &offset))
			return false;
		af_core_mapping(core, i, &mapping);
		for (uint32_t k = 0; k < core->n_files; k++) {
			if (strcmp(core->files[k].name, mapping.name))
				continue;
			if (offset > core->files[k].size || size > core->files[k].size - offset)
				return false;
			memcpy(to, core->files[k].data + offset, size);
			return true;
		}
		return false;
	}
	return false;
}

static bool read_core(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct af_core *core = (struct af_core *)memory;
	char *out = to;

	while (size) {
		Elf64_Phdr phdr;
		if (!find_segment(core, address, &phdr))
			return read_files(core, address, out, size);
		uint64_t at = address - phdr.p_vaddr, have = held(core, &phdr);
		uint64_t left = phdr.p_memsz - at;
		size_t part = size < left ? size : (size_t)left;
		if (at < have) {
			part = part < have - at ? part : (size_t)(have - at);
			memcpy(out, core->data + phdr.p_offset + at, part);
		} else if (!read_files(core, address, out, part)) {
			return false;
		}
		out += part;
		address += part;
		size -= part;
	}
	return true;
}

bool af_core_segment(const struct af_core *core, uint32_t i, struct af_core_segment *segment)
{
	if (i >= core->n_segments)
		return false;
	Elf64_Phdr phdr = phdr_at(core, i);
	*segment = (struct af_core_segment){.address = phdr.p_vaddr, .flags = phdr.p_flags};
	if (phdr.p_type == PT_LOAD) {
		segment->size = phdr.p_memsz;
		segment->file_size = held(core, &phdr);
	}
	return true;
}

bool af_core_next_note(const struct af_core *core, uint64_t *cursor, struct af_core_note *note)
{
	/* The segment in the upper half, the place in it in the lower. */
	uint32_t segment = (uint32_t)(*cursor >> 32);
	uint64_t at = *cursor & UINT32_MAX;

	for (; segment < core->n_segments; segment++, at = 0) {
		Elf64_Phdr phdr = phdr_at(core, segment);
		Elf64_Nhdr header;
		if (phdr.p_type != PT_NOTE || !inside(core, phdr.p_offset, 0))
			continue;
		uint64_t end = core->size - phdr.p_offset;
		if (phdr.p_filesz < end)
			end = phdr.p_filesz;
		if (end > UINT32_MAX)
			end = UINT32_MAX;
		if (at > end || end - at < sizeof(header))
			continue;
		const uint8_t *data = core->data + phdr.p_offset;
		memcpy(&header, data + at, sizeof(header));
		uint64_t name = at + sizeof(header);
		uint64_t desc = name + (((uint64_t)header.n_namesz + 3) & ~UINT64_C(3));
		uint64_t next = desc + (((uint64_t)header.n_descsz + 3) & ~UINT64_C(3));
		if (desc > end || header.n_descsz > end - desc)
			continue;
		bool named = header.n_namesz && !data[name + header.n_namesz - 1];
		*note = (struct af_core_note){.owner = named ? (const char *)data + name : "",
					      .type = header.n_type,
					      .data = data + desc,
					      .size = header.n_descsz};
		*cursor = (uint64_t)segment << 32 | (next < end ? next : end);
		return true;
	}
	return false;
}

static void find_mappings(struct af_core *core)
{
	struct af_core_note note;
	uint64_t cursor = 0, count;

	while (af_core_next_note(core, &cursor, &note)) {
		if (note.type != NT_FILE || strcmp(note.owner, "CORE"))
			continue;
		core->file = note.data;
		core->file_size = note.size;
		if (note_word(core, 0, &count) && note.size >= 16 && count <= (note.size - 16) / 24)
			core->n_mappings = (uint32_t)count;
		return;
	}
}

static const char *find_segments(struct af_core *core)
{
	Elf64_Ehdr header;
	uint64_t n, last = 0;

	if (core->size < sizeof(header) || memcmp(core->data, ELFMAG, SELFMAG))
		return "not an ELF file";
	memcpy(&header, core->data, sizeof(header));
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
		return "not a 64-bit little-endian core file";
	if (header.e_type != ET_CORE)
		return "not a core file";
	core->machine = header.e_machine;
	n = header.e_phnum;
	if (n == PN_XNUM) { /* then the first section header has the number */
		Elf64_Shdr section;
		if (!inside(core, header.e_shoff, sizeof(section)))
			return "cut off";
		memcpy(&section, core->data + header.e_shoff, sizeof(section));
		n = section.sh_info;
	}
	if (header.e_phentsize != sizeof(Elf64_Phdr) || !n)
		return "a core file without program headers";
	if (!inside(core, header.e_phoff, n * sizeof(Elf64_Phdr)))
		return "cut off";
	core->segments = (const Elf64_Phdr *)(core->data + header.e_phoff);
	core->n_segments = (uint32_t)n;
	core->sorted = true;
	for (uint32_t i = 0; i < core->n_segments; i++) {
		Elf64_Phdr phdr = phdr_at(core, i);
		/* Notes come first, at address 0. */
		uint64_t end;
		if (phdr.p_vaddr < last || __builtin_add_overflow(phdr.p_vaddr, phdr.p_memsz, &end))
			core->sorted = false;
		last = phdr.p_vaddr;
		if (phdr.p_filesz && !inside(core, phdr.p_offset, phdr.p_filesz))
			core->cut_off = true;
	}
	return NULL;
}

const char *af_core_open(struct af_core *core, const char *path)
{
	const char *why;

	memset(core, 0, sizeof(*core));
	core->memory.read = read_core;
	core->data = map_file(path, &core->size, &why);
	if (!core->data)
		return why;
	why = find_segments(core);
	if (why) {
		af_core_close(core);
		return why;
	}
	find_mappings(core);
	return NULL;
}

void af_core_close(struct af_core *core)
{
	for (uint32_t i = 0; i < core->n_files; i++)
		munmap((void *)core->files[i].data, core->files[i].size);
	if (core->data)
		munmap((void *)core->data, core->size);
	core->data = NULL;
	core->n_files = 0;
	core->n_segments = 0;
}

const char *af_core_supply(struct af_core *core, const char *name, const char *path)
{
	const char *why;
	size_t size;

	if (core->n_files == AF_CORE_FILES_MAX)
		return "too many files";
	const uint8_t *data = map_file(path, &size, &why);
	if (!data)
		return why;
	core->files[core->n_files].name = name;
	core->files[core->n_files].data = data;
	core->files[core->n_files].size = size;
	core->n_files++;
	return NULL;
}

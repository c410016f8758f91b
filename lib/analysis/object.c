/* SPDX-License-Identifier: MIT */
/*
 * Opening an ELF object, its segments and sections. The file is mapped once; libelf reads
 * the headers out of that mapping and checks them, sections are used in place.
 */
#include "analysis/object.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analysis/elffile.h"

struct af_error *af_elf_open(struct af_elf *file, const char *path)
{
	struct stat status;
	struct af_error *error = NULL;

	memset(file, 0, sizeof(*file));
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return af_error_system(errno, "%s", path);
	if (fstat(fd, &status) < 0)
		error = af_error_system(errno, "%s", path);
	else if (!S_ISREG(status.st_mode))
		error = af_error_create("%s: not a regular file", path);
	if (error || status.st_size == 0) {
		close(fd);
		if (!error)
			file->path = strdup(path);
		return error;
	}
	file->size = (size_t)status.st_size;
	/* Private and writable: libelf may correct headers in place, never in the file. */
	void *data =
		mmap(NULL, file->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
	if (data == MAP_FAILED) {
		error = af_error_system(errno, "%s: cannot be mapped", path);
		close(fd);
		return error;
	}
	close(fd);
	file->data = data;
	file->path = strdup(path);
	if (!file->path)
		return af_error_create("out of memory");
	elf_version(EV_CURRENT);
	if (file->size >= EI_NIDENT && !memcmp(file->data, ELFMAG, SELFMAG))
		file->elf = elf_memory((char *)file->data, file->size);
	if (file->elf && elf_kind(file->elf) != ELF_K_ELF) {
		elf_end(file->elf);
		file->elf = NULL;
	}
	return NULL;
}

void af_elf_close(struct af_elf *file)
{
	elf_end(file->elf);
	if (file->data)
		munmap(file->data, file->size);
	free(file->path);
	memset(file, 0, sizeof(*file));
}

bool af_elf_section(const struct af_elf *file, const char *name, struct af_elf_section *section)
{
	size_t names;
	Elf_Scn *scn = NULL;

	if (!file->elf || elf_getshdrstrndx(file->elf, &names) < 0)
		return false;
	while ((scn = elf_nextscn(file->elf, scn))) {
		const char *own;
		if (!gelf_getshdr(scn, &section->header))
			continue;
		own = elf_strptr(file->elf, names, section->header.sh_name);
		if (!own || strcmp(own, name))
			continue;
		return af_elf_section_data(file, section);
	}
	return false;
}

bool af_elf_section_data(const struct af_elf *file, struct af_elf_section *section)
{
	const GElf_Shdr *h = &section->header;
	section->data = NULL;
	section->size = 0;
	if (h->sh_type == SHT_NOBITS || h->sh_offset > file->size ||
	    h->sh_size > file->size - h->sh_offset)
		return false;
	section->data = file->data + h->sh_offset;
	section->size = h->sh_size;
	return true;
}

/* The build-id among the notes in these bytes. */
static bool find_build_id(const uint8_t *data, uint64_t size, struct af_build_id *id)
{
	struct af_bytes b = af_bytes_make(data, size);

	while (af_bytes_left(&b) >= 12) {
		uint32_t name_size = af_bytes_u32(&b), n = af_bytes_u32(&b);
		uint32_t type = af_bytes_u32(&b);
		const uint8_t *name = b.pos;
		af_bytes_skip(&b, (name_size + 3ull) & ~3ull);
		const uint8_t *bytes = b.pos;
		af_bytes_skip(&b, (n + 3ull) & ~3ull);
		if (b.failed)
			break;
		if (type != NT_GNU_BUILD_ID || name_size != 4 || memcmp(name, "GNU", 4) || !n ||
		    n > AFM_BUILD_ID_MAX)
			continue;
		memcpy(id->bytes, bytes, n);
		id->size = n;
		return true;
	}
	return false;
}

bool af_elf_build_id(const struct af_elf *file, struct af_build_id *id)
{
	struct af_elf_section section;
	size_t n;

	memset(id, 0, sizeof(*id));
	if (!file->elf || elf_getphdrnum(file->elf, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		GElf_Phdr phdr;
		if (gelf_getphdr(file->elf, (int)i, &phdr) && phdr.p_type == PT_NOTE &&
		    phdr.p_offset <= file->size && phdr.p_filesz <= file->size - phdr.p_offset &&
		    find_build_id(file->data + phdr.p_offset, phdr.p_filesz, id))
			return true;
	}
	/* A separate debug file's segments need not be where they say. */
	return af_elf_section(file, ".note.gnu.build-id", &section) &&
	       find_build_id(section.data, section.size, id);
}

struct af_error *af_object_open(struct af_object *object, const char *path)
{
	GElf_Ehdr header;

	memset(object, 0, sizeof(*object));
	struct af_error *error = af_elf_open(&object->main, path);
	if (error) {
		af_object_close(object);
		return error;
	}
	if (!object->main.elf || !gelf_getehdr(object->main.elf, &header)) {
		elf_end(object->main.elf);
		object->main.elf = NULL;
		return NULL;
	}
	object->machine = header.e_machine;
	object->type = header.e_type;
	object->elf_class = header.e_ident[EI_CLASS];
	object->little_endian = header.e_ident[EI_DATA] == ELFDATA2LSB;
	struct af_build_id id;
	if (object->little_endian && af_elf_build_id(&object->main, &id)) {
		memcpy(object->build_id, id.bytes, sizeof(object->build_id));
		object->build_id_size = id.size;
	}
	return NULL;
}

void af_object_close(struct af_object *object)
{
	af_elf_close(&object->main);
	af_elf_close(&object->debug);
	for (size_t i = 0; i < object->others.count; i++)
		af_elf_close(&object->others.items[i]);
	vector_deinit(&object->others);
}

bool af_object_segment(const struct af_object *object, uint64_t address, GElf_Phdr *phdr)
{
	size_t n;
	if (elf_getphdrnum(object->main.elf, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (gelf_getphdr(object->main.elf, (int)i, phdr) && phdr->p_type == PT_LOAD &&
		    address >= phdr->p_vaddr && address - phdr->p_vaddr < phdr->p_filesz)
			return true;
	return false;
}

const uint8_t *af_object_bytes(const struct af_object *object, uint64_t address, uint64_t *size)
{
	GElf_Phdr phdr;

	*size = 0;
	if (!af_object_segment(object, address, &phdr) || phdr.p_offset > object->main.size ||
	    phdr.p_filesz > object->main.size - phdr.p_offset)
		return NULL;
	uint64_t inside = address - phdr.p_vaddr;
	*size = phdr.p_filesz - inside;
	return object->main.data + phdr.p_offset + inside;
}

bool af_object_text(const struct af_object *object, uint64_t address, uint64_t *start,
		    uint64_t *end)
{
	GElf_Phdr phdr;
	if (!af_object_segment(object, address, &phdr) || !(phdr.p_flags & PF_X))
		return false;
	*start = phdr.p_vaddr;
	*end = phdr.p_vaddr + phdr.p_memsz;
	return true;
}

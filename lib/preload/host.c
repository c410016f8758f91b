/* SPDX-License-Identifier: MIT */
#include "preload/host.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Note names and descriptors are padded to 4 bytes (ELF gABI, "Note Section"). */
static void read_build_id(struct af_host *host, const char *at, uint64_t size)
{
	while (size >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)at;
		uint64_t name = sizeof(*note), desc = name + ((note->n_namesz + 3) & ~3u);
		uint64_t next = desc + ((note->n_descsz + 3) & ~3u);
		if (next > size)
			return;
		if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
		    !memcmp(at + name, "GNU", 4) && note->n_descsz <= AFM_BUILD_ID_MAX) {
			memcpy(host->build_id, at + desc, note->n_descsz);
			host->build_id_size = note->n_descsz;
			return;
		}
		at += next, size -= next;
	}
}

/* The executable comes first. */
static int visit_executable(struct dl_phdr_info *info, size_t size, void *data)
{
	struct af_host *host = data;
	uint64_t start = UINT64_MAX, end = 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uint64_t at = info->dlpi_addr + segment->p_vaddr;
		if (segment->p_type == PT_NOTE && !host->build_id_size)
			read_build_id(host, (const char *)at, segment->p_memsz);
		if (segment->p_type != PT_LOAD)
			continue;
		start = at < start ? at : start;
		end = at + segment->p_memsz > end ? at + segment->p_memsz : end;
	}
	host->place = (struct af_object_place){info->dlpi_addr, start, end};
	return 1;
}

void af_host_find(struct af_host *host)
{
	*host = (struct af_host){0};
	dl_iterate_phdr(visit_executable, host);
}

static int look_at_executable(struct dl_phdr_info *info, size_t size, void *data)
{
	/* Every compiled coroutine can panic with the first; every program with Rust's std
	   in it knows the second. */
	static const char async_sign[] = "async fn` resumed after", rust_sign[] = "RUST_BACKTRACE";
	bool *signs = data;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) ||
		    !(segment->p_flags & PF_R))
			continue;
		const char *at = (const char *)(info->dlpi_addr + segment->p_vaddr);
		signs[0] |= !!memmem(at, segment->p_filesz, async_sign, sizeof(async_sign) - 1);
		signs[1] |= !!memmem(at, segment->p_filesz, rust_sign, sizeof(rust_sign) - 1);
	}
	return 1;
}

/* Whether the executable's file names a section that can lead to debug info. */
static bool has_debug_sections(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat st;
	bool found = false;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(ElfW(Ehdr)))
		goto out;
	uint64_t size = st.st_size;
	const char *file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file == MAP_FAILED)
		goto out;
	const ElfW(Ehdr) *header = (const void *)file;
	uint64_t table = header->e_shoff, count = header->e_shnum;
	if (table <= size && count <= (size - table) / sizeof(ElfW(Shdr)) &&
	    header->e_shstrndx < count) {
		const ElfW(Shdr) *sections = (const void *)(file + table);
		const ElfW(Shdr) *names = &sections[header->e_shstrndx];
		if (names->sh_offset <= size && names->sh_size <= size - names->sh_offset) {
			const char *text = file + names->sh_offset;
			found = memmem(text, names->sh_size, "debug_info", 10) ||
				memmem(text, names->sh_size, ".gnu_debuglink", 14);
		}
	}
	munmap((void *)file, size);
out:
	if (fd >= 0)
		close(fd);
	return found;
}

void af_host_look(struct af_host *host)
{
	bool signs[2] = {false, false};
	dl_iterate_phdr(look_at_executable, signs);
	host->may_hold_futures = signs[0] || (signs[1] && has_debug_sections());
}

unsigned af_host_threads(void)
{
	char text[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 1;
	text[n] = '\0';
	/* proc_pid_stat(5): num_threads is field 20; the name, field 2, ends with ')'. */
	const char *at = strrchr(text, ')');
	for (int field = 2; at && field < 20; field++)
		at = strchr(at + 1, ' ');
	unsigned threads = 0;
	for (at = at ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
		threads = threads * 10 + (*at - '0');
	return threads ? threads : 1;
}

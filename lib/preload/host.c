/* SPDX-License-Identifier: MIT */
#include "preload/host.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMPORTS_MAX 65536

/* Note names and descriptors are padded to 4 bytes (ELF gABI, "Note Section"). */
static void read_build_id(struct af_host_image *image, const char *at, uint64_t size)
{
	while (size >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)at;
		uint64_t name = sizeof(*note), desc = name + ((note->n_namesz + 3) & ~3u);
		uint64_t next = desc + ((note->n_descsz + 3) & ~3u);
		if (next > size)
			return;
		if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
		    !memcmp(at + name, "GNU", 4) && note->n_descsz <= AFM_BUILD_ID_MAX) {
			memcpy(image->build_id, at + desc, note->n_descsz);
			image->build_id_size = note->n_descsz;
			return;
		}
		at += next, size -= next;
	}
}

static void read_image(struct af_host_image *image, const struct dl_phdr_info *info)
{
	uint64_t start = UINT64_MAX, end = 0;
	*image = (struct af_host_image){.name = info->dlpi_name ? info->dlpi_name : ""};
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uint64_t at = info->dlpi_addr + segment->p_vaddr;
		if (segment->p_type == PT_NOTE && !image->build_id_size)
			read_build_id(image, (const char *)at, segment->p_memsz);
		if (segment->p_type == PT_DYNAMIC)
			image->place.dynamic = (const void *)at;
		if (segment->p_type != PT_LOAD)
			continue;
		start = at < start ? at : start;
		end = at + segment->p_memsz > end ? at + segment->p_memsz : end;
	}
	image->place.load_bias = info->dlpi_addr;
	image->place.start = start;
	image->place.end = end;
}

struct round {
	size_t first, at;
	bool over;
	bool (*visit)(const struct af_host_image *image, void *data);
	void *data;
	struct af_host_loads seen;
};

/* The executable comes first. */
static int visit_object(struct dl_phdr_info *info, size_t size, void *data)
{
	struct round *round = data;
	struct af_host_image image;
	size_t number = round->at++;
	round->seen = (struct af_host_loads){info->dlpi_adds, info->dlpi_subs, round->at};
	if (number < round->first || round->over)
		return 0;
	read_image(&image, info);
	image.executable = !number;
	round->over = !round->visit(&image, round->data);
	return 0;
}

struct af_host_loads af_host_images(size_t first,
				    bool (*visit)(const struct af_host_image *image, void *data),
				    void *data)
{
	struct round round = {.first = first, .visit = visit, .data = data};
	dl_iterate_phdr(visit_object, &round);
	return round.seen;
}

/* --- what it imports ----------------------------------------------------------------- */

struct symbols {
	const ElfW(Sym) * symbols;
	const char *names;
	uint64_t names_size;
	uint64_t imports; /* of the first so many symbols some are imports; the others none */
};

/* An address in a dynamic section: most loaders have made a run-time address of it. */
static uint64_t address_in(const struct af_host_image *image, uint64_t address, uint64_t size)
{
	const struct af_object_place *p = &image->place;
	if (address < p->start)
		address += p->load_bias;
	return address >= p->start && address <= p->end && size <= p->end - address ? address : 0;
}

static bool find_symbols(const struct af_host_image *image, struct symbols *s)
{
	uint64_t symbols = 0, names = 0, gnu_hash = 0, hash = 0;
	*s = (struct symbols){0};
	for (const ElfW(Dyn) *d = image->place.dynamic; d && d->d_tag != DT_NULL; d++) {
		symbols = d->d_tag == DT_SYMTAB ? d->d_un.d_ptr : symbols;
		names = d->d_tag == DT_STRTAB ? d->d_un.d_ptr : names;
		s->names_size = d->d_tag == DT_STRSZ ? d->d_un.d_val : s->names_size;
		gnu_hash = d->d_tag == DT_GNU_HASH ? d->d_un.d_ptr : gnu_hash;
		hash = d->d_tag == DT_HASH ? d->d_un.d_ptr : hash;
	}
	gnu_hash = gnu_hash ? address_in(image, gnu_hash, 16) : 0;
	hash = hash ? address_in(image, hash, 8) : 0;
	/* The GNU table begins with the first symbol that is exported: those that are not come
	   before it. Where there is none of these the field says nothing. */
	if (gnu_hash && ((const uint32_t *)gnu_hash)[1] > 1)
		s->imports = ((const uint32_t *)gnu_hash)[1];
	else if (hash)
		s->imports = ((const uint32_t *)hash)[1];
	s->imports = s->imports < IMPORTS_MAX ? s->imports : IMPORTS_MAX;
	s->symbols = (const void *)address_in(image, symbols, s->imports * sizeof(*s->symbols));
	s->names = (const void *)address_in(image, names, s->names_size);
	return s->symbols && s->names && s->names_size && !s->names[s->names_size - 1];
}

/* Whether one of `wanted`, which ends with NULL, is imported. */
static bool imports(const struct af_host_image *image, const char *const *wanted)
{
	struct symbols s;
	if (!find_symbols(image, &s))
		return false;
	if (!s.imports) { /* it exports nothing: the names are few */
		for (; *wanted; wanted++)
			if (memmem(s.names, s.names_size, *wanted, strlen(*wanted) + 1))
				return true;
		return false;
	}
	for (uint64_t i = 1; i < s.imports; i++) {
		const ElfW(Sym) *symbol = &s.symbols[i];
		if (symbol->st_shndx != SHN_UNDEF || symbol->st_name >= s.names_size)
			continue;
		for (const char *const *name = wanted; *name; name++)
			if (!strcmp(s.names + symbol->st_name, *name))
				return true;
	}
	return false;
}

bool af_host_has_rust(const struct af_host_image *image)
{
	/* std prints backtraces with the first two; the third is std's own, of a library that is
	   linked with it as a library (-C prefer-dynamic). */
	static const char *const names[] = {"_Unwind_GetIPInfo", "_Unwind_Backtrace",
					    "rust_eh_personality", NULL};
	return imports(image, names);
}

bool af_host_may_load(const struct af_host_image *image)
{
	static const char *const names[] = {"dlopen", "dlmopen", NULL};
	return imports(image, names);
}

/* --- what its data shows ------------------------------------------------------------- */

static int look_at_image(struct dl_phdr_info *info, size_t size, void *data)
{
	/* Every compiled coroutine can panic with the first; every program with Rust's std
	   in it knows the second. */
	static const char async_sign[] = "async fn` resumed after", rust_sign[] = "RUST_BACKTRACE";
	struct {
		const struct af_host_image *image;
		bool signs[2];
	} *look = data;
	if (info->dlpi_addr != look->image->place.load_bias)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) ||
		    !(segment->p_flags & PF_R))
			continue;
		const char *at = (const char *)(info->dlpi_addr + segment->p_vaddr);
		uint64_t n = segment->p_filesz;
		look->signs[0] |= !!memmem(at, n, async_sign, sizeof(async_sign) - 1);
		look->signs[1] |= !!memmem(at, n, rust_sign, sizeof(rust_sign) - 1);
	}
	return 1;
}

/* Whether the file names a section that can lead to debug info. */
static bool has_debug_sections(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
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

bool af_host_may_hold_futures(const struct af_host_image *image)
{
	struct {
		const struct af_host_image *image;
		bool signs[2];
	} look = {image, {false, false}};
	dl_iterate_phdr(look_at_image, &look);
	return look.signs[0] ||
	       (look.signs[1] &&
		has_debug_sections(image->executable ? "/proc/self/exe" : image->name));
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

/* SPDX-License-Identifier: MIT */
/*
 * Where an module lies is read from its own headers in the memory of the process, and so is
 * its build-id: what is on disk may have been replaced since.
 */
#include "runtimes/modules.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define MAX_MODULES 4096
#define MAX_NOTES 65536u

/* Note names and descriptors are padded to 4 bytes (ELF gABI, "Note Section"). */
static void read_build_id(struct af_module *module, const uint8_t *notes, size_t size)
{
	for (size_t at = 0; size - at >= sizeof(Elf64_Nhdr);) {
		Elf64_Nhdr note;
		memcpy(&note, notes + at, sizeof(note));
		size_t name = at + sizeof(note);
		size_t desc = name + (((size_t)note.n_namesz + 3) & ~(size_t)3);
		size_t next = desc + (((size_t)note.n_descsz + 3) & ~(size_t)3);
		if (next > size)
			return;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
		    !memcmp(notes + name, "GNU", 4) && note.n_descsz <= AFM_BUILD_ID_MAX) {
			memcpy(module->build_id, notes + desc, note.n_descsz);
			module->build_id_size = note.n_descsz;
			return;
		}
		at = next;
	}
}

static void read_notes(struct af_process *p, struct af_module *module, uint64_t address,
		       uint64_t size)
{
	if (!size || size > MAX_NOTES)
		return;
	uint8_t *notes = malloc(size);
	if (notes && af_process_read_all(p, address, notes, size))
		read_build_id(module, notes, size);
	free(notes);
}

/* The program headers behind the ELF header at `start`; NULL if there is none. */
static Elf64_Phdr *read_segments(struct af_process *p, uint64_t start, size_t *n)
{
	Elf64_Ehdr header;
	if (!af_process_read_all(p, start, &header, sizeof(header)) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) || header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_phentsize != sizeof(Elf64_Phdr) || !header.e_phnum || header.e_phnum > 256)
		return NULL;
	Elf64_Phdr *segments = calloc(header.e_phnum, sizeof(*segments));
	*n = header.e_phnum;
	if (segments &&
	    af_process_read_all(p, start + header.e_phoff, segments, *n * sizeof(*segments)))
		return segments;
	free(segments);
	return NULL;
}

static bool place(struct af_module *module, const Elf64_Phdr *segments, size_t n)
{
	uint64_t end = 0, text = UINT64_MAX, text_end = 0;
	bool placed = false;
	for (size_t i = 0; i < n; i++) {
		if (segments[i].p_type != PT_LOAD)
			continue;
		if (segments[i].p_offset < PAGE && !placed) {
			module->bias =
				module->start - (segments[i].p_vaddr & ~(uint64_t)(PAGE - 1));
			placed = true;
		}
		uint64_t first = segments[i].p_vaddr, last = first + segments[i].p_memsz;
		end = last > end ? last : end;
		if (segments[i].p_flags & PF_X) {
			text = first < text ? first : text;
			text_end = last > text_end ? last : text_end;
		}
	}
	module->text = module->bias + text;
	module->text_end = module->bias + text_end;
	module->end = (module->bias + end + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	return placed && text_end && module->end > module->start;
}

static void add_module(struct af_process *p, const struct af_mapping *m)
{
	size_t n;
	struct af_module module = {.path = m->path, .start = m->start, .image = AFM_NONE};
	Elf64_Phdr *segments = read_segments(p, m->start, &n);
	if (!segments)
		return;
	if (place(&module, segments, n)) {
		for (size_t i = 0; i < n && !module.build_id_size; i++)
			if (segments[i].p_type == PT_NOTE)
				read_notes(p, &module, module.bias + segments[i].p_vaddr,
					   segments[i].p_memsz);
		module.executable = p->executable && m->path && !strcmp(p->executable, m->path);
		struct af_module *kept = vector_push(&p->modules);
		if (kept)
			*kept = module;
	}
	free(segments);
}

/* The executable first: what is said of others matters less. */
static void find_modules(struct af_process *p)
{
	for (size_t i = 0; i < p->mappings.count && p->modules.count < MAX_MODULES; i++) {
		const struct af_mapping *m = &p->mappings.items[i];
		/* A core whose list of files is cut off still has their headers. */
		bool file = m->path ? *m->path == '/' : p->core != NULL;
		if (file && !m->offset && m->readable && !af_process_module(p, m->start))
			add_module(p, m);
	}
}

static void put_executable_first(struct af_process *p)
{
	for (size_t i = 1; i < p->modules.count; i++) {
		if (!p->modules.items[i].executable)
			continue;
		struct af_module executable = p->modules.items[i];
		p->modules.items[i] = p->modules.items[0];
		p->modules.items[0] = executable;
	}
}

/* The file that was named is the executable, if some module has its build-id; where none has,
   it is held against the one that the process calls so, and that is an error. */
static void name_executable(struct af_process *p, const char *file)
{
	struct af_object_facts facts;
	struct af_error *error = af_analysis_facts(file, &facts);
	bool known = !error && facts.elf && facts.build_id_size;
	af_error_destroy(error);
	for (size_t i = 0; known && i < p->modules.count; i++) {
		struct af_module *module = &p->modules.items[i];
		if (module->build_id_size != facts.build_id_size ||
		    memcmp(module->build_id, facts.build_id, facts.build_id_size))
			continue;
		for (size_t k = 0; k < p->modules.count; k++)
			p->modules.items[k].executable = k == i;
		if (!module->path)
			module->path = file;
		if (!p->executable)
			p->executable = strdup(file);
	}
}

/* How to open the file of a module: as we see it ourselves if that is the same file, else as
   the process does (a container), else, for a program that was deleted, its own link. */
static const char *find_file(const struct af_process *p, const struct af_module *module,
			     char *buffer, size_t size)
{
	struct stat ours, theirs;
	if (p->core)
		return module->path;
	if (module->executable)
		snprintf(buffer, size, "/proc/%d/exe", p->pid);
	else
		snprintf(buffer, size, "/proc/%d/root%s", p->pid, module->path);
	if (stat(module->path, &ours) == 0 && stat(buffer, &theirs) == 0 &&
	    ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
		return module->path;
	return buffer;
}

static void write_hex(char *to, const uint8_t *bytes, uint32_t n)
{
	*to = '\0';
	for (uint32_t i = 0; i < n; i++)
		to += sprintf(to, "%02x", bytes[i]);
}

static struct af_error *wrong_build(const struct af_process *p, const struct af_module *module,
				    const char *file, const struct af_object_facts *facts)
{
	char runs[2 * AFM_BUILD_ID_MAX + 1], there[2 * AFM_BUILD_ID_MAX + 1];
	write_hex(runs, module->build_id, module->build_id_size);
	write_hex(there, facts->build_id, facts->build_id_size);
	return af_error_create("%s: is of another build than the %s (build-id %s, the %s has %s)%s",
			       file, p->core ? "core" : "process", *there ? there : "none",
			       p->core ? "core" : "process", runs,
			       module->executable ? "; name the right file with --exe" : "");
}

static struct af_error *add_map(struct af_process *p, struct af_module *module,
				const struct af_futuremap *map)
{
	struct af_image *image = vector_push(&p->images);
	if (!image)
		return af_error_create("out of memory");
	*image = (struct af_image){.map = *map,
				   .bias = module->bias,
				   .text = module->text,
				   .text_end = module->text_end};
	image->shapes = calloc(map->header->types.count, sizeof(*image->shapes)); /* NULL: slower */
	module->image = (uint32_t)p->images.count - 1;
	module->verdict = map->header->verdict;
	return NULL;
}

/* Makes the map from `file`. */
static struct af_error *build_map(struct af_process *p, struct af_module *module, const char *file,
				  const struct af_modules_options *options)
{
	struct af_futuremap map;
	void *data;
	struct af_error *error = af_analysis_build(file, &options->analysis, &data, &map.size);
	if (error)
		return error;
	module->verdict = ((const struct afm_header *)data)->verdict;
	if (module->verdict == AFM_FUTURES) {
		(void)af_cache_store(data, map.size);
		void *copy = mmap(NULL, map.size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (copy == MAP_FAILED) {
			error = af_error_system(errno, "memory for a map");
		} else {
			map.header = memcpy(copy, data, map.size);
			error = add_map(p, module, &map);
		}
	}
	free(data);
	return error;
}

/* Whether `file` is what the module was loaded from. */
static struct af_error *check_file(struct af_process *p, const struct af_module *module,
				   const char *file, struct af_object_facts *facts)
{
	struct af_error *error = af_analysis_facts(file, facts);
	if (error)
		return error;
	if (!facts->elf)
		return af_error_create("%s: is no ELF file", file);
	if (module->build_id_size &&
	    (facts->build_id_size != module->build_id_size ||
	     memcmp(facts->build_id, module->build_id, facts->build_id_size)))
		return wrong_build(p, module, file, facts);
	/* What a core leaves out, since it is in the file. */
	if (p->core && module->path)
		(void)af_core_supply(&p->file, module->path, file);
	return NULL;
}

static struct af_error *load_map(struct af_process *p, struct af_module *module,
				 const struct af_modules_options *options)
{
	char buffer[4200];
	struct af_object_facts facts;
	struct af_futuremap map;
	const char *given = module->executable ? options->executable : NULL;
	const char *file = given ? given : find_file(p, module, buffer, sizeof(buffer));
	module->file = file ? strdup(file) : NULL;
	bool cached = module->build_id_size &&
		      !af_cache_load(&map, module->build_id, module->build_id_size);

	if (cached && !given && !p->core)
		return add_map(p, module, &map);
	struct af_error *error =
		file ? check_file(p, module, file, &facts)
		     : af_error_create("an object at 0x%llx has no name in the core",
				       (unsigned long long)module->start);
	if (cached && (!error || !given)) {
		af_error_destroy(error);
		return add_map(p, module, &map);
	}
	if (error) {
		if (cached)
			af_futuremap_close(&map);
		return error;
	}
	module->verdict = AFM_NO_ASYNC;
	if (!facts.rust && !facts.async_sign)
		return NULL;
	return build_map(p, module, file, options);
}

static struct af_error *nothing_found(const struct af_process *p)
{
	const struct af_module *module = p->modules.count ? &p->modules.items[0] : NULL;
	const char *path = module && module->path ? module->path
			   : p->executable	  ? p->executable
						  : "the process";
	if (p->core && p->file.cut_off && !(module && module->verdict))
		return af_error_create("%s: is cut off so early that no async code is left in it%s",
				       p->core,
				       p->executable ? ""
						     : "; if it is of a known program, "
						       "name that with --exe");
	/* clang-format off */
	switch (module ? module->verdict : 0) {
	case AFM_STRIPPED:
		return af_error_create("%s: holds async Rust, but no debug info; build it with "
				       "CARGO_PROFILE_RELEASE_DEBUG=full (or in Cargo.toml: [profile.release] "
				       "debug = \"full\", strip = false)", path);
	case AFM_LINE_TABLES_ONLY:
		return af_error_create("%s: its debug info holds line numbers only, asyncflame needs types; "
				       "build it with CARGO_PROFILE_RELEASE_DEBUG=full (or in Cargo.toml: "
				       "[profile.release] debug = \"full\")", path);
	default:
		return af_error_create("%s shows no sign of async Rust, nor does a library of it: there are "
				       "no futures to show", path);
	}
	/* clang-format on */
}

struct af_error *af_modules_load(struct af_process *p, const struct af_modules_options *options)
{
	bool any = false;
	find_modules(p);
	if (options->executable)
		name_executable(p, options->executable);
	put_executable_first(p);
	for (size_t i = 0; i < p->modules.count; i++) {
		struct af_module *module = &p->modules.items[i];
		struct af_error *error = load_map(p, module, options);
		if (error && module->executable)
			return error;
		if (error) {
			af_process_note(p, "%s", error->message);
			af_error_destroy(error);
		}
		any |= module->image != AFM_NONE;
	}
	return any ? NULL : nothing_found(p);
}

void af_modules_find(struct af_process *p)
{
	char buffer[4200];
	find_modules(p);
	put_executable_first(p);
	for (size_t i = 0; i < p->modules.count; i++) {
		struct af_module *module = &p->modules.items[i];
		const char *file = find_file(p, module, buffer, sizeof(buffer));
		module->file = file ? strdup(file) : NULL;
	}
}

struct af_error *af_modules_lend(struct af_process *p, const struct af_futuremap *map,
				 uint32_t object)
{
	const struct afm_header *h = map->header;
	struct af_error *error = NULL;
	for (size_t i = 0; i < p->modules.count && !error; i++) {
		struct af_module *module = &p->modules.items[i];
		bool same = h->build_id_size ? module->build_id_size == h->build_id_size &&
						       !memcmp(module->build_id, h->build_id,
							       h->build_id_size)
					     : !object && module->executable;
		if (!same || module->image != AFM_NONE)
			continue;
		error = add_map(p, module, map);
		if (!error)
			p->images.items[module->image].object = object;
	}
	return error;
}

void af_modules_return(struct af_process *p)
{
	for (size_t i = 0; i < p->images.count; i++)
		free(p->images.items[i].shapes);
	p->images.count = 0;
}

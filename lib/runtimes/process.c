/* SPDX-License-Identifier: MIT */
#include "runtimes/process.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtimes/scan.h"
#include "runtimes/sources.h"

#define BATCH 512 /* pieces in one process_vm_readv; the kernel's limit is IOV_MAX (1024) */

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#endif

static const char *machine_name(unsigned machine)
{
	/* clang-format off */
	switch (machine) {
	case EM_X86_64: return "x86-64";
	case EM_386: return "32-bit x86";
	case EM_AARCH64: return "aarch64";
	case EM_ARM: return "32-bit ARM";
	case EM_RISCV: return "RISC-V";
	default: return "another architecture";
	}
	/* clang-format on */
}

struct af_error *af_source_check_machine(const unsigned char *ident, const char *format, ...)
{
	char what[512];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (memcmp(ident, ELFMAG, SELFMAG))
		return af_error_create("%s: is no ELF file", what);
	unsigned machine = ident[EI_DATA] == ELFDATA2MSB ? ident[18] << 8 | ident[19]
							 : ident[19] << 8 | ident[18];
	if (machine == MACHINE && ident[EI_CLASS] == ELFCLASS64 && ident[EI_DATA] == ELFDATA2LSB)
		return NULL;
	return af_error_create("%s: is of %s; asyncflame here looks into %s only", what,
			       machine == MACHINE ? "32 bits" : machine_name(machine),
			       machine_name(MACHINE));
}

void af_process_close(struct af_process *p)
{
	for (size_t i = 0; i < p->images.count; i++) {
		af_futuremap_close(&p->images.items[i].map);
		free(p->images.items[i].shapes);
	}
	for (size_t i = 0; i < p->modules.count; i++)
		free(p->modules.items[i].file);
	for (size_t i = 0; i < p->notes.count; i++)
		free(p->notes.items[i]);
	for (size_t i = 0; i < p->texts.count; i++)
		free(p->texts.items[i]);
	if (p->arena)
		munmap(p->arena, p->arena_size);
	vector_deinit(&p->copies);
	vector_deinit(&p->copying);
	vector_deinit(&p->touched);
	af_map_deinit(&p->is_touched);
	vector_deinit(&p->texts);
	vector_deinit(&p->mappings);
	vector_deinit(&p->modules);
	vector_deinit(&p->images);
	vector_deinit(&p->threads);
	vector_deinit(&p->notes);
	free(p->executable);
	af_core_close(&p->file);
	if (!p->core && p->pid) {
		if (p->mem >= 0)
			close(p->mem);
		if (p->directory >= 0)
			close(p->directory);
	}
	memset(p, 0, sizeof(*p));
}

const struct af_mapping *af_process_mapping(const struct af_process *p, uint64_t address)
{
	size_t low = 0, high = p->mappings.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (p->mappings.items[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == p->mappings.count || p->mappings.items[low].start > address)
		return NULL;
	return &p->mappings.items[low];
}

struct af_module *af_process_module(struct af_process *p, uint64_t address)
{
	for (size_t i = 0; i < p->modules.count; i++) {
		struct af_module *module = &p->modules.items[i];
		if (address >= module->start && address < module->end)
			return module;
	}
	return NULL;
}

struct af_target af_process_target(struct af_process *p, struct af_memory *memory)
{
	return (struct af_target){
		.memory = memory ? memory : &p->memory,
		.images = p->images.items,
		.n_images = (uint32_t)p->images.count,
	};
}

bool af_process_read_memory(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct af_process *p = (void *)((char *)memory - offsetof(struct af_process, memory));
	return af_process_read(p, address, to, size) == size;
}

static size_t read_live(struct af_process *p, uint64_t address, void *to, size_t size)
{
	size_t done = 0;
	if (address > INT64_MAX || size > INT64_MAX - address)
		return 0;
	while (done < size) {
		ssize_t n = pread(p->mem, (char *)to + done, size - done, (off_t)(address + done));
		if (n <= 0) {
			if (n < 0 && errno == EINTR)
				continue;
			break;
		}
		done += (size_t)n;
	}
	return done;
}

/* From what was copied while the process stood still: those bytes count, not today's. */
static const struct af_copy *find_copy(const struct af_process *p, uint64_t address)
{
	size_t low = 0, high = p->copies.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct af_copy *copy = &p->copies.items[middle];
		if (copy->address + copy->size <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == p->copies.count || p->copies.items[low].address > address)
		return NULL;
	return &p->copies.items[low];
}

static size_t read_copies(struct af_process *p, uint64_t address, void *to, size_t size)
{
	size_t done = 0;
	while (done < size) {
		const struct af_copy *copy = find_copy(p, address + done);
		uint64_t at = copy ? address + done - copy->address : 0;
		uint64_t n = copy ? copy->size - at : 0;
		if (!copy)
			break;
		n = n < size - done ? n : size - done;
		memcpy((char *)to + done, copy->data + at, n);
		done += n;
	}
	return done;
}

size_t af_process_read(struct af_process *p, uint64_t address, void *to, size_t size)
{
	if (p->core)
		return af_memory_read(&p->file.memory, address, to, size) ? size : 0;
	size_t done = p->copies.count ? read_copies(p, address, to, size) : 0;
	/* What was not copied does not change (text, constants), or was not there then. */
	const struct af_mapping *m =
		p->copies.count && done < size ? af_process_mapping(p, address + done) : NULL;
	if (done < size && !(m && af_scan_is_writable(m)))
		done += read_live(p, address + done, (char *)to + done, size - done);
	return done;
}

/* True if all of the `n` pieces were read with one call. */
static bool read_batch(struct af_process *p, const struct af_piece *pieces, size_t n)
{
	struct iovec local[BATCH], remote[BATCH];
	size_t total = 0;
	for (size_t i = 0; i < n; i++) {
		local[i] = (struct iovec){pieces[i].to, pieces[i].size};
		remote[i] = (struct iovec){(void *)pieces[i].address, pieces[i].size};
		total += pieces[i].size;
	}
	ssize_t got = process_vm_readv(p->pid, local, n, remote, n, 0);
	if (got < 0 && (errno == EPERM || errno == ENOSYS))
		p->no_vm_readv = true;
	return got >= 0 && (size_t)got == total;
}

void af_process_read_pieces(struct af_process *p, struct af_piece *pieces, size_t n)
{
	for (size_t done = 0; done < n;) {
		size_t now = n - done < BATCH ? n - done : BATCH;
		bool all = !p->core && !p->copies.count && !p->no_vm_readv &&
			   read_batch(p, pieces + done, now);
		/* One piece that cannot be read ends the batch there: then one by one. */
		for (size_t i = done; i < done + now; i++)
			pieces[i].read = all || af_process_read_all(p, pieces[i].address,
								    pieces[i].to, pieces[i].size);
		done += now;
	}
}

void af_process_note(struct af_process *p, const char *format, ...)
{
	va_list args;
	char *text;
	va_start(args, format);
	int length = vasprintf(&text, format, args);
	va_end(args);
	char **note = length < 0 ? NULL : vector_push(&p->notes);
	if (note)
		*note = text;
	else if (length >= 0)
		free(text);
}

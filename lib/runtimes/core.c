/* SPDX-License-Identifier: MIT */
/*
 * A process as a core file left it: core(5), elf(5), and for the notes the kernel's
 * fs/binfmt_elf.c. Notes are copied before they are looked at: nothing in them is aligned.
 */
#include <errno.h>
#include <elf.h>
#include <stdio.h>
#include <sys/procfs.h>

#include "runtimes/process.h"
#include "runtimes/sources.h"

#define MAX_THREADS 65536

#if defined(__x86_64__)
/* elf_gregset_t (struct user_regs_struct) by DWARF number. */
static const uint8_t register_order[AF_REGISTERS] = {
	10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16,
};
#endif

static void add_thread(struct af_process *p, const struct af_core_note *note)
{
#if defined(__x86_64__)
	struct elf_prstatus status;
	if (note->size < sizeof(status) || p->threads.count >= MAX_THREADS)
		return;
	memcpy(&status, note->data, sizeof(status));
	struct af_process_thread *thread = vector_push(&p->threads);
	if (!thread)
		return;
	thread->tid = status.pr_pid;
	thread->known = (1u << AF_REGISTERS) - 1;
	for (int i = 0; i < AF_REGISTERS; i++)
		thread->registers[i] = status.pr_reg[register_order[i]];
#endif
}

static void read_process(struct af_process *p, const struct af_core_note *note)
{
	struct elf_prpsinfo info;
	if (note->size < sizeof(info))
		return;
	memcpy(&info, note->data, sizeof(info));
	p->pid = info.pr_pid;
}

/* Where the program begins says which of the mapped files is the executable. */
static uint64_t read_entry(const struct af_core_note *note)
{
	Elf64_auxv_t entry;
	for (size_t at = 0; note->size - at >= sizeof(entry); at += sizeof(entry)) {
		memcpy(&entry, note->data + at, sizeof(entry));
		if (entry.a_type == AT_ENTRY)
			return entry.a_un.a_val;
	}
	return 0;
}

static uint64_t read_notes(struct af_process *p)
{
	struct af_core_note note;
	uint64_t cursor = 0, entry = 0;
	while (af_core_next_note(&p->file, &cursor, &note)) {
		if (strcmp(note.owner, "CORE"))
			continue;
		if (note.type == NT_PRSTATUS)
			add_thread(p, &note);
		else if (note.type == NT_PRPSINFO)
			read_process(p, &note);
		else if (note.type == NT_AUXV)
			entry = read_entry(&note);
	}
	return entry;
}

static int compare_mappings(const void *a, const void *b)
{
	const struct af_mapping *x = a, *y = b;
	return x->start < y->start ? -1 : x->start > y->start;
}

static void sort_mappings(struct af_process *p)
{
	size_t kept = 0;
	vector_sort(&p->mappings, compare_mappings);
	/* Which overlap is nothing that a kernel writes: the later ones are not looked at. */
	for (size_t i = 0; i < p->mappings.count; i++)
		if (!kept || p->mappings.items[i].start >= p->mappings.items[kept - 1].end)
			p->mappings.items[kept++] = p->mappings.items[i];
	p->mappings.count = kept;
}

static void read_segments(struct af_process *p)
{
	struct af_core_segment segment;
	for (uint32_t i = 0; af_core_segment(&p->file, i, &segment); i++) {
		if (!segment.size || segment.size > UINT64_MAX - segment.address)
			continue;
		struct af_mapping *m = vector_push(&p->mappings);
		if (!m)
			return;
		*m = (struct af_mapping){
			.start = segment.address,
			.end = segment.address + segment.size,
			.present =
				segment.file_size < segment.size ? segment.file_size : segment.size,
			.readable = segment.flags & PF_R,
			.writable = segment.flags & PF_W,
			.executable = segment.flags & PF_X,
		};
	}
	sort_mappings(p);
}

/* Names what NT_FILE names. gdb's gcore leaves out of the core what lies in the file as well:
   only NT_FILE tells of that. */
static void name_mappings(struct af_process *p)
{
	VECTOR(struct af_mapping) more = {0};
	struct af_core_mapping file;
	for (uint32_t i = 0; af_core_mapping(&p->file, i, &file); i++) {
		struct af_mapping *m = (void *)af_process_mapping(p, file.start);
		if (!*file.name || file.start >= file.end || (m && m->start != file.start))
			continue;
		if (!m)
			m = vector_push(&more);
		if (!m)
			break;
		if (!m->end)
			*m = (struct af_mapping){
				.start = file.start, .end = file.end, .readable = true};
		m->path = file.name;
		m->offset = file.offset;
	}
	if (more.count && vector_reserve(&p->mappings, more.count)) {
		memcpy(p->mappings.items + p->mappings.count, more.items,
		       more.count * sizeof(*more.items));
		p->mappings.count += more.count;
		sort_mappings(p);
	}
	vector_deinit(&more);
}

static int compare_threads(const void *a, const void *b)
{
	const struct af_process_thread *x = a, *y = b;
	return x->tid < y->tid ? -1 : x->tid > y->tid;
}

struct af_error *af_process_open_core(struct af_process *p, const char *path)
{
	memset(p, 0, sizeof(*p));
	p->core = path;
	p->memory.read = af_process_read_memory;
	errno = 0;
	const char *why = af_core_open(&p->file, path);
	if (why && errno)
		return af_error_system(errno, "%s: %s", path, why);
	if (why)
		return af_error_create("%s: %s", path, why);
	unsigned char ident[20];
	memcpy(ident, p->file.data, sizeof(ident));
	struct af_error *error = af_source_check_machine(ident, "%s", path);
	if (error)
		return error;
	if (p->file.cut_off)
		af_process_note(p, "%s is cut off: what its end held is not shown", path);
	read_segments(p);
	name_mappings(p);
	uint64_t entry = read_notes(p);
	vector_sort(&p->threads, compare_threads);
	const struct af_mapping *m = entry ? af_process_mapping(p, entry) : NULL;
	if (m && m->path)
		p->executable = strdup(m->path);
	if (!p->mappings.count)
		return af_error_create("%s: holds no memory", path);
	return NULL;
}

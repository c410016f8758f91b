/* SPDX-License-Identifier: MIT */
/*
 * Who calls a poll directly, and is none itself? Asked of the code: every `call` whose target is
 * the entry of a poll. There are few; what they are in is then looked for in debug info, in the
 * units whose code holds them.
 */
#include <dwarf.h>
#include <elf.h>
#include <stdlib.h>

#include "analysis/drivers.h"
#include "analysis/elffile.h"

struct entry {
	uint64_t start, end; /* of a poll or task root */
	uint32_t future;     /* AFM_NONE: a task's entry */
	uint8_t self_register;
};

struct call {
	uint64_t address;
	uint32_t future;
	uint8_t self_register;
	bool found; /* the function that holds it */
};

#define STARTS 16384

struct finder {
	const struct af_builder *b;
	struct af_callers *callers;
	VECTOR(struct entry) entries; /* by start */
	VECTOR(struct call) calls;    /* by address */
	VECTOR(uint64_t) tasks;	      /* entries of executors' own functions, ascending */
	bool failed;		      /* memory was short */
	bool starts[STARTS];	      /* of entries, by some bits of their address: a first sieve */
};

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	return x->start < y->start ? -1 : x->start > y->start;
}

static int compare_calls(const void *a, const void *b)
{
	const struct call *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* The last entry at or before an address, or NULL. */
static const struct entry *entry_before(const struct finder *f, uint64_t address)
{
	size_t low = 0, high = f->entries.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (f->entries.items[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &f->entries.items[low - 1] : NULL;
}

/* All `call rel32` of a section of code to an entry. A byte that only looks like a call cannot
   hit one but by a chance of one in millions, and then finds no variable of that future. */
static void scan_code(struct finder *f, const uint8_t *data, uint64_t size, uint64_t address)
{
	const uint8_t *p = data, *end = data + size;

	while (end - p >= 5 && (p = memchr(p, 0xe8, (size_t)(end - p) - 4))) {
		int32_t distance;
		memcpy(&distance, p + 1, sizeof(distance));
		uint64_t at = address + (uint64_t)(p - data);
		uint64_t target = at + 5 + (uint64_t)(int64_t)distance;
		p++;
		if (!f->starts[target / 16 % STARTS])
			continue;
		const struct entry *to = entry_before(f, target), *in = NULL;
		if (!to || to->start != target || to->future == AFM_NONE)
			continue;
		in = entry_before(f, at);
		if (in && at < in->end)
			continue;
		struct call *call = vector_push(&f->calls);
		if (!call) {
			f->failed = true;
			return;
		}
		*call = (struct call){at, to->future, to->self_register, false};
	}
}

static void scan_sections(struct finder *f)
{
	const struct af_elf *elf = &f->b->object->main;
	struct af_elf_section section;
	Elf_Scn *scn = NULL;

	while ((scn = elf_nextscn(elf->elf, scn)))
		if (gelf_getshdr(scn, &section.header) &&
		    (section.header.sh_flags & SHF_EXECINSTR) && af_elf_section_data(elf, &section))
			scan_code(f, section.data, section.size, section.header.sh_addr);
	vector_sort(&f->calls, compare_calls);
}

/* The first call at or behind an address. */
static size_t call_from(const struct finder *f, uint64_t address)
{
	size_t low = 0, high = f->calls.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (f->calls.items[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* What polls inside a task is found by the task: no need to look for it in debug info. Symbols
   of both manglings have a path's parts with their lengths. */
static void see_symbol(void *arg, const char *name, uint64_t address, uint64_t size)
{
	struct finder *f = arg;

	/* Most hold no such call, which is asked more quickly than what they are called. */
	size_t call = size ? call_from(f, address) : 0;
	if (size && (call == f->calls.count || f->calls.items[call].address - address >= size))
		return;
	if (!strstr(name, "7runtime4task4core") && !strstr(name, "10async_task3raw"))
		return;
	uint64_t *task = vector_push(&f->tasks);
	if (task)
		*task = address;
	else
		f->failed = true;
}

static int compare_numbers(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static void drop_tasks(struct finder *f)
{
	size_t n, kept = 0;

	af_object_symbols(f->b->object, see_symbol, f);
	vector_sort(&f->tasks, compare_numbers);
	n = f->tasks.count;
	uint64_t *next = reallocarray(NULL, n + 1, sizeof(*next));
	if (!next) {
		f->failed = true;
		return;
	}
	af_object_next_functions(f->b->object, f->tasks.items, n, next);
	for (size_t i = 0; i < f->calls.count; i++) {
		uint64_t at = f->calls.items[i].address;
		size_t low = 0, high = n;
		while (low < high) {
			size_t middle = low + (high - low) / 2;
			if (f->tasks.items[middle] <= at)
				low = middle + 1;
			else
				high = middle;
		}
		if (!low || at >= next[low - 1])
			f->calls.items[kept++] = f->calls.items[i];
	}
	f->calls.count = kept;
	free(next);
}

/* Whether a DIE's code holds calls whose function is not found yet; with `function`, it is it. */
static bool holds_calls(struct finder *f, const struct af_die *die, bool function)
{
	struct af_ranges ranges;
	uint64_t start, end;
	bool any = false;

	if (!af_ranges_start(&ranges, die))
		return false;
	while (af_ranges_next(&ranges, &start, &end)) {
		if (start <= 1)
			continue;
		for (size_t i = call_from(f, start);
		     i < f->calls.count && f->calls.items[i].address < end; i++) {
			struct call *call = &f->calls.items[i];
			if (call->found)
				continue;
			any = true;
			if (!function)
				return true;
			struct af_caller *caller = vector_push(f->callers);
			if (!caller) {
				f->failed = true;
				return false;
			}
			*caller = (struct af_caller){af_die_id_of(die), call->future, call->address,
						     call->self_register};
			call->found = true;
		}
	}
	return any;
}

static void search_unit(struct finder *f, struct af_unit *unit)
{
	/* A split unit has left its code's bounds in the object. */
	const struct af_unit *bounds = unit->skeleton ? unit->skeleton : unit;
	struct af_die top, die;
	struct af_walk walk;
	unsigned int depth;

	if (!af_die_at(f->b->info, (uint64_t)bounds->file->number << 32 | bounds->first_die,
		       &top) ||
	    !holds_calls(f, &top, false) ||
	    !af_die_at(f->b->info, (uint64_t)unit->file->number << 32 | unit->first_die, &top))
		return;
	af_walk_start(&walk, &top);
	while (af_walk_next(&walk, &die, &depth)) {
		if (die.abbrev->tag == DW_TAG_subprogram) {
			holds_calls(f, &die, true);
			af_walk_skip_children(&walk);
		}
	}
}

bool af_callers_find(const struct af_builder *b, struct af_callers *callers)
{
	struct finder f = {.b = b, .callers = callers};

	if (b->object->machine != EM_X86_64)
		return true;
	for (size_t i = 0; i < b->polls.count; i++) {
		const struct afm_poll *poll = &b->polls.items[i];
		struct entry *entry = vector_push(&f.entries);
		bool root = poll->kind == AFM_P_TASK_ROOT;
		if (!entry)
			f.failed = true;
		else
			*entry = (struct entry){poll->address, poll->address + poll->size,
						root ? AFM_NONE : poll->first_future,
						poll->self_register};
	}
	for (size_t i = 0; i < f.entries.count; i++)
		f.starts[f.entries.items[i].start / 16 % STARTS] = true;
	vector_sort(&f.entries, compare_entries);
	if (f.entries.count)
		scan_sections(&f);
	if (f.calls.count)
		drop_tasks(&f);
	for (size_t i = 0; f.calls.count && i < b->info->files.count; i++) {
		struct af_file *file = b->info->files.items[i];
		for (size_t k = 0; k < file->units.count && !f.failed; k++)
			if (file->units.items[k].rust && !file->units.items[k].dwo_name)
				search_unit(&f, &file->units.items[k]);
	}
	vector_deinit(&f.entries);
	vector_deinit(&f.calls);
	vector_deinit(&f.tasks);
	return !f.failed;
}

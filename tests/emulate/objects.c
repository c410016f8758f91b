/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "subject.h"

#define PAGE UINT64_C(4096)

static const uint8_t *object_bytes(const void *arg, uint64_t address, uint64_t *available)
{
	return af_object_bytes(arg, address, available);
}

struct functions {
	VECTOR(struct af_code_range) items;
};

static void see_function(void *arg, const char *name, uint64_t address, uint64_t size)
{
	struct functions *functions = arg;
	struct af_code_range *range = vector_push(&functions->items);

	if (!range)
		errx(2, "out of memory");
	*range = (struct af_code_range){address, size};
}

static int compare_ranges(const void *a, const void *b)
{
	const struct af_code_range *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->size > y->size ? -1 : x->size < y->size;
}

static void load(struct subject *s, const struct af_object *object)
{
	uint64_t low = UINT64_MAX, high = 0;
	size_t n = 0;
	Elf64_Phdr *phdr = elf64_getphdr(object->main.elf);

	elf_getphdrnum(object->main.elf, &n);
	for (size_t i = 0; i < n; i++) {
		if (phdr[i].p_type != PT_LOAD)
			continue;
		low = phdr[i].p_vaddr < low ? phdr[i].p_vaddr : low;
		if (phdr[i].p_vaddr + phdr[i].p_memsz > high)
			high = phdr[i].p_vaddr + phdr[i].p_memsz;
		s->data = phdr[i].p_vaddr; /* the last is writable */
		s->data_size = phdr[i].p_filesz;
	}
	if (low > high || !s->data_size)
		errx(2, "nothing to load");
	low &= ~(PAGE - 1);
	high = (high + PAGE - 1) & ~(PAGE - 1);
	s->bias = object->type == ET_EXEC ? 0 : UINT64_C(0x555500000000) + (chance() & 0xffff000);
	s->data += s->bias;
	subject_set_up(s, low + s->bias, high + s->bias);
	uint8_t *image = machine_map(s->machine, low + s->bias, high - low);
	for (size_t i = 0; i < n; i++) {
		uint64_t available;
		const uint8_t *bytes = af_object_bytes(object, phdr[i].p_vaddr, &available);
		if (phdr[i].p_type == PT_LOAD && bytes)
			memcpy(image + (phdr[i].p_vaddr - low), bytes, available);
	}
}

void run_object(struct subject *s, const char *path, unsigned every)
{
	struct af_object object;
	struct functions functions = {0};
	struct af_holes holes = {0};
	struct af_error *error = af_object_open(&object, path);

	if (error || !object.main.elf || object.elf_class != ELFCLASS64)
		errx(2, "%s: %s", path, error ? error->message : "not a 64-bit object");
	s->planner = af_planner_create(object.machine);
	s->text = (struct af_plan_text){object_bytes, &object};
	if (!s->planner)
		errx(2, "%s: no planner for this machine", path);
	af_object_symbols(&object, see_function, &functions);
	vector_sort(&functions.items, compare_ranges);
	size_t n = functions.items.count;
	uint64_t *addresses = calloc(2 * n + 1, sizeof(*addresses)), *next = addresses + n;
	for (size_t i = 0; i < n; i++)
		addresses[i] = functions.items.items[i].address;
	af_object_next_functions(&object, addresses, n, next);
	if (!af_holes_collect(&holes, &object))
		errx(2, "out of memory");
	s->holes = &holes;
	load(s, &object);
	for (size_t i = 0, k = 0; i < n; i++) {
		const struct af_code_range *f = &functions.items.items[i];
		struct af_plan_function function = {f->address, f->size, next[i], NULL, 0};
		if ((i && f->address == f[-1].address) || k++ % every)
			continue;
		subject_consider(s, &function);
	}
	free(addresses);
	af_holes_deinit(&holes);
	vector_deinit(&functions.items);
	af_object_close(&object);
}

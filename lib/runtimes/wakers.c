/* SPDX-License-Identifier: MIT */
#include "runtimes/wakers.h"

#include "runtimes/scan.h"

#define MANY_COUNTS ((uint64_t)1 << 24)
#define MAX_OFFSET 64u

/* Where a vtable's functions and a waker's words are. */
struct places {
	uint64_t wake, by_ref, vtable, data;
};

struct vtable {
	uint64_t address;
	uint32_t image, type;
	struct places places;
};

struct search {
	struct af_wakers *wakers;
	struct af_process *process;
	struct af_memory *memory;
	uint32_t image;
	struct places places;
	VECTOR(struct vtable) vtables;
};

static bool find_places(const struct af_futuremap *map, struct places *p)
{
	const struct {
		const char *name;
		uint64_t *to;
	} wanted[] = {
		{"core.RawWakerVTable.wake", &p->wake},
		{"core.RawWakerVTable.wake_by_ref", &p->by_ref},
		{"core.RawWaker.vtable", &p->vtable},
		{"core.RawWaker.data", &p->data},
	};
	for (size_t i = 0; i < 4; i++)
		if (!af_futuremap_layout(map, wanted[i].name, wanted[i].to) ||
		    *wanted[i].to > MAX_OFFSET)
			return false;
	return true;
}

/* The type of the waker whose function is at run-time `address`, or AFM_NONE. */
static uint32_t type_of(const struct af_image *image, uint64_t address)
{
	for (uint32_t i = 0; i < image->map.header->wakers.count; i++) {
		const struct afm_waker *waker = af_futuremap_wakers(&image->map, i);
		if (waker->address == address - image->bias)
			return waker->type;
	}
	return AFM_NONE;
}

/* A word with the address of a `wake`: of a vtable, if the same W's wake_by_ref is in its place. */
static void found_wake(void *arg, uint64_t address, uint32_t number)
{
	struct search *s = arg;
	const struct af_image *image = &s->process->images.items[s->image];
	uint32_t type = af_futuremap_wakers(&image->map, number)->type;
	uint64_t other, vtable = address - s->places.wake;
	if (!af_memory_read_u64(s->memory, vtable + s->places.by_ref, &other) ||
	    type_of(image, other) != type)
		return;
	struct vtable *kept = vector_push(&s->vtables);
	if (kept)
		*kept = (struct vtable){vtable, s->image, type, s->places};
	else
		s->wakers->failed = true;
}

static void find_vtables(struct search *s, const struct af_module *module)
{
	const struct af_image *image = &s->process->images.items[module->image];
	struct af_words words = {0};
	s->image = module->image;
	if (!find_places(&image->map, &s->places))
		return;
	for (uint32_t i = 0; i < image->map.header->wakers.count; i++)
		af_words_add(&words, image->bias + af_futuremap_wakers(&image->map, i)->address, i);
	af_words_sort(&words);
	af_scan_constants(s->process, module, &words, found_wake, s);
	s->wakers->failed |= words.failed;
	af_words_deinit(&words);
}

/* Whether `address` is what an Arc that lives points to: ArcInner { strong, weak, data }. */
static bool is_alive(struct search *s, const struct vtable *vtable, uint64_t address)
{
	const struct af_futuremap *map = &s->process->images.items[vtable->image].map;
	uint64_t align = af_futuremap_types(map, vtable->type)->align, counts[2];
	uint64_t data = align > sizeof(counts) ? align : sizeof(counts);
	if (!address || address % (align ? align : 1) || address < data ||
	    !af_memory_read(s->memory, address - data, counts, sizeof(counts)))
		return false;
	return counts[0] && counts[0] < MANY_COUNTS && counts[1] && counts[1] < MANY_COUNTS;
}

static void found_waker(void *arg, uint64_t address, uint32_t number)
{
	struct search *s = arg;
	const struct vtable *vtable = &s->vtables.items[number];
	uint64_t at;
	if (!af_memory_read_u64(s->memory, address - vtable->places.vtable + vtable->places.data,
				&at) ||
	    !is_alive(s, vtable, at))
		return;
	struct af_woken *kept = vector_push(&s->wakers->items);
	if (kept)
		*kept = (struct af_woken){at, vtable->image, vtable->type};
	else
		s->wakers->failed = true;
}

static int compare_woken(const void *a, const void *b)
{
	const struct af_woken *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

void af_wakers_find(struct af_wakers *wakers, struct af_process *process, struct af_memory *memory)
{
	struct search s = {.wakers = wakers, .process = process, .memory = memory};
	struct af_words words = {0};
	for (size_t i = 0; i < process->modules.count; i++)
		if (process->modules.items[i].image != AFM_NONE)
			find_vtables(&s, &process->modules.items[i]);
	for (uint32_t i = 0; i < s.vtables.count; i++)
		af_words_add(&words, s.vtables.items[i].address, i);
	af_words_sort(&words);
	if (s.vtables.count)
		af_scan_writable(process, &words, found_waker, &s);
	vector_sort(&wakers->items, compare_woken);
	size_t kept = 0;
	for (size_t i = 0; i < wakers->items.count; i++)
		if (!kept ||
		    wakers->items.items[i].address != wakers->items.items[kept - 1].address)
			wakers->items.items[kept++] = wakers->items.items[i];
	wakers->items.count = kept;
	wakers->failed |= words.failed;
	af_words_deinit(&words);
	vector_deinit(&s.vtables);
}

void af_wakers_deinit(struct af_wakers *wakers)
{
	vector_deinit(&wakers->items);
}

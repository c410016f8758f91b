/* SPDX-License-Identifier: MIT */
#include "runtimes/headers.h"

#include <stdio.h>

#include "runtimes/scan.h"

#define MAX_OFFSET 4096u /* no field of a header or vtable lies further in */

/* How the map calls what is looked for. */
static const struct {
	uint32_t executor;
	const char *entry;	 /* the vtable's entry that is the task root */
	const char *others[3];	 /* entries that must be code as well */
	const char *header_name; /* prefix of layouts */
	const char *header_type; /* and, where the type is generic, how its name begins */
} executors[] = {
	{
		AFM_X_TOKIO,
		"tokio.Vtable.poll",
		{"tokio.Vtable.schedule", "tokio.Vtable.dealloc", "tokio.Vtable.shutdown"},
		"tokio.Header",
		"tokio::runtime::task::core::Header",
	},
	{
		AFM_X_ASYNC_TASK,
		"async_task.TaskVTable.run",
		{"async_task.TaskVTable.schedule", "async_task.TaskVTable.destroy",
		 "async_task.TaskVTable.clone_waker"},
		"async_task.Header",
		"async_task::header::Header",
	},
};
#define N_EXECUTORS (sizeof(executors) / sizeof(executors[0]))

static uint32_t layout(const struct af_futuremap *map, const char *name)
{
	uint64_t value;
	return af_futuremap_layout(map, name, &value) && value < MAX_OFFSET ? (uint32_t)value
									    : AFM_NONE;
}

/* Field `field` of the first type whose name begins with `head`: a generic header has the same
   fields first whatever its metadata is. */
static uint32_t field_of(const struct af_futuremap *map, const char *head, const char *field)
{
	size_t length = strlen(head);
	for (uint32_t i = 0; i < map->header->types.count; i++) {
		const struct afm_type *type = af_futuremap_types(map, i);
		const char *name = af_futuremap_string(map, type->name);
		if (strncmp(name, head, length) || (name[length] && name[length] != '<'))
			continue;
		for (uint32_t k = 0; k < type->n_fields; k++) {
			const struct afm_field *f = af_futuremap_fields(map, type->first_field + k);
			if (!strcmp(af_futuremap_string(map, f->name), field) &&
			    f->offset < MAX_OFFSET)
				return (uint32_t)f->offset;
		}
	}
	return AFM_NONE;
}

/* From a task's header to the field `field`. */
static uint32_t header_field(const struct af_image *image, uint32_t executor, const char *field)
{
	for (size_t i = 0; i < N_EXECUTORS; i++) {
		char name[128];
		if (executors[i].executor != executor)
			continue;
		snprintf(name, sizeof(name), "%s.%s", executors[i].header_name, field);
		uint32_t offset = layout(&image->map, name);
		return offset != AFM_NONE ? offset
					  : field_of(&image->map, executors[i].header_type, field);
	}
	return AFM_NONE;
}

struct search {
	struct af_headers *headers;
	struct af_process *process;
	uint32_t image;
	const struct af_words *roots;
	uint32_t step; /* from what is found back to what is wanted */
	size_t executor;
};

static bool is_code(struct af_process *p, uint64_t address)
{
	const struct af_module *module = af_process_module(p, address);
	return module && address >= module->text && address < module->text_end;
}

static bool is_blocking(const struct af_futuremap *map, const struct afm_root *root)
{
	static const char name[] = "tokio::runtime::blocking::task::BlockingTask<";
	if (root->future_type == AFM_NONE)
		return false;
	const struct afm_type *type = af_futuremap_types(map, root->future_type);
	return !strncmp(af_futuremap_string(map, type->name), name, sizeof(name) - 1);
}

static void describe(struct af_vtable *vtable, const struct af_image *image, uint64_t address,
		     uint32_t image_index, uint32_t root_index)
{
	const struct afm_root *root = af_futuremap_roots(&image->map, root_index);
	*vtable = (struct af_vtable){
		.address = address,
		.image = image_index,
		.root = root_index,
		.vtable = header_field(image, root->executor, "vtable"),
		.state = header_field(image, root->executor, "state"),
		.owner = header_field(image, root->executor, "owner_id"),
		.spawned = AFM_NONE,
		.executor = (uint8_t)root->executor,
		.blocking = is_blocking(&image->map, root),
	};
}

/* tokio with tokio_unstable keeps where a task was spawned, and its vtable says at which offset. */
static uint32_t spawned_offset(struct af_process *p, const struct af_futuremap *map,
			       uint64_t vtable)
{
	uint32_t at = layout(map, "tokio.Vtable.spawn_location_offset");
	uint64_t offset;
	if (at == AFM_NONE || !af_process_read_all(p, vtable + at, &offset, sizeof(offset)) ||
	    !offset || offset >= MAX_OFFSET)
		return AFM_NONE;
	return (uint32_t)offset;
}

/* A word with the address of a root: the entry of a vtable, if its other entries are code too. */
static void found_root(void *arg, uint64_t address, uint32_t root)
{
	struct search *s = arg;
	const struct af_futuremap *map = &s->process->images.items[s->image].map;
	uint64_t entry, vtable = address - s->step;
	for (size_t i = 0; i < 3; i++) {
		uint32_t offset = layout(map, executors[s->executor].others[i]);
		if (offset == AFM_NONE)
			continue;
		if (!af_process_read_all(s->process, vtable + offset, &entry, sizeof(entry)) ||
		    !is_code(s->process, entry))
			return;
	}
	struct af_vtable *kept = vector_push(&s->headers->vtables);
	if (kept) {
		describe(kept, &s->process->images.items[s->image], vtable, s->image, root);
		kept->spawned = spawned_offset(s->process, map, vtable);
	} else
		s->headers->failed = true;
}

static void find_in_module(struct search *s, const struct af_module *module)
{
	const struct af_image *image = &s->process->images.items[module->image];
	for (s->executor = 0; s->executor < N_EXECUTORS; s->executor++) {
		struct af_words roots = {0};
		s->roots = &roots;
		s->image = module->image;
		s->step = layout(&image->map, executors[s->executor].entry);
		for (uint32_t i = 0; i < image->map.header->roots.count; i++) {
			const struct afm_root *root = af_futuremap_roots(&image->map, i);
			if (root->executor == executors[s->executor].executor &&
			    root->poll < image->map.header->polls.count)
				af_words_add(&roots,
					     image->bias +
						     af_futuremap_polls(&image->map, root->poll)
							     ->address,
					     i);
		}
		af_words_sort(&roots);
		if (s->step != AFM_NONE)
			af_scan_constants(s->process, module, s->roots, found_root, s);
		s->headers->failed |= roots.failed;
		af_words_deinit(&roots);
	}
}

static int compare_vtables(const void *a, const void *b)
{
	const struct af_vtable *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->root < y->root ? -1 : x->root > y->root;
}

void af_headers_find_vtables(struct af_headers *headers, struct af_process *process)
{
	struct search search = {.headers = headers, .process = process};
	for (size_t i = 0; i < process->modules.count; i++)
		if (process->modules.items[i].image != AFM_NONE)
			find_in_module(&search, &process->modules.items[i]);
	vector_sort(&headers->vtables, compare_vtables);
	size_t kept = 0;
	for (size_t i = 0; i < headers->vtables.count; i++)
		if (!kept ||
		    headers->vtables.items[i].address != headers->vtables.items[kept - 1].address)
			headers->vtables.items[kept++] = headers->vtables.items[i];
	headers->vtables.count = kept;
}

static void found_vtable(void *arg, uint64_t address, uint32_t vtable)
{
	struct af_headers *headers = arg;
	/* A header is aligned to 8 at least, and so is every word that is looked at. */
	struct af_header *header = vector_push(&headers->items);
	if (header)
		*header =
			(struct af_header){address - headers->vtables.items[vtable].vtable, vtable};
	else
		headers->failed = true;
}

void af_headers_find(struct af_headers *headers, struct af_process *process)
{
	struct af_words words = {0};
	for (uint32_t i = 0; i < headers->vtables.count; i++)
		if (headers->vtables.items[i].vtable != AFM_NONE)
			af_words_add(&words, headers->vtables.items[i].address, i);
	af_words_sort(&words);
	af_scan_writable(process, &words, found_vtable, headers);
	headers->failed |= words.failed;
	af_words_deinit(&words);
}

void af_headers_deinit(struct af_headers *headers)
{
	vector_deinit(&headers->items);
	vector_deinit(&headers->vtables);
}

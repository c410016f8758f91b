/* SPDX-License-Identifier: MIT */
/*
 * What debug info tells of executors: where a task keeps its future, and the places of the
 * fields that later stations read, by name ("tokio.Header.vtable"). Nothing here knows an
 * offset; a field that this version of a crate does not have is not in the map.
 */
#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>

#include "analysis/build.h"

static const struct {
	const char *type, *name; /* qualified type; how the layout is called */
} wanted_types[] = {
	{"core::task::wake::Context", "core.Context"},
	{"core::task::wake::Waker", "core.Waker"},
	{"core::task::wake::RawWaker", "core.RawWaker"},
	{"core::task::wake::RawWakerVTable", "core.RawWakerVTable"},
	{"tokio::runtime::task::core::Header", "tokio.Header"},
	{"tokio::runtime::task::raw::Vtable", "tokio.Vtable"},
	{"async_task::header::Header", "async_task.Header"},
	{"async_task::raw::TaskVTable", "async_task.TaskVTable"},
	{"async_std::task::task::Task", "async_std.Task"},
	{"async_std::task::task_locals_wrapper::TaskLocalsWrapper", "async_std.TaskLocalsWrapper"},
};
#define N_WANTED (sizeof(wanted_types) / sizeof(wanted_types[0]))

/* Whether a type of this name was met in a namespace of this name. Linkers merge equal strings,
   so that comparing their places is enough to spare most of the work; what it misses costs
   time only. */
static bool seen_before(struct af_map *seen, const struct af_index *index, const struct af_die *die)
{
	uint32_t space = af_index_namespace(index, die->offset);
	uint64_t size = 0;
	af_die_number(die, DW_AT_byte_size, &size);
	uintptr_t name = (uintptr_t)af_die_string(die, DW_AT_name);
	uintptr_t outer = space == UINT32_MAX ? 0 : (uintptr_t)index->namespaces.items[space].name;
	uint64_t key = (name * 31 + outer) * 31 + size;

	if (!size || af_map_get(seen, key) != UINT32_MAX)
		return size != 0;
	af_map_set(seen, key, 1);
	return false;
}

/* Interns the types that layouts and roots are read from, so that the detail pass sees them. */
void af_executors_intern(struct af_builder *b)
{
	struct af_text text = {0};
	struct af_map seen = {0}, copies = {0};

	for (size_t i = 0; i < b->info->files.count; i++) {
		const struct af_index *index = &b->indexes[i];
		for (size_t k = 0; k < index->types.count && !b->failed; k++) {
			const struct af_found_type *found = &index->types.items[k];
			if (found->what != AF_FOUND_LAYOUT ||
			    af_map_get(&copies, found->key) != UINT32_MAX)
				continue;
			af_die_id id = (uint64_t)index->file->number << 32 | found->offset;
			struct af_die die;
			af_map_set(&copies, found->key, 1);
			if (!af_die_at(b->info, id, &die) || seen_before(&seen, index, &die) ||
			    af_die_flag(&die, DW_AT_declaration))
				continue;
			af_text_clear(&text);
			af_name_path(b, &die, &text);
			const char *path = af_text_get(&text);
			if (!strncmp(path, "core::task::wake", 16) ||
			    !strncmp(path, "tokio::runtime::task", 20) ||
			    !strncmp(path, "async_task::", 12) ||
			    !strncmp(path, "async_std::task", 15))
				af_types_intern(b, id);
		}
	}
	b->failed |= text.failed | seen.failed | copies.failed;
	af_text_deinit(&text);
	af_map_deinit(&copies);
	af_map_deinit(&seen);
}

static uint32_t type_by_name(struct af_builder *b, const char *name)
{
	uint32_t string = af_strings_add(&b->strings, name);
	return string ? af_map_get(&b->name_types, string) : AFM_NONE;
}

static void add_layout(struct af_builder *b, const char *name, uint64_t value)
{
	struct afm_layout *layout = builder_push(b, layouts);
	if (layout)
		*layout = (struct afm_layout){af_strings_add(&b->strings, name), 0, value};
}

static void add_fields(struct af_builder *b, const char *name, uint32_t type)
{
	char full[256];
	const struct afm_type *t = &b->types.items[type];

	snprintf(full, sizeof(full), "%s.size", name);
	add_layout(b, full, t->size);
	for (uint32_t i = 0; i < t->n_fields; i++) {
		const struct afm_field *field = &b->fields.items[t->first_field + i];
		snprintf(full, sizeof(full), "%s.%s", name,
			 af_strings_get(&b->strings, field->name));
		add_layout(b, full, field->offset);
	}
}

/* The offset of field `name` in `type`, and its type; false if there is none. */
static bool step(struct af_builder *b, uint32_t *type, uint64_t *offset, const char *name)
{
	uint32_t field = af_types_field(b, *type, name);
	if (field == AFM_NONE)
		return false;
	*offset += b->fields.items[field].offset;
	*type = b->fields.items[field].type;
	return *type != AFM_NONE;
}

/* tokio: Cell<T, S>{header, core{scheduler, task_id, stage}, trailer}, where the stage is
   Running(T), Finished or Consumed behind a cell or two. */
static void find_tokio(struct af_builder *b, struct afm_root *root, const char *arguments)
{
	struct af_text name = {0};
	uint64_t offset = 0, header = 0;

	af_text_add(&name, "tokio::runtime::task::core::Cell");
	af_text_add(&name, arguments);
	uint32_t type = type_by_name(b, af_text_get(&name)), inner;
	af_text_deinit(&name);
	if (type == AFM_NONE)
		return;
	root->cell_type = type;
	inner = type;
	if (!step(b, &inner, &header, "header") || !step(b, &type, &offset, "core") ||
	    !step(b, &type, &offset, "stage"))
		return;
	/* CoreStage { stage: UnsafeCell<UnsafeCell<Stage>> }: one field each, on the way. */
	for (int i = 0; i < 8 && !b->types.items[type].n_variants; i++) {
		const struct afm_type *t = &b->types.items[type];
		uint32_t next = AFM_NONE;
		for (uint32_t k = 0; k < t->n_fields; k++) {
			const struct afm_field *field = &b->fields.items[t->first_field + k];
			if (field->type != AFM_NONE &&
			    b->types.items[field->type].size == t->size) {
				next = field->type;
				offset += field->offset;
				break;
			}
		}
		if (next == AFM_NONE)
			return;
		type = next;
	}
	root->stage_offset = root->step_offset = (uint32_t)(offset - header);
	root->step = type; /* steps.c makes it one */
	const struct afm_type *stage = &b->types.items[type];
	for (uint32_t v = 0; v < stage->n_variants; v++) {
		const struct afm_variant *variant = &b->variants.items[stage->first_variant + v];
		if (!strcmp(af_strings_get(&b->strings, variant->name), "Running") &&
		    variant->n_fields)
			root->future_offset =
				(uint32_t)(offset - header +
					   b->fields.items[variant->first_field].offset);
	}
}

static uint64_t align_up(uint64_t value, uint64_t align)
{
	return align > 1 ? (value + align - 1) / align * align : value;
}

/* Debug info tells it of structures; other types have their own size's. */
static uint64_t alignment(const struct af_builder *b, uint32_t type)
{
	while (type != AFM_NONE && b->types.items[type].kind == AFM_T_ARRAY)
		type = b->types.items[type].target;
	if (type == AFM_NONE)
		return 1;
	const struct afm_type *t = &b->types.items[type];
	if (t->align || t->kind == AFM_T_STRUCT || t->kind == AFM_T_UNION)
		return t->align;
	if (t->kind == AFM_T_POINTER)
		return 8;
	return t->size ? t->size : 1; /* `()` is no structure to rustc */
}

static uint64_t size_of(const struct af_builder *b, uint32_t type)
{
	return type == AFM_NONE ? 0 : b->types.items[type].size;
}

/* async-task lays a task out by hand (RawTask::eval_task_layout): header, then the scheduling
   function S, then a union of F and the output, each aligned. F of 2 KiB and more is boxed.
   Newer ones keep metadata M in the header: Header<M>. */
static void find_async_task(struct af_builder *b, struct afm_root *root, const char *arguments)
{
	struct af_text name = {0};
	uint32_t raw, header = AFM_NONE, schedule = AFM_NONE, future = AFM_NONE, output = AFM_NONE;
	const struct {
		const char *field;
		uint32_t *type;
	} parts[] = {
		{"header", &header},
		{"schedule", &schedule},
		{"future", &future},
		{"output", &output},
	};

	af_text_add(&name, "async_task::raw::RawTask");
	af_text_add(&name, arguments);
	raw = type_by_name(b, af_text_get(&name));
	af_text_deinit(&name);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		uint32_t field = af_types_field(b, raw, parts[i].field);
		if (field == AFM_NONE || b->fields.items[field].type == AFM_NONE)
			return;
		*parts[i].type = b->types.items[b->fields.items[field].type].target;
	}
	if (header == AFM_NONE || future == AFM_NONE)
		return;
	root->cell_type = header;
	/* Of `()` debug info says no alignment, and it needs none. */
	if (!alignment(b, schedule) || !alignment(b, future) ||
	    (!alignment(b, output) && size_of(b, output)))
		return;
	uint64_t at = align_up(size_of(b, header), alignment(b, schedule)) + size_of(b, schedule);
	uint64_t align = alignment(b, future);
	if (alignment(b, output) > align)
		align = alignment(b, output);
	/* Its layout is of the type that is stored: a box where F was large, which the type
	   behind `future` says already. */
	root->future_offset = root->step_offset = (uint32_t)align_up(at, align);
	root->step = future;
}

/* Header<M> of newer async-tasks: of the metadata that most have, or of the first that is met. */
static void add_async_task_header(struct af_builder *b)
{
	uint32_t header = type_by_name(b, "async_task::header::Header<()>");

	if (type_by_name(b, "async_task::header::Header") != AFM_NONE)
		return;
	for (size_t i = 0; header == AFM_NONE && i < b->roots.count; i++)
		if (b->roots.items[i].executor == AFM_X_ASYNC_TASK)
			header = b->roots.items[i].cell_type;
	if (header != AFM_NONE)
		add_fields(b, "async_task.Header", header);
}

static int compare_layouts(const void *a, const void *b, void *strings)
{
	const struct afm_layout *x = a, *y = b;
	return strcmp(af_strings_get(strings, x->name), af_strings_get(strings, y->name));
}

static int compare_vtables(const void *a, const void *b)
{
	const struct afm_vtable *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->type < y->type ? -1 : x->type > y->type;
}

/* tokio spawns futures of some KiB in a box (runtime/mod.rs, BOX_FUTURE_THRESHOLD, since 1.38): the task
   is what is in it. */
static void name_boxed(struct af_builder *b, struct afm_poll *poll)
{
	static const char head[] = "core::pin::Pin<alloc::boxed::Box<",
			  tail[] = ", alloc::alloc::Global>>";
	const char *name = af_strings_get(&b->strings, poll->name);
	size_t length = strlen(name), before = sizeof(head) - 1, behind = sizeof(tail) - 1;

	if (length <= before + behind || strncmp(name, head, before) ||
	    strcmp(name + length - behind, tail) || !strncmp(name + before, "dyn ", 4) ||
	    name[before] == '(')
		return;
	/* The strings move as they grow. */
	char *boxed = strndup(name + before, length - before - behind);
	b->failed |= !boxed;
	if (boxed)
		poll->name = af_strings_add(&b->strings, boxed);
	free(boxed);
}

void af_executors_complete(struct af_builder *b)
{
	for (size_t i = 0; i < b->polls.count; i++)
		if (b->polls.items[i].kind == AFM_P_TASK_ROOT)
			name_boxed(b, &b->polls.items[i]);
	for (size_t i = 0; i < N_WANTED; i++) {
		uint32_t type = type_by_name(b, wanted_types[i].type);
		if (type != AFM_NONE && !(b->types.items[type].flags & AFM_TF_DECLARATION))
			add_fields(b, wanted_types[i].name, type);
	}
	for (size_t i = 0; i < b->roots.count; i++) {
		struct afm_root *root = &b->roots.items[i];
		const char *arguments = af_strings_get(&b->strings, b->root_arguments.items[i]);
		if (root->executor == AFM_X_TOKIO)
			find_tokio(b, root, arguments);
		else if (root->executor == AFM_X_ASYNC_TASK)
			find_async_task(b, root, arguments);
	}
	add_async_task_header(b);
	if (b->layouts.count)
		qsort_r(b->layouts.items, b->layouts.count, sizeof(*b->layouts.items),
			compare_layouts, &b->strings);
}

/* The trait's path, without generics: up to what ends it. */
uint32_t af_trait_name(struct af_builder *b, const char *trait)
{
	struct af_text text = {0};

	af_text_append(&text, trait, strcspn(trait, "<>()+,; "));
	uint32_t name = af_strings_add(&b->scratch, af_text_get(&text));
	b->failed |= text.failed;
	af_text_deinit(&text);
	return name;
}

/* One vtable variable: an address, and a type that says whose it is. */
static void add_vtable(struct af_builder *b, const struct af_die *die)
{
	struct af_value location, index = {.form = DW_FORM_addrx};
	struct af_die type;
	uint64_t address;

	if (!af_die_attribute(die, DW_AT_location, &location) || !location.data || !location.size)
		return;
	struct af_bytes code = af_bytes_make(location.data, location.size);
	switch (af_bytes_u8(&code)) {
	case DW_OP_addr:
		address = af_bytes_fixed(&code, die->unit->address_size);
		break;
	case DW_OP_addrx:
	case DW_OP_GNU_addr_index:
		index.number = af_bytes_uleb(&code);
		if (!af_value_address(die->unit, &index, &address))
			return;
		break;
	default:
		return;
	}
	/* Dropped by the linker: 0, or 1 where 0 would end a list. */
	if (code.failed || address <= 1 || !af_die_at(b->info, af_types_target(b, die), &type))
		return;
	uint32_t self = af_types_intern(b, af_die_reference(&type, DW_AT_containing_type));
	const char *name = af_die_string(die, DW_AT_name);
	const char *trait = name ? af_name_vtable_trait(name) : NULL;
	if (self == AFM_NONE || !trait)
		return;
	struct afm_vtable *vtable = builder_push(b, vtables);
	struct af_implementor *implementor = builder_push(b, implementors);
	if (vtable && implementor) {
		*vtable = (struct afm_vtable){address, self, AFM_NONE};
		*implementor = (struct af_implementor){af_trait_name(b, trait), self};
	}
}

void af_vtables_collect(struct af_builder *b)
{
	for (size_t i = 0; i < b->info->files.count; i++) {
		const struct af_index *index = &b->indexes[i];
		for (size_t k = 0; k < index->vtables.count && !b->failed; k++) {
			struct af_die die;
			if (af_die_at(b->info,
				      (uint64_t)index->file->number << 32 | index->vtables.items[k],
				      &die))
				add_vtable(b, &die);
		}
	}
	vector_sort(&b->vtables, compare_vtables);
	size_t kept = 0;
	for (size_t i = 0; i < b->vtables.count; i++)
		if (!kept || b->vtables.items[i].address != b->vtables.items[kept - 1].address ||
		    b->vtables.items[i].type != b->vtables.items[kept - 1].type)
			b->vtables.items[kept++] = b->vtables.items[i];
	b->vtables.count = kept;
}

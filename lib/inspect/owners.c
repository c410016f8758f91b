/* SPDX-License-Identifier: MIT */
#include "inspect/owners.h"

#include <string.h>

#define DEPTH_MAX 24
#define BUDGET 4000 /* fields looked at for one value */
#define LOWEST \
	0x10000 /* below, nothing is ever mapped: null, and what stands for "nothing allocated" */

struct search {
	const struct af_target *target;
	const struct af_futuremap *map;
	uint32_t image;
	struct af_owner *owners;
	uint32_t n, max;
	int budget;
};

static void look(struct search *s, uint32_t type, uint64_t address, int depth);

static void add(struct search *s, uint64_t place)
{
	uint64_t memory;

	if (s->n < s->max && af_memory_read_u64(s->target->memory, place, &memory) &&
	    memory >= LOWEST)
		s->owners[s->n++] = (struct af_owner){memory, place};
}

/* The pointer that a struct of one pointer keeps by this path. */
static void add_at(struct search *s, uint32_t type, uint64_t address, const char *path)
{
	if (af_target_path(s->target, s->image, path, &type, &address))
		add(s, address);
}

/* A table without room points to a constant, as all of them do. */
static void add_table(struct search *s, uint32_t type, uint64_t address)
{
	uint32_t at = type;
	uint64_t place = address, mask;

	if (af_target_path(s->target, s->image, "bucket_mask", &at, &place) &&
	    af_memory_read_u64(s->target->memory, place, &mask) && mask)
		add_at(s, type, address, "ctrl");
}

static void look_at_fields(struct search *s, uint32_t first, uint32_t n, uint64_t address,
			   int depth)
{
	for (uint32_t i = 0; i < n && s->n < s->max; i++) {
		const struct afm_field *field = af_futuremap_fields(s->map, first + i);
		if (field->type != AFM_NONE)
			look(s, field->type, address + field->offset, depth + 1);
	}
}

/* Types whose pointers own alone, by name: of others a raw pointer means nothing. */
static bool look_at_known(struct search *s, uint32_t type, const char *name, uint64_t address)
{
	static const struct {
		const char *head, *path;
	} known[] = {
		{"core::ptr::unique::Unique<", "pointer"},
		{"alloc::boxed::Box<", "pointer"},  /* of a dyn */
		{"alloc::boxed::Box<", "data_ptr"}, /* of a slice */
		{"alloc::vec::into_iter::IntoIter<", "buf"},
		/* Whoever has put it there drops it, or does not. */
		{"core::mem::manually_drop::ManuallyDrop<", NULL},
		{"core::mem::maybe_uninit::MaybeUninit<", NULL},
	};
	static const char table[] = "hashbrown::raw::RawTableInner";
	bool found = false;

	if (!strncmp(name, table, sizeof(table) - 1)) {
		add_table(s, type, address);
		return true;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strncmp(name, known[i].head, strlen(known[i].head)))
			continue;
		if (known[i].path)
			add_at(s, type, address, known[i].path);
		found = true;
	}
	return found;
}

static void look(struct search *s, uint32_t type, uint64_t address, int depth)
{
	const struct afm_type *t = af_futuremap_types(s->map, type);
	const char *name = af_futuremap_string(s->map, t->name);
	uint32_t variant;

	if (depth > DEPTH_MAX || --s->budget < 0)
		return;
	if (t->kind == AFM_T_POINTER) {
		if (!strncmp(name, "alloc::boxed::Box<", 18))
			add(s, address);
		return;
	}
	if (t->kind != AFM_T_STRUCT || look_at_known(s, type, name, address))
		return;
	look_at_fields(s, t->first_field, t->n_fields, address, depth);
	if (t->n_variants &&
	    af_target_variant(s->target, s->image, type, address, &variant) == AF_ACTIVE_FOUND) {
		const struct afm_variant *v = af_futuremap_variants(s->map, variant);
		look_at_fields(s, v->first_field, v->n_fields, address, depth);
	}
}

uint32_t af_owners_find(const struct af_target *target, uint32_t image, uint32_t type,
			uint64_t address, struct af_owner *owners, uint32_t max)
{
	struct search s = {.target = target,
			   .map = &target->images[image].map,
			   .image = image,
			   .owners = owners,
			   .max = max,
			   .budget = BUDGET};

	look(&s, type, address, 0);
	return s.n;
}

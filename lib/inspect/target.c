/* SPDX-License-Identifier: MIT */
/*
 * Look-ups over the images of a target, and the active variant of a value.
 */
#include "inspect/target.h"

/* Debug info of one build may name two types for one table, where the linker folded them. */
static bool ambiguous(const struct af_futuremap *map, const struct afm_vtable *vtable)
{
	const struct afm_vtable *first = af_futuremap_table(map, &map->header->vtables);
	const struct afm_vtable *end = first + map->header->vtables.count;

	for (const struct afm_vtable *v = vtable; v > first && v[-1].address == vtable->address;)
		if ((--v)->type != vtable->type)
			return true;
	for (const struct afm_vtable *v = vtable + 1; v < end && v->address == vtable->address; v++)
		if (v->type != vtable->type)
			return true;
	return false;
}

bool af_target_vtable(const struct af_target *target, uint64_t address, uint32_t *image,
		      uint32_t *type)
{
	for (uint32_t i = 0; i < target->n_images; i++) {
		const struct af_futuremap *map = &target->images[i].map;
		const struct afm_vtable *vtable =
			af_futuremap_vtable(map, address - target->images[i].bias);
		if (!vtable)
			continue;
		if (ambiguous(map, vtable))
			return false;
		*image = i;
		*type = vtable->type;
		return true;
	}
	return false;
}

static const struct afm_field *find(const struct af_futuremap *map, uint32_t first, uint32_t n,
				    const char *name, size_t length)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct afm_field *field = af_futuremap_fields(map, first + i);
		const char *own = af_futuremap_string(map, field->name);
		if (!strncmp(own, name, length) && !own[length])
			return field;
	}
	return NULL;
}

const struct afm_field *af_target_field(const struct af_target *target, uint32_t image,
					uint32_t type, const char *name)
{
	const struct af_futuremap *map = &target->images[image].map;
	const struct afm_type *t = af_futuremap_types(map, type);

	return find(map, t->first_field, t->n_fields, name, strlen(name));
}

bool af_target_path(const struct af_target *target, uint32_t image, const char *path,
		    uint32_t *type, uint64_t *address)
{
	const struct af_futuremap *map = &target->images[image].map;
	uint32_t at_type = *type;
	uint64_t at = *address;

	for (;;) {
		size_t length = strcspn(path, ".");
		const struct afm_type *t = af_futuremap_types(map, at_type);
		const struct afm_field *field =
			find(map, t->first_field, t->n_fields, path, length);
		if (!field || field->type == AFM_NONE)
			return false;
		at_type = field->type;
		at += field->offset;
		if (!path[length])
			break;
		path += length + 1;
	}
	*type = at_type;
	*address = at;
	return true;
}

/* Two variants and no tag: one of them cannot be (Result<Infallible, E>), and debug info does
   not say which. */
static enum af_active without_tag(const struct afm_type *t, uint32_t *variant)
{
	if (t->n_variants != 1)
		return AF_ACTIVE_UNTOLD;
	*variant = t->first_variant;
	return AF_ACTIVE_FOUND;
}

enum af_active af_target_variant(const struct af_target *target, uint32_t image, uint32_t type,
				 uint64_t address, uint32_t *variant)
{
	const struct af_futuremap *map = &target->images[image].map;
	const struct afm_type *t = af_futuremap_types(map, type);
	uint32_t by_default = AFM_NONE;
	uint64_t tag;

	if (!t->n_variants)
		return AF_ACTIVE_UNTOLD;
	if (t->discr_offset == AFM_NONE || !t->discr_size)
		return without_tag(t, variant);
	/* Of wider tags (a u128's niche) the map has the low half only. */
	if (t->discr_size > 8 || (t->discr_size & (t->discr_size - 1)))
		return AF_ACTIVE_UNTOLD;
	if (!af_memory_read_number(target->memory, address + t->discr_offset, t->discr_size, &tag))
		return AF_ACTIVE_UNREADABLE;
	/* States and most enums are numbered as they lie. */
	if (tag < t->n_variants) {
		const struct afm_variant *v =
			af_futuremap_variants(map, t->first_variant + (uint32_t)tag);
		if (v->discr == tag && !(v->flags & AFM_VF_DEFAULT)) {
			*variant = t->first_variant + (uint32_t)tag;
			return AF_ACTIVE_FOUND;
		}
	}
	for (uint32_t i = 0; i < t->n_variants; i++) {
		const struct afm_variant *v = af_futuremap_variants(map, t->first_variant + i);
		if (v->flags & AFM_VF_DEFAULT) {
			by_default = t->first_variant + i;
		} else if (v->discr == tag) {
			*variant = t->first_variant + i;
			return AF_ACTIVE_FOUND;
		}
	}
	*variant = by_default;
	return by_default == AFM_NONE ? AF_ACTIVE_INVALID : AF_ACTIVE_FOUND;
}

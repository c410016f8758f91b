/* SPDX-License-Identifier: MIT */
/*
 * Library types differ between versions by what they are wrapped in (UnsafeCell, ManuallyDrop,
 * CachePadded, loom's and parking_lot's mutexes), and hardly by their fields' names. So a field
 * is searched for by its name, through whatever holds it by value.
 */
#include "inspect/walk.h"

#define DIG_DEPTH 8
#define DIG_STEPS 512 /* fields looked at: bounded whatever the map says */

struct dig {
	const struct af_target *target;
	const struct af_futuremap *map;
	uint32_t image;
	const char *name;
	uint32_t steps;
};

/* Depth first up to `depth` levels; the caller deepens, so that the nearest is found. */
static bool dig(struct dig *d, uint32_t type, unsigned int depth, uint32_t *found, uint64_t *at)
{
	const struct afm_type *t = af_futuremap_types(d->map, type);

	for (uint32_t i = 0; i < t->n_fields; i++) {
		const struct afm_field *field = af_futuremap_fields(d->map, t->first_field + i);
		if (field->type == AFM_NONE || d->steps++ > DIG_STEPS)
			continue;
		if (!depth) {
			if (strcmp(af_futuremap_string(d->map, field->name), d->name))
				continue;
			*found = field->type;
			*at = field->offset;
			return true;
		}
		if (dig(d, field->type, depth - 1, found, at)) {
			*at += field->offset;
			return true;
		}
	}
	return false;
}

bool af_dig(const struct af_target *target, uint32_t image, const char *name, uint32_t *type,
	    uint64_t *address)
{
	struct dig d = {target, &target->images[image].map, image, name, 0};
	uint32_t found;
	uint64_t at;

	for (unsigned int depth = 0; depth < DIG_DEPTH; depth++) {
		if (!dig(&d, *type, depth, &found, &at))
			continue;
		*type = found;
		*address += at;
		return true;
	}
	return false;
}

/* The field at the start of `type`, or of one of its variants, that is as large as it is. */
static uint32_t same_size(const struct af_futuremap *map, const struct afm_type *t, uint32_t first,
			  uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct afm_field *field = af_futuremap_fields(map, first + i);
		if (!field->offset && field->type != AFM_NONE &&
		    af_futuremap_types(map, field->type)->size == t->size)
			return field->type;
	}
	return AFM_NONE;
}

uint32_t af_dig_pointee(const struct af_target *target, uint32_t image, uint32_t type)
{
	const struct af_futuremap *map = &target->images[image].map;

	for (int i = 0; i < 16 && type != AFM_NONE; i++) {
		const struct afm_type *t = af_futuremap_types(map, type);
		if (t->kind == AFM_T_POINTER)
			return t->size == 8 ? t->target : AFM_NONE;
		type = same_size(map, t, t->first_field, t->n_fields);
		for (uint32_t v = 0; v < t->n_variants && type == AFM_NONE; v++) {
			const struct afm_variant *variant =
				af_futuremap_variants(map, t->first_variant + v);
			type = same_size(map, t, variant->first_field, variant->n_fields);
		}
	}
	return AFM_NONE;
}

uint32_t af_dig_enum(const struct af_target *target, uint32_t image, uint32_t type)
{
	const struct af_futuremap *map = &target->images[image].map;

	for (int i = 0; i < 16 && type != AFM_NONE; i++) {
		const struct afm_type *t = af_futuremap_types(map, type);
		if (t->n_variants)
			return type;
		type = same_size(map, t, t->first_field, t->n_fields);
	}
	return AFM_NONE;
}

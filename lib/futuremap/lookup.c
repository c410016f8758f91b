/* SPDX-License-Identifier: MIT */
/*
 * Look-ups in a map's sorted tables. Any thread, any time; allocate nothing.
 */
#include <string.h>

#include "futuremap/futuremap.h"

bool af_futuremap_layout(const struct af_futuremap *map, const char *name, uint64_t *value)
{
	uint32_t low = 0, high = (uint32_t)map->header->layouts.count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct afm_layout *layout = af_futuremap_layouts(map, middle);
		int order = strcmp(af_futuremap_string(map, layout->name), name);
		if (!order) {
			*value = layout->value;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

const struct afm_vtable *af_futuremap_vtable(const struct af_futuremap *map, uint64_t address)
{
	uint32_t low = 0, high = (uint32_t)map->header->vtables.count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct afm_vtable *vtable = af_futuremap_vtables(map, middle);
		if (vtable->address == address)
			return vtable;
		if (vtable->address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

uint32_t af_futuremap_place(const struct af_futuremap *map, uint64_t pc, uint32_t from)
{
	for (uint32_t i = from; i < map->header->places.count; i++) {
		const struct afm_place *place = af_futuremap_places(map, i);
		if (pc >= place->start && pc < place->end)
			return i;
	}
	return AFM_NONE;
}

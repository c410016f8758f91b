/* SPDX-License-Identifier: MIT */
#include "analysis/holes.h"

/* The longest head that a patch replaces: endbr64 and a near jump. A shorter function may
   need what lies directly behind it for itself. */
#define HEAD (4 + AFM_PATCH_NEAR)

struct extents {
	VECTOR(struct af_code_range) items;
	bool failed;
};

static void see_symbol(void *arg, const char *name, uint64_t address, uint64_t size)
{
	struct extents *extents = arg;
	struct af_code_range *range = vector_push(&extents->items);

	if (range)
		*range = (struct af_code_range){address, size};
	else
		extents->failed = true;
}

static int compare(const void *a, const void *b)
{
	const struct af_code_range *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* What is between a function's end and the next one's start. */
static bool see_gap(struct af_holes *holes, const struct af_object *object, uint64_t from,
		    uint64_t to, uint64_t own)
{
	uint64_t available;
	const uint8_t *bytes = af_object_bytes(object, from, &available);

	if (!bytes || available < to - from || af_padding(bytes, to - from) != to - from)
		return true;
	if (from < own)
		from = own;
	if (to < from + AFM_PATCH_NEAR)
		return true;
	struct af_code_range *hole = vector_push(&holes->items);
	if (hole)
		*hole = (struct af_code_range){from, to - from};
	return hole;
}

bool af_holes_collect(struct af_holes *holes, const struct af_object *object)
{
	struct extents all = {0};
	uint64_t end = 0, own = 0;
	bool known = false; /* whether the function before has a size */

	memset(holes, 0, sizeof(*holes));
	af_object_symbols(object, see_symbol, &all);
	vector_sort(&all.items, compare);
	for (size_t i = 0; i < all.items.count && !all.failed; i++) {
		const struct af_code_range *range = &all.items.items[i];
		/* Far apart: another section. */
		if (known && range->address > end && range->address - end < 4096)
			all.failed = !see_gap(holes, object, end, range->address, own);
		if (range->address + range->size < range->address)
			continue;
		known = (known && range->address < end) || range->size;
		if (range->address + range->size > end)
			end = range->address + range->size;
		if (range->address + HEAD > own)
			own = range->address + HEAD;
	}
	vector_deinit(&all.items);
	return !all.failed;
}

void af_holes_deinit(struct af_holes *holes)
{
	vector_deinit(&holes->items);
}

uint64_t af_holes_take(struct af_holes *holes, uint64_t from)
{
	size_t low = 0, high = holes->items.count;
	uint64_t first = from < 128 ? 0 : from - 128;

	/* The first that ends behind the lowest address in reach. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct af_code_range *hole = &holes->items.items[middle];
		if (hole->address + hole->size <= first)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < holes->items.count; low++) {
		struct af_code_range *hole = &holes->items.items[low];
		uint64_t at = hole->address;
		if (at > from + 127)
			return 0;
		if (hole->size < AFM_PATCH_NEAR)
			continue;
		if (at >= first) {
			hole->address += AFM_PATCH_NEAR;
			hole->size -= AFM_PATCH_NEAR;
			return at;
		}
		/* Its last bytes only are in reach. */
		at = hole->address + hole->size - AFM_PATCH_NEAR;
		if (at < first)
			continue;
		hole->size -= AFM_PATCH_NEAR;
		return at;
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "record/parked_places.h"

#include <string.h>
#include <sys/mman.h>

#define VTABLE_CACHE 1024 /* a power of two */
#define INDEX_BITS 24	  /* of a vtable in its map */

struct af_parked_place af_parked_places[AF_PLACES];
static _Atomic uint32_t n_places;
static _Atomic uint32_t changes;

/* Vtables met before: place << 24 | index in its map + 1. Any thread may write any slot. Nobody
   trusts one: the place must be loaded, and the entry this address. */
static _Atomic uint32_t vtable_cache[VTABLE_CACHE];

static void *copy_table(const struct af_futuremap *from, const struct afm_table *table, size_t size)
{
	size_t bytes = table->count * size;
	void *copy =
		mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return NULL;
	memcpy(copy, af_futuremap_table(from, table), bytes);
	mprotect(copy, bytes + 1, PROT_READ);
	return copy;
}

/* The same build at another address has the same tables. */
static const struct af_parked_place *twin(uint32_t place, uint32_t number)
{
	for (uint32_t i = 0; i < atomic_load(&n_places); i++)
		if (i != place && af_parked_places[i].steps && af_parked_places[i].number == number)
			return &af_parked_places[i];
	return NULL;
}

static void copy_tables(struct af_parked_place *p, const struct af_futuremap *from)
{
	const struct afm_header *h = from->header;
	uint64_t state;
	p->steps = copy_table(from, &h->steps, sizeof(*p->steps));
	p->cases = copy_table(from, &h->step_cases, sizeof(*p->cases));
	p->ways = copy_table(from, &h->step_ways, sizeof(*p->ways));
	p->vtables = copy_table(from, &h->vtables, sizeof(*p->vtables));
	p->n_vtables = (uint32_t)h->vtables.count;
	p->stays = copy_table(from, &h->stays, sizeof(*p->stays));
	p->n_stays = (uint32_t)h->stays.count;
	p->tokio_state = AFM_NONE;
	if (af_futuremap_layout(from, "tokio.Header.state", &state) && state < 4096)
		p->tokio_state = (uint32_t)state;
}

bool af_parked_start(uint32_t place, const struct af_futuremap *from, uint64_t load_bias,
		     uint32_t number)
{
	struct af_parked_place *p = &af_parked_places[place];
	if (!p->steps) {
		const struct af_parked_place *same = twin(place, number);
		if (same) {
			p->steps = same->steps;
			p->cases = same->cases;
			p->ways = same->ways;
			p->vtables = same->vtables;
			p->n_vtables = same->n_vtables;
			p->stays = same->stays;
			p->n_stays = same->n_stays;
			p->tokio_state = same->tokio_state;
		} else {
			copy_tables(p, from);
		}
		p->number = number;
		p->load_bias = load_bias;
	}
	if (!p->steps || !p->cases || !p->ways || !p->vtables || !p->stays)
		return false;
	if (p->n_vtables) {
		p->low = p->vtables[0].address + load_bias;
		p->high = p->vtables[p->n_vtables - 1].address + load_bias;
	}
	atomic_store(&p->loaded, true);
	if (place >= atomic_load(&n_places))
		atomic_store(&n_places, place + 1);
	atomic_fetch_add(&changes, 1); /* last */
	return true;
}

/* Its index in the place's map; AFM_NONE if it is not there. */
static uint32_t search_vtable(const struct af_parked_place *p, uint64_t address)
{
	uint32_t low = 0, high = p->n_vtables;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (p->vtables[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == p->n_vtables || p->vtables[low].address != address)
		return AFM_NONE;
	/* One address for several types: which, cannot be told. */
	if (low + 1 < p->n_vtables && p->vtables[low + 1].address == address)
		return AFM_NONE;
	return low;
}

/* In whichever object it is: a task of one may hold futures of another. Sets *place; returns
   the index in its map, or AFM_NONE. */
static uint32_t search_places(uint64_t vtable, const struct af_parked_place **place)
{
	uint32_t n = atomic_load_explicit(&n_places, memory_order_acquire);
	for (uint32_t i = 0; i < n; i++) {
		const struct af_parked_place *p = &af_parked_places[i];
		if (!atomic_load_explicit(&p->loaded, memory_order_acquire) || vtable < p->low ||
		    vtable > p->high)
			continue;
		uint32_t index = search_vtable(p, vtable - p->load_bias);
		if (index == AFM_NONE)
			continue;
		*place = p;
		return index;
	}
	return AFM_NONE;
}

uint32_t af_parked_vtable_step(uint64_t vtable, const struct af_parked_place **place)
{
	_Atomic uint32_t *slot = &vtable_cache[(vtable >> 3 ^ vtable >> 13) % VTABLE_CACHE];
	uint32_t known = atomic_load_explicit(slot, memory_order_relaxed);
	const struct af_parked_place *p = &af_parked_places[known >> INDEX_BITS];
	uint32_t index = (known & ((1u << INDEX_BITS) - 1)) - 1;
	if (known && atomic_load_explicit(&p->loaded, memory_order_acquire) &&
	    p->vtables[index].address + p->load_bias == vtable) {
		*place = p;
		return p->vtables[index].step;
	}
	index = search_places(vtable, place);
	if (index == AFM_NONE)
		return AFM_NONE;
	if (index + 1 < 1u << INDEX_BITS)
		atomic_store_explicit(
			slot, (uint32_t)(*place - af_parked_places) << INDEX_BITS | (index + 1),
			memory_order_relaxed);
	return (*place)->vtables[index].step;
}

uint32_t af_parked_changes(void)
{
	return atomic_load(&changes);
}

bool af_parked_places_stop(uint32_t place)
{
	uint32_t number = af_parked_places[place].number;
	bool was = atomic_exchange(&af_parked_places[place].loaded, false);
	atomic_fetch_add(&changes, 1);
	for (uint32_t i = 0; i < atomic_load(&n_places); i++)
		was = was && !(atomic_load(&af_parked_places[i].loaded) &&
			       af_parked_places[i].number == number);
	return was;
}

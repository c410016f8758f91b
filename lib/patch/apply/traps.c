/* SPDX-License-Identifier: MIT */
/*
 * Which int3 is ours, asked by a handler at any moment: no lock, and no memory that ever goes.
 */
#include <stdatomic.h>
#include <stddef.h>

#include "patch/apply/apply.h"
#include "record/parked.h"

struct place {
	const struct af_trap *_Atomic traps;
	_Atomic uint32_t count; /* 0: none, or its object is gone */
};

static struct place places[AF_PLACES];
static _Atomic uint32_t n_places; /* those from here on have none */
bool (*af_trap_begin)(void);

void af_trap_start(uint32_t place, const struct af_trap *traps, uint32_t count)
{
	if (place >= AF_PLACES || !count)
		return;
	atomic_store(&places[place].traps, traps);
	atomic_store(&places[place].count, count);
	if (atomic_load(&n_places) <= place)
		atomic_store(&n_places, place + 1);
}

void af_trap_stop(uint32_t place)
{
	if (place < AF_PLACES)
		atomic_store(&places[place].count, 0);
}

static uint64_t cell_in(const struct af_trap *traps, uint32_t count, uint64_t address)
{
	uint32_t low = 0, high = count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (traps[middle].address == address)
			return traps[middle].cell;
		if (traps[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return 0;
}

uint64_t af_trap_cell(uint64_t address)
{
	uint32_t n = atomic_load(&n_places);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t count = atomic_load(&places[i].count);
		uint64_t cell = count ? cell_in(atomic_load(&places[i].traps), count, address) : 0;
		if (cell)
			return cell;
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* What apply.c and block.c share: the patching of one object at one place. In the host. */
#ifndef AF_PATCH_PATCHER_H
#define AF_PATCH_PATCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "patch/apply/apply.h"
#include "record/switch.h"
#include "record/thread.h"

/* Offsets in a block. */
#define AF_OFF_AT 256
#define AF_OFF_FULL_AT (AF_OFF_AT + AF_OFFS * AF_OFF_SIZE)
#define AF_FORKED_AT (AF_OFF_FULL_AT + AF_OFFS * AF_OFF_SIZE)
#define AF_CELLS_AT (AF_FORKED_AT + 64)
#define AF_CELL_SIZE 32	  /* or a multiple */
#define AF_WAYS_SIZE 4096 /* before it */

struct patcher {
	const struct af_futuremap *map;
	const struct af_object_place *place;
	struct afr_hooks *hooks;
	struct af_hook *table; /* one per AF_CELL_SIZE bytes of cells */
	uint8_t *image;	       /* of the block, before it is put into place */
	uint64_t block;	       /* its address */
	struct af_ways *ways;  /* before it */
	uint64_t block_size;
	uint32_t *polls; /* poll index of each hook; behind all polls: of functions that wait */
	uint32_t *slots; /* its place in the table */
	uint32_t count;
	struct af_trap *traps;
	uint32_t n_traps;
	struct af_open_text text; /* where there are many */
};

/* Bytes of the site's cell: a multiple of AF_CELL_SIZE. */
uint64_t af_cell_size(const struct afm_site *site);
/* Writes the 32 bits that lead from `from`, the end of an instruction, to `target`; false if that
   is out of reach. */
bool af_put_displacement(uint8_t *field, uint64_t from, uint64_t target);

/* Fills the head of the image and the ways before the block. */
void af_block_put_ways(struct patcher *p);
/* Writes the cell of a hook that goes through `stub` at block + at of the image, and where it
   resumes into the hook; false if something is out of reach. */
bool af_block_put_cell(struct patcher *p, struct af_hook *hook, af_stub *stub,
		       const struct afm_site *site, uint64_t at);

#endif

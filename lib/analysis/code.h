/* SPDX-License-Identifier: MIT */
/*
 * The code of one function, and how control flows through it: what extend.c and stays.c ask.
 */
#ifndef AF_ANALYSIS_CODE_H
#define AF_ANALYSIS_CODE_H

#include "analysis/build.h"
#include "patch/plan/flow.h"

/* In `state`: it is a jump by a table that is known; something jumps here. The other bits are the
   user's. */
#define AF_CODE_TABLE 128
#define AF_CODE_TARGET 64

struct af_code {
	struct af_builder *b;
	VECTOR(struct af_flow_instruction) code; /* by address */
	uint32_t *jumps;	  /* per instruction: index of its target, or AFM_NONE */
	VECTOR(uint32_t) entries; /* of jump tables: indices of instructions */
	uint8_t *state;
};

/* Zero but for b before; to be given back in any case. False if the code cannot be told: too much, or of
   an unknown machine. */
bool af_code_decode(struct af_code *flow, const struct af_die *function);
void af_code_deinit(struct af_code *flow);

/* The first instruction at or behind an address; their number if there is none. */
size_t af_code_lower_bound(const struct af_code *flow, uint64_t address);
/* The one there; AFM_NONE if there is none. */
uint32_t af_code_find(const struct af_code *flow, uint64_t address);
/* Whether control goes from instruction i on to i + 1. */
bool af_code_falls(const struct af_code *flow, size_t i);

#endif

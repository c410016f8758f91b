/* SPDX-License-Identifier: MIT */
/*
 * What is run: sites of an object or of random bytes, in a machine that holds them.
 */
#ifndef AF_EMULATE_SUBJECT_H
#define AF_EMULATE_SUBJECT_H

#include <capstone/capstone.h>

#include "analysis/holes.h"
#include "machine.h"
#include "patch/plan/site.h"

#define CELLS_SIZE (UINT64_C(1) << 27)
#define CELL_SPACING 128

struct counts {
	uint64_t functions, accepted, near, brief, compared, faulted, unknown, unsteady;
	uint64_t calls, jumps, conditional, relative;
	uint64_t refused[AF_REFUSAL_COUNT];
	uint64_t differences;
};

struct subject {
	struct machine *machine;
	struct af_planner *planner;
	csh capstone;
	cs_insn *insn;
	struct af_plan_text text;
	struct af_holes *holes; /* NULL: near jumps only */
	uint64_t bias;
	uint64_t data, data_size; /* run-time, for pointers that point to something */
	uint64_t cells, next_cell;
	uint8_t *cell_bytes;
	unsigned states;
	bool print;
	struct counts counts;
};

/* compare.c */
extern uint64_t chance_seed;
uint64_t chance(void);
/* Makes the machine, with cells near the code at [low, high), which the caller maps. */
void subject_set_up(struct subject *s, uint64_t low, uint64_t high);
/* Plans a function; where that can be done, runs it both ways. */
void subject_consider(struct subject *s, const struct af_plan_function *function);

/* objects.c: every n-th function of an object's symbol table. */
void run_object(struct subject *s, const char *path, unsigned every);
/* random.c: `count` functions of random bytes. */
void run_random(struct subject *s, uint64_t count);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * An x86-64 processor under Unicorn with memory of ours, in which a few instructions are run
 * from a given state, and what they did is kept, then undone.
 */
#ifndef AF_EMULATE_MACHINE_H
#define AF_EMULATE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_REGISTERS 19 /* rax ... r15, eflags, fpsw, mxcsr */
#define MACHINE_RSP 4
#define MACHINE_EFLAGS 16
#define MACHINE_WRITES 64

struct machine_state {
	uint64_t registers[MACHINE_REGISTERS];
	uint8_t xmm[16][16];
};

enum machine_end {
	MACHINE_LEFT,	   /* control went elsewhere: `pc` */
	MACHINE_FAULT,	   /* an access to no memory */
	MACHINE_INVALID,   /* Unicorn does not know the instruction */
	MACHINE_EXCEPTION, /* division by zero, trap, ... */
	MACHINE_LIMIT,	   /* many rounds of a string instruction */
};

struct machine_write {
	uint64_t address;
	uint32_t size;
	uint8_t bytes[32]; /* as they were at the end */
};

struct machine_outcome {
	enum machine_end end;
	uint64_t pc;
	struct machine_state state;
	struct machine_write writes[MACHINE_WRITES];
	unsigned n_writes;
};

struct machine;

/* Ends the program where Unicorn or memory is missing. */
struct machine *machine_create(void);
void machine_destroy(struct machine *machine);
/* Memory of `size` bytes (both whole pages) at `address`; what is returned is its content. */
uint8_t *machine_map(struct machine *machine, uint64_t address, uint64_t size);
void machine_unmap(struct machine *machine, uint64_t address);
/* Runs from `start` until control leaves [start, end). Memory is as before when it returns. */
void machine_run(struct machine *machine, uint64_t start, uint64_t end,
		 const struct machine_state *state, struct machine_outcome *outcome);
/* What differs, as a static string; NULL if nothing does. Where both ended in the middle of
   an instruction only the way they ended is compared. */
const char *machine_difference(const struct machine_outcome *a, const struct machine_outcome *b);

#endif

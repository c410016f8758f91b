/* SPDX-License-Identifier: MIT */
/*
 * How control flows through a function's code, and what its instructions change of the frame:
 * a pure function on bytes. For drivers (analysis/extend.c).
 */
#ifndef AF_PATCH_FLOW_H
#define AF_PATCH_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum af_flow_kind {
	AF_FLOW_ON,	/* goes on with the next instruction; calls too */
	AF_FLOW_NOP,	/* the same, and does nothing */
	AF_FLOW_BRANCH, /* goes on, or to `target` */
	AF_FLOW_JUMP,	/* to `target` */
	AF_FLOW_TABLE,	/* to somewhere in the function that cannot be told: a jump table */
	AF_FLOW_AWAY,	/* returns, traps, leaves */
};

struct af_flow_instruction {
	uint64_t address;
	uint64_t target;  /* AF_FLOW_BRANCH, AF_FLOW_JUMP */
	uint32_t changes; /* bit n: writes the register with DWARF number n; calls: none that a
			     callee keeps */
	uint8_t size;
	uint8_t kind; /* enum af_flow_kind */
	bool call;    /* AF_FLOW_ON */
	/* Memory that it writes, or whose address it takes, if that is [register + offset]:
	   DWARF number of the register, else -1. */
	int8_t base;
	uint8_t width; /* bytes written; 255 where the address is taken, or unknown */
	int64_t offset;
	/* Sets register `to` to register `from` + `add`, 64 bits of it, or if it `loads` to the 8
	   bytes there; -1: does no such thing. */
	int8_t to, from;
	bool loads;
	int64_t add;
};

/*
 * Decodes `size` bytes of code at link-time `address`, giving each instruction to `each` in
 * order. Stops where `each` returns false or at bytes that are no instruction. False if the
 * machine is not supported or memory is short.
 */
bool af_flow_decode(uint32_t elf_machine, uint64_t address, const uint8_t *code, size_t size,
		    bool (*each)(void *arg, const struct af_flow_instruction *instruction),
		    void *arg);

/* Before a second thread decodes: at its first instruction capstone 4 sorts a table that all share. */
void af_flow_prepare(void);

/* The DWARF number of the general register of x86-64 that capstone's register is, or is a part of;
   -1: of none. */
int af_flow_register(unsigned int reg);

#endif

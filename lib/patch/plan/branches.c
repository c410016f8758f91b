/* SPDX-License-Identifier: MIT */
/*
 * Jumps back to a function's first bytes, which a patch would break.
 *
 * Immediate jumps: most functions hold no bytes at all that could be one with such a target,
 * and need not be decoded. Jump tables (a `match` in a loop, a coroutine's states): the code
 * takes their address with a rip-relative lea, so every lea is followed to see whether what
 * lies there is a list of places in the function. Both look at every offset and hence at too
 * much, never at too little.
 *
 * Landing pads need no look: what precedes one is a call, and code that runs through a
 * patch's first five bytes into a call ends there (x86_64.c).
 */
#include <string.h>

#include "patch/plan/branches.h"

/* No function has as many table entries; broken files may seem to. */
#define ENTRIES_MAX (1u << 20)

struct target {
	uint64_t from, to;
	unsigned entries; /* of tables that were looked at */
};

static bool hits(const struct target *target, uint64_t address)
{
	return address >= target->from && address < target->to;
}

static bool in_function(const struct af_plan_function *function, uint64_t address)
{
	if (address - function->address < function->size)
		return true;
	for (size_t i = 0; i < function->n_parts; i++)
		if (address - function->parts[i].address < function->parts[i].size)
			return true;
	return false;
}

static int32_t read_i32(const uint8_t *bytes)
{
	int32_t value;
	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* --- immediate jumps ----------------------------------------------------------------- */

/* How many of the bytes must be decoded to know of every jump there: up to the last that could be
   one with such a target. */
static size_t last_branch(const struct target *target, uint64_t address, const uint8_t *code,
			  size_t size)
{
	const uint64_t wanted = target->from - address, width = target->to - target->from;
	size_t needed = 0;

	/* Where it would lead is asked first: that is no for nearly all, and then costs least. */
	for (size_t i = 0; i + 2 <= size; i++) {
		uint8_t b = code[i];
		if (i + 2 + (uint64_t)(int64_t)(int8_t)code[i + 1] - wanted < width &&
		    (b == 0xeb || (b & 0xf0) == 0x70 || (b & 0xfc) == 0xe0))
			needed = i + 1;
		/* jcc rel32 is 0f 8x: the 8x is what is seen. */
		if (i + 5 <= size &&
		    i + 5 + (uint64_t)(int64_t)read_i32(code + i + 1) - wanted < width &&
		    (b == 0xe9 || (b & 0xf0) == 0x80))
			needed = i + 1;
	}
	return needed;
}

static bool is_branch(const cs_insn *insn)
{
	/* clang-format off */
	switch (insn->id) {
	case X86_INS_LOOP: case X86_INS_LOOPE: case X86_INS_LOOPNE:
	case X86_INS_JCXZ: case X86_INS_JECXZ: case X86_INS_JRCXZ: case X86_INS_XBEGIN:
		return true;
	}
	/* clang-format on */
	for (unsigned i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == CS_GRP_JUMP)
			return true;
	return false;
}

static bool branches(csh capstone, cs_insn *insn, const struct target *target, uint64_t address,
		     const uint8_t *code, size_t size)
{
	size_t needed = last_branch(target, address, code, size);
	const uint8_t *end = code + needed;

	while (needed && code < end) {
		if (!cs_disasm_iter(capstone, &code, &size, &address, insn))
			return true;
		const cs_x86 *x86 = &insn->detail->x86;
		if (x86->op_count == 1 && x86->operands[0].type == X86_OP_IMM && is_branch(insn) &&
		    hits(target, (uint64_t)x86->operands[0].imm))
			return true;
	}
	return false;
}

/* --- jump tables --------------------------------------------------------------------- */

/* Entries are 32-bit distances from the table, as position independent code has them. */
static bool relative_table(struct target *target, const struct af_plan_text *text,
			   const struct af_plan_function *function, uint64_t table)
{
	uint64_t available;
	const uint8_t *at = text->bytes(text->arg, table, &available);

	for (uint64_t i = 0; at && i + 4 <= available; i += 4) {
		uint64_t to = table + (uint64_t)(int64_t)read_i32(at + i);
		if (!in_function(function, to))
			return false;
		if (hits(target, to) || ++target->entries > ENTRIES_MAX)
			return true;
	}
	return false;
}

/* Entries are addresses, as code at a fixed place has them: jmp [table + reg * 8]. */
static bool absolute_table(struct target *target, const struct af_plan_text *text,
			   const struct af_plan_function *function, uint64_t table)
{
	uint64_t available, to;
	const uint8_t *at = text->bytes(text->arg, table, &available);

	for (uint64_t i = 0; at && i + 8 <= available; i += 8) {
		memcpy(&to, at + i, sizeof(to));
		if (!in_function(function, to))
			return false;
		if (hits(target, to) || ++target->entries > ENTRIES_MAX)
			return true;
	}
	return false;
}

static bool tables(struct target *target, const struct af_plan_text *text,
		   const struct af_plan_function *function, uint64_t address, const uint8_t *code,
		   size_t size)
{
	for (size_t i = 0; i + 7 <= size; i++) {
		/* REX.W (and R): lea reg, [rip + disp32] */
		if (code[i + 1] == 0x8d && (code[i] & 0xfb) == 0x48 && (code[i + 2] & 0xc7) == 5 &&
		    relative_table(target, text, function,
				   address + i + 7 + (uint64_t)(int64_t)read_i32(code + i + 3)))
			return true;
		/* jmp [disp32 + reg * 8] */
		if (code[i + 1] == 0x24 && code[i] == 0xff && (code[i + 2] & 0xc7) == 0xc5 &&
		    absolute_table(target, text, function,
				   (uint64_t)(int64_t)read_i32(code + i + 3)))
			return true;
	}
	return false;
}

/* --- both ---------------------------------------------------------------------------- */

static bool range_branches(csh capstone, cs_insn *insn, struct target *target,
			   const struct af_plan_text *text, const struct af_plan_function *function,
			   uint64_t address, uint64_t size)
{
	uint64_t available;
	const uint8_t *code = text->bytes(text->arg, address, &available);

	if (!size)
		return false;
	if (!code || available < size)
		return true;
	return branches(capstone, insn, target, address, code, size) ||
	       tables(target, text, function, address, code, size);
}

bool af_branches_into(csh capstone, cs_insn *insn, const struct af_plan_text *text,
		      const struct af_plan_function *function, uint64_t from, uint64_t to)
{
	struct target target = {from, to, 0};

	if (range_branches(capstone, insn, &target, text, function, function->address,
			   function->size))
		return true;
	for (size_t i = 0; i < function->n_parts; i++)
		if (range_branches(capstone, insn, &target, text, function,
				   function->parts[i].address, function->parts[i].size))
			return true;
	return false;
}

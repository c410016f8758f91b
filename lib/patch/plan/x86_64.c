/* SPDX-License-Identifier: MIT */
/*
 * x86-64: which instructions a 5-byte jump at a function's entry displaces, and how they
 * run elsewhere.
 *
 * capstone says where instructions end and what they are; the relocated code is ours.
 * Position dependent instructions are re-emitted:
 *
 *   jmp rel8/rel32      jmp rel32 (nothing falls through: no jump back)
 *   jcc rel8/rel32      jcc rel32
 *   op [rip + disp32]   the same bytes, displacement fixed up
 *   call target         lea r11, [behind the call, in the function]; push r11; jmp target
 *
 * The last keeps return addresses where unwinding tables know them: a call in displaced
 * code would push one that lies in ours (a landing pad could not be found). It is only
 * possible for the last displaced instruction, as the return lands behind the patch; r11
 * is free at every call by the ABI (System V psABI x86-64, 3.2.3).
 *
 * Every branch of the body back into the patch, or to the entry itself (a tail call to
 * itself would nest one wrapper per round), refuses the site.
 */
#include <capstone/capstone.h>
#include <elf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "patch/plan/site.h"

#define JUMP_LENGTH 5

struct af_planner {
	csh detailed; /* operands and encodings: for what is displaced */
	csh plain;    /* lengths and branch targets: for whole bodies, four times as fast */
	cs_insn *insn;
};

struct af_planner *af_planner_create(uint32_t elf_machine)
{
	if (elf_machine != EM_X86_64)
		return NULL;
	struct af_planner *planner = calloc(1, sizeof(*planner));
	if (!planner)
		return NULL;
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &planner->detailed) != CS_ERR_OK ||
	    cs_open(CS_ARCH_X86, CS_MODE_64, &planner->plain) != CS_ERR_OK ||
	    cs_option(planner->detailed, CS_OPT_DETAIL, CS_OPT_ON) != CS_ERR_OK ||
	    !(planner->insn = cs_malloc(planner->detailed))) {
		af_planner_destroy(planner);
		return NULL;
	}
	return planner;
}

void af_planner_destroy(struct af_planner *planner)
{
	if (!planner)
		return;
	if (planner->insn)
		cs_free(planner->insn, 1);
	if (planner->plain)
		cs_close(&planner->plain);
	if (planner->detailed)
		cs_close(&planner->detailed);
	free(planner);
}

/* --- emission ------------------------------------------------------------------------ */

static void emit(struct af_site_plan *plan, const void *bytes, size_t n)
{
	memcpy(plan->code + plan->code_length, bytes, n);
	plan->code_length += n;
}

/* A 32-bit displacement to `target`, `next` bytes before the end of its instruction. */
static void emit_fixup(struct af_site_plan *plan, uint64_t target, unsigned next)
{
	plan->fixups[plan->n_fixups++] = (struct afm_fixup){
		.target = target,
		.at = plan->code_length,
		.next = next,
	};
	emit(plan, (uint8_t[4]){0}, 4);
}

static void emit_jump(struct af_site_plan *plan, uint64_t target)
{
	emit(plan, (uint8_t[]){0xe9}, 1);
	emit_fixup(plan, target, 4);
}

static void emit_push_return_address(struct af_site_plan *plan, uint64_t address)
{
	emit(plan, (uint8_t[]){0x4c, 0x8d, 0x1d}, 3); /* lea r11, [rip + ...] */
	emit_fixup(plan, address, 4);
	emit(plan, (uint8_t[]){0x41, 0x53}, 2); /* push r11 */
}

/* Copies an instruction, with a fixup where it has a rip-relative operand. */
static enum af_refusal emit_moved(struct af_site_plan *plan, const cs_insn *insn,
				  const uint8_t *bytes)
{
	const cs_x86 *x86 = &insn->detail->x86;
	const cs_x86_op *memory = NULL;
	for (unsigned i = 0; i < x86->op_count; i++)
		if (x86->operands[i].type == X86_OP_MEM && x86->operands[i].mem.base == X86_REG_RIP)
			memory = &x86->operands[i];
	/* ModRM with mod 00 and rm 101: lea and friends, whatever capstone calls them. */
	if (!memory) {
		emit(plan, bytes, insn->size);
		return AF_REFUSAL_NONE;
	}
	unsigned at = x86->encoding.disp_offset;
	if (!at || x86->encoding.disp_size != 4 || at + 4u > insn->size)
		return AF_REFUSAL_UNDECODABLE;
	emit(plan, bytes, at);
	emit_fixup(plan, insn->address + insn->size + (uint64_t)memory->mem.disp, insn->size - at);
	emit(plan, bytes + at + 4, insn->size - at - 4);
	return AF_REFUSAL_NONE;
}

/* `call [mem]` or `call reg` as push and jmp: FF /2 becomes FF /4. */
static enum af_refusal emit_indirect_call(struct af_site_plan *plan, const cs_insn *insn,
					  const uint8_t *bytes)
{
	const cs_x86 *x86 = &insn->detail->x86;
	const cs_x86_op *op = &x86->operands[0];
	if (op->type == X86_OP_REG ? op->reg == X86_REG_R11
				   : op->mem.base == X86_REG_RSP || op->mem.base == X86_REG_R11 ||
					     op->mem.index == X86_REG_R11)
		return AF_REFUSAL_CALL_INSIDE;
	unsigned opcode = 0;
	while (opcode < insn->size && (bytes[opcode] & 0xf0) == 0x40) /* REX */
		opcode++;
	if (opcode + 1u >= insn->size || bytes[opcode] != 0xff ||
	    (bytes[opcode + 1] & 0x38) != 0x10)
		return AF_REFUSAL_CALL_INSIDE;
	uint8_t jump[16];
	memcpy(jump, bytes, insn->size);
	jump[opcode + 1] ^= 0x10 ^ 0x20;
	emit_push_return_address(plan, insn->address + insn->size);
	return emit_moved(plan, insn, jump);
}

static bool refused_instruction(const cs_insn *insn)
{
	/* clang-format off */
	switch (insn->id) {
	case X86_INS_LOOP: case X86_INS_LOOPE: case X86_INS_LOOPNE:
	case X86_INS_JCXZ: case X86_INS_JECXZ: case X86_INS_JRCXZ:
	case X86_INS_SYSCALL: case X86_INS_SYSENTER: case X86_INS_INT:
	case X86_INS_INT1: case X86_INS_INT3: case X86_INS_INTO:
	case X86_INS_UD2: case X86_INS_HLT: case X86_INS_XBEGIN:
	case X86_INS_IRET: case X86_INS_IRETD: case X86_INS_IRETQ:
	case X86_INS_LCALL: case X86_INS_LJMP: case X86_INS_RETF: case X86_INS_RETFQ:
		return true;
	}
	/* clang-format on */
	return false;
}

/* Relocates one instruction; *through tells whether control goes on behind it. */
static enum af_refusal relocate(struct af_site_plan *plan, const cs_insn *insn,
				const uint8_t *bytes, bool last, bool *through)
{
	const cs_x86 *x86 = &insn->detail->x86;
	bool immediate = x86->op_count == 1 && x86->operands[0].type == X86_OP_IMM;
	if (refused_instruction(insn))
		return AF_REFUSAL_INSTRUCTION;
	switch (insn->id) {
	case X86_INS_RET:
		*through = false;
		emit(plan, bytes, insn->size);
		return AF_REFUSAL_NONE;
	case X86_INS_JMP:
		*through = false;
		if (!immediate)
			return emit_moved(plan, insn, bytes);
		emit_jump(plan, x86->operands[0].imm);
		return AF_REFUSAL_NONE;
	case X86_INS_CALL:
		if (!last)
			return AF_REFUSAL_CALL_INSIDE;
		*through = false;
		if (!immediate)
			return emit_indirect_call(plan, insn, bytes);
		emit_push_return_address(plan, insn->address + insn->size);
		emit_jump(plan, x86->operands[0].imm);
		return AF_REFUSAL_NONE;
	}
	for (unsigned i = 0; i < insn->detail->groups_count; i++) {
		if (insn->detail->groups[i] != CS_GRP_JUMP)
			continue;
		if (!immediate)
			return AF_REFUSAL_INSTRUCTION;
		uint8_t condition = bytes[0] == 0x0f ? bytes[1] & 0xf : bytes[0] & 0xf;
		if (!(bytes[0] == 0x0f && (bytes[1] & 0xf0) == 0x80) && (bytes[0] & 0xf0) != 0x70)
			return AF_REFUSAL_INSTRUCTION;
		emit(plan, (uint8_t[]){0x0f, 0x80 | condition}, 2);
		emit_fixup(plan, x86->operands[0].imm, 4);
		return AF_REFUSAL_NONE;
	}
	return emit_moved(plan, insn, bytes);
}

/* --- branches back ------------------------------------------------------------------- */

/* Could any byte of the body be a branch into [entry, end)? Most bodies hold none, and
   need not be decoded at all. */
static bool may_branch_back(uint64_t address, const uint8_t *code, size_t size, uint64_t entry,
			    uint64_t end)
{
	for (size_t i = 0; i < size; i++) {
		uint8_t b = code[i];
		uint64_t target = 0;
		if ((b == 0xeb || (b & 0xf0) == 0x70 || (b & 0xfc) == 0xe0) && i + 2 <= size) {
			target = address + i + 2 + (uint64_t)(int64_t)(int8_t)code[i + 1];
		} else if ((b == 0xe9 || b == 0xe8 || (b & 0xf0) == 0x80) && i + 5 <= size) {
			int32_t displacement; /* jcc rel32 is 0f 8x: the 8x is what is seen */
			memcpy(&displacement, code + i + 1, 4);
			target = address + i + 5 + (uint64_t)(int64_t)displacement;
		} else {
			continue;
		}
		if (target >= entry && target < end)
			return true;
	}
	return false;
}

static bool branches_back(struct af_planner *planner, uint64_t address, const uint8_t *code,
			  size_t size, uint64_t entry, uint64_t end)
{
	if (!may_branch_back(address, code, size, entry, end))
		return false;
	const uint8_t *at = code;
	size_t left = size;
	uint64_t pc = address;
	while (left) {
		uint64_t here = pc;
		if (!cs_disasm_iter(planner->detailed, &at, &left, &pc, planner->insn)) {
			at++, left--, pc = here + 1; /* data between code: look on behind it */
			continue;
		}
		const cs_insn *insn = planner->insn;
		const cs_x86 *x86 = &insn->detail->x86;
		if (insn->id == X86_INS_CALL || x86->op_count != 1 ||
		    x86->operands[0].type != X86_OP_IMM)
			continue;
		bool branch = false;
		for (unsigned i = 0; i < insn->detail->groups_count; i++)
			branch |= insn->detail->groups[i] == CS_GRP_JUMP;
		uint64_t target = x86->operands[0].imm;
		if (branch && target >= entry && target < end)
			return true;
	}
	return false;
}

/* --- the plan ------------------------------------------------------------------------ */

static bool padding(const uint8_t *bytes, size_t n)
{
	/* int3 (lld) or nops (GNU ld, LLVM): the bytes that alignment leaves. */
	for (size_t i = 0; i < n; i++)
		if (bytes[i] != 0xcc && bytes[i] != 0x90)
			return false;
	return true;
}

enum af_refusal af_planner_plan(struct af_planner *planner, uint64_t address, const uint8_t *code,
				size_t size, size_t room, struct af_site_plan *plan)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	memset(plan, 0, sizeof(*plan));
	uint64_t entry = address;
	const uint8_t *body = code;
	size_t body_size = size;
	if (size >= sizeof(endbr64) && !memcmp(code, endbr64, sizeof(endbr64))) {
		address += sizeof(endbr64), code += sizeof(endbr64);
		size -= sizeof(endbr64), room -= room < 4 ? room : 4;
	}
	plan->address = address;
	if (size < JUMP_LENGTH && room < JUMP_LENGTH)
		return AF_REFUSAL_TOO_SHORT;

	const uint8_t *at = code;
	size_t left = size;
	uint64_t pc = address;
	bool through = true;
	while (pc - address < JUMP_LENGTH && through) {
		const uint8_t *bytes = at;
		if (!left)
			return AF_REFUSAL_TOO_SHORT;
		if (!cs_disasm_iter(planner->detailed, &at, &left, &pc, planner->insn))
			return AF_REFUSAL_UNDECODABLE;
		bool last = pc - address >= JUMP_LENGTH;
		enum af_refusal refusal = relocate(plan, planner->insn, bytes, last, &through);
		if (refusal)
			return refusal;
	}
	size_t displaced = pc - address;
	/* An early ret or jmp: what follows is padding if the function ends here; else it
	   is reached from elsewhere and the branch scan below must clear it. */
	size_t replaced = displaced < JUMP_LENGTH ? JUMP_LENGTH : displaced;
	if (replaced > size)
		return AF_REFUSAL_TOO_SHORT;
	if (replaced > displaced && !padding(code + displaced, replaced - displaced))
		return AF_REFUSAL_OVERLAP;
	if (through)
		emit_jump(plan, pc);
	if (replaced > AFM_SITE_DISPLACED_MAX)
		return AF_REFUSAL_OVERLAP;
	if (branches_back(planner, entry, body, body_size, entry, address + replaced))
		return AF_REFUSAL_JUMP_INTO_PATCH;
	plan->displaced = replaced;
	memcpy(plan->original, code, replaced);
	return AF_REFUSAL_NONE;
}

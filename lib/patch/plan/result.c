/* SPDX-License-Identifier: MIT */
/*
 * Whether a function surely returns something in rax. No compiler sets a register for nothing: so one
 * that is set, and not read up to the `ret` that follows, is the result. What lies there otherwise may be
 * left over from something else.
 */
#include "patch/plan/result.h"

#include <capstone/capstone.h>
#include <elf.h>

#define SIZE_MAX_BYTES (1u << 20)
#define EPILOGUE_MAX 16 /* instructions behind a jump to a shared one */

struct decoder {
	csh capstone;
	cs_insn *insn;
	uint64_t start;
	const uint8_t *code;
	size_t size;
};

static bool is_rax(unsigned reg)
{
	return reg == X86_REG_RAX || reg == X86_REG_EAX || reg == X86_REG_AX || reg == X86_REG_AL ||
	       reg == X86_REG_AH;
}

static bool has_rax(const uint16_t *regs, uint8_t n)
{
	bool found = false;
	for (uint8_t i = 0; i < n; i++)
		found |= is_rax(regs[i]);
	return found;
}

static bool in_group(const cs_insn *insn, unsigned group)
{
	for (unsigned i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == group)
			return true;
	return false;
}

/* Those whose only purpose is the register: not pop (which only moves the stack), xchg, mul. */
static bool sets_for_its_value(const cs_insn *insn)
{
	const cs_x86 *x86 = &insn->detail->x86;
	if (!x86->op_count || x86->operands[0].type != X86_OP_REG || !is_rax(x86->operands[0].reg))
		return false;
	/* clang-format off */
	switch (insn->id) {
	case X86_INS_MOV: case X86_INS_MOVABS: case X86_INS_MOVZX: case X86_INS_MOVSX:
	case X86_INS_MOVSXD: case X86_INS_LEA: case X86_INS_XOR: case X86_INS_AND: case X86_INS_OR:
	case X86_INS_NOT: case X86_INS_NEG: case X86_INS_SBB: case X86_INS_SHR:
	case X86_INS_CMOVA: case X86_INS_CMOVAE: case X86_INS_CMOVB: case X86_INS_CMOVBE:
	case X86_INS_CMOVE: case X86_INS_CMOVNE: case X86_INS_CMOVS: case X86_INS_CMOVNS:
	case X86_INS_CMOVG: case X86_INS_CMOVGE: case X86_INS_CMOVL: case X86_INS_CMOVLE:
	case X86_INS_SETA: case X86_INS_SETAE: case X86_INS_SETB: case X86_INS_SETBE:
	case X86_INS_SETE: case X86_INS_SETNE: case X86_INS_SETS: case X86_INS_SETNS:
	case X86_INS_SETG: case X86_INS_SETGE: case X86_INS_SETL: case X86_INS_SETLE:
		return true;
	default:
		return false;
	}
	/* clang-format on */
}

/* What comes of a value in rax at one instruction. */
enum step { KEPT, SET, LOST, RETURNED, JUMPED };

static enum step step_of(struct decoder *d)
{
	cs_regs read, written;
	uint8_t n_read, n_written;
	const cs_insn *insn = d->insn;
	if (in_group(insn, CS_GRP_RET))
		return RETURNED;
	if (insn->id == X86_INS_JMP)
		return JUMPED;
	if (in_group(insn, CS_GRP_JUMP) || in_group(insn, CS_GRP_CALL) ||
	    cs_regs_access(d->capstone, insn, read, &n_read, written, &n_written))
		return LOST;
	if (sets_for_its_value(insn))
		return SET;
	return has_rax(read, n_read) || has_rax(written, n_written) ? LOST : KEPT;
}

/* Whether a value that is in rax at `address` is returned: straight on to a `ret`. */
static bool leads_to_return(struct decoder *d, uint64_t address)
{
	for (int i = 0; i < EPILOGUE_MAX && address - d->start < d->size; i++) {
		const uint8_t *code = d->code + (address - d->start);
		size_t left = d->size - (address - d->start);
		if (!cs_disasm_iter(d->capstone, &code, &left, &address, d->insn))
			return false;
		enum step step = step_of(d);
		if (step != KEPT)
			return step == RETURNED;
	}
	return false;
}

static bool jump_leads_to_return(struct decoder *d)
{
	const cs_x86 *x86 = &d->insn->detail->x86;
	return x86->op_count == 1 && x86->operands[0].type == X86_OP_IMM &&
	       leads_to_return(d, (uint64_t)x86->operands[0].imm);
}

static bool find_result(struct decoder *d)
{
	const uint8_t *code = d->code;
	size_t left = d->size;
	uint64_t address = d->start;
	bool set = false;
	while (cs_disasm_iter(d->capstone, &code, &left, &address, d->insn)) {
		enum step step = step_of(d);
		if (set && (step == RETURNED || (step == JUMPED && jump_leads_to_return(d))))
			return true;
		set = step == SET || (set && step == KEPT);
	}
	return false;
}

bool af_plan_returns_value(uint32_t elf_machine, uint64_t address, const uint8_t *code, size_t size)
{
	struct decoder d = {.start = address, .code = code, .size = size};
	bool found = false;
	if (elf_machine != EM_X86_64 || size > SIZE_MAX_BYTES ||
	    cs_open(CS_ARCH_X86, CS_MODE_64, &d.capstone) != CS_ERR_OK)
		return false;
	if (cs_option(d.capstone, CS_OPT_DETAIL, CS_OPT_ON) == CS_ERR_OK) {
		d.insn = cs_malloc(d.capstone);
		found = d.insn && find_result(&d);
		if (d.insn)
			cs_free(d.insn, 1);
	}
	cs_close(&d.capstone);
	return found;
}

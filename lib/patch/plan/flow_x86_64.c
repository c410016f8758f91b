/* SPDX-License-Identifier: MIT */
/*
 * Control flow and changes of the frame on x86-64, by capstone.
 */
#include <capstone/capstone.h>
#include <elf.h>

#include "patch/plan/flow.h"

/* System V psABI x86-64, 3.6.2. */
int af_flow_register(unsigned int reg)
{
	/* clang-format off */
	switch (reg) {
	case X86_REG_RAX: case X86_REG_EAX: case X86_REG_AX: case X86_REG_AL: case X86_REG_AH:
		return 0;
	case X86_REG_RDX: case X86_REG_EDX: case X86_REG_DX: case X86_REG_DL: case X86_REG_DH:
		return 1;
	case X86_REG_RCX: case X86_REG_ECX: case X86_REG_CX: case X86_REG_CL: case X86_REG_CH:
		return 2;
	case X86_REG_RBX: case X86_REG_EBX: case X86_REG_BX: case X86_REG_BL: case X86_REG_BH:
		return 3;
	case X86_REG_RSI: case X86_REG_ESI: case X86_REG_SI: case X86_REG_SIL:
		return 4;
	case X86_REG_RDI: case X86_REG_EDI: case X86_REG_DI: case X86_REG_DIL:
		return 5;
	case X86_REG_RBP: case X86_REG_EBP: case X86_REG_BP: case X86_REG_BPL:
		return 6;
	case X86_REG_RSP: case X86_REG_ESP: case X86_REG_SP: case X86_REG_SPL:
		return 7;
	case X86_REG_R8: case X86_REG_R8D: case X86_REG_R8W: case X86_REG_R8B:
		return 8;
	case X86_REG_R9: case X86_REG_R9D: case X86_REG_R9W: case X86_REG_R9B:
		return 9;
	case X86_REG_R10: case X86_REG_R10D: case X86_REG_R10W: case X86_REG_R10B:
		return 10;
	case X86_REG_R11: case X86_REG_R11D: case X86_REG_R11W: case X86_REG_R11B:
		return 11;
	case X86_REG_R12: case X86_REG_R12D: case X86_REG_R12W: case X86_REG_R12B:
		return 12;
	case X86_REG_R13: case X86_REG_R13D: case X86_REG_R13W: case X86_REG_R13B:
		return 13;
	case X86_REG_R14: case X86_REG_R14D: case X86_REG_R14W: case X86_REG_R14B:
		return 14;
	case X86_REG_R15: case X86_REG_R15D: case X86_REG_R15W: case X86_REG_R15B:
		return 15;
	default:
		return -1;
	}
	/* clang-format on */
}

static bool in_group(const cs_insn *insn, uint8_t group)
{
	for (uint8_t i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == group)
			return true;
	return false;
}

static void classify(const cs_insn *insn, struct af_flow_instruction *out)
{
	const cs_x86_op *op = &insn->detail->x86.operands[0];

	out->kind = insn->id == X86_INS_NOP ? AF_FLOW_NOP : AF_FLOW_ON;
	if (in_group(insn, CS_GRP_JUMP)) {
		out->kind = insn->id == X86_INS_JMP ? AF_FLOW_JUMP : AF_FLOW_BRANCH;
		if (insn->detail->x86.op_count == 1 && op->type == X86_OP_IMM)
			out->target = (uint64_t)op->imm;
		else if (op->type == X86_OP_MEM && op->mem.base == X86_REG_RIP)
			out->kind = AF_FLOW_AWAY; /* through the GOT: a tail call */
		else
			out->kind = AF_FLOW_TABLE;
	} else if (in_group(insn, CS_GRP_RET) || in_group(insn, CS_GRP_IRET) ||
		   insn->id == X86_INS_UD2 || insn->id == X86_INS_INT3 || insn->id == X86_INS_HLT) {
		out->kind = AF_FLOW_AWAY;
	}
}

static void read_memory(const cs_insn *insn, struct af_flow_instruction *out)
{
	const cs_x86 *x86 = &insn->detail->x86;

	out->base = -1;
	for (uint8_t i = 0; i < x86->op_count; i++) {
		const cs_x86_op *op = &x86->operands[i];
		bool taken = insn->id == X86_INS_LEA;
		if (op->type != X86_OP_MEM || !(taken || (op->access & CS_AC_WRITE)))
			continue;
		out->base = (int8_t)af_flow_register(op->mem.base);
		out->offset = op->mem.disp;
		out->width = taken || op->mem.index != X86_REG_INVALID ? 255 : op->size;
	}
}

/* mov reg, reg; lea reg, [reg + offset]; mov reg, [reg + offset]. */
static void read_copy(const cs_insn *insn, struct af_flow_instruction *out)
{
	const cs_x86 *x86 = &insn->detail->x86;
	const cs_x86_op *to = &x86->operands[0], *from = &x86->operands[1];

	out->to = out->from = -1;
	if (x86->op_count != 2 || to->type != X86_OP_REG || to->size != 8)
		return;
	if (insn->id == X86_INS_MOV && from->type == X86_OP_REG) {
		out->from = (int8_t)af_flow_register(from->reg);
	} else if (from->type == X86_OP_MEM && from->mem.index == X86_REG_INVALID &&
		   from->mem.segment == X86_REG_INVALID &&
		   (insn->id == X86_INS_LEA || insn->id == X86_INS_MOV)) {
		out->from = (int8_t)af_flow_register(from->mem.base);
		out->add = from->mem.disp;
		out->loads = insn->id == X86_INS_MOV;
	}
	if (out->from >= 0)
		out->to = (int8_t)af_flow_register(to->reg);
}

static void describe(csh handle, const cs_insn *insn, struct af_flow_instruction *out)
{
	cs_regs read, written;
	uint8_t n_read, n_written;

	*out = (struct af_flow_instruction){.address = insn->address, .size = (uint8_t)insn->size};
	classify(insn, out);
	read_memory(insn, out);
	read_copy(insn, out);
	out->call = in_group(insn, CS_GRP_CALL);
	if (out->call)
		return;
	if (cs_regs_access(handle, insn, read, &n_read, written, &n_written) != CS_ERR_OK) {
		out->changes = UINT32_MAX;
		return;
	}
	for (uint8_t i = 0; i < n_written; i++) {
		int number = af_flow_register(written[i]);
		if (number >= 0)
			out->changes |= 1u << number;
	}
}

bool af_flow_decode(uint32_t elf_machine, uint64_t address, const uint8_t *code, size_t size,
		    bool (*each)(void *arg, const struct af_flow_instruction *instruction),
		    void *arg)
{
	csh handle;

	if (elf_machine != EM_X86_64 || cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK)
		return false;
	cs_insn *insn = NULL;
	if (cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON) == CS_ERR_OK)
		insn = cs_malloc(handle);
	if (insn) {
		struct af_flow_instruction out;
		while (cs_disasm_iter(handle, &code, &size, &address, insn)) {
			describe(handle, insn, &out);
			if (!each(arg, &out))
				break;
		}
		cs_free(insn, 1);
	}
	cs_close(&handle);
	return insn != NULL;
}

void af_flow_prepare(void)
{
	static const uint8_t code[] = {0x2c, 0x03}; /* sub al, 3 */
	const uint8_t *at = code;
	size_t size = sizeof(code);
	uint64_t address = 0;
	csh handle;

	if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK)
		return;
	cs_insn *insn =
		cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON) == CS_ERR_OK ? cs_malloc(handle) : NULL;
	if (insn) {
		cs_disasm_iter(handle, &at, &size, &address, insn);
		cs_free(insn, 1);
	}
	cs_close(&handle);
}

/* SPDX-License-Identifier: MIT */
/*
 * x86-64: which instructions a jump at a function's entry displaces, and how they run
 * elsewhere.
 *
 * capstone says where instructions end and what they are; the relocated code is ours.
 * Position dependent instructions are re-emitted:
 *
 *   jmp rel8/rel32      jmp rel32 (nothing falls through: no jump back)
 *   jcc rel8/rel32      jcc rel32
 *   op [rip + disp32]   the same bytes, displacement fixed up
 *   call target         push [rip + ...]; jmp target; the address behind the call
 *
 * The last keeps return addresses where unwinding tables know them: a call in displaced
 * code would push one that lies in ours (a landing pad could not be found). It is only
 * possible for the last displaced instruction, as the return lands behind the patch.
 * No register and no flag changes that the original leaves alone: tests/emulate runs both.
 *
 * Every branch of the function back into the patch, or to the entry itself (a tail call to
 * itself would nest one wrapper per round), refuses the site: branches.c.
 */
#include <capstone/capstone.h>
#include <elf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "patch/plan/branches.h"

struct af_planner {
	csh capstone;
	cs_insn *insn;
};

struct af_planner *af_planner_create(uint32_t elf_machine)
{
	if (elf_machine != EM_X86_64)
		return NULL;
	struct af_planner *planner = calloc(1, sizeof(*planner));
	if (!planner)
		return NULL;
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &planner->capstone) != CS_ERR_OK ||
	    cs_option(planner->capstone, CS_OPT_DETAIL, CS_OPT_ON) != CS_ERR_OK ||
	    !(planner->insn = cs_malloc(planner->capstone))) {
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
	if (planner->capstone)
		cs_close(&planner->capstone);
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

/* push [rip + disp32]: the word behind the jump of `jump` bytes that comes next. */
static void emit_push_behind(struct af_site_plan *plan, unsigned jump)
{
	emit(plan, (uint8_t[]){0xff, 0x35, jump, 0, 0, 0}, 6);
}

static void emit_address(struct af_site_plan *plan, uint64_t address)
{
	plan->fixups[plan->n_fixups++] = (struct afm_fixup){
		.target = address,
		.at = plan->code_length,
		.kind = AFM_FIXUP_ADDRESS,
	};
	emit(plan, (uint8_t[8]){0}, 8);
}

/* Copies an instruction, with a fixup where it has a rip-relative operand. */
static enum af_refusal emit_moved(struct af_site_plan *plan, const cs_insn *insn,
				  const uint8_t *bytes)
{
	const cs_x86 *x86 = &insn->detail->x86;
	unsigned modrm = x86->encoding.modrm_offset, at = x86->encoding.disp_offset;
	const cs_x86_op *memory = NULL;

	for (unsigned i = 0; i < x86->op_count; i++)
		if (x86->operands[i].type == X86_OP_MEM &&
		    (x86->operands[i].mem.base == X86_REG_RIP ||
		     x86->operands[i].mem.base == X86_REG_EIP))
			memory = &x86->operands[i];
	if (!memory) {
		/* What looks rip-relative must be known to be. */
		if (modrm && modrm < insn->size && (bytes[modrm] & 0xc7) == 0x05)
			return AF_REFUSAL_UNDECODABLE;
		emit(plan, bytes, insn->size);
		return AF_REFUSAL_NONE;
	}
	if (memory->mem.base != X86_REG_RIP || memory->mem.index != X86_REG_INVALID)
		return AF_REFUSAL_INSTRUCTION;
	int32_t displacement;
	if (!modrm || at != modrm + 1 || at + 4u > insn->size || (bytes[modrm] & 0xc7) != 0x05)
		return AF_REFUSAL_UNDECODABLE;
	memcpy(&displacement, bytes + at, sizeof(displacement));
	if (displacement != memory->mem.disp)
		return AF_REFUSAL_UNDECODABLE;
	emit(plan, bytes, at);
	emit_fixup(plan, insn->address + insn->size + (uint64_t)(int64_t)displacement,
		   insn->size - at);
	emit(plan, bytes + at + 4, insn->size - at - 4);
	return AF_REFUSAL_NONE;
}

/* Length of the prefixes that change nothing about a near branch: bnd, notrack and branch
   hints, REX; an operand size where REX.W overrules it (as in calls of __tls_get_addr). What
   66 alone does, processors do not agree on. `insn->size` where there is another. */
static unsigned branch_prefixes(const cs_insn *insn, const uint8_t *bytes)
{
	unsigned at = 0;
	bool small = false;

	while (at < insn->size &&
	       (bytes[at] == 0xf2 || bytes[at] == 0x3e || bytes[at] == 0x2e || bytes[at] == 0x66))
		small |= bytes[at++] == 0x66;
	bool wide = false;
	if (at < insn->size && (bytes[at] & 0xf0) == 0x40)
		wide = bytes[at++] & 8;
	return small && !wide ? insn->size : at;
}

/* `call [mem]` or `call reg` as push and jmp: FF /2 becomes FF /4. */
static enum af_refusal emit_indirect_call(struct af_site_plan *plan, const cs_insn *insn,
					  const uint8_t *bytes)
{
	const cs_x86_op *op = &insn->detail->x86.operands[0];
	unsigned opcode = branch_prefixes(insn, bytes);

	/* The push would come between. */
	if (op->type == X86_OP_REG ? op->reg == X86_REG_RSP : op->mem.base == X86_REG_RSP)
		return AF_REFUSAL_CALL_INSIDE;
	if (opcode + 1u >= insn->size || bytes[opcode] != 0xff ||
	    (bytes[opcode + 1] & 0x38) != 0x10)
		return AF_REFUSAL_CALL_INSIDE;
	uint8_t jump[16];
	memcpy(jump, bytes, insn->size);
	jump[opcode + 1] ^= 0x10 ^ 0x20;
	emit_push_behind(plan, insn->size);
	enum af_refusal refusal = emit_moved(plan, insn, jump);
	emit_address(plan, insn->address + insn->size);
	return refusal;
}

static enum af_refusal emit_call(struct af_site_plan *plan, const cs_insn *insn,
				 const uint8_t *bytes)
{
	const cs_x86_op *op = &insn->detail->x86.operands[0];
	unsigned opcode = branch_prefixes(insn, bytes);

	if (op->type != X86_OP_IMM)
		return emit_indirect_call(plan, insn, bytes);
	if (opcode + 5u != insn->size || bytes[opcode] != 0xe8)
		return AF_REFUSAL_INSTRUCTION;
	emit_push_behind(plan, 5);
	emit_jump(plan, op->imm);
	emit_address(plan, insn->address + insn->size);
	return AF_REFUSAL_NONE;
}

static enum af_refusal emit_jcc(struct af_site_plan *plan, const cs_insn *insn,
				const uint8_t *bytes)
{
	unsigned opcode = branch_prefixes(insn, bytes);
	uint8_t condition;

	if (opcode + 2u == insn->size && (bytes[opcode] & 0xf0) == 0x70)
		condition = bytes[opcode] & 0xf;
	else if (opcode + 6u == insn->size && bytes[opcode] == 0x0f &&
		 (bytes[opcode + 1] & 0xf0) == 0x80)
		condition = bytes[opcode + 1] & 0xf;
	else
		return AF_REFUSAL_INSTRUCTION;
	emit(plan, (uint8_t[]){0x0f, 0x80 | condition}, 2);
	emit_fixup(plan, insn->detail->x86.operands[0].imm, 4);
	return AF_REFUSAL_NONE;
}

static enum af_refusal emit_jmp(struct af_site_plan *plan, const cs_insn *insn,
				const uint8_t *bytes)
{
	unsigned opcode = branch_prefixes(insn, bytes);

	if (opcode + 2u > insn->size || (bytes[opcode] != 0xe9 && bytes[opcode] != 0xeb))
		return AF_REFUSAL_INSTRUCTION;
	emit_jump(plan, insn->detail->x86.operands[0].imm);
	return AF_REFUSAL_NONE;
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

static bool legacy_prefix(uint8_t byte)
{
	/* clang-format off */
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
		return true;
	}
	/* clang-format on */
	return false;
}

/* A REX that is not the last prefix: without meaning to processors, not to all decoders. */
static bool lost_rex(const cs_insn *insn, const uint8_t *bytes)
{
	unsigned at = 0;

	while (at < insn->size && legacy_prefix(bytes[at]))
		at++;
	return at + 1u < insn->size && (bytes[at] & 0xf0) == 0x40 &&
	       (legacy_prefix(bytes[at + 1]) || (bytes[at + 1] & 0xf0) == 0x40);
}

/* What some of AMD's processors had, and what only hypervisors run: to others, or with
   prefixes, these bytes are something else. */
static bool of_few_processors(const cs_insn *insn)
{
	for (unsigned i = 0; i < insn->detail->groups_count; i++) {
		uint8_t group = insn->detail->groups[i];
		if (group == X86_GRP_XOP || group == X86_GRP_TBM || group == X86_GRP_FMA4 ||
		    group == X86_GRP_SSE4A || group == X86_GRP_3DNOW || group == X86_GRP_VM)
			return true;
	}
	return false;
}

/* Relocates one instruction; *through tells whether control goes on behind it. */
static enum af_refusal relocate(struct af_site_plan *plan, const cs_insn *insn,
				const uint8_t *bytes, bool last, bool *through)
{
	const cs_x86 *x86 = &insn->detail->x86;
	bool immediate = x86->op_count == 1 && x86->operands[0].type == X86_OP_IMM;

	if (lost_rex(insn, bytes) || of_few_processors(insn))
		return AF_REFUSAL_UNDECODABLE;
	if (refused_instruction(insn))
		return AF_REFUSAL_INSTRUCTION;
	switch (insn->id) {
	case X86_INS_RET:
		*through = false;
		return emit_moved(plan, insn, bytes);
	case X86_INS_JMP:
		*through = false;
		return immediate ? emit_jmp(plan, insn, bytes) : emit_moved(plan, insn, bytes);
	case X86_INS_CALL:
		if (!last || x86->op_count != 1)
			return AF_REFUSAL_CALL_INSIDE;
		*through = false;
		return emit_call(plan, insn, bytes);
	}
	for (unsigned i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == CS_GRP_JUMP)
			return immediate ? emit_jcc(plan, insn, bytes) : AF_REFUSAL_INSTRUCTION;
	return emit_moved(plan, insn, bytes);
}

/* --- the plan ------------------------------------------------------------------------ */

bool af_refusal_of_length(enum af_refusal refusal)
{
	return refusal == AF_REFUSAL_TOO_SHORT || refusal == AF_REFUSAL_CALL_INSIDE ||
	       refusal == AF_REFUSAL_JUMP_INTO_PATCH || refusal == AF_REFUSAL_OVERLAP ||
	       refusal == AF_REFUSAL_INSTRUCTION || refusal == AF_REFUSAL_UNDECODABLE;
}

/* Relocates whole instructions until `patch` bytes are displaced, or control leaves. */
static enum af_refusal displace(struct af_planner *planner, const uint8_t *code, size_t size,
				unsigned patch, struct af_site_plan *plan)
{
	const uint8_t *at = code;
	uint64_t pc = plan->address;
	bool through = true;

	while (pc - plan->address < patch && through) {
		const uint8_t *bytes = at;
		if (!size)
			return AF_REFUSAL_TOO_SHORT;
		if (!cs_disasm_iter(planner->capstone, &at, &size, &pc, planner->insn))
			return AF_REFUSAL_UNDECODABLE;
		bool last = pc - plan->address >= patch;
		enum af_refusal refusal = relocate(plan, planner->insn, bytes, last, &through);
		if (refusal)
			return refusal;
	}
	if (pc - plan->address > AFM_SITE_ORIGINAL_MAX)
		return AF_REFUSAL_OVERLAP;
	plan->displaced = pc - plan->address;
	if (through)
		emit_jump(plan, pc);
	return AF_REFUSAL_NONE;
}

enum af_refusal af_planner_plan(struct af_planner *planner, const struct af_plan_text *text,
				const struct af_plan_function *function, unsigned patch,
				struct af_site_plan *plan)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	uint64_t available, size = function->size, room = function->next - function->address;
	const uint8_t *code = text->bytes(text->arg, function->address, &available);

	memset(plan, 0, sizeof(*plan));
	if (!code || function->next <= function->address || available < room)
		return AF_REFUSAL_NO_BYTES;
	if (!size || size > room)
		size = room;
	plan->address = function->address;
	plan->patch = patch;
	if (size >= sizeof(endbr64) && !memcmp(code, endbr64, sizeof(endbr64))) {
		plan->address += sizeof(endbr64), code += sizeof(endbr64);
		size -= sizeof(endbr64), room -= sizeof(endbr64);
	}
	if (room < patch)
		return AF_REFUSAL_TOO_SHORT;
	enum af_refusal refusal = displace(planner, code, size, patch, plan);
	if (refusal)
		return refusal;
	/* An early ret or jmp: what follows must be nothing. If it is more of the function, it
	   is reached from elsewhere. */
	size_t displaced = plan->displaced;
	if (displaced < patch) {
		if (af_padding(code + displaced, room - displaced) < patch - displaced)
			return size > displaced ? AF_REFUSAL_OVERLAP : AF_REFUSAL_TOO_SHORT;
		plan->displaced = patch;
	}
	if (af_branches_into(planner->capstone, planner->insn, text, function, function->address,
			     plan->address + plan->displaced))
		return AF_REFUSAL_JUMP_INTO_PATCH;
	memcpy(plan->original, code, plan->displaced);
	return AF_REFUSAL_NONE;
}

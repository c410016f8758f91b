/* SPDX-License-Identifier: MIT */
/*
 * The decoder of common instructions says what capstone says. What glue means is compared with real programs in
 * tests/end_to_end/test_values.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "analysis/glue_machine.h"
#include "patch/plan/flow.h"

#define ADDRESS UINT64_C(0x7f0012345678)

static csh capstone;
static cs_insn *insn;
static unsigned int compared;

static int number_of(unsigned int reg)
{
	int number = af_flow_register(reg);
	return reg == X86_REG_INVALID || reg == X86_REG_RIZ ? -1 : number < 0 ? -2 : number;
}

static bool is_high(unsigned int reg)
{
	return reg == X86_REG_AH || reg == X86_REG_BH || reg == X86_REG_CH || reg == X86_REG_DH;
}

static uint64_t mask_of(unsigned int size)
{
	return size < 8 ? (UINT64_C(1) << size * 8) - 1 : UINT64_MAX;
}

static bool same_memory(const struct af_glue_operand *ours, const x86_op_mem *mem)
{
	bool next = mem->base == X86_REG_RIP;

	return ours->next == next && ours->base == (next ? -1 : number_of(mem->base)) &&
	       ours->index == number_of(mem->index) && ours->n == mem->disp && !ours->segment &&
	       (ours->index == -1 || ours->scale == mem->scale);
}

static bool same_operand(const struct af_glue_instruction *in, int i)
{
	const struct af_glue_operand *ours = &in->operands[i];
	const cs_x86_op *op = &insn->detail->x86.operands[i];
	/* Of a number the size of what it is moved or added to is asked. */
	uint64_t mask = in->call || in->jump ? UINT64_MAX : mask_of(in->operands[0].size);

	if (ours->type != op->type)
		return false;
	if (op->type == X86_OP_IMM)
		return !(((uint64_t)ours->n ^ (uint64_t)op->imm) & mask);
	if (ours->size != op->size && insn->id != X86_INS_LEA)
		return false;
	return op->type == X86_OP_REG
		       ? ours->reg == number_of(op->reg) && ours->high == is_high(op->reg)
		       : same_memory(ours, &op->mem);
}

static bool in_group(uint8_t group)
{
	for (uint8_t i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == group)
			return true;
	return false;
}

static void compare(const uint8_t code[16])
{
	struct af_glue_instruction in;
	const uint8_t *at = code;
	size_t left = 16;
	uint64_t address = ADDRESS;

	if (!af_glue_decode_common(code, 16, ADDRESS, &in))
		return;
	compared++;
	bool same = cs_disasm_iter(capstone, &at, &left, &address, insn) && in.id == insn->id &&
		    in.next == address && in.n_operands == insn->detail->x86.op_count &&
		    in.call == in_group(CS_GRP_CALL) && in.jump == in_group(CS_GRP_JUMP) &&
		    in.ret == in_group(CS_GRP_RET);
	for (int i = 0; same && i < in.n_operands; i++)
		same = same_operand(&in, i);
	if (!same)
		fail_msg("%02x %02x %02x %02x %02x is %s %s", code[0], code[1], code[2], code[3],
			 code[4], insn->mnemonic, insn->op_str);
	/* Cut off, it is none. */
	size_t size = (size_t)(in.next - ADDRESS);
	assert_true(af_glue_decode_common(code, size, ADDRESS, &in));
	assert_false(af_glue_decode_common(code, size - 1, ADDRESS, &in));
}

/* All opcodes with all ModRM bytes, and SIB bytes where there is one. */
static void compare_all(const uint8_t *prefix, size_t n)
{
	uint8_t code[16];

	for (unsigned int opcode = 0; opcode < 256; opcode++)
		for (unsigned int modrm = 0; modrm < 256; modrm++) {
			bool sib = (modrm & 7) == 4 && modrm < 0xc0;
			for (unsigned int k = 0; k < (sib ? 256 : 2); k++) {
				/* What follows: once a positive number, once a negative one. */
				memset(code, k & 1 ? 0xe1 : 0x21, sizeof(code));
				memcpy(code, prefix, n);
				code[n] = (uint8_t)opcode;
				code[n + 1] = (uint8_t)modrm;
				if (sib)
					code[n + 2] = (uint8_t)k;
				compare(code);
			}
		}
}

static void common_instructions_are_what_capstone_says(void **state)
{
	const uint8_t escape = 0x0f;

	assert_int_equal(cs_open(CS_ARCH_X86, CS_MODE_64, &capstone), CS_ERR_OK);
	assert_int_equal(cs_option(capstone, CS_OPT_DETAIL, CS_OPT_ON), CS_ERR_OK);
	insn = cs_malloc(capstone);
	compare_all(NULL, 0);
	compare_all(&escape, 1);
	for (unsigned int rex = 0x40; rex < 0x50; rex++) {
		uint8_t prefix[2] = {(uint8_t)rex, 0x0f};
		compare_all(prefix, 1);
		compare_all(prefix, 2);
	}
	assert_true(compared > 100000);
	cs_free(insn, 1);
	cs_close(&capstone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(common_instructions_are_what_capstone_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The instructions that glue is mostly made of, decoded without capstone, which takes some fifty times as
 * long: a map asks for all glue there is. What is not surely one of them is left to it. Opcodes are those
 * of Intel's manual, volume 2, appendix A; tests/unit/test_glue.c compares all of them with capstone.
 */
#include "analysis/glue_machine.h"

struct reader {
	const uint8_t *at, *end;
	uint8_t rex;
	bool bad;
};

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

static uint64_t read_number(struct reader *r, unsigned int size)
{
	uint64_t number = 0;

	if ((size_t)(r->end - r->at) < size) {
		r->bad = true;
		return 0;
	}
	memcpy(&number, r->at, size);
	r->at += size;
	uint64_t sign = UINT64_C(1) << (size * 8 - 1);
	return size < 8 ? (number ^ sign) - sign : number;
}

/* The DWARF number of a register as instructions number it. */
static int8_t dwarf_of(unsigned int number)
{
	static const int8_t first[8] = {0, 2, 1, 3, 7, 6, 4, 5};
	return number < 8 ? first[number] : (int8_t)number;
}

static struct af_glue_operand register_operand(const struct reader *r, unsigned int number,
					       unsigned int size)
{
	struct af_glue_operand op = {
		.type = X86_OP_REG, .size = (uint8_t)size, .base = -1, .index = -1};

	op.high = size == 1 && !r->rex && number >= 4;
	op.reg = dwarf_of(op.high ? number - 4 : number);
	return op;
}

static struct af_glue_operand number_operand(uint64_t n, unsigned int size)
{
	return (struct af_glue_operand){.type = X86_OP_IMM,
					.size = (uint8_t)size,
					.reg = -1,
					.base = -1,
					.index = -1,
					.n = (int64_t)n};
}

static void read_sib(struct reader *r, unsigned int mod, struct af_glue_operand *op)
{
	unsigned int sib = (unsigned int)read_number(r, 1);
	unsigned int index = (sib >> 3 & 7) | (r->rex & REX_X ? 8 : 0);

	op->scale = (uint8_t)(1u << (sib >> 6 & 3));
	if (index != 4)
		op->index = dwarf_of(index);
	if ((sib & 7) == 5 && !mod)
		op->n = (int64_t)read_number(r, 4);
	else
		op->base = dwarf_of((sib & 7) | (r->rex & REX_B ? 8 : 0));
}

/* The operand that a ModRM byte means, register or memory; *field is its other register. */
static struct af_glue_operand read_modrm(struct reader *r, unsigned int size, unsigned int *field)
{
	unsigned int byte = (unsigned int)read_number(r, 1), mod = byte >> 6 & 3;
	struct af_glue_operand op = {.type = X86_OP_MEM,
				     .size = (uint8_t)size,
				     .reg = -1,
				     .base = -1,
				     .index = -1,
				     .scale = 1};

	*field = (byte >> 3 & 7) | (r->rex & REX_R ? 8 : 0);
	if (mod == 3)
		return register_operand(r, (byte & 7) | (r->rex & REX_B ? 8 : 0), size);
	if ((byte & 7) == 4) {
		read_sib(r, mod, &op);
	} else if ((byte & 7) == 5 && !mod) {
		op.next = true;
		op.n = (int64_t)read_number(r, 4);
	} else {
		op.base = dwarf_of((byte & 7) | (r->rex & REX_B ? 8 : 0));
	}
	if (mod)
		op.n = (int64_t)read_number(r, mod == 1 ? 1 : 4);
	return op;
}

static bool two(struct af_glue_instruction *out, uint32_t id, struct af_glue_operand a,
		struct af_glue_operand b)
{
	out->id = id;
	out->n_operands = 2;
	out->operands[0] = a;
	out->operands[1] = b;
	return true;
}

static bool one(struct af_glue_instruction *out, uint32_t id, struct af_glue_operand a)
{
	out->id = id;
	out->n_operands = 1;
	out->operands[0] = a;
	return true;
}

static const uint32_t conditional_jumps[16] = {
	X86_INS_JO,  X86_INS_JNO, X86_INS_JB,  X86_INS_JAE, X86_INS_JE, X86_INS_JNE,
	X86_INS_JBE, X86_INS_JA,  X86_INS_JS,  X86_INS_JNS, X86_INS_JP, X86_INS_JNP,
	X86_INS_JL,  X86_INS_JGE, X86_INS_JLE, X86_INS_JG,
};

/* 0: adc and sbb, which are not told apart from others. */
static const uint32_t arithmetic[8] = {X86_INS_ADD, X86_INS_OR,	 0,	      0,
				       X86_INS_AND, X86_INS_SUB, X86_INS_XOR, X86_INS_CMP};

/* To where a jump or call of `size` bytes of distance leads. */
static bool relative(struct reader *r, struct af_glue_instruction *out, uint32_t id,
		     unsigned int size)
{
	uint64_t distance = read_number(r, size);
	uint64_t next = out->address + (uint64_t)(r->at - out->start);

	out->call = id == X86_INS_CALL;
	out->jump = !out->call;
	return one(out, id, number_operand(next + distance, 8));
}

static bool indirect(struct reader *r, struct af_glue_instruction *out)
{
	unsigned int field;
	struct af_glue_operand to = read_modrm(r, 8, &field);

	field &= 7;
	if (field != 2 && field != 4)
		return false;
	out->call = field == 2;
	out->jump = field == 4;
	return one(out, out->call ? X86_INS_CALL : X86_INS_JMP, to);
}

/* 0f xx */
static bool escaped(struct reader *r, struct af_glue_instruction *out, unsigned int size)
{
	unsigned int opcode = (unsigned int)read_number(r, 1) & 0xff, field;
	struct af_glue_operand from;

	if ((opcode & 0xf0) == 0x80)
		return relative(r, out, conditional_jumps[opcode & 15], 4);
	if (opcode == 0xb6 || opcode == 0xb7) {
		from = read_modrm(r, opcode == 0xb6 ? 1 : 2, &field);
		return two(out, X86_INS_MOVZX, register_operand(r, field, size), from);
	}
	return false;
}

/* add, or, and, sub, xor, cmp: 00 to 3d. */
static bool arithmetic_of(struct reader *r, struct af_glue_instruction *out, unsigned int opcode,
			  unsigned int size)
{
	uint32_t id = arithmetic[opcode >> 3 & 7];
	unsigned int field;

	size = opcode & 1 ? size : 1;
	if (!id || (opcode & 7) > 5)
		return false;
	if (opcode & 4) /* of rax and its parts */
		return two(out, id, register_operand(r, 0, size),
			   number_operand(read_number(r, size == 1 ? 1 : 4), size));
	struct af_glue_operand rm = read_modrm(r, size, &field);
	struct af_glue_operand reg = register_operand(r, field, size);
	return opcode & 2 ? two(out, id, reg, rm) : two(out, id, rm, reg);
}

/* An operand and a number: 80, 81, 83, c6, c7, f6, f7. */
static bool with_number(struct reader *r, struct af_glue_instruction *out, unsigned int opcode,
			unsigned int size)
{
	unsigned int field;

	size = opcode & 1 ? size : 1;
	struct af_glue_operand rm = read_modrm(r, size, &field);
	uint32_t id = opcode < 0x84   ? arithmetic[field & 7]
		      : field & 7     ? 0
		      : opcode < 0xc8 ? X86_INS_MOV
				      : X86_INS_TEST;
	uint64_t n = read_number(r, size == 1 || opcode == 0x83 ? 1 : 4);
	return id && two(out, id, rm, number_operand(n, size));
}

static bool plain(struct reader *r, struct af_glue_instruction *out, unsigned int opcode,
		  unsigned int size)
{
	unsigned int field, low = (opcode & 7) | (r->rex & REX_B ? 8 : 0);
	struct af_glue_operand rm;

	if (opcode < 0x40)
		return arithmetic_of(r, out, opcode, size);
	if ((opcode & 0xf0) == 0x50)
		return one(out, opcode & 8 ? X86_INS_POP : X86_INS_PUSH,
			   register_operand(r, low, 8));
	if ((opcode & 0xf0) == 0x70)
		return relative(r, out, conditional_jumps[opcode & 15], 1);
	if ((opcode & 0xf8) == 0xb8 && size == 4)
		return two(out, X86_INS_MOV, register_operand(r, low, 4),
			   number_operand(read_number(r, 4), 4));
	switch (opcode) {
	case 0x63:
		rm = read_modrm(r, 4, &field);
		return size == 8 && two(out, X86_INS_MOVSXD, register_operand(r, field, 8), rm);
	case 0x80:
	case 0x81:
	case 0x83:
	case 0xc6:
	case 0xc7:
	case 0xf6:
	case 0xf7:
		return with_number(r, out, opcode, size);
	case 0x84:
	case 0x85:
	case 0x88:
	case 0x89:
		rm = read_modrm(r, opcode & 1 ? size : 1, &field);
		return two(out, opcode & 8 ? X86_INS_MOV : X86_INS_TEST, rm,
			   register_operand(r, field, rm.size));
	case 0x8a:
	case 0x8b:
		rm = read_modrm(r, opcode & 1 ? size : 1, &field);
		return two(out, X86_INS_MOV, register_operand(r, field, rm.size), rm);
	case 0x8d:
		rm = read_modrm(r, size, &field);
		return rm.type == X86_OP_MEM &&
		       two(out, X86_INS_LEA, register_operand(r, field, size), rm);
	case 0xc3:
		out->id = X86_INS_RET;
		out->ret = true;
		return true;
	case 0xcc:
		out->id = X86_INS_INT3;
		return true;
	case 0xe8:
		return relative(r, out, X86_INS_CALL, 4);
	case 0xe9:
		return relative(r, out, X86_INS_JMP, 4);
	case 0xeb:
		return relative(r, out, X86_INS_JMP, 1);
	case 0xff:
		return indirect(r, out);
	default:
		return false;
	}
}

bool af_glue_decode_common(const uint8_t *code, size_t left, uint64_t address,
			   struct af_glue_instruction *out)
{
	struct reader r = {.at = code, .end = code + left};

	*out = (struct af_glue_instruction){.address = address, .start = code};
	unsigned int opcode = (unsigned int)read_number(&r, 1) & 0xff;
	if ((opcode & 0xf0) == 0x40) {
		r.rex = (uint8_t)opcode;
		opcode = (unsigned int)read_number(&r, 1) & 0xff;
	}
	unsigned int size = r.rex & REX_W ? 8 : 4;
	bool known = opcode == 0x0f ? escaped(&r, out, size) : plain(&r, out, opcode, size);
	out->next = address + (uint64_t)(r.at - code);
	return known && !r.bad;
}

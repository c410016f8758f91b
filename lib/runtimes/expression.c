/* SPDX-License-Identifier: MIT */
/*
 * What a frame's caller had in its registers is told by expressions (DWARF 5, 6.4). Most are a
 * register plus an offset; those of procedure linkage tables and of signal frames are more, so
 * there is a small evaluator. An expression that needs what is not known has no value.
 */
#include "runtimes/expression.h"

#define MAX_DEPTH 16 /* of an expression's stack */

bool af_expression_register(struct af_expression_frame *c, uint64_t number, uint64_t *value)
{
	if (number >= AF_REGISTERS)
		return false;
	if (!(c->frame->known & 1u << number)) {
		c->missing |= 1u << number;
		return false;
	}
	*value = c->frame->registers[number];
	return true;
}

static bool binary(unsigned op, uint64_t a, uint64_t b, uint64_t *result)
{
	/* clang-format off */
	switch (op) {
	case DW_OP_plus: *result = a + b; return true;
	case DW_OP_minus: *result = a - b; return true;
	case DW_OP_mul: *result = a * b; return true;
	case DW_OP_and: *result = a & b; return true;
	case DW_OP_or: *result = a | b; return true;
	case DW_OP_xor: *result = a ^ b; return true;
	case DW_OP_shl: *result = b < 64 ? a << b : 0; return true;
	case DW_OP_shr: *result = b < 64 ? a >> b : 0; return true;
	case DW_OP_eq: *result = a == b; return true;
	case DW_OP_ne: *result = a != b; return true;
	case DW_OP_ge: *result = (int64_t)a >= (int64_t)b; return true;
	case DW_OP_gt: *result = (int64_t)a > (int64_t)b; return true;
	case DW_OP_le: *result = (int64_t)a <= (int64_t)b; return true;
	case DW_OP_lt: *result = (int64_t)a < (int64_t)b; return true;
	default: return false;
	}
	/* clang-format on */
}

/* Operations that push one value without taking any. */
static bool push(struct af_expression_frame *c, const Dwarf_Op *op, uint64_t *value)
{
	if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31) {
		*value = op->atom - DW_OP_lit0;
		return true;
	}
	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31) {
		bool known = af_expression_register(c, op->atom - DW_OP_breg0, value);
		*value += known ? op->number : 0;
		return known;
	}
	switch (op->atom) {
	case DW_OP_addr:
	case DW_OP_const1u:
	case DW_OP_const1s:
	case DW_OP_const2u:
	case DW_OP_const2s:
	case DW_OP_const4u:
	case DW_OP_const4s:
	case DW_OP_const8u:
	case DW_OP_const8s:
	case DW_OP_constu:
	case DW_OP_consts:
		*value = op->number;
		return true;
	case DW_OP_bregx: {
		bool known = af_expression_register(c, op->number, value);
		*value += known ? op->number2 : 0;
		return known;
	}
	case DW_OP_call_frame_cfa:
		*value = c->frame->cfa;
		return c->has_cfa;
	default:
		return false;
	}
}

bool af_expression_value(struct af_expression_frame *c, const Dwarf_Op *ops, size_t n,
			 uint64_t *result, bool *is_value)
{
	uint64_t stack[MAX_DEPTH], more;
	size_t depth = 0;
	*is_value = false;
	for (size_t i = 0; i < n; i++) {
		const Dwarf_Op *op = &ops[i];
		if (op->atom >= DW_OP_reg0 && op->atom <= DW_OP_reg31 && n == 1) {
			*is_value = true;
			return af_expression_register(c, op->atom - DW_OP_reg0, result);
		}
		if (op->atom == DW_OP_stack_value) {
			*is_value = true;
		} else if (op->atom == DW_OP_plus_uconst && depth) {
			stack[depth - 1] += op->number;
		} else if (op->atom == DW_OP_deref && depth) {
			if (!af_memory_read_u64(c->memory, stack[depth - 1], &stack[depth - 1]))
				return false;
		} else if (depth >= 2 &&
			   binary(op->atom, stack[depth - 2], stack[depth - 1], &more)) {
			stack[--depth - 1] = more;
		} else if (op->atom != DW_OP_nop) {
			if (depth == MAX_DEPTH || !push(c, op, &stack[depth]))
				return false;
			depth++;
		}
	}
	if (depth)
		*result = stack[depth - 1];
	return depth != 0;
}

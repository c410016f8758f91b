/* SPDX-License-Identifier: MIT */
/*
 * What one instruction does to the machine. Those that glue is mostly made of are told apart;
 * of any other it is known which registers and what memory it changes, and that is unknown then. One
 * that makes something of a pointer to *self or to the frame in a way that is not told cannot be
 * followed.
 */
#include "analysis/glue_machine.h"

#define NEW_FRAME (1u << 24) /* away from all that lies in the frame so far */

static const struct af_glue_value mixed = {AF_G_MIXED, 64, 0, 0};

static uint64_t mask_of(unsigned int size)
{
	return size < 8 ? (UINT64_C(1) << size * 8) - 1 : UINT64_MAX;
}

struct af_glue_value af_glue_read_register(const struct af_glue_frame *frame,
					   const struct af_glue_operand *operand)
{
	if (operand->reg < 0 || operand->high)
		return af_glue_unknown(operand->size);
	return af_glue_cut(frame->regs[operand->reg], operand->size);
}

void af_glue_set_register(struct af_glue_frame *frame, int reg, struct af_glue_value value)
{
	if (reg < 0)
		return;
	frame->regs[reg] = value;
	frame->rdi_set |= reg == AF_G_RDI;
	if (frame->compared == reg)
		frame->compared = -1;
}

static void write_register(struct af_glue_frame *frame, const struct af_glue_operand *to,
			   struct af_glue_value value)
{
	struct af_glue_value old;

	if (to->reg < 0)
		return;
	if (to->size >= 4) { /* of 32 bits: the rest becomes 0 */
		af_glue_set_register(frame, to->reg, value);
		return;
	}
	/* What is left of a pointer whose low byte is overwritten is none. */
	old = frame->regs[to->reg];
	if (to->high || value.kind != AF_G_NUMBER)
		value = af_glue_is_place(old) ? mixed : af_glue_unknown(8);
	else if (old.kind == AF_G_NUMBER && old.bits == 64)
		value.n |= old.n & ~mask_of(to->size);
	else
		value.bits = (uint8_t)(to->size * 8);
	af_glue_set_register(frame, to->reg, value);
}

static bool read_operand(struct af_glue_run *run, struct af_glue_frame *frame,
			 const struct af_glue_instruction *in, int i, struct af_glue_value *value)
{
	const struct af_glue_operand *op = &in->operands[i];

	switch (op->type) {
	case X86_OP_REG:
		*value = af_glue_read_register(frame, op);
		return true;
	case X86_OP_IMM:
		/* Of the size of what it is moved or added to, whatever capstone says. */
		*value = af_glue_number((uint64_t)op->n & mask_of(in->operands[0].size));
		return true;
	case X86_OP_MEM:
		return af_glue_load(run, frame, af_glue_address(run, frame, in, op), op->size,
				    value);
	default:
		return false;
	}
}

static bool write_operand(struct af_glue_run *run, struct af_glue_frame *frame,
			  const struct af_glue_instruction *in, int i, struct af_glue_value value)
{
	const struct af_glue_operand *op = &in->operands[i];

	if (op->type == X86_OP_REG) {
		write_register(frame, op, value);
		return op->reg != -1;
	}
	return op->type == X86_OP_MEM &&
	       af_glue_store(run, frame, af_glue_address(run, frame, in, op), op->size, value);
}

static struct af_glue_value extended(struct af_glue_value value, unsigned int from, unsigned int to)
{
	uint64_t sign = UINT64_C(1) << (from * 8 - 1);

	if (value.kind == AF_G_NUMBER)
		return af_glue_number(((value.n ^ sign) - sign) & mask_of(to));
	if (value.kind == AF_G_TABLE || (value.kind == AF_G_UNKNOWN && value.n < sign) ||
	    af_glue_is_place(value))
		return value;
	return af_glue_unknown(to);
}

/* --- arithmetic and the processor's flags ------------------------------------------------- */

static void set_flag(struct af_glue_frame *frame, uint8_t flag, bool set)
{
	frame->flags_known |= flag;
	frame->flags = (uint8_t)(set ? frame->flags | flag : frame->flags & ~flag);
}

static void set_result(struct af_glue_frame *frame, uint64_t result, unsigned int size)
{
	result &= mask_of(size);
	set_flag(frame, AF_G_ZERO, !result);
	set_flag(frame, AF_G_SIGN, result >> (size * 8 - 1));
}

static void forget_flags(struct af_glue_frame *frame)
{
	frame->flags_known = 0;
	frame->compared = -1;
}

static bool are_numbers(struct af_glue_value a, struct af_glue_value b)
{
	return a.kind == AF_G_NUMBER && b.kind == AF_G_NUMBER && a.bits == 64 && b.bits == 64;
}

static struct af_glue_value difference(struct af_glue_frame *frame, struct af_glue_value a,
				       struct af_glue_value b, unsigned int size)
{
	uint64_t top = UINT64_C(1) << (size * 8 - 1);

	forget_flags(frame);
	if (are_numbers(a, b)) {
		uint64_t result = (a.n - b.n) & mask_of(size);
		set_result(frame, result, size);
		set_flag(frame, AF_G_CARRY, a.n < b.n);
		set_flag(frame, AF_G_OVERFLOW, (a.n ^ b.n) & (a.n ^ result) & top);
		return af_glue_number(result);
	}
	if (af_glue_is_place(a) && b.kind == AF_G_NUMBER && b.bits == 64) {
		if (a.kind != AF_G_MIXED)
			a.n -= b.n;
		return a;
	}
	return af_glue_is_place(a) || af_glue_is_place(b) ? mixed : af_glue_unknown(size);
}

static struct af_glue_value sum(struct af_glue_frame *frame, struct af_glue_value a,
				struct af_glue_value b, unsigned int size)
{
	struct af_glue_value place = af_glue_is_place(a) ? a : b;
	struct af_glue_value other = af_glue_is_place(a) ? b : a;

	forget_flags(frame);
	if (are_numbers(a, b)) {
		uint64_t result = (a.n + b.n) & mask_of(size);
		set_result(frame, result, size);
		return af_glue_number(result);
	}
	if (af_glue_is_place(place)) {
		if (other.kind != AF_G_NUMBER || other.bits < 64 || place.kind == AF_G_MIXED)
			return mixed;
		place.n += other.n;
		return place;
	}
	/* An entry of a jump table, and the table's address. */
	if (b.kind == AF_G_TABLE) {
		place = a;
		a = b;
		b = place;
	}
	if (size == 8 && a.kind == AF_G_TABLE && a.bits == 64 && b.kind == AF_G_NUMBER &&
	    b.n == a.n) {
		a.bits = 1;
		return a;
	}
	return af_glue_unknown(size);
}

static uint64_t combined(uint32_t id, uint64_t a, uint64_t b)
{
	return id == X86_INS_OR ? a | b : id == X86_INS_XOR ? a ^ b : a & b;
}

/* and, or, xor, test */
static struct af_glue_value logic(struct af_glue_frame *frame, uint32_t id, struct af_glue_value a,
				  struct af_glue_value b, unsigned int size)
{
	struct af_glue_value least = af_glue_unknown(size);

	forget_flags(frame);
	set_flag(frame, AF_G_CARRY | AF_G_OVERFLOW, false);
	if (are_numbers(a, b)) {
		uint64_t result = combined(id, a.n, b.n) & mask_of(size);
		set_result(frame, result, size);
		return af_glue_number(result);
	}
	/* A frame that is aligned: somewhere else, where nothing lies yet. */
	if (id == X86_INS_AND && a.kind == AF_G_FRAME && b.kind == AF_G_NUMBER && b.bits == 64) {
		a.n -= NEW_FRAME;
		return a;
	}
	if (af_glue_is_place(a) || af_glue_is_place(b))
		return mixed;
	if (id == X86_INS_AND)
		for (int i = 0; i < 2; i++, a = b)
			if ((a.kind == AF_G_UNKNOWN || (a.kind == AF_G_NUMBER && a.bits == 64)) &&
			    a.n < least.n)
				least.n = a.n;
	return least;
}

static void note_comparison(struct af_glue_frame *frame, const struct af_glue_instruction *in,
			    struct af_glue_value a, struct af_glue_value b)
{
	const struct af_glue_operand *op = &in->operands[0];

	if (op->type != X86_OP_REG || op->reg < 0 || op->high || a.kind != AF_G_UNKNOWN ||
	    b.kind != AF_G_NUMBER)
		return;
	frame->compared = op->reg;
	frame->compared_size = op->size;
	frame->compared_with = b.n;
}

static bool same_register(const struct af_glue_instruction *in)
{
	return in->operands[0].type == X86_OP_REG && in->operands[1].type == X86_OP_REG &&
	       in->operands[0].reg == in->operands[1].reg && in->operands[0].reg >= 0 &&
	       in->operands[0].high == in->operands[1].high;
}

static bool two_operands(struct af_glue_run *run, struct af_glue_frame *frame,
			 const struct af_glue_instruction *in)
{
	unsigned int size = in->operands[0].size;
	struct af_glue_value a, b, result;

	if (in->n_operands != 2 || !read_operand(run, frame, in, 0, &a) ||
	    !read_operand(run, frame, in, 1, &b))
		return false;
	switch (in->id) {
	case X86_INS_ADD:
		result = sum(frame, a, b, size);
		break;
	case X86_INS_SUB:
		result = difference(frame, a, b, size);
		break;
	case X86_INS_CMP:
		difference(frame, a, b, size);
		note_comparison(frame, in, a, b);
		return true;
	case X86_INS_TEST:
		logic(frame, in->id, a, b, size);
		if (same_register(in) && (a.kind == AF_G_SELF || a.kind == AF_G_FRAME))
			set_flag(frame, AF_G_ZERO, false);
		return true;
	case X86_INS_XOR:
		if (same_register(in))
			a = b = af_glue_number(0);
		/* fall through */
	default:
		result = logic(frame, in->id, a, b, size);
	}
	return write_operand(run, frame, in, 0, result);
}

static bool one_operand(struct af_glue_run *run, struct af_glue_frame *frame,
			const struct af_glue_instruction *in)
{
	unsigned int size = in->operands[0].size;
	struct af_glue_value a;
	uint64_t n;

	if (!read_operand(run, frame, in, 0, &a) || af_glue_is_place(a))
		return false;
	if (in->id != X86_INS_NOT)
		forget_flags(frame);
	if (a.kind != AF_G_NUMBER || a.bits < 64)
		return write_operand(run, frame, in, 0, af_glue_unknown(size));
	n = in->id == X86_INS_INC   ? a.n + 1
	    : in->id == X86_INS_DEC ? a.n - 1
	    : in->id == X86_INS_NEG ? -a.n
				    : ~a.n;
	if (in->id != X86_INS_NOT)
		set_result(frame, n, size);
	return write_operand(run, frame, in, 0, af_glue_number(n & mask_of(size)));
}

static bool shift(struct af_glue_run *run, struct af_glue_frame *frame,
		  const struct af_glue_instruction *in)
{
	unsigned int size = in->operands[0].size;
	struct af_glue_value a, by = af_glue_number(1);

	if (!read_operand(run, frame, in, 0, &a) || af_glue_is_place(a) ||
	    (in->n_operands > 1 && !read_operand(run, frame, in, 1, &by)))
		return false;
	forget_flags(frame);
	if (!are_numbers(a, by) || in->id == X86_INS_SAR)
		return write_operand(run, frame, in, 0, af_glue_unknown(size));
	unsigned int n = (unsigned int)by.n & (size == 8 ? 63 : 31);
	uint64_t result = (in->id == X86_INS_SHR ? a.n >> n : a.n << n) & mask_of(size);
	if (n)
		set_result(frame, result, size);
	return write_operand(run, frame, in, 0, af_glue_number(result));
}

/* bt */
static bool test_bit(struct af_glue_run *run, struct af_glue_frame *frame,
		     const struct af_glue_instruction *in)
{
	struct af_glue_value a, b;

	if (in->operands[0].type != X86_OP_REG || !read_operand(run, frame, in, 0, &a) ||
	    !read_operand(run, frame, in, 1, &b))
		return false;
	forget_flags(frame);
	if (are_numbers(a, b))
		set_flag(frame, AF_G_CARRY, a.n >> (b.n & (in->operands[0].size * 8u - 1)) & 1);
	return true;
}

/* setcc, cmovcc */
static bool conditional(struct af_glue_run *run, struct af_glue_frame *frame,
			const struct af_glue_instruction *in, int condition)
{
	int holds = af_glue_condition(frame, (unsigned int)condition);
	struct af_glue_value from, old;

	if (in->n_operands == 1) /* setcc */
		return write_operand(run, frame, in, 0,
				     holds < 0 ? (struct af_glue_value){AF_G_UNKNOWN, 64, 0, 1}
					       : af_glue_number((uint64_t)holds));
	if (!read_operand(run, frame, in, 1, &from))
		return false;
	old = af_glue_read_register(frame, &in->operands[0]);
	return write_operand(run, frame, in, 0,
			     holds < 0 ? af_glue_join(old, from)
			     : holds   ? from
				       : old);
}

/* --- all others --------------------------------------------------------------------------- */

/* An operand of an instruction that is not told apart. The first one may be written. */
static bool other_memory(struct af_glue_run *run, struct af_glue_frame *frame,
			 const struct af_glue_instruction *in, int i)
{
	const struct af_glue_operand *op = &in->operands[i];
	struct af_glue_value address = af_glue_address(run, frame, in, op), value;
	uint32_t size = op->size ? op->size : 64;

	if (i)
		return af_glue_load(run, frame, address, size, &value) && !af_glue_is_place(value);
	/* A store, or both, unless it is of a vector; a place that is read and changed is none
	   afterwards. */
	if (address.kind == AF_G_FRAME && (in->n_operands < 2 || in->operands[1].reg != -2) &&
	    (!af_glue_load_slot(frame, (int64_t)address.n, size, &value) ||
	     af_glue_is_place(value)))
		return false;
	return af_glue_store(run, frame, address, size, af_glue_unknown(8));
}

static bool other(struct af_glue_run *run, struct af_glue_frame *frame,
		  const struct af_glue_instruction *in)
{
	for (int i = 0; i < AF_G_REGISTERS; i++)
		if ((in->reads >> i & 1) && af_glue_is_place(frame->regs[i]))
			return false;
	for (int i = 0; i < in->n_operands; i++) {
		const struct af_glue_operand *op = &in->operands[i];
		if (op->type == X86_OP_REG && op->reg >= 0 &&
		    af_glue_is_place(frame->regs[op->reg]))
			return false;
		if (op->type == X86_OP_MEM && !other_memory(run, frame, in, i))
			return false;
	}
	for (int i = 0; i < AF_G_REGISTERS; i++)
		if (in->writes >> i & 1)
			af_glue_set_register(frame, i, af_glue_unknown(8));
	/* What capstone does not know to be written. */
	if (in->n_operands && in->operands[0].type == X86_OP_REG)
		af_glue_set_register(frame, in->operands[0].reg, af_glue_unknown(8));
	forget_flags(frame);
	return true;
}

static bool push(struct af_glue_run *run, struct af_glue_frame *frame,
		 const struct af_glue_instruction *in)
{
	struct af_glue_value *rsp = &frame->regs[AF_G_RSP], value;

	if (in->operands[0].size != 8 || rsp->kind != AF_G_FRAME ||
	    !read_operand(run, frame, in, 0, &value))
		return false;
	rsp->n -= 8;
	return af_glue_store(run, frame, *rsp, 8, value);
}

static bool pop(struct af_glue_run *run, struct af_glue_frame *frame,
		const struct af_glue_instruction *in)
{
	struct af_glue_value *rsp = &frame->regs[AF_G_RSP], value;

	if (in->operands[0].size != 8 || in->operands[0].type != X86_OP_REG ||
	    rsp->kind != AF_G_FRAME || !af_glue_load(run, frame, *rsp, 8, &value))
		return false;
	rsp->n += 8;
	write_register(frame, &in->operands[0], value);
	return true;
}

bool af_glue_step(struct af_glue_run *run, struct af_glue_frame *frame,
		  const struct af_glue_instruction *in)
{
	struct af_glue_value value;
	int condition;

	switch (in->id) {
	case X86_INS_NOP:
		return true;
	case X86_INS_MOV:
	case X86_INS_MOVABS:
	case X86_INS_MOVZX:
		return read_operand(run, frame, in, 1, &value) &&
		       write_operand(run, frame, in, 0, value);
	case X86_INS_MOVSX:
	case X86_INS_MOVSXD:
		return read_operand(run, frame, in, 1, &value) &&
		       write_operand(run, frame, in, 0,
				     extended(value, in->operands[1].size, in->operands[0].size));
	case X86_INS_LEA:
		value = af_glue_address(run, frame, in, &in->operands[1]);
		return write_operand(run, frame, in, 0, af_glue_cut(value, in->operands[0].size));
	case X86_INS_PUSH:
		return push(run, frame, in);
	case X86_INS_POP:
		return pop(run, frame, in);
	case X86_INS_ADD:
	case X86_INS_SUB:
	case X86_INS_CMP:
	case X86_INS_TEST:
	case X86_INS_AND:
	case X86_INS_OR:
	case X86_INS_XOR:
		return two_operands(run, frame, in);
	case X86_INS_INC:
	case X86_INS_DEC:
	case X86_INS_NEG:
	case X86_INS_NOT:
		return one_operand(run, frame, in);
	case X86_INS_SHL:
	case X86_INS_SHR:
	case X86_INS_SAR:
		return shift(run, frame, in);
	case X86_INS_BT:
		return test_bit(run, frame, in);
	default:
		condition = af_glue_condition_of(in->id);
		return condition >= 0 ? conditional(run, frame, in, condition)
				      : other(run, frame, in);
	}
}

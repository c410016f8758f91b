/* SPDX-License-Identifier: MIT */
/*
 * What glue loads and stores: *self, of which the state and a flag are known; its own stack frame;
 * constants of the object; and the rest of the world, of which nothing is known but that it holds
 * no way back to *self, as nothing of that is ever stored there.
 */
#include "analysis/glue_machine.h"

#include "analysis/elffile.h"

#define TABLE_MAX 4096 /* entries of a jump table */

static struct af_glue_value add(struct af_glue_value a, struct af_glue_value b)
{
	const struct af_glue_value mixed = {AF_G_MIXED, 64, 0, 0};

	if (b.kind != AF_G_NUMBER) {
		struct af_glue_value swap = a;
		a = b;
		b = swap;
	}
	if (b.kind != AF_G_NUMBER || b.bits < 64 || (a.kind == AF_G_NUMBER && a.bits < 64))
		return af_glue_is_place(a) || af_glue_is_place(b) ? mixed : af_glue_unknown(8);
	switch (a.kind) {
	case AF_G_NUMBER:
	case AF_G_SELF:
	case AF_G_FRAME:
		a.n += b.n;
		return a;
	case AF_G_MIXED:
		return a;
	default:
		return b.n ? af_glue_unknown(8) : a;
	}
}

static struct af_glue_value scaled(struct af_glue_value index, unsigned int scale)
{
	if (scale == 1)
		return index;
	if (index.kind == AF_G_NUMBER && index.bits == 64)
		return af_glue_number(index.n * scale);
	if (af_glue_is_place(index))
		return (struct af_glue_value){AF_G_MIXED, 64, 0, 0};
	return af_glue_unknown(8);
}

static struct af_glue_value register_at(struct af_glue_run *run, const struct af_glue_frame *frame,
					int reg)
{
	if (reg < 0)
		return af_glue_unknown(8);
	if (frame->regs[reg].kind == AF_G_UNKNOWN && frame->regs[reg].count)
		af_glue_use(run, frame->regs[reg].count - 1);
	return frame->regs[reg];
}

void af_glue_use(struct af_glue_run *run, uint64_t offset)
{
	const struct af_glue_question *q = run->question;

	for (uint32_t i = 0; i < q->n_ranges; i++)
		if (offset - q->ranges[i].offset < q->ranges[i].size)
			run->answer->used[i / 64] |= UINT64_C(1) << i % 64;
}

struct af_glue_value af_glue_address(struct af_glue_run *run, const struct af_glue_frame *frame,
				     const struct af_glue_instruction *in,
				     const struct af_glue_operand *memory)
{
	struct af_glue_value sum = af_glue_number((uint64_t)memory->n);

	if (memory->segment)
		return af_glue_unknown(8);
	if (memory->next)
		sum.n += in->next;
	if (memory->base != -1)
		sum = add(sum, register_at(run, frame, memory->base));
	if (memory->index == -1)
		return sum;
	struct af_glue_value index = register_at(run, frame, memory->index);
	if (index.kind == AF_G_UNKNOWN && index.n < TABLE_MAX && memory->scale == 4 &&
	    sum.kind == AF_G_NUMBER && sum.bits == 64)
		return (struct af_glue_value){AF_G_TABLE, 0, (uint32_t)index.n + 1, sum.n};
	return add(sum, scaled(index, memory->scale));
}

bool af_glue_touch(struct af_glue_run *run, struct af_glue_frame *frame, uint64_t offset,
		   uint64_t size, bool surely)
{
	const struct af_glue_question *q = run->question;

	/* Whatever comes before the state is looked at is not what its states tell apart. */
	if (!frame->state_read)
		return false;
	for (uint32_t i = 0; i < q->n_ranges; i++) {
		const struct af_glue_range *range = &q->ranges[i];
		if (offset >= range->offset + range->size || range->offset >= offset + size)
			continue;
		run->answer->ever[i / 64] |= UINT64_C(1) << i % 64;
		if (surely)
			frame->touched[i / 64] |= UINT64_C(1) << i % 64;
	}
	return true;
}

/* A byte of *self that is known. */
static bool known_byte(const struct af_glue_question *q, const struct af_glue_frame *frame,
		       uint64_t offset, uint8_t *byte)
{
	if (offset >= q->state_offset && offset - q->state_offset < q->state_size) {
		*byte = (uint8_t)(q->state >> (offset - q->state_offset) * 8);
		return true;
	}
	*byte = q->flag_value;
	return offset == q->flag && !frame->flag_lost;
}

static bool meets_state(const struct af_glue_question *q, uint64_t offset, uint32_t size)
{
	return offset < q->state_offset + q->state_size && q->state_offset < offset + size;
}

static bool load_self(struct af_glue_run *run, struct af_glue_frame *frame, uint64_t offset,
		      uint32_t size, struct af_glue_value *value)
{
	bool known = size <= 8;
	uint64_t number = 0;
	uint8_t byte;

	frame->state_read |= meets_state(run->question, offset, size);
	for (uint32_t i = 0; i < size && known; i++) {
		known = known_byte(run->question, frame, offset + i, &byte);
		number |= (uint64_t)byte << i * 8;
	}
	*value = known ? af_glue_number(number) : af_glue_unknown(size);
	if (!known && offset < UINT32_MAX)
		value->count = (uint32_t)offset + 1;
	return known || af_glue_touch(run, frame, offset, size, true);
}

/* A constant, if the program cannot change it. */
static struct af_glue_value load_constant(struct af_glue *glue, uint64_t address, uint32_t size)
{
	uint64_t available, number = 0;
	GElf_Phdr phdr;

	if (size == 8 && af_glue_slot(glue, address, &number))
		return af_glue_number(number);
	const uint8_t *bytes = af_object_bytes(glue->object, address, &available);
	if (!bytes || size > 8 || available < size ||
	    !af_object_segment(glue->object, address, &phdr) || (phdr.p_flags & PF_W))
		return af_glue_unknown(size);
	memcpy(&number, bytes, size);
	return af_glue_number(number);
}

bool af_glue_load(struct af_glue_run *run, struct af_glue_frame *frame,
		  struct af_glue_value address, uint32_t size, struct af_glue_value *value)
{
	*value = af_glue_unknown(size);
	switch (address.kind) {
	case AF_G_SELF:
		return load_self(run, frame, address.n, size, value);
	case AF_G_FRAME:
		return af_glue_load_slot(frame, (int64_t)address.n, size, value);
	case AF_G_MIXED:
		return false;
	case AF_G_NUMBER:
		*value = load_constant(run->glue, address.n, size);
		return true;
	case AF_G_TABLE:
		if (!address.bits && size == 4)
			*value = (struct af_glue_value){AF_G_TABLE, 64, address.count, address.n};
		return true;
	default:
		return true;
	}
}

bool af_glue_store(struct af_glue_run *run, struct af_glue_frame *frame,
		   struct af_glue_value address, uint32_t size, struct af_glue_value value)
{
	const struct af_glue_question *q = run->question;

	switch (address.kind) {
	case AF_G_SELF:
		if (af_glue_is_place(value) || meets_state(q, address.n, size))
			return false;
		frame->flag_lost |= q->flag - address.n < size;
		return af_glue_touch(run, frame, address.n, size, false);
	case AF_G_FRAME:
		return af_glue_store_slot(frame, (int64_t)address.n, size, value);
	case AF_G_MIXED:
		return false;
	default:
		return !af_glue_is_place(value);
	}
}

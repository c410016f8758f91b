/* SPDX-License-Identifier: MIT */
/*
 * What is known of registers and of the stack frame, and what of it two ways have in common.
 */
#include "analysis/glue_machine.h"

static bool same(struct af_glue_value a, struct af_glue_value b)
{
	return a.kind == b.kind && a.bits == b.bits && a.count == b.count && a.n == b.n;
}

struct af_glue_value af_glue_join(struct af_glue_value a, struct af_glue_value b)
{
	if (same(a, b))
		return a;
	if (af_glue_is_place(a) || af_glue_is_place(b))
		return (struct af_glue_value){AF_G_MIXED, 64, 0, 0};
	/* Not the larger of both: a loop would make it grow for ever. */
	return af_glue_unknown(8);
}

/* The low bytes of a value, as they are read. */
struct af_glue_value af_glue_cut(struct af_glue_value value, unsigned int size)
{
	struct af_glue_value unknown = af_glue_unknown(size);

	if (value.kind == AF_G_NUMBER) {
		if (value.bits < size * 8)
			return unknown;
		return af_glue_number(value.n & unknown.n);
	}
	if (size >= 8)
		return value;
	if (af_glue_is_place(value))
		return (struct af_glue_value){AF_G_MIXED, 64, 0, 0};
	if (value.kind == AF_G_UNKNOWN) {
		unknown.n = value.n < unknown.n ? value.n : unknown.n;
		unknown.count = value.count;
	}
	return unknown;
}

static bool overlaps(const struct af_glue_slot *slot, int64_t offset, uint32_t size)
{
	return slot->offset < offset + (int64_t)size && offset < slot->offset + (int64_t)slot->size;
}

bool af_glue_load_slot(const struct af_glue_frame *frame, int64_t offset, uint32_t size,
		       struct af_glue_value *value)
{
	*value = af_glue_unknown(size);
	for (uint32_t i = 0; i < frame->n_slots; i++) {
		const struct af_glue_slot *slot = &frame->slots[i];
		if (!overlaps(slot, offset, size))
			continue;
		if (slot->offset == offset && size <= slot->size) {
			*value = af_glue_cut(slot->value, size);
			return true;
		}
		if (af_glue_is_place(slot->value))
			return false;
	}
	return true;
}

bool af_glue_store_slot(struct af_glue_frame *frame, int64_t offset, uint32_t size,
			struct af_glue_value value)
{
	for (uint32_t i = frame->n_slots; i-- > 0;) {
		struct af_glue_slot *slot = &frame->slots[i];
		if (!overlaps(slot, offset, size))
			continue;
		bool whole = slot->offset >= offset &&
			     slot->offset + (int64_t)slot->size <= offset + (int64_t)size;
		if (!whole && af_glue_is_place(slot->value))
			slot->value = (struct af_glue_value){AF_G_MIXED, 64, 0, 0};
		else
			*slot = frame->slots[--frame->n_slots];
	}
	if (value.kind == AF_G_UNKNOWN && value.n == UINT64_MAX && !value.count)
		return true;
	if (frame->n_slots == AF_G_SLOTS)
		return !af_glue_is_place(value);
	frame->slots[frame->n_slots++] = (struct af_glue_slot){offset, size, value};
	return true;
}

static const struct af_glue_slot *find_slot(const struct af_glue_frame *frame,
					    const struct af_glue_slot *like)
{
	for (uint32_t i = 0; i < frame->n_slots; i++)
		if (frame->slots[i].offset == like->offset && frame->slots[i].size == like->size)
			return &frame->slots[i];
	return NULL;
}

/* A place that only one of both knows stays, so that it is not taken for a number. */
static bool merge_slots(struct af_glue_frame *into, const struct af_glue_frame *from)
{
	bool changed = false;

	for (uint32_t i = into->n_slots; i-- > 0;) {
		struct af_glue_slot *slot = &into->slots[i];
		const struct af_glue_slot *other = find_slot(from, slot);
		struct af_glue_value joined =
			af_glue_join(slot->value, other ? other->value : af_glue_unknown(8));
		if (same(joined, slot->value))
			continue;
		changed = true;
		slot->value = joined;
		if (joined.kind == AF_G_UNKNOWN)
			*slot = into->slots[--into->n_slots];
	}
	for (uint32_t i = 0; i < from->n_slots; i++) {
		const struct af_glue_slot *slot = &from->slots[i];
		if (!af_glue_is_place(slot->value) || find_slot(into, slot))
			continue;
		changed = true;
		if (into->n_slots == AF_G_SLOTS)
			into->regs[AF_G_RSP].kind = AF_G_MIXED; /* no way on */
		else
			into->slots[into->n_slots++] = (struct af_glue_slot){
				slot->offset, slot->size, {AF_G_MIXED, 64, 0, 0}};
	}
	return changed;
}

static bool merge_flags(struct af_glue_frame *into, const struct af_glue_frame *from)
{
	uint8_t known =
		into->flags_known & from->flags_known & (uint8_t) ~(into->flags ^ from->flags);
	bool changed = known != into->flags_known;

	into->flags_known = known;
	if (into->compared >= 0 &&
	    (into->compared != from->compared || into->compared_with != from->compared_with ||
	     into->compared_size != from->compared_size)) {
		into->compared = -1;
		changed = true;
	}
	return changed;
}

bool af_glue_merge(struct af_glue_frame *into, const struct af_glue_frame *from)
{
	bool changed = false;

	for (int i = 0; i < AF_G_REGISTERS; i++) {
		struct af_glue_value joined = af_glue_join(into->regs[i], from->regs[i]);
		changed |= !same(joined, into->regs[i]);
		into->regs[i] = joined;
	}
	changed |= merge_slots(into, from);
	changed |= merge_flags(into, from);
	for (int i = 0; i < AF_GLUE_WORDS; i++) {
		uint64_t both = into->touched[i] & from->touched[i];
		changed |= both != into->touched[i];
		into->touched[i] = both;
	}
	changed |= (into->state_read && !from->state_read) || (!into->flag_lost && from->flag_lost);
	into->state_read &= from->state_read;
	into->flag_lost |= from->flag_lost;
	return changed;
}

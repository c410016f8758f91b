/* SPDX-License-Identifier: MIT */
#include "analysis/code.h"

#include <elf.h>
#include <stdlib.h>

#define CODE_MAX (1u << 20) /* bytes of one function */
#define ENTRIES_MAX 65536   /* of one function's tables */
#define TABLE_NEAR 96	    /* bytes of code between taking a table's address and the jump */

void af_code_deinit(struct af_code *flow)
{
	vector_deinit(&flow->code);
	vector_deinit(&flow->entries);
	free(flow->jumps);
	free(flow->state);
}

static bool keep_instruction(void *arg, const struct af_flow_instruction *instruction)
{
	struct af_code *flow = arg;
	struct af_flow_instruction *kept = vector_push(&flow->code);

	flow->b->failed |= !kept;
	if (kept)
		*kept = *instruction;
	return kept;
}

/* The first instruction at or behind an address. */
size_t af_code_lower_bound(const struct af_code *flow, uint64_t address)
{
	size_t low = 0, high = flow->code.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (flow->code.items[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t af_code_find(const struct af_code *flow, uint64_t address)
{
	size_t i = af_code_lower_bound(flow, address);
	bool found = i < flow->code.count && flow->code.items[i].address == address;
	return found ? (uint32_t)i : AFM_NONE;
}

static int compare_addresses(const void *a, const void *b)
{
	const struct af_flow_instruction *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* Whether control goes from instruction i on to i + 1. */
bool af_code_falls(const struct af_code *flow, size_t i)
{
	const struct af_flow_instruction *in = &flow->code.items[i];

	return (in->kind == AF_FLOW_ON || in->kind == AF_FLOW_NOP || in->kind == AF_FLOW_BRANCH) &&
	       i + 1 < flow->code.count && (in + 1)->address == in->address + in->size;
}

/* The entries of a table of 32-bit distances from itself, as far as they lead to instructions. False
   if it is none. */
static bool read_table(struct af_code *flow, uint64_t table)
{
	uint64_t available;
	const uint8_t *bytes = af_object_bytes(flow->b->object, table, &available);
	size_t before = flow->entries.count;

	for (uint64_t i = 0; bytes && i + 4 <= available; i += 4) {
		int32_t distance;
		memcpy(&distance, bytes + i, sizeof(distance));
		uint32_t to = af_code_find(flow, table + (uint64_t)(int64_t)distance);
		if (to == AFM_NONE || flow->entries.count == ENTRIES_MAX)
			break;
		uint32_t *entry = vector_push(&flow->entries);
		flow->b->failed |= !entry;
		if (entry)
			*entry = to;
	}
	return flow->entries.count > before;
}

/* Finds tables by the instructions that take their addresses, lea reg, [rip + rel32], in code of
   x86-64; and which jumps follow on one. */
static void find_tables(struct af_code *flow, uint64_t start, const uint8_t *bytes, uint64_t size)
{
	uint64_t known = 0; /* where the last address of a table was taken */

	for (size_t i = af_code_lower_bound(flow, start);
	     i < flow->code.count && flow->code.items[i].address < start + size; i++) {
		const struct af_flow_instruction *in = &flow->code.items[i];
		const uint8_t *at = bytes + (in->address - start);
		int32_t distance;
		if (in->kind == AF_FLOW_TABLE && known && in->address - known < TABLE_NEAR)
			flow->state[i] |= AF_CODE_TABLE;
		if (in->size != 7 || (at[0] & 0xfb) != 0x48 || at[1] != 0x8d || (at[2] & 0xc7) != 5)
			continue;
		memcpy(&distance, at + 3, sizeof(distance));
		if (read_table(flow, in->address + 7 + (uint64_t)(int64_t)distance))
			known = in->address;
	}
}

static void find_all_tables(struct af_code *flow, const struct af_die *function)
{
	struct af_ranges ranges;
	uint64_t start, end, available;

	if (flow->b->object->machine != EM_X86_64 || !af_ranges_start(&ranges, function))
		return;
	while (af_ranges_next(&ranges, &start, &end))
		find_tables(flow, start, af_object_bytes(flow->b->object, start, &available),
			    end - start);
}

static void mark_targets(struct af_code *flow)
{
	for (size_t i = 0; i < flow->code.count; i++)
		if (flow->jumps[i] != AFM_NONE)
			flow->state[flow->jumps[i]] |= AF_CODE_TARGET;
	for (size_t i = 0; i < flow->entries.count; i++)
		flow->state[flow->entries.items[i]] |= AF_CODE_TARGET;
}

/* What fills up to an aligned block behind a jump is nobody's way into that block. */
static void cut_padding(struct af_code *flow)
{
	size_t n = flow->code.count;

	for (size_t i = 1; i < n; i++)
		if (flow->code.items[i].kind == AF_FLOW_NOP && !(flow->state[i] & AF_CODE_TARGET) &&
		    !af_code_falls(flow, i - 1))
			flow->code.items[i].kind = AF_FLOW_AWAY;
}

bool af_code_decode(struct af_code *flow, const struct af_die *function)
{
	struct af_ranges ranges;
	uint64_t start, end, available, all = 0;

	if (!af_ranges_start(&ranges, function))
		return false;
	while (af_ranges_next(&ranges, &start, &end)) {
		const uint8_t *bytes = af_object_bytes(flow->b->object, start, &available);
		if (start >= end || !bytes || end - start > available ||
		    (all += end - start) > CODE_MAX)
			return false;
		if (!af_flow_decode(flow->b->object->machine, start, bytes, end - start,
				    keep_instruction, flow))
			return false;
	}
	size_t n = flow->code.count;
	vector_sort(&flow->code, compare_addresses);
	flow->jumps = reallocarray(NULL, n + 1, sizeof(*flow->jumps));
	flow->state = calloc(n + 1, 1);
	if (!flow->jumps || !flow->state) {
		flow->b->failed = true;
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		const struct af_flow_instruction *in = &flow->code.items[i];
		bool jumps = in->kind == AF_FLOW_BRANCH || in->kind == AF_FLOW_JUMP;
		flow->jumps[i] = jumps ? af_code_find(flow, in->target) : AFM_NONE;
	}
	find_all_tables(flow, function);
	mark_targets(flow);
	cut_padding(flow);
	return n > 0 && !flow->b->failed;
}

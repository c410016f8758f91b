/* SPDX-License-Identifier: MIT */
/*
 * What a task root that is nothing but a jump jumps to. Of tokio's raw::poll<T, S> optimised code leaves
 * `jmp Harness<T, S>::poll`: so it is the latter that stands on the stack of a thread that polls the task.
 */
#include <elf.h>

#include "analysis/polls.h"

#define JUMP 5 /* jmp rel32: E9 */

struct body {
	uint64_t address;
	uint32_t poll;
};

static int compare_bodies(const void *a, const void *b)
{
	const struct body *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* Where a function goes that is nothing but a jump; 0 if it is not. */
static uint64_t jump_of(const struct af_builder *b, const struct afm_poll *poll)
{
	uint64_t available;
	const uint8_t *code = af_object_bytes(b->object, poll->address, &available);
	int32_t distance;

	if (poll->size != JUMP || !code || available < JUMP || code[0] != 0xe9)
		return 0;
	memcpy(&distance, code + 1, sizeof(distance));
	return poll->address + JUMP + (uint64_t)(int64_t)distance;
}

void af_bodies_find(struct af_builder *b)
{
	VECTOR(struct body) bodies = {0};

	for (uint32_t i = 0; i < b->polls.count && b->object->machine == EM_X86_64; i++) {
		const struct afm_poll *poll = &b->polls.items[i];
		uint64_t to = poll->kind == AFM_P_TASK_ROOT ? jump_of(b, poll) : 0;
		if (!to || af_polls_at(b, to))
			continue;
		struct body *kept = vector_push(&bodies);
		b->failed |= !kept;
		if (kept)
			*kept = (struct body){to, i};
	}
	vector_sort(&bodies, compare_bodies);
	size_t n = bodies.count;
	uint64_t *addresses = reallocarray(NULL, n + 1, 2 * sizeof(*addresses));
	uint64_t *next = addresses ? addresses + n : NULL;
	b->failed |= !addresses;
	for (size_t i = 0; i < n && addresses; i++)
		addresses[i] = bodies.items[i].address;
	if (addresses)
		af_object_next_functions(b->object, addresses, n, next);
	for (size_t i = 0; i < n && addresses; i++) {
		bool shared = (i && addresses[i - 1] == addresses[i]) ||
			      (i + 1 < n && addresses[i + 1] == addresses[i]);
		uint64_t size = next[i] > addresses[i] ? next[i] - addresses[i] : 0;
		if (shared || !size || size > UINT32_MAX)
			continue;
		struct afm_poll *poll = &b->polls.items[bodies.items[i].poll];
		poll->body = addresses[i];
		poll->body_size = (uint32_t)size;
	}
	free(addresses);
	vector_deinit(&bodies);
}

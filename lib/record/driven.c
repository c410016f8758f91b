/* SPDX-License-Identifier: MIT */
#include "record/driven.h"

#include "record/parked.h"
#include "record/parked_places.h"
#include "record/syscall.h"
#include "record/thread.h"

#define PLACE_SHIFT 24 /* of a hook's word; below, the step + 1 */

/* DWARF numbers of x86-64. */
enum { RBX = 3, RBP = 6, RSP = 7, R12 = 12, R15 = 15 };

uint32_t af_driven_root(uint32_t place, const struct afm_poll *poll)
{
	_Static_assert(AF_PLACES <= 1u << (32 - PLACE_SHIFT), "it has room");
	if (poll->step >= (1u << PLACE_SHIFT) - 1 || !atomic_load(&af_parked_places[place].loaded))
		return 0;
	return place << PLACE_SHIFT | (poll->step + 1);
}

void af_driven_poll(uint64_t self, const struct af_hook *hook)
{
	uint32_t place = hook->root_id >> PLACE_SHIFT;
	uint32_t step = (hook->root_id & ((1u << PLACE_SHIFT) - 1)) - 1;
	if (self >= 4096 && !(self >> 47))
		af_parked_read(self, af_parked_future(place, step), hook->payload);
}

static const struct afm_stay *find_stay(const struct af_parked_place *p, uint64_t address)
{
	uint32_t low = 0, high = p->n_stays;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (p->stays[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < p->n_stays && p->stays[low].address == address ? &p->stays[low] : NULL;
}

/* A register of the frame that has called; 0 where it is not known. */
static uint64_t register_of(unsigned number, const uint64_t *saved, const uint64_t *frame)
{
	if (number == RSP)
		return (uint64_t)(frame + 2);
	if (number == RBP)
		return frame[0];
	if (number == RBX)
		return saved[1];
	return number >= R12 && number <= R15 ? saved[2 + number - R12] : 0;
}

/* Where the future is, or 0. */
static uint64_t place_of(const struct afm_stay *stay, const uint64_t *saved, const uint64_t *frame)
{
	uint64_t at = register_of(stay->base, saved, frame);
	if (!at)
		return 0;
	at += (uint64_t)stay->offset;
	if (stay->flags & AFM_PL_POINTER) {
		if (!af_are_readable(at, 8))
			return 0;
		at = *(const volatile uint64_t *)at + (uint64_t)stay->then;
	}
	return at < 4096 || at >> 47 ? 0 : at;
}

/* Records that the future at `at` waits; false if it does not. `number`: of the stay. */
static bool begin_wait(const struct af_hook *hook, uint64_t root, uint64_t at, bool far,
		       uint32_t number)
{
	if (!af_parked_read_doubtful(at, root, far, hook->payload))
		return false;
	if (number >= AFR_FUNCTION_UNKNOWN)
		number = AFR_FUNCTION_UNKNOWN;
	af_parked_note(AFR_WAIT, (uint64_t)number << AFR_FUNCTION_SHIFT | at);
	return true;
}

/* What a driver handed on to a function that runs its loop, for the time of that call. */
static __thread struct context {
	uint64_t at, root;
} context;

static uint64_t enter_context(uint64_t *saved, uint64_t at, uint64_t root)
{
	saved[0] = context.at;
	saved[1] = context.root;
	context = (struct context){at, root};
	return AF_DRIVEN_CONTEXT;
}

uint64_t af_driven_wait(const struct af_hook *hook, uint64_t *saved, const uint64_t *frame)
{
	uint32_t place = (uint32_t)hook->root, flags = hook->state;
	const struct af_parked_place *p = &af_parked_places[place];
	const struct afm_stay *stay = find_stay(p, frame[1] - p->load_bias);
	if (!stay && (!(flags & AFM_PK_INSIDE) || !context.at))
		return 0;
	uint64_t at = stay ? place_of(stay, saved, frame) : 0;
	uint64_t root = at ? af_parked_future(place, stay->step) : 0;
	if (at && root && (flags & AFM_PK_CONTEXT))
		return enter_context(saved, at, root);
	if (at && root && !(stay->flags & AFM_PL_HELD)) {
		bool far = stay->base != RSP || stay->flags;
		uint32_t number = (uint32_t)(stay - p->stays);
		return begin_wait(hook, root, at, far, number) ? at : 0;
	}
	at = context.at;
	return (flags & AFM_PK_INSIDE) && at &&
			       begin_wait(hook, context.root, at, true, AFR_FUNCTION_UNKNOWN)
		       ? at
		       : 0;
}

void af_driven_waited(uint64_t future, const uint64_t *saved)
{
	if (future != AF_DRIVEN_CONTEXT)
		af_parked_note(AFR_WAITED, future);
	else
		context = (struct context){saved[0], saved[1]};
}

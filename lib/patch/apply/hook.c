/* SPDX-License-Identifier: MIT */
/*
 * What a stub has to know of its function: where `self` is at entry, where a coroutine
 * keeps its state, where a hand-written poll returns the tag of its Poll.
 *
 * A value of more than 16 bytes is returned in the caller's memory, whose address is then
 * the first argument (psABI x86-64, 3.2.3); up to 8 bytes in rax. In between rustc's
 * choice is not in debug info, so the first hit decides: whichever of rsi and rdx points
 * to a Context (its waker: data and a table of four functions) is the second parameter,
 * and the register before it is self.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "patch/apply/apply.h"
#include "record/driven.h"
#include "record/parked.h"
#include "record/syscall.h"
#include "record/thread.h"

#define DECIDE_TRIES 8

static uint64_t width_mask(unsigned width)
{
	return width >= 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * width)) - 1;
}

static void tag_in_registers(struct af_hook *hook)
{
	unsigned at = hook->tag_offset % 8, width = hook->tag_width;
	if (hook->tag_offset >= 16 || at + width > 8)
		return;
	hook->tag = hook->tag_offset < 8 ? AF_TAG_RAX : AF_TAG_RDX;
	hook->mask = width_mask(width) << (8 * at);
	hook->pending = (hook->pending & width_mask(width)) << (8 * at);
}

static void tag_in_memory(struct af_hook *hook)
{
	unsigned width = hook->tag_width;
	hook->tag = width == 1	 ? AF_TAG_MEMORY1
		    : width == 2 ? AF_TAG_MEMORY2
		    : width == 4 ? AF_TAG_MEMORY4
				 : AF_TAG_MEMORY8;
	hook->mask = width_mask(width);
	hook->pending &= hook->mask;
}

static void set_registers(struct af_hook *hook, bool returns_in_memory)
{
	hook->flags &= ~AF_HOOK_UNDECIDED;
	hook->self = returns_in_memory ? AF_FRAME_RSI : AF_FRAME_RDI;
	hook->self_mask = AFR_SUBJECT_MASK;
	if (!hook->tag_width)
		return;
	if (returns_in_memory)
		tag_in_memory(hook);
	else
		tag_in_registers(hook);
}

static af_stub *init_root(struct af_hook *hook, const struct af_futuremap *map, uint32_t place,
			  const struct afm_poll *poll)
{
	uint64_t vtable, id;
	hook->self = AF_FRAME_RDI;
	hook->kind = AFR_ENTER_TASK_AT;
	hook->self_mask = AFR_SUBJECT_MASK;
	/* One address for several tasks' futures: which one lies there, cannot be told. */
	if (poll->root != AFM_NONE && !(poll->flags & AFM_PF_AMBIGUOUS))
		hook->root = af_parked_root(place, af_futuremap_roots(map, poll->root));
	if (poll->root != AFM_NONE &&
	    af_futuremap_roots(map, poll->root)->executor == AFM_X_TOKIO &&
	    af_futuremap_layout(map, "tokio.Header.vtable", &vtable) &&
	    af_futuremap_layout(map, "tokio.Vtable.id_offset", &id) && vtable < 4096 && id < 4096) {
		hook->state = (uint32_t)vtable;
		hook->root_id = (uint32_t)id;
		return af_stub_tokio_root;
	}
	return hook->root ? af_stub_root : af_stub_plain;
}

/* `self` is looked at where debug info or the first hit tells its register; of coroutines that is
   certain enough otherwise. */
static bool may_be_read(const struct af_hook *hook, const struct afm_poll *poll, bool coroutine)
{
	if (hook->flags & AF_HOOK_UNDECIDED)
		return true;
	return hook->self_mask &&
	       (coroutine || poll->self_register == AFM_R_RDI || poll->self_register == AFM_R_RSI);
}

af_stub *af_hook_init_park(struct af_hook *hook, const struct afm_park *park, uint32_t place,
			   uint32_t function)
{
	memset(hook, 0, sizeof(*hook));
	hook->payload = (uint64_t)function << AFR_FUNCTION_SHIFT;
	hook->root = place;
	hook->state = park->flags;
	return af_stub_park;
}

af_stub *af_hook_init(struct af_hook *hook, const struct af_futuremap *map, uint32_t place,
		      const struct afm_poll *poll, uint32_t function)
{
	memset(hook, 0, sizeof(*hook));
	hook->payload = (uint64_t)function << AFR_FUNCTION_SHIFT;
	hook->kind = AFR_ENTER;
	hook->self = AF_FRAME_RDI;
	if (poll->kind == AFM_P_TASK_ROOT)
		return init_root(hook, map, place, poll);

	hook->tag_width = poll->tag_width <= 8 ? poll->tag_width : 0;
	hook->tag_offset = poll->tag_offset;
	hook->pending = poll->pending;
	if (poll->self_register == AFM_R_RDI)
		set_registers(hook, false);
	else if (poll->self_register == AFM_R_RSI)
		set_registers(hook, true);
	else if (poll->self_register == AFM_R_UNKNOWN && poll->return_size > 8)
		hook->flags |= AF_HOOK_UNDECIDED;
	else if (poll->self_register == AFM_R_UNKNOWN)
		set_registers(hook, false);

	const struct afm_future *future = NULL;
	if (poll->n_futures == 1)
		future = af_futuremap_futures(map,
					      *af_futuremap_poll_futures(map, poll->first_future));
	bool coroutine = poll->kind == AFM_P_ASYNC_BODY || poll->kind == AFM_P_GENERATOR;
	if (!coroutine || !future || future->state_size != 1 || future->state_offset == AFM_NONE ||
	    (!hook->self_mask && !(hook->flags & AF_HOOK_UNDECIDED)))
		coroutine = false;
	if (!(poll->flags & AFM_PF_AMBIGUOUS) && may_be_read(hook, poll, coroutine))
		hook->root_id = af_driven_root(place, poll);
	if (!coroutine)
		return hook->root_id ? af_stub_driven_plain : af_stub_plain;
	hook->state = future->state_offset;
	return hook->root_id ? af_stub_driven_coroutine : af_stub_coroutine;
}

/* --- the decision at the first hit --------------------------------------------------- */

static bool read_words(uint64_t address, uint64_t *words, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (!af_is_readable(address + 8 * i))
			return false;
		words[i] = *(const volatile uint64_t *)(address + 8 * i);
	}
	return true;
}

static bool is_vtable(uint64_t address)
{
	uint64_t functions[4], code;
	if (!read_words(address, functions, 4))
		return false;
	for (int i = 0; i < 4; i++) {
		/* A function's address, somewhere readable and not in the first page. */
		if (functions[i] < 4096 || functions[i] >> 47 ||
		    !read_words(functions[i] & ~UINT64_C(7), &code, 1))
			return false;
	}
	return true;
}

/* A Context's first word is a &Waker; a Waker is {data, vtable} in either order. */
static bool is_context(uint64_t address)
{
	uint64_t waker, words[2];
	return read_words(address, &waker, 1) && read_words(waker, words, 2) &&
	       (is_vtable(words[0]) || is_vtable(words[1]));
}

void af_hook_decide(struct af_hook *hook, uint64_t rdi, uint64_t rsi, uint64_t rdx)
{
	struct af_hook decided = *hook;
	/* A poll whose Context was optimised away never shows it: do not look for ever. */
	if (hook->tries == DECIDE_TRIES)
		return;
	hook->tries++;
	if (is_context(rsi))
		set_registers(&decided, false);
	else if (is_context(rdx))
		set_registers(&decided, true);
	else
		return; /* the next hit may show it; until then result and self are unknown */
	/* Another thread may decide at the same time, to the same end; the flag goes last. */
	hook->self = decided.self;
	hook->tag = decided.tag;
	hook->mask = decided.mask;
	hook->pending = decided.pending;
	hook->self_mask = decided.self_mask;
	__atomic_store_n(&hook->flags, decided.flags, __ATOMIC_RELEASE);
}

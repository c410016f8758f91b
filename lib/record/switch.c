/* SPDX-License-Identifier: MIT */
#include "record/switch.h"

#include <stddef.h>

#include "record/lock.h"
#include "record/parked.h"
#include "record/thread.h"

/* Under the lock, af_gate.switching: */
static struct af_ways *places[AF_PLACES];
static _Atomic bool paused, full;
static uint64_t since; /* ticks when it was paused; 0: before any session */

bool af_switch_is_off(void)
{
	return atomic_load(&paused) || atomic_load(&full);
}

/* Whoever is on its way through a cell meanwhile goes the old way or the new one. */
static void lead_place(struct af_ways *ways)
{
	uint64_t off = atomic_load(&full) ? ways->off_full : ways->off;
	bool on = !af_switch_is_off();
	for (uint32_t i = 0; i < AF_STUBS; i++)
		for (uint32_t k = 0; k < AF_OFFS; k++)
			atomic_store_explicit(&ways->in[i][k],
					      on ? ways->on[i] : off + k * AF_OFF_SIZE,
					      memory_order_relaxed);
}

static void lead(void)
{
	for (uint32_t i = 0; i < AF_PLACES; i++)
		if (places[i])
			lead_place(places[i]);
	__asm__ volatile("mfence" : : : "memory"); /* seen by all threads from here on */
}

static uint64_t ticks(void)
{
	uint32_t low, high;
	__asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
	return ((uint64_t)high << 32 | low) - af_record_base;
}

static void commit(struct afr_record *slot, enum afr_kind kind, uint64_t now, uint64_t word1)
{
	if (!slot)
		return;
	slot->word1 = word1;
	__atomic_store_n(&slot->word0, now << AFR_KIND_BITS | kind, __ATOMIC_RELEASE);
}

/* For who looks into the process. */
static void note(uint64_t on_since)
{
	struct af_session *s = af_record_session();
	if (s)
		atomic_store(&s->on_since, on_since);
}

void af_switch_add(uint32_t place, struct af_ways *ways)
{
	uint64_t before = 0;
	af_block_signals(&before);
	af_lock(&af_gate.switching);
	places[place] = ways;
	lead_place(ways);
	af_unlock(&af_gate.switching);
	af_unblock_signals(&before);
}

/* The slot is taken before the lock: that may take a chunk, and find that the file is full. And
   before the time is read, see af_chunk.taken. */

void af_switch_pause(void)
{
	uint64_t before = 0;
	struct afr_record *slot = NULL;
	af_block_signals(&before);
	/* A forked process that has not recorded yet has nothing to say it to. */
	if (!atomic_load(&paused) && af_record_session())
		slot = af_record_slot();
	af_lock(&af_gate.switching);
	uint64_t now = ticks();
	commit(slot, AFR_PAUSED, now, 0);
	note(UINT64_MAX);
	if (!atomic_load(&paused)) {
		since = af_record_base ? now : 0;
		atomic_store(&paused, true);
		lead();
	}
	af_unlock(&af_gate.switching);
	af_unblock_signals(&before);
}

bool af_switch_resume(void)
{
	uint64_t before = 0;
	struct afr_record *slot = NULL;
	af_block_signals(&before);
	if (atomic_load(&paused) && af_record_base)
		slot = af_record_slot();
	af_lock(&af_gate.switching);
	bool was = atomic_exchange(&paused, false), good = !atomic_load(&full);
	if (was)
		lead();
	uint64_t now = ticks();
	commit(slot, AFR_RESUMED, now, was ? since : now);
	if (was)
		note(now);
	af_unlock(&af_gate.switching);
	af_unblock_signals(&before);
	return good;
}

void af_switch_tell(void)
{
	uint64_t before = 0;
	if (!atomic_load(&paused))
		return;
	af_block_signals(&before);
	struct afr_record *slot = af_record_slot();
	af_lock(&af_gate.switching);
	uint64_t now = ticks();
	bool still = atomic_load(&paused);
	if (still && !since)
		since = now;
	commit(slot, still ? AFR_PAUSED : AFR_RESUMED, now, still ? 0 : now);
	if (still)
		note(UINT64_MAX);
	af_unlock(&af_gate.switching);
	af_unblock_signals(&before);
}

static void set_full(bool value)
{
	af_lock(&af_gate.switching);
	atomic_store(&full, value);
	lead();
	af_unlock(&af_gate.switching);
}

void af_switch_full(void)
{
	if (!atomic_load(&full))
		set_full(true);
}

/* In any case: another thread of the parent may have been in the middle of a switch, and is not here. */
void af_switch_forked(void)
{
	set_full(false);
}

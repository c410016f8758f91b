/* SPDX-License-Identifier: MIT */
/*
 * The slow path of recording: a thread takes its first chunk, or leaves a full one for
 * the next.
 *
 * Runs in the host, in any thread, in signal handlers, at any moment of a thread's life:
 * no libc, no lock, no allocation, no vector register (compiled with
 * -mgeneral-regs-only), no errno. All signals are blocked while a chunk is changed, so
 * that a handler that polls meets a whole thread structure.
 *
 * Where no chunk is free the thread waits for the companion, as long as that drains others, and then
 * writes into the sink: memory that nobody reads, counted as dropped.
 */
#include "record/thread.h"

#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#include "record/lock.h"
#include "record/switch.h"
#include "record/syscall.h"

#define OFFSET(type, field, value) \
	_Static_assert(offsetof(struct type, field) == (value), #type "." #field)
OFFSET(af_thread, nobody, AF_THREAD_CURSOR);
OFFSET(af_thread, cursor, AF_GATE_OPEN + AF_THREAD_CURSOR);
OFFSET(af_thread, limit, AF_GATE_OPEN + AF_THREAD_LIMIT);
OFFSET(af_gate, shift, 0);
OFFSET(af_hook, resume, AF_HOOK_RESUME);
OFFSET(af_hook, payload, AF_HOOK_PAYLOAD);
OFFSET(af_hook, self, AF_HOOK_SELF);
OFFSET(af_hook, state, AF_HOOK_STATE);
OFFSET(af_hook, kind, AF_HOOK_KIND);
OFFSET(af_hook, tag, AF_HOOK_TAG);
OFFSET(af_hook, flags, AF_HOOK_FLAGS);
OFFSET(af_hook, tag_offset, AF_HOOK_TAG_OFFSET);
OFFSET(af_hook, root_id, AF_HOOK_ROOT_ID);
OFFSET(af_hook, mask, AF_HOOK_MASK);
OFFSET(af_hook, pending, AF_HOOK_PENDING);
OFFSET(af_hook, root, AF_HOOK_ROOT);
OFFSET(af_hook, self_mask, AF_HOOK_SELF_MASK);
_Static_assert(sizeof(struct af_hook) == 64, "one cache line");
_Static_assert(sizeof(struct af_gate) == 4096, "one page");
_Static_assert(AF_SLOT_MASK == AF_CHUNK_SIZE - sizeof(struct af_chunk), "the header's slots");

#define WAIT_STEP_NS 5000000 /* 5 ms, up to */
#define WAIT_IDLE 200	     /* 1 s without a chunk that was drained, then drop */
#define WAIT_STEPS 400	     /* 2 s of such steps in all */
#define WAIT_LATE 2000	     /* times that others were faster */

__thread struct af_thread af_thread;
uint64_t af_record_base;
uint64_t af_main_hooks;
void (*af_record_decide)(struct af_hook *hook, uint64_t rdi, uint64_t rsi, uint64_t rdx);

struct af_session *(*af_record_fork)(struct af_session *parents);
bool (*af_record_drain)(struct af_session *session);

enum { GATE_CLOSED = 0, GATE_OPENING, GATE_OPEN };
struct af_gate af_gate __attribute__((aligned(4096)));

static struct af_session *_Atomic session;
static uint32_t generation; /* of `session`: one more in every forked process */

/* How many chunks had been drained, + 1, when a thread of this process had waited in vain: nobody
   waits any more until there are others. */
static _Atomic uint64_t stuck;

/* Where records go that cannot be kept. Threads overwrite each other's: nobody reads it. */
static struct afr_record sink[AF_CHUNK_SIZE / sizeof(struct afr_record)]
	__attribute__((aligned(AF_CHUNK_SIZE)));
#define SINK_RECORDS (AF_CHUNK_RECORDS)

static void open_gate(struct af_session *s)
{
	atomic_store(&session, s);
	atomic_store(&stuck, 0);
	generation++;
	__atomic_store_n(&af_gate.shift, AF_GATE_OPEN, __ATOMIC_RELEASE);
	atomic_store(&af_gate.state, GATE_OPEN);
	af_syscall4(SYS_futex, (long)&af_gate.state, FUTEX_WAKE, INT32_MAX, 0);
}

void af_record_start(struct af_session *s)
{
	af_record_base = s->base_tsc;
	/* Refused by kernels before 4.14: then only what libc forks is noticed. */
	af_syscall4(SYS_madvise, (long)&af_gate, sizeof(af_gate), MADV_WIPEONFORK, 0);
	open_gate(s);
}

struct af_session *af_record_session(void)
{
	return atomic_load(&af_gate.state) == GATE_OPEN ? atomic_load(&session) : NULL;
}

uint32_t af_record_generation(void)
{
	return __atomic_load_n(&generation, __ATOMIC_RELAXED);
}

void af_record_forked(void)
{
	af_thread = (struct af_thread){0};
	af_gate.shift = 0;
	atomic_store(&af_gate.state, GATE_CLOSED);
	atomic_store(&af_gate.switching, 0);
}

/* This process was forked: its first record gives it a session of its own. */
static void meet_closed_gate(void)
{
	uint32_t state = GATE_CLOSED;
	if (atomic_compare_exchange_strong(&af_gate.state, &state, GATE_OPENING)) {
		struct af_session *parents = atomic_load(&session);
		open_gate(parents ? af_record_fork(parents) : NULL);
		af_thread = (struct af_thread){.generation = generation};
		af_switch_forked();
		return;
	}
	while (atomic_load(&af_gate.state) == GATE_OPENING)
		af_syscall6(SYS_futex, (long)&af_gate.state, FUTEX_WAIT, GATE_OPENING, 0, 0, 0);
}

/* One that nobody has used before: so that memory is touched only as needed. */
static struct af_chunk *take_fresh_chunk(struct af_session *s)
{
	uint32_t index = atomic_load(&s->chunks_used);
	do {
		if (index >= s->n_chunks)
			return NULL;
	} while (!atomic_compare_exchange_weak(&s->chunks_used, &index, index + 1));
	return af_session_chunk(s, index);
}

static struct af_chunk *take_free_chunk(struct af_session *s)
{
	uint64_t head = atomic_load_explicit(&s->free_list, memory_order_acquire);
	for (;;) {
		uint32_t index = (uint32_t)head;
		if (!index || index > s->n_chunks)
			return take_fresh_chunk(s);
		struct af_chunk *chunk = af_session_chunk(s, index - 1);
		/* May be stale if another thread takes it meanwhile: then the tag differs
		   and the exchange fails. */
		uint64_t next = atomic_load_explicit(&chunk->next, memory_order_relaxed);
		uint64_t tag = (head >> 32) + 1;
		/* Acquire: pairs with the companion's release in giving it back; it has read
		   the old records before ours are written. */
		if (atomic_compare_exchange_weak_explicit(&s->free_list, &head, tag << 32 | next,
							  memory_order_acq_rel,
							  memory_order_acquire))
			return chunk;
	}
}

/* Whether anybody will read what is written into a chunk. */
static bool is_drained(struct af_session *s)
{
	return atomic_load(&s->companion_state) != AF_COMPANION_DONE &&
	       atomic_load(&s->drained_by_host) != AF_OWN_OVER;
}

/* One that a thread waits for may be another's as soon as it is there: to be too late for it is no
   time that was waited in vain. */
static struct af_chunk *wait_for_chunk(struct af_session *s)
{
	struct timespec step = {.tv_nsec = WAIT_STEP_NS};
	struct af_chunk *chunk = NULL;
	uint32_t steps = 0, idle = 0, late = 0;
	atomic_fetch_add(&s->host_waiters, 1);
	/* The companion is to look for threads that are gone. */
	af_syscall4(SYS_futex, (long)&s->full_count, FUTEX_WAKE, 1, 0);
	for (;;) {
		uint32_t seen = atomic_load(&s->freed_count);
		if ((chunk = take_free_chunk(s)))
			break;
		if (af_record_drain(s) && (chunk = take_free_chunk(s)))
			break;
		if (idle == WAIT_IDLE)
			atomic_store(&stuck, (uint64_t)seen + 1);
		if (!is_drained(s) || atomic_load(&stuck) == (uint64_t)seen + 1 ||
		    steps == WAIT_STEPS || late == WAIT_LATE)
			break;
		af_syscall6(SYS_futex, (long)&s->freed_count, FUTEX_WAIT, seen, (long)&step, 0, 0);
		bool same = atomic_load(&s->freed_count) == seen;
		idle = same ? idle + 1 : 0;
		steps += same;
		late += !same;
	}
	atomic_fetch_sub(&s->host_waiters, 1);
	return chunk;
}

static void leave_chunk(struct af_session *s, struct af_thread *t)
{
	t->chunk->filled = AF_CHUNK_RECORDS * sizeof(struct afr_record);
	/* Release: pairs with the companion's acquire; `filled` is there before FULL. */
	atomic_store_explicit(&t->chunk->state, AF_CHUNK_FULL, memory_order_release);
	t->chunk = NULL;
	uint32_t count = atomic_fetch_add(&s->full_count, 1);
	/* It also looks by itself, every few milliseconds: an eighth of all chunks may wait. */
	if (count % (AF_CHUNKS / 8) == 0)
		af_syscall4(SYS_futex, (long)&s->full_count, FUTEX_WAKE, 1, 0);
}

static void use_chunk(struct af_session *s, struct af_thread *t, struct af_chunk *chunk)
{
	bool confined = atomic_load(&s->confined);
	if (!t->number) {
		t->tid = confined ? 0 : (uint32_t)af_syscall4(SYS_gettid, 0, 0, 0, 0);
		t->number = atomic_fetch_add(&s->threads, 1) + 1;
	}
	chunk->tid = t->tid;
	chunk->thread = t->number - 1;
	chunk->sequence = t->sequence++;
	chunk->filled = 0;
	/* Every time stamp in it is read after its slot was taken, so after this one. */
	chunk->taken = __builtin_ia32_rdtsc() - af_record_base;
	chunk->name[0] = '\0'; /* then the companion asks */
	if (!confined)
		af_syscall4(SYS_prctl, PR_GET_NAME, (long)chunk->name, 0, 0);
	atomic_store_explicit(&chunk->state, AF_CHUNK_ACTIVE, memory_order_release);
	t->chunk = chunk;
	t->cursor = (uint64_t)af_chunk_records(chunk);
	t->limit = t->cursor + AF_CHUNK_RECORDS * sizeof(struct afr_record);
}

/* The record that is waiting for a slot is lost now, the others when the sink is full; what a
   thread that ends before that has lost beside the first is not known. */
static void use_sink(struct af_session *s, struct af_thread *t)
{
	if (s)
		atomic_fetch_add(&s->dropped, 1);
	t->sunk_from = t->cursor = (uint64_t)sink + sizeof(struct af_chunk);
	t->limit = (uint64_t)sink + sizeof(sink);
}

/*
 * In a forked process another thread was the first to record, and this one, which forked,
 * has gone on where its parent's chunk was: in memory that was put there for the purpose
 * (start.c). What it has recorded since moves into its own first chunk.
 */
static void move_records(struct af_thread *t, struct af_chunk *stale)
{
	const struct afr_record *from = af_chunk_records(stale);
	struct afr_record *to = af_chunk_records(t->chunk);
	uint32_t used = 0;
	for (uint32_t i = 0; i < AF_CHUNK_RECORDS; i++) {
		to[i] = from[i];
		if (from[i].word0) {
			uint64_t ticks = afr_ticks(&from[i]);
			if (ticks < t->chunk->taken)
				t->chunk->taken = ticks;
			used = i + 1;
		}
	}
	t->cursor += used * sizeof(*to);
}

/* The next chunk, or the sink. */
static void refill(struct af_session *s, struct af_thread *t)
{
	if (s && t->sunk_from)
		atomic_fetch_add(&s->dropped, SINK_RECORDS - 1);
	t->sunk_from = 0;
	if (s && atomic_load(&s->full))
		af_switch_full();
	if (s && t->chunk)
		leave_chunk(s, t);
	if (s && atomic_load(&s->drained_by_host) == AF_OWN_DRAINING)
		af_record_drain(s);
	struct af_chunk *chunk = s && is_drained(s) ? take_free_chunk(s) : NULL;
	if (s && !chunk && is_drained(s))
		chunk = wait_for_chunk(s);
	if (chunk)
		use_chunk(s, t, chunk);
	else
		use_sink(s, t);
}

/* With all signals blocked. */
static void next_place(struct af_thread *t)
{
	if (!__atomic_load_n(&af_gate.shift, __ATOMIC_ACQUIRE))
		meet_closed_gate();
	t->nobody[0] = 0;
	struct af_session *s = atomic_load(&session);
	struct af_chunk *stale = NULL;
	if (t->generation != generation) {
		stale = t->chunk; /* the parent process's */
		*t = (struct af_thread){.generation = generation};
	}
	/* A handler may have come between the stub's xadd and here, and done it already. */
	if (t->cursor >= t->limit)
		refill(s, t);
	if (stale && t->chunk)
		move_records(t, stale);
}

/* From the stubs, when the slot they took lies behind the thread's limit. */
void af_record_refill(void)
{
	uint64_t before = 0;
	af_block_signals(&before);
	next_place(&af_thread);
	af_unblock_signals(&before);
}

void af_record_confine(void)
{
	uint64_t before = 0;
	if (!atomic_load(&session)) /* nothing is hooked, or nothing can be recorded */
		return;
	af_block_signals(&before);
	next_place(&af_thread);
	struct af_session *s = atomic_load(&session);
	if (s)
		atomic_store(&s->confined, 1);
	af_unblock_signals(&before);
}

struct afr_record *af_record_slot(void)
{
	for (;;) {
		/* As the stubs do: one instruction, which a signal handler cannot split. */
		uint64_t *place = (uint64_t *)((char *)&af_thread + af_gate.shift);
		uint64_t slot = sizeof(struct afr_record);
		__asm__("xaddq %0, %1"
			: "+r"(slot), "+m"(place[AF_THREAD_CURSOR / sizeof(*place)]));
		if (slot & AF_SLOT_MASK)
			return (struct afr_record *)slot;
		af_record_refill();
	}
}

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
 * Where no chunk is free the thread waits for the companion, for a bounded time, and then
 * writes into the sink: memory that nobody reads, counted as dropped.
 */
#include "record/thread.h"

#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <time.h>

#include "record/syscall.h"

#define OFFSET(type, field, value) \
	_Static_assert(offsetof(struct type, field) == (value), #type "." #field)
OFFSET(af_thread, cursor, AF_THREAD_CURSOR);
OFFSET(af_thread, limit, AF_THREAD_LIMIT);
OFFSET(af_hook, displaced, AF_HOOK_DISPLACED);
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
OFFSET(af_hook, self_mask, AF_HOOK_SELF_MASK);
_Static_assert(sizeof(struct af_hook) == 64, "one cache line");

#define WAIT_STEP_NS 5000000 /* 5 ms, up to */
#define WAIT_STEPS 40	     /* 200 ms in all, then drop */

__thread struct af_thread af_thread __attribute__((tls_model("initial-exec")));
uint64_t af_record_base;
void (*af_record_decide)(struct af_hook *hook, uint64_t rdi, uint64_t rsi, uint64_t rdx);

static struct af_session *_Atomic session;
static _Atomic bool give_up; /* the companion is gone: wait for nothing */

/* Where records go that cannot be kept. Threads overwrite each other's: nobody reads it. */
static struct afr_record sink[512] __attribute__((aligned(64)));

void af_record_refill(void);

void af_record_start(struct af_session *s)
{
	af_record_base = s->base_tsc;
	atomic_store(&session, s);
}

void af_record_forget(void)
{
	atomic_store(&session, NULL);
	af_thread = (struct af_thread){0};
}

static struct af_chunk *take_free_chunk(struct af_session *s)
{
	uint64_t head = atomic_load_explicit(&s->free_list, memory_order_acquire);
	for (;;) {
		uint32_t index = (uint32_t)head;
		if (!index || index > s->n_chunks)
			return NULL;
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

static struct af_chunk *wait_for_chunk(struct af_session *s)
{
	struct timespec step = {.tv_nsec = WAIT_STEP_NS};
	struct af_chunk *chunk = NULL;
	atomic_fetch_add(&s->host_waiters, 1);
	for (int i = 0; i < WAIT_STEPS && !chunk && !atomic_load(&give_up); i++) {
		uint32_t seen = atomic_load(&s->freed_count);
		if ((chunk = take_free_chunk(s)))
			break;
		uint32_t companion = atomic_load(&s->companion_pid);
		if (atomic_load(&s->companion_state) == AF_COMPANION_DONE ||
		    (companion && af_syscall4(SYS_kill, companion, 0, 0, 0) == -3 /* ESRCH */))
			atomic_store(&give_up, true);
		af_syscall6(SYS_futex, (long)&s->freed_count, FUTEX_WAIT, seen, (long)&step, 0, 0);
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
	if (count % 16 == 0) /* it also looks by itself, every few milliseconds */
		af_syscall4(SYS_futex, (long)&s->full_count, FUTEX_WAKE, 1, 0);
}

static void use_chunk(struct af_session *s, struct af_thread *t, struct af_chunk *chunk)
{
	if (!t->number) {
		t->tid = (uint32_t)af_syscall4(SYS_gettid, 0, 0, 0, 0);
		t->number = atomic_fetch_add(&s->threads, 1) + 1;
	}
	chunk->tid = t->tid;
	chunk->thread = t->number - 1;
	chunk->sequence = t->sequence++;
	chunk->filled = 0;
	/* Every time stamp in it is read after its slot was taken, so after this one. */
	chunk->taken = __builtin_ia32_rdtsc() - af_record_base;
	af_syscall4(SYS_prctl, PR_GET_NAME, (long)chunk->name, 0, 0);
	atomic_store_explicit(&chunk->state, AF_CHUNK_ACTIVE, memory_order_release);
	t->chunk = chunk;
	t->cursor = (uint64_t)af_chunk_records(chunk);
	t->limit = t->cursor + AF_CHUNK_RECORDS * sizeof(struct afr_record);
}

static void use_sink(struct af_thread *t)
{
	t->sunk_from = t->cursor = (uint64_t)sink;
	t->limit = t->cursor + sizeof(sink);
}

/* From the stubs, when the slot they took lies behind the thread's limit. */
void af_record_refill(void)
{
	struct af_thread *t = &af_thread;
	struct af_session *s = atomic_load(&session);
	uint64_t all = ~UINT64_C(0), before = 0;
	af_syscall4(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&all, (long)&before, 8);
	/* A handler may have come between the stub's xadd and here, and done it already. */
	if (t->cursor >= t->limit) {
		if (s && t->sunk_from)
			atomic_fetch_add(&s->dropped, sizeof(sink) / sizeof(sink[0]));
		t->sunk_from = 0;
		if (s && (uint32_t)af_syscall4(SYS_getpid, 0, 0, 0, 0) != s->host_pid) {
			/* A child by a way that no atfork handler sees. */
			t->chunk = NULL;
			s = NULL;
		}
		if (s && t->chunk)
			leave_chunk(s, t);
		struct af_chunk *chunk = s ? take_free_chunk(s) : NULL;
		if (s && !chunk && !atomic_load(&give_up))
			chunk = wait_for_chunk(s);
		if (chunk)
			use_chunk(s, t, chunk);
		else
			use_sink(t);
	}
	af_syscall4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&before, 0, 8);
}

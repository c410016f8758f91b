/* SPDX-License-Identifier: MIT */
#include "record/parked_guard.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "record/parked.h"
#include "record/syscall.h"
#include "record/thread.h"

#define READERS 512	      /* threads with higher numbers do not enter */
#define STAYS_CLOSED 30000000 /* ticks, some 10 ms: the next shutdown is likely near */
/* Ticks, half a second or more: a reader that is preempted comes back long before; one that
   was cancelled in the middle never does. */
#define PATIENCE UINT64_C(2000000000)

static struct reader {
	_Atomic uint32_t inside; /* how deep; its own thread's, but see wait_for_readers */
	char pad[60];
} readers[READERS] __attribute__((aligned(4096)));

static struct {
	const struct af_guard_vtable *vtables; /* by address */
	uint32_t count;
	uint32_t offset; /* of the vtable's address in a header */
	uint32_t id;	 /* of the id's offset in a vtable */
	bool ready;
} guard;

static _Atomic uint32_t shutting_down;
static _Atomic uint64_t last_shutdown; /* ticks; 0: none yet */

void af_guard_start(const struct af_guard_vtable *vtables, uint32_t count, uint32_t vtable_offset,
		    uint32_t id_offset)
{
	guard.vtables = vtables;
	guard.count = count;
	guard.offset = vtable_offset;
	guard.id = id_offset;
	/* A forked process has none of its parent's readers. */
	af_syscall4(SYS_madvise, (long)readers, sizeof(readers), MADV_WIPEONFORK, 0);
	guard.ready = true;
}

void af_guard_never(void)
{
	guard.ready = false;
}

static bool is_open(void)
{
	/* The count first: it is lowered after the time was set. */
	if (atomic_load(&shutting_down))
		return false;
	uint64_t last = atomic_load(&last_shutdown);
	return !last || __builtin_ia32_rdtsc() - last > STAYS_CLOSED;
}

bool af_guard_enter(void)
{
	uint32_t number = af_thread.number - 1; /* none yet: the greatest there is */
	if (!guard.ready || number >= READERS)
		return false;
	/* A full barrier: either who closes sees us inside, or we see it closed. */
	atomic_fetch_add(&readers[number].inside, 1);
	if (is_open())
		return true;
	af_guard_leave();
	return false;
}

void af_guard_leave(void)
{
	_Atomic uint32_t *inside = &readers[af_thread.number - 1].inside;
	uint32_t depth = atomic_load(inside);
	/* Not below 0, where somebody has lost patience: the next one inside would count as
	   none. Release: what was read has been read. */
	while (depth &&
	       !atomic_compare_exchange_weak_explicit(inside, &depth, depth - 1,
						      memory_order_release, memory_order_relaxed))
		;
}

/* All but this thread: a signal handler that shuts down what it has interrupted would wait
   for ever. */
static void wait_for_readers(void)
{
	uint64_t begin = __builtin_ia32_rdtsc();
	for (uint32_t i = 0; i < READERS; i++) {
		while (i != af_thread.number - 1 && atomic_load(&readers[i].inside)) {
			__builtin_ia32_pause();
			if (__builtin_ia32_rdtsc() - begin > PATIENCE) {
				atomic_store(&readers[i].inside, 0);
				break;
			}
		}
	}
}

static const struct af_guard_vtable *find_vtable(uint64_t vtable)
{
	uint32_t low = 0, high = guard.count;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (guard.vtables[middle].address <= vtable)
			low = middle;
		else
			high = middle;
	}
	return &guard.vtables[low];
}

/* A panic that passes keeps readers out for ever, which harms nobody. */
void af_guard_shutdown(void *header)
{
	uint64_t vtable = *(uint64_t *)((char *)header + guard.offset);
	uint64_t id = (uint64_t)header + *(uint64_t *)(vtable + guard.id);
	const struct af_guard_vtable *known = find_vtable(vtable);
	af_parked_dropped((uint64_t)header, known->root, known->payload | *(uint64_t *)id);
	atomic_fetch_add(&shutting_down, 1);
	wait_for_readers();
	known->shutdown(header);
	atomic_store(&last_shutdown, __builtin_ia32_rdtsc());
	atomic_fetch_sub(&shutting_down, 1);
}

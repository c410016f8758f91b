/* SPDX-License-Identifier: MIT */
#include "record/parked_guard.h"

#include <stdatomic.h>
#include <stddef.h>
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

/* By place. Never taken away; `ready` is set last. */
static struct guard {
	const struct af_guard_vtable *vtables; /* by address */
	uint32_t count;
	_Atomic bool ready;
} guards[AF_PLACES];
static _Atomic uint32_t n_guards;
static uint32_t offset_in_header; /* of the vtable's address */
static uint32_t offset_of_id;	  /* of the id's offset in a vtable */

static _Atomic uint32_t shutting_down;
static _Atomic uint64_t last_shutdown; /* ticks; 0: none yet */

/* A copy, for good: an address of an object that is gone may still be looked for. */
static bool keep(struct guard *guard, const struct af_guard_vtable *vtables, uint32_t count)
{
	long at = af_syscall6(SYS_mmap, 0, count * sizeof(*vtables), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at < 0 && at > -4096)
		return false;
	struct af_guard_vtable *copy = (void *)at;
	for (uint32_t i = 0; i < count; i++)
		copy[i] = vtables[i];
	guard->vtables = copy;
	guard->count = count;
	return true;
}

static bool is_same(const struct guard *guard, const struct af_guard_vtable *vtables,
		    uint32_t count)
{
	bool same = guard->count == count;
	for (uint32_t i = 0; same && i < count; i++)
		same = guard->vtables[i].address == vtables[i].address &&
		       guard->vtables[i].shutdown == vtables[i].shutdown;
	return same;
}

bool af_guard_start(uint32_t place, const struct af_guard_vtable *vtables, uint32_t count,
		    uint32_t vtable_offset, uint32_t id_offset)
{
	struct guard *guard = &guards[place];
	if (atomic_load(&n_guards) &&
	    (offset_in_header != vtable_offset || offset_of_id != id_offset))
		return false;
	offset_in_header = vtable_offset;
	offset_of_id = id_offset;
	if (!guard->count && !keep(guard, vtables, count))
		return false;
	if (!is_same(guard, vtables, count))
		return false;
	if (place >= atomic_load(&n_guards))
		atomic_store(&n_guards, place + 1);
	/* A forked process has none of its parent's readers. */
	af_syscall4(SYS_madvise, (long)readers, sizeof(readers), MADV_WIPEONFORK, 0);
	atomic_store(&guard->ready, true);
	return true;
}

void af_guard_stop(uint32_t place)
{
	atomic_store(&guards[place].ready, false);
}

static bool is_open(void)
{
	/* The count first: it is lowered after the time was set. */
	if (atomic_load(&shutting_down))
		return false;
	uint64_t last = atomic_load(&last_shutdown);
	return !last || __builtin_ia32_rdtsc() - last > STAYS_CLOSED;
}

bool af_guard_enter(uint32_t place)
{
	uint32_t number = af_thread.number - 1; /* none yet: the greatest there is */
	if (!atomic_load_explicit(&guards[place].ready, memory_order_relaxed) || number >= READERS)
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
	uint32_t depth = atomic_load_explicit(inside, memory_order_relaxed);
	/* Not below 0, where somebody has lost patience: the next one inside would count as
	   none. Only its own thread counts up and down, and a signal handler leaves it as it was:
	   no exchange. Release: what was read has been read. */
	if (depth)
		atomic_store_explicit(inside, depth - 1, memory_order_release);
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

static const struct af_guard_vtable *search(const struct guard *guard, uint64_t vtable)
{
	uint32_t low = 0, high = guard->count;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (guard->vtables[middle].address <= vtable)
			low = middle;
		else
			high = middle;
	}
	return guard->count && guard->vtables[low].address == vtable ? &guard->vtables[low] : NULL;
}

/* Of an object that is there, if there is one, else of the last that came: an address may be used
   again. */
static const struct af_guard_vtable *find_vtable(uint64_t vtable, uint32_t *place)
{
	const struct af_guard_vtable *found = NULL;
	uint32_t n = atomic_load(&n_guards);
	for (uint32_t i = 0; i < n; i++) {
		const struct af_guard_vtable *here = search(&guards[i], vtable);
		if (here && (atomic_load(&guards[i].ready) || !found ||
			     !atomic_load(&guards[*place].ready))) {
			found = here;
			*place = i;
		}
	}
	return found;
}

/* A panic that passes keeps readers out for ever, which harms nobody. */
void af_guard_shutdown(void *header)
{
	uint64_t vtable = *(uint64_t *)((char *)header + offset_in_header);
	uint64_t id = (uint64_t)header + *(uint64_t *)(vtable + offset_of_id);
	uint32_t place = 0;
	const struct af_guard_vtable *known = find_vtable(vtable, &place);
	af_parked_dropped(place, (uint64_t)header, known->root, known->payload | *(uint64_t *)id);
	atomic_fetch_add(&shutting_down, 1);
	wait_for_readers();
	known->shutdown(header);
	atomic_store(&last_shutdown, __builtin_ia32_rdtsc());
	atomic_fetch_sub(&shutting_down, 1);
}

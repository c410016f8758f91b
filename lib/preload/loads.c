/* SPDX-License-Identifier: MIT */
#include "preload/loads.h"

#include <errno.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "patch/apply/apply.h"
#include "preload/host.h"
#include "preload/objects.h"
#include "preload/own.h"
#include "preload/say.h"
#include "preload/start.h"
#include "record/switch.h"
#include "record/syscall.h"
#include "record/thread.h"

#define PATIENCE 100 /* steps of 100 ms for a map that is being made */

static const struct r_debug *loader;
static const struct af_session *description;
static _Atomic bool confined;
static bool begun; /* this process, or one that it was forked from, records */

static void wake(_Atomic uint32_t *word)
{
	af_syscall4(SYS_futex, (long)word, FUTEX_WAKE, INT32_MAX, 0);
}

/* --- what has come is hooked --------------------------------------------------------- */

/* False if it takes too long, or nobody makes it. */
static bool wait_for_map(struct af_session *s, _Atomic uint32_t *state)
{
	wake(&s->full_count); /* which is what the companion waits for */
	for (int i = 0; i < PATIENCE && atomic_load(state) == AF_MAP_WANTED; i++) {
		struct timespec step = {.tv_nsec = 100000000};
		if (atomic_load(&s->companion_state) == AF_COMPANION_DONE || !af_companion_lives(s))
			break;
		af_syscall6(SYS_futex, (long)state, FUTEX_WAIT, AF_MAP_WANTED, (long)&step, 0, 0);
	}
	return atomic_load(state) != AF_MAP_WANTED;
}

/* How many of what has come can be hooked. */
static unsigned get_maps(struct af_session *s)
{
	const char *name;
	_Atomic uint32_t *state;
	while ((state = af_objects_wanted(s, &name)))
		if (!wait_for_map(s, state)) {
			if (!s->quiet)
				af_say("not traced, since its map is not made yet", name);
			break;
		}
	return af_objects_open(s, s->quiet ? NULL : af_say);
}

/* The first library with futures: now there is something to record. */
static void begin(void)
{
	int fd, answer;
	struct af_session *s = af_session_late(description, &fd);
	if (!s)
		return;
	af_objects_enter(s);
	const char *why = af_companion_start(s, fd, &answer);
	if (!why)
		close(answer); /* the maps' states tell the same */
	close(fd);
	unsigned ready = get_maps(s);
	if (ready && why && !af_own_drain(s))
		ready = 0;
	if (!ready) {
		if (why)
			af_say("not tracing", why);
		atomic_store(&s->host_state, AF_HOST_NOT_TRACING);
		wake(&s->host_state);
		munmap(s, s->size);
		return;
	}
	begun = true;
	af_record_start(s);
	af_switch_tell();
	af_objects_hook(s, 0);
	atomic_store(&s->host_state, AF_HOST_RECORDING);
	wake(&s->host_state);
}

static void hook_what_came(void)
{
	struct af_session *s = af_record_session();
	if (!s && begun) { /* forked since, and it has not recorded yet */
		af_record_refill();
		s = af_record_session();
		af_switch_tell();
	}
	if (s && atomic_load(&s->confined))
		return;
	if (s) {
		af_objects_enter(s);
		if (get_maps(s))
			af_objects_hook(s, 0);
	} else if (!begun && description) {
		begin();
	}
}

/*
 * Other namespaces (dlmopen) are not traced: the unwinder of a library in there may know the objects
 * of its own only (libgcc before 12), not our stubs, and a panic would end the program. But it is
 * told, once.
 */
static void tell_of_namespaces(const struct af_session *s)
{
	static const ElfW(Dyn) * told[8];
	static unsigned n;
	const struct r_debug_extended *other = (const void *)loader;
	if (!s || s->quiet || loader->r_version < 2)
		return;
	while ((other = other->r_next)) {
		const struct link_map *map = other->base.r_map;
		for (; map && other->base.r_state == RT_CONSISTENT; map = map->l_next) {
			/* What tells lies between the first byte and the dynamic section. */
			struct af_host_image image = {
				.place = {.load_bias = map->l_addr,
					  .start = map->l_addr,
					  .end = (uint64_t)map->l_ld,
					  .dynamic = map->l_ld},
			};
			unsigned i = 0;
			while (i < n && told[i] != map->l_ld)
				i++;
			if (i < n || n == sizeof(told) / sizeof(told[0]) ||
			    !af_host_has_rust(&image))
				continue;
			told[n++] = map->l_ld;
			af_say("not traced, since it is in a namespace of its own (dlmopen)",
			       map->l_name);
		}
	}
}

static void loader_has_changed(void)
{
	int saved = errno, cancel;
	struct af_session *s = af_record_session();
	if (loader->r_state != RT_CONSISTENT || atomic_load(&confined) ||
	    (s && atomic_load(&s->confined)))
		return;
	/* Whoever is cancelled in here leaves the loader locked. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (af_objects_find())
		hook_what_came();
	af_objects_settle();
	tell_of_namespaces(s ? s : description);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
}

/* In place of the loader's function. Its callers may know that it changes no register. */
__attribute__((no_caller_saved_registers, target("general-regs-only"))) static void instead(void)
{
	loader_has_changed();
}

/* --- the loader's function ----------------------------------------------------------- */

/* Length of the instruction that does nothing at `at`; 0 if it does something. */
static unsigned nop_length(const uint8_t *at)
{
	unsigned i = 0;
	if (at[0] == 0xcc)
		return 1;
	while (i < 8 && (at[i] == 0x66 || at[i] == 0x2e))
		i++;
	if (at[i] == 0x90)
		return i + 1;
	if (at[i] != 0x0f || at[i + 1] != 0x1f)
		return 0;
	unsigned mod = at[i + 2] >> 6, rm = at[i + 2] & 7;
	return i + 3 + (rm == 4) + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

/* Where a jump may be written: an empty function, and padding behind it. 0: nowhere. */
static uint64_t empty_function(uint64_t address)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	const uint8_t *at = (const uint8_t *)address;
	if (!memcmp(at, endbr64, sizeof(endbr64)))
		at += sizeof(endbr64);
	if (*at != 0xc3)
		return 0;
	for (unsigned n = 1, step; n < AFM_PATCH_NEAR; n += step)
		if (!(step = nop_length(at + n)))
			return 0;
	return (uint64_t)at;
}

static int find_loader(struct dl_phdr_info *info, size_t size, void *data)
{
	for (int i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type != PT_DYNAMIC)
			continue;
		const ElfW(Dyn) *d = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
		for (; d->d_tag != DT_NULL; d++)
			if (d->d_tag == DT_DEBUG)
				loader = (const void *)d->d_un.d_ptr;
	}
	return 1; /* the executable is the first */
}

void af_loads_watch(const struct af_session *what)
{
	struct af_text_writer writer;
	uint8_t jump[AFM_PATCH_NEAR] = {0xe9};
	dl_iterate_phdr(find_loader, NULL);
	uint64_t at = loader && loader->r_brk ? empty_function(loader->r_brk) : 0;
	int64_t distance = (int64_t)((uint64_t)instead - at - sizeof(jump));
	if (!at || distance != (int32_t)distance)
		return;
	description = what;
	begun = !what;
	int32_t displacement = (int32_t)distance;
	memcpy(jump + 1, &displacement, sizeof(displacement));
	af_text_begin(&writer, true);
	af_text_write(&writer, at, jump, sizeof(jump));
	af_text_end(&writer);
}

void af_loads_confine(void)
{
	atomic_store(&confined, true);
}

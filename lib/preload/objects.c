/* SPDX-License-Identifier: MIT */
#include "preload/objects.h"

#include <fcntl.h>
#include <link.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "patch/plan/site.h"
#include "preload/host.h"
#include "record/parked.h"
#include "record/parked_guard.h"
#include "record/thread.h"

#define NAME_SIZE 64
#define NO_NUMBER UINT32_MAX

struct object {
	struct af_object_place place;
	uint8_t build_id[AFM_BUILD_ID_MAX];
	uint32_t build_id_size;
	uint32_t number; /* in the session; NO_NUMBER: not yet */
	bool executable;
	bool present, fresh;
	bool seen;		 /* in this round */
	struct af_futuremap map; /* while it is fresh, if it is in the cache */
	struct af_patch_memory memory;
	char name[NAME_SIZE];
};

static struct object objects[AF_PLACES];
static uint32_t n_objects;
static struct af_host_loads last;
static bool may_load;
static uint32_t left_out; /* loads of libraries with futures for which there was no room */
static uint64_t counted;  /* bit by bit: numbers in the session that were hooked before */

/* Those of this round that may hold futures. */
static struct af_host_image found[AF_PLACES];
static uint32_t n_found, n_more; /* and those beyond */

static bool is_same(const struct object *o, const struct af_host_image *image)
{
	return o->place.load_bias == image->place.load_bias &&
	       o->place.start == image->place.start && o->place.end == image->place.end &&
	       o->build_id_size == image->build_id_size &&
	       !memcmp(o->build_id, image->build_id, image->build_id_size);
}

static struct object *entry_of(const struct af_host_image *image)
{
	for (uint32_t i = 0; i < n_objects; i++)
		if (is_same(&objects[i], image))
			return &objects[i];
	return NULL;
}

static bool collect(const struct af_host_image *image, void *data)
{
	struct object *known = entry_of(image);
	if (known)
		known->seen = true;
	if (known && known->present)
		return true;
	may_load = may_load || af_host_may_load(image);
	if (!image->executable && !af_host_has_rust(image))
		return true;
	if (n_found < AF_PLACES)
		found[n_found++] = *image;
	else
		n_more++;
	return true;
}

/* What was there and is no more. */
static void retire(void)
{
	for (uint32_t i = 0; i < n_objects; i++) {
		struct object *o = &objects[i];
		if (!o->present || o->seen)
			continue;
		o->present = o->fresh = false;
		af_parked_stop(i);
		af_guard_stop(i);
		af_trap_stop(i);
	}
}

static bool holds_futures(const struct af_host_image *image, struct af_futuremap *map)
{
	if (image->build_id_size && !af_cache_load(map, image->build_id, image->build_id_size)) {
		if (map->header->verdict == AFM_FUTURES)
			return true;
		/* Without debug info: the companion says so. */
		bool nothing = map->header->verdict == AFM_NO_ASYNC;
		af_futuremap_close(map);
		return !nothing;
	}
	return af_host_may_hold_futures(image);
}

static bool enter(const struct af_host_image *image)
{
	struct af_futuremap map = {0};
	struct object *o = entry_of(image);
	const char *slash = strrchr(image->name, '/');
	if (!holds_futures(image, &map))
		return false;
	if (!o && n_objects == AF_PLACES) {
		af_futuremap_close(&map);
		left_out++;
		return true;
	}
	if (!o) {
		o = &objects[n_objects];
		*o = (struct object){
			.place = image->place,
			.build_id_size = image->build_id_size,
			.number = NO_NUMBER,
			.executable = image->executable,
		};
		o->place.index = n_objects++;
		memcpy(o->build_id, image->build_id, image->build_id_size);
		snprintf(o->name, sizeof(o->name), "%s", slash ? slash + 1 : image->name);
	}
	o->place.dynamic = image->place.dynamic;
	o->map = map;
	o->present = o->fresh = true;
	return true;
}

bool af_objects_find(void)
{
	bool any = false;
	n_found = n_more = 0;
	/* The loader's list grows at its end; once something was taken out of it, nothing is where
	   it was. */
	struct af_host_loads now = af_host_images(last.objects, collect, NULL);
	if (now.unloaded != last.unloaded) {
		n_found = n_more = 0;
		for (uint32_t i = 0; i < n_objects; i++)
			objects[i].seen = false;
		now = af_host_images(0, collect, NULL);
		retire();
	}
	last = now;
	left_out += n_more;
	for (uint32_t i = 0; i < n_found; i++)
		any |= enter(&found[i]);
	return any;
}

bool af_objects_may_load(void)
{
	return may_load;
}

/* --- in the session ------------------------------------------------------------------ */

static uint32_t number_of_build(const struct af_session *s, const struct object *o)
{
	uint32_t n = atomic_load(&s->n_objects);
	if (o->executable)
		return 0;
	for (uint32_t i = 1; i < n && i < AF_OBJECTS; i++) {
		const struct af_session_object *there = &s->objects[i];
		bool same =
			o->build_id_size
				? there->build_id_size == o->build_id_size &&
					  !memcmp(there->build_id, o->build_id, o->build_id_size)
				: !there->build_id_size && there->start == o->place.start;
		if (same)
			return i;
	}
	return NO_NUMBER;
}

/* Where its map lies in the cache. */
static bool note_map_path(struct af_session_object *to, const struct object *o)
{
	char name[2 * AFM_BUILD_ID_MAX + 16], link[32];
	int fd = af_cache_open_dir(false, NULL);
	if (fd < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, to->map_path, AF_MAP_PATH_MAX - sizeof(name) - 2);
	close(fd);
	if (n <= 0 || n == AF_MAP_PATH_MAX - (ssize_t)sizeof(name) - 2)
		return false;
	af_cache_name(name, sizeof(name), o->build_id, o->build_id_size);
	snprintf(to->map_path + n, AF_MAP_PATH_MAX - (size_t)n, "/%s", name);
	return true;
}

static void enter_in_session(struct af_session *s, struct object *o)
{
	uint32_t n = atomic_load(&s->n_objects);
	o->number = number_of_build(s, o);
	if (o->number != NO_NUMBER && !o->executable)
		return;
	if (o->number == NO_NUMBER)
		o->number = n;
	if (o->number >= AF_OBJECTS) {
		left_out++;
		return;
	}
	struct af_session_object *to = &s->objects[o->number];
	to->load_bias = o->place.load_bias;
	to->start = o->place.start;
	to->build_id_size = o->build_id_size;
	memcpy(to->build_id, o->build_id, o->build_id_size);
	uint32_t state = AF_MAP_WANTED;
	if (o->map.header && note_map_path(to, o)) {
		to->first_function =
			atomic_fetch_add(&s->functions, (uint32_t)o->map.header->polls.count);
		state = AF_MAP_READY;
	}
	atomic_store(&to->map_state, state);
	if (o->number == n)
		atomic_store(&s->n_objects, n + 1);
}

void af_objects_enter(struct af_session *s)
{
	for (uint32_t i = 0; i < n_objects; i++)
		if (objects[i].fresh)
			enter_in_session(s, &objects[i]);
	s->hooks.left_out += left_out;
	left_out = 0;
}

static struct af_session_object *session_object(struct af_session *s, const struct object *o)
{
	return o->fresh && o->number < AF_OBJECTS ? &s->objects[o->number] : NULL;
}

_Atomic uint32_t *af_objects_wanted(struct af_session *s, const char **name)
{
	for (uint32_t i = 0; i < n_objects; i++) {
		struct af_session_object *o = session_object(s, &objects[i]);
		if (!o || atomic_load(&o->map_state) != AF_MAP_WANTED)
			continue;
		*name = objects[i].name;
		return &o->map_state;
	}
	return NULL;
}

/* --- hooking ------------------------------------------------------------------------- */

static const char *open_map(struct object *o, const struct af_session_object *there)
{
	if (o->map.header)
		return NULL;
	return af_futuremap_open(&o->map, AT_FDCWD, there->map_path,
				 strncmp(there->map_path, "/proc/", 6) != 0);
}

unsigned af_objects_open(struct af_session *s, void (*say)(const char *what, const char *why))
{
	unsigned n = 0;
	for (uint32_t i = 0; i < n_objects; i++) {
		struct af_session_object *there = session_object(s, &objects[i]);
		if (!there || atomic_load(&there->map_state) != AF_MAP_READY)
			continue;
		const char *why = open_map(&objects[i], there);
		if (why && say)
			say("the future map cannot be used", why);
		n += !why;
	}
	return n;
}

/* A library's text that the loader has still to write into: not in this world, but possible. */
static bool has_text_relocations(const struct af_object_place *place)
{
	for (const ElfW(Dyn) *d = place->dynamic; d && d->d_tag != DT_NULL; d++)
		if (d->d_tag == DT_TEXTREL ||
		    (d->d_tag == DT_FLAGS && (d->d_un.d_val & DF_TEXTREL)))
			return true;
	return false;
}

static void hook(struct af_session *s, struct object *o, uint32_t why)
{
	struct af_filter filter = {s->filter, s->generated_only};
	uint32_t polls = (uint32_t)o->map.header->polls.count;
	/* One that comes again is counted once. */
	struct afr_hooks again = {0};
	struct afr_hooks *hooks = counted >> o->number & 1 ? &again : &s->hooks;
	counted |= UINT64_C(1) << o->number;
	if (!why && !o->executable && has_text_relocations(&o->place))
		why = AF_REFUSAL_TEXT_DIFFERS;
	if (why) {
		hooks->functions += polls;
		hooks->refused[why] += polls;
		return;
	}
	if (af_parked_start(o->place.index, &o->map, o->place.load_bias, o->number))
		af_patch_vtables(&o->map, &o->place, s->objects[o->number].first_function);
	af_patch_apply(&o->map, &o->place, &filter, s->objects[o->number].first_function,
		       &o->memory, hooks);
	/* Many copies of a library are more than can lie near memory for cells. */
	s->hooks.left_out += again.refused[AF_REFUSAL_NO_MEMORY] != 0;
}

void af_objects_hook(struct af_session *s, uint32_t why)
{
	for (uint32_t i = 0; i < n_objects; i++) {
		struct object *o = &objects[i];
		if (o->fresh && o->map.header && o->number < AF_OBJECTS)
			hook(s, o, why);
	}
}

void af_objects_settle(void)
{
	for (uint32_t i = 0; i < n_objects; i++) {
		objects[i].fresh = false;
		af_futuremap_close(&objects[i].map);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * The future map: everything that debug info knows about the async code of one
 * object, in one flat file that is used as it lies.
 *
 * Analysis writes it, everybody else maps it read-only: the preload library to
 * patch, inspect to walk tasks, the views to name what they show. It holds no
 * pointers: every reference is an index into a table of the same file, every
 * string an offset into the string table. Numbers are little endian, tables are
 * aligned to 8 bytes. Addresses are link-time virtual addresses of the object
 * (add the load bias to get a run-time one).
 *
 * Its tables: tables.h. Here: how a map is opened and read, the cache of maps, and
 * what of a map a user selects.
 *
 * Depends on nothing but libc headers. All functions here are thread safe and
 * allocate nothing unless they say so.
 */
#ifndef AF_FUTUREMAP_H
#define AF_FUTUREMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "futuremap/tables.h"

/* A map in memory. `base` is the header; the accessors below need nothing else. */
struct af_futuremap {
	const struct afm_header *header;
	size_t size; /* bytes mapped */
};

/*
 * Checks `size` bytes at `data` for being a map of this version with every table
 * inside the file, every index inside its table, every string terminated. After
 * success nothing read through the accessors can leave the mapping, whatever the
 * bytes say. Returns NULL, or a static string saying what is wrong.
 */
const char *af_futuremap_check(const void *data, size_t size);

/*
 * Opens and checks a map file. `dirfd`/`path` as in openat. With `private_only` the
 * file must belong to the effective user and be closed to everyone else (mode & 077
 * == 0), else it is not used. Returns NULL or a static string saying why not.
 * Uses mmap; allocates nothing; safe before main.
 */
const char *af_futuremap_open(struct af_futuremap *map, int dirfd, const char *path,
			      bool private_only);
void af_futuremap_close(struct af_futuremap *map); /* accepts a zeroed map */

uint64_t af_futuremap_checksum(const void *data, size_t size);
/* What stands for the build-id of an object that has none: a hash of the file's bytes. */
void af_futuremap_content_hash(const void *data, size_t size, uint8_t hash[16]);

static inline const void *af_futuremap_table(const struct af_futuremap *m,
					     const struct afm_table *t)
{
	return (const char *)m->header + t->offset;
}
#define AF_TABLE_ACCESSOR(what, type)                                                           \
	static inline const type *af_futuremap_##what(const struct af_futuremap *m, uint32_t i) \
	{                                                                                       \
		return (const type *)af_futuremap_table(m, &m->header->what) + i;               \
	}
AF_TABLE_ACCESSOR(types, struct afm_type)
AF_TABLE_ACCESSOR(fields, struct afm_field)
AF_TABLE_ACCESSOR(variants, struct afm_variant)
AF_TABLE_ACCESSOR(futures, struct afm_future)
AF_TABLE_ACCESSOR(polls, struct afm_poll)
AF_TABLE_ACCESSOR(poll_futures, uint32_t)
AF_TABLE_ACCESSOR(future_polls, uint32_t)
AF_TABLE_ACCESSOR(roots, struct afm_root)
AF_TABLE_ACCESSOR(sites, struct afm_site)
AF_TABLE_ACCESSOR(fixups, struct afm_fixup)
AF_TABLE_ACCESSOR(code, uint8_t)
AF_TABLE_ACCESSOR(steps, struct afm_step)
AF_TABLE_ACCESSOR(step_cases, struct afm_step_case)
AF_TABLE_ACCESSOR(step_ways, struct afm_step_way)
AF_TABLE_ACCESSOR(vtables, struct afm_vtable)
AF_TABLE_ACCESSOR(drivers, struct afm_driver)
AF_TABLE_ACCESSOR(places, struct afm_place)
AF_TABLE_ACCESSOR(parks, struct afm_park)
AF_TABLE_ACCESSOR(stays, struct afm_stay)
AF_TABLE_ACCESSOR(wakers, struct afm_waker)
AF_TABLE_ACCESSOR(layouts, struct afm_layout)
#undef AF_TABLE_ACCESSOR

static inline const char *af_futuremap_string(const struct af_futuremap *m, uint32_t s)
{
	return (const char *)af_futuremap_table(m, &m->header->strings) + s;
}

/* The drop flag of a variant's field, or NULL. */
static inline const struct afm_field *af_futuremap_drop_flag(const struct af_futuremap *m,
							     const struct afm_variant *variant,
							     const struct afm_field *field)
{
	uint32_t number = field->flags >> AFM_FF_FLAG_SHIFT;
	if (!(field->flags & AFM_FF_FLAGGED) || number >= variant->n_fields)
		return NULL;
	return af_futuremap_fields(m, variant->first_field + number);
}

/* Whether it can be patched, but no jump fits: `refusal` says why. */
static inline bool af_futuremap_is_trap(const struct af_futuremap *m, const struct afm_poll *poll)
{
	return poll->site != AFM_NONE && af_futuremap_sites(m, poll->site)->patch == AFM_PATCH_TRAP;
}

/* The value of the layout named `name`; false if the map has none. */
bool af_futuremap_layout(const struct af_futuremap *map, const char *name, uint64_t *value);
/* The vtable at link-time `address`, or NULL. */
const struct afm_vtable *af_futuremap_vtable(const struct af_futuremap *map, uint64_t address);
/* The next place at or behind index `from` in `places` that holds at link-time `pc`, or AFM_NONE:
   begin with 0, go on with the last one + 1. */
uint32_t af_futuremap_place(const struct af_futuremap *map, uint64_t pc, uint32_t from);

/*
 * The cache: one file per object, NAME.afmap, where NAME is the build-id in hex (or
 * "hash-" and the content hash) in ASYNCFLAME_CACHE, else $XDG_CACHE_HOME/asyncflame,
 * else $HOME/.cache/asyncflame. Only a directory of the user's own with mode 0700 is
 * used, only files of the user's own with mode 0600.
 */

/* Opens the cache directory; with `create` makes it (0700). -1 and a static reason in
   *why (may be NULL) where there is none to be had. Allocates nothing. */
int af_cache_open_dir(bool create, const char **why);
/* Looks for the directory in the environment for the last time: from now on it is where it is
   now, and the host may change its environment in any thread. Not thread safe. */
void af_cache_keep_directory(void);
/* Writes the file name for a build-id into `name` (>= 2*AFM_BUILD_ID_MAX + 16 bytes). */
void af_cache_name(char *name, size_t size, const uint8_t *build_id, uint32_t build_id_size);
/* Opens and checks the cached map of a build-id; NULL or a static reason. Signal and
   thread safe, allocates nothing. */
const char *af_cache_load(struct af_futuremap *map, const uint8_t *build_id,
			  uint32_t build_id_size);
/* Publishes `size` bytes under the name of its build-id: a temporary file in the same
   directory, then rename, so that readers see all of it or nothing. Drops the oldest
   files beyond ASYNCFLAME_CACHE_MAX bytes (default 512 MiB). NULL or a static reason. */
const char *af_cache_store(const void *data, size_t size);

/* What a user selects by --filter and --generated-only; see filter.c for the syntax. */
struct af_filter {
	const char *pattern; /* NULL or "": everything */
	bool generated_only; /* only compiler-generated futures (and task roots) */
};
/* NULL if the pattern is well formed, else a static string saying what is wrong. */
const char *af_filter_check(const char *pattern);
/* Whether a poll with this qualified name, definition file and kind is wanted. */
bool af_filter_wants(const struct af_filter *filter, const char *name, const char *file,
		     bool generated);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Makes a small future map in memory, for tests: types, fields and variants one after another.
 * What is asked for beyond its arrays aborts the test.
 */
#ifndef AF_TESTS_MAP_MAKER_H
#define AF_TESTS_MAP_MAKER_H

#include "futuremap/futuremap.h"

#define MAKER_MAX 256

struct map_maker {
	struct afm_header header; /* tables are offsets from here */
	struct afm_type types[MAKER_MAX];
	struct afm_field fields[MAKER_MAX];
	struct afm_variant variants[MAKER_MAX];
	struct afm_future futures[MAKER_MAX];
	struct afm_poll polls[MAKER_MAX];
	struct afm_root roots[MAKER_MAX];
	struct afm_vtable vtables[MAKER_MAX];
	struct afm_layout layouts[MAKER_MAX];
	char strings[16384];
};

void maker_init(struct map_maker *m);
struct af_futuremap maker_map(struct map_maker *m);
/* AFM_T_... of this name and size. */
uint32_t maker_type(struct map_maker *m, unsigned int kind, const char *name, uint64_t size);
uint32_t maker_pointer(struct map_maker *m, const char *name, uint32_t target);
/* A field of the type, or of its last variant if it has any. All fields of a type, or variant,
   are made one after the other. */
void maker_field(struct map_maker *m, uint32_t type, const char *name, uint32_t of,
		 uint64_t offset);
void maker_variant(struct map_maker *m, uint32_t type, const char *name, uint64_t discr,
		   uint32_t flags);
/* Makes a coroutine of it, with its state at `state_offset`. */
void maker_future(struct map_maker *m, uint32_t type, const char *name, uint32_t kind,
		  uint32_t state_offset);
/* A vtable of `type` at a link-time address that is not below the last one's. */
void maker_vtable(struct map_maker *m, uint64_t address, uint32_t type);
/* A task root whose function is at a link-time address above the last one's; `root->poll` is
   filled in. */
uint32_t maker_root(struct map_maker *m, uint64_t address, struct afm_root root);
/* In the order of their names. */
void maker_layout(struct map_maker *m, const char *name, uint64_t value);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * An ELF object and its debug sections, wherever those lie: in itself, compressed or not, or
 * in a separate file found by build-id or debug link.
 */
#ifndef AF_ANALYSIS_OBJECT_H
#define AF_ANALYSIS_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include <libelf.h>

#include "analysis/debuginfo.h"
#include "base/error.h"
#include "futuremap/futuremap.h"

/* A file mapped read-only and what libelf makes of it. */
struct af_elf {
	char *path;
	uint8_t *data;
	size_t size;
	Elf *elf; /* NULL: no ELF object */
};

struct af_object {
	struct af_elf main;
	struct af_elf debug;	      /* separate debug file, or all zero */
	VECTOR(struct af_elf) others; /* .dwo, .dwp and alternate files that were opened */
	uint16_t machine, type;
	uint8_t elf_class;
	bool little_endian;
	uint8_t build_id[AFM_BUILD_ID_MAX];
	uint32_t build_id_size;
};

struct af_error *af_object_open(struct af_object *object, const char *path) af_must_check;
void af_object_close(struct af_object *object);

bool af_object_has_debug(const struct af_object *object);
/* Finds the separate debug file if the object itself has no .debug_info. */
void af_object_find_debug(struct af_object *object);
/* The debug sections, decompressed. Plain ones lie in the mapped file. */
struct af_error *af_object_sections(const struct af_object *object,
				    struct af_section sections[AF_SEC_COUNT]) af_must_check;
/* Opens the object's debug info with all that belongs to it: .debug_types, the dwz alternate
   file, .dwo files or the .dwp. What cannot be opened is left out. */
struct af_error *af_object_debuginfo(struct af_object *object,
				     struct af_debuginfo *info) af_must_check;
/* The bytes of the file that are loaded at `address`, *size of them up to the segment's
   end; NULL if there are none. */
const uint8_t *af_object_bytes(const struct af_object *object, uint64_t address, uint64_t *size);
/* The executable segment that holds `address`. */
bool af_object_text(const struct af_object *object, uint64_t address, uint64_t *start,
		    uint64_t *end);
/* For each of n ascending addresses: the entry of the next function behind it (or the end of
   its section), from the symbol table and the unwind table. */
void af_object_next_functions(const struct af_object *object, const uint64_t *addresses, size_t n,
			      uint64_t *next);
/* Calls `each` for every function symbol with an address; its size is 0 where unknown. */
void af_object_symbols(const struct af_object *object,
		       void (*each)(void *arg, const char *name, uint64_t address, uint64_t size),
		       void *arg);

#endif

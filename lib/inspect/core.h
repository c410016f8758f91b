/* SPDX-License-Identifier: MIT */
/*
 * A core file as memory: what its PT_LOAD segments hold, and where a segment was left out of
 * the core (file-backed pages usually are) the files that NT_FILE names, if the caller supplies
 * them. 64-bit little-endian. The bytes are hostile: whatever they say, nothing outside the
 * mapping is touched, and every look-up is bounded.
 *
 * The core is mapped, not read; nothing is allocated. A file that someone truncates meanwhile
 * raises SIGBUS, as with any mapping.
 */
#ifndef AF_INSPECT_CORE_H
#define AF_INSPECT_CORE_H

#include <elf.h>

#include "inspect/memory.h"

#define AF_CORE_FILES_MAX 64

struct af_core {
	struct af_memory memory;
	const uint8_t *data; /* the mapped core */
	size_t size;
	const Elf64_Phdr *segments; /* in `data`, may be unaligned: copy before use */
	uint32_t n_segments;
	bool sorted;	     /* by address, so that they can be searched */
	bool cut_off;	     /* some segment lies beyond the file's end */
	uint16_t machine;    /* e_machine */
	const uint8_t *file; /* NT_FILE's descriptor, or NULL */
	size_t file_size;
	uint32_t n_mappings;
	struct {
		const char *name; /* as NT_FILE has it, in `data` */
		const uint8_t *data;
		size_t size;
	} files[AF_CORE_FILES_MAX];
	uint32_t n_files;
	uint32_t last; /* segment that answered the last read */
};

/* NULL, or a static string saying what is wrong ("not a core file", "cut off", ...). A core
   whose headers are whole but whose segments are not is opened, with cut_off set. errno is 0, or
   why a call of the system failed. */
const char *af_core_open(struct af_core *core, const char *path);
void af_core_close(struct af_core *core); /* accepts a zeroed one */

/* The i-th segment of memory, as far as the file holds it; false behind the last. */
struct af_core_segment {
	uint64_t address, size; /* in memory */
	uint64_t file_size;	/* bytes that the core holds, from `address` */
	uint32_t flags;		/* PF_R, PF_W, PF_X */
};
bool af_core_segment(const struct af_core *core, uint32_t i, struct af_core_segment *segment);

/* The i-th file mapping of NT_FILE; false behind the last. */
struct af_core_mapping {
	uint64_t start, end;
	uint64_t offset;  /* in the file, bytes */
	const char *name; /* path as it was then; in the core's mapping */
};
bool af_core_mapping(const struct af_core *core, uint32_t i, struct af_core_mapping *mapping);

/* Has the file at `path` stand for what NT_FILE calls `name`. That it is the same build is for
   the caller to find out first. NULL, or a static string. */
const char *af_core_supply(struct af_core *core, const char *name, const char *path);

/*
 * Goes over the notes. `*cursor` starts at 0. True with the next note's owner ("CORE",
 * "LINUX"), type and descriptor; false behind the last. The pointers lie in the core and have
 * no alignment.
 */
struct af_core_note {
	const char *owner;
	uint32_t type;
	const uint8_t *data;
	size_t size;
};
bool af_core_next_note(const struct af_core *core, uint64_t *cursor, struct af_core_note *note);

#endif

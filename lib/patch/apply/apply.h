/* SPDX-License-Identifier: MIT */
/*
 * Patching the running text: sites of a map -> hooked functions. In the host, while no thread
 * can be in that text: in the constructor while there is one thread, or when a library has
 * just been mapped. One caller at a time; libc only, nothing of malloc's.
 */
#ifndef AF_PATCH_APPLY_H
#define AF_PATCH_APPLY_H

#include <stdint.h>

#include "futuremap/futuremap.h"
#include "record/rawtrace.h"

struct af_object_place {
	uint64_t load_bias;  /* run-time address - link-time address */
	uint64_t start, end; /* of the loaded object, run-time */
	uint32_t index;	     /* below AF_PLACES (record/parked.h): this build at this address */
	const void *dynamic; /* its dynamic section, NULL if it has none */
};

/* Of one place: hooks and cells. They stay when the object goes, and are used again if it comes
   back to the same address. Zero before the first time. */
struct af_patch_memory {
	struct af_hook *table;
	uint64_t table_size;
	uint64_t block, block_size; /* behind the page of its ways (record/switch.h) */
	bool filled;		    /* the cells are there, and can be read */
	struct af_trap *traps;
	uint64_t traps_size;
};

/*
 * Hooks every poll of `map` that has a site and that the filter wants. Function numbers
 * are the polls' indices + first_function. Adds to *hooks: how many there are, how many
 * are hooked, how many not and why. Never fails as a whole: what cannot be patched is
 * counted. Functions that wait are hooked as well, and not counted.
 */
void af_patch_apply(const struct af_futuremap *map, const struct af_object_place *place,
		    const struct af_filter *filter, uint32_t first_function,
		    struct af_patch_memory *memory, struct afr_hooks *hooks);

/*
 * Leads the `shutdown` of the object's tokio tasks through the guard (record/parked_guard.h),
 * so that their memory can be read. Before af_patch_apply. Where it cannot be done for all
 * of them it is not done, and pointers of such tasks are not followed. The object may be
 * relocated already, or about to be.
 */
void af_patch_vtables(const struct af_futuremap *map, const struct af_object_place *place,
		      uint32_t first_function);

/*
 * Functions in which no jump finds room: their first byte becomes int3, whose handler goes on in
 * the cell. Only where af_trap_begin is set; it is called before the first one is written, and
 * says whether it may be (the handler of SIGTRAP is there).
 */
extern bool (*af_trap_begin)(void);
/* Of the function whose int3 lies at `address`: its cell, or 0. Any thread, any signal handler. */
uint64_t af_trap_cell(uint64_t address);
/* The object of this place is gone: what lies there from now on is another's. */
void af_trap_stop(uint32_t place);

/* --- inside patch/apply -------------------------------------------------------------- */

/* Takes a free range of `size` bytes (a multiple of the page size) from which every byte of
   [start, end) is reached by a 32-bit displacement; 0 if there is none. Prefers the room
   below the object: the heap grows above it. Other threads may map memory meanwhile. */
uint64_t af_near_reserve(uint64_t start, uint64_t end, uint64_t size);

/* One mapping as /proc/self/maps has it. */
struct af_mapping {
	uint64_t start, end, offset;
	char permissions[4];
};
/* Calls `visit` for each, in ascending order, until it returns false. False: they cannot be read. */
bool af_near_mappings(bool (*visit)(void *arg, const struct af_mapping *mapping), void *arg);

/* Puts `size` bytes of `code` at `address`, a range that was reserved, as read-only, executable
   memory. False if the kernel refuses. */
bool af_near_map(uint64_t address, const void *code, uint64_t size);

/* The executable's text while it can be written to, and not be executed: open.c. Where `usable` is
   false nothing is done: it is not certain that it could be closed again. */
struct af_open_text {
	struct af_mapping mapping;
	bool usable;
	int file; /* the program's, while usable */
};
void af_text_find(struct af_open_text *text, uint64_t start, uint64_t end);
bool af_text_open(struct af_open_text *text);
/* False: nothing that was written has stayed. */
bool af_text_close(struct af_open_text *text);
/* Has these pages copied, without a change to them. Before they are looked at. */
void af_text_touch(struct af_open_text *text, const uint64_t *pages, uint32_t count);

/* Writes program text without opening it for writing: /proc/self/mem, or where that is
   not to be had, a page at a time made writable (never together with executable). */
struct af_text_writer {
	int memory;		   /* /proc/self/mem, or -1 */
	bool text;		   /* else read-only data: there is no other way for that */
	struct af_open_text *open; /* where many pages are written; else NULL */
	uint32_t stored;	   /* writes into it */
	/* What is to be written into one page, in one go: bytes [low, high) of it. */
	uint64_t page;
	uint32_t low, high, pending;
	uint32_t failed; /* writes that could not be done */
	uint8_t bytes[4096];
};
void af_text_begin(struct af_text_writer *writer, bool text);
/* Takes up `size` bytes, within one page or two. Those of one page are written together when
   another page is begun. */
void af_text_write(struct af_text_writer *writer, uint64_t address, const void *bytes,
		   uint32_t size);
/* Writes what is left. Returns how many writes in all have failed. */
uint32_t af_text_end(struct af_text_writer *writer);

struct af_trap {
	uint64_t address, cell;
};
/* From now on these are known, in ascending order. They stay in use until af_trap_stop. */
void af_trap_start(uint32_t place, const struct af_trap *traps, uint32_t count);

struct af_hook;
/* Fills a hook from its poll; says which stub it takes. */
typedef void af_stub(void);
af_stub *af_hook_init(struct af_hook *hook, const struct af_futuremap *map, uint32_t place,
		      const struct afm_poll *poll, uint32_t function);
/* The same of a function that waits (struct afm_park). */
af_stub *af_hook_init_park(struct af_hook *hook, const struct afm_park *park, uint32_t place,
			   uint32_t function);
/* af_record_decide: see record/thread.h. */
void af_hook_decide(struct af_hook *hook, uint64_t rdi, uint64_t rsi, uint64_t rdx);

#endif

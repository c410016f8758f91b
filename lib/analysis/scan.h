/* SPDX-License-Identifier: MIT */
/*
 * The index pass: what the second pass is to look at, found in one linear walk.
 */
#ifndef AF_ANALYSIS_SCAN_H
#define AF_ANALYSIS_SCAN_H

#include "analysis/debuginfo.h"

/* A namespace and the bytes of .debug_info inside it, so that the path of any DIE is found
   from its offset alone. Sorted by start; an inner one follows its outer one. */
struct af_namespace {
	const char *name;
	uint32_t start, end;
	uint32_t parent; /* index, or UINT32_MAX */
};

enum af_found_flags {
	AF_FOUND_CONCRETE = 1,	/* has an address */
	AF_FOUND_INLINE = 2,	/* DW_AT_inline: the abstract instance of an inlined function */
	AF_FOUND_BODY = 4,	/* `{...}`: perhaps the body of a coroutine */
	AF_FOUND_POLL = 8,	/* poll, poll<...> */
	AF_FOUND_RUN = 16,	/* run, run<...>: perhaps async-task's */
	AF_FOUND_BLOCK_ON = 32, /* block_on..., or a closure in one: drivers.c */
	AF_FOUND_UNNAMED = 64,	/* its name stands at its origin */
	AF_FOUND_ASYNC = 128,	/* `{async_...}`: surely a coroutine's body */
};

enum af_found_type {
	AF_FOUND_COROUTINE, /* {async_fn_env#0} and the like */
	AF_FOUND_LAYOUT,    /* a type whose layout executors.c wants */
};

struct af_found {
	uint32_t offset;
	uint32_t what; /* enum af_found_flags, or enum af_found_type */
};

/* A variable `__awaitee` in the body of a coroutine. */
struct af_awaitee {
	uint32_t offset;
	uint32_t body; /* offset of the subprogram */
};

/* An inlined instance of what is named like a poll. */
struct af_inlined {
	uint32_t offset;
	uint32_t function; /* offset of the concrete subprogram */
};

/* What one file's .debug_info holds. */
struct af_index {
	struct af_file *file;
	VECTOR(struct af_namespace) namespaces;
	VECTOR(struct af_found) functions;
	VECTOR(struct af_found) types;
	VECTOR(uint32_t) vtables; /* offsets of `<X as ..Future>::{vtable}` variables */
	VECTOR(struct af_awaitee) awaitees;
	VECTOR(struct af_inlined) polls_inlined;
	uint8_t *inlined;   /* bit (offset / 4): an inlined instance has this origin */
	uint8_t *poll_like; /* and that is named like a poll */
	uint64_t n_dies;
	uint64_t n_broken; /* units that could not be read to their end */
};

struct af_scan_progress {
	void (*report)(void *arg, double fraction);
	void *arg;
	double from, to;
};

/* Walks every Rust unit of the file. */
struct af_error *af_scan(struct af_file *file, const struct af_scan_progress *progress,
			 struct af_index *index) af_must_check;
void af_index_deinit(struct af_index *index);

/* Whether an inlined instance of the subprogram at `offset` was met. */
static inline bool af_index_inlined(const struct af_index *index, uint32_t offset)
{
	return index->inlined[offset >> 5] >> (offset >> 2 & 7) & 1;
}
/* The innermost namespace around `offset`, or UINT32_MAX. */
uint32_t af_index_namespace(const struct af_index *index, uint32_t offset);

/* Whether a type of this name is a coroutine's state ("{async_fn_env#0}<u8>"). */
bool af_name_is_coroutine(const char *name);

#endif

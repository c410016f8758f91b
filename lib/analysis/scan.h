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
	uint64_t path;	 /* the same for namespaces of the same names, if the linker merged these */
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
	AF_FOUND_WAKE = 256,	/* wake<...>, wake_by_ref<...> and futures' like: wakers.c */
	AF_FOUND_DROP = 512,	/* drop_in_place<...> of a coroutine: drops.c */
};

enum af_found_type_kind {
	AF_FOUND_COROUTINE, /* {async_fn_env#0} and the like */
	AF_FOUND_LAYOUT,    /* a type whose layout executors.c wants */
};

struct af_found {
	uint32_t offset;
	uint32_t what; /* enum af_found_flags */
};

/* Copies of a type have one key: fingerprint.h. */
struct af_found_type {
	uint32_t offset;
	uint32_t what; /* enum af_found_type_kind */
	uint64_t key;  /* af_copy_key; of a layout af_copy_head */
};

/* A variable `__awaitee` in the body of a coroutine. */
struct af_awaitee {
	uint32_t offset;
	uint32_t body; /* offset of the subprogram */
};

/* An inlined instance of what is named like a poll, or may be a block_on. */
struct af_inlined {
	uint32_t offset;
	uint32_t function; /* offset of the concrete subprogram */
};

#define AF_SPACE_BLOCK 4096

/* What one file's .debug_info holds. */
struct af_index {
	struct af_file *file;
	VECTOR(struct af_namespace) namespaces;
	VECTOR(uint32_t) namespace_starts; /* of each AF_SPACE_BLOCK bytes: how many begin before */
	VECTOR(struct af_found) functions;
	VECTOR(struct af_found_type) types;
	VECTOR(uint32_t) vtables; /* offsets of `<X as Trait>::{vtable}` variables */
	VECTOR(struct af_awaitee) awaitees;
	VECTOR(struct af_inlined) instances;
	VECTOR(af_die_id) inlined_elsewhere; /* polls of other files that were inlined in this */
	uint8_t *inlined;		     /* bits: an inlined instance has this origin */
	uint8_t *wanted;		     /* and `instances` are to hold these */
	uint8_t *named; /* bits: a subprogram with a name of interest, or of one's origin */
	uint64_t n_dies;
	uint64_t n_broken; /* units that could not be read to their end */
};

/* A function whose name stands at its origin. */
struct af_unnamed {
	uint32_t offset, what; /* as in af_found */
	uint32_t origin;       /* offset, or one of these: */
};
#define AF_ORIGIN_ELSEWHERE (UINT32_MAX - 1) /* in another file */
#define AF_ORIGIN_NONE UINT32_MAX

/* What some of a file's units hold: the same tables as of the index, of units that follow each
   other. */
struct af_index_part {
	VECTOR(struct af_namespace) namespaces;
	VECTOR(struct af_found) functions;
	VECTOR(struct af_unnamed) unnamed;
	VECTOR(struct af_found_type) types;
	VECTOR(uint32_t) vtables;
	VECTOR(struct af_awaitee) awaitees;
	VECTOR(struct af_inlined) instances;
	VECTOR(af_die_id) inlined_elsewhere; /* polls of other files that were inlined in this */
	uint64_t n_dies, n_broken;
};

struct af_open_namespace {
	uint32_t index;
	uint32_t depth;	  /* of its children */
	bool of_tasks;	  /* it or one around it is called `task` or `async_task` */
	bool of_block_on; /* it is called `block_on...` */
};

#define AF_SCAN_DULL_BITS 15

/* A DIE whose name was asked for from memory and is not looked at yet. */
struct af_held {
	const struct af_abbrev *abbrev;
	const uint8_t *attributes;
	uint64_t path; /* of the namespace that it is in */
	uint32_t offset, depth;
	uint32_t left;		    /* least depth that was returned to since the one before */
	uint32_t name;		    /* in .debug_str, where the abbreviation has a plain one */
	bool of_tasks, of_block_on; /* as of the namespace */
	bool outside;		    /* of functions: directly in a namespace or unit */
};
#define AF_SCAN_HELD 48

/* What walks units, one thread each. Zero but for index, part and data, and `dull` filled with
   ones. */
struct af_scanner {
	struct af_index *index; /* shared: only its bits are written */
	struct af_index_part *part;
	const uint8_t *data; /* of .debug_info */
	struct af_unit *unit;
	const uint8_t *end; /* of the unit */
	uint32_t inner;	    /* depth of DIEs directly in a namespace or unit */
	uint32_t body;	    /* of a coroutine: the subprogram that is being walked, or 0 */
	uint32_t body_depth;
	uint32_t function; /* concrete, not named like a poll: the one being walked, or 0 */
	uint32_t function_depth;
	VECTOR(struct af_open_namespace) open;
	struct af_held held[AF_SCAN_HELD];
	uint32_t n_held;
	uint32_t left;			       /* as in af_held */
	uint32_t dull[1 << AF_SCAN_DULL_BITS]; /* offsets in .debug_str of names of no interest */
};

/* scan.c: walks one unit. False when memory is short. */
bool af_scan_unit(struct af_scanner *scanner, struct af_unit *unit);

struct af_scan_progress {
	void (*report)(void *arg, double fraction);
	void *arg;
	double from, to;
};

/* index.c: walks every Rust unit of the file, with a thread for each core that this process may
   use. The result does not depend on their number. */
struct af_error *af_scan(struct af_file *file, const struct af_scan_progress *progress,
			 struct af_index *index) af_must_check;
void af_index_deinit(struct af_index *index);
/* How many cores this process may use. */
size_t af_cores(void);

/* A bit for every 4 bytes of .debug_info: DIEs of interest are longer than that. */
static inline bool af_bits_get(const uint8_t *bits, uint32_t offset)
{
	return __atomic_load_n(&bits[offset >> 5], __ATOMIC_ACQUIRE) >> (offset >> 2 & 7) & 1;
}
static inline void af_bits_set(uint8_t *bits, uint32_t offset)
{
	if (!af_bits_get(bits, offset))
		__atomic_fetch_or(&bits[offset >> 5], (uint8_t)(1u << (offset >> 2 & 7)),
				  __ATOMIC_RELEASE);
}

/* Whether an inlined instance of the subprogram at `offset` was met. */
static inline bool af_index_inlined(const struct af_index *index, uint32_t offset)
{
	return af_bits_get(index->inlined, offset);
}
/* The innermost namespace around `offset`, or UINT32_MAX. */
uint32_t af_index_namespace(const struct af_index *index, uint32_t offset);

/* wanted.c: what a name may be, besides the flags of functions. */
enum {
	AF_NAME_FUNCTION = 0xffff,
	AF_NAME_COROUTINE = 0x10000,
	AF_NAME_LAYOUT = 0x20000,
	AF_NAME_VTABLE = 0x40000,
	AF_NAME_AWAITEE = 0x80000,
};
uint32_t af_name_class(const char *name);
/* Of "<X as a::Trait<..>>::{vtable}" what begins with the trait; NULL if that is no vtable. */
const char *af_name_vtable_trait(const char *name);
/* Whether a type of this name is a coroutine's state ("{async_fn_env#0}<u8>"). */
bool af_name_is_coroutine(const char *name);

#endif

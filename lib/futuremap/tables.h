/* SPDX-License-Identifier: MIT */
/*
 * What a future map's file holds, table by table. docs/formats.md describes the same for readers
 * in other languages. A change of anything here raises AFM_VERSION; a map of another version is
 * rebuilt, never converted.
 */
#ifndef AF_FUTUREMAP_TABLES_H
#define AF_FUTUREMAP_TABLES_H

#include <stddef.h>
#include <stdint.h>

#define AFM_MAGIC "AFMAP\0\1\n"
#define AFM_VERSION 15
#define AFM_NONE UINT32_MAX /* "no such index" wherever a u32 refers to a table */
#define AFM_BUILD_ID_MAX 32

/* One table of the file: `count` entries of a fixed size from byte `offset`. */
struct afm_table {
	uint64_t offset;
	uint64_t count;
};

/* clang-format off */
/* What analysis found the object to be; see afm_header.verdict. */
enum afm_verdict {
	AFM_FUTURES = 1,	  /* async code with full debug info: can be traced */
	AFM_NO_ASYNC,		  /* no sign of async Rust: nothing to do */
	AFM_STRIPPED,		  /* async Rust, no debug info at all */
	AFM_LINE_TABLES_ONLY,	  /* async Rust, debug info without types */
};

enum afm_type_kind {
	AFM_T_OPAQUE = 0,   /* known by name (and perhaps size) only, e.g. a declaration */
	AFM_T_UNSIGNED, AFM_T_SIGNED, AFM_T_FLOAT, AFM_T_BOOL, AFM_T_CHAR,
	AFM_T_POINTER,	    /* to `target`; also references and NonNull's inner pointer */
	AFM_T_ARRAY,	    /* `length` times `target` */
	AFM_T_STRUCT,	    /* fields; with variants if n_variants > 0 (Rust enums, coroutines) */
	AFM_T_UNION,
	AFM_T_CENUM,	    /* enum without data: variants carry name and discriminant only */
	AFM_T_FUNCTION,
};

struct afm_type {
	uint32_t name;		/* string: qualified DWARF name with generics */
	uint16_t kind;		/* enum afm_type_kind */
	uint16_t flags;		/* AFM_TF_* */
	uint64_t size;		/* bytes; 0 for a declaration */
	uint32_t align;		/* bytes; 0 where debug info has none */
	uint32_t target;	/* pointer, array: type index or AFM_NONE */
	uint64_t length;	/* array: number of elements */
	uint32_t first_field, n_fields;	    /* in `fields`: outside any variant */
	uint32_t first_variant, n_variants; /* in `variants` */
	uint32_t discr_offset;	/* of the tag; AFM_NONE where DWARF names none */
	uint32_t discr_size;	/* 1, 2, 4, 8, 16; 0 if none */
	uint32_t file, line;	/* definition, string and 1-based; 0 line if unknown */
	uint32_t future;	/* index in `futures`, or AFM_NONE */
	uint32_t template_arg;	/* type index of the first template type parameter, or AFM_NONE */
};
#define AFM_TF_DECLARATION 1u
#define AFM_TF_REACHES_FUTURE 2u	/* a future can be reached from a value of this type */
#define AFM_TF_PARTIAL 4u		/* fields not detailed (only the layout head was needed) */

struct afm_field {
	uint32_t name;		/* string */
	uint32_t type;		/* index in `types`, or AFM_NONE */
	uint64_t offset;	/* bytes from the start of the containing type (variants too) */
	uint32_t flags;		/* AFM_FF_* */
	uint32_t line;		/* declaration line where known, else 0 */
};
#define AFM_FF_ARTIFICIAL 1u
#define AFM_FF_CAPTURED 2u	/* coroutine: also in Unresumed at the same offset (an argument) */
#define AFM_FF_AWAITEE 4u	/* `__awaitee` */
/* Of a coroutine's variant, what its drop glue does in that state; none of these: not known. */
#define AFM_FF_DROPPED 8u	/* it drops this: it is alive */
#define AFM_FF_FLAGGED 16u	/* if a flag, a byte, is 1: then it is alive, else it is gone */
#define AFM_FF_GONE 32u		/* it does not, though this owns memory: it was moved out;
				   with AFM_FF_DROPPED: a part of it was */
#define AFM_FF_FLAG_SHIFT 16	/* the flag's number among the variant's fields */

struct afm_variant {
	uint64_t discr;		/* discriminant, masked to discr_size; meaningless if default */
	uint32_t name;		/* string: "Suspend0", "Unresumed", "Some", ... */
	uint32_t flags;		/* AFM_VF_* */
	uint32_t first_field, n_fields;
	uint32_t file, line;	/* coroutine: the await point as the user wrote it; see
				   futures; 0 line if unknown */
	uint32_t awaitee;	/* index in `fields` of the awaitee, or AFM_NONE */
	uint32_t line_index;	/* 0, 1, ... where several awaits share file:line; else 0 */
	uint32_t macro_file, macro_line; /* where the variant's own line lies inside a macro's
					    crate (join!, select!); 0 line if the same */
};
#define AFM_VF_DEFAULT 1u	/* no discr_value: every value that no other variant claims */

enum afm_future_kind {
	AFM_F_ASYNC_FN = 1, AFM_F_ASYNC_BLOCK, AFM_F_ASYNC_CLOSURE,
	AFM_F_COROUTINE,	/* gen blocks and bare coroutines */
	AFM_F_HAND,		/* hand-written `impl Future` */
};

/* A type that is polled. `name` is how people write it (app::shop::checkout,
   app::run::{async_block#0}); the type's own name is DWARF's. */
struct afm_future {
	uint32_t type;		/* index in `types` */
	uint32_t kind;		/* enum afm_future_kind */
	uint32_t name;		/* string */
	uint32_t file, line;	/* definition */
	uint32_t flags;		/* AFM_UF_* */
	uint32_t state_offset;	/* coroutine: of `__state`; AFM_NONE otherwise */
	uint32_t state_size;	/* 1, 2 or 4 */
	uint32_t first_poll, n_polls;	/* in `future_polls` */
};
#define AFM_UF_OUT_OF_LINE 1u	/* at least one out-of-line poll */
#define AFM_UF_INLINED 2u	/* polled at least once in inlined code */
				/* neither: its poll is not emitted */

enum afm_poll_kind {
	AFM_P_ASYNC_BODY = 1,	/* coroutine body: returns Poll, first argument Pin<&mut env> */
	AFM_P_HAND,		/* hand-written Future::poll */
	AFM_P_GENERATOR,	/* rustc < 1.64: GenFuture::poll, polls the env it wraps at offset 0 */
	AFM_P_TASK_ROOT,	/* the executor's entry of a task (see afm_poll.root) */
};

enum afm_register { AFM_R_UNKNOWN = 0, AFM_R_RDI, AFM_R_RSI, AFM_R_RDX, AFM_R_NONE = 255 };

/* An out-of-line function that polls: one per distinct address. */
struct afm_poll {
	uint64_t address;	/* entry */
	uint32_t size;		/* bytes of the range that holds the entry; 0 unknown */
	uint16_t kind;		/* enum afm_poll_kind */
	uint16_t flags;		/* AFM_PF_* */
	uint32_t name;		/* string: how people write what it polls */
	uint32_t symbol;	/* string: linkage name, may be empty */
	uint32_t file, line;	/* definition of the future (or of the function, for roots) */
	uint32_t first_future, n_futures; /* in `poll_futures`; the first is the one shown */
	uint8_t self_register;	/* enum afm_register: where `self` (root: the header) is at entry */
	uint8_t n_params;	/* formal parameters in DWARF */
	uint16_t tag_width;	/* Poll's tag in bytes, 0 unknown/none/perhaps not returned */
	uint32_t return_size;	/* bytes of Poll<T>; 0 if none or zero-sized */
	uint32_t tag_offset;	/* of Poll's tag in the returned value */
	uint64_t pending;	/* value of the tag that means Pending */
	uint32_t site;		/* index in `sites`, or AFM_NONE */
	uint32_t refusal;	/* enum af_refusal (patch/plan/site.h): why no jump fits; else 0 */
	uint32_t root;		/* index in `roots`, or AFM_NONE */
	uint32_t step;		/* index in `steps` of its future, where a driver polls that, so
				   that nothing else tells where it is parked; or AFM_NONE */
	uint64_t body;		/* of a root that is nothing but a jump, as all of tokio's are in
				   optimised builds: where that leads, if no other root goes there.
				   It is this that stands on stacks. Else 0 */
	uint32_t body_size;	/* up to the next function; 0 unknown */
	uint32_t reserved;
};
#define AFM_PF_AMBIGUOUS 1u	/* several functions folded into this address */

enum afm_executor { AFM_X_TOKIO = 1, AFM_X_ASYNC_TASK, AFM_X_OTHER };

/* What is known of a task root: where in the task its future lies. */
struct afm_root {
	uint32_t poll;		/* index in `polls` */
	uint32_t executor;	/* enum afm_executor */
	uint32_t future;	/* index in `futures` of the task's future, or AFM_NONE */
	uint32_t future_type;	/* type index of T / F, or AFM_NONE */
	uint32_t future_offset;	/* from the header to the future, or to its box where future_type
				   is Pin<Box<F>>; AFM_NONE if unknown */
	uint32_t stage_offset;	/* tokio: from the header to Stage; else AFM_NONE */
	uint32_t cell_type;	/* what a task begins with: type index of tokio's Cell<T,S>, of
				   async-task's Header<M>; or AFM_NONE */
	uint32_t step;		/* index in `steps`: of the value at step_offset, or AFM_NONE */
	uint32_t step_offset;	/* from the header: tokio's Stage, else the future */
	uint32_t reserved;
};

/*
 * How to go from a value to those that it waits for: the ways down an await tree, worked
 * out ahead, so that the host need not look at types. A step is one value in memory; its
 * tag says which of its cases it is in; each way of a case leads to a further value.
 * Several ways are branches of a join or select, or fields of a hand-written future.
 * Nothing is followed but values, boxes, pins and `&mut`: what is found is what is awaited.
 */
struct afm_step {
	uint32_t type;		/* index in `types` */
	uint16_t flags;		/* AFM_SF_* */
	uint16_t tag_size;	/* 1, 2, 4, 8; 0: no tag, the one case holds */
	uint32_t tag_offset;	/* from the value's start */
	uint32_t first_case, n_cases; /* in `step_cases`; at least 1 */
};
#define AFM_SF_LEVEL 1u		/* a level of the await stack: a future */
#define AFM_SF_DENSE 2u		/* case i is that of tag i */
#define AFM_SF_COROUTINE 4u	/* tags 1 and 2: done, nothing is awaited */
#define AFM_SF_HAS_WAYS 8u	/* at least one case has: one without is likely done */

struct afm_step_case {
	uint64_t tag;		/* masked to tag_size */
	uint32_t variant;	/* index in `variants`, or AFM_NONE */
	uint16_t flags;		/* AFM_SCF_* */
	uint16_t n_ways;	/* at most AFM_WAYS_MAX */
	uint32_t first_way;	/* in `step_ways` */
	uint32_t step;		/* the one it is a case of */
};
#define AFM_SCF_DEFAULT 1u	/* every tag that no other case claims; the last one */
#define AFM_SCF_CUT 2u		/* it has more than AFM_WAYS_MAX ways */
#define AFM_WAYS_MAX 16

enum afm_way_via {
	AFM_V_VALUE,		/* the next value lies at `offset` */
	AFM_V_POINTER,		/* at `offset` lies its address */
	AFM_V_DYN,		/* at `offset` and `vtable` lie its address and its vtable's:
				   afm_vtable.step goes on */
};

struct afm_step_way {
	uint32_t via;		/* enum afm_way_via */
	uint32_t offset;	/* from the start of the step's value */
	uint32_t vtable;	/* AFM_V_DYN: where the vtable's address lies, from there too */
	uint32_t next;		/* index in `steps`; AFM_NONE for AFM_V_DYN */
};

/* A patch site: how to displace the prologue of one poll. `code` is to be copied to
   executable memory within 2 GiB of the object and its fixups applied there; it ends
   with a jump back behind the displaced bytes unless the last displaced instruction
   never falls through. See patch/plan/site.h for how it is made. */
#define AFM_SITE_ORIGINAL_MAX 20
#define AFM_SITE_CODE_MAX 96
struct afm_site {
	uint64_t address;	/* of the first byte that is replaced (behind an endbr64) */
	uint32_t poll;		/* index in `polls`; behind their end: in `parks` */
	uint32_t code;		/* byte offset in `code` */
	uint16_t code_length;
	uint8_t displaced;	/* number of original bytes the code replaces, >= patch */
	uint8_t n_fixups;
	uint32_t first_fixup;	/* in `fixups` */
	uint8_t patch;		/* AFM_PATCH_*: number of bytes that are written at `address` */
	int8_t hole;		/* AFM_PATCH_SHORT: from behind the short jump to the hole */
	uint8_t reserved[2];
	/* What the text must hold, else it is not patched: `displaced` bytes; then for
	   AFM_PATCH_SHORT the AFM_PATCH_NEAR bytes of the hole. */
	uint8_t original[AFM_SITE_ORIGINAL_MAX];
};
#define AFM_PATCH_NEAR 5	/* jmp rel32 to the cell */
#define AFM_PATCH_SHORT 2	/* jmp rel8 to a hole between functions, there jmp rel32 */
#define AFM_PATCH_TRAP 1	/* int3, where no jump fits: only on request */
/* Displaced at least: nobody but an int3 comes to the byte behind it. */
#define AFM_TRAP_DISPLACED 2

/* At code + at lies a field that must become, by `kind`: */
struct afm_fixup {
	uint64_t target;	/* link-time address */
	uint16_t at;
	uint16_t next;		/* displacement: its instruction ends at code + at + next */
	uint32_t kind;		/* AFM_FIXUP_* */
};
#define AFM_FIXUP_DISPLACEMENT 0 /* 32 bits: target - end of the instruction */
#define AFM_FIXUP_ADDRESS 1	 /* 64 bits: target's run-time address */

/* `<X as Future>::{vtable}`: what a `dyn Future` fat pointer points to; and those of traits that
   are not the standard library's. */
struct afm_vtable {
	uint64_t address;	/* of the vtable */
	uint32_t type;		/* index in `types` of X */
	uint32_t step;		/* index in `steps` of X, or AFM_NONE */
};

/* `wake` of a waker that is an Arc<W> (std's Wake, futures' ArcWake): entry of a RawWakerVTable.
   Only of W from which a future can be reached: tasks of executors that nobody has heard of. */
struct afm_waker {
	uint64_t address;	/* of the function, in no other W's vtable */
	uint32_t type;		/* index in `types` of W */
	uint32_t reserved;
};

/*
 * A driver: a function that polls a future but is no poll itself, and so holds that future, or
 * a pointer to it, in its own frame. block_on of every runtime; not task roots (see afm_root).
 * One entry per function and future, ordered by address. The future has no task; from a stack
 * it is found so: for the frame's pc (of a frame that has called another one: its return
 * address - 1) take a place whose range holds it, and
 *
 *	value = register `base` in that frame (or its CFA) + offset
 *	AFM_PL_POINTER:	future = *(pointer *)value + then
 *	else:		future = value
 *
 * Registers are those of the frame itself, as an unwinder restores them: callee-saved ones and
 * the stack pointer. Where several frames of a stack give one address, or one inside another
 * frame's future or a task, it is the same future: count the outermost. The future lies there
 * from its first poll to its end; a coroutine's state says whether it still is one.
 */
struct afm_driver {
	uint64_t address;	/* entry of the function */
	uint32_t size;		/* bytes of the range that holds the entry */
	uint32_t name;		/* string: how people write the function, with its generics */
	uint32_t file, line;	/* of its definition; 0 line if unknown */
	uint32_t future;	/* index in `futures` */
	uint32_t first_place, n_places; /* in `places`, by start */
	uint32_t reserved;
};

/* What a place's offset counts from: a DWARF register number of the object's machine (x86-64: 3
   rbx, 6 rbp, 7 rsp, 12 to 15 r12 to r15), or the frame's CFA. */
enum afm_frame_base {
	AFM_B_REGISTER_MAX = 31,
	AFM_B_CFA = 256,
};

/* Where in a driver's frame the future is while the pc is in [start, end). */
struct afm_place {
	uint64_t start, end;
	int64_t offset, then;
	uint16_t base;		/* enum afm_frame_base */
	uint16_t flags;		/* AFM_PL_* */
	uint32_t driver;	/* index in `drivers` */
};
#define AFM_PL_POINTER 1u	/* at base + offset lies a pointer to the future (- then) */
#define AFM_PL_DERIVED 2u	/* not in debug info: carried on from another place through the code */

/*
 * A function by which a thread waits: std::thread::park and its like, by its name. A driver whose
 * polls are inlined calls one between two of them, and the call's return address tells by `stays`
 * where its future is.
 */
struct afm_park {
	uint64_t address;	/* entry; no poll's */
	uint32_t size;		/* bytes */
	uint32_t name;		/* string: its symbol */	uint32_t site;		/* as of a poll */
	uint32_t refusal;
	uint32_t flags;		/* AFM_PK_* */
	uint32_t reserved;
};
#define AFM_PK_CONTEXT 1u	/* does not wait, but runs a driver's loop, in another frame: it is
				   called where a stay is known, which holds for waits inside */
#define AFM_PK_INSIDE 2u	/* waits in such a loop, and is called by nobody else */

/*
 * A call in a driver's code between two polls of its future, which are inlined: when it has the return
 * address `address`, the future may be looked at, as it is not being polled. Ordered by address.
 */
struct afm_stay {
	uint64_t address;
	int64_t offset, then;	/* where it is: as in a place of a driver */
	uint64_t quiet;		/* bit n set: a way leads from here to the stay with number n of
				   this function on which nothing is polled */
	uint32_t step;		/* index in `steps` of the future */
	uint16_t base;		/* a register */
	uint8_t flags;		/* AFM_PL_POINTER, AFM_PL_HELD */
	uint8_t number;		/* among its function's; 255: not known */
};
#define AFM_PL_HELD 4u		/* the driver only hands it on, to what polls it: says where it is,
				   and not that nobody polls it now */

/* One number that later stations need, by name: "tokio.Header.vtable" = 16.
   Sorted by name (byte order), so that a look-up is a binary search. */
struct afm_layout {
	uint32_t name;		/* string */
	uint32_t reserved;
	uint64_t value;
};

struct afm_header {
	uint8_t magic[8];	/* AFM_MAGIC */
	uint32_t version;	/* AFM_VERSION */
	uint32_t header_size;	/* sizeof(struct afm_header) */
	uint64_t file_size;
	uint64_t checksum;	/* af_futuremap_checksum() of everything behind this field */
	uint8_t build_id[AFM_BUILD_ID_MAX];
	uint32_t build_id_size;	/* 0: build_id holds a content hash of 16 bytes instead */
	uint32_t verdict;	/* enum afm_verdict */
	uint32_t machine;	/* ELF e_machine */
	uint32_t dwarf_versions; /* bit n set: units of DWARF version n */
	uint32_t object;	/* string: path that was analysed */
	uint32_t producer;	/* string: a DW_AT_producer of a Rust unit ("clang LLVM (rustc ...") */
	uint64_t debug_info_size; /* bytes of .debug_info read, uncompressed */
	uint64_t text_start, text_end; /* executable segment that holds the polls, link-time */
	struct afm_table strings; /* bytes; NUL terminated strings; offset 0 is "" */
	struct afm_table types, fields, variants;
	struct afm_table futures, polls;
	struct afm_table poll_futures;	/* u32: indices in futures */
	struct afm_table future_polls;	/* u32: indices in polls */
	struct afm_table roots, sites, fixups;
	struct afm_table code;		/* bytes */
	struct afm_table steps, step_cases, step_ways;
	struct afm_table vtables;	/* sorted by address */
	struct afm_table drivers;	/* sorted by address */
	struct afm_table places;	/* of drivers, one driver's after another's */
	struct afm_table parks;		/* sorted by address */
	struct afm_table stays;		/* sorted by address */
	struct afm_table wakers;	/* sorted by address */
	struct afm_table layouts;
};
/* clang-format on */

/* Where the bytes begin that the checksum covers, to the file's end. */
#define AFM_CHECKED_FROM (offsetof(struct afm_header, checksum) + sizeof(uint64_t))

_Static_assert(sizeof(struct afm_type) == 72, "afm_type");
_Static_assert(sizeof(struct afm_field) == 24, "afm_field");
_Static_assert(sizeof(struct afm_variant) == 48, "afm_variant");
_Static_assert(sizeof(struct afm_future) == 40, "afm_future");
_Static_assert(sizeof(struct afm_poll) == 96, "afm_poll");
_Static_assert(sizeof(struct afm_root) == 40, "afm_root");
_Static_assert(sizeof(struct afm_step) == 20, "afm_step");
_Static_assert(sizeof(struct afm_step_case) == 24, "afm_step_case");
_Static_assert(sizeof(struct afm_step_way) == 16, "afm_step_way");
_Static_assert(sizeof(struct afm_site) == 48, "afm_site");
_Static_assert(sizeof(struct afm_fixup) == 16, "afm_fixup");
_Static_assert(sizeof(struct afm_vtable) == 16, "afm_vtable");
_Static_assert(sizeof(struct afm_driver) == 40, "afm_driver");
_Static_assert(sizeof(struct afm_place) == 40, "afm_place");
_Static_assert(sizeof(struct afm_park) == 32, "afm_park");
_Static_assert(sizeof(struct afm_stay) == 40, "afm_stay");
_Static_assert(sizeof(struct afm_waker) == 16, "afm_waker");
_Static_assert(sizeof(struct afm_layout) == 16, "afm_layout");

#endif

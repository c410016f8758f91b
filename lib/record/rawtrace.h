/* SPDX-License-Identifier: MIT */
/*
 * The raw trace: what the host wrote, as the companion drained it. A file header, then
 * blocks, each with its length, so that a file that is cut off anywhere is read up to
 * its last whole block (and a CHUNK block up to its last whole record).
 *
 * Little endian, every block starts on a multiple of 8 bytes. docs/formats.md says the
 * same for strangers. A change raises AFR_VERSION.
 */
#ifndef AF_RAWTRACE_H
#define AF_RAWTRACE_H

#include <stdint.h>

#define AFR_MAGIC "AFRAW\0\1\n"
#define AFR_VERSION 5

/*
 * One record, 16 bytes, written by one thread into its own chunk:
 *
 *   word0  63            8 7        0      word1  63       47 46               0
 *         | ticks since    | kind    |           | function  | subject           |
 *         | session start  |         |           |           |                   |
 *
 * word0 is written last: a record whose word0 is 0 was never finished. `ticks` counts
 * struct afr_header.tick_source units. Within a chunk, records stand in the order in
 * which their slots were taken; a signal handler that polls makes slots whose ticks are
 * a little out of order with their neighbours'.
 */
struct afr_record {
	uint64_t word0;
	uint64_t word1;
};

enum afr_kind {
	AFR_ENTER = 1,	   /* subject: address of `self` (low 47 bits), 0 unknown */
	AFR_ENTER_NEW,	   /* the same, and the coroutine was Unresumed: its first poll */
	AFR_ENTER_TASK,	   /* a task root; subject: the executor's own task id, never reused */
	AFR_ENTER_TASK_AT, /* a task root; subject: address of the task (may be reused) */
	AFR_EXIT_STATE,	   /* subject: the coroutine's `__state` after return */
	AFR_EXIT_POLL,	   /* subject: enum afr_result */
	AFR_UNWIND,	   /* a panic (or forced unwind) passed through; closes like an exit */
	AFR_PARKED,	   /* before a task's ENTER on the same thread: where the task stood
			      until now. function: the root; subject: number of a node,
			      innermost of an await stack. Several for several branches; ticks
			      may be those of the record before */
	AFR_DROPPED,	   /* a runtime that shuts down drops a task that is parked; subject: the
			      executor's own task id. Where it stood, as before an ENTER */
	AFR_UNLOADED,	   /* a library is gone, and its executor's numbers with it: if it comes
			      back they begin anew; subject: number of the object */
	AFR_PAUSED,	   /* from now on polls that begin are not recorded */
	AFR_RESUMED,	   /* ... and from now on they are. word1: ticks since when not */
	AFR_WAIT,	   /* a thread waits, and so does the future that it drives, between two
			      polls that are inlined in the driver; subject: address of the
			      future. Where it stands, as before an ENTER */
	AFR_WAITED,	   /* ... and goes on; subject: the same */
	AFR_KIND_COUNT
};

enum afr_result { AFR_UNKNOWN = 0, AFR_READY, AFR_PENDING };

#define AFR_KIND_BITS 8
#define AFR_FUNCTION_SHIFT 47
#define AFR_FUNCTIONS_MAX (1u << (64 - AFR_FUNCTION_SHIFT))
#define AFR_FUNCTION_UNKNOWN (AFR_FUNCTIONS_MAX - 1) /* AFR_UNWIND only: the innermost */
#define AFR_SUBJECT_MASK ((UINT64_C(1) << AFR_FUNCTION_SHIFT) - 1)

static inline unsigned afr_kind(const struct afr_record *r)
{
	return r->word0 & 0xff;
}
static inline uint64_t afr_ticks(const struct afr_record *r)
{
	return r->word0 >> AFR_KIND_BITS;
}
static inline uint32_t afr_function(const struct afr_record *r)
{
	return (uint32_t)(r->word1 >> AFR_FUNCTION_SHIFT);
}
static inline uint64_t afr_subject(const struct afr_record *r)
{
	return r->word1 & AFR_SUBJECT_MASK;
}

enum afr_tick_source { AFR_TICKS_TSC = 1, AFR_TICKS_MONOTONIC /* nanoseconds */ };

/* clang-format off */
struct afr_header {
	uint8_t magic[8];	/* AFR_MAGIC */
	uint32_t version;	/* AFR_VERSION */
	uint32_t header_size;	/* sizeof(struct afr_header) */
	uint32_t pid;
	uint32_t tick_source;	/* enum afr_tick_source */
	uint64_t base_tsc;	/* the tick counter at session start: tick 0 */
	uint64_t base_monotonic; /* CLOCK_MONOTONIC in ns, read together with base_tsc */
	uint64_t base_realtime;	/* CLOCK_REALTIME in ns at the same moment */
	uint32_t parent_pid;	/* pid is a forked copy of it, and polls that were open in
				   it end here without a begin; 0: it is none */
	uint32_t reserved;
	uint64_t process_start;	/* of pid, in ticks since the system's (proc(5): starttime); exec
				   does not change it. 0: not known */
};

enum afr_block_type {
	AFR_B_FILLER = 0,  /* nothing: room for what may come */
	AFR_B_PROCESS = 1, /* NUL terminated strings: executable, cwd, then argv */
	AFR_B_OBJECT,	   /* struct afr_object, then a whole future map file */
	AFR_B_CHUNK,	   /* struct afr_chunk, then `count` records */
	AFR_B_CLOCK,	   /* struct afr_clock: calibration at the end (last one counts) */
	AFR_B_HOOKS,	   /* struct afr_hooks */
	AFR_B_END,	   /* struct afr_end: the companion finished in order */
	AFR_B_NODES,	   /* struct afr_node[]: levels of await stacks, each once */
	AFR_B_LOOK,	   /* struct afr_look, its tasks, then their levels; the last one counts */
	AFR_B_STOPPED,	   /* struct afr_stopped: with AFR_LIMIT_STOPPED */
};

struct afr_block {
	uint32_t type;		/* enum afr_block_type; unknown ones are skipped */
	uint32_t reserved;
	uint64_t length;	/* bytes that follow, without padding to 8 */
};

/* Function numbers first_function .. + map polls are this object's polls, in map order. */
struct afr_object {
	uint64_t load_bias;	/* run-time address - link-time address, when first loaded */
	uint32_t first_function;
	uint32_t number;	/* as nodes name it; 0: the executable */
};

struct afr_chunk {
	uint32_t tid;
	uint32_t sequence;	/* 0, 1, ... per thread, in the order they were filled */
	uint32_t count;		/* records that follow */
	uint32_t thread;	/* number of the thread in this session: tells a reused tid */
	char name[16];		/* thread name (comm), NUL terminated */
};

/* One level of an await stack. */
struct afr_node {
	uint32_t number;	/* as records name it; 1 .. */
	uint32_t parent;	/* the level above, 0: the task's own future */
	uint32_t object;	/* number of the object */
	uint32_t step_case;	/* in its map's step_cases */
};

/*
 * Where tasks stood, read from outside while the host ran. A task in it stood so at some moment
 * between `begin` and `end`; one that was polled after `begin` may have gone on since.
 */
struct afr_look {
	uint64_t begin, end;	/* ticks */
	uint32_t n_tasks, n_levels;
	uint32_t left_out;	/* tasks that were found and could not be read */
	uint32_t whole;		/* 1: no task is missing but these */
};

enum afr_look_state {
	AFR_LOOK_PARKED = 1,	/* or woken and waiting for its turn */
	AFR_LOOK_RUNNING,
	AFR_LOOK_ENDED,		/* by its end, or cancelled */
};

enum afr_found_by { AFR_BY_HEADER = 1, AFR_BY_STACK, AFR_BY_WAKER };

struct afr_look_task {
	uint64_t address;	/* AFR_BY_HEADER: of the task's header; else of its future */
	uint64_t id;		/* the executor's own number; 0: none */
	uint32_t first_level, n_levels; /* the first one is the task's own future; 0: not known */
	uint64_t since;		/* ticks: it has stood there from then on at least */
	uint64_t switches;	/* AFR_BY_STACK: how often its thread had been switched; 0: unknown */
	uint32_t tid;		/* AFR_BY_STACK: of the thread that drives it */
	uint8_t state;		/* enum afr_look_state */
	uint8_t found_by;	/* enum afr_found_by */
	uint8_t object;		/* AFR_BY_HEADER: number of the one that its root is in */
	uint8_t reserved;
};

enum afr_level_state { AFR_LEVEL_NOT_STARTED = 0, AFR_LEVEL_SUSPENDED, AFR_LEVEL_HAND };

/* A future of a task's await tree, and where it stands. Only what is awaited, not what is held. */
struct afr_look_level {
	uint64_t address;	/* of the future */
	uint32_t parent;	/* level of the same task, from its first, before this one;
				   0xffffffff: none */
	uint32_t object;	/* number of the object */
	uint32_t type, variant;	/* in its map; variant 0xffffffff: none */
	uint32_t state;		/* enum afr_level_state */
	uint32_t reserved;
};

struct afr_clock {
	uint64_t ticks;		/* since base_tsc, like records */
	uint64_t monotonic;	/* CLOCK_MONOTONIC ns read together with it */
};

struct afr_hooks {
	uint32_t functions;	/* poll functions and task roots in the maps */
	uint32_t hooked;
	uint32_t refused[64];	/* by enum af_refusal */
	/* A block of an earlier version ends here. */
	uint32_t trapped;	/* of those hooked: by int3, on request */
	uint32_t left_out;	/* loads of libraries with futures, for which there was no room */
};
#define AFR_HOOKS_LEAST 264	/* bytes of such a block */

enum afr_end_reason {
	AFR_END_EXIT = 1, /* the host reached its normal exit */
	AFR_END_GONE,	  /* the host was gone without it: _exit, abort, signal, exec */
};

/* What became of a recording that met its --max-size. */
enum afr_limit {
	AFR_LIMIT_NONE = 0,
	AFR_LIMIT_STOPPED,     /* what came later is not in it: see struct afr_stopped */
	AFR_LIMIT_OVERWRITTEN, /* what came earlier is not in it any more */
};

/* The file was full: up to here everything is in it, behind that nothing (what was recorded all
   the same is in `dropped`). */
struct afr_stopped {
	uint64_t ticks;
};

struct afr_end {
	uint32_t reason;	/* enum afr_end_reason */
	uint32_t limit;		/* enum afr_limit */
	uint64_t records;	/* written to this file */
	uint64_t dropped;	/* records lost because no chunk was free */
	uint64_t unfinished;	/* slots taken but never written */
};
/* clang-format on */

_Static_assert(sizeof(struct afr_record) == 16, "afr_record");
_Static_assert(sizeof(struct afr_header) == 64, "afr_header");
_Static_assert(sizeof(struct afr_block) == 16, "afr_block");
_Static_assert(sizeof(struct afr_object) == 16, "afr_object");
_Static_assert(sizeof(struct afr_chunk) == 32, "afr_chunk");
_Static_assert(sizeof(struct afr_node) == 16, "afr_node");
_Static_assert(sizeof(struct afr_look) == 32, "afr_look");
_Static_assert(sizeof(struct afr_look_task) == 48, "afr_look_task");
_Static_assert(sizeof(struct afr_look_level) == 32, "afr_look_level");
_Static_assert(sizeof(struct afr_clock) == 16, "afr_clock");
_Static_assert(sizeof(struct afr_hooks) == 272, "afr_hooks");
_Static_assert(sizeof(struct afr_end) == 32, "afr_end");

#endif

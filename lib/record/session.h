/* SPDX-License-Identifier: MIT */
/*
 * The session: the one piece of memory that the host and its companion share. A memfd,
 * made by the host before the companion is started and mapped MAP_SHARED by both: what a
 * thread has committed there is the companion's to write out, however the host ends.
 *
 *   +--------------------+ 0
 *   | struct af_session  | one page or more: who, what, how it goes
 *   |   its nodes        | await stacks, interned: see parked.h
 *   +--------------------+ chunks_offset
 *   | chunk 0            | AF_CHUNK_SIZE each: struct af_chunk, then records
 *   | ...                |
 *   | chunk n_chunks - 1 |
 *   +--------------------+
 *
 * A chunk is FREE (in the free list), ACTIVE (one thread writes into it) or FULL (its
 * thread has left it; the companion's to drain). FREE -> ACTIVE -> FULL by the host's
 * threads, FULL -> FREE by the companion. A slot has been committed when its time is not
 * before the chunk was taken: what is left of the chunk's last use is older, and nobody has
 * to clear it.
 *
 * Every field says who writes it. The companion treats what the host can write as
 * hostile: it copies, then checks.
 */
#ifndef AF_SESSION_H
#define AF_SESSION_H

#include <stdatomic.h>
#include <stdint.h>

#include "record/rawtrace.h"

#define AF_SESSION_MAGIC UINT64_C(0x37304e4f49534641) /* "AFSION07" */
#define AF_CHUNK_SIZE (64u << 10)
#define AF_CHUNKS 512u /* 32 MiB at most, touched only as used: free chunks are a stack */
#define AF_PATH_MAX 4096
#define AF_MARK_CHUNK_BITS 16
#define AF_MARK_CHUNK_MASK 0xffffu

/* A node of await stacks: one case of one step (tables.h) of one object below another node.
   Its number is its place in `nodes` + 1; 0 is the task itself. */
#define AF_NODES (1u << 16)
#define AF_NODE_PARENT_SHIFT 40
#define AF_NODE_OBJECT_SHIFT 32
static inline uint64_t af_node_key(uint32_t parent, uint32_t object, uint32_t step_case)
{
	return (uint64_t)parent << AF_NODE_PARENT_SHIFT | (uint64_t)object << AF_NODE_OBJECT_SHIFT |
	       ((uint64_t)step_case + 1);
}
static inline uint32_t af_node_parent(uint64_t key)
{
	return (uint32_t)(key >> AF_NODE_PARENT_SHIFT);
}
static inline uint32_t af_node_object(uint64_t key)
{
	return (uint32_t)(key >> AF_NODE_OBJECT_SHIFT) & 0xff;
}
static inline uint32_t af_node_case(uint64_t key)
{
	return (uint32_t)(key - 1);
}

/* When a task was polled last, of all that was drained: for whoever looks into the process. In one of the
   four places behind af_polled_at; of five tasks the one that was polled longest ago is forgotten. Read
   while it is written: `task` is 0 meanwhile. */
#define AF_POLLED_BITS 17
#define AF_POLLED_WAYS 4
struct af_polled {
	_Atomic uint64_t task;	/* word1 of the record of that poll's begin; 0: free */
	_Atomic uint64_t ticks; /* ... and its time */
};
static inline uint32_t af_polled_at(uint64_t task)
{
	uint64_t hash = task * UINT64_C(0x9e3779b97f4a7c15) >> (64 - AF_POLLED_BITS);
	return (uint32_t)hash & ~(AF_POLLED_WAYS - 1u);
}

enum af_chunk_state { AF_CHUNK_FREE = 0, AF_CHUNK_ACTIVE, AF_CHUNK_FULL };

struct af_chunk {
	_Atomic uint32_t state; /* enum af_chunk_state */
	_Atomic uint32_t next;	/* free list: index + 1 of the next free chunk, 0 = last */
	uint32_t tid;		/* host: the writing thread */
	uint32_t thread;	/* host: its number in this session */
	uint32_t sequence;	/* host: 0, 1, ... per thread */
	uint32_t filled;	/* host: bytes of records when it was left (FULL) */
	uint64_t taken;		/* host: ticks when it was taken */
	char name[16];		/* host: the thread's name when it took the chunk */
	uint64_t pad[2];
};
#define AF_CHUNK_RECORDS ((AF_CHUNK_SIZE - sizeof(struct af_chunk)) / sizeof(struct afr_record))

enum af_map_state { AF_MAP_WANTED = 0, AF_MAP_READY, AF_MAP_NOTHING, AF_MAP_FAILED };
enum af_host_state { AF_HOST_STARTING = 0, AF_HOST_RECORDING, AF_HOST_NOT_TRACING, AF_HOST_ENDING };
/* The host drains by itself: it has not had to, does, can no more (or has finished). */
enum af_own_state { AF_OWN_NOT = 0, AF_OWN_DRAINING, AF_OWN_OVER };
/* What is kept of a recording that is larger than keep_bytes. */
enum af_keep { AF_KEEP_ALL = 0, AF_KEEP_OLDEST, AF_KEEP_NEWEST, AF_KEEP_IN_MEMORY };
enum af_companion_state { AF_COMPANION_NONE = 0, AF_COMPANION_DRAINING, AF_COMPANION_DONE };

/*
 * What is traced: the executable and libraries. One object is one build, however often and
 * wherever it is loaded; its number is its place here, for good.
 */
#define AF_OBJECTS 64
#define AF_MAP_PATH_MAX 2048
struct af_session_object {
	/* Host, before `n_objects` says that it is there: */
	uint64_t load_bias; /* when it was first loaded */
	uint64_t start;	    /* its lowest address then */
	uint32_t build_id_size;
	uint8_t build_id[32]; /* size 0 if it has none */
	/* The host where it has the map, else the companion, which is then woken by full_count: */
	_Atomic uint32_t map_state; /* enum af_map_state, set last; futex */
	uint32_t first_function;
	char map_path[AF_MAP_PATH_MAX]; /* where the map lies if it is READY */
};

/* clang-format off */
struct af_session {
	uint64_t magic;			/* host */
	uint32_t n_chunks, chunk_size;	/* host */
	uint64_t chunks_offset;		/* host */
	uint64_t size;			/* host: of the whole memfd */

	/* Host, before the companion starts: */
	uint32_t host_pid;
	uint32_t quiet;
	uint32_t generated_only;
	uint32_t format_raw;		/* keep the raw trace as the output */
	uint32_t keep;			/* enum af_keep; IN_MEMORY: the newest, until asked for */
	uint64_t keep_bytes;		/* of the raw trace; 0 with KEEP_ALL */
	uint64_t slow_poll;		/* IN_MEMORY: ns that a poll may take; 0: any */
	uint32_t wait_at_exit;		/* the host waits for DONE at its exit: no wrapper does */
	uint32_t tick_source;		/* enum afr_tick_source */
	uint64_t base_tsc, base_monotonic, base_realtime;
	char executable[AF_PATH_MAX];
	char output[AF_PATH_MAX];	/* absolute; "" = chosen by the companion */
	char filter[AF_PATH_MAX];
	char run_directory[AF_PATH_MAX]; /* the wrapper's, or "" */
	char program[AF_PATH_MAX];	/* asyncflame itself; "" = not found */
	uint32_t main_program;		/* this is the program that the wrapper started */
	uint32_t parent_pid;		/* of which the host is a forked copy; 0 = it is none */

	/* Companion, then the host reads: */
	_Atomic uint32_t companion_state; /* enum af_companion_state; futex */
	_Atomic uint32_t companion_pid;
	_Atomic uint32_t looked;	/* 1: where tasks stand at the end has been read; futex */

	/* Objects that are traced, the executable first: */
	_Atomic uint32_t n_objects;	/* host */
	_Atomic uint32_t functions;	/* numbers of functions handed out so far */
	struct af_session_object objects[AF_OBJECTS];

	/* Host, while it runs: */
	_Atomic uint32_t host_state;	/* enum af_host_state; futex */
	_Atomic uint32_t threads;	/* numbers handed out so far */
	struct afr_hooks hooks;		/* filled before RECORDING; libraries that are loaded
					   later are added */

	/* Both: */
	_Atomic uint64_t free_list;	/* tag << 32 | index + 1 of the first free chunk */
	_Atomic uint32_t chunks_used;	/* chunks from this one on were never touched */
	_Atomic uint32_t confined;	/* host: only system calls that every program needs */
	_Atomic uint32_t full_count;	/* futex: chunks left so far */
	_Atomic uint32_t freed_count;	/* futex: chunks drained so far */
	_Atomic uint32_t host_waiters;	/* threads waiting for a free chunk */
	_Atomic uint64_t dropped;	/* records lost for want of a chunk */
	_Atomic uint32_t full;		/* whoever drains: KEEP_OLDEST has what it keeps */
	_Atomic uint64_t on_since;	/* host: ticks when a pause ended; UINT64_MAX: it has not */

	/* Host: */
	_Atomic uint32_t n_nodes;	/* taken in node_order; may run beyond AF_NODES */
	_Atomic uint32_t wanted;	/* IN_MEMORY: snapshots asked for; see asyncflame.h */
	_Atomic uint64_t nodes[AF_NODES];	/* by hash; 0 free, else af_node_key() */
	_Atomic uint32_t node_order[AF_NODES];	/* numbers, oldest first; 0: not yet told */

	/* Whoever drains (see writer.h); the host where the companion is gone: */
	char raw_path[AF_PATH_MAX];	/* of the raw trace; "" = not begun */
	_Atomic uint64_t mark;		/* bytes / 8 that are good in it << 16 | chunk */
	struct {
		uint64_t records, unfinished, lost;
		uint32_t nodes;
		uint32_t slots;		/* KEEP_NEWEST: chunks written, the last over the first */
		uint64_t slots_at, nodes_at;	/* where they lie in the file, 0 otherwise */
		uint64_t stopped;		/* KEEP_OLDEST: ticks, once it is full */
		uint64_t objects;		/* bit by bit: whose maps are in the file */
	} written;
	_Atomic uint32_t drained_by_host; /* enum af_own_state */
	struct af_polled polled[1u << AF_POLLED_BITS]; /* whoever drains; 2 MiB, touched as used */
};
/* clang-format on */

static inline struct af_chunk *af_session_chunk(struct af_session *s, uint32_t index)
{
	return (struct af_chunk *)((char *)s + s->chunks_offset + (uint64_t)index * AF_CHUNK_SIZE);
}
static inline struct afr_record *af_chunk_records(struct af_chunk *chunk)
{
	return (struct afr_record *)(chunk + 1);
}

_Static_assert(sizeof(struct af_chunk) == 64, "af_chunk");

#endif

/* SPDX-License-Identifier: MIT */
/* What the files of the trace model share, and nobody else sees. */
#ifndef AF_TRACE_INTERNAL_H
#define AF_TRACE_INTERNAL_H

#include "futuremap/futuremap.h"
#include "trace/tasks.h"
#include "trace/timebase.h"
#include "trace/trace.h"

/* One CHUNK block: `count` records that lie wholly inside the file. */
struct af_chunk_entry {
	uint32_t thread; /* afr_chunk.thread; an index in `threads` after open */
	uint32_t sequence;
	uint32_t count;
	uint32_t tid;
	const struct afr_record *records;
};

struct af_thread_entry {
	struct af_thread thread;
	size_t first_chunk, n_chunks; /* in `chunks` */
};

/* A level of await stacks: told by the recorder, as a case of a step; or seen by a look. */
struct af_trace_node {
	uint32_t number;	/* 0: there is none */
	uint32_t parent;	/* number, 0: none */
	uint32_t object;	/* number */
	uint32_t step_case;	/* AFM_NONE: seen, and then */
	uint32_t type, variant; /* indices in its map; variant may be AFM_NONE */
	uint32_t state;		/* enum afr_level_state */
};

/* A task as it was seen by the last look; see looks.c. */
struct af_seen_task {
	const struct afr_look_task *told;
	uint32_t first_node, n_nodes; /* in `seen_nodes`: the innermost levels */
	uint32_t function;	      /* that polls it, or one made up to name it; AFM_NONE */
	bool matched;		      /* it is one of the tasks that were polled */
};

/* What a driver polls in inlined code: a type of a map, and a function made up to name it. */
struct af_driven_type {
	uint32_t map, type, function;
	uint64_t size;
};

struct af_trace {
	const uint8_t *data; /* the file, mapped */
	size_t size;
	struct af_trace_info info;
	struct af_timebase timebase;
	uint64_t clock_end; /* ns: the last calibration, 0 if there is none */

	struct af_futuremap *maps;
	struct afr_object *objects; /* of each map */
	size_t n_maps;
	struct af_function *functions; /* by number; root == name == NULL: no such */

	struct af_chunk_entry *chunks; /* by thread, then sequence */
	size_t n_chunks;
	struct af_thread_entry *threads;

	struct af_trace_node *nodes; /* by number - 1 */
	uint32_t n_nodes;

	uint64_t stopped; /* ticks: from AFR_B_STOPPED; UINT64_MAX: none */

	struct af_driven_type *driven_types; /* driven.c */
	uint32_t n_driven_types;

	const struct afr_look *look; /* NULL: nobody looked */
	size_t look_size;
	const struct afr_look_level *look_levels;
	struct af_seen_task *seen;
	uint32_t n_seen;
	uint32_t *seen_nodes;
	uint32_t n_seen_nodes;

	struct af_tasks tasks; /* of the last walk */
};

/* looks.c. After everything else has been read; false when memory is short. */
bool af_trace_read_look(struct af_trace *trace);
void af_trace_forget_look(struct af_trace *trace);
/* After a walk that has come to the last record: what was seen of each of its tasks (index in
   `seen`, by task number), or AFM_NONE. NULL when memory is short; to be freed. */
uint32_t *af_trace_match_look(struct af_trace *trace);
/* The number of the object that a function is in; 0, the executable, where that is not known. */
uint32_t af_trace_owner(const struct af_trace *trace, uint32_t function);
/* Which map is of the object with this number; AFM_NONE if there is none. */
uint32_t af_trace_map(const struct af_trace *trace, uint32_t number);

#endif

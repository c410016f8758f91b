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

struct af_trace {
	const uint8_t *data; /* the file, mapped */
	size_t size;
	struct af_trace_info info;
	struct af_timebase timebase;
	uint64_t clock_end; /* ns: the last calibration, 0 if there is none */

	struct af_futuremap *maps;
	uint32_t *first_function; /* of each map */
	size_t n_maps;
	struct af_function *functions; /* by number; root == name == NULL: no such */

	struct af_chunk_entry *chunks; /* by thread, then sequence */
	size_t n_chunks;
	struct af_thread_entry *threads;

	struct afr_node *nodes; /* by number - 1; number 0: not there */
	uint32_t n_nodes;

	struct af_tasks tasks; /* of the last walk */
};

#endif

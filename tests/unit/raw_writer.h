/* SPDX-License-Identifier: MIT */
/* Makes raw traces for tests: the bytes that the companion would have written. */
#ifndef AF_TEST_RAW_WRITER_H
#define AF_TEST_RAW_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "record/rawtrace.h"

struct raw {
	uint8_t *data;
	size_t size, room;
};

/* A poll function of the embedded map, with one future of its own. */
struct raw_poll {
	const char *name, *type, *file;
	uint32_t line;
	uint16_t kind;	     /* enum afm_poll_kind */
	int root_of;	     /* task root: index of the poll whose future it drives; else -1 */
	uint32_t await_line; /* of the await point in state 3; 0: none */
};

void raw_begin(struct raw *raw, uint32_t tick_source);
void raw_block(struct raw *raw, uint32_t type, const void *head, size_t head_size, const void *body,
	       size_t body_size);
void raw_process(struct raw *raw, const char *executable);
void raw_object(struct raw *raw, uint32_t first_function, const struct raw_poll *polls, uint32_t n);
void raw_chunk(struct raw *raw, uint32_t thread, uint32_t sequence, uint32_t tid, const char *name,
	       const struct afr_record *records, uint32_t n);
void raw_end(struct raw *raw, uint64_t ticks, uint64_t ns);
void raw_save(const struct raw *raw, const char *path, size_t size);
void raw_free(struct raw *raw);

static inline struct afr_record raw_record(enum afr_kind kind, uint64_t ticks, uint32_t function,
					   uint64_t subject)
{
	return (struct afr_record){
		.word0 = ticks << AFR_KIND_BITS | kind,
		.word1 = (uint64_t)function << AFR_FUNCTION_SHIFT | subject,
	};
}

#endif

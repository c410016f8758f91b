/* SPDX-License-Identifier: MIT */
/*
 * Blocks of a raw trace file, and where they go: what the parts of the writer share. No libc, as
 * there (writer.h).
 */
#ifndef AF_RECORD_BLOCKS_H
#define AF_RECORD_BLOCKS_H

#include <sys/uio.h>

#include "record/syscall.h"
#include "record/writer.h"

#define AF_SLOT_SIZE UINT64_C(65536) /* a chunk's block, and a filler behind it */
#define E_NOSPC 28

static inline long call(long number, long a, long b, long c)
{
	return af_syscall4(number, a, b, c, 0);
}

/* How far the file is good, and which chunk (index + 1) has just been written but is not
   given back yet. One word, so that who takes over never finds the one without the other. */
void af_blocks_mark(struct af_writer *w, uint32_t chunk);

/* All of the parts at `place`, or nothing (but in a pipe). False: w->error says why. */
bool af_blocks_write_at(struct af_writer *w, uint64_t place, struct iovec *parts, int n);
/* Room on disk that was set aside, and is not needed any more. */
void af_blocks_give_back(struct af_writer *w);
/* A block behind what there is. */
bool af_blocks_write(struct af_writer *w, enum afr_block_type type, const void *head,
		     size_t head_size, const void *body, size_t body_size);
/* A block at `place`, and if `room` is more than it takes, a filler up to there. */
bool af_blocks_write_placed(struct af_writer *w, uint64_t place, uint64_t room,
			    enum afr_block_type type, const void *head, size_t head_size,
			    const void *body, size_t body_size);

/* A filler, where what comes next would not begin at a multiple of AF_SLOT_SIZE: the kernel then has
   few large pages to make for it, not many small ones, which takes a third less time. */
void af_blocks_align(struct af_writer *w);

/* What of the limit is for chunks: the rest is for where tasks stand in the end. */
uint64_t af_slots_bytes(const struct af_session *s);
/* KEEP_NEWEST: how many slots the limit has room for, or a few all the same. */
uint32_t af_slots_for(const struct af_session *s, uint64_t slots_at);
/* Behind the last slot, if there are slots. */
uint64_t af_slots_end(const struct af_writer *w);
/* Slots from `at` on that were never written, where something lies behind them all. */
bool af_slots_fill(struct af_writer *w, uint64_t at);

/* The maps of objects that have come since the last time. */
void af_head_write_objects(struct af_writer *w);
/* /proc/PID, and what follows. */
void af_proc_path(char path[64], uint32_t pid, const char *rest);
/* What can be read of a file in /proc, at most `most` bytes. */
size_t af_proc_read(const char *path, char *to, size_t most);
/* struct afr_header.process_start of a process. */
uint64_t af_proc_start(uint32_t pid);

#endif

/* SPDX-License-Identifier: MIT */
#include "record/blocks.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <time.h>

#define RESERVE (UINT64_C(8) << 20)
#define SLOTS_LEAST 16
#define LOOK_SHARE 16
#define E_INTR 4
#define E_FBIG 27

void af_blocks_mark(struct af_writer *w, uint32_t chunk)
{
	atomic_store(&w->session->mark, w->good / 8 << AF_MARK_CHUNK_BITS | chunk);
}

/* Beyond RLIMIT_FSIZE the kernel sends SIGXFSZ too. The host has all signals blocked here: it
   must not meet this one afterwards. */
static void take_back_signal(void)
{
	uint64_t set = UINT64_C(1) << (SIGXFSZ - 1);
	struct timespec at_once = {0};
	af_syscall4(SYS_rt_sigtimedwait, (long)&set, 0, (long)&at_once, sizeof(set));
}

static void fail(struct af_writer *w, int error)
{
	if (error == E_FBIG && w->own)
		take_back_signal();
	w->error = w->error ? w->error : error;
	/* No half block for whoever reads on behind it. */
	if (w->seekable)
		call(SYS_ftruncate, w->fd, (long)w->good, 0);
}

/* Room is asked for in large pieces: a page that is allotted by the write that needs it makes that
   write cost a quarter more (docs/performance.md). */
static void reserve(struct af_writer *w, uint64_t end)
{
	if (end <= w->reserved || !w->seekable || w->own || w->session->keep != AF_KEEP_ALL)
		return;
	w->reserved = end + RESERVE;
	if (af_syscall4(SYS_fallocate, w->fd, FALLOC_FL_KEEP_SIZE, (long)w->good,
			(long)(w->reserved - w->good)))
		af_blocks_give_back(w); /* not here, or no longer */
}

void af_blocks_give_back(struct af_writer *w)
{
	if (w->reserved && w->reserved != UINT64_MAX)
		call(SYS_ftruncate, w->fd, (long)w->good, 0);
	w->reserved = UINT64_MAX;
}

bool af_blocks_write_at(struct af_writer *w, uint64_t place, struct iovec *parts, int n)
{
	uint64_t at = place;
	reserve(w, place + AF_SLOT_SIZE);
	for (int first = 0; first < n;) {
		/* x86-64: the offset is one register, the high half of it is ignored */
		long done = w->seekable ? af_syscall6(SYS_pwritev, w->fd, (long)(parts + first),
						      n - first, (long)at, 0, 0)
					: call(SYS_writev, w->fd, (long)(parts + first), n - first);
		if (done == -E_INTR)
			continue;
		if (done <= 0) {
			fail(w, done ? (int)-done : E_NOSPC);
			return false;
		}
		at += (uint64_t)done;
		while (first < n && (size_t)done >= parts[first].iov_len)
			done -= (long)parts[first++].iov_len;
		if (first < n) {
			parts[first].iov_base = (char *)parts[first].iov_base + done;
			parts[first].iov_len -= (size_t)done;
		}
	}
	w->good = at > w->good ? at : w->good;
	return true;
}

bool af_blocks_write_placed(struct af_writer *w, uint64_t place, uint64_t room,
			    enum afr_block_type type, const void *head, size_t head_size,
			    const void *body, size_t body_size)
{
	static const char zeroes[8];
	size_t length = head_size + body_size;
	struct afr_block block = {.type = type, .length = length};
	struct iovec parts[] = {
		{&block, sizeof(block)},
		{(void *)(uintptr_t)head, head_size},
		{(void *)(uintptr_t)body, body_size},
		{(void *)(uintptr_t)zeroes, -length & 7},
		{NULL, 0},
	};
	uint64_t size = sizeof(block) + length + (-length & 7);
	struct afr_block filler = {.type = AFR_B_FILLER};
	if (room >= size + sizeof(filler)) {
		filler.length = room - size - sizeof(filler);
		parts[4] = (struct iovec){&filler, sizeof(filler)};
	}
	return af_blocks_write_at(w, place, parts, 5);
}

bool af_blocks_write(struct af_writer *w, enum afr_block_type type, const void *head,
		     size_t head_size, const void *body, size_t body_size)
{
	return af_blocks_write_placed(w, w->good, 0, type, head, head_size, body, body_size);
}

void af_blocks_align(struct af_writer *w)
{
	struct afr_block filler = {.type = AFR_B_FILLER};
	struct iovec part = {&filler, sizeof(filler)};
	uint64_t end = (w->good + AF_SLOT_SIZE - 1) / AF_SLOT_SIZE * AF_SLOT_SIZE;
	if (end == w->good)
		return;
	if (end - w->good < sizeof(filler))
		end += AF_SLOT_SIZE;
	filler.length = end - w->good - sizeof(filler);
	if (af_blocks_write_at(w, w->good, &part, 1))
		w->good = end;
}

uint64_t af_slots_bytes(const struct af_session *s)
{
	bool limited = s->keep == AF_KEEP_OLDEST || s->keep == AF_KEEP_NEWEST;
	return limited ? s->keep_bytes - s->keep_bytes / LOOK_SHARE : s->keep_bytes;
}

uint32_t af_slots_for(const struct af_session *s, uint64_t slots_at)
{
	uint64_t room = af_slots_bytes(s),
		 n = room > slots_at ? (room - slots_at) / AF_SLOT_SIZE : 0;
	return n < SLOTS_LEAST ? SLOTS_LEAST : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

uint64_t af_slots_end(const struct af_writer *w)
{
	return w->slots_at + w->n_slots * AF_SLOT_SIZE;
}

bool af_slots_fill(struct af_writer *w, uint64_t at)
{
	struct afr_block filler = {.type = AFR_B_FILLER,
				   .length = af_slots_end(w) - at - sizeof(filler)};
	struct iovec part = {&filler, sizeof(filler)};
	return at == af_slots_end(w) || af_blocks_write_at(w, at, &part, 1);
}

/* SPDX-License-Identifier: MIT */
#include "record/writer.h"

#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#include "record/blocks.h"
#include "record/text.h"

#define NAMED_CHUNKS 4 /* later ones were taken long after the thread got its name */
#define WAKE_EVERY 64
#define ALIGN_AFTER 8 /* full chunks in a row: so little of the file is lost to it */
#define PATIENCE 50   /* drains of some 20 ms */
#define E_INTR 4
#define E_SRCH 3

/* --- chunks -------------------------------------------------------------------------- */

static bool thread_is_gone(uint32_t pid, uint32_t tid)
{
	return call(SYS_tgkill, pid, tid, 0) == -E_SRCH;
}

static bool is_committed(const struct afr_record *record, uint64_t taken)
{
	uint64_t word0 = __atomic_load_n(&record->word0, __ATOMIC_ACQUIRE);
	return word0 && word0 >> AFR_KIND_BITS >= taken;
}

/* How many slots to take: up to the last one that was committed. Finds the begins of tasks' polls, too, as long
   as the records are at hand. No branches, which would often be predicted wrongly. */
static uint32_t committed(struct af_writer *w, const struct afr_record *records, uint64_t taken,
			  uint32_t *holes)
{
	uint32_t last = 0, written = 0, n = 0;
	for (uint32_t i = 0; i < AF_CHUNK_RECORDS; i++) {
		bool good = is_committed(&records[i], taken);
		uint32_t kind = afr_kind(&records[i]);
		written += good;
		last = good ? i + 1 : last;
		w->begins[n] = (uint16_t)i;
		n += good & ((kind == AFR_ENTER_TASK) | (kind == AFR_ENTER_TASK_AT));
	}
	w->n_begins = n;
	*holes = last - written;
	return last;
}

/* A thread's name now, if it is still there: runtimes name threads after starting them. */
static void read_thread_name(uint32_t pid, uint32_t tid, char name[16])
{
	char path[64], rest[32], text[17];
	char *at = af_put_text(rest, rest + sizeof(rest), "/task/");
	at = af_put_number(at, rest + sizeof(rest), tid);
	af_put_text(at, rest + sizeof(rest), "/comm");
	af_proc_path(path, pid, rest);
	size_t n = af_proc_read(path, text, 16);
	if (n < 2 || text[n - 1] != '\n')
		return;
	text[n - 1] = '\0';
	for (unsigned i = 0; i < 16; i++)
		name[i] = i < n ? text[i] : '\0';
}

static bool write_chunk(struct af_writer *w, const struct af_chunk *chunk,
			const struct afr_record *records, uint32_t count)
{
	struct afr_chunk head = {
		.tid = chunk->tid,
		.sequence = chunk->sequence,
		.count = count,
		.thread = chunk->thread,
	};
	for (unsigned i = 0; i < sizeof(head.name); i++)
		head.name[i] = chunk->name[i];
	if (!w->own && (head.sequence < NAMED_CHUNKS || !head.name[0]))
		read_thread_name(w->session->host_pid, head.tid, head.name);
	head.name[15] = '\0';
	const size_t size = count * sizeof(*records);
	w->in_a_row = count == AF_CHUNK_RECORDS ? w->in_a_row + 1 : 0;
	if (w->session->keep == AF_KEEP_ALL && !w->error && w->seekable &&
	    w->in_a_row > ALIGN_AFTER)
		af_blocks_align(w);
	uint64_t place = w->good, room = 0;
	if (w->n_slots)
		place = w->slots_at + w->slots % w->n_slots * AF_SLOT_SIZE;
	if (w->n_slots || (count == AF_CHUNK_RECORDS && place % AF_SLOT_SIZE == 0))
		room = AF_SLOT_SIZE;
	/* First what is behind it: in between the file is a good one. */
	if (w->n_slots && w->slots + 1 < w->n_slots && w->good > af_slots_end(w) && !w->error)
		af_slots_fill(w, place + AF_SLOT_SIZE);
	bool no_room =
		w->session->keep == AF_KEEP_OLDEST && place + size > af_slots_bytes(w->session);
	if (no_room && chunk->taken < w->stopped)
		w->stopped = chunk->taken;
	if (w->error || no_room ||
	    !af_blocks_write_placed(w, place, room, AFR_B_CHUNK, &head, sizeof(head), records,
				    size)) {
		w->lost += count;
		return false;
	}
	if (w->n_slots) {
		/* The filler is not written to its end, but the file goes on that far. */
		uint64_t end = place + AF_SLOT_SIZE;
		if (end > w->good) {
			w->good = end;
			call(SYS_ftruncate, w->fd, (long)end, 0);
		}
		w->session->written.slots = ++w->slots;
	}
	w->records += count;
	return true;
}

static void give_back(struct af_writer *w, struct af_chunk *chunk, uint32_t index)
{
	struct af_session *s = w->session;
	atomic_store(&chunk->state, AF_CHUNK_FREE);
	/* Before a thread can take it again: from then on the mark would mean its new records. */
	af_blocks_mark(w, 0);
	uint64_t head = atomic_load(&s->free_list), next;
	do {
		atomic_store_explicit(&chunk->next, (uint32_t)head, memory_order_relaxed);
		next = ((head >> 32) + 1) << 32 | (index + 1);
		/* Release: pairs with the acquire of the thread that takes it; the old records
		   have been read before its own are written. */
	} while (!atomic_compare_exchange_weak_explicit(
		&s->free_list, &head, next, memory_order_acq_rel, memory_order_acquire));
	atomic_fetch_add(&s->freed_count, 1);
}

static void wake_waiters(struct af_session *s)
{
	if (atomic_load(&s->host_waiters))
		af_syscall4(SYS_futex, (long)&s->freed_count, FUTEX_WAKE, INT_MAX, 0);
}

/* A copy in which slots that were never written are zero, not what was there before. */
static const struct afr_record *without_stale(struct af_writer *w, const struct afr_record *records,
					      uint32_t count, uint64_t taken)
{
	for (uint32_t i = 0; i < count; i++) {
		bool good = is_committed(&records[i], taken);
		w->copy[i].word0 = good ? records[i].word0 : 0;
		w->copy[i].word1 = good ? records[i].word1 : 0;
	}
	return w->copy;
}

/* A slot of a chunk that was left can still be written: by the code that a signal handler
   interrupted while it filled the chunk. */
static bool be_patient(struct af_writer *w, uint32_t index)
{
	if (w->own)
		return true;
	return w->patience[index]++ < PATIENCE;
}

/* Where this task's last poll is noted, or is to be. */
static struct af_polled *find_polled(struct af_session *s, uint64_t task)
{
	struct af_polled *all = &s->polled[af_polled_at(task)], *oldest = all;
	for (unsigned i = 0; i < AF_POLLED_WAYS; i++) {
		if (all[i].task == task)
			return &all[i];
		if (all[i].ticks < oldest->ticks)
			oldest = &all[i];
	}
	return oldest;
}

/* For `asyncflame dump`, which tells how long a task has been parked. Chunks of several threads come in any
   order; of those in a chunk the newest comes first here, so the others find it there. */
static void note_polls(struct af_writer *w, const struct afr_record *records)
{
	for (uint32_t i = w->n_begins; i-- > 0;) {
		const struct afr_record *record = &records[w->begins[i]];
		uint64_t task = record->word1, ticks = afr_ticks(record);
		struct af_polled *polled = find_polled(w->session, task);
		if (atomic_load_explicit(&polled->ticks, memory_order_relaxed) >= ticks)
			continue;
		atomic_store_explicit(&polled->task, 0, memory_order_relaxed);
		atomic_store_explicit(&polled->ticks, ticks, memory_order_release);
		atomic_store_explicit(&polled->task, task, memory_order_release);
	}
}

/* What has been committed until then in the chunks that are in use, which stay as they are. */
static void write_active(struct af_writer *w, uint64_t until)
{
	struct af_session *s = w->session;
	uint32_t used = atomic_load(&s->chunks_used);
	for (uint32_t i = 0; i < used && i < s->n_chunks && i < AF_CHUNKS; i++) {
		struct af_chunk *chunk = af_session_chunk(s, i);
		if (atomic_load_explicit(&chunk->state, memory_order_acquire) == AF_CHUNK_FREE)
			continue;
		const struct afr_record *records = af_chunk_records(chunk);
		uint64_t taken = chunk->taken;
		uint32_t holes, count = committed(w, records, taken, &holes);
		const struct afr_record *copy = without_stale(w, records, count, taken);
		while (count && (!copy[count - 1].word0 || afr_ticks(&copy[count - 1]) > until))
			count--;
		if (count)
			write_chunk(w, chunk, copy, count);
		w->kept[i] = count;
	}
}

/* Whether all the chunks that are in use may still have room, and no more. */
static bool is_full(const struct af_writer *w)
{
	struct af_session *s = w->session;
	uint32_t used = atomic_load(&s->chunks_used), n = 0;
	if (s->keep != AF_KEEP_OLDEST || w->full)
		return w->full;
	for (uint32_t i = 0; i < used && i < s->n_chunks && i < AF_CHUNKS; i++)
		n += atomic_load(&af_session_chunk(s, i)->state) != AF_CHUNK_FREE;
	return w->good + n * (uint64_t)AF_CHUNK_SIZE > af_slots_bytes(s);
}

/* When the oldest chunk in use was taken that was taken after `last`; UINT64_MAX: there is none. */
static uint64_t next_taken(struct af_session *s, uint64_t last)
{
	uint32_t used = atomic_load(&s->chunks_used);
	uint64_t next = UINT64_MAX;
	for (uint32_t i = 0; i < used && i < s->n_chunks && i < AF_CHUNKS; i++) {
		struct af_chunk *chunk = af_session_chunk(s, i);
		if (atomic_load_explicit(&chunk->state, memory_order_acquire) != AF_CHUNK_FREE &&
		    chunk->taken > last && chunk->taken < next)
			next = chunk->taken;
	}
	return next;
}

/* Until when everything that is in chunks still has room. */
static uint64_t room_until(const struct af_writer *w, uint64_t now)
{
	uint64_t bytes = af_slots_bytes(w->session);
	uint64_t room = bytes > w->good ? (bytes - w->good) / AF_CHUNK_SIZE : 0;
	uint64_t taken = next_taken(w->session, 0);
	for (uint32_t i = 0; i < room && taken < now; i++)
		taken = next_taken(w->session, taken);
	return taken < now ? taken : now;
}

/* Everything up to now is written, of all threads; the host is told to record no more. Whoever
   takes over from here writes no chunk twice. */
static void stop(struct af_writer *w)
{
	struct af_session *s = w->session;
	w->stopped = room_until(w, __builtin_ia32_rdtsc() - s->base_tsc);
	s->written.stopped = w->stopped;
	atomic_store(&s->full, 1);
	write_active(w, w->stopped);
	s->written.stopped = w->stopped;
	w->full = true;
	af_blocks_mark(w, 0);
}

static bool drain_chunk(struct af_writer *w, uint32_t index, enum af_drain what)
{
	struct af_session *s = w->session;
	struct af_chunk *chunk = af_session_chunk(s, index);
	/* Acquire: pairs with leave_chunk's release. */
	uint32_t state = atomic_load_explicit(&chunk->state, memory_order_acquire);
	if (state == AF_CHUNK_FREE)
		return false;
	bool gone = what == AF_DRAIN_ALL;
	if (!gone && what == AF_DRAIN_GONE && thread_is_gone(s->host_pid, chunk->tid))
		gone = true;
	if (!gone && state == AF_CHUNK_ACTIVE)
		return false;
	const struct afr_record *records = af_chunk_records(chunk);
	uint64_t taken = chunk->taken;
	uint32_t holes, count = committed(w, records, taken, &holes);
	if ((holes || count < AF_CHUNK_RECORDS) && !gone && be_patient(w, index))
		return false;
	w->patience[index] = 0;
	if (count) {
		if (holes)
			records = without_stale(w, records, count, taken);
		note_polls(w, records);
		if (w->watch)
			w->watch(w->watcher, chunk, records, count);
		if (!w->full && is_full(w))
			stop(w);
		if (w->full)
			w->lost += count > w->kept[index] ? count - w->kept[index] : 0;
		else if (write_chunk(w, chunk, records, count))
			af_blocks_mark(w, index + 1);
		w->kept[index] = 0;
		w->unfinished += holes;
		s->written.records = w->records;
		s->written.unfinished = w->unfinished;
		s->written.lost = w->lost;
	}
	give_back(w, chunk, index);
	return true;
}

/* The nodes that are new since the last time. */
static void write_nodes(struct af_writer *w)
{
	struct af_session *s = w->session;
	struct afr_node *nodes = (struct afr_node *)w->copy;
	const uint32_t most = sizeof(w->copy) / sizeof(*nodes);
	for (;;) {
		uint32_t n = 0;
		while (n < most && w->nodes < AF_NODES) {
			/* Acquire: pairs with the release in parked.c; the key is there. */
			uint32_t number = atomic_load_explicit(&s->node_order[w->nodes],
							       memory_order_acquire);
			if (!number || number > AF_NODES)
				break;
			uint64_t key = atomic_load(&s->nodes[number - 1]);
			nodes[n++] = (struct afr_node){
				.number = number,
				.parent = af_node_parent(key),
				.object = af_node_object(key),
				.step_case = af_node_case(key),
			};
			w->nodes++;
		}
		if (!n)
			return;
		size_t size = n * sizeof(*nodes);
		uint64_t place = w->nodes_at ? w->nodes_at : w->good;
		uint64_t room = w->nodes_at ? w->slots_at - w->nodes_at : 0;
		if (!w->error &&
		    af_blocks_write_placed(w, place, room, AFR_B_NODES, NULL, 0, nodes, size)) {
			if (w->nodes_at)
				w->nodes_at += sizeof(struct afr_block) + size;
			s->written.nodes_at = w->nodes_at;
			af_blocks_mark(w, 0);
		}
		s->written.nodes = w->nodes;
	}
}

bool af_writer_drain(struct af_writer *writer, enum af_drain what)
{
	struct af_session *s = writer->session;
	uint32_t drained = 0, used = atomic_load(&s->chunks_used);
	af_head_write_objects(writer);
	for (uint32_t i = 0; i < used && i < s->n_chunks && i < AF_CHUNKS; i++) {
		if (!drain_chunk(writer, i, what))
			continue;
		/* Not for each: a thread that is woken for one chunk sleeps again at once. */
		if (++drained % WAKE_EVERY == 0)
			wake_waiters(s);
	}
	wake_waiters(s);
	write_nodes(writer);
	return drained;
}

/* --- the end ------------------------------------------------------------------------- */

static bool write_end(struct af_writer *w, enum afr_end_reason reason)
{
	struct af_session *s = w->session;
	struct timespec t = {0};
	uint64_t before = __builtin_ia32_rdtsc();
	call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0);
	uint64_t after = __builtin_ia32_rdtsc();
	struct afr_clock clock = {
		.ticks = before + (after - before) / 2 - s->base_tsc,
		.monotonic = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
	};
	struct afr_end end = {
		.reason = reason,
		.limit = w->full		 ? AFR_LIMIT_STOPPED
			 : w->slots > w->n_slots ? AFR_LIMIT_OVERWRITTEN
						 : AFR_LIMIT_NONE,
		.records = w->records,
		.dropped = atomic_load(&s->dropped) + w->lost,
		.unfinished = w->unfinished,
	};
	struct afr_stopped stopped = {w->stopped};
	if (w->full)
		af_blocks_write(w, AFR_B_STOPPED, &stopped, sizeof(stopped), NULL, 0);
	return af_blocks_write(w, AFR_B_CLOCK, &clock, sizeof(clock), NULL, 0) &&
	       af_blocks_write(w, AFR_B_HOOKS, &s->hooks, sizeof(s->hooks), NULL, 0) &&
	       af_blocks_write(w, AFR_B_END, &end, sizeof(end), NULL, 0);
}

bool af_writer_look(struct af_writer *w, const void *look, size_t size)
{
	uint32_t keep = w->session->keep;
	bool limited = keep == AF_KEEP_OLDEST || keep == AF_KEEP_NEWEST;
	if (w->error || (limited && w->good + size > w->session->keep_bytes) ||
	    !af_blocks_write(w, AFR_B_LOOK, NULL, 0, look, size))
		return false;
	af_blocks_mark(w, 0);
	return true;
}

int af_writer_finish(struct af_writer *w, enum afr_end_reason reason)
{
	if (write_end(w, reason))
		af_blocks_mark(w, 0);
	af_blocks_give_back(w);
	return w->error;
}

/* --- snapshots ----------------------------------------------------------------------- */

static int copy_file(int from, int to, uint64_t size)
{
	long at = 0;
	while (size) {
		long n = af_syscall4(SYS_sendfile, to, from, (long)&at,
				     size > (1 << 30) ? 1 << 30 : (long)size);
		if (n == -E_INTR)
			continue;
		if (n <= 0)
			return n ? (int)-n : E_NOSPC;
		size -= (uint64_t)n;
	}
	return 0;
}

int af_writer_snapshot(struct af_writer *w, int fd)
{
	int file = w->fd, error = w->error;
	uint32_t n_slots = w->n_slots;
	write_nodes(w);
	af_head_write_objects(w);
	uint64_t good = w->good, records = w->records, mark = atomic_load(&w->session->mark);
	uint32_t nodes = w->nodes;
	uint64_t nodes_at = w->nodes_at;
	int failed = copy_file(file, fd, good);
	if (failed)
		return failed;
	/* For a moment another file, without slots: what is added is added behind. */
	w->fd = fd;
	w->error = 0;
	w->n_slots = 0;
	w->nodes_at = 0;
	write_active(w, UINT64_MAX);
	write_nodes(w); /* that have come meanwhile */
	w->nodes = w->session->written.nodes = nodes;
	w->nodes_at = w->session->written.nodes_at = nodes_at;
	w->n_slots = n_slots;
	write_end(w, AFR_END_EXIT);
	failed = w->error;
	w->fd = file;
	w->error = error;
	w->good = good;
	w->records = records;
	atomic_store(&w->session->mark, mark);
	return failed;
}

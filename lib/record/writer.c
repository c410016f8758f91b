/* SPDX-License-Identifier: MIT */
#include "record/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define NAMED_CHUNKS 4 /* later ones were taken long after the thread got its name */
#define WAKE_EVERY 64
#define PATIENCE 50 /* drains of some 20 ms */

static void write_all(struct af_writer *w, const void *data, size_t size)
{
	const char *at = data;
	while (size && !w->error) {
		ssize_t n = write(w->fd, at, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			w->error =
				af_error_system(n ? errno : ENOSPC, "cannot write the raw trace");
		else
			at += n, size -= (size_t)n;
	}
}

static void write_block(struct af_writer *w, enum afr_block_type type, const void *head,
			size_t head_size, const void *body, size_t body_size)
{
	static const char zeroes[8];
	size_t length = head_size + body_size, padding = -length & 7;
	struct afr_block block = {.type = type, .length = length};
	struct iovec parts[] = {
		{&block, sizeof(block)},
		{(void *)(uintptr_t)head, head_size},
		{(void *)(uintptr_t)body, body_size},
		{(void *)(uintptr_t)zeroes, padding},
	};
	if (w->error)
		return;
	size_t whole = sizeof(block) + length + padding;
	ssize_t n = writev(w->fd, parts, 4);
	if (n == (ssize_t)whole)
		return;
	/* Cut short, by a signal or a disk that fills up: the rest, part by part. */
	size_t done = n > 0 ? (size_t)n : 0;
	for (int i = 0; i < 4; i++) {
		size_t skip = done < parts[i].iov_len ? done : parts[i].iov_len;
		write_all(w, (char *)parts[i].iov_base + skip, parts[i].iov_len - skip);
		done -= skip;
	}
}

/* Executable, directory, then the arguments as /proc has them. */
static void write_process(struct af_writer *w)
{
	char text[2 * AF_PATH_MAX + 32768], path[64];
	size_t n = 0;
	const char *exe = w->session->executable;
	n += strnlen(exe, AF_PATH_MAX - 1);
	memcpy(text, exe, n);
	text[n++] = '\0';
	snprintf(path, sizeof(path), "/proc/%u/cwd", w->session->host_pid);
	ssize_t got = readlink(path, text + n, AF_PATH_MAX - 1);
	n += got > 0 ? (size_t)got : 0;
	text[n++] = '\0';
	snprintf(path, sizeof(path), "/proc/%u/cmdline", w->session->host_pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? 0 : read(fd, text + n, sizeof(text) - n - 1);
	if (fd >= 0)
		close(fd);
	n += got > 0 ? (size_t)got : 0;
	if (text[n - 1])
		text[n++] = '\0';
	write_block(w, AFR_B_PROCESS, NULL, 0, text, n);
}

struct af_error *af_writer_init(struct af_writer *writer, int fd, struct af_session *session,
				const void *map, size_t map_size)
{
	*writer = (struct af_writer){.fd = fd, .session = session};
	writer->patience = calloc(session->n_chunks, sizeof(*writer->patience));
	if (!writer->patience)
		return af_error_create("out of memory");
	struct afr_header header = {
		.magic = AFR_MAGIC,
		.version = AFR_VERSION,
		.header_size = sizeof(header),
		.pid = session->host_pid,
		.tick_source = session->tick_source,
		.base_tsc = session->base_tsc,
		.base_monotonic = session->base_monotonic,
		.base_realtime = session->base_realtime,
		.parent_pid = session->parent_pid,
	};
	struct afr_object object = {.load_bias = atomic_load(&session->load_bias)};
	write_all(writer, &header, sizeof(header));
	write_process(writer);
	write_block(writer, AFR_B_OBJECT, &object, sizeof(object), map, map_size);
	struct af_error *error = writer->error;
	writer->error = NULL;
	return error;
}

void af_writer_deinit(struct af_writer *writer)
{
	if (writer->fd >= 0)
		close(writer->fd);
	free(writer->patience);
	af_error_destroy(writer->error);
	*writer = (struct af_writer){.fd = -1};
}

/* --- chunks -------------------------------------------------------------------------- */

static bool thread_is_gone(uint32_t pid, uint32_t tid)
{
	return syscall(SYS_tgkill, pid, tid, 0) < 0 && errno == ESRCH;
}

static bool is_committed(const struct afr_record *record, uint64_t taken)
{
	uint64_t word0 = __atomic_load_n(&record->word0, __ATOMIC_ACQUIRE);
	return word0 && word0 >> AFR_KIND_BITS >= taken;
}

/* How many slots to take: up to the last one that was committed. */
static uint32_t committed(const struct afr_record *records, uint64_t taken, uint32_t *holes)
{
	uint32_t last = 0, written = 0;
	for (uint32_t i = 0; i < AF_CHUNK_RECORDS; i++) {
		if (!is_committed(&records[i], taken))
			continue;
		written++;
		last = i + 1;
	}
	*holes = last - written;
	return last;
}

/* A thread's name now, if it is still there: runtimes name threads after starting them. */
static void read_thread_name(uint32_t pid, uint32_t tid, char name[16])
{
	char path[64], text[17] = "";
	snprintf(path, sizeof(path), "/proc/%u/task/%u/comm", pid, tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = read(fd, text, 16);
	if (n > 1 && text[n - 1] == '\n') {
		text[n - 1] = '\0';
		memset(name, 0, 16);
		memcpy(name, text, strnlen(text, 15));
	}
	close(fd);
}

static void write_chunk(struct af_writer *w, const struct af_chunk *chunk,
			const struct afr_record *records, uint32_t count)
{
	struct afr_chunk head = {
		.tid = chunk->tid,
		.sequence = chunk->sequence,
		.count = count,
		.thread = chunk->thread,
	};
	memcpy(head.name, chunk->name, sizeof(head.name));
	if (chunk->sequence < NAMED_CHUNKS)
		read_thread_name(w->session->host_pid, chunk->tid, head.name);
	head.name[15] = '\0';
	if (w->error) {
		w->lost_to_disk += count;
		return;
	}
	write_block(w, AFR_B_CHUNK, &head, sizeof(head), records, count * sizeof(*records));
	w->records += count;
}

static void give_back(struct af_session *s, struct af_chunk *chunk, uint32_t index)
{
	atomic_store_explicit(&chunk->state, AF_CHUNK_FREE, memory_order_relaxed);
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
		syscall(SYS_futex, &s->freed_count, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* A copy in which slots that were never written are zero, not what was there before. */
static const struct afr_record *without_stale(struct af_writer *w, const struct afr_record *records,
					      uint32_t count, uint64_t taken)
{
	for (uint32_t i = 0; i < count; i++)
		w->copy[i] = is_committed(&records[i], taken) ? records[i] : (struct afr_record){0};
	return w->copy;
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
	if (!gone && state == AF_CHUNK_ACTIVE) {
		if (what != AF_DRAIN_GONE || !thread_is_gone(s->host_pid, chunk->tid))
			return false;
		gone = true;
	}
	const struct afr_record *records = af_chunk_records(chunk);
	uint32_t holes, count = committed(records, chunk->taken, &holes);
	/* A slot of a chunk that was left can still be written: by the code that a signal
	   handler interrupted while it filled the chunk. */
	if ((holes || count < AF_CHUNK_RECORDS) && !gone && w->patience[index]++ < PATIENCE)
		return false;
	w->patience[index] = 0;
	if (count) {
		if (holes)
			records = without_stale(w, records, count, chunk->taken);
		write_chunk(w, chunk, records, count);
		w->unfinished += holes;
	}
	give_back(s, chunk, index);
	return true;
}

/* The nodes that are new since the last time. */
static void write_nodes(struct af_writer *w)
{
	struct af_session *s = w->session;
	struct afr_node nodes[256];
	for (;;) {
		uint32_t n = 0;
		while (n < 256 && w->nodes < AF_NODES) {
			/* Acquire: pairs with the release in parked.c; the key is there. */
			uint32_t number = atomic_load_explicit(&s->node_order[w->nodes],
							       memory_order_acquire);
			if (!number || number > AF_NODES)
				break;
			uint64_t key = atomic_load(&s->nodes[number - 1]);
			nodes[n++] = (struct afr_node){
				.number = number,
				.parent = af_node_parent(key),
				.step_case = af_node_case(key),
			};
			w->nodes++;
		}
		if (!n)
			return;
		write_block(w, AFR_B_NODES, NULL, 0, nodes, n * sizeof(*nodes));
	}
}

bool af_writer_drain(struct af_writer *writer, enum af_drain what)
{
	uint32_t drained = 0;
	uint32_t used = atomic_load(&writer->session->chunks_used);
	for (uint32_t i = 0; i < used && i < writer->session->n_chunks; i++) {
		if (!drain_chunk(writer, i, what))
			continue;
		/* Not for each: a thread that is woken for one chunk sleeps again at once. */
		if (++drained % WAKE_EVERY == 0)
			wake_waiters(writer->session);
	}
	wake_waiters(writer->session);
	write_nodes(writer);
	return drained;
}

struct af_error *af_writer_finish(struct af_writer *w, enum afr_end_reason reason)
{
	struct af_session *s = w->session;
	struct timespec t;
	uint64_t before = __rdtsc();
	clock_gettime(CLOCK_MONOTONIC, &t);
	uint64_t after = __rdtsc();
	struct afr_clock clock = {
		.ticks = before + (after - before) / 2 - s->base_tsc,
		.monotonic = (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec,
	};
	struct afr_hooks hooks = s->hooks;
	struct afr_end end = {
		.reason = reason,
		.records = w->records,
		.dropped = atomic_load(&s->dropped) + w->lost_to_disk,
		.unfinished = w->unfinished,
	};
	write_block(w, AFR_B_CLOCK, &clock, sizeof(clock), NULL, 0);
	write_block(w, AFR_B_HOOKS, &hooks, sizeof(hooks), NULL, 0);
	write_block(w, AFR_B_END, &end, sizeof(end), NULL, 0);
	struct af_error *error = w->error;
	w->error = NULL;
	return error;
}

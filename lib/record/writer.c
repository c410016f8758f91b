/* SPDX-License-Identifier: MIT */
#include "record/writer.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "record/syscall.h"
#include "record/text.h"

#define NAMED_CHUNKS 4 /* later ones were taken long after the thread got its name */
#define WAKE_EVERY 64
#define PATIENCE 50		       /* drains of some 20 ms */
#define NODES_ROOM (UINT64_C(2) << 20) /* of all nodes, should each come in a block of its own */
#define SLOT_SIZE UINT64_C(65536)      /* a chunk's block, and a filler behind it */
#define SLOTS_LEAST 16
#define LOOK_SHARE 16
#define E_INTR 4
#define E_NOSPC 28
#define E_FBIG 27
#define E_SRCH 3

static long call(long number, long a, long b, long c)
{
	return af_syscall4(number, a, b, c, 0);
}

/* --- blocks -------------------------------------------------------------------------- */

/* How far the file is good, and which chunk (index + 1) has just been written but is not
   given back yet. One word, so that who takes over never finds the one without the other. */
static void set_mark(struct af_writer *w, uint32_t chunk)
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

/* All of the parts at `place`, or nothing (but in a pipe). */
static bool write_at(struct af_writer *w, uint64_t place, struct iovec *parts, int n)
{
	uint64_t at = place;
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

/* Behind what there is. */
static bool write_parts(struct af_writer *w, struct iovec *parts, int n)
{
	return write_at(w, w->good, parts, n);
}

/* A block at `place`, and if `room` is more than it takes, a filler up to there. */
static bool write_block_at(struct af_writer *w, uint64_t place, uint64_t room,
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
	return write_at(w, place, parts, 5);
}

static bool write_block(struct af_writer *w, enum afr_block_type type, const void *head,
			size_t head_size, const void *body, size_t body_size)
{
	return write_block_at(w, w->good, 0, type, head, head_size, body, body_size);
}

/* --- the head ------------------------------------------------------------------------ */

/* What can be read of a file in /proc, at most `most` bytes. */
static size_t read_file(const char *path, char *to, size_t most)
{
	long fd = call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	long n = call(SYS_read, fd, (long)to, (long)most);
	call(SYS_close, fd, 0, 0);
	return n > 0 ? (size_t)n : 0;
}

/* /proc/PID, and what follows. */
static void proc_path(char path[64], uint32_t pid, const char *rest)
{
	const char *end = path + 64;
	char *at = af_put_text(path, end, "/proc/");
	at = af_put_number(at, end, pid);
	af_put_text(at, end, rest);
}

/* Executable, directory, then the arguments as /proc has them. */
static void write_process(struct af_writer *w)
{
	char path[64], *text = (char *)w->copy, *at;
	const size_t most = sizeof(w->copy) - 2 * AF_PATH_MAX;
	at = af_put_text(text, text + AF_PATH_MAX, w->session->executable) + 1;
	proc_path(path, w->session->host_pid, "/cwd");
	long n = call(SYS_readlink, (long)path, (long)at, AF_PATH_MAX - 1);
	at += n > 0 ? n : 0;
	*at++ = '\0';
	proc_path(path, w->session->host_pid, "/cmdline");
	at += read_file(path, at, most);
	if (at[-1])
		*at++ = '\0';
	write_block(w, AFR_B_PROCESS, NULL, 0, text, (size_t)(at - text));
}

static void attach(struct af_writer *w, int fd, struct af_session *session)
{
	struct stat st;
	w->session = session;
	w->fd = fd;
	w->seekable = call(SYS_fstat, fd, (long)&st, 0) == 0 && S_ISREG(st.st_mode);
	w->error = 0;
	w->good = w->records = w->unfinished = w->lost = w->nodes = 0;
	w->full = false;
	w->watch = 0;
	w->nodes_at = w->slots_at = w->n_slots = w->slots = 0;
	w->objects = 0;
	for (uint32_t i = 0; i < AF_CHUNKS; i++)
		w->patience[i] = 0;
}

/* What of the limit is for chunks: the rest is for where tasks stand in the end. */
static uint64_t chunk_bytes(const struct af_session *s)
{
	bool limited = s->keep == AF_KEEP_OLDEST || s->keep == AF_KEEP_NEWEST;
	return limited ? s->keep_bytes - s->keep_bytes / LOOK_SHARE : s->keep_bytes;
}

/* How many the limit has room for, or a few all the same. */
static uint32_t slots_for(const struct af_session *s, uint64_t slots_at)
{
	uint64_t room = chunk_bytes(s), n = room > slots_at ? (room - slots_at) / SLOT_SIZE : 0;
	return n < SLOTS_LEAST ? SLOTS_LEAST : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* KEEP_NEWEST: room for nodes, then as many slots as the limit has room for. */
static void make_slots(struct af_writer *w)
{
	struct af_session *s = w->session;
	struct afr_block filler = {.type = AFR_B_FILLER, .length = NODES_ROOM - sizeof(filler)};
	struct iovec part = {&filler, sizeof(filler)};
	uint64_t at = w->good;
	if ((s->keep != AF_KEEP_NEWEST && s->keep != AF_KEEP_IN_MEMORY) || !w->seekable ||
	    !write_parts(w, &part, 1))
		return;
	w->nodes_at = at;
	w->slots_at = w->good = at + NODES_ROOM;
	w->n_slots = slots_for(s, w->slots_at);
	s->written.nodes_at = w->nodes_at;
	s->written.slots_at = w->slots_at;
	/* Nothing may be missing at the end of a file that was cut off before its first slot. */
	call(SYS_ftruncate, w->fd, (long)w->good, 0);
}

/* Behind the last slot, if there are slots. */
static uint64_t slots_end(const struct af_writer *w)
{
	return w->slots_at + w->n_slots * SLOT_SIZE;
}

/* Slots from `at` on that were never written, where something lies behind them all. */
static bool fill_slots(struct af_writer *w, uint64_t at)
{
	struct afr_block filler = {.type = AFR_B_FILLER,
				   .length = slots_end(w) - at - sizeof(filler)};
	struct iovec part = {&filler, sizeof(filler)};
	return at == slots_end(w) || write_at(w, at, &part, 1);
}

/* Behind what there is, or what comes into the slots. */
static bool write_map(struct af_writer *w, const struct afr_object *object, const void *map,
		      size_t size)
{
	uint64_t behind = w->good;
	bool jump = w->n_slots && behind < slots_end(w);
	uint64_t place = jump ? slots_end(w) : behind;
	if (!write_block_at(w, place, 0, AFR_B_OBJECT, object, sizeof(*object), map, size))
		return false;
	return !jump || fill_slots(w, behind);
}

/* One whose map is known. What cannot be had has no names. */
static void write_object(struct af_writer *w, uint32_t number)
{
	const struct af_session_object *o = &w->session->objects[number];
	struct afr_object object = {
		.load_bias = o->load_bias,
		.first_function = o->first_function,
		.number = number,
	};
	struct stat st;
	long fd = af_syscall4(SYS_openat, AT_FDCWD, (long)o->map_path,
			      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return;
	long map = -1;
	if (!call(SYS_fstat, fd, (long)&st, 0) && S_ISREG(st.st_mode) && st.st_size > 0)
		map = af_syscall6(SYS_mmap, 0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	call(SYS_close, fd, 0, 0);
	if (map < 0 && map > -4096)
		return;
	write_map(w, &object, (void *)map, (size_t)st.st_size);
	call(SYS_munmap, map, st.st_size, 0);
}

/* The maps of objects that have come since the last time. */
static void write_objects(struct af_writer *w)
{
	struct af_session *s = w->session;
	uint32_t n = atomic_load(&s->n_objects);
	for (uint32_t i = 0; i < n && i < AF_OBJECTS && !w->error; i++) {
		/* Acquire: pairs with the release of whoever has found the map. */
		if (w->objects >> i & 1 ||
		    atomic_load_explicit(&s->objects[i].map_state, memory_order_acquire) !=
			    AF_MAP_READY)
			continue;
		write_object(w, i);
		w->objects |= UINT64_C(1) << i;
		if (w->error)
			return;
		set_mark(w, 0);
		s->written.objects = w->objects; /* last: rather twice than never */
	}
}

int af_writer_begin(struct af_writer *w, int fd, struct af_session *session)
{
	attach(w, fd, session);
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
	struct iovec part = {&header, sizeof(header)};
	if (write_parts(w, &part, 1)) {
		write_process(w);
		write_objects(w);
	}
	if (!w->error)
		make_slots(w);
	if (!w->error)
		set_mark(w, 0);
	return w->error;
}

int af_writer_resume(struct af_writer *w, int fd, struct af_session *session)
{
	uint64_t mark = atomic_load(&session->mark);
	attach(w, fd, session);
	w->good = (mark >> AF_MARK_CHUNK_BITS) * 8;
	w->records = session->written.records;
	w->unfinished = session->written.unfinished;
	w->lost = session->written.lost;
	w->nodes = session->written.nodes;
	w->objects = session->written.objects;
	w->slots = session->written.slots;
	w->nodes_at = session->written.nodes_at;
	w->slots_at = session->written.slots_at;
	if (w->slots_at)
		w->n_slots = slots_for(session, w->slots_at);
	if (!w->seekable || !w->good)
		return E_NOSPC;
	long failed = call(SYS_ftruncate, fd, (long)w->good, 0);
	uint32_t chunk = (uint32_t)mark & AF_MARK_CHUNK_MASK;
	if (chunk && chunk <= session->n_chunks)
		/* It is in the file, and whoever wrote it had no time to say so. */
		atomic_store(&af_session_chunk(session, chunk - 1)->state, AF_CHUNK_FREE);
	return (int)-failed;
}

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
	char path[64], rest[32], text[17];
	char *at = af_put_text(rest, rest + sizeof(rest), "/task/");
	at = af_put_number(at, rest + sizeof(rest), tid);
	af_put_text(at, rest + sizeof(rest), "/comm");
	proc_path(path, pid, rest);
	size_t n = read_file(path, text, 16);
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
	uint64_t place = w->good, room = 0;
	if (w->n_slots) {
		place = w->slots_at + w->slots % w->n_slots * SLOT_SIZE;
		room = SLOT_SIZE;
	}
	/* First what is behind it: in between the file is a good one. */
	if (w->n_slots && w->slots + 1 < w->n_slots && w->good > slots_end(w) && !w->error)
		fill_slots(w, place + SLOT_SIZE);
	if (w->session->keep == AF_KEEP_OLDEST && place + size > chunk_bytes(w->session))
		w->full = true;
	if (w->error || w->full ||
	    !write_block_at(w, place, room, AFR_B_CHUNK, &head, sizeof(head), records, size)) {
		w->lost += count;
		return false;
	}
	if (w->n_slots) {
		/* The filler is not written to its end, but the file goes on that far. */
		uint64_t end = place + SLOT_SIZE;
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
	set_mark(w, 0);
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
	uint32_t holes, count = committed(records, taken, &holes);
	if ((holes || count < AF_CHUNK_RECORDS) && !gone && be_patient(w, index))
		return false;
	w->patience[index] = 0;
	if (count) {
		if (holes)
			records = without_stale(w, records, count, taken);
		if (w->watch)
			w->watch(w->watcher, chunk, records, count);
		if (write_chunk(w, chunk, records, count))
			set_mark(w, index + 1);
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
		    write_block_at(w, place, room, AFR_B_NODES, NULL, 0, nodes, size)) {
			if (w->nodes_at)
				w->nodes_at += sizeof(struct afr_block) + size;
			s->written.nodes_at = w->nodes_at;
			set_mark(w, 0);
		}
		s->written.nodes = w->nodes;
	}
}

bool af_writer_drain(struct af_writer *writer, enum af_drain what)
{
	struct af_session *s = writer->session;
	uint32_t drained = 0, used = atomic_load(&s->chunks_used);
	write_objects(writer);
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
	return write_block(w, AFR_B_CLOCK, &clock, sizeof(clock), NULL, 0) &&
	       write_block(w, AFR_B_HOOKS, &s->hooks, sizeof(s->hooks), NULL, 0) &&
	       write_block(w, AFR_B_END, &end, sizeof(end), NULL, 0);
}

bool af_writer_look(struct af_writer *w, const void *look, size_t size)
{
	uint32_t keep = w->session->keep;
	bool limited = keep == AF_KEEP_OLDEST || keep == AF_KEEP_NEWEST;
	if (w->error || (limited && w->good + size > w->session->keep_bytes) ||
	    !write_block(w, AFR_B_LOOK, NULL, 0, look, size))
		return false;
	set_mark(w, 0);
	return true;
}

int af_writer_finish(struct af_writer *w, enum afr_end_reason reason)
{
	if (write_end(w, reason))
		set_mark(w, 0);
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

/* What is committed in chunks that threads still write, which stay theirs. */
static void write_active(struct af_writer *w)
{
	struct af_session *s = w->session;
	uint32_t used = atomic_load(&s->chunks_used);
	for (uint32_t i = 0; i < used && i < s->n_chunks && i < AF_CHUNKS; i++) {
		struct af_chunk *chunk = af_session_chunk(s, i);
		if (atomic_load_explicit(&chunk->state, memory_order_acquire) == AF_CHUNK_FREE)
			continue;
		const struct afr_record *records = af_chunk_records(chunk);
		uint64_t taken = chunk->taken;
		uint32_t holes, count = committed(records, taken, &holes);
		if (count)
			write_chunk(w, chunk, without_stale(w, records, count, taken), count);
	}
}

int af_writer_snapshot(struct af_writer *w, int fd)
{
	int file = w->fd, error = w->error;
	uint32_t n_slots = w->n_slots;
	write_nodes(w);
	write_objects(w);
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
	write_active(w);
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

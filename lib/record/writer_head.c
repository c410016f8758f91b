/* SPDX-License-Identifier: MIT */
/* What stands at the head of a raw trace: process and maps; and the maps that come later. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "record/blocks.h"
#include "record/text.h"

#define NODES_ROOM (UINT64_C(2) << 20) /* of all nodes, should each come in a block of its own */

size_t af_proc_read(const char *path, char *to, size_t most)
{
	long fd = call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	long n = call(SYS_read, fd, (long)to, (long)most);
	call(SYS_close, fd, 0, 0);
	return n > 0 ? (size_t)n : 0;
}

void af_proc_path(char path[64], uint32_t pid, const char *rest)
{
	const char *end = path + 64;
	char *at = af_put_text(path, end, "/proc/");
	/* What is mounted there need not be of this process's pid namespace. */
	if (pid == (uint32_t)call(SYS_getpid, 0, 0, 0))
		at = af_put_text(at, end, "self");
	else
		at = af_put_number(at, end, pid);
	af_put_text(at, end, rest);
}

uint64_t af_proc_start(uint32_t pid)
{
	char path[64], text[1024];
	uint64_t ticks = 0;
	af_proc_path(path, pid, "/stat");
	text[af_proc_read(path, text, sizeof(text) - 1)] = '\0';
	const char *at = text;
	for (const char *c = text; *c; c++)
		at = *c == ')' ? c : at; /* field 2, a name; starttime is the 22nd */
	for (int field = 2; *at && field < 22; at++)
		field += *at == ' ';
	while (*at >= '0' && *at <= '9')
		ticks = ticks * 10 + (uint64_t)(*at++ - '0');
	return ticks;
}

/* Executable, directory, then the arguments as /proc has them. */
static void write_process(struct af_writer *w)
{
	char path[64], *text = (char *)w->copy, *at;
	const size_t most = sizeof(w->copy) - 2 * AF_PATH_MAX;
	at = af_put_text(text, text + AF_PATH_MAX, w->session->executable) + 1;
	af_proc_path(path, w->session->host_pid, "/cwd");
	long n = call(SYS_readlink, (long)path, (long)at, AF_PATH_MAX - 1);
	at += n > 0 ? n : 0;
	*at++ = '\0';
	af_proc_path(path, w->session->host_pid, "/cmdline");
	at += af_proc_read(path, at, most);
	if (at[-1])
		*at++ = '\0';
	af_blocks_write(w, AFR_B_PROCESS, NULL, 0, text, (size_t)(at - text));
}

static void attach(struct af_writer *w, int fd, struct af_session *session)
{
	struct stat st;
	w->session = session;
	w->fd = fd;
	w->seekable = call(SYS_fstat, fd, (long)&st, 0) == 0 && S_ISREG(st.st_mode);
	w->error = 0;
	w->good = w->reserved = w->records = w->unfinished = w->lost = w->nodes = 0;
	w->full = false;
	w->in_a_row = 0;
	w->watch = 0;
	w->nodes_at = w->slots_at = w->n_slots = w->slots = 0;
	w->objects = 0;
	w->stopped = UINT64_MAX;
	for (uint32_t i = 0; i < AF_CHUNKS; i++)
		w->patience[i] = w->kept[i] = 0;
}

/* KEEP_NEWEST: room for nodes, then as many slots as the limit has room for. */
static void make_slots(struct af_writer *w)
{
	struct af_session *s = w->session;
	struct afr_block filler = {.type = AFR_B_FILLER, .length = NODES_ROOM - sizeof(filler)};
	struct iovec part = {&filler, sizeof(filler)};
	uint64_t at = w->good;
	if ((s->keep != AF_KEEP_NEWEST && s->keep != AF_KEEP_IN_MEMORY) || !w->seekable ||
	    !af_blocks_write_at(w, w->good, &part, 1))
		return;
	w->nodes_at = at;
	w->slots_at = w->good = at + NODES_ROOM;
	w->n_slots = af_slots_for(s, w->slots_at);
	s->written.nodes_at = w->nodes_at;
	s->written.slots_at = w->slots_at;
	/* Nothing may be missing at the end of a file that was cut off before its first slot. */
	call(SYS_ftruncate, w->fd, (long)w->good, 0);
}

/* Behind what there is, or what comes into the slots. */
static bool write_map(struct af_writer *w, const struct afr_object *object, const void *map,
		      size_t size)
{
	uint64_t behind = w->good;
	bool jump = w->n_slots && behind < af_slots_end(w);
	uint64_t place = jump ? af_slots_end(w) : behind;
	if (!af_blocks_write_placed(w, place, 0, AFR_B_OBJECT, object, sizeof(*object), map, size))
		return false;
	return !jump || af_slots_fill(w, behind);
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

void af_head_write_objects(struct af_writer *w)
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
		af_blocks_mark(w, 0);
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
		.process_start = af_proc_start(session->host_pid),
	};
	struct iovec part = {&header, sizeof(header)};
	if (af_blocks_write_at(w, w->good, &part, 1)) {
		write_process(w);
		af_head_write_objects(w);
	}
	if (!w->error)
		make_slots(w);
	if (!w->error)
		af_blocks_mark(w, 0);
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
	w->full = atomic_load(&session->full);
	if (w->full)
		w->stopped = session->written.stopped;
	if (w->slots_at)
		w->n_slots = af_slots_for(session, w->slots_at);
	if (!w->seekable || !w->good)
		return E_NOSPC;
	long failed = call(SYS_ftruncate, fd, (long)w->good, 0);
	uint32_t chunk = (uint32_t)mark & AF_MARK_CHUNK_MASK;
	if (chunk && chunk <= session->n_chunks)
		/* It is in the file, and whoever wrote it had no time to say so. */
		atomic_store(&af_session_chunk(session, chunk - 1)->state, AF_CHUNK_FREE);
	return (int)-failed;
}

/* SPDX-License-Identifier: MIT */
#include "preload/own.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/start.h"
#include "record/blocks.h"
#include "record/lock.h"
#include "record/syscall.h"
#include "record/text.h"
#include "record/thread.h"
#include "record/writer.h"

#define ERROR_ESRCH (-3)
#define TRIES 10 /* names */

/* Under the lock: */
static struct af_writer writer = {.fd = -1};
static struct stat file; /* that writer.fd was when it was opened */
static char output[AF_PATH_MAX];

/* --- is there a companion ------------------------------------------------------------ */

bool af_companion_lives(const struct af_session *s)
{
	char path[32], text[256];
	uint32_t pid = atomic_load(&s->companion_pid);
	if (!pid || call(SYS_kill, pid, 0, 0) == ERROR_ESRCH)
		return false;
	char *at = af_put_text(path, path + sizeof(path), "/proc/");
	at = af_put_number(at, path + sizeof(path), pid);
	af_put_text(at, path + sizeof(path), "/stat");
	long fd = call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false; /* rather no waiting than waiting for ever */
	long n = call(SYS_read, fd, (long)text, sizeof(text) - 1);
	call(SYS_close, fd, 0, 0);
	/* proc_pid_stat(5): the state stands behind the name, which ends with the last ')'. */
	while (n > 0 && text[n - 1] != ')')
		n--;
	return n > 0 && text[n + 1] != 'Z' && text[n + 1] != 'X';
}

/* --- the file ------------------------------------------------------------------------ */

/* What the companion would choose: see open_raw in cli/companion.c. */
static void choose_output(const struct af_session *s)
{
	const char *end = output + sizeof(output);
	char *at;
	if (s->output[0]) {
		at = af_put_text(output, end, s->output);
	} else {
		long n = call(SYS_getcwd, (long)output, sizeof(output), 0);
		at = n > 0 ? output + n - 1 : output;
		at = af_put_text(at, end, "/");
		at = af_put_text(at, end, af_base_name(s->executable));
		at = af_put_text(at, end, s->format_raw ? ".trace.raw" : ".trace.json");
	}
}

/* out.json -> out.PROGRAM-PID.json, out.PROGRAM-PID-2.json */
static void make_own(const struct af_session *s, uint32_t number)
{
	static char suffix[AF_PATH_MAX];
	const char *end = output + sizeof(output), *base = af_base_name(output);
	char *dot = output;
	for (char *at = output; *at; at++)
		dot = at > base && *at == '.' ? at : dot;
	bool has = dot > base;
	af_put_text(suffix, suffix + sizeof(suffix), has ? dot : "");
	while (!has && *dot)
		dot++;
	dot = af_put_text(dot, end, ".");
	dot = af_put_text(dot, end, af_base_name(s->executable));
	dot = af_put_text(dot, end, "-");
	dot = af_put_number(dot, end, s->host_pid);
	if (number > 1) {
		dot = af_put_text(dot, end, "-");
		dot = af_put_number(dot, end, number);
	}
	af_put_text(dot, end, suffix);
}

/* Low numbers are the host's: what it opens next has the number that it would have had. */
static long out_of_the_way(long fd)
{
	long high = fd < 0 ? -1 : call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 500);
	if (high < 0)
		return fd;
	call(SYS_close, fd, 0, 0);
	return high;
}

/* Recorded by a program that this process was before an exec; not by an earlier process of its
   number, which a container's first one always has. */
static bool is_of_this_process(const struct af_session *s, long fd)
{
	static const uint8_t magic[] = AFR_MAGIC;
	struct afr_header header;
	if (af_syscall4(SYS_pread64, fd, (long)&header, sizeof(header), 0) != sizeof(header))
		return false;
	for (unsigned i = 0; i < sizeof(header.magic); i++)
		if (header.magic[i] != magic[i])
			return false;
	return header.pid == s->host_pid && header.process_start == af_proc_start(s->host_pid);
}

static long try_open(struct af_session *s)
{
	const char *end = s->raw_path + AF_PATH_MAX;
	char *at = af_put_text(s->raw_path, end, output);
	if (!s->format_raw)
		af_put_text(at, end, ".recording");
	long fd = af_syscall4(SYS_openat, AT_FDCWD, (long)s->raw_path,
			      O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
	if (fd >= 0 && (call(SYS_flock, fd, LOCK_EX | LOCK_NB, 0) < 0 ||
			is_of_this_process(s, fd) || call(SYS_ftruncate, fd, 0, 0) < 0)) {
		call(SYS_close, fd, 0, 0);
		return -1;
	}
	return out_of_the_way(fd);
}

/* The wrapper converts what it is told of here (cli/sessions.h). */
static void tell_wrapper(struct af_session *s)
{
	static char text[2 * AF_PATH_MAX + 32];
	const char *end = text + sizeof(text);
	int fd = af_report_create(s);
	if (fd < 0)
		return;
	char *at = af_put_text(text, end, "recording ");
	at = af_put_text(at, end, s->raw_path);
	at = af_put_text(at, end, "\noutput ");
	at = af_put_text(at, end, output);
	at = af_put_text(at, end, "\n");
	call(SYS_write, fd, (long)text, at - text);
	call(SYS_close, fd, 0, 0);
}

/* From the beginning: with the maps in the file, so that nobody needs the program. */
static bool begin(struct af_session *s)
{
	long fd = -1;
	/* A file can be another one's, who still writes, or hold what must not be lost. */
	for (uint32_t number = !s->main_program; fd < 0 && number < TRIES; number++) {
		choose_output(s);
		if (number)
			make_own(s, number);
		fd = try_open(s);
	}
	bool begun = fd >= 0 && !af_writer_begin(&writer, (int)fd, s);
	if (begun)
		tell_wrapper(s);
	return begun;
}

static long reopen(const struct af_session *s)
{
	return out_of_the_way(
		call(SYS_openat, AT_FDCWD, (long)s->raw_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
}

/* The companion has died: on from where it was. */
static bool resume(struct af_session *s)
{
	long fd = reopen(s);
	return fd >= 0 && !af_writer_resume(&writer, (int)fd, s);
}

static bool is_our_file(long fd)
{
	struct stat st;
	return fd >= 0 && !call(SYS_fstat, fd, (long)&st, 0) && st.st_dev == file.st_dev &&
	       st.st_ino == file.st_ino;
}

static void forget_file(void)
{
	if (is_our_file(writer.fd))
		call(SYS_close, writer.fd, 0, 0);
	writer.fd = -1;
}

/* Takes the draining over. A companion that was done has said why it could not go on. */
static void take_over(struct af_session *s)
{
	bool possible = atomic_load(&s->companion_state) != AF_COMPANION_DONE;
	if (writer.fd >= 0) /* inherited from the process that this one was forked from */
		forget_file();
	writer.own = true;
	possible = possible && (s->raw_path[0] ? resume(s) : begin(s));
	if (possible)
		call(SYS_fstat, writer.fd, (long)&file, 0);
	atomic_store(&s->drained_by_host, possible ? AF_OWN_DRAINING : AF_OWN_OVER);
}

/* The host may have closed our descriptor, and opened another file under its number. */
static void check_descriptor(struct af_session *s)
{
	if (is_our_file(writer.fd))
		return;
	long fd = reopen(s);
	if (fd >= 0 && !is_our_file(fd)) {
		call(SYS_close, fd, 0, 0);
		fd = -1; /* every write fails from here on, and is counted */
	}
	writer.fd = (int)fd;
}

static bool room_is_left(const struct af_session *s)
{
	return (uint32_t)atomic_load(&s->free_list) || atomic_load(&s->chunks_used) < s->n_chunks;
}

bool af_own_drain(struct af_session *s)
{
	uint32_t state = atomic_load(&s->drained_by_host);
	/* What is lost then is counted, in a file that has no end. */
	if (atomic_load(&s->confined))
		return false;
	if (state == AF_OWN_OVER || (state == AF_OWN_NOT && af_companion_lives(s)))
		return false;
	af_lock(&af_gate.lock);
	if (atomic_load(&s->drained_by_host) == AF_OWN_NOT)
		take_over(s);
	bool draining = atomic_load(&s->drained_by_host) == AF_OWN_DRAINING;
	if (draining) {
		check_descriptor(s);
		af_writer_drain(&writer, AF_DRAIN_FULL);
		if (!room_is_left(s))
			af_writer_drain(&writer, AF_DRAIN_GONE);
	}
	af_unlock(&af_gate.lock);
	return draining;
}

const char *af_own_finish(struct af_session *s)
{
	uint64_t before = 0;
	af_block_signals(&before);
	af_lock(&af_gate.lock);
	if (atomic_load(&s->drained_by_host) == AF_OWN_NOT)
		take_over(s);
	bool draining = atomic_load(&s->drained_by_host) == AF_OWN_DRAINING;
	if (draining) {
		check_descriptor(s);
		af_writer_drain(&writer, AF_DRAIN_ALL);
		af_writer_finish(&writer, AFR_END_EXIT);
		atomic_store(&s->drained_by_host, AF_OWN_OVER);
		forget_file();
	}
	af_unlock(&af_gate.lock);
	af_unblock_signals(&before);
	return draining ? s->raw_path : NULL;
}

/* SPDX-License-Identifier: MIT */
#include "preload/start.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "preload/own.h"
#include "record/syscall.h"
#include "record/text.h"

#define LEAST_CHUNKS 16 /* 1 MiB: with less even one thread would wait all the time */
#define ERROR_EINTR (-4)
#define ERROR_EEXIST (-17)

static long call(long number, long a, long b, long c)
{
	return af_syscall4(number, a, b, c, 0);
}

static void close_fd(long fd)
{
	if (fd >= 0)
		call(SYS_close, fd, 0, 0);
}

/* --- memory -------------------------------------------------------------------------- */

static uint64_t head_size(void)
{
	return (sizeof(struct af_session) + AF_CHUNK_SIZE - 1) / AF_CHUNK_SIZE * AF_CHUNK_SIZE;
}

/* Aligned to the size of a chunk: the stubs rely on it. */
static long map_aligned(uint64_t size, long fd)
{
	long room = af_syscall6(SYS_mmap, 0, (long)(size + AF_CHUNK_SIZE), PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room < 0 && room > -4096)
		return room;
	long at = (room + AF_CHUNK_SIZE - 1) / AF_CHUNK_SIZE * AF_CHUNK_SIZE;
	long end = at + (long)size, behind = room + AF_CHUNK_SIZE - at;
	long mapped = af_syscall6(SYS_mmap, at, (long)size, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED, fd, 0);
	if (mapped != at) {
		call(SYS_munmap, room, (long)(size + AF_CHUNK_SIZE), 0);
		return mapped;
	}
	if (at > room)
		call(SYS_munmap, room, at - room, 0);
	if (behind > 0)
		call(SYS_munmap, end, behind, 0);
	return at;
}

/* To grow a file beyond RLIMIT_FSIZE, even one in memory, is SIGXFSZ. */
static uint32_t chunks_allowed(void)
{
	struct rlimit limit;
	uint64_t most = AF_CHUNKS;
	if (af_syscall4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit) < 0 ||
	    limit.rlim_cur == RLIM_INFINITY)
		return most;
	uint64_t room = limit.rlim_cur < head_size() ? 0 : limit.rlim_cur - head_size();
	return room / AF_CHUNK_SIZE < most ? room / AF_CHUNK_SIZE : most;
}

struct af_session *af_session_map(int *fd)
{
	long memory = call(SYS_memfd_create, (long)"asyncflame-session", MFD_CLOEXEC, 0);
	if (memory < 0)
		return NULL;
	for (uint32_t n = chunks_allowed(); n >= LEAST_CHUNKS; n /= 2) {
		uint64_t size = head_size() + (uint64_t)n * AF_CHUNK_SIZE;
		if (call(SYS_ftruncate, memory, (long)size, 0) < 0)
			continue;
		long at = map_aligned(size, memory);
		if (at < 0 && at > -4096)
			continue;
		struct af_session *s = (struct af_session *)at;
		s->magic = AF_SESSION_MAGIC;
		s->n_chunks = n;
		s->chunk_size = AF_CHUNK_SIZE;
		s->chunks_offset = head_size();
		s->size = size;
		*fd = (int)memory;
		return s;
	}
	close_fd(memory);
	return NULL;
}

/* --- the companion ------------------------------------------------------------------- */

int af_report_create(const struct af_session *s)
{
	static char path[AF_PATH_MAX + 32];
	const char *end = path + sizeof(path);
	if (!s->run_directory[0])
		return -1;
	for (int i = 0; i < 100; i++) {
		char *at = af_put_text(path, end, s->run_directory);
		at = af_put_text(at, end, "/");
		at = af_put_number(at, end, s->host_pid);
		at = af_put_text(at, end, "-");
		at = af_put_number(at, end, i);
		af_put_text(at, end, ".session");
		long fd = af_syscall4(SYS_openat, AT_FDCWD, (long)path,
				      O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd == ERROR_EEXIST)
			continue;
		if (fd >= 0)
			call(SYS_flock, fd, LOCK_EX | LOCK_NB, 0);
		return fd < 0 ? -1 : (int)fd;
	}
	return -1;
}

extern char **environ;

/* The companion itself must not be preloaded. Only in the child: the host's own
   environment is left as it is. */
static void forget_preload(void)
{
	char **to = environ;
	for (char **from = environ; from && *from; from++)
		if (!af_begins_with(*from, "LD_PRELOAD="))
			*to++ = *from;
	if (to)
		*to = NULL;
}

/* In the grandchild. */
static void become_companion(const struct af_session *s, const long fds[3])
{
	static char numbers[3][12];
	static const char *argv[] = {"asyncflame", "companion", numbers[0],
				     numbers[1],   numbers[2],	NULL};
	for (int i = 0; i < 3; i++) {
		af_put_number(numbers[i], numbers[i] + sizeof(numbers[i]), fds[i]);
		if (fds[i] >= 0)
			call(SYS_fcntl, fds[i], F_SETFD, 0);
	}
	uint64_t none = 0;
	af_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, 8);
	call(SYS_setsid, 0, 0, 0);
	forget_preload();
	call(SYS_execve, (long)s->program, (long)argv, (long)environ);
	call(SYS_exit_group, 127, 0, 0);
}

/* No exit signal: of the child in between neither a handler of SIGCHLD nor wait() of the
   host's ever hears. Untraced: a debugger would take it for a thread of the host. libc is
   not told, no handler of the host's runs in the child. */
static long plain_fork(void)
{
	return af_syscall6(SYS_clone, CLONE_UNTRACED, 0, 0, 0, 0, 0);
}

const char *af_companion_start(struct af_session *session, int fd, int *answer)
{
	int pipes[2];
	if (!session->program[0])
		return "the program asyncflame is not found (set ASYNCFLAME_PROGRAM)";
	if (call(SYS_pipe2, (long)pipes, O_CLOEXEC, 0) < 0)
		return "no descriptors left";
	long fds[3] = {fd, af_report_create(session), pipes[1]};
	/* The child in between makes the companion nobody's child, so that the host's wait()
	   never meets it. */
	long between = plain_fork();
	if (!between) {
		long companion = plain_fork();
		if (!companion)
			become_companion(session, fds);
		/* Known from the start: the host must not wait for one that fails to begin. */
		atomic_store(&session->companion_pid, companion < 0 ? 0 : (uint32_t)companion);
		call(SYS_exit_group, companion < 0, 0, 0);
	}
	int status = between < 0;
	if (between > 0)
		while (af_syscall4(SYS_wait4, between, (long)&status, __WALL, 0) == ERROR_EINTR)
			;
	close_fd(pipes[1]);
	close_fd(fds[1]);
	if (status || !atomic_load(&session->companion_pid)) {
		close_fd(pipes[0]);
		return "no process could be started";
	}
	*answer = pipes[0];
	return NULL;
}

/* --- a forked process ---------------------------------------------------------------- */

static void copy_path(char *to, const char *from)
{
	af_put_text(to, to + AF_PATH_MAX, from);
}

/* Those that are known: the same code, the same numbers. What was still wanted then is not hooked. */
static void copy_objects(struct af_session *to, const struct af_session *from)
{
	uint32_t n = atomic_load(&from->n_objects);
	for (uint32_t i = 0; i < n && i < AF_OBJECTS; i++) {
		const struct af_session_object *there = &from->objects[i];
		struct af_session_object *here = &to->objects[i];
		here->load_bias = there->load_bias;
		here->start = there->start;
		here->build_id_size = there->build_id_size;
		for (unsigned k = 0; k < sizeof(here->build_id); k++)
			here->build_id[k] = there->build_id[k];
		here->first_function = there->first_function;
		af_put_text(here->map_path, here->map_path + AF_MAP_PATH_MAX, there->map_path);
		uint32_t state = atomic_load(&there->map_state);
		atomic_store(&here->map_state, state == AF_MAP_WANTED ? AF_MAP_NOTHING : state);
	}
	atomic_store(&to->n_objects, n);
	atomic_store(&to->functions, atomic_load(&from->functions));
}

/* What is the same for parent and child. The time base too: their traces can be laid side
   by side. */
static void copy_description(struct af_session *to, const struct af_session *from)
{
	to->quiet = from->quiet;
	to->generated_only = from->generated_only;
	to->format_raw = from->format_raw;
	to->keep = from->keep;
	to->keep_bytes = from->keep_bytes;
	to->slow_poll = from->slow_poll;
	to->wait_at_exit = from->wait_at_exit;
	to->tick_source = from->tick_source;
	to->base_tsc = from->base_tsc;
	to->base_monotonic = from->base_monotonic;
	to->base_realtime = from->base_realtime;
	copy_path(to->executable, from->executable);
	copy_path(to->output, from->output);
	copy_path(to->filter, from->filter);
	copy_path(to->run_directory, from->run_directory);
	copy_path(to->program, from->program);
	copy_objects(to, from);
	to->hooks.functions = from->hooks.functions;
	to->hooks.hooked = from->hooks.hooked;
	to->hooks.trapped = from->hooks.trapped;
	to->hooks.left_out = from->hooks.left_out;
	for (unsigned i = 0; i < sizeof(to->hooks.refused) / sizeof(to->hooks.refused[0]); i++)
		to->hooks.refused[i] = from->hooks.refused[i];
}

/* The parent's memory goes. Where the calling thread is not the one that forked, that one
   still has its cursor in there: then nobody's memory takes its place. */
static void leave_parents(struct af_session *parents)
{
	uint64_t size = parents->size;
	if (call(SYS_gettid, 0, 0, 0) == call(SYS_getpid, 0, 0, 0))
		call(SYS_munmap, (long)parents, (long)size, 0);
	else
		af_syscall6(SYS_mmap, (long)parents, (long)size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

struct af_session *af_session_fork(struct af_session *parents)
{
	int fd, answer;
	if (atomic_load(
		    &parents->confined)) /* and so is this process: no call that we need is safe */
		return NULL;
	struct af_session *s = af_session_map(&fd);
	if (s) {
		copy_description(s, parents);
		s->host_pid = (uint32_t)call(SYS_getpid, 0, 0, 0);
		s->parent_pid = parents->host_pid;
		atomic_store(&s->host_state, AF_HOST_RECORDING);
		if (!af_companion_start(s, fd, &answer))
			close_fd(answer);
		else if (!af_own_drain(s)) {
			call(SYS_munmap, (long)s, (long)s->size, 0);
			s = NULL;
		}
		close_fd(fd);
	}
	leave_parents(parents);
	return s;
}

struct af_session *af_session_late(const struct af_session *description, int *fd)
{
	struct af_session *s = af_session_map(fd);
	if (!s)
		return NULL;
	copy_description(s, description);
	s->host_pid = (uint32_t)call(SYS_getpid, 0, 0, 0);
	/* A forked copy has a file of its own, and nothing of its parent's to go on with. */
	s->main_program = description->main_program && s->host_pid == description->host_pid;
	return s;
}

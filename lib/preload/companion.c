/* SPDX-License-Identifier: MIT */
#include "preload/companion.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static uint64_t now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static bool copy_path(char *to, const char *from)
{
	size_t n = from ? strlen(from) : 0;
	if (n >= AF_PATH_MAX)
		return false;
	memcpy(to, from ? from : "", n + 1);
	return true;
}

/* Relative to where the program was started, which may change its directory later. */
static bool copy_absolute(char *to, const char *from)
{
	if (!from || from[0] == '/')
		return copy_path(to, from);
	if (!getcwd(to, AF_PATH_MAX))
		return false;
	size_t n = strlen(to);
	if (n + 1 + strlen(from) >= AF_PATH_MAX)
		return false;
	to[n] = '/';
	return copy_path(to + n + 1, from);
}

static const char *fill(struct af_session *s, const struct af_config *config,
			const struct af_host *host)
{
	s->magic = AF_SESSION_MAGIC;
	s->n_chunks = AF_CHUNKS;
	s->chunk_size = AF_CHUNK_SIZE;
	s->host_pid = (uint32_t)getpid();
	s->quiet = config->quiet;
	s->generated_only = config->generated_only;
	s->format_raw = config->format_raw;
	s->wait_at_exit = !config->run_directory;
	s->main_program = config->main_pid == s->host_pid || !config->main_pid;
	s->build_id_size = host->build_id_size;
	memcpy(s->build_id, host->build_id, sizeof(s->build_id));
	ssize_t n = readlink("/proc/self/exe", s->executable, AF_PATH_MAX - 1);
	if (n <= 0)
		return "/proc is not there";
	if (!copy_absolute(s->output, config->output) || !copy_path(s->filter, config->filter) ||
	    !copy_path(s->run_directory, config->run_directory))
		return "a path is too long";
	for (uint32_t i = 0; i < s->n_chunks; i++)
		atomic_init(&af_session_chunk(s, i)->next, i + 1 < s->n_chunks ? i + 2 : 0);
	atomic_store(&s->free_list, 1);
	s->tick_source = AFR_TICKS_TSC;
	s->base_realtime = now(CLOCK_REALTIME);
	s->base_monotonic = now(CLOCK_MONOTONIC);
	s->base_tsc = __rdtsc();
	atomic_store(&s->load_bias, host->place.load_bias);
	return NULL;
}

static uint64_t session_size(void)
{
	uint64_t head = (sizeof(struct af_session) + 4095) & ~UINT64_C(4095);
	return head + (uint64_t)AF_CHUNKS * AF_CHUNK_SIZE;
}

struct af_session *af_session_create(const struct af_config *config, const struct af_host *host,
				     int *fd, const char **why)
{
	uint64_t size = session_size();
	*why = "no shared memory";
	*fd = memfd_create("asyncflame-session", MFD_CLOEXEC);
	if (*fd < 0)
		return NULL;
	struct af_session *s = MAP_FAILED;
	if (!ftruncate(*fd, (off_t)size))
		s = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (s == MAP_FAILED) {
		close(*fd);
		return NULL;
	}
	s->size = size;
	s->chunks_offset = size - (uint64_t)AF_CHUNKS * AF_CHUNK_SIZE;
	if ((*why = fill(s, config, host))) {
		af_session_destroy(s);
		close(*fd);
		return NULL;
	}
	return s;
}

void af_session_destroy(struct af_session *session)
{
	munmap(session, session->size);
}

/* The program asyncflame: where the wrapper says, else beside this library, as a build
   tree or an installation has it. */
static bool find_program(const struct af_config *config, char *path)
{
	static const char *const places[] = {"../cli/asyncflame", "../bin/asyncflame",
					     "../../bin/asyncflame", "../../../bin/asyncflame"};
	if (config->program)
		return copy_path(path, config->program) && !access(path, X_OK);
	Dl_info info;
	char library[PATH_MAX];
	if (!dladdr((const void *)find_program, &info) || !realpath(info.dli_fname, library))
		return false;
	*strrchr(library, '/') = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		int n = snprintf(path, PATH_MAX, "%s/%s", library, places[i]);
		if (n > 0 && n < PATH_MAX && !access(path, X_OK))
			return true;
	}
	return false;
}

/* The wrapper waits for whoever holds this lock: taken before the program's main, so that
   the shortest program is waited for. -1 without a wrapper. */
static int lock_report(const struct af_session *s)
{
	char path[AF_PATH_MAX + 32];
	if (!s->run_directory[0])
		return -1;
	snprintf(path, sizeof(path), "%s/%u.session", s->run_directory, s->host_pid);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void pass_on(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, 0);
}

extern char **environ;

/* The companion itself must not be preloaded. Only in the child: the host's own
   environment is left as it is. */
static void forget_preload(void)
{
	char **to = environ;
	for (char **from = environ; *from; from++)
		if (strncmp(*from, "LD_PRELOAD=", 11))
			*to++ = *from;
	*to = NULL;
}

/* In the grandchild. Only calls that are safe after fork. */
static void become_companion(const char *program, int session, int report, int answer)
{
	char numbers[3][12];
	int fds[3] = {session, report, answer};
	for (int i = 0; i < 3; i++) {
		pass_on(fds[i]);
		snprintf(numbers[i], sizeof(numbers[i]), "%d", fds[i]);
	}
	char *argv[] = {
		(char *)"asyncflame", (char *)"companion", numbers[0], numbers[1], numbers[2], NULL,
	};
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	forget_preload();
	execv(program, argv);
	_exit(127);
}

const char *af_companion_start(const struct af_config *config, struct af_session *session, int fd,
			       int *answer)
{
	char program[AF_PATH_MAX];
	int pipes[2];
	if (!find_program(config, program))
		return "the program asyncflame is not found (set ASYNCFLAME_PROGRAM)";
	if (pipe2(pipes, O_CLOEXEC))
		return "no descriptors left";
	int report = lock_report(session);
	/* _Fork: no handler of the host's runs. The child in between makes the companion
	   nobody's child, so that the host's wait() never meets it. */
	pid_t between = _Fork();
	if (!between) {
		pid_t companion = _Fork();
		if (!companion)
			become_companion(program, fd, report, pipes[1]);
		/* Known from the start: the host must not wait for one that fails to begin. */
		atomic_store(&session->companion_pid, companion < 0 ? 0 : (uint32_t)companion);
		_exit(companion < 0);
	}
	int status = between < 0 ? 1 : 0, saved = errno;
	if (between > 0)
		while (waitpid(between, &status, 0) < 0 && errno == EINTR)
			;
	errno = saved;
	close(pipes[1]);
	if (report >= 0)
		close(report);
	if (status) {
		close(pipes[0]);
		return "no process could be started";
	}
	*answer = pipes[0];
	return NULL;
}

bool af_companion_answered(int answer)
{
	char byte;
	ssize_t n;
	do {
		n = read(answer, &byte, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1;
}

/* SPDX-License-Identifier: MIT */
#include "preload/companion.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
		int n = snprintf(path, AF_PATH_MAX, "%s/%s", library, places[i]);
		if (n > 0 && n < AF_PATH_MAX && !access(path, X_OK))
			return true;
	}
	return false;
}

const char *af_session_describe(struct af_session *s, const struct af_config *config)
{
	s->host_pid = (uint32_t)getpid();
	s->quiet = config->quiet;
	s->generated_only = config->generated_only;
	s->format_raw = config->format_raw;
	s->keep = config->keep;
	s->keep_bytes = config->keep_bytes;
	s->slow_poll = config->slow_poll;
	s->wait_at_exit = !config->run_directory;
	s->main_program = config->main_pid == s->host_pid || !config->main_pid;
	ssize_t n = readlink("/proc/self/exe", s->executable, AF_PATH_MAX - 1);
	if (n <= 0)
		return "/proc is not there";
	if (!copy_absolute(s->output, config->output) || !copy_path(s->filter, config->filter) ||
	    !copy_path(s->run_directory, config->run_directory))
		return "a path is too long";
	if (!find_program(config, s->program))
		s->program[0] = '\0';
	s->tick_source = AFR_TICKS_TSC;
	s->base_realtime = now(CLOCK_REALTIME);
	s->base_monotonic = now(CLOCK_MONOTONIC);
	s->base_tsc = __rdtsc();
	/* The executable is number 0, whether it holds futures or not. */
	atomic_store(&s->n_objects, 1);
	atomic_store(&s->objects[0].map_state, AF_MAP_NOTHING);
	return NULL;
}

struct af_session *af_session_create(const struct af_config *config, int *fd, const char **why)
{
	struct af_session *s = af_session_map(fd);
	*why = s ? af_session_describe(s, config) : "no shared memory";
	if (s && *why) {
		af_session_destroy(s);
		close(*fd);
		s = NULL;
	}
	return s;
}

void af_session_destroy(struct af_session *session)
{
	munmap(session, session->size);
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

/* SPDX-License-Identifier: MIT */
/*
 * The life of the library inside the host: a constructor that patches and starts
 * recording, and a destructor. Nothing of ours runs in between but the stubs; a forked
 * process that records gets a session of its own there (start.c).
 *
 * The constructor, in order:
 *   1. Is this a program to be traced? Else return at once: the preload reaches every
 *      child of the host, every shell and every `ls`.
 *   2. The map: from the cache, or made by the companion, for which we wait.
 *   3. Patch, start recording, let the host run.
 * Whatever fails on the way, the host runs on untraced, with one line said.
 *
 * Locks and signals: the constructor runs while there is one thread and takes no lock.
 * Signals that the host could handle are not handled yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "preload/companion.h"
#include "preload/config.h"
#include "preload/host.h"
#include "patch/plan/site.h"
#include "record/parked.h"
#include "record/syscall.h"
#include "record/thread.h"

static void say(const char *what, const char *why)
{
	char line[1024];
	int n = snprintf(line, sizeof(line), "asyncflame: %s: %s\n", what, why);
	if (n > 0)
		(void)!write(STDERR_FILENO, line,
			     (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static void wake(_Atomic uint32_t *word)
{
	af_syscall4(SYS_futex, (long)word, FUTEX_WAKE, INT32_MAX, 0);
}

static void set_host_state(struct af_session *s, enum af_host_state state)
{
	atomic_store(&s->host_state, state);
	wake(&s->host_state);
}

/* The map that the companion has made or found. */
static bool companions_map(struct af_session *s, struct af_futuremap *map)
{
	if (atomic_load(&s->map_state) != AF_MAP_READY)
		return false; /* the companion has said why */
	const char *why = af_futuremap_open(map, -100 /* AT_FDCWD */, s->map_path,
					    strncmp(s->map_path, "/proc/", 6) != 0);
	if (why && !s->quiet)
		say("the future map cannot be used", why);
	return !why;
}

static void hook_everything(struct af_session *s, const struct af_host *host,
			    const struct af_config *config, const struct af_futuremap *map)
{
	struct af_filter filter = {config->filter, config->generated_only};
	af_record_fork = af_session_fork;
	af_record_start(s);
	if (af_host_threads() > 1) {
		s->hooks.functions = map->header->polls.count;
		s->hooks.refused[AF_REFUSAL_THREADS] = s->hooks.functions;
	} else {
		if (af_parked_start(map, host->place.load_bias))
			af_patch_vtables(map, &host->place);
		af_patch_apply(map, &host->place, &filter, 0, &s->hooks);
	}
	set_host_state(s, AF_HOST_RECORDING);
}

static bool start_session(const struct af_config *config, const struct af_host *host,
			  struct af_futuremap *map, bool have_map)
{
	const char *why;
	int fd, answer;
	struct af_session *s = af_session_create(config, host, &fd, &why);
	if (!s) {
		say("not tracing", why);
		return false;
	}
	why = af_companion_start(s, fd, &answer);
	close(fd);
	if (why) {
		say("not tracing", why);
		af_session_destroy(s);
		return false;
	}
	if (!have_map) {
		if (!af_companion_answered(answer))
			say("not tracing", "the companion process ended early");
		else
			have_map = companions_map(s, map);
	}
	close(answer);
	if (!have_map) {
		set_host_state(s, AF_HOST_NOT_TRACING);
		af_session_destroy(s);
		return false;
	}
	hook_everything(s, host, config, map);
	pthread_atfork(NULL, NULL, af_record_forked);
	return true;
}

__attribute__((constructor)) static void af_preload_start(void)
{
	struct af_config config;
	struct af_host host;
	struct af_futuremap map = {0};
	int saved = errno;
	if (getauxval(AT_SECURE))
		return;
	af_config_read(&config);
	if (config.children_only && config.main_pid == (uint32_t)getpid())
		return;
	af_host_find(&host);
	bool cached = host.build_id_size && !af_cache_load(&map, host.build_id, host.build_id_size);
	bool have_map = cached && map.header->verdict == AFM_FUTURES;
	bool nothing = cached && map.header->verdict == AFM_NO_ASYNC;
	if (!cached) {
		af_host_look(&host);
		nothing = !host.may_hold_futures;
	}
	const char *malformed = nothing ? NULL : af_filter_check(config.filter);
	if (malformed)
		say("ASYNCFLAME_FILTER is malformed, not tracing", malformed);
	else if (!nothing)
		start_session(&config, &host, &map, have_map);
	af_futuremap_close(&map);
	errno = saved;
}

/* Whether the companion still works. A dead one that nobody has reaped counts as gone (in a
   container without an init the host itself may be who should), and so does one that
   cannot be looked at: rather no waiting than waiting for ever. */
static bool companion_lives(const struct af_session *s)
{
	char path[32], text[256];
	snprintf(path, sizeof(path), "/proc/%u/stat", atomic_load(&s->companion_pid));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	const char *name_end = strrchr(text, ')');
	return name_end && name_end[1] && name_end[2] != 'Z' && name_end[2] != 'X';
}

/* The program is at its end, in order. Without a wrapper nobody else waits for the trace:
   we do, as long as the companion lives. */
__attribute__((destructor)) static void af_preload_end(void)
{
	struct af_session *s = af_record_session();
	if (!s || s->host_pid != (uint32_t)getpid())
		return;
	set_host_state(s, AF_HOST_ENDING);
	wake(&s->full_count);
	while (s->wait_at_exit && atomic_load(&s->companion_state) != AF_COMPANION_DONE) {
		struct timespec step = {.tv_nsec = 100000000};
		uint32_t seen = atomic_load(&s->companion_state);
		if (seen == AF_COMPANION_DONE || !companion_lives(s))
			break;
		af_syscall6(SYS_futex, (long)&s->companion_state, FUTEX_WAIT, seen, (long)&step, 0,
			    0);
	}
}

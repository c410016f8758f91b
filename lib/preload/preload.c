/* SPDX-License-Identifier: MIT */
/*
 * The life of the library inside the host: a constructor that patches and starts
 * recording, and a destructor. Nothing of ours runs in between but the stubs; a forked
 * process that records gets a session of its own there (start.c).
 *
 * The constructor, in order:
 *   1. Is this a program to be traced? Else return at once: the preload reaches every
 *      child of the host, every shell and every `ls`.
 *   2. The maps: from the cache, or made by the companion, for which we wait.
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
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "asyncflame.h"
#include "preload/companion.h"
#include "preload/config.h"
#include "preload/host.h"
#include "preload/loads.h"
#include "preload/objects.h"
#include "preload/own.h"
#include "preload/say.h"
#include "preload/trap.h"
#include "patch/plan/site.h"
#include "record/parked.h"
#include "record/switch.h"
#include "record/syscall.h"
#include "record/thread.h"

static bool traced; /* or it may be, when it loads a library with futures */

#define LOOK_STEPS 30 /* of 100 ms; it takes far less, where there is a processor for it */

static void wake(_Atomic uint32_t *word)
{
	af_syscall4(SYS_futex, (long)word, FUTEX_WAKE, INT32_MAX, 0);
}

static void set_host_state(struct af_session *s, enum af_host_state state)
{
	atomic_store(&s->host_state, state);
	wake(&s->host_state);
}

static void hook_everything(struct af_session *s)
{
	af_record_start(s);
	af_switch_tell();
	af_objects_hook(s, af_host_threads() > 1 ? AF_REFUSAL_THREADS : 0);
	set_host_state(s, AF_HOST_RECORDING);
}

/* No companion: all is well all the same, if a map is there already. */
static bool go_alone(struct af_session *s, const char *why)
{
	if (af_objects_open(s, af_say) && af_own_drain(s))
		return true;
	af_say("not tracing", why);
	return false;
}

/* The maps that the companion makes, where they were not in the cache. */
static bool wait_for_maps(struct af_session *s, int answer)
{
	const char *name;
	if (af_objects_wanted(s, &name) && !af_companion_answered(answer)) {
		af_say("not tracing", "the companion process ended early");
		return false;
	}
	/* Where there is none the companion has said why. */
	return af_objects_open(s, s->quiet ? NULL : af_say);
}

static bool start_session(const struct af_config *config)
{
	const char *why;
	int fd, answer;
	struct af_session *s = af_session_create(config, &fd, &why);
	if (!s) {
		af_say("not tracing", why);
		return false;
	}
	af_objects_enter(s);
	why = af_companion_start(s, fd, &answer);
	close(fd);
	bool ready;
	if (why) {
		ready = go_alone(s, why);
	} else {
		ready = wait_for_maps(s, answer);
		close(answer);
	}
	if (!ready) {
		set_host_state(s, AF_HOST_NOT_TRACING);
		af_session_destroy(s);
		return false;
	}
	hook_everything(s);
	return true;
}

/* Nothing to trace so far. Should a library with futures be loaded later, what is asked for now
   is remembered; the environment is the host's from now on. */
static const struct af_session *describe(const struct af_config *config)
{
	struct af_session *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		return NULL;
	if (!af_session_describe(s, config))
		return s;
	munmap(s, sizeof(*s));
	return NULL;
}

static bool watch_loads(const struct af_config *config, bool recording)
{
	const struct af_session *description = NULL;
	if (af_host_threads() > 1)
		return false;
	if (!recording && !(af_objects_may_load() && (description = describe(config))))
		return false;
	af_cache_keep_directory();
	pthread_atfork(NULL, NULL, af_record_forked);
	af_loads_watch(description);
	return true;
}

__attribute__((constructor)) static void af_preload_start(void)
{
	struct af_config config;
	int saved = errno;
	if (getauxval(AT_SECURE))
		return;
	af_config_read(&config);
	if (config.children_only && config.main_pid == (uint32_t)getpid())
		return;
	af_record_fork = af_session_fork;
	af_record_drain = af_own_drain;
	bool any = af_objects_find();
	const char *malformed = any ? af_filter_check(config.filter) : NULL;
	if (malformed)
		af_say("ASYNCFLAME_FILTER is malformed, not tracing", malformed);
	if (config.int3 && (any || af_objects_may_load()) && af_host_threads() == 1)
		af_trap_allow();
	if (config.paused)
		af_switch_pause();
	bool recording = any && !malformed && start_session(&config);
	af_objects_settle();
	traced = !malformed && (watch_loads(&config, recording) || recording);
	errno = saved;
}

/* The companion is gone, or there never was one. */
static void finish_alone(struct af_session *s)
{
	char text[AF_PATH_MAX + 32];
	const char *raw = af_own_finish(s);
	if (s->quiet ||
	    s->run_directory[0]) /* the wrapper converts, and says what there is to say */
		return;
	if (raw)
		snprintf(text, sizeof(text), "asyncflame convert %s", raw);
	else
		snprintf(text, sizeof(text), "%llu records or more are lost",
			 (unsigned long long)atomic_load(&s->dropped));
	af_say(raw ? "there was no companion process to the end; to make a trace of the recording"
		   : "there was no companion process to the end",
	       text);
}

/*
 * One of the symbols that stand before libc's (the others: trap.h). A sandbox begins with one of these (seccomp is not
 * to be had without the first, but for root). Behind it a forked process could not start a
 * companion any more, and a system call that the filter does not know may be death.
 */
__attribute__((visibility("default"))) int prctl(int option, ...)
{
	va_list arguments;
	unsigned long value[4];
	va_start(arguments, option);
	for (int i = 0; i < 4; i++)
		value[i] = va_arg(arguments, unsigned long);
	va_end(arguments);
	if (option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SECCOMP) {
		af_loads_confine();
		af_record_confine();
	}
	long result = af_syscall6(SYS_prctl, option, (long)value[0], (long)value[1], (long)value[2],
				  (long)value[3], 0);
	if (result >= 0)
		return (int)result;
	errno = (int)-result;
	return -1;
}

/*
 * The companion looks where the tasks stand: nothing of it is done here, but the process has
 * to stay for as long. Not long: the companion limits itself (cli/look.c).
 */
static void wait_for_look(struct af_session *s)
{
	bool confined = atomic_load(&s->confined);
	if (!confined && !af_companion_lives(s))
		return;
	/* Where only an ancestor may look into a process (Yama). */
	if (!confined)
		af_syscall4(SYS_prctl, PR_SET_PTRACER, atomic_load(&s->companion_pid), 0, 0);
	set_host_state(s, AF_HOST_ENDING);
	wake(&s->full_count);
	/* A sandbox does not let us see whether the companion is still there. */
	int steps = confined ? LOOK_STEPS / 3 : LOOK_STEPS;
	for (int i = 0; i < steps && !atomic_load(&s->looked); i++) {
		struct timespec step = {.tv_nsec = 100000000};
		if (atomic_load(&s->companion_state) == AF_COMPANION_DONE ||
		    (!confined && !af_companion_lives(s)))
			return;
		af_syscall6(SYS_futex, (long)&s->looked, FUTEX_WAIT, 0, (long)&step, 0, 0);
	}
}

/* The program is at its end, in order. Without a wrapper nobody else waits for the trace:
   we do, as long as the companion lives. */
__attribute__((destructor)) static void af_preload_end(void)
{
	struct af_session *s = af_record_session();
	if (!s || s->host_pid != (uint32_t)getpid())
		return;
	wait_for_look(s);
	set_host_state(s, AF_HOST_ENDING);
	wake(&s->full_count);
	bool confined = atomic_load(&s->confined);
	for (int i = 0; !confined || i < 20; i++) {
		struct timespec step = {.tv_nsec = 100000000};
		uint32_t seen = atomic_load(&s->companion_state);
		if (seen == AF_COMPANION_DONE)
			return;
		if (!confined && !af_companion_lives(s)) {
			/* It may have been done just now. */
			if (atomic_load(&s->companion_state) != AF_COMPANION_DONE)
				finish_alone(s);
			return;
		}
		if (!s->wait_at_exit)
			return;
		af_syscall6(SYS_futex, (long)&s->companion_state, FUTEX_WAIT, seen, (long)&step, 0,
			    0);
	}
}

__attribute__((visibility("default"))) int asyncflame_snapshot(void)
{
	struct af_session *s = af_record_session();
	if (!s || s->keep != AF_KEEP_IN_MEMORY)
		return -1;
	atomic_fetch_add(&s->wanted, 1);
	wake(&s->full_count);
	return 0;
}

__attribute__((visibility("default"))) int asyncflame_pause(void)
{
	if (!traced)
		return -1;
	af_switch_pause();
	return 0;
}

__attribute__((visibility("default"))) int asyncflame_resume(void)
{
	return traced && af_switch_resume() ? 0 : -1;
}

/* SPDX-License-Identifier: MIT */
/*
 * asyncflame companion SESSION REPORT ANSWER: what libasyncflame.so starts beside its
 * host (lib/preload/companion.h). The arguments are descriptors: the session's memory,
 * the wrapper's report file (-1 without a wrapper), and the pipe on which the host waits
 * for the map.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "companion_maps.h"
#include "flight.h"
#include "look.h"
#include "outputs.h"
#include "record/writer.h"
#include "views/chrome.h"
#include "views/summary.h"

struct companion {
	struct af_session *session;
	int report, answer, pidfd;
	struct companion_maps maps;
	struct outputs out;
	struct flight *flight; /* NULL: everything goes to a file at once */
	struct look look;
};

static bool adopt(struct companion *c, int session_fd)
{
	struct stat st;
	if (fstat(session_fd, &st) < 0 || st.st_size < (off_t)sizeof(struct af_session))
		return false;
	struct af_session *s =
		mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, session_fd, 0);
	if (s == MAP_FAILED)
		return false;
	c->session = s;
	return s->magic == AF_SESSION_MAGIC && s->size == (uint64_t)st.st_size &&
	       s->chunk_size == AF_CHUNK_SIZE && s->n_chunks <= AF_CHUNKS &&
	       s->chunks_offset + (uint64_t)s->n_chunks * s->chunk_size == s->size;
}

/* Nothing of the host's but stderr, so that none of its pipes stays open; none of the
   signals that are meant for it. */
static void detach(struct companion *c, int session_fd)
{
	static const int ignored[] = {SIGINT,  SIGQUIT, SIGTERM, SIGHUP,  SIGPIPE,
				      SIGTSTP, SIGTTOU, SIGUSR1, SIGUSR2, SIGXFSZ};
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	int null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	if (fcntl(2, F_GETFD) < 0)
		dup2(null, 2);
	for (int fd = 3; fd < 1024; fd++)
		if (fd != session_fd && fd != c->report && fd != c->answer)
			close(fd);
	/* Beyond what a host without rlimits could have: */
	syscall(SYS_close_range, 1024, UINT_MAX, 0);
	c->pidfd = (int)syscall(SYS_pidfd_open, c->session->host_pid, 0);
}

static void report(struct companion *c, const char *what, const char *text)
{
	if (c->report >= 0)
		dprintf(c->report, "%s %s\n", what, text);
}

static void wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* --- the maps ------------------------------------------------------------------------ */

/* Answers the host. True if there is something to trace. */
static bool settle_maps(struct companion *c)
{
	companion_maps_init(&c->maps, c->session);
	unsigned ready = companion_maps_settle(&c->maps);
	(void)!write(c->answer, "", 1);
	close(c->answer);
	if (ready)
		return true;
	bool failed = atomic_load(&c->session->objects[0].map_state) == AF_MAP_FAILED;
	report(c, failed ? "failed" : "nothing",
	       c->maps.message[0] ? c->maps.message : "no async code");
	return false;
}

/* --- recording ----------------------------------------------------------------------- */

static bool host_gone(const struct companion *c)
{
	struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
	if (c->pidfd >= 0)
		return poll(&p, 1, 0) > 0;
	return kill((pid_t)c->session->host_pid, 0) < 0 && errno == ESRCH;
}

/* The host has become another program: its session is no longer mapped. */
static bool host_has_left(const struct companion *c)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%u/maps", c->session->host_pid);
	FILE *maps = fopen(path, "re");
	if (!maps)
		return false;
	char *line = NULL;
	size_t size = 0;
	bool found = false, any = false;
	while (!found && getline(&line, &size, maps) > 0) {
		any = true;
		found = strstr(line, "memfd:asyncflame-session") != NULL;
	}
	free(line);
	fclose(maps);
	return any && !found;
}

static uint64_t milliseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static enum afr_end_reason record(struct companion *c, struct af_writer *writer)
{
	struct af_session *s = c->session;
	uint64_t looked = milliseconds();
	enum afr_end_reason reason = AFR_END_GONE;
	for (;;) {
		uint32_t seen = atomic_load(&s->full_count);
		bool gone = host_gone(c);
		uint32_t state = atomic_load(&s->host_state);
		if (state == AF_HOST_ENDING)
			reason = AFR_END_EXIT;
		bool looking = look_go_on(&c->look);
		if (gone || state == AF_HOST_NOT_TRACING ||
		    (state == AF_HOST_ENDING && s->wait_at_exit && !looking))
			break;
		uint64_t now = milliseconds();
		/* Threads that are gone leave chunks behind: at once if others want them. */
		bool look = now - looked >= (atomic_load(&s->host_waiters) ? 5 : 500);
		if (look) {
			looked = now;
			if (state == AF_HOST_RECORDING && host_has_left(c))
				break;
		}
		companion_maps_look(&c->maps);
		if (c->flight)
			flight_look(c->flight);
		if (!af_writer_drain(writer, look ? AF_DRAIN_GONE : AF_DRAIN_FULL)) {
			struct timespec step = {.tv_nsec = looking ? 2000000 : 20000000};
			syscall(SYS_futex, &s->full_count, FUTEX_WAIT, seen, &step, NULL, 0);
		}
	}
	af_writer_drain(writer, AF_DRAIN_ALL);
	look_finish(&c->look, writer);
	return reason;
}

static struct af_error *make_trace(struct companion *c, struct af_summary *summary)
{
	struct af_trace *trace;
	struct af_error *error = af_trace_open(&trace, c->out.raw);
	if (error)
		return error;
	/* What nobody wants to hear takes several times as long as the recording did. */
	if (c->session->format_raw && c->session->quiet)
		summary->walk.spans = af_trace_info(trace)->end.records / 2;
	else if (c->session->format_raw)
		error = af_summary_collect(summary, trace);
	else
		error = af_chrome_write(trace, c->out.trace, summary);
	af_trace_close(trace);
	return error;
}

/* The flight is over: what is in memory becomes the trace. */
static int land(struct companion *c, struct af_writer *writer)
{
	flight_finish(c->flight);
	int fd = outputs_open_raw(&c->out);
	int failed = fd < 0 ? errno : af_writer_snapshot(writer, fd);
	if (fd >= 0)
		close(fd);
	return failed;
}

static void finish(struct companion *c, struct af_writer *writer, enum afr_end_reason reason)
{
	struct af_summary summary = {0};
	char text[PATH_MAX + 64];
	int failed = c->flight ? land(c, writer) : af_writer_finish(writer, reason);
	if (failed)
		cli_say("cannot write the recording %s: %s; %llu records are lost", c->out.raw,
			strerror(failed), (unsigned long long)writer->lost);
	struct af_error *error = make_trace(c, &summary);
	if (error) {
		cli_say("%s", error->message);
		cli_say("the recording is kept in %s; make a trace of it with: asyncflame convert %s",
			c->out.raw, c->out.raw);
		report(c, "failed", error->message);
		af_error_destroy(error);
		return;
	}
	if (!c->session->format_raw)
		unlink(c->out.raw);
	if (!c->session->quiet)
		af_summary_print(&summary, stderr, cli_colour(), c->out.trace);
	snprintf(text, sizeof(text), "%s %llu", c->out.trace,
		 (unsigned long long)summary.walk.spans);
	report(c, "traced", text);
}

/* If we die in the middle the host goes on from here, and the wrapper converts. */
static void tell_where(struct companion *c, int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	snprintf(c->session->raw_path, AF_PATH_MAX, "%s", c->out.raw);
	report(c, "recording", c->out.raw);
	report(c, "output", c->out.trace);
}

static void trace_host(struct companion *c)
{
	static struct af_writer writer;
	static struct flight flight;
	bool in_memory = c->session->keep == AF_KEEP_IN_MEMORY;
	outputs_choose(&c->out, c->session, c->report);
	int fd = in_memory ? memfd_create("asyncflame-flight", MFD_CLOEXEC)
			   : outputs_open_raw(&c->out);
	int error = fd < 0 ? errno : af_writer_begin(&writer, fd, c->session);
	if (error) {
		char text[PATH_MAX + 128];
		snprintf(text, sizeof(text), "cannot write %s: %s", c->out.raw, strerror(error));
		cli_say("%s", text);
		report(c, "failed", text);
		return;
	}
	look_init(&c->look, c->session, c->maps.maps);
	if (in_memory) {
		c->flight = &flight;
		flight_init(&flight, &writer, &c->look, c->maps.maps, c->out.trace);
	} else {
		tell_where(c, fd);
	}
	enum afr_end_reason reason = record(c, &writer);
	if (atomic_load(&c->session->host_state) == AF_HOST_NOT_TRACING) {
		if (!in_memory)
			unlink(c->out.raw); /* the host has said why */
		report(c, "failed", "the program could not be patched");
	} else {
		finish(c, &writer, reason);
	}
}

int cmd_companion(int argc, char **argv)
{
	if (argc != 4) {
		cli_say("companion is started by libasyncflame.so, not by hand");
		return CLI_FAILED;
	}
	int session_fd = atoi(argv[1]);
	static struct companion c;
	c = (struct companion){.report = atoi(argv[2]), .answer = atoi(argv[3])};
	if (!adopt(&c, session_fd)) {
		cli_say("companion: the session is damaged");
		return CLI_FAILED;
	}
	detach(&c, session_fd);
	struct af_session *s = c.session;
	atomic_store(&s->companion_state, AF_COMPANION_DRAINING);
	atomic_store(&s->companion_pid, (uint32_t)getpid());
	(void)!chdir("/");
	if (settle_maps(&c))
		trace_host(&c);
	atomic_store(&s->companion_state, AF_COMPANION_DONE);
	wake(&s->companion_state);
	return 0;
}

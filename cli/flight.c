/* SPDX-License-Identifier: MIT */
#include "flight.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "trace/trace.h"
#include "views/chrome.h"

#define SLOW_PAUSE 1000 /* ms between two snapshots for slow polls */
#define SLOW_MOST 16	/* of them: a disk is not to be filled by a program that is always slow */

static volatile sig_atomic_t asked_by_signal;

static void on_signal(int signal)
{
	asked_by_signal++;
}

void flight_name(char *name, size_t size, const char *output, const char *middle)
{
	const char *base = strrchr(output, '/'), *dot = strrchr(output, '.');
	base = base ? base + 1 : output;
	if (!dot || dot <= base)
		dot = output + strlen(output);
	snprintf(name, size, "%.*s.%s%s", (int)(dot - output), output, middle, dot);
}

/* When the wrapper was asked for a snapshot: it touches a file for us to see. */
static int64_t asked_by_wrapper(const struct flight *flight)
{
	char path[AF_PATH_MAX + 16];
	struct stat st;
	const char *directory = flight->session->run_directory;
	if (!directory[0])
		return 0;
	snprintf(path, sizeof(path), "%.*s/snapshot", AF_PATH_MAX - 1, directory);
	if (stat(path, &st) < 0)
		return 0;
	return (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

void flight_init(struct flight *flight, struct af_writer *writer, const struct look *look,
		 const struct af_futuremap *maps, const char *output)
{
	*flight = (struct flight){
		.writer = writer,
		.look = look,
		.session = writer->session,
		.output = output,
	};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigaction(SIGUSR2, &action, NULL);
	if (flight->session->slow_poll) {
		slow_polls_init(&flight->slow, flight->session, maps);
		writer->watch = slow_polls_watch;
		writer->watcher = &flight->slow;
	}
}

static void make_trace(const struct flight *flight, const char *raw, const char *output,
		       const char *why)
{
	struct af_trace *trace;
	struct af_error *error = af_trace_open(&trace, raw);
	if (!error) {
		error = af_chrome_write(trace, output, NULL);
		af_trace_close(trace);
	}
	if (error)
		cli_say("%s; the snapshot is kept in %s", error->message, raw);
	else
		unlink(raw);
	if (!error && !flight->session->quiet)
		cli_say("snapshot: %s (%s)", output, why);
	af_error_destroy(error);
}

static void write_snapshot(struct flight *flight, const char *why)
{
	char number[16], output[PATH_MAX], raw[PATH_MAX + 16];
	bool keep_raw = flight->session->format_raw;
	snprintf(number, sizeof(number), "%u", ++flight->snapshots);
	flight_name(output, sizeof(output), flight->output, number);
	snprintf(raw, sizeof(raw), "%s%s", output, keep_raw ? "" : ".recording");
	int fd = open(raw, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	int failed = fd < 0 ? errno : af_writer_snapshot(flight->writer, fd);
	if (!failed)
		look_append(flight->look, fd);
	if (fd >= 0)
		close(fd);
	if (failed) {
		cli_say("snapshot %s: %s", raw, strerror(failed));
		return;
	}
	if (keep_raw) {
		if (!flight->session->quiet)
			cli_say("snapshot: %s (%s)", raw, why);
		return;
	}
	pid_t pid = fork();
	if (pid > 0)
		return;
	make_trace(flight, raw, output, why);
	if (pid == 0)
		_exit(0);
}

static uint64_t milliseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void look_for_slow_polls(struct flight *flight)
{
	char why[512];
	if (!flight->slow.n_threads || !slow_polls_look(&flight->slow) ||
	    flight->by_slow_polls == SLOW_MOST || milliseconds() < flight->next_slow)
		return;
	flight->next_slow = milliseconds() + SLOW_PAUSE;
	flight->by_slow_polls++;
	snprintf(why, sizeof(why), "%.300s %s %.1f ms%s", slow_polls_name(&flight->slow),
		 flight->slow.open ? "has been polling for" : "took",
		 (double)slow_polls_ns(&flight->slow) / 1e6,
		 flight->by_slow_polls == SLOW_MOST ? "; no more for slow polls" : "");
	write_snapshot(flight, why);
}

void flight_look(struct flight *flight)
{
	uint32_t wanted = atomic_load(&flight->session->wanted);
	int64_t asked = asked_by_wrapper(flight);
	if (asked_by_signal || asked != flight->asked) {
		asked_by_signal = 0;
		flight->asked = asked;
		write_snapshot(flight, "on SIGUSR2");
	}
	if (wanted != flight->wanted) {
		flight->wanted = wanted;
		write_snapshot(flight, "the program asked for it");
	}
	look_for_slow_polls(flight);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

void flight_finish(struct flight *flight)
{
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	slow_polls_deinit(&flight->slow);
	flight->writer->watch = NULL;
}

/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "sessions.h"
#include "trace/trace.h"
#include "views/chrome.h"

static bool make_in(struct sessions *sessions, const char *parent)
{
	if (!parent || parent[0] != '/')
		return false;
	int n = snprintf(sessions->directory, sizeof(sessions->directory), "%s/asyncflame.XXXXXX",
			 parent);
	/* mkdtemp makes it with mode 0700. */
	return n > 0 && (size_t)n < sizeof(sessions->directory) && mkdtemp(sessions->directory);
}

bool sessions_init(struct sessions *sessions)
{
	*sessions = (struct sessions){0};
	return make_in(sessions, getenv("XDG_RUNTIME_DIR")) || make_in(sessions, "/tmp") ||
	       make_in(sessions, getenv("TMPDIR"));
}

/* Gone, or a zombie that nobody has waited for yet. */
static bool is_gone(long pid)
{
	char path[64], text[512];
	if (pid <= 0 || (kill((pid_t)pid, 0) < 0 && errno == ESRCH))
		return true;
	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return fd < 0 && errno == ENOENT;
	text[n] = '\0';
	/* The state stands behind the name, which may itself hold ") Z". */
	const char *name_end = strrchr(text, ')');
	return name_end && (name_end[2] == 'Z' || name_end[2] == 'X');
}

/* True once the companion is done; false if its host lives on. */
static bool wait_for(int fd, long pid)
{
	const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
	while (flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
		if (!is_gone(pid))
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

/* What a session's file says, from its last bytes on. */
struct result {
	char text[3 * PATH_MAX];
	const char *recording, *output; /* NULL: not said */
	const char *last, *rest;	/* the verdict and what follows it, NULL if there is none */
};

static void read_result(struct result *result, int fd)
{
	ssize_t n = pread(fd, result->text, sizeof(result->text) - 1, 0);
	result->text[n > 0 ? n : 0] = '\0';
	char *next = result->text;
	for (char *line; (line = strsep(&next, "\n")) && *line;) {
		char *rest = strchr(line, ' ');
		if (!rest)
			continue;
		*rest++ = '\0';
		if (!strcmp(line, "recording"))
			result->recording = rest;
		else if (!strcmp(line, "output"))
			result->output = rest;
		else
			result->last = line, result->rest = rest;
	}
}

static bool convert(const char *raw, const char *output, bool quiet)
{
	static struct af_summary summary;
	struct af_trace *trace = NULL;
	bool keep = !strcmp(raw, output);
	struct af_error *error = af_trace_open(&trace, raw);
	if (!error)
		error = keep ? af_summary_collect(&summary, trace)
			     : af_chrome_write(trace, output, &summary);
	if (!error && !quiet)
		af_summary_print(&summary, stderr, cli_colour(), output);
	af_trace_close(trace);
	if (!error && !keep)
		unlink(raw);
	if (error)
		cli_say("%s; the recording is kept in %s", error->message, raw);
	af_error_destroy(error);
	return !error;
}

/* Nobody has said how it ended. */
static void rescue(struct sessions *sessions, const struct result *result, bool quiet)
{
	if (result->recording && result->output) {
		if (!quiet)
			cli_say("there was no companion process to the end; this is what was recorded");
		if (convert(result->recording, result->output, quiet))
			sessions->traced++;
	} else if (!sessions->reason[0]) {
		snprintf(sessions->reason, sizeof(sessions->reason),
			 "the companion ended before it was done");
	}
}

static void finish_one(struct sessions *sessions, int directory, const char *name, bool quiet)
{
	struct result result = {0};
	char *end;
	long pid = strtol(name, &end, 10);
	if (end == name || *end != '-')
		return;
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	bool ended = wait_for(fd, pid);
	read_result(&result, fd);
	close(fd);
	if (ended && !result.last && !is_gone(pid)) /* it records by itself */
		ended = false;
	if (!ended)
		sessions->living++;
	else if (!result.last)
		rescue(sessions, &result, quiet);
	else if (!strcmp(result.last, "traced"))
		sessions->traced++;
	else if (!strcmp(result.last, "failed") || !sessions->reason[0])
		snprintf(sessions->reason, sizeof(sessions->reason), "%s", result.rest);
}

void sessions_finish(struct sessions *sessions, bool quiet)
{
	DIR *directory = opendir(sessions->directory);
	const struct dirent *entry;
	while (directory && (entry = readdir(directory)))
		finish_one(sessions, dirfd(directory), entry->d_name, quiet);
	/* A companion that works on still holds its file open, and needs no name for it. */
	if (directory)
		rewinddir(directory);
	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
	rmdir(sessions->directory);
}

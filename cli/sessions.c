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

#include "sessions.h"

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

static void read_result(struct sessions *sessions, int fd)
{
	char line[PATH_MAX + 64];
	ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	const char *rest = strchr(line, ' ');
	bool failed = !strncmp(line, "failed ", 7);
	if (!strncmp(line, "traced ", 7))
		sessions->traced++;
	else if (rest && (failed || !sessions->reason[0]))
		snprintf(sessions->reason, sizeof(sessions->reason), "%s", rest + 1);
	else if (!rest && !sessions->reason[0])
		snprintf(sessions->reason, sizeof(sessions->reason),
			 "the companion ended before it was done");
}

static void finish_one(struct sessions *sessions, int directory, const char *name)
{
	char *end;
	long pid = strtol(name, &end, 10);
	if (end == name || *end != '-')
		return;
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (wait_for(fd, pid))
		read_result(sessions, fd);
	else
		sessions->living++;
	close(fd);
}

void sessions_finish(struct sessions *sessions)
{
	DIR *directory = opendir(sessions->directory);
	const struct dirent *entry;
	while (directory && (entry = readdir(directory)))
		finish_one(sessions, dirfd(directory), entry->d_name);
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

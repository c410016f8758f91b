/* SPDX-License-Identifier: MIT */
#include "outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define START_PRECISION 20000000u /* ns: a tick or two */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* DIR/NAME.trace.json, in the directory in which the host runs. */
static void default_output(struct outputs *o)
{
	struct af_session *s = o->session;
	char link[64], directory[PATH_MAX];
	snprintf(link, sizeof(link), "/proc/%u/cwd", s->host_pid);
	ssize_t n = readlink(link, directory, sizeof(directory) - 1);
	directory[n > 0 ? n : 0] = '\0';
	snprintf(s->output, AF_PATH_MAX, "%.3000s/%.255s.trace.%s", directory,
		 base_name(s->executable), s->format_raw ? "raw" : "json");
}

/* out.json -> out.PROGRAM-PID.json, out.PROGRAM-PID-2.json: for every process but the one that was
   asked for, and for what a process becomes by exec. */
static void name_output(struct outputs *o)
{
	struct af_session *s = o->session;
	char stem[PATH_MAX], number[16] = "";
	if (!o->number) {
		snprintf(o->trace, sizeof(o->trace), "%s", s->output);
		return;
	}
	if (o->number > 1)
		snprintf(number, sizeof(number), "-%u", o->number);
	snprintf(stem, sizeof(stem), "%.3500s", s->output);
	char *dot = strrchr(stem, '.');
	if (dot && (strchr(dot, '/') || dot == base_name(stem)))
		dot = NULL;
	if (dot)
		*dot = '\0';
	snprintf(o->trace, sizeof(o->trace), "%.3500s.%.255s-%u%s%s%s", stem,
		 base_name(s->executable), s->host_pid, number, dot ? "." : "", dot ? dot + 1 : "");
}

/* How many programs the process was before, as the wrapper's directory has it: PID-N.session. */
static uint32_t programs_before(int report)
{
	char link[64], path[PATH_MAX];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", report);
	ssize_t n = report < 0 ? -1 : readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	const char *dash = strrchr(path, '-');
	return dash ? (uint32_t)strtoul(dash + 1, NULL, 10) : 0;
}

void outputs_choose(struct outputs *o, struct af_session *s, int report)
{
	o->session = s;
	s->output[AF_PATH_MAX - 1] = '\0';
	if (!s->output[0])
		default_output(o);
	o->number = programs_before(report) + !s->main_program;
	name_output(o);
}

static uint64_t nanoseconds(struct timespec t)
{
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* CLOCK_REALTIME ns at which the process was started; exec does not change it. UINT64_MAX if unknown. */
static uint64_t host_start(const struct outputs *o)
{
	char path[64], text[1024];
	struct timespec boot, real;
	unsigned long long ticks;
	snprintf(path, sizeof(path), "/proc/%u/stat", o->session->host_pid);
	FILE *file = fopen(path, "re");
	size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
	if (file)
		fclose(file);
	text[n] = '\0';
	const char *at = strrchr(text, ')'); /* field 2; starttime is the 22nd */
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at || sscanf(at, "%llu", &ticks) != 1 || clock_gettime(CLOCK_BOOTTIME, &boot) ||
	    clock_gettime(CLOCK_REALTIME, &real))
		return UINT64_MAX;
	uint64_t tick = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	return nanoseconds(real) - (nanoseconds(boot) - ticks * tick);
}

/* Without a wrapper: a trace that was written since the process was started is that of a program
   which it was before. */
static bool output_is_of_this_process(const struct outputs *o)
{
	struct stat st;
	if (stat(o->trace, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size)
		return false;
	return nanoseconds(st.st_mtim) > host_start(o) + START_PRECISION;
}

/* Whether the file is still the one of that name: who records into it removes it at his end. */
static bool still_there(int fd, const char *path)
{
	struct stat open, now;
	return !fstat(fd, &open) && !stat(path, &now) && open.st_dev == now.st_dev &&
	       open.st_ino == now.st_ino;
}

static int try_raw(struct outputs *o)
{
	if (o->session->format_raw)
		snprintf(o->raw, sizeof(o->raw), "%s", o->trace);
	else
		snprintf(o->raw, sizeof(o->raw), "%.4000s.recording", o->trace);
	struct stat st;
	/* Beside a device or a pipe (-o /dev/null) is no place for a file. */
	if (!o->session->format_raw && !stat(o->trace, &st) && !S_ISREG(st.st_mode)) {
		const char *directory = getenv("TMPDIR");
		snprintf(o->raw, sizeof(o->raw), "%.4000s/asyncflame.XXXXXX",
			 directory && *directory ? directory : "/tmp");
		return mkostemp(o->raw, O_CLOEXEC);
	}
	int fd = open(o->raw, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return fd;
	bool regular = !fstat(fd, &st) && S_ISREG(st.st_mode);
	bool ours = !flock(fd, LOCK_EX | LOCK_NB) && (!regular || still_there(fd, o->raw));
	if (!ours || output_is_of_this_process(o)) { /* another one records into it, or has */
		if (ours && regular && !st.st_size)
			unlink(o->raw);
		close(fd);
		errno = EEXIST;
		return -1;
	}
	if (ftruncate(fd, 0)) {
		/* a pipe or a device: written as it is */
	}
	return fd;
}

int outputs_open_raw(struct outputs *o)
{
	int fd = try_raw(o);
	for (int i = 0; fd < 0 && errno == EEXIST && i < 1000; i++) {
		o->number++;
		name_output(o);
		fd = try_raw(o);
	}
	return fd;
}

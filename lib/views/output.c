/* SPDX-License-Identifier: MIT */
#include "views/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(struct af_output *output, int system, const char *what)
{
	if (!output->error)
		output->error = af_error_system(system, "%s: %s", output->path, what);
}

static void write_all(struct af_output *output, int fd, const char *data, size_t size)
{
	while (size && !output->error) {
		ssize_t n = write(fd, data, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fail(output, errno, "cannot write the trace");
			return;
		}
		data += n;
		size -= (size_t)n;
	}
}

static void flush(struct af_output *output)
{
	write_all(output, output->fd, output->buffer, output->used);
	output->written += output->used;
	output->used = 0;
}

void af_output_write(struct af_output *output, const void *data, size_t size)
{
	if (size > AF_OUTPUT_BUFFER - output->used)
		flush(output);
	if (size > AF_OUTPUT_BUFFER) {
		write_all(output, output->fd, data, size);
		output->written += size;
		return;
	}
	memcpy(output->buffer + output->used, data, size);
	output->used += size;
}

void af_output_string(struct af_output *output, const char *string)
{
	af_output_write(output, string, strlen(string));
}

void af_output_number(struct af_output *output, uint64_t number)
{
	char text[24];
	char *at = text + sizeof(text);
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	af_output_write(output, at, (size_t)(text + sizeof(text) - at));
}

void af_output_microseconds(struct af_output *output, uint64_t ns)
{
	uint64_t fraction = ns % 1000;
	const char text[4] = {'.', (char)('0' + fraction / 100), (char)('0' + fraction / 10 % 10),
			      (char)('0' + fraction % 10)};
	af_output_number(output, ns / 1000);
	af_output_write(output, text, sizeof(text));
}

void af_output_patch(struct af_output *output, uint64_t at, const void *data, size_t size)
{
	if (at >= output->written) {
		memcpy(output->buffer + (at - output->written), data, size);
		return;
	}
	if (at + size > output->written)
		flush(output);
	const char *from = data;
	while (size && !output->error) {
		ssize_t n = pwrite(output->fd, from, size, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fail(output, errno, "cannot write the trace");
			return;
		}
		from += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
}

/* A file without a name, to be copied to a pipe or device at the end. */
static int open_nameless(void)
{
	const char *directory = getenv("TMPDIR");
	int fd = open(directory && *directory ? directory : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC,
		      0600);
	if (fd >= 0)
		return fd;
	char name[] = "/tmp/asyncflame.XXXXXX";
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

/* "DIR/.BASE.PID.part", in the directory of the target so that rename can work. */
static char *temporary_name(const char *target)
{
	const char *slash = strrchr(target, '/');
	int directory = slash ? (int)(slash + 1 - target) : 0;
	char *name;
	if (asprintf(&name, "%.*s.%.200s.%ld.part", directory, target, target + directory,
		     (long)getpid()) < 0)
		return NULL;
	return name;
}

static int open_beside(struct af_output *output)
{
	/* Through a symbolic link: its target is replaced, not the link. */
	output->target = realpath(output->path, NULL);
	if (!output->target)
		output->target = strdup(output->path);
	output->temporary = output->target ? temporary_name(output->target) : NULL;
	if (!output->temporary) {
		errno = ENOMEM;
		return -1;
	}
	unlink(output->temporary);
	int fd = open(output->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0) {
		int saved = errno;
		free(output->temporary);
		output->temporary = NULL;
		errno = saved;
	}
	return fd;
}

struct af_error *af_output_init(struct af_output *output, const char *path)
{
	*output = (struct af_output){.fd = -1};
	output->path = strdup(path);
	output->buffer = malloc(AF_OUTPUT_BUFFER);
	if (!output->path || !output->buffer) {
		af_output_deinit(output);
		return af_error_system(ENOMEM, "%s", path);
	}
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		errno = EISDIR;
	else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		output->fd = open_nameless();
	else
		output->fd = open_beside(output);
	if (output->fd >= 0)
		return NULL;
	struct af_error *error = af_error_system(errno, "%s: cannot be created", path);
	af_output_deinit(output);
	return error;
}

static void copy_to_path(struct af_output *output)
{
	int to = open(output->path, O_WRONLY | O_CLOEXEC);
	if (to < 0) {
		fail(output, errno, "cannot be opened");
		return;
	}
	for (uint64_t at = 0; at < output->written && !output->error;) {
		ssize_t n = pread(output->fd, output->buffer, AF_OUTPUT_BUFFER, (off_t)at);
		if (n <= 0) {
			fail(output, n ? errno : EIO, "cannot be copied");
			break;
		}
		write_all(output, to, output->buffer, (size_t)n);
		at += (uint64_t)n;
	}
	close(to);
}

struct af_error *af_output_commit(struct af_output *output)
{
	if (!output->error)
		flush(output);
	if (!output->error && !output->target)
		copy_to_path(output);
	int fd = output->fd;
	output->fd = -1;
	/* Network file systems report a full disk only here. */
	if (close(fd) < 0 && !output->error)
		fail(output, errno, "cannot write the trace");
	if (!output->error && output->temporary) {
		if (rename(output->temporary, output->target) < 0) {
			fail(output, errno, "cannot be created");
		} else {
			free(output->temporary);
			output->temporary = NULL;
		}
	}
	struct af_error *error = output->error;
	output->error = NULL;
	af_output_deinit(output);
	return error;
}

void af_output_deinit(struct af_output *output)
{
	if (output->fd >= 0)
		close(output->fd);
	if (output->temporary)
		unlink(output->temporary);
	free(output->temporary);
	free(output->target);
	free(output->path);
	free(output->buffer);
	af_error_destroy(output->error);
	*output = (struct af_output){.fd = -1};
}

/* SPDX-License-Identifier: MIT */
#include "input.h"

#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);
int __real_munmap(void *address, size_t length);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *address, size_t length);

static char main_path[32], other_path[32];
static bool has_other;

static void put(char path[32], int *fd, const uint8_t *data, size_t size)
{
	if (*fd < 0) {
		*fd = memfd_create("input", MFD_CLOEXEC);
		snprintf(path, 32, "/proc/self/fd/%d", *fd);
	}
	if (ftruncate(*fd, 0) < 0 || pwrite(*fd, data, size, 0) != (ssize_t)size)
		abort();
}

const char *fuzz_input(const uint8_t *data, size_t size)
{
	static int main_fd = -1, other_fd = -1;
	uint32_t first;

	has_other = size >= 12 && !memcmp(data, FUZZ_TWO, 8);
	if (has_other) {
		memcpy(&first, data + 8, sizeof(first));
		data += 12;
		size -= 12;
		if (first > size)
			first = (uint32_t)size;
		put(other_path, &other_fd, data + first, size - first);
		size = first;
	}
	put(main_path, &main_fd, data, size);
	return main_path;
}

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	if (flags & O_CREAT) {
		va_list args;
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	if (has_other && strcmp(path, main_path) && !(flags & O_CREAT))
		path = other_path;
	return __real_open(path, flags, mode);
}

static size_t mapped(size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	return (length + page - 1) & ~(page - 1);
}

/* A mapped file ends in a page of zeros that nobody may read: with the linker's --wrap the
   sanitizer knows of it. */
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	char *data = __real_mmap(address, length, protection, flags, fd, offset);
	if (data != MAP_FAILED && fd >= 0)
		ASAN_POISON_MEMORY_REGION(data + length, mapped(length) - length);
	return data;
}

int __wrap_munmap(void *address, size_t length)
{
	ASAN_UNPOISON_MEMORY_REGION(address, mapped(length));
	return __real_munmap(address, length);
}

/* Traces without a second clock reading are opened by waiting for one. */
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left)
{
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "input.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);
int __real_munmap(void *address, size_t length);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *address, size_t length);

const char *fuzz_input(const uint8_t *data, size_t size)
{
	static char path[32];
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("input", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	return path;
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

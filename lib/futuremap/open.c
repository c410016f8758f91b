/* SPDX-License-Identifier: MIT */
/*
 * Mapping a map file. Allocates nothing; libc only; safe in the host before main.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "futuremap/futuremap.h"

const char *af_futuremap_open(struct af_futuremap *map, int dirfd, const char *path,
			      bool private_only)
{
	struct stat status;
	const char *why = NULL;
	void *data = MAP_FAILED;

	map->header = NULL;
	map->size = 0;
	/* Not blocking: a FIFO in its place must not hang the program that starts. A link is
	   followed only where the caller vouches for the path (/proc/PID/fd/N is one). */
	int fd = openat(dirfd, path,
			O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
				(private_only ? O_NOFOLLOW : 0));
	if (fd < 0)
		return "no such map, or not readable";
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		why = "not a regular file";
	else if (private_only && (status.st_uid != geteuid() || (status.st_mode & 077)))
		why = "not private to its user";
	else if (status.st_size < (off_t)sizeof(struct afm_header))
		why = "truncated";
	else
		data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd,
			    0);
	close(fd);
	if (data == MAP_FAILED)
		return why ? why : "cannot be mapped";
	why = af_futuremap_check(data, (size_t)status.st_size);
	if (why) {
		munmap(data, (size_t)status.st_size);
		return why;
	}
	map->header = data;
	map->size = (size_t)status.st_size;
	return NULL;
}

void af_futuremap_close(struct af_futuremap *map)
{
	if (map->header)
		munmap((void *)(uintptr_t)map->header, map->size);
	map->header = NULL;
	map->size = 0;
}

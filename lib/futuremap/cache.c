/* SPDX-License-Identifier: MIT */
/*
 * The cache of maps on disk. Nothing in it is trusted: a directory or file that others could
 * have written is not used, and what is used is checked like any other bytes. Only storing
 * makes files; loading works in the host before main and allocates nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "futuremap/futuremap.h"

#define DEFAULT_MAX (UINT64_C(512) << 20)
#define SUFFIX ".afmap"

static size_t append(char *to, size_t size, size_t at, const char *text)
{
	size_t length = strlen(text);
	if (at + length >= size)
		return size; /* too long: stays so */
	memcpy(to + at, text, length + 1);
	return at + length;
}

static char kept[PATH_MAX];
static const char *kept_reason;
static bool is_kept;

/* The directory's path; NULL or why there is none. */
static const char *directory_path(char *path, size_t size)
{
	if (is_kept) {
		if (!kept_reason)
			append(path, size, 0, kept);
		return kept_reason;
	}
	const char *own = getenv("ASYNCFLAME_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	size_t at = 0;

	if (own && *own) {
		at = append(path, size, 0, own);
	} else if (xdg && *xdg == '/') {
		at = append(path, size, append(path, size, 0, xdg), "/asyncflame");
	} else if (home && *home == '/') {
		at = append(path, size, append(path, size, 0, home), "/.cache/asyncflame");
	} else {
		return "no cache directory: neither ASYNCFLAME_CACHE nor HOME is set";
	}
	return at < size ? NULL : "the path of the cache directory is too long";
}

void af_cache_keep_directory(void)
{
	kept_reason = directory_path(kept, sizeof(kept));
	is_kept = true;
}

/* mkdir -p with mode 0700. */
static void make_directories(char *path)
{
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(path, 0700);
		*p = '/';
	}
	mkdir(path, 0700);
}

int af_cache_open_dir(bool create, const char **why)
{
	char path[PATH_MAX];
	struct stat status;
	const char *reason = directory_path(path, sizeof(path));
	int saved = errno, fd = -1;

	if (!reason) {
		const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
		fd = open(path, flags);
		if (fd < 0 && create) {
			make_directories(path);
			fd = open(path, flags);
		}
		if (fd < 0)
			reason = "the cache directory cannot be opened";
	}
	if (fd >= 0 &&
	    (fstat(fd, &status) < 0 || status.st_uid != geteuid() || (status.st_mode & 077))) {
		close(fd);
		fd = -1;
		reason = "the cache directory is not private to its user (mode 0700)";
	}
	if (why)
		*why = reason;
	errno = saved;
	return fd;
}

void af_cache_name(char *name, size_t size, const uint8_t *build_id, uint32_t build_id_size)
{
	static const char digits[] = "0123456789abcdef";
	/* Without a build-id, 16 bytes of content hash stand in its place. */
	size_t at = append(name, size, 0, build_id_size ? "" : "hash-");
	uint32_t n = build_id_size ? build_id_size : 16;

	for (uint32_t i = 0; i < n && i < AFM_BUILD_ID_MAX && at + 2 < size; i++) {
		name[at++] = digits[build_id[i] >> 4];
		name[at++] = digits[build_id[i] & 15];
	}
	if (at < size)
		name[at] = '\0';
	append(name, size, at, SUFFIX);
}

const char *af_cache_load(struct af_futuremap *map, const uint8_t *build_id, uint32_t build_id_size)
{
	char name[2 * AFM_BUILD_ID_MAX + 16];
	const char *why;
	int saved = errno, dir = af_cache_open_dir(false, &why);
	uint32_t n = build_id_size ? build_id_size : 16;

	map->header = NULL;
	map->size = 0;
	if (dir < 0)
		return why;
	af_cache_name(name, sizeof(name), build_id, build_id_size);
	why = af_futuremap_open(map, dir, name, true);
	close(dir);
	if (!why && (map->header->build_id_size != build_id_size ||
		     memcmp(map->header->build_id, build_id, n))) {
		af_futuremap_close(map);
		why = "the map is of another object";
	}
	errno = saved;
	return why;
}

static bool write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		size -= (size_t)n;
	}
	return true;
}

struct kept {
	char name[2 * AFM_BUILD_ID_MAX + 48];
	struct timespec used;
	uint64_t size;
};

static int compare_age(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;
	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	return x->used.tv_nsec < y->used.tv_nsec ? -1 : x->used.tv_nsec > y->used.tv_nsec;
}

/* ASYNCFLAME_CACHE_MAX: bytes, or with K, M, G. */
static uint64_t cache_max(void)
{
	const char *text = getenv("ASYNCFLAME_CACHE_MAX");
	char *end;

	if (!text || *text < '0' || *text > '9')
		return DEFAULT_MAX;
	uint64_t value = strtoull(text, &end, 10);
	/* clang-format off */
	switch (*end) {
	case 'K': case 'k':
		return value << 10;
	case 'M': case 'm':
		return value << 20;
	case 'G': case 'g':
		return value << 30;
	default:
		return value;
	}
	/* clang-format on */
}

/* A temporary file whose writer died is garbage after an hour. */
static bool is_stale(const char *name, const struct stat *status)
{
	return strstr(name, ".tmp-") && time(NULL) - status->st_mtime > 3600;
}

/* Drops the oldest files until the rest fits; `keep` stays whatever its size. */
static void trim(int dir, const char *keep)
{
	struct kept *files = NULL;
	size_t n = 0, capacity = 0;
	uint64_t total = 0, max = cache_max();
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!stream) {
		if (copy >= 0)
			close(copy);
		return;
	}
	while ((entry = readdir(stream))) {
		struct stat status;
		if (!strstr(entry->d_name, SUFFIX) ||
		    strlen(entry->d_name) >= sizeof(files->name) ||
		    fstatat(dir, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (is_stale(entry->d_name, &status)) {
			unlinkat(dir, entry->d_name, 0);
			continue;
		}
		total += (uint64_t)status.st_size;
		if (!strcmp(entry->d_name, keep))
			continue;
		if (n == capacity) {
			capacity = capacity * 2 + 64;
			struct kept *grown = reallocarray(files, capacity, sizeof(*files));
			if (!grown)
				break;
			files = grown;
		}
		strcpy(files[n].name, entry->d_name);
		files[n].used = status.st_mtim;
		files[n++].size = (uint64_t)status.st_size;
	}
	closedir(stream);
	if (total > max && n) {
		qsort(files, n, sizeof(*files), compare_age);
		for (size_t i = 0; i < n && total > max; i++)
			if (!unlinkat(dir, files[i].name, 0))
				total -= files[i].size;
	}
	free(files);
}

const char *af_cache_store(const void *data, size_t size)
{
	const struct afm_header *header = data;
	char name[2 * AFM_BUILD_ID_MAX + 16], temporary[sizeof(name) + 32];
	const char *why = af_futuremap_check(data, size);
	int fd = -1;

	if (why)
		return why;
	int dir = af_cache_open_dir(true, &why);
	if (dir < 0)
		return why;
	af_cache_name(name, sizeof(name), header->build_id, header->build_id_size);
	for (unsigned int i = 0; fd < 0 && i < 100; i++) {
		snprintf(temporary, sizeof(temporary), "%s.tmp-%ld-%u", name, (long)getpid(), i);
		fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			    0600);
		if (fd < 0 && errno != EEXIST)
			break;
	}
	if (fd < 0) {
		close(dir);
		return "a file cannot be made in the cache directory";
	}
	/* The umask may have taken bits, never added any. */
	if (!write_all(fd, data, size) || fchmod(fd, 0600) < 0)
		why = "writing to the cache directory failed";
	if (close(fd) < 0 && !why)
		why = "writing to the cache directory failed";
	if (!why && renameat(dir, temporary, dir, name) < 0)
		why = "a file in the cache directory cannot be renamed";
	if (why)
		unlinkat(dir, temporary, 0);
	else
		trim(dir, name);
	close(dir);
	return why;
}

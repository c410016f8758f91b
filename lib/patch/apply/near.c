/* SPDX-License-Identifier: MIT */
/*
 * Room near the text: an address within reach of 32-bit displacements, and executable
 * memory there that was never writable.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "patch/apply/apply.h"

#define REACH (INT64_C(0x7fffffff) - (4 << 20))
/* The kernel guards and aligns: leave space on both sides. Above, the heap (brk) grows. */
#define MARGIN (UINT64_C(16) << 20)
#define HEAP_ROOM (UINT64_C(1) << 30)
#define LOWEST (UINT64_C(1) << 20)
#define TRIES 8

struct finder {
	uint64_t low, high; /* where the range may begin and end */
	uint64_t start;	    /* of the object */
	uint64_t size;
	uint64_t below, above; /* best so far: nearest below, nearest above; 0 none */
	uint64_t last_end;     /* of the mapping before */
};

static void consider_gap(struct finder *f, uint64_t from, uint64_t to)
{
	if (from < f->low)
		from = f->low;
	if (to > f->high)
		to = f->high;
	if (to <= from || to - from < f->size + 2 * MARGIN)
		return;
	if (to <= f->start)
		f->below = to - MARGIN - f->size; /* gaps come in ascending order */
	else if (!f->above) {
		uint64_t room = to - from;
		uint64_t skip = room > HEAP_ROOM + f->size + MARGIN ? HEAP_ROOM : MARGIN;
		f->above = from + skip;
	}
}

static const char *parse_hex(const char *at, const char *end, uint64_t *value)
{
	*value = 0;
	for (; at < end; at++) {
		unsigned digit;
		if (*at >= '0' && *at <= '9')
			digit = *at - '0';
		else if (*at >= 'a' && *at <= 'f')
			digit = *at - 'a' + 10;
		else
			break;
		*value = *value << 4 | digit;
	}
	return at;
}

/* A line is "start-end perms offset dev inode path"; its head is what is needed. */
static bool visit_line(const char *head, size_t length,
		       bool (*visit)(void *arg, const struct af_mapping *mapping), void *arg)
{
	struct af_mapping mapping = {0};
	const char *end = head + length, *at = parse_hex(head, end, &mapping.start);
	if (at == end)
		return true;
	at = parse_hex(at + 1, end, &mapping.end);
	for (unsigned i = 0; i < sizeof(mapping.permissions) && at + 1 + i < end; i++)
		mapping.permissions[i] = at[1 + i];
	if (end - at > 6)
		parse_hex(at + 6, end, &mapping.offset);
	return visit(arg, &mapping);
}

bool af_near_mappings(bool (*visit)(void *arg, const struct af_mapping *mapping), void *arg)
{
	char buffer[4096], head[64];
	size_t length = 0;
	bool more = true;
	ssize_t n = -1;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	while (more && (n = read(fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < n && more; i++) {
			if (buffer[i] == '\n') {
				more = visit_line(head, length, visit, arg);
				length = 0;
			} else if (length < sizeof(head)) {
				head[length++] = buffer[i];
			}
		}
	}
	close(fd);
	return n >= 0;
}

static bool consider_mapping(void *arg, const struct af_mapping *mapping)
{
	struct finder *f = arg;
	consider_gap(f, f->last_end, mapping->start);
	f->last_end = mapping->end;
	return true;
}

static uint64_t find_room(uint64_t start, uint64_t end, uint64_t size)
{
	struct finder f = {
		.low = end > (uint64_t)REACH ? end - REACH : LOWEST,
		.high = start + REACH,
		.start = start,
		.size = size,
		.last_end = LOWEST,
	};
	if (f.low < LOWEST)
		f.low = LOWEST;
	if (!af_near_mappings(consider_mapping, &f))
		return 0;
	consider_gap(&f, f.last_end, UINT64_C(0x7ffffffff000));
	uint64_t found = f.below ? f.below : f.above;
	return found & ~UINT64_C(4095);
}

uint64_t af_near_reserve(uint64_t start, uint64_t end, uint64_t size)
{
	for (int i = 0; i < TRIES; i++) {
		uint64_t found = find_room(start, end, size);
		if (!found)
			return 0;
		void *at = mmap((void *)found, size, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE,
				-1, 0);
		if (at == (void *)found)
			return found;
		if (at != MAP_FAILED) /* before Linux 4.17 the address is a hint */
			munmap(at, size);
	}
	return 0;
}

bool af_near_map(uint64_t address, const void *code, uint64_t size)
{
	int fd = memfd_create("asyncflame-code", MFD_CLOEXEC);
	if (fd >= 0) {
		void *at = MAP_FAILED;
		if (write(fd, code, size) == (ssize_t)size)
			at = mmap((void *)address, size, PROT_READ | PROT_EXEC,
				  MAP_PRIVATE | MAP_FIXED, fd, 0);
		close(fd);
		if (at == (void *)address)
			return true;
	}
	/* Where memfds may not be executed: written first, executable afterwards. */
	void *at = mmap((void *)address, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (at == MAP_FAILED)
		return false;
	memcpy(at, code, size);
	return !mprotect(at, size, PROT_READ | PROT_EXEC);
}

/* SPDX-License-Identifier: MIT */
/*
 * Another process as memory, through a cache (memory.h says why).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "inspect/memory.h"

static bool open_mem(struct af_memory_process *process)
{
	char path[64];

	if (process->mem_fd < 0) {
		snprintf(path, sizeof(path), "/proc/%d/mem", (int)process->pid);
		process->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return process->mem_fd >= 0;
}

/* Bytes read from `address` on, at most `size`; 0 if none. */
static size_t read_by_file(struct af_memory_process *process, uint64_t address, char *to,
			   size_t size)
{
	size_t done = 0;

	if (!open_mem(process))
		return 0;
	while (done < size && address + done <= INT64_MAX) {
		process->calls++;
		ssize_t n = pread(process->mem_fd, to + done, size - done, (off_t)(address + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

static size_t fetch(struct af_memory_process *process, uint64_t address, void *to, size_t size)
{
	struct iovec local = {to, size}, remote = {(void *)(uintptr_t)address, size};

	if (!process->no_vm_readv) {
		process->calls++;
		/* A short count: what comes then is not there. */
		ssize_t n = process_vm_readv(process->pid, &local, 1, &remote, 1, 0);
		if (n >= 0)
			return (size_t)n;
		/* A refusal: the file may be allowed. */
		if (errno != EPERM && errno != ENOSYS && errno != EACCES)
			return 0;
		process->no_vm_readv = true;
	}
	return read_by_file(process, address, to, size);
}

/* Gets the page at `at` of a line, and more of the line if this is not the first of its pages. */
static bool fill(struct af_memory_process *process, size_t slot, uint32_t at, bool all)
{
	uint32_t from = all ? 0 : at;
	uint64_t address = process->lines[slot].address;
	uint8_t *bytes = process->bytes[slot];
	size_t want = all ? AF_MEMORY_LINE : AF_MEMORY_PAGE;
	size_t n = fetch(process, address + from, bytes + from, want);

	if (from + n < at + AF_MEMORY_PAGE && all) {
		/* Something before the page is not there. */
		from = at;
		n = fetch(process, address + from, bytes + from, AF_MEMORY_LINE - from);
	}
	n -= n % AF_MEMORY_PAGE;
	process->lines[slot].from = from;
	process->lines[slot].to = from + (uint32_t)n;
	if (!n)
		process->lines[slot].failed_at = at;
	return n != 0;
}

/* The page at `address`, in the cache. */
static const uint8_t *page_at(struct af_memory_process *process, uint64_t address)
{
	uint64_t number = address / AF_MEMORY_LINE;
	/* Neighbours apart, and so are arenas that begin at round addresses. */
	size_t slot = (number ^ number >> 6 ^ number >> 12) % AF_MEMORY_LINES;
	uint32_t at = address % AF_MEMORY_LINE;
	bool known = process->lines[slot].epoch == process->epoch &&
		     process->lines[slot].address == address - at;

	if (known && at >= process->lines[slot].from && at < process->lines[slot].to)
		return process->bytes[slot] + at;
	if (known && process->lines[slot].failed_at == at)
		return NULL;
	if (!known)
		process->lines[slot].failed_at = AF_MEMORY_LINE;
	process->lines[slot].address = address - at;
	process->lines[slot].epoch = process->epoch;
	return fill(process, slot, at, known) ? process->bytes[slot] + at : NULL;
}

static bool read_process(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct af_memory_process *process = (struct af_memory_process *)memory;
	char *out = to;

	if (size > AF_MEMORY_PAGE)
		return fetch(process, address, to, size) == size;
	while (size) {
		size_t at = address % AF_MEMORY_PAGE;
		size_t part = size < AF_MEMORY_PAGE - at ? size : AF_MEMORY_PAGE - at;
		const uint8_t *page = page_at(process, address - at);
		if (!page)
			return false;
		memcpy(out, page + at, part);
		out += part;
		address += part;
		size -= part;
	}
	return true;
}

static void forget_lines(struct af_memory *memory)
{
	((struct af_memory_process *)memory)->epoch++;
}

const char *af_memory_process_init(struct af_memory_process *process, pid_t pid,
				   uint64_t probe_address)
{
	char byte;

	memset(process, 0, offsetof(struct af_memory_process, bytes));
	process->memory = (struct af_memory){read_process, forget_lines};
	process->pid = pid;
	process->mem_fd = -1;
	process->epoch = 1;
	errno = 0;
	if (fetch(process, probe_address, &byte, 1) == 1)
		return NULL;
	int error = errno;
	if (kill(pid, 0) < 0 && errno == ESRCH)
		return "no such process";
	errno = error;
	if (error == EPERM || error == EACCES)
		return "not permitted to read its memory";
	return error == ESRCH ? "no such process" : "its memory cannot be read";
}

void af_memory_process_deinit(struct af_memory_process *process)
{
	if (process->mem_fd >= 0)
		close(process->mem_fd);
	process->mem_fd = -1;
}

/* SPDX-License-Identifier: MIT */
/*
 * Another process as memory. A task's fields are small and lie near one another, so that whole
 * pages are read and kept for as long as the caller looks at one task.
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

static bool read_by_file(struct af_memory_process *process, uint64_t address, char *to, size_t size)
{
	if (!open_mem(process))
		return false;
	while (size) {
		if (address > INT64_MAX)
			return false;
		process->calls++;
		ssize_t n = pread(process->mem_fd, to, size, (off_t)address);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		address += (uint64_t)n;
		to += n;
		size -= (size_t)n;
	}
	return true;
}

static bool fetch(struct af_memory_process *process, uint64_t address, void *to, size_t size)
{
	struct iovec local = {to, size}, remote = {(void *)(uintptr_t)address, size};

	if (!process->no_vm_readv) {
		process->calls++;
		ssize_t n = process_vm_readv(process->pid, &local, 1, &remote, 1, 0);
		if (n == (ssize_t)size)
			return true;
		/* A short count: the rest is not there. A refusal: the file may be allowed. */
		if (n >= 0 || (errno != EPERM && errno != ENOSYS && errno != EACCES))
			return false;
		process->no_vm_readv = true;
	}
	return read_by_file(process, address, to, size);
}

static const uint8_t *page_at(struct af_memory_process *process, uint64_t address)
{
	uint64_t number = address / AF_MEMORY_PAGE;
	/* Neighbours apart, and so are pages a multiple of the cache's size apart. */
	size_t slot = (number ^ number >> 6 ^ number >> 12) % AF_MEMORY_PAGES;

	if (process->pages[slot].epoch != process->epoch ||
	    process->pages[slot].address != address) {
		process->pages[slot].failed =
			!fetch(process, address, process->bytes[slot], AF_MEMORY_PAGE);
		process->pages[slot].address = address;
		process->pages[slot].epoch = process->epoch;
	}
	return process->pages[slot].failed ? NULL : process->bytes[slot];
}

static bool read_process(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct af_memory_process *process = (struct af_memory_process *)memory;
	char *out = to;

	if (size > AF_MEMORY_PAGE)
		return fetch(process, address, to, size);
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

static void forget_pages(struct af_memory *memory)
{
	((struct af_memory_process *)memory)->epoch++;
}

const char *af_memory_process_init(struct af_memory_process *process, pid_t pid,
				   uint64_t probe_address)
{
	char byte;

	memset(process, 0, offsetof(struct af_memory_process, bytes));
	process->memory = (struct af_memory){read_process, forget_pages};
	process->pid = pid;
	process->mem_fd = -1;
	process->epoch = 1;
	errno = 0;
	if (fetch(process, probe_address, &byte, 1))
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

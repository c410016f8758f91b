/* SPDX-License-Identifier: MIT */
/*
 * Reading numbers, plain buffers, and the own process.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "inspect/memory.h"

bool af_memory_read_number(struct af_memory *memory, uint64_t address, size_t size,
			   uint64_t *number)
{
	uint64_t value = 0;

	if ((size != 1 && size != 2 && size != 4 && size != 8) ||
	    !af_memory_read(memory, address, &value, size))
		return false;
	*number = value;
	return true;
}

static bool read_buffer(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct af_memory_buffer *buffer = (struct af_memory_buffer *)memory;

	for (uint32_t i = 0; i < buffer->n; i++) {
		uint64_t at = address - buffer->ranges[i].address;
		if (address < buffer->ranges[i].address || at >= buffer->ranges[i].size)
			continue;
		if (size > buffer->ranges[i].size - at)
			return false;
		memcpy(to, (const char *)buffer->ranges[i].data + at, size);
		return true;
	}
	return buffer->behind && af_memory_read(buffer->behind, address, to, size);
}

static void forget_behind(struct af_memory *memory)
{
	struct af_memory_buffer *buffer = (struct af_memory_buffer *)memory;
	if (buffer->behind)
		af_memory_forget(buffer->behind);
}

void af_memory_buffer_init(struct af_memory_buffer *buffer)
{
	buffer->memory = (struct af_memory){read_buffer, forget_behind};
	buffer->behind = NULL;
	buffer->n = 0;
}

bool af_memory_buffer_add(struct af_memory_buffer *buffer, uint64_t address, const void *data,
			  size_t size)
{
	if (buffer->n == AF_MEMORY_BUFFERS_MAX)
		return false;
	buffer->ranges[buffer->n].address = address;
	buffer->ranges[buffer->n].data = data;
	buffer->ranges[buffer->n].size = size;
	buffer->n++;
	return true;
}

/* write() finds out whether the bytes are there, without a fault. */
static bool read_by_pipe(const int pipe[2], uint64_t address, char *to, size_t size)
{
	while (size) {
		size_t part = size < 4096 ? size : 4096;
		ssize_t n = write(pipe[1], (const void *)(uintptr_t)address, part);
		if (n <= 0)
			return false;
		/* Behind the first page that is not there nothing was written. */
		if (read(pipe[0], to, (size_t)n) != n)
			return false;
		address += (uint64_t)n;
		to += n;
		size -= (size_t)n;
	}
	return true;
}

static bool read_guarded(struct af_memory_self *self, uint64_t address, void *to, size_t size)
{
	struct iovec local = {to, size}, remote = {(void *)(uintptr_t)address, size};

	if (!self->no_vm_readv) {
		if (process_vm_readv(self->pid, &local, 1, &remote, 1, 0) == (ssize_t)size)
			return true;
		if (errno != EPERM && errno != ENOSYS && errno != EACCES)
			return false;
		self->no_vm_readv = true;
	}
	return self->pipe[1] >= 0 && read_by_pipe(self->pipe, address, to, size);
}

static bool read_self(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct af_memory_self *self = (struct af_memory_self *)memory;
	uint64_t at = address - self->trusted;

	if (at < self->trusted_size && size <= self->trusted_size - at) {
		memcpy(to, (const void *)(uintptr_t)address, size);
		return true;
	}
	int saved = errno;
	bool read = read_guarded(self, address, to, size);
	errno = saved;
	return read;
}

void af_memory_self_init(struct af_memory_self *self)
{
	*self = (struct af_memory_self){.memory = {read_self, NULL}, .pid = getpid()};
	self->pipe[0] = self->pipe[1] = -1;
}

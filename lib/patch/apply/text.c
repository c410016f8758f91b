/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "patch/apply/apply.h"

void af_text_begin(struct af_text_writer *writer)
{
	writer->memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
}

void af_text_end(struct af_text_writer *writer)
{
	if (writer->memory >= 0)
		close(writer->memory);
}

bool af_text_write(struct af_text_writer *writer, uint64_t address, const void *bytes,
		   uint64_t size)
{
	if (writer->memory >= 0 &&
	    pwrite(writer->memory, bytes, size, (off_t)address) == (ssize_t)size)
		return true;
	uint64_t page = address & ~UINT64_C(4095);
	uint64_t length = ((address + size + 4095) & ~UINT64_C(4095)) - page;
	if (mprotect((void *)page, length, PROT_READ | PROT_WRITE))
		return false;
	memcpy((void *)address, bytes, size);
	return !mprotect((void *)page, length, PROT_READ | PROT_EXEC);
}

/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "patch/apply/apply.h"

void af_text_begin(struct af_text_writer *writer, bool text)
{
	writer->text = text;
	writer->memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	writer->open = NULL;
	writer->stored = 0;
	writer->page = writer->low = writer->high = writer->pending = writer->failed = 0;
}

static bool put(const struct af_text_writer *writer, uint64_t address, const void *bytes,
		uint64_t size)
{
	if (writer->memory >= 0 &&
	    pwrite(writer->memory, bytes, size, (off_t)address) == (ssize_t)size)
		return true;
	if (!writer->text)
		return false;
	uint64_t page = address & ~UINT64_C(4095);
	uint64_t length = ((address + size + 4095) & ~UINT64_C(4095)) - page;
	if (mprotect((void *)page, length, PROT_READ | PROT_WRITE))
		return false;
	memcpy((void *)address, bytes, size);
	return !mprotect((void *)page, length, PROT_READ | PROT_EXEC);
}

static void flush(struct af_text_writer *writer)
{
	if (writer->pending && !put(writer, writer->page + writer->low, writer->bytes + writer->low,
				    writer->high - writer->low))
		writer->failed += writer->pending;
	writer->pending = 0;
}

void af_text_write(struct af_text_writer *writer, uint64_t address, const void *bytes,
		   uint32_t size)
{
	uint64_t page = address & ~UINT64_C(4095);
	uint32_t at = (uint32_t)(address - page);

	if (writer->open && address >= writer->open->mapping.start &&
	    address + size <= writer->open->mapping.end) {
		for (uint32_t i = 0; i < size; i++)
			((volatile uint8_t *)address)[i] = ((const uint8_t *)bytes)[i];
		writer->stored++;
		return;
	}
	if (at + size > 4096) {
		flush(writer);
		writer->failed += !put(writer, address, bytes, size);
		return;
	}
	/* The bytes in between are written as they are: nobody else writes here now. */
	if (!writer->pending || page != writer->page) {
		flush(writer);
		memcpy(writer->bytes, (void *)page, sizeof(writer->bytes));
		writer->page = page;
		writer->low = at;
		writer->high = at;
	}
	memcpy(writer->bytes + at, bytes, size);
	writer->low = at < writer->low ? at : writer->low;
	writer->high = at + size > writer->high ? at + size : writer->high;
	writer->pending++;
}

uint32_t af_text_end(struct af_text_writer *writer)
{
	if (writer->open && !af_text_close(writer->open))
		writer->failed += writer->stored;
	flush(writer);
	if (writer->memory >= 0)
		close(writer->memory);
	return writer->failed;
}

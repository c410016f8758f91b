/* SPDX-License-Identifier: MIT */
/*
 * Reading memory that may not be there: of the own process, of another, of a core file, of a
 * buffer. Whoever looks at a task follows pointers found in memory that the program changes
 * meanwhile, so every single read may fail, and says so.
 *
 * A reader is a structure that begins with struct af_memory. Nothing here allocates; what one
 * holds (a descriptor, a mapping) goes with its deinit. A reader belongs to one thread at a
 * time. No function changes errno's meaning for the caller: they may set it.
 */
#ifndef AF_INSPECT_MEMORY_H
#define AF_INSPECT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct af_memory {
	/* All `size` bytes at `address` to `to`, or false, and then `to` holds anything. */
	bool (*read)(struct af_memory *memory, uint64_t address, void *to, size_t size);
	/* Drops what was read ahead, so that the next read sees what is there now. NULL where
	   nothing is kept. */
	void (*forget)(struct af_memory *memory);
};

static inline bool af_memory_read(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	/* The end may be the last address, but never behind it. */
	return (!size || address <= UINT64_MAX - (size - 1)) &&
	       memory->read(memory, address, to, size);
}

/* A little-endian number of 1, 2, 4 or 8 bytes; false also for any other size. */
bool af_memory_read_number(struct af_memory *memory, uint64_t address, size_t size,
			   uint64_t *number);

static inline bool af_memory_read_u64(struct af_memory *memory, uint64_t address, uint64_t *number)
{
	return af_memory_read(memory, address, number, sizeof(*number));
}

static inline void af_memory_forget(struct af_memory *memory)
{
	if (memory->forget)
		memory->forget(memory);
}

/*
 * Plain buffers that stand for memory: for tests, and for what was read in one go (a thread's
 * stack). Up to AF_MEMORY_BUFFERS_MAX ranges, which must not overlap; a read across two that
 * touch fails. What none of them holds is asked of `behind`, if that is set.
 */
#define AF_MEMORY_BUFFERS_MAX 32
struct af_memory_buffer {
	struct af_memory memory;
	struct af_memory *behind;
	uint32_t n;
	struct {
		uint64_t address;
		const void *data;
		size_t size;
	} ranges[AF_MEMORY_BUFFERS_MAX];
};
void af_memory_buffer_init(struct af_memory_buffer *buffer);
/* False if there is no room for one more. `data` must live as long as the reader. */
bool af_memory_buffer_add(struct af_memory_buffer *buffer, uint64_t address, const void *data,
			  size_t size);

/*
 * The own process. Bytes in `trusted_size` from `trusted` are loaded directly: the caller
 * knows that they are there (a task's own allocation, at the entry of its poll). All else goes
 * through the kernel, which finds out without a fault: process_vm_readv, and where that is
 * refused by way of a pipe, if the caller has put one there (O_NONBLOCK, empty; both ends are
 * the caller's). With neither, only trusted bytes can be read. Async-signal safe; errno stays.
 */
struct af_memory_self {
	struct af_memory memory;
	pid_t pid;
	uint64_t trusted;
	uint64_t trusted_size;
	int pipe[2];	  /* -1 unless the caller sets them */
	bool no_vm_readv; /* refused once: not tried again */
};
void af_memory_self_init(struct af_memory_self *self);

/*
 * Another process, running or stopped. process_vm_readv, and where that is refused
 * /proc/PID/mem. A system call costs as much as copying 20 KiB, so that reads are served from
 * lines of 64 KiB that are kept: of the first page that is asked for in a line only that page is
 * read, with the second one all of the line. af_memory_forget() empties it all; what a program
 * does meanwhile is seen only after that. So read a batch of tasks that lie near one another,
 * forget, read them once more, and compare. Reads of more than a page are not kept.
 */
#define AF_MEMORY_PAGE 4096
#define AF_MEMORY_LINE 65536
#define AF_MEMORY_LINES 64
struct af_memory_process {
	struct af_memory memory;
	pid_t pid;
	int mem_fd;	  /* /proc/PID/mem once it was needed, else -1 */
	bool no_vm_readv; /* refused: by /proc/PID/mem from now on */
	uint64_t calls;	  /* system calls made, for measurements */
	uint64_t epoch;	  /* a line is valid if it has this number */
	struct {
		uint64_t address;   /* of the line */
		uint64_t epoch;	    /* 0: never filled */
		uint32_t from, to;  /* bytes of it that are here */
		uint32_t failed_at; /* page that could not be read; AF_MEMORY_LINE: none */
	} lines[AF_MEMORY_LINES];
	uint8_t bytes[AF_MEMORY_LINES][AF_MEMORY_LINE];
};
/* NULL, or a static string saying why this process cannot be read ("no such process", "not
   permitted"); errno then says it as well. Reads one byte to find out. */
const char *af_memory_process_init(struct af_memory_process *process, pid_t pid,
				   uint64_t probe_address);
void af_memory_process_deinit(struct af_memory_process *process);

#endif

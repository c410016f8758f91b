/* SPDX-License-Identifier: MIT */
/*
 * Text that is open: its mapping is writable, and not executable, for a moment.
 *
 * A page of the program's file that is read first and written afterwards, through
 * /proc/self/mem, costs 6 us: it is mapped, copied, and found by the kernel for each write. Where
 * hundreds of pages are to be patched, the text is opened twice instead: to touch them, by a write that
 * changes nothing, before anybody looks at them, so that the first fault copies; and to store
 * the jumps. In between only system calls and code of this library run that calls no other: not even
 * libc's memcpy, which the program could have replaced.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "patch/apply/apply.h"
#include "record/syscall.h"

static bool file_says(const char *path, const char *what)
{
	char text[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, what);
}

/* A thread that some library's constructor started could run the program's text meanwhile: its
   malloc, for one. A filter of system calls may forbid to make memory executable, and end those who
   try. And under strict accounting of memory, text that was writable once counts in every child. */
static bool may_try(void)
{
	return file_says("/proc/self/status", "\nThreads:\t1\n") &&
	       file_says("/proc/self/status", "\nSeccomp:\t0\n") &&
	       !file_says("/proc/sys/vm/overcommit_memory", "2");
}

/* Whether a page of the program's file that was written to can be made executable: tried with
   one that is nobody's. SELinux and PR_SET_MDWE can forbid it. */
static bool can_close(int file)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
	if (page == MAP_FAILED)
		return false;
	bool can = !mprotect(page, 4096, PROT_READ | PROT_WRITE);
	if (can) {
		*(volatile char *)page = 0;
		can = !mprotect(page, 4096, PROT_READ | PROT_EXEC);
	}
	munmap(page, 4096);
	return can;
}

/* The mapping around [start, end), if it is text, and the executable's. */
static bool find_text(void *arg, const struct af_mapping *mapping)
{
	struct af_open_text *text = arg;
	uint64_t entry = getauxval(AT_ENTRY);
	if (mapping->end <= text->mapping.start)
		return true;
	text->usable = mapping->start <= text->mapping.start && mapping->end >= text->mapping.end &&
		       mapping->start <= entry && mapping->end > entry &&
		       !memcmp(mapping->permissions, "r-xp", 4);
	text->mapping = *mapping;
	return false;
}

void af_text_find(struct af_open_text *text, uint64_t start, uint64_t end)
{
	*text = (struct af_open_text){.mapping = {.start = start, .end = end}};
	text->file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (text->file < 0)
		return;
	if (!may_try() || !af_near_mappings(find_text, text) || !can_close(text->file))
		text->usable = false;
	if (!text->usable)
		close(text->file);
}

static bool protect(const struct af_open_text *text, int how)
{
	uint64_t size = text->mapping.end - text->mapping.start;
	return !af_syscall4(SYS_mprotect, (long)text->mapping.start, (long)size, how, 0);
}

bool af_text_open(struct af_open_text *text)
{
	return text->usable && protect(text, PROT_READ | PROT_WRITE);
}

/* Were it refused in spite of the trial, the text is taken from the file anew. */
bool af_text_close(struct af_open_text *text)
{
	if (protect(text, PROT_READ | PROT_EXEC))
		return true;
	af_syscall6(SYS_mmap, (long)text->mapping.start,
		    (long)(text->mapping.end - text->mapping.start), PROT_READ | PROT_EXEC,
		    MAP_PRIVATE | MAP_FIXED, text->file, (long)text->mapping.offset);
	text->usable = false;
	return false;
}

void af_text_touch(struct af_open_text *text, const uint64_t *pages, uint32_t count)
{
	if (!af_text_open(text))
		return;
	for (uint32_t i = 0; i < count; i++)
		__asm__ volatile("lock orb $0, %0" : "+m"(*(volatile char *)pages[i]));
	af_text_close(text);
}

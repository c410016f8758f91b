/* SPDX-License-Identifier: MIT */
/*
 * Readers: what is there is read, what is not is said to be missing, and no core file, however
 * broken, leads out of itself.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "inspect/core.h"

#define PAGE 4096
#define PAGES 64

static uint64_t word_at(struct af_memory *memory, uint64_t address)
{
	uint64_t word = 0;
	return af_memory_read_u64(memory, address, &word) ? word : UINT64_MAX;
}

static void buffers_are_read_to_their_ends(void **state)
{
	struct af_memory_buffer buffer, front;
	uint8_t low[16] = {1, 2, 3}, high[8] = {9};
	uint64_t number;
	char all[16];

	af_memory_buffer_init(&buffer);
	assert_true(af_memory_buffer_add(&buffer, 0x1000, low, sizeof(low)));
	assert_true(af_memory_buffer_add(&buffer, UINT64_MAX - 7, high, sizeof(high)));
	assert_true(af_memory_read(&buffer.memory, 0x1000, all, 16));
	assert_memory_equal(all, low, 16);
	assert_false(af_memory_read(&buffer.memory, 0x1001, all, 16));
	assert_false(af_memory_read(&buffer.memory, 0xfff, all, 2));
	assert_int_equal(word_at(&buffer.memory, UINT64_MAX - 7), 9);
	assert_false(af_memory_read(&buffer.memory, UINT64_MAX - 7, all, 9));
	assert_true(af_memory_read_number(&buffer.memory, 0x1000, 2, &number));
	assert_int_equal(number, 0x0201);
	assert_false(af_memory_read_number(&buffer.memory, 0x1000, 3, &number));

	af_memory_buffer_init(&front);
	front.behind = &buffer.memory;
	assert_true(af_memory_buffer_add(&front, 0x1000, high, 1));
	assert_true(af_memory_read(&front.memory, 0x1000, all, 1) && all[0] == 9);
	assert_true(af_memory_read(&front.memory, 0x1002, all, 1) && all[0] == 3);
}

/* Pages of known bytes, with a hole at page 20. */
static uint8_t *make_pages(void)
{
	uint8_t *pages =
		mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(pages != MAP_FAILED);
	for (size_t i = 0; i < PAGES * PAGE; i += 8)
		memcpy(pages + i, &i, 8);
	assert_int_equal(munmap(pages + 20 * PAGE, PAGE), 0);
	return pages;
}

static void check_pages(struct af_memory *memory, uint64_t start)
{
	char bytes[2 * PAGE];

	for (int round = 0; round < 2; round++)
		for (size_t page = 0; page < PAGES; page++) {
			uint64_t expected = page == 20 ? UINT64_MAX : page * PAGE + 16;
			assert_int_equal(word_at(memory, start + page * PAGE + 16), expected);
		}
	assert_true(af_memory_read(memory, start + 18 * PAGE, bytes, 2 * PAGE));
	assert_false(af_memory_read(memory, start + 18 * PAGE + 1, bytes, 2 * PAGE));
	assert_true(af_memory_read(memory, start + 18 * PAGE + PAGE - 3, bytes, 6));
	assert_false(af_memory_read(memory, start + 20 * PAGE - 3, bytes, 6));
	assert_false(af_memory_read(memory, start + 21 * PAGE - 3, bytes, 6));
	/* Kernel space, and what wraps round. */
	assert_int_equal(word_at(memory, UINT64_MAX - 7), UINT64_MAX);
	assert_false(af_memory_read(memory, UINT64_MAX, bytes, 2));
}

static void own_memory_is_guarded(void **state)
{
	struct af_memory_self self;
	uint8_t *pages = make_pages();

	af_memory_self_init(&self);
	errno = 77;
	check_pages(&self.memory, (uintptr_t)pages);
	assert_int_equal(errno, 77);
	/* Where process_vm_readv is refused. */
	self.no_vm_readv = true;
	assert_false(af_memory_read(&self.memory, (uintptr_t)pages, &(char){0}, 1));
	self.trusted = (uintptr_t)pages;
	self.trusted_size = 64;
	assert_int_equal(word_at(&self.memory, (uintptr_t)pages + 56), 56);
	assert_int_equal(word_at(&self.memory, (uintptr_t)pages + 57), UINT64_MAX);
	assert_int_equal(pipe2(self.pipe, O_CLOEXEC | O_NONBLOCK), 0);
	check_pages(&self.memory, (uintptr_t)pages);
	close(self.pipe[0]);
	close(self.pipe[1]);
	munmap(pages, PAGES * PAGE);
}

static pid_t make_child(void)
{
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		pause();
		_exit(0);
	}
	return child;
}

static void end_child(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void other_processes_are_read(void **state)
{
	static struct af_memory_process process;
	uint8_t *pages = make_pages();
	pid_t child = make_child();

	for (int by_file = 0; by_file < 2; by_file++) {
		assert_null(af_memory_process_init(&process, child, (uintptr_t)pages));
		process.no_vm_readv = by_file;
		check_pages(&process.memory, (uintptr_t)pages);
		af_memory_process_deinit(&process);
	}
	end_child(child);
	assert_non_null(af_memory_process_init(&process, child, (uintptr_t)pages));
	munmap(pages, PAGES * PAGE);
}

static void what_was_read_is_kept_until_forgotten(void **state)
{
	static struct af_memory_process process;
	uint8_t *pages = make_pages();
	uint64_t start = (uintptr_t)pages;
	pid_t child = make_child();

	assert_null(af_memory_process_init(&process, child, start));
	for (int i = 0; i < 100; i++)
		word_at(&process.memory, start + (uint64_t)i * 8);
	assert_true(process.calls <= 3);
	pages[0] = 99; /* shared with the child */
	assert_int_equal(word_at(&process.memory, start), 0);
	af_memory_forget(&process.memory);
	assert_int_equal(word_at(&process.memory, start), 99);
	end_child(child);
	assert_int_equal(word_at(&process.memory, start), 99);
	af_memory_forget(&process.memory);
	assert_int_equal(word_at(&process.memory, start), UINT64_MAX);
	af_memory_process_deinit(&process);
	munmap(pages, PAGES * PAGE);
}

/* --- cores */

#define DATA 0x1000 /* in the file */

struct note_file {
	Elf64_Nhdr header;
	char owner[8];
	uint64_t count, page;
	uint64_t start, end, offset;
	char name[16];
} __attribute__((packed));

/* A segment of 0x2000 at 0x10000 of which the core holds the half, one of 0x1000 at 0x20000
   that it does not hold but /app does, and NT_FILE. */
struct small_core {
	Elf64_Ehdr header;
	Elf64_Phdr segments[3];
	struct note_file note;
	char room[DATA - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr) - sizeof(struct note_file)];
	uint64_t data[512];
};

static void make_core(struct small_core *core)
{
	memset(core, 0, sizeof(*core));
	memcpy(core->header.e_ident, ELFMAG, SELFMAG);
	core->header.e_ident[EI_CLASS] = ELFCLASS64;
	core->header.e_ident[EI_DATA] = ELFDATA2LSB;
	core->header.e_type = ET_CORE;
	core->header.e_machine = EM_X86_64;
	core->header.e_phoff = offsetof(struct small_core, segments);
	core->header.e_phentsize = sizeof(Elf64_Phdr);
	core->header.e_phnum = 3;
	core->segments[0] = (Elf64_Phdr){.p_type = PT_NOTE,
					 .p_offset = offsetof(struct small_core, note),
					 .p_filesz = sizeof(core->note)};
	core->segments[1] = (Elf64_Phdr){.p_type = PT_LOAD,
					 .p_flags = PF_R | PF_W,
					 .p_offset = DATA,
					 .p_vaddr = 0x10000,
					 .p_filesz = 0x1000,
					 .p_memsz = 0x2000};
	core->segments[2] = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_flags = PF_R, .p_vaddr = 0x20000, .p_memsz = 0x1000};
	core->note.header = (Elf64_Nhdr){5, sizeof(core->note) - 20, NT_FILE};
	strcpy(core->note.owner, "CORE");
	core->note.count = 1;
	core->note.page = PAGE;
	core->note.start = 0x20000;
	core->note.end = 0x21000;
	core->note.offset = 1;
	strcpy(core->note.name, "/app");
	for (size_t i = 0; i < 512; i++)
		core->data[i] = i;
}

static const char *write_file(const void *data, size_t size)
{
	static char path[64];
	strcpy(path, "/tmp/af-test-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
	return path;
}

static const char *open_core(struct af_core *core, const void *data, size_t size)
{
	const char *path = write_file(data, size);
	const char *why = af_core_open(core, path);
	unlink(path);
	return why;
}

static void cores_are_read(void **state)
{
	static struct small_core small;
	struct af_core_segment segment;
	struct af_core_mapping mapping;
	struct af_core core;
	uint64_t words[3];

	make_core(&small);
	assert_null(open_core(&core, &small, sizeof(small)));
	assert_false(core.cut_off);
	assert_int_equal(core.machine, EM_X86_64);
	assert_int_equal(word_at(&core.memory, 0x10000), 0);
	assert_int_equal(word_at(&core.memory, 0x10ff8), 511);
	assert_int_equal(word_at(&core.memory, 0x10ffc), UINT64_MAX);
	assert_int_equal(word_at(&core.memory, 0x11000), UINT64_MAX);
	assert_int_equal(word_at(&core.memory, 0xfff8), UINT64_MAX);
	assert_int_equal(word_at(&core.memory, 0x20000), UINT64_MAX);

	assert_true(af_core_segment(&core, 1, &segment));
	assert_int_equal(segment.address, 0x10000);
	assert_int_equal(segment.size, 0x2000);
	assert_int_equal(segment.file_size, 0x1000);
	assert_true(af_core_mapping(&core, 0, &mapping));
	assert_string_equal(mapping.name, "/app");
	assert_int_equal(mapping.offset, PAGE);
	assert_false(af_core_mapping(&core, 1, &mapping));

	/* The file's second page lies at 0x20000. */
	const char *path = write_file(&small, sizeof(small));
	assert_null(af_core_supply(&core, "/app", path));
	unlink(path);
	assert_true(af_memory_read(&core.memory, 0x20008, words, sizeof(words)));
	assert_int_equal(words[2], 3);
	assert_int_equal(word_at(&core.memory, 0x20ff8), 511);
	assert_int_equal(word_at(&core.memory, 0x20ffc), UINT64_MAX);
	af_core_close(&core);
	af_core_close(&core);
}

static void what_is_no_core_is_refused(void **state)
{
	static struct small_core small;
	struct af_core core;

	assert_non_null(af_core_open(&core, "/nowhere/at/all"));
	assert_non_null(af_core_open(&core, "/tmp"));
	make_core(&small);
	small.header.e_type = ET_EXEC;
	assert_string_equal(open_core(&core, &small, sizeof(small)), "not a core file");
	make_core(&small);
	assert_non_null(open_core(&core, &small, 40));
	assert_string_equal(open_core(&core, &small, 100), "cut off");
	/* The headers are there: what is left can be read. */
	assert_null(open_core(&core, &small, DATA + 64));
	assert_true(core.cut_off);
	assert_int_equal(word_at(&core.memory, 0x10038), 7);
	assert_int_equal(word_at(&core.memory, 0x10040), UINT64_MAX);
	af_core_close(&core);
}

/* Any header that is wrong: nothing outside the mapping is read (with sanitizers, at least). */
static void no_broken_core_leads_astray(void **state)
{
	static struct small_core small;
	const size_t headers = offsetof(struct small_core, room);
	struct af_core core;
	uint32_t random = 7;

	for (int i = 0; i < 4000; i++) {
		make_core(&small);
		for (int k = 0; k < 3; k++) {
			random = random * 1664525 + 1013904223;
			size_t at = random / 65536 % headers;
			random = random * 1664525 + 1013904223;
			((uint8_t *)&small)[at] = (uint8_t)(random >> 24);
		}
		if (open_core(&core, &small, sizeof(small)))
			continue;
		struct af_core_segment segment;
		struct af_core_mapping mapping;
		struct af_core_note note;
		uint64_t cursor = 0, words = 0;
		uint32_t notes = 0;
		while (af_core_next_note(&core, &cursor, &note) && notes < 100000) {
			notes++;
			for (size_t k = 0; k < note.size; k++)
				words += note.data[k];
		}
		assert_true(notes < 100000);
		af_core_supply(&core, "/app", "/proc/self/exe");
		for (uint32_t k = 0; af_core_segment(&core, k, &segment) && k < 100; k++) {
			words += word_at(&core.memory, segment.address);
			words += word_at(&core.memory, segment.address + segment.file_size - 8);
		}
		for (uint32_t k = 0; af_core_mapping(&core, k, &mapping) && k < 100; k++)
			words += strlen(mapping.name) + word_at(&core.memory, mapping.start);
		assert_true(words || !words);
		af_core_close(&core);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_are_read_to_their_ends),
		cmocka_unit_test(own_memory_is_guarded),
		cmocka_unit_test(other_processes_are_read),
		cmocka_unit_test(what_was_read_is_kept_until_forgotten),
		cmocka_unit_test(cores_are_read),
		cmocka_unit_test(what_is_no_core_is_refused),
		cmocka_unit_test(no_broken_core_leads_astray),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

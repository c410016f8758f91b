/* SPDX-License-Identifier: MIT */
/*
 * Random bytes: what the planner accepts behaves the same, and the planner never fails.
 */
#include <elf.h>
#include <err.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "subject.h"

#define RANDOM_TEXT UINT64_C(0x4000000000)
#define RANDOM_SPACING 64
#define RANDOM_MAX (CELLS_SIZE / CELL_SPACING / 2) /* whole pages of text */

struct random_text {
	uint64_t start, size;
	const uint8_t *bytes;
};

static const uint8_t *random_bytes(const void *arg, uint64_t address, uint64_t *available)
{
	const struct random_text *text = arg;
	if (address - text->start >= text->size)
		return NULL;
	*available = text->size - (address - text->start);
	return text->bytes + (address - text->start);
}

static unsigned put_instruction(uint8_t *at, unsigned room)
{
	static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0x2e, 0x3e, 0x67, 0x64, 0xf0};
	static const uint8_t usual[] = {0x8b, 0x89, 0x8d, 0xff, 0xe8, 0xe9, 0xeb, 0x74, 0x85,
					0x83, 0xc7, 0x80, 0xc3, 0x50, 0x53, 0x48, 0x01, 0x39};
	uint8_t bytes[24];
	unsigned n = 0;
	uint64_t r = chance();

	while ((r & 7) == 0 && n < 4)
		bytes[n++] = prefixes[chance() % sizeof(prefixes)], r >>= 3;
	if (r & 16)
		bytes[n++] = 0x40 | (r >> 8 & 15);
	if ((r >> 16) % 3 == 0)
		bytes[n++] = 0x0f;
	bytes[n++] = r & 32 ? usual[chance() % sizeof(usual)] : chance();
	bytes[n++] = r & 64 ? 5 | (r >> 24 & 0x38) : chance(); /* ModRM: often rip-relative */
	int32_t displacement = (int32_t)(chance() % 8192) - 4096;
	memcpy(bytes + n, &displacement, 4), n += 4;
	for (unsigned i = r >> 40 & 7; i && n < sizeof(bytes); i--)
		bytes[n++] = chance();
	if (n > room)
		n = room;
	memcpy(at, bytes, n);
	return n;
}

static void some_code(uint8_t *code, unsigned size)
{
	if (chance() & 1)
		for (unsigned k = 0; k < size;)
			k += put_instruction(code + k, size - k);
	else
		for (unsigned k = 0; k < size; k++)
			code[k] = (uint8_t)chance();
}

/* What a child has done, also one that Unicorn has ended: some code it cannot translate, or
   never comes to the end of. */
struct progress {
	uint64_t next, died;
	struct counts counts;
};

static struct af_plan_function random_function(uint64_t first, uint64_t i)
{
	chance_seed = first + (i << 32); /* the same wherever a child begins */
	return (struct af_plan_function){
		.address = RANDOM_TEXT + i * RANDOM_SPACING,
		.next = RANDOM_TEXT + (i + 1) * RANDOM_SPACING,
		.size = 1 + chance() % 32,
	};
}

static void run_from(struct subject *s, struct progress *progress, uint64_t first, uint64_t count)
{
	for (uint64_t i = progress->next; i < count; i++) {
		struct af_plan_function function = random_function(first, i);
		alarm(5);
		subject_consider(s, &function);
		progress->counts = s->counts;
		progress->next = i + 1;
	}
}

void run_random(struct subject *s, uint64_t count)
{
	struct random_text text = {.start = RANDOM_TEXT, .size = RANDOM_MAX * RANDOM_SPACING};
	struct progress *progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t first = chance_seed;

	if (count > RANDOM_MAX || progress == MAP_FAILED)
		errx(2, "at most %lu at once", (unsigned long)RANDOM_MAX);
	s->planner = af_planner_create(EM_X86_64);
	s->text = (struct af_plan_text){random_bytes, &text};
	s->data = RANDOM_TEXT, s->data_size = text.size;
	subject_set_up(s, RANDOM_TEXT, RANDOM_TEXT + text.size);
	uint8_t *bytes = machine_map(s->machine, RANDOM_TEXT, text.size);
	text.bytes = bytes;
	memset(bytes, 0xcc, text.size);
	/* All at first, and planned once in this process: it is not to end. */
	for (uint64_t i = 0; i < count; i++) {
		struct af_plan_function function = random_function(first, i);
		struct af_site_plan plan;
		some_code(bytes + i * RANDOM_SPACING, function.size);
		af_planner_plan(s->planner, &s->text, &function, AFM_PATCH_NEAR, &plan);
	}
	while (progress->next < count) {
		int status;
		pid_t child = fork();
		s->counts = progress->counts;
		if (!child) {
			run_from(s, progress, first, count);
			_exit(0);
		}
		if (child < 0 || waitpid(child, &status, 0) != child)
			err(2, "fork");
		if (!status)
			continue;
		if (!WIFSIGNALED(status))
			errx(2, "number %" PRIu64 " ends with status %#x", progress->next, status);
		progress->next++;
		progress->died++;
	}
	s->counts = progress->counts;
	s->counts.unknown += progress->died;
}

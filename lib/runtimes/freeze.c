/* SPDX-License-Identifier: MIT */
#include "runtimes/freeze.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtimes/scan.h"

#define MAX_ROUNDS 16
#define PIECE (1u << 20)
#define AT_ONCE (UINT64_C(128) << 20) /* bytes: copied in some 25 ms */
#define PART (UINT64_C(16) << 20)
#define REST (UINT64_C(256) << 20) /* of what was not rehearsed */
#define ENOUGH UINT64_C(30000000)  /* ns; then only what must be */
#define STACK (256u << 10)	   /* of a thread, from the stack pointer */

/* A thread that is held, and the signal that it was about to take. */
struct held {
	pid_t tid;
	int signal;
};

struct freezer {
	struct af_process *process;
	VECTOR(struct held) held;
	uint8_t *arena; /* what is copied lies in here */
	uint64_t used, size;
	uint64_t started;   /* when the first was stopped, ns */
	uint64_t total;	    /* bytes there were just before */
	struct af_map done; /* lines of AF_LINE */
	bool failed;
};

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static bool is_held(const struct freezer *f, pid_t tid)
{
	for (size_t i = 0; i < f->held.count; i++)
		if (f->held.items[i].tid == tid)
			return true;
	return false;
}

/* Waits until the thread has stopped; false if it has ended instead. It may stop with a signal
   that it was about to take: that is given back when it is let go. */
static bool wait_for_stop(struct held *held)
{
	int status;
	while (waitpid(held->tid, &status, __WALL) < 0)
		if (errno != EINTR)
			return false;
	if (!WIFSTOPPED(status))
		return false;
	if (status >> 16 != PTRACE_EVENT_STOP)
		held->signal = WSTOPSIG(status);
	return true;
}

/* Seizes threads that are not held yet: how many there were; -1 and errno on failure. */
static int seize_new(struct freezer *f)
{
	int fd = openat(f->process->directory, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	int found = 0, error = 0;
	if (!list)
		return -1;
	for (struct dirent *entry; !error && (entry = readdir(list));) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
		if (tid <= 0 || is_held(f, tid))
			continue;
		found++;
		if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0) {
			error = errno == ESRCH ? 0 : errno; /* has ended */
			continue;
		}
		struct held *held = vector_push(&f->held);
		if (!held)
			error = ENOMEM;
		else
			held->tid = tid;
		(void)ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
	}
	closedir(list);
	errno = error;
	return error ? -1 : found;
}

static void let_go(struct freezer *f)
{
	for (size_t i = 0; i < f->held.count; i++)
		(void)ptrace(PTRACE_DETACH, f->held.items[i].tid, NULL,
			     (void *)(uintptr_t)f->held.items[i].signal);
	f->held.count = 0;
}

/* Until a round finds no new thread: one that ran could have made some meanwhile. */
static int stop_all(struct freezer *f)
{
	size_t waited = 0;
	for (int round = 0; round < MAX_ROUNDS; round++) {
		int found = seize_new(f);
		if (found < 0)
			return -1;
		for (; waited < f->held.count;) {
			if (wait_for_stop(&f->held.items[waited]))
				waited++;
			else
				f->held.items[waited] = f->held.items[--f->held.count];
		}
		if (!found)
			return 0;
	}
	return 0;
}

static void read_registers(struct af_process_thread *thread)
{
#if defined(__x86_64__)
	struct user_regs_struct r;
	struct iovec place = {&r, sizeof(r)};
	if (ptrace(PTRACE_GETREGSET, thread->tid, (void *)NT_PRSTATUS, &place) < 0 ||
	    place.iov_len < sizeof(r))
		return;
	const uint64_t values[AF_REGISTERS] = {
		r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8,
		r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip,
	};
	memcpy(thread->registers, values, sizeof(values));
	thread->known = (1u << AF_REGISTERS) - 1;
#endif
}

/* Bytes that there are to copy now. */
static uint64_t measure(struct af_process *p)
{
	uint64_t total = 0;
	for (size_t i = 0; i < p->mappings.count; i++) {
		const struct af_mapping *m = &p->mappings.items[i];
		uint64_t start = m->start, end;
		for (; af_scan_is_writable(m) && af_scan_next_run(p, m, &start, &end); start = end)
			total += end - start;
	}
	return total;
}

/* Copies one run, in pieces; what cannot be read is left out. */
static void copy_run(struct freezer *f, uint64_t start, uint64_t end)
{
	struct af_process *p = f->process;
	struct af_copy *copy = NULL;
	while (start < end) {
		uint64_t n = end - start < PIECE ? end - start : PIECE;
		if (n > f->size - f->used) {
			f->failed = true;
			return;
		}
		struct af_piece piece = {start, f->arena + f->used, n, false};
		af_process_read_pieces(p, &piece, 1);
		if (!piece.read) {
			copy = NULL;
			start += n;
			continue;
		}
		if (!copy && (copy = vector_push(&p->copying)))
			*copy = (struct af_copy){start, 0, f->arena + f->used};
		if (!copy) {
			f->failed = true;
			return;
		}
		copy->size += n;
		f->used += n;
		start += n;
	}
}

/* The parts of [start, end) that are in writable mappings. */
static void copy_parts(struct freezer *f, uint64_t start, uint64_t end)
{
	const struct af_mapping *m;
	for (; start < end; start = m->end) {
		m = af_process_mapping(f->process, start);
		/* The page behind a gap at most: lines are short. */
		for (; !m && start < end; m = af_process_mapping(f->process, start))
			start += 4096;
		if (!m || start >= end)
			return;
		if (af_scan_is_writable(m))
			copy_run(f, start, m->end < end ? m->end : end);
	}
}

/* Lines from `start` up to `end` that were not copied before. */
static void copy_lines(struct freezer *f, uint64_t start, uint64_t end)
{
	uint64_t first = start &= ~(uint64_t)(AF_LINE - 1);
	for (; start < end; start += AF_LINE) {
		if (af_map_get(&f->done, start) == UINT32_MAX) {
			af_map_set(&f->done, start, 1);
			continue;
		}
		copy_parts(f, first, start);
		first = start + AF_LINE;
	}
	copy_parts(f, first, start);
}

static int compare_lines(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static int compare_copies(const void *a, const void *b)
{
	const struct af_copy *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* What will be asked for, as far as that was known. */
static void copy_rehearsed(struct freezer *f)
{
	struct af_process *p = f->process;
	for (size_t i = 0, n; i < p->touched.count; i += n) {
		uint64_t start = p->touched.items[i];
		for (n = 1;
		     i + n < p->touched.count && p->touched.items[i + n] == start + n * AF_LINE;)
			n++;
		copy_lines(f, start, start + n * AF_LINE);
	}
	for (size_t i = 0; i < p->threads.count; i++) {
		uint64_t sp = p->threads.items[i].registers[AF_REGISTER_SP];
		const struct af_mapping *m = af_process_mapping(p, sp);
		if (m && (p->threads.items[i].known & 1u << AF_REGISTER_SP))
			copy_lines(f, sp, m->end - sp < STACK ? m->end : sp + STACK);
	}
}

static bool is_enough(const struct freezer *f)
{
	return now() - f->started > ENOUGH || f->size - f->used < 2 * PIECE;
}

/* All else that is there of a mapping. By parts: to find out what is there takes its time, too. */
static void copy_rest(struct freezer *f, const struct af_mapping *m)
{
	struct af_mapping part = *m;
	uint64_t limit = m->start + m->present, start, end;
	for (; part.start < limit && !is_enough(f); part.start += PART) {
		part.present = limit - part.start < PART ? limit - part.start : PART;
		start = part.start;
		for (; af_scan_next_run(f->process, &part, &start, &end); start = end)
			for (; start < end && !is_enough(f); start += PIECE)
				copy_lines(f, start, end - start < PIECE ? end : start + PIECE);
	}
}

static struct af_error *copy_all(struct freezer *f)
{
	struct af_process *p = f->process;
	struct af_error *error = af_process_refresh(p);
	if (error)
		return error;
	for (size_t i = 0; i < p->threads.count; i++)
		read_registers(&p->threads.items[i]);
	if (p->touched.count)
		copy_rehearsed(f);
	for (size_t i = 0; i < p->mappings.count && !f->failed; i++) {
		const struct af_mapping *m = &p->mappings.items[i];
		uint64_t start = m->start, end;
		if (p->touched.count && af_scan_is_writable(m))
			copy_rest(f, m);
		else
			for (; af_scan_is_writable(m) && af_scan_next_run(p, m, &start, &end);
			     start = end)
				copy_run(f, start, end);
	}
	vector_sort(&p->copying, compare_copies);
	return f->failed || f->done.failed
		       ? af_error_create(
				 "process %d: --freeze: its memory grew too fast; try again",
				 p->pid)
		       : NULL;
}

bool af_process_wants_rehearsal(struct af_process *p)
{
	return measure(p) > AT_ONCE;
}

static struct af_error *make_room(struct freezer *f)
{
	struct af_process *p = f->process;
	uint64_t total = measure(p), known = p->touched.count * (uint64_t)AF_LINE;
	f->total = total;
	f->size = total + total / 8 + (8u << 20);
	if (p->touched.count && f->size > known + known / 4 + p->threads.count * STACK + REST)
		f->size = known + known / 4 + p->threads.count * STACK + REST;
	vector_sort(&p->touched, compare_lines);
	/* Populated, so that nothing but copying is done while the process waits. */
	f->arena = mmap(NULL, f->size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (f->arena == MAP_FAILED)
		return af_error_system(errno, "memory for a copy of process %d", p->pid);
	return NULL;
}

/* Why it cannot be stopped: mostly a debugger has it, and there can be one only. */
static struct af_error *not_stopped(struct af_process *p, int error)
{
	char line[256];
	int tracer = 0;
	int fd = openat(p->directory, "status", O_RDONLY | O_CLOEXEC);
	FILE *status = fd < 0 ? NULL : fdopen(fd, "re");
	while (status && !tracer && fgets(line, sizeof(line), status))
		(void)sscanf(line, "TracerPid: %d", &tracer);
	if (status)
		fclose(status);
	else if (fd >= 0)
		close(fd);
	if (error != EPERM || !tracer)
		return af_error_system(error, "process %d: cannot be stopped", p->pid);
	return af_error_create(
		"process %d: cannot be stopped: process %d traces it (a debugger, strace); "
		"leave --freeze out",
		p->pid, tracer);
}

struct af_error *af_process_freeze(struct af_process *p)
{
	struct freezer f = {.process = p};
	struct af_error *error = make_room(&f);
	if (error)
		return error;
	/* Where we may, nobody goes before us while the process waits. */
	int before = getpriority(PRIO_PROCESS, 0);
	bool raised = setpriority(PRIO_PROCESS, 0, -20) == 0;
	f.started = now();
	int stopped = stop_all(&f);
	p->stood_at = now();
	if (stopped < 0)
		error = not_stopped(p, errno);
	else
		error = copy_all(&f);
	let_go(&f);
	p->stood_still = now() - f.started;
	if (raised)
		(void)setpriority(PRIO_PROCESS, 0, before);
	vector_deinit(&f.held);
	af_map_deinit(&f.done);
	uint64_t left = f.total > f.used ? (f.total - f.used) >> 20 : 0;
	if (p->touched.count && left)
		af_process_note(
			p,
			"--freeze: %llu MiB of its memory were not copied, so that it stood still "
			"for a moment only: tasks that came there since it was looked at just "
			"before are missing",
			(unsigned long long)left);
	p->arena = f.arena;
	p->arena_size = f.size;
	/* Only now: while they were made, reads had to go to the process. */
	p->copies.items = p->copying.items;
	p->copies.count = p->copying.count;
	p->copies.capacity = p->copying.capacity;
	memset(&p->copying, 0, sizeof(p->copying));
	return error;
}

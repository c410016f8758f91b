/* SPDX-License-Identifier: MIT */
#include "look.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtimes/look.h"

#define PATIENCE 100	  /* times 10 ms, after the host is gone */
#define FIRST 500	  /* ms after the start */
#define SHORTEST 1000	  /* ms between two looks */
#define LONGEST 30000	  /* ... where nothing moves */
#define IDLE_FOR_BUSY 200 /* times what a look took of a processor: half a percent */
#define NICE 10

static uint64_t milliseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void look_init(struct look *look, struct af_session *session, const struct af_futuremap *maps)
{
	*look = (struct look){
		.session = session,
		.maps = maps,
		.result = -1,
		.next = milliseconds() + FIRST,
		.interval = SHORTEST,
	};
}

/* Host: it may go on. */
static void let_go(struct look *look)
{
	atomic_store(&look->session->looked, 1);
	syscall(SYS_futex, &look->session->looked, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static bool write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);
		if (n <= 0)
			return false;
		data += n;
		size -= (size_t)n;
	}
	return true;
}

static int look_once(const struct look *look)
{
	struct af_text block = {0};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Gigabytes of memory may be searched: not for ever. */
	struct itimerval limit = {.it_value.tv_sec = 1};
	signal(SIGPROF, SIG_DFL); /* the host may ignore it, and we with it */
	setitimer(ITIMER_PROF, &limit, NULL);
	if (!look->asked)
		setpriority(PRIO_PROCESS, 0, NICE);
	const struct af_look_block before = {look->block, look->block ? look->size : 0};
	struct af_error *error = af_look(look->session, look->maps, &before, &block);
	bool written = !error && write_all(look->result, block.data, block.length);
	af_error_destroy(error);
	af_text_deinit(&block);
	return written ? 0 : 1;
}

static void start(struct look *look)
{
	look->result = memfd_create("asyncflame-look", MFD_CLOEXEC);
	look->child = look->result < 0 ? -1 : fork();
	if (look->child == 0)
		_exit(look_once(look));
	if (look->child > 0)
		return;
	if (look->result >= 0)
		close(look->result);
	look->child = 0;
	look->impossible = true;
	if (look->asked)
		let_go(look);
}

/* Whether as many tasks stand where as many stood. */
static bool is_same(const struct look *look, const void *block, size_t size)
{
	const struct afr_look *a = look->block, *b = block;
	if (!a || look->size != size || a->n_tasks != b->n_tasks)
		return false;
	/* Tasks are not compared: the times in them differ. */
	size_t from = sizeof(*a) + a->n_tasks * sizeof(struct afr_look_task);
	return from <= size && !memcmp((const char *)a + from, (const char *)b + from, size - from);
}

static bool is_whole(const void *block)
{
	return ((const struct afr_look *)block)->whole;
}

/* What a look has seen replaces what was seen before; but not if the host went away meanwhile. */
static void keep(struct look *look, void *block, size_t size)
{
	look->interval = is_same(look, block, size) ? look->interval * 2 : SHORTEST;
	if (look->block && is_whole(look->block) && !is_whole(block)) {
		munmap(block, size);
		return;
	}
	if (look->block)
		munmap(look->block, look->size);
	look->block = block;
	look->size = size;
}

static void take(struct look *look, bool good, uint64_t busy)
{
	off_t size = lseek(look->result, 0, SEEK_END);
	void *block = MAP_FAILED;
	if (good && size >= (off_t)sizeof(struct afr_look))
		block = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, look->result, 0);
	if (block != MAP_FAILED)
		keep(look, block, (size_t)size);
	else
		look->impossible = true;
	close(look->result);
	look->child = 0;
	if (look->interval < busy * IDLE_FOR_BUSY)
		look->interval = busy * IDLE_FOR_BUSY;
	else if (look->interval > LONGEST)
		look->interval = LONGEST;
	look->next = milliseconds() + look->interval;
	if (look->asked)
		let_go(look);
}

/* Somebody may have met it with a wait for any child: readers check what it wrote. */
static void meet(struct look *look, int options)
{
	int status;
	struct rusage used = {0};
	pid_t ended = wait4(look->child, &status, options, &used);
	if (!ended)
		return;
	bool good = ended < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
	time_t us = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
		    used.ru_utime.tv_usec + used.ru_stime.tv_usec;
	take(look, good, (uint64_t)us / 1000);
}

/* For one that the host waits for. */
static void stop(struct look *look)
{
	kill(look->child, SIGKILL);
	meet(look, 0);
}

bool look_go_on(struct look *look)
{
	uint32_t state = atomic_load(&look->session->host_state);
	bool ends = state == AF_HOST_ENDING && !look->asked;
	if (look->child)
		meet(look, WNOHANG);
	if (ends && look->child)
		stop(look);
	bool due = state == AF_HOST_RECORDING && !look->child && !look->impossible &&
		   milliseconds() >= look->next;
	look->asked |= ends;
	if (ends || due)
		start(look);
	return look->child && look->asked;
}

void look_append(const struct look *look, int fd)
{
	static const char zeroes[8];
	const struct afr_block block = {.type = AFR_B_LOOK, .length = look->size};
	/* Should it be cut off, all before it is good. */
	if (look->block && lseek(fd, 0, SEEK_END) > 0 &&
	    write_all(fd, (const char *)&block, sizeof(block)) &&
	    write_all(fd, look->block, look->size))
		write_all(fd, zeroes, -look->size & 7);
}

void look_finish(struct look *look, struct af_writer *writer)
{
	/* It sees for itself that there is nothing left to look at. */
	for (int i = 0; look->child && i < PATIENCE; i++) {
		struct timespec step = {.tv_nsec = 10000000};
		meet(look, WNOHANG);
		if (look->child)
			nanosleep(&step, NULL);
	}
	if (look->child)
		stop(look);
	if (!look->block)
		return;
	af_writer_look(writer, look->block, look->size);
	munmap(look->block, look->size);
	look->block = NULL;
}

/* SPDX-License-Identifier: MIT */
#include "look.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtimes/look.h"

#define PATIENCE 100 /* times 10 ms, after the host is gone */

void look_init(struct look *look, struct af_session *session, const struct af_futuremap *map)
{
	*look = (struct look){.session = session, .map = map, .result = -1};
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
	/* Gigabytes of memory may be searched: not for ever. */
	struct itimerval limit = {.it_value.tv_sec = 1};
	setitimer(ITIMER_PROF, &limit, NULL);
	struct af_error *error = af_look(look->session, look->map, &block);
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
	look->child = 0;
	let_go(look);
}

static void take(struct look *look, bool good)
{
	off_t size = lseek(look->result, 0, SEEK_END);
	void *block = MAP_FAILED;
	if (good && size > 0)
		block = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, look->result, 0);
	if (block != MAP_FAILED) {
		look->block = block;
		look->size = (size_t)size;
	}
	close(look->result);
	look->child = 0;
	let_go(look);
}

bool look_go_on(struct look *look)
{
	int status;
	if (!look->asked && atomic_load(&look->session->host_state) == AF_HOST_ENDING) {
		look->asked = true;
		start(look);
	}
	pid_t ended = look->child ? waitpid(look->child, &status, WNOHANG) : 0;
	/* Somebody may have met it with a wait for any child; readers check what it wrote. */
	if (ended)
		take(look, ended < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
	return look->child;
}

void look_finish(struct look *look, struct af_writer *writer)
{
	/* It sees for itself that there is nothing left to look at. */
	for (int i = 0; look->child && look_go_on(look); i++) {
		struct timespec step = {.tv_nsec = 10000000};
		if (i == PATIENCE)
			kill(look->child, SIGKILL);
		nanosleep(&step, NULL);
	}
	if (!look->block)
		return;
	af_writer_look(writer, look->block, look->size);
	munmap(look->block, look->size);
	look->block = NULL;
}

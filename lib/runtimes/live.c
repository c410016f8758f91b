/* SPDX-License-Identifier: MIT */
/*
 * A live process, seen through /proc: never stopped, never attached to.
 *
 * /proc/PID is opened once and everything else relative to it, so that a pid that is used
 * again cannot be mistaken for ours; /proc/PID/mem belongs to the memory that was there when
 * it was opened, so that an exec makes it end rather than show another program.
 */
#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtimes/forbidden.h"
#include "runtimes/process.h"
#include "runtimes/sources.h"

#define MAX_THREADS 65536
#define MAX_PROC_FILE (64u << 20)

/* The whole of a file of /proc/PID as text of malloc; NULL and errno. */
static char *read_file(int directory, const char *name)
{
	struct af_text text = {0};
	char buffer[16384];
	ssize_t n;

	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	while ((n = read(fd, buffer, sizeof(buffer))) > 0 && text.length < MAX_PROC_FILE)
		af_text_append(&text, buffer, (size_t)n);
	int error = n < 0 ? errno : text.failed ? ENOMEM : 0;
	close(fd);
	if (!error)
		return text.data ? text.data : strdup("");
	af_text_deinit(&text);
	errno = error;
	return NULL;
}

/* A field of /proc/PID/status by its name with the colon; 0 if there is none. */
static long status_field(const char *status, const char *name)
{
	const char *at = strstr(status, name);
	return at ? strtol(at + strlen(name), NULL, 10) : 0;
}

/* Field `number` (3 and up) of /proc/PID/stat; proc_pid_stat(5). The name before it may hold
   anything, and ends with the last ')'. */
static const char *stat_field(const char *stat, int number)
{
	const char *at = strrchr(stat, ')');
	for (int field = 2; at && field < number; field++)
		at = strchr(at + 1, ' ');
	return at ? at + 1 : "";
}

static long first_number(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	return n > 0 ? strtol(text, NULL, 10) : -1;
}

static struct af_error *not_permitted(int directory, pid_t pid)
{
	struct stat st;
	char *status = read_file(directory, "status");
	const char *uids = status ? strstr(status, "\nUid:") : NULL;
	long uid = uids ? strtol(uids + 5, NULL, 10) : -1;
	free(status);
	if (uid < 0 && fstat(directory, &st) == 0)
		uid = st.st_uid;
	const struct passwd *user = NULL;
	bool others = uid >= 0 && (uid_t)uid != geteuid();
	if (others)
		user = getpwuid((uid_t)uid);
	return af_forbidden(pid, others, user ? user->pw_name : NULL,
			    first_number("/proc/sys/kernel/yama/ptrace_scope"));
}

static struct af_error *gone(pid_t pid)
{
	return af_error_create("process %d ended while it was looked at", pid);
}

/* The error behind errno of a file of /proc/PID. */
static struct af_error *failed(struct af_process *p, const char *name)
{
	if (errno == EACCES || errno == EPERM)
		return not_permitted(p->directory, p->pid);
	if (errno == ESRCH || errno == ENOENT)
		return gone(p->pid);
	return af_error_system(errno, "/proc/%d/%s", p->pid, name);
}

static struct af_error *open_directory(struct af_process *p, pid_t pid)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/%d", pid);
	p->directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->directory < 0)
		return errno == ENOENT ? af_error_create("there is no process %d", pid)
				       : af_error_system(errno, "%s", path);
	char *status = read_file(p->directory, "status");
	if (!status)
		return failed(p, "status");
	pid_t leader = (pid_t)status_field(status, "\nTgid:");
	const char *state = strstr(status, "\nState:");
	state = state ? state + 7 + strspn(state + 7, " \t") : "";
	bool zombie = *state == 'Z' || *state == 'X', kernel = !strstr(status, "\nVmSize:");
	free(status);
	if (leader > 0 && leader != pid) {
		close(p->directory);
		p->directory = -1;
		p->pid = leader;
		return open_directory(p, leader);
	}
	if (zombie)
		return af_error_create("process %d has ended (its parent has not asked how yet)",
				       pid);
	if (kernel)
		return af_error_create("process %d is a thread of the kernel", pid);
	return NULL;
}

/* What the ELF header of its executable says; another machine's cannot be decoded. */
static struct af_error *check_machine(struct af_process *p)
{
	unsigned char ident[20] = {0};
	int fd = openat(p->directory, "exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return failed(p, "exe");
	ssize_t n = pread(fd, ident, sizeof(ident), 0);
	close(fd);
	if (n != sizeof(ident))
		return af_error_create("process %d: its executable cannot be read", p->pid);
	return af_source_check_machine(ident, "process %d", p->pid);
}

static void read_executable(struct af_process *p)
{
	char path[4096];
	ssize_t n = readlinkat(p->directory, "exe", path, sizeof(path) - 1);
	if (n <= 0)
		return;
	path[n] = '\0';
	char *deleted = strstr(path, " (deleted)");
	if (deleted && !deleted[10])
		*deleted = '\0';
	p->executable = strdup(path);
}

/* "start-end rwxp offset device inode   path" */
static void add_mapping(struct af_process *p, char *line)
{
	unsigned long long start, end, offset;
	char flags[5] = "";
	int at = 0;

	if (sscanf(line, "%llx-%llx %4s %llx %*s %*s %n", &start, &end, flags, &offset, &at) < 4 ||
	    start >= end || !at)
		return;
	struct af_mapping *m = vector_push(&p->mappings);
	if (!m)
		return;
	*m = (struct af_mapping){.start = start, .end = end, .offset = offset};
	m->readable = flags[0] == 'r';
	m->writable = flags[1] == 'w';
	m->executable = flags[2] == 'x';
	m->shared = flags[3] == 's';
	m->present = end - start;
	if (!line[at])
		return;
	m->path = line + at;
	char *end_of_path = strstr(line + at, " (deleted)");
	if (end_of_path && !end_of_path[10]) {
		*end_of_path = '\0';
		m->deleted = true;
	}
}

static struct af_error *read_mappings(struct af_process *p)
{
	char *text = read_file(p->directory, "maps"), *rest = text;
	if (!text)
		return failed(p, "maps");
	/* Modules go on pointing into the older ones. */
	char **kept = vector_push(&p->texts);
	if (!kept) {
		free(text);
		return af_error_create("out of memory");
	}
	*kept = text;
	p->mappings.count = 0;
	for (char *line; (line = strsep(&rest, "\n"));)
		add_mapping(p, line);
	return p->mappings.count ? NULL : gone(p->pid);
}

static uint64_t start_time(int directory)
{
	char *stat = read_file(directory, "stat");
	uint64_t started = stat ? strtoull(stat_field(stat, 22), NULL, 10) : 0;
	free(stat);
	return started;
}

struct af_error *af_process_open_live(struct af_process *p, pid_t pid)
{
	memset(p, 0, sizeof(*p));
	p->pid = pid;
	p->mem = p->directory = -1;
	p->memory.read = af_process_read_memory;
	struct af_error *error = open_directory(p, pid);
	if (error)
		return error;
	p->started = start_time(p->directory);
	p->mem = openat(p->directory, "mem", O_RDONLY | O_CLOEXEC);
	if (p->mem < 0)
		return failed(p, "mem");
	error = check_machine(p);
	if (error)
		return error;
	read_executable(p);
	return af_process_refresh(p);
}

struct af_error *af_process_refresh(struct af_process *p)
{
	struct af_error *error = read_mappings(p);
	if (!error)
		af_process_list_threads(p);
	return error;
}

/* /proc/PID/task/TID/syscall: "NUMBER six arguments SP PC" where the thread is in a system
   call, "-1 SP PC" where it is stopped otherwise, "running" where it is on a processor;
   proc_pid_syscall(5). */
static void read_registers(struct af_process_thread *thread, const char *text)
{
	unsigned long long values[9];
	int n = 0;
	if (!isdigit((unsigned char)*text) && *text != '-')
		return;
	for (char *end; n < 9; n++, text = end) {
		values[n] = strtoull(text, &end, 0);
		if (end == text)
			break;
	}
	if (n < 3)
		return;
	thread->registers[AF_REGISTER_SP] = values[n - 2];
	thread->registers[AF_REGISTER_PC] = values[n - 1];
	thread->known = 1u << AF_REGISTER_SP | 1u << AF_REGISTER_PC;
}

void af_process_read_thread(struct af_process *p, struct af_process_thread *thread)
{
	char name[64], *text;
	if (p->core || p->copies.count)
		return;
	snprintf(name, sizeof(name), "task/%d/syscall", thread->tid);
	text = read_file(p->directory, name);
	thread->known = 0;
	if (text)
		read_registers(thread, text);
	free(text);
}

bool af_process_thread_moved(struct af_process *p, const struct af_process_thread *thread)
{
	struct af_process_thread now = *thread;
	af_process_read_thread(p, &now);
	return now.known != thread->known ||
	       memcmp(now.registers, thread->registers, sizeof(now.registers));
}

/* "NSpid:\t4711\t17": as each namespace knows it, ours first. */
bool af_process_has_number(struct af_process *p, uint32_t number)
{
	char *status = read_file(p->directory, "status");
	char *at = status ? strstr(status, "\nNSpid:") : NULL, *end;
	bool found = (pid_t)number == p->pid;
	for (at = at ? at + 7 : NULL; at && !found && (*at == ' ' || *at == '\t'); at = end)
		found = strtoul(at, &end, 10) == number && end != at;
	free(status);
	return found;
}

uint64_t af_process_thread_switches(struct af_process *p, pid_t tid)
{
	char name[64];
	snprintf(name, sizeof(name), "task/%d/status", tid);
	char *status = read_file(p->directory, name);
	long own = status ? status_field(status, "\nvoluntary_ctxt_switches:") : 0;
	long others = status ? status_field(status, "\nnonvoluntary_ctxt_switches:") : 0;
	free(status);
	return own > 0 ? (uint64_t)own + (uint64_t)others : 0;
}

static void add_thread(struct af_process *p, const char *tid)
{
	char name[64], *text;
	struct af_process_thread *thread = vector_push(&p->threads);
	if (!thread)
		return;
	thread->tid = (pid_t)strtol(tid, NULL, 10);
	snprintf(name, sizeof(name), "task/%.16s/comm", tid);
	text = read_file(p->directory, name);
	if (!text) { /* it has ended just now */
		p->threads.count--;
		return;
	}
	text[strcspn(text, "\n")] = '\0';
	snprintf(thread->name, sizeof(thread->name), "%s", text);
	free(text);
	af_process_read_thread(p, thread);
}

static int compare_threads(const void *a, const void *b)
{
	const struct af_process_thread *x = a, *y = b;
	return x->tid < y->tid ? -1 : x->tid > y->tid;
}

void af_process_list_threads(struct af_process *p)
{
	p->threads.count = 0;
	int fd = openat(p->directory, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	if (!list) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *entry; (entry = readdir(list)) && p->threads.count < MAX_THREADS;)
		if (isdigit((unsigned char)entry->d_name[0]))
			add_thread(p, entry->d_name);
	closedir(list);
	vector_sort(&p->threads, compare_threads);
}

struct af_error *af_process_still_there(struct af_process *p)
{
	char byte;
	char *status;
	if (p->core)
		return NULL;
	for (size_t i = 0; i < p->mappings.count; i++) {
		if (!p->mappings.items[i].readable)
			continue;
		if (pread(p->mem, &byte, 1, (off_t)p->mappings.items[i].start) == 1)
			return NULL;
		break;
	}
	status = read_file(p->directory, "status");
	bool lives = status && strstr(status, "\nVmSize:");
	free(status);
	if (lives)
		return af_error_create("process %d became another program (exec) while it was "
				       "looked at; look again",
				       p->pid);
	return gone(p->pid);
}

/* SPDX-License-Identifier: MIT */
#include "libraries.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* This machine's, never the one that the program names: that one would be run. */
#define LOADER "/lib64/ld-linux-x86-64.so.2"

extern char **environ;

/* "	libfoo.so => /path/libfoo.so (0x...)" or "	/path/libfoo.so (0x...)" */
static void read_line(char *line, void (*visit)(const char *path, void *data), void *data)
{
	char *arrow = strstr(line, " => "), *path = arrow ? arrow + 4 : line + strspn(line, "\t ");
	char *end = strstr(path, " (0x");
	if (*path != '/' || !end)
		return;
	*end = '\0';
	visit(path, data);
}

static bool start(const char *program, pid_t *pid, int output)
{
	char *words[] = {(char *)LOADER, (char *)"--list", (char *)program, NULL};
	posix_spawn_file_actions_t actions;
	if (posix_spawn_file_actions_init(&actions))
		return false;
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	bool started = !posix_spawn(pid, LOADER, &actions, NULL, words, environ);
	posix_spawn_file_actions_destroy(&actions);
	return started;
}

bool libraries_of(const char *program, void (*visit)(const char *path, void *data), void *data)
{
	int ends[2];
	pid_t pid;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	bool started = start(program, &pid, ends[1]);
	close(ends[1]);
	FILE *list = started ? fdopen(ends[0], "r") : NULL;
	if (!list)
		close(ends[0]);
	char *line = NULL;
	size_t room = 0;
	while (list && getline(&line, &room, list) > 0)
		read_line(line, visit, data);
	free(line);
	if (list)
		fclose(list);
	int status = 1;
	if (started)
		waitpid(pid, &status, 0);
	return list && !status;
}

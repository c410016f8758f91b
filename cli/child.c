/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "cli.h"

/* From the terminal to the whole foreground group. */
static const int ignored[] = {SIGINT, SIGQUIT, SIGTSTP};
/* To a process, by somebody who takes us for the program. */
static const int forwarded[] = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

#define N_IGNORED (sizeof(ignored) / sizeof(ignored[0]))
#define N_FORWARDED (sizeof(forwarded) / sizeof(forwarded[0]))

/* What we were started with, which the program is to find unchanged. */
struct inherited {
	struct sigaction ignored[N_IGNORED], child;
	sigset_t mask;
};

static void take_signals(struct inherited *inherited, sigset_t *awaited)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN}, normal = {.sa_handler = SIG_DFL};
	for (size_t i = 0; i < N_IGNORED; i++)
		sigaction(ignored[i], &ignore, &inherited->ignored[i]);
	/* Where SIGCHLD is inherited as ignored, there would be nothing to wait for. */
	sigaction(SIGCHLD, &normal, &inherited->child);
	sigemptyset(awaited);
	sigaddset(awaited, SIGCHLD);
	for (size_t i = 0; i < N_FORWARDED; i++)
		sigaddset(awaited, forwarded[i]);
	sigprocmask(SIG_BLOCK, awaited, &inherited->mask);
}

static void give_signals_back(const struct inherited *inherited)
{
	for (size_t i = 0; i < N_IGNORED; i++)
		sigaction(ignored[i], &inherited->ignored[i], NULL);
	sigaction(SIGCHLD, &inherited->child, NULL);
	sigprocmask(SIG_SETMASK, &inherited->mask, NULL);
}

/* Waits until the program has ended; returns what waitpid says. */
static int wait_for_end(pid_t pid, const sigset_t *awaited, child_asked *usr2, void *arg)
{
	for (;;) {
		siginfo_t info;
		int signal = sigwaitinfo(awaited, &info), status;
		if (signal < 0)
			continue;
		if (signal == SIGUSR2 && usr2) {
			usr2(arg);
			continue;
		}
		if (signal != SIGCHLD) {
			/* What the kernel sends (a terminal that hangs up) went to all. */
			if (info.si_code <= 0 || signal == SIGCONT)
				kill(pid, signal);
			continue;
		}
		pid_t changed = waitpid(pid, &status, WNOHANG | WUNTRACED);
		if (changed == pid && WIFSTOPPED(status))
			raise(SIGSTOP);
		else if (changed == pid)
			return status;
		else if (changed < 0 && errno != EINTR)
			return 0;
	}
}

static int exec_failed(const char *path, int error)
{
	if (error == ENOENT)
		cli_say("%s: its interpreter (or dynamic linker) was not found", path);
	else
		cli_say("%s: cannot be executed: %s", path, strerror(error));
	return error == ENOENT ? CLI_NOT_FOUND : CLI_CANNOT_EXECUTE;
}

/* The child says through the pipe why exec failed; exec closes it otherwise. */
static void become(const char *path, char **argv, const struct inherited *inherited, int report)
{
	give_signals_back(inherited);
	execv(path, argv);
	int error = errno;
	if (write(report, &error, sizeof(error)) < 0)
		_exit(CLI_CANNOT_EXECUTE);
	_exit(CLI_CANNOT_EXECUTE);
}

int child_run(const char *path, char **argv, child_prepare *prepare, child_asked *usr2, void *arg)
{
	int report[2], error = 0;
	struct inherited inherited;
	sigset_t awaited;
	if (pipe2(report, O_CLOEXEC) < 0) {
		cli_say("pipe: %s", strerror(errno));
		return CLI_FAILED;
	}
	fflush(NULL);
	take_signals(&inherited, &awaited);
	pid_t pid = fork();
	if (pid == 0) {
		prepare(arg);
		become(path, argv, &inherited, report[1]);
	}
	close(report[1]);
	if (pid < 0) {
		cli_say("fork: %s", strerror(errno));
		close(report[0]);
		give_signals_back(&inherited);
		return CLI_FAILED;
	}
	ssize_t n;
	while ((n = read(report[0], &error, sizeof(error))) < 0 && errno == EINTR)
		;
	close(report[0]);
	int status = wait_for_end(pid, &awaited, usr2, arg);
	/* From here on Ctrl-C is for us. */
	give_signals_back(&inherited);
	if (n == sizeof(error))
		return exec_failed(path, error);
	return WIFSIGNALED(status) ? CLI_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

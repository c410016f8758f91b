/* SPDX-License-Identifier: MIT */
/*
 * After ptrace(2), "Ptrace access mode checking" and "/proc/sys/kernel/yama/ptrace_scope".
 */
#include "runtimes/forbidden.h"

struct af_error *af_forbidden(pid_t pid, bool others, const char *user, long scope)
{
	if (others)
		return af_error_create(
			"process %d: not permitted: it belongs to user %s; look at it as that user, "
			"or with CAP_SYS_PTRACE (sudo asyncflame dump %d)",
			pid, user ? user : "of another namespace", pid);
	if (scope >= 3)
		return af_error_create(
			"process %d: not permitted: kernel.yama.ptrace_scope is %ld, "
			"which forbids it to everybody until the next boot; a core "
			"(gcore, or a crash) can be looked at: asyncflame dump CORE",
			pid, scope);
	if (scope > 0)
		return af_error_create(
			"process %d: not permitted: kernel.yama.ptrace_scope is %ld; allow it with "
			"CAP_SYS_PTRACE (sudo asyncflame dump %d), or for all of the same user with "
			"sysctl kernel.yama.ptrace_scope=0",
			pid, scope, pid);
	return af_error_create(
		"process %d: not permitted, though it is of the same user: it is not dumpable "
		"(setuid, file capabilities or prctl), or a container or security module forbids "
		"it; CAP_SYS_PTRACE is needed (sudo asyncflame dump %d)",
		pid, pid);
}

/* SPDX-License-Identifier: MIT */
#include "preload/trap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "patch/apply/apply.h"
#include "record/syscall.h"

#define EXPORTED __attribute__((visibility("default")))
#define TRAP_BREAKPOINT 3 /* #BP */
#define BIT(signal) (UINT64_C(1) << ((signal)-1))
#define OF_LIBC (BIT(32) | BIT(33)) /* its own; never blocked */

/* libc's, by their other names. */
int __sigaction(int signal, const struct sigaction *action, struct sigaction *old);
__sighandler_t ssignal(int signal, __sighandler_t handler);

static bool allowed, installed;

/* --- the host's own action ------------------------------------------------------------ */

/* Each is written to a place of its own, and then made the one that counts: without a lock, since
   handlers may do it, and a process that is forked in the middle of it must find it whole. */
#define SLOTS 16
static struct sigaction actions[SLOTS];
static _Atomic uint32_t taken, current;

static struct sigaction hosts(void)
{
	struct sigaction action;
	uint32_t which;
	do {
		which = atomic_load(&current);
		action = actions[which % SLOTS];
		atomic_thread_fence(memory_order_acquire);
	} while (atomic_load(&taken) - which >= SLOTS);
	return action;
}

static void set_hosts(const struct sigaction *action)
{
	uint32_t which = atomic_fetch_add(&taken, 1) + 1;
	actions[which % SLOTS] = *action;
	atomic_store(&current, which);
}

static bool is_handler(const struct sigaction *action)
{
	return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* Whose memory this is. On a page that the kernel wipes in every new process but one that borrows its
   parent's memory (vfork): its actions are its own, and none of ours. */
static struct {
	_Atomic long pid;
	char page[4096 - sizeof(long)];
} owner __attribute__((aligned(4096)));

static bool is_borrowed(void)
{
	long nobody = 0, pid = af_syscall4(SYS_getpid, 0, 0, 0, 0);
	return !atomic_compare_exchange_strong(&owner.pid, &nobody, pid) && nobody != pid;
}

/* --- the handler ---------------------------------------------------------------------- */

static void block(int how, uint64_t signals)
{
	af_syscall4(SYS_rt_sigprocmask, how, (long)&signals, 0, 8);
}

/* The default action: it happens when we have returned, where the host stood. */
static void end_process(siginfo_t *info, greg_t *registers)
{
	static const struct sigaction none; /* SIG_DFL */
	long pid = af_syscall4(SYS_getpid, 0, 0, 0, 0), tid = af_syscall4(SYS_gettid, 0, 0, 0, 0);
	bool forced = info->si_code > 0;
	/* Nobody but the kernel ends a namespace's first process. */
	if (!forced && pid == 1)
		return;
	__sigaction(SIGTRAP, &none, NULL);
	const uint8_t *before = (const uint8_t *)registers[REG_RIP] - 1;
	if (info->si_code == SI_KERNEL && registers[REG_TRAPNO] == TRAP_BREAKPOINT &&
	    *before == 0xcc) {
		registers[REG_RIP]--; /* the trap again */
		return;
	}
	block(SIG_BLOCK, BIT(SIGTRAP));
	af_syscall4(SYS_rt_tgsigqueueinfo, pid, tid, SIGTRAP, (long)info);
}

static void pass_on(siginfo_t *info, ucontext_t *context)
{
	static const struct sigaction none;
	uint64_t mask, added;
	struct sigaction action = hosts();
	if (action.sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	if (!is_handler(&action)) {
		end_process(info, context->uc_mcontext.gregs);
		return;
	}
	if ((unsigned)action.sa_flags & SA_RESETHAND)
		set_hosts(&none);
	/* The mask that it would have. */
	memcpy(&mask, &context->uc_sigmask, sizeof(mask));
	memcpy(&added, &action.sa_mask, sizeof(added));
	if (!(action.sa_flags & SA_NODEFER))
		added |= BIT(SIGTRAP);
	block(SIG_SETMASK, (mask | added) & ~OF_LIBC);
	action.sa_sigaction(SIGTRAP, info, context);
}

/* Nobody but an int3 of ours comes to the byte behind it (AFM_TRAP_DISPLACED). Where SIGTRAP was sent
   by somebody in just that moment the kernel tells of that only: it is both. */
static void on_trap(int signal, siginfo_t *info, void *data)
{
	ucontext_t *context = data;
	greg_t *rip = &context->uc_mcontext.gregs[REG_RIP];
	uint64_t cell = af_trap_cell((uint64_t)*rip - 1);
	if (cell)
		*rip = (greg_t)cell;
	if (!cell || info->si_code != SI_KERNEL)
		pass_on(info, context);
}

/* Ours, on the stack that the host's own would have. No other handler comes in between: it would lie
   on the alternate stack then, whose size is for one, and may poll. */
static int install(const struct sigaction *hosts_own, struct sigaction *old)
{
	int flags = is_handler(hosts_own) ? hosts_own->sa_flags : SA_ONSTACK | SA_RESTART;
	struct sigaction action = {
		.sa_sigaction = on_trap,
		.sa_flags = (flags & (SA_ONSTACK | SA_RESTART)) | SA_SIGINFO,
	};
	sigfillset(&action.sa_mask);
	return __sigaction(SIGTRAP, &action, old);
}

/* --- its beginning -------------------------------------------------------------------- */

/* A debugger hears of every SIGTRAP first, and takes it for its own. */
static bool is_debugged(void)
{
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return !strstr(text, "\nTracerPid:\t0\n");
}

static bool begin(void)
{
	static const struct sigaction none;
	struct sigaction action;
	if (installed)
		return true;
	if (is_debugged() || install(&none, &action))
		return false;
	af_syscall4(SYS_madvise, (long)&owner, sizeof(owner), MADV_WIPEONFORK, 0);
	atomic_store(&owner.pid, af_syscall4(SYS_getpid, 0, 0, 0, 0));
	set_hosts(&action);
	installed = true;
	if (is_handler(&action))
		install(&action, NULL);
	return true;
}

void af_trap_allow(void)
{
	allowed = true;
	block(SIG_UNBLOCK, BIT(SIGTRAP));
	af_trap_begin = begin;
}

/* --- what stands before libc's -------------------------------------------------------- */

EXPORTED int sigaction(int signal, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction changed;
	if (!allowed || (signal != SIGTRAP && !action))
		return __sigaction(signal, action, old);
	if (signal == SIGTRAP && installed && !is_borrowed()) {
		changed = hosts();
		if (action) {
			struct sigaction wanted = *action;
			set_hosts(&wanted);
			install(&wanted, NULL);
		}
		if (old)
			*old = changed;
		return 0;
	}
	if (action) {
		changed = *action;
		sigdelset(&changed.sa_mask, SIGTRAP);
	}
	return __sigaction(signal, action ? &changed : NULL, old);
}

EXPORTED __sighandler_t signal(int signal, __sighandler_t handler)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
	if (!allowed || signal != SIGTRAP || handler == SIG_ERR)
		return ssignal(signal, handler);
	return sigaction(signal, &action, &old) ? SIG_ERR : old.sa_handler;
}

/* As libc's: a negative error number. */
static int set_mask(int how, const sigset_t *set, sigset_t *old)
{
	uint64_t signals = 0;
	if (set) {
		memcpy(&signals, set, sizeof(signals));
		signals &= ~OF_LIBC;
		if (allowed && how != SIG_UNBLOCK)
			signals &= ~BIT(SIGTRAP);
	}
	return (int)af_syscall4(SYS_rt_sigprocmask, how, set ? (long)&signals : 0, (long)old, 8);
}

EXPORTED int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	return -set_mask(how, set, old);
}

EXPORTED int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	int result = set_mask(how, set, old);
	if (!result)
		return 0;
	errno = -result;
	return -1;
}

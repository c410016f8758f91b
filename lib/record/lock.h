/* SPDX-License-Identifier: MIT */
/*
 * A lock of one word, for what runs in the host: no libc, and with all signals blocked by whoever
 * takes it. 0 free, 1 taken, 2 and somebody waits. It lies in the gate (thread.h): a forked
 * process, in which whoever holds it does not exist, finds it free.
 */
#ifndef AF_RECORD_LOCK_H
#define AF_RECORD_LOCK_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>

#include "record/syscall.h"

static inline void af_lock(_Atomic uint32_t *word)
{
	uint32_t was = 0;
	if (atomic_compare_exchange_strong(word, &was, 1))
		return;
	while (atomic_exchange(word, 2))
		af_syscall6(SYS_futex, (long)word, FUTEX_WAIT, 2, 0, 0, 0);
}

static inline void af_unlock(_Atomic uint32_t *word)
{
	if (atomic_exchange(word, 0) == 2)
		af_syscall4(SYS_futex, (long)word, FUTEX_WAKE, 1, 0);
}

static inline void af_block_signals(uint64_t *before)
{
	uint64_t all = ~UINT64_C(0);
	af_syscall4(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&all, (long)before, 8);
}

static inline void af_unblock_signals(const uint64_t *before)
{
	af_syscall4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)before, 0, 8);
}

#endif

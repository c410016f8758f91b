/* SPDX-License-Identifier: MIT */
/*
 * System calls without libc: no errno, no cancellation point, nothing that the host could
 * have interposed. Signal safe. Results are the kernel's: -errno on failure.
 */
#ifndef AF_RECORD_SYSCALL_H
#define AF_RECORD_SYSCALL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long af_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
static inline long af_syscall4(long number, long a, long b, long c, long d)
{
	return af_syscall6(number, a, b, c, d, 0, 0);
}

/*
 * Whether the aligned word at `address` can be read: rt_sigprocmask with a `how` that does
 * not exist copies the set first (EFAULT), and then refuses (EINVAL). A call that every
 * sandbox allows, where process_vm_readv could end a host that has installed a filter.
 */
static inline bool af_is_readable(uint64_t address)
{
	return address >= 4096 && !(address % 8) && !(address >> 47) &&
	       af_syscall4(SYS_rt_sigprocmask, ~0, (long)address, 0, 8) == -EINVAL;
}

/* The same of the `size` bytes at any address, at most 8. */
static inline bool af_are_readable(uint64_t address, unsigned int size)
{
	uint64_t first = address & ~UINT64_C(7), last = (address + size - 1) & ~UINT64_C(7);
	return af_is_readable(first) && (first == last || af_is_readable(last));
}

#endif

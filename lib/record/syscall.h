/* SPDX-License-Identifier: MIT */
/*
 * System calls without libc: no errno, no cancellation point, nothing that the host could
 * have interposed. Signal safe. Results are the kernel's: -errno on failure.
 */
#ifndef AF_RECORD_SYSCALL_H
#define AF_RECORD_SYSCALL_H

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

#endif

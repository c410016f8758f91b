/* SPDX-License-Identifier: MIT */
/*
 * The rate of the tick counter, from the two ends of the recording: both clocks read
 * together at the start (header) and at the end (CLOCK block).
 *
 * A file whose writer was killed has no CLOCK block. If it was made since this machine
 * booted, "now" serves as the other end just as well: the counter and the clock have
 * run on. Else the counter of this machine is measured, which is right when the trace
 * came from it and a guess when it did not; the summary says so.
 */
#include "trace/timebase.h"

#include <time.h>

#define SECOND UINT64_C(1000000000)
#define RATE_MIN UINT64_C(1000000) /* ticks per second that a real counter may have */
#define RATE_MAX UINT64_C(20000000000)

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t counter(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t value;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
	return value;
#else
	return clock_ns(CLOCK_MONOTONIC);
#endif
}

static bool plausible(uint64_t ticks, uint64_t ns)
{
	if (!ticks || !ns)
		return false;
	unsigned __int128 rate = (unsigned __int128)ticks * SECOND / ns;
	return rate >= RATE_MIN && rate <= RATE_MAX;
}

/* multiplier / 2^shift = ns / ticks, with as many bits as fit. */
static void set_rate(struct af_timebase *base, uint64_t ticks, uint64_t ns)
{
	unsigned shift = 63;
	unsigned __int128 multiplier;
	for (;; shift--) {
		multiplier = ((unsigned __int128)ns << shift) / ticks;
		if (multiplier >> 63 == 0 || shift == 0)
			break;
	}
	base->multiplier = (uint64_t)multiplier;
	base->shift = shift;
}

/* The boot at which a clock pair was read: the same for all pairs of one boot, up to
   what has been corrected of the time of day since. */
static bool same_boot(const struct afr_header *header, uint64_t realtime, uint64_t monotonic)
{
	int64_t then = (int64_t)(header->base_realtime - header->base_monotonic);
	int64_t now = (int64_t)(realtime - monotonic);
	int64_t apart;
	if (__builtin_sub_overflow(then, now, &apart))
		return false;
	return apart > -(int64_t)(2 * SECOND) && apart < (int64_t)(2 * SECOND);
}

static void estimate(struct af_timebase *base, const struct afr_header *header)
{
	uint64_t ticks = counter(), ns = clock_ns(CLOCK_MONOTONIC);
	if (same_boot(header, clock_ns(CLOCK_REALTIME), ns) && ticks > header->base_tsc &&
	    ns > header->base_monotonic + SECOND / 1000 &&
	    plausible(ticks - header->base_tsc, ns - header->base_monotonic)) {
		set_rate(base, ticks - header->base_tsc, ns - header->base_monotonic);
		return;
	}
	base->estimated = true;
	const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	nanosleep(&pause, NULL);
	uint64_t ticks_passed = counter() - ticks, ns_passed = clock_ns(CLOCK_MONOTONIC) - ns;
	if (plausible(ticks_passed, ns_passed))
		set_rate(base, ticks_passed, ns_passed);
	else
		set_rate(base, 1, 1);
}

void af_timebase_init(struct af_timebase *base, const struct afr_header *header,
		      const struct afr_clock *clock)
{
	*base = (struct af_timebase){.multiplier = 1};
	if (header->tick_source != AFR_TICKS_TSC)
		return;
	if (clock && clock->monotonic > header->base_monotonic &&
	    plausible(clock->ticks, clock->monotonic - header->base_monotonic))
		set_rate(base, clock->ticks, clock->monotonic - header->base_monotonic);
	else
		estimate(base, header);
}

/* SPDX-License-Identifier: MIT */
/*
 * The public header of asyncflame.
 *
 * A program needs nothing of it to be traced: it is run under `asyncflame`, or started
 * with LD_PRELOAD=libasyncflame.so and the ASYNCFLAME_* variables of docs/guide.md. What
 * is here is for programs that want to say something to the recorder. They need not link
 * the library: declared weak, or looked up by dlsym(RTLD_DEFAULT, ...), its functions are
 * there when the program is traced, and not when it is not.
 */
#ifndef ASYNCFLAME_H
#define ASYNCFLAME_H

/* Semantic versioning; the formats of map and raw trace have versions of their own. */
#define ASYNCFLAME_VERSION_MAJOR 0
#define ASYNCFLAME_VERSION_MINOR 1
#define ASYNCFLAME_VERSION_PATCH 0
#define ASYNCFLAME_VERSION_TEXT "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Has a flight recorder (asyncflame --flight-recorder) write a snapshot of what it holds, soon
 * and not in this thread. Several calls in quick succession may give one snapshot. Returns 0; -1
 * where nothing is recorded, or not by a flight recorder. Thread safe, signal safe, some
 * hundred nanoseconds.
 */
int asyncflame_snapshot(void) __attribute__((weak));

/*
 * Recording off, and on again. While it is off hooked functions go straight on: a poll takes some
 * jumps more than in a program that is not traced, a nanosecond or two. The time is marked in the
 * trace, and never shown as waiting.
 *
 * They are of the whole process, and of the processes that it forks from then on. What a thread
 * polls behind its call is recorded or not, as it has asked; another thread's polls that begin at
 * the same moment may be either. A poll that had begun before a pause is recorded with its end. One
 * that began in a pause is not, even if it ends after it. Again is once: they do not count.
 *
 * Return 0; -1 where nothing is traced, and of resume also where nothing more is recorded since
 * --max-size was reached (--keep oldest). Thread safe, signal safe (not in a child of vfork, which
 * would speak for its parent), some microseconds; where the recorder has no room left, as long as a
 * poll would wait for it.
 */
int asyncflame_pause(void) __attribute__((weak));
int asyncflame_resume(void) __attribute__((weak));

#ifdef __cplusplus
}
#endif

#endif

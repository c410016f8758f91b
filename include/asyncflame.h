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

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The public header of asyncflame.
 *
 * A program needs nothing of it to be traced: it is run under `asyncflame`, or started
 * with LD_PRELOAD=libasyncflame.so and the ASYNCFLAME_* variables of docs/guide.md. What
 * is here so far is the version, for what is built beside the library.
 */
#ifndef ASYNCFLAME_H
#define ASYNCFLAME_H

/* Semantic versioning; the formats of map and raw trace have versions of their own. */
#define ASYNCFLAME_VERSION_MAJOR 0
#define ASYNCFLAME_VERSION_MINOR 1
#define ASYNCFLAME_VERSION_PATCH 0
#define ASYNCFLAME_VERSION_TEXT "0.1.0"

#endif

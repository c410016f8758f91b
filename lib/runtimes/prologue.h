/* SPDX-License-Identifier: MIT */
/*
 * How deep a function's frame is, by the code at its entry: a pure function on bytes of x86-64.
 */
#ifndef AF_RUNTIMES_PROLOGUE_H
#define AF_RUNTIMES_PROLOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a function that begins as those with a frame pointer do: *below is how many bytes its stack
   pointer lies below its frame pointer from then on. False if it begins otherwise, or aligns its
   frame, or grows it in ways that are not told here. */
bool af_prologue_depth(const uint8_t *code, size_t size, uint64_t *below);

#endif

/* SPDX-License-Identifier: MIT */
/* A fuzzer's input as a file, for what reads files by their path. */
#ifndef AF_FUZZ_INPUT_H
#define AF_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

/* Called by libFuzzer; always returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file that holds these bytes until the next call. */
const char *fuzz_input(const uint8_t *data, size_t size);

#endif

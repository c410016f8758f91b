/* SPDX-License-Identifier: MIT */
/* A fuzzer's input as a file, for what reads files by their path. */
#ifndef AF_FUZZ_INPUT_H
#define AF_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

/* Called by libFuzzer; always returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file that holds these bytes until the next call. Bytes that begin with
   FUZZ_TWO and a length of 32 bits are two files, the first of that length: whatever else is
   opened while the first is read (a .dwo, a .dwp, an alternate or separate debug file) is the
   second. */
#define FUZZ_TWO "2FILES\n" /* and its NUL */
const char *fuzz_input(const uint8_t *data, size_t size);

#endif

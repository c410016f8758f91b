/* SPDX-License-Identifier: MIT */
/* What the two sources of a process, live.c and core.c, share. */
#ifndef AF_RUNTIMES_SOURCES_H
#define AF_RUNTIMES_SOURCES_H

#include "analysis/text.h"
#include "runtimes/process.h"

/* Whether an ELF file that begins with these 20 bytes is of this machine; the error begins
   with the formatted text. */
struct af_error *af_source_check_machine(const unsigned char *ident, const char *format, ...)
	__attribute__((format(printf, 2, 3))) af_must_check;

/* af_memory.read of a process's `memory`. */
bool af_process_read_memory(struct af_memory *memory, uint64_t address, void *to, size_t size);

#endif

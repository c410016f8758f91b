/* SPDX-License-Identifier: MIT */
/* Looking through the memory of a process for words of given values. */
#ifndef AF_RUNTIMES_SCAN_H
#define AF_RUNTIMES_SCAN_H

#include "runtimes/process.h"

/* A word that is looked for, with a number of the caller's. */
struct af_word {
	uint64_t value;
	uint32_t number;
};

struct af_words {
	VECTOR(struct af_word) items;
	bool failed; /* memory was short */
	/* private: the values fall into these ranges */
	struct {
		uint64_t first, last;
	} ranges[8];
	uint32_t n_ranges;
};

void af_words_add(struct af_words *words, uint64_t value, uint32_t number);
/* To be called when all are added, before the first scan. */
void af_words_sort(struct af_words *words);
void af_words_deinit(struct af_words *words);

typedef void (*af_scan_found)(void *arg, uint64_t address, uint32_t number);

/* Calls `found` for every aligned word from `start` to `end` that is among `words`, by
   ascending address. What cannot be read is passed over. */
void af_scan_range(struct af_process *process, uint64_t start, uint64_t end,
		   const struct af_words *words, af_scan_found found, void *arg);
/* The same for the data of a module, where its vtables lie: constant once it is relocated, or
   writable where the linker left it so. */
void af_scan_constants(struct af_process *process, const struct af_module *module,
		       const struct af_words *words, af_scan_found found, void *arg);
/* The same for all private memory that the process can write to. */
void af_scan_writable(struct af_process *process, const struct af_words *words, af_scan_found found,
		      void *arg);

/* The next run of pages that exist at or behind *start in `mapping` (a reservation that was
   never touched has none, and reading would make some): sets *start, *end. False: no more. */
bool af_scan_next_run(struct af_process *process, const struct af_mapping *mapping, uint64_t *start,
		      uint64_t *end);
/* Whether a task may lie in this mapping: private, readable, writable, not the kernel's. */
bool af_scan_is_writable(const struct af_mapping *mapping);

#endif

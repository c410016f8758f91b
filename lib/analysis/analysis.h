/* SPDX-License-Identifier: MIT */
/*
 * Debug info of an object -> its future map. A pure function from files to bytes: nothing
 * is printed, nothing is kept, every failure is a value. Not for the host's own address
 * space: it allocates, and reads files of any size (see docs/architecture.md).
 */
#ifndef AF_ANALYSIS_H
#define AF_ANALYSIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "futuremap/futuremap.h"

struct af_analysis_options {
	/* Called now and then with a growing fraction of the work that is done, 0 to 1;
	   may be NULL. */
	void (*progress)(void *arg, double fraction);
	void *progress_arg;
};

/*
 * Builds the map of the ELF object at `path`. On success *data, *size is a map file in
 * memory of malloc. What is no ELF object of this machine's class, or cannot be read, is an
 * error; an object without async code or without usable debug info is a map with that
 * verdict and empty tables. `options` may be NULL.
 */
struct af_error *af_analysis_build(const char *path, const struct af_analysis_options *options,
				   void **data, size_t *size) af_must_check;

/* What can be said of an object without reading its debug info. */
struct af_object_facts {
	bool elf;		  /* if false, nothing else is set */
	uint16_t machine, type;	  /* EM_*, ET_* */
	uint8_t elf_class;	  /* ELFCLASS32 or ELFCLASS64 */
	bool has_interp, dynamic; /* has PT_INTERP, PT_DYNAMIC */
	bool static_pie;	  /* ET_DYN with DF_1_PIE or an entry, but no interpreter */
	bool rust;		  /* shows a sign of the Rust compiler */
	bool async_sign;	  /* holds compiled coroutines, whatever its debug info */
	bool has_debug_info;	  /* .debug_info, in itself or in a separate file that was found */
	uint8_t build_id[AFM_BUILD_ID_MAX];
	uint32_t build_id_size;
};

/* A file that is no ELF object is no error: facts->elf is false then. */
struct af_error *af_analysis_facts(const char *path, struct af_object_facts *facts) af_must_check;

#endif

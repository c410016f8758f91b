/* SPDX-License-Identifier: MIT */
/* The executable and the shared objects of a process, and the future map of each. */
#ifndef AF_RUNTIMES_MODULES_H
#define AF_RUNTIMES_MODULES_H

#include "analysis/analysis.h"
#include "runtimes/process.h"

struct af_modules_options {
	const char *executable; /* file to take for the executable; NULL: where the process says */
	struct af_analysis_options analysis; /* progress of maps that are made now */
};

/*
 * Finds the images of a process, and opens (from the cache, by build-id) or makes the map of
 * each that holds async code. An error: no image has a map; it says why and what mends it. A
 * file that is not of the build that runs is an error if it is the executable, else a note.
 */
struct af_error *af_modules_load(struct af_process *process,
				 const struct af_modules_options *options) af_must_check;

/* Finds the modules of a process, where the maps that matter are at hand, and lends it such a map
   for each module of this build (without a build-id: the executable, if `object` is 0), whose
   image gets this `object`. Maps stay the caller's: take them back (af_modules_return) before
   the process is closed. */
void af_modules_find(struct af_process *process);
struct af_error *af_modules_lend(struct af_process *process, const struct af_futuremap *map,
				 uint32_t object) af_must_check;
void af_modules_return(struct af_process *process);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Where a companion writes: the trace, and beside it the recording that it is made of. Of several
 * processes that were told the same name each gets a name of its own, and so does each program that
 * one process becomes by exec: no trace is written over another of the same run. What an earlier
 * run has left is.
 */
#ifndef CLI_OUTPUTS_H
#define CLI_OUTPUTS_H

#include <limits.h>

#include "record/session.h"

struct outputs {
	struct af_session *session;
	uint32_t number;      /* of the trace's name; 0: the one that was asked for */
	char trace[PATH_MAX]; /* or the raw trace, where that is what is wanted */
	char raw[PATH_MAX];
};

/* Chooses the trace's name. `report` is the session's file in the wrapper's directory, or -1. */
void outputs_choose(struct outputs *outputs, struct af_session *session, int report);
/* Opens the recording, empty and locked against other companions; the trace's name changes where
   another one has it. Returns a descriptor, or -1 with errno. */
int outputs_open_raw(struct outputs *outputs);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What makes a function a poll, for those who meet functions elsewhere.
 */
#ifndef AF_ANALYSIS_POLLS_H
#define AF_ANALYSIS_POLLS_H

#include "analysis/function.h"

struct af_match {
	enum afm_poll_kind kind;
	af_die_id future; /* DIE of the polled type */
	bool coroutine;
	enum afm_executor executor;
};

/* Whether the function polls a future: a coroutine's body, or a hand-written poll. */
bool af_polls_match(struct af_builder *b, const struct af_function *f, struct af_match *match);
/* Whether it is an executor's entry into a task. */
bool af_polls_match_root(struct af_builder *b, const struct af_function *f, struct af_match *match);

/* The DIE's own name, "" if it has none. */
const char *af_die_name(struct af_builder *b, af_die_id id);
/* The type of the first member of a structure. */
af_die_id af_die_first_member(struct af_builder *b, af_die_id id);
/* What a pointer's type points to. */
af_die_id af_die_pointee(struct af_builder *b, af_die_id id);
/* X of GenFuture<X>; any other type is itself. */
af_die_id af_die_unwrap_gen_future(struct af_builder *b, af_die_id id, bool *wrapped);

#endif

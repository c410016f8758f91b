/* SPDX-License-Identifier: MIT */
/*
 * What makes a function a poll, for those who meet functions elsewhere.
 */
#ifndef AF_ANALYSIS_POLLS_H
#define AF_ANALYSIS_POLLS_H

#include "analysis/function.h"

struct af_match {
	enum afm_poll_kind kind;
	af_die_id future;     /* DIE of the polled type, or AF_DIE_NONE: */
	const char *declared; /* what it is called; declared.c finds it */
	size_t declared_length;
	bool coroutine;
	enum afm_executor executor;
};

/* Whether the function polls a future: a coroutine's body, or a hand-written poll. */
bool af_polls_match(struct af_builder *b, const struct af_function *f, struct af_match *match);
/* The poll at an address, or NULL, when all are there. */
struct afm_poll *af_polls_at(const struct af_builder *b, uint64_t address);
/* The type that a match is about, once types are known: AFM_NONE where it cannot be told. */
uint32_t af_match_type(struct af_builder *b, const struct af_match *match);
/* Whether it is an executor's entry into a task. */
bool af_polls_match_root(struct af_builder *b, const struct af_function *f, struct af_match *match);

/* declared.c: the match of `self` of type `pin`, "Pin<&mut X>", that has no members. */
bool af_declared_match(const char *pin, struct af_match *match);
/* The only type that is called so, described; else AFM_NONE. After af_types_detail. */
uint32_t af_declared_type(struct af_builder *b, const char *name, size_t length);

/* The DIE's own name, "" if it has none. */
const char *af_die_name(struct af_builder *b, af_die_id id);
/* The type of the first member of a structure. */
af_die_id af_die_first_member(struct af_builder *b, af_die_id id);
/* What a pointer's type points to. */
af_die_id af_die_pointee(struct af_builder *b, af_die_id id);
/* X of GenFuture<X>; any other type is itself. */
af_die_id af_die_unwrap_gen_future(struct af_builder *b, af_die_id id, bool *wrapped);

#endif

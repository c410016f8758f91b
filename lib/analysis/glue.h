/* SPDX-License-Identifier: MIT */
/*
 * Which bytes of `self` a drop glue touches: core::ptr::drop_in_place<T> is a function of one
 * pointer, and what of *self it hands to other functions, loads or overwrites is what it drops.
 * It is not run but followed, with what is known of *self (a coroutine's state, a drop flag) and
 * all else unknown, both ways where a branch depends on that. What cannot be followed to its end
 * has no answer. x86-64 only.
 */
#ifndef AF_ANALYSIS_GLUE_H
#define AF_ANALYSIS_GLUE_H

#include "analysis/object.h"

#define AF_GLUE_RANGES 512 /* of one question */
#define AF_GLUE_WORDS (AF_GLUE_RANGES / 64)

/* Bytes of *self that are asked for. */
struct af_glue_range {
	uint64_t offset, size;
	bool inside; /* a function that gets its address is followed too: which part does it get? */
};

struct af_glue_question {
	uint64_t entry;	     /* of the glue */
	uint64_t start, end; /* its code */
	const struct af_glue_range *ranges;
	uint32_t n_ranges;
	uint64_t state;	       /* value of the coroutine's state, */
	uint64_t state_offset; /* which lies there */
	uint32_t state_size;
	uint64_t flag; /* offset of a drop flag, or UINT64_MAX: none is known */
	uint8_t flag_value;
};

/* Bit i: range i is touched on every way to an end; on at least one; and on at least one something is
   made of it: its address is handed to a function, or what lies there is, or is followed as a pointer.
   (An enum that is looked at need not be one that is dropped.) */
struct af_glue_answer {
	uint64_t always[AF_GLUE_WORDS], ever[AF_GLUE_WORDS], used[AF_GLUE_WORDS];
};

static inline bool af_glue_bit(const uint64_t *words, uint32_t i)
{
	return words[i / 64] >> i % 64 & 1;
}

struct af_glue;

/* NULL where glue of this object cannot be followed, or memory is short. */
struct af_glue *af_glue_create(const struct af_object *object);
void af_glue_destroy(struct af_glue *glue); /* accepts NULL */
/* Before the questions on another glue: what they may cost together begins anew. */
void af_glue_begin(struct af_glue *glue);
/* Before the questions on another state, or with other ranges. */
void af_glue_next(struct af_glue *glue);
/* False: no answer. */
bool af_glue_ask(struct af_glue *glue, const struct af_glue_question *question,
		 struct af_glue_answer *answer);

#endif

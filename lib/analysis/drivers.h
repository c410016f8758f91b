/* SPDX-License-Identifier: MIT */
/*
 * What the parts of finding drivers share: callers.c finds functions that call polls, places.c
 * reads a function's debug info, extend.c its code, drivers.c puts all together.
 */
#ifndef AF_ANALYSIS_DRIVERS_H
#define AF_ANALYSIS_DRIVERS_H

#include "analysis/build.h"

/* Code that polls a future: an inlined poll, or a call of one. */
struct af_poll_code {
	uint64_t start, end;
	uint8_t self_register; /* enum af_register: of a call, where known */
};

/* A place where code calls a poll. */
struct af_caller {
	af_die_id function;
	uint32_t future;
	uint64_t address;      /* of the call */
	uint8_t self_register; /* enum af_register: what hands the poll its future */
};
struct af_callers {
	struct af_caller *items;
	size_t count, capacity;
};

/* Calls of out-of-line polls by what is no poll itself, by function. Before af_polls_complete; in
   any thread: reads what the builder has of polls, no more. False when memory is short. */
bool af_callers_find(const struct af_builder *b, struct af_callers *callers);

enum af_source {
	AF_SOURCE_SELF,	     /* `self` of an inlined poll */
	AF_SOURCE_POINTER,   /* a variable that points to a future */
	AF_SOURCE_VARIABLE,  /* one that is a future */
	AF_SOURCE_PARAMETER, /* the same, as the caller gave it */
	AF_SOURCE_CALL,	     /* its poll is called there: no place */
};

struct af_place_source {
	uint32_t future;
	enum af_source how;
};

/* A place before its driver is known by number. */
struct af_found_place {
	struct af_place_source source;
	uint8_t self_register; /* enum af_register: of a call, where known */
	af_die_id block_on;    /* that it is in, or AF_DIE_NONE */
	struct afm_place place;
};

struct af_code_span {
	uint64_t start, end;
};

struct af_block_on_code {
	struct af_code_span span;
	af_die_id block_on; /* as in struct af_scope */
};

/* What a place makes of calls in [start, end). `step` is the future, until steps are made. */
struct af_found_stay {
	uint64_t start, end;
	struct afm_stay stay;
};

/* Of one function, for stays.c. */
struct af_stay_search {
	VECTOR(struct af_code_span) polled;  /* code of inlined polls */
	VECTOR(struct af_found_stay) places; /* of what they poll */
};

/* In `origins`: it is no poll, but a block_on. */
#define AF_BLOCK_ON (UINT32_MAX - 1)

/* What is around the DIE that is being read: the function, blocks, inlined instances. */
struct af_scope {
	struct af_die die;
	unsigned int depth;
	/* The outermost one around: the function, or the origin of an inlined instance; or AF_DIE_NONE. */
	af_die_id block_on;
};

/* Zero but for b and, before each file, index and next. */
struct af_place_search {
	struct af_builder *b;
	const struct af_index *index;
	size_t next;		     /* in index->instances */
	struct af_frame_place frame; /* what DW_OP_fbreg counts from */
	bool has_frame;
	VECTOR(struct af_scope) scopes; /* outermost first */
	VECTOR(struct af_found_place) found;
	VECTOR(struct af_block_on_code) block_ons; /* inlined in the function, outer ones first */
	struct af_stay_search stays;
	struct af_map origins; /* DIE of an abstract poll -> future + 1, 0: none, AF_BLOCK_ON */
	struct af_map pointed, valued; /* DIE of a variable's type -> the same */
};

/* Adds the places of one function to `found`; functions of a file in the order of their DIEs.
   `block_on`: it is one. */
void af_places_walk(struct af_place_search *search, const struct af_die *function, bool block_on);
void af_place_search_deinit(struct af_place_search *search);

/* Whether an unwinder knows what this DWARF register was in a frame that has called others. */
bool af_frame_keeps(const struct af_builder *b, unsigned int base);

/* Adds to the driver, the last one so far, places that follow from the code: from what calls of
   its future's poll are given, and from the places that it has. `polls` is the code that polls
   its future. `copies`: its places so far are variables that held the future once, perhaps. */
void af_drivers_extend(struct af_builder *b, const struct af_die *function,
		       struct afm_driver *driver, const struct af_poll_code *polls, size_t n_polls,
		       bool copies);

/* stays.c */
/* Takes up the places of a driver, whose polls are inlined or not. */
void af_stays_add(struct af_builder *b, struct af_stay_search *s, const struct afm_driver *driver,
		  bool inlined);
/* Adds the stays of a function, from its calls; and forgets what was searched of it. */
void af_stays_find(struct af_builder *b, const struct af_die *function, struct af_stay_search *s);
/* Orders all of them. */
void af_stays_complete(struct af_builder *b);

#endif

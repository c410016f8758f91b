/* SPDX-License-Identifier: MIT */
/*
 * A function of debug info, put together from its concrete instance and what that refers to.
 */
#ifndef AF_ANALYSIS_FUNCTION_H
#define AF_ANALYSIS_FUNCTION_H

#include "analysis/build.h"

#define AF_FUNCTION_CHAIN 4

struct af_function {
	struct af_die dies[AF_FUNCTION_CHAIN]; /* itself, its origin, that one's specification */
	size_t n_dies;
	const char *name;      /* NULL if it has none */
	const char *symbol;    /* linkage name, or NULL */
	af_die_id params[3];   /* types of the first formal parameters */
	af_die_id first_param; /* the DIE that describes the first one */
	unsigned int n_params;
	af_die_id result; /* type, AF_DIE_NONE for none */
	bool changed;	  /* optimisation took arguments or the result away (DW_CC_nocall) */
};

/* False if there is no such DIE. */
bool af_function_read(struct af_builder *b, af_die_id id, struct af_function *function);
/* The DIE that has its name: where it stands is what it belongs to. */
const struct af_die *af_function_home(const struct af_function *function);
/* Type of the n-th (from 0) template type parameter, or AF_DIE_NONE. */
af_die_id af_function_template(struct af_builder *b, const struct af_function *function,
			       unsigned int n);
/* 1 + the DWARF register that holds the first parameter at the entry; 0 if none does.
   *located says whether debug info places it at all. */
unsigned int af_function_self_register(const struct af_function *function, uint64_t entry,
				       bool *located, bool *fixed);
/* Whether it is called block_on..., or is a closure in one. */
bool af_function_is_block_on(const struct af_builder *b, const struct af_function *f);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Inside patch/plan: who else comes to a function's first bytes.
 */
#ifndef AF_PATCH_BRANCHES_H
#define AF_PATCH_BRANCHES_H

#include <capstone/capstone.h>

#include "patch/plan/site.h"

/*
 * Whether code of the function itself may branch into [from, to): by an immediate jump
 * anywhere in its ranges, or by a jump table that its code refers to. Where code cannot be
 * decoded that might hold such a jump, it is taken to hold one. `insn` is scratch.
 */
bool af_branches_into(csh capstone, cs_insn *insn, const struct af_plan_text *text,
		      const struct af_plan_function *function, uint64_t from, uint64_t to);

#endif

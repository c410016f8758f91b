/* SPDX-License-Identifier: MIT */
/*
 * Variables that were moved out and have left their bytes behind: they seem alive, and claim memory that
 * another place owns too. Two claims on one memory cannot both be right, so a variable is marked
 * - if a future further in owns the same: it was moved there before that one was awaited;
 * - if another variable of the task owns the same, unless that is one further out: which of both is
 *   stale cannot be told;
 * - if another task owns the same, for certain where that one awaits what lies there.
 *
 * The first two are seen in one task's tree (af_claims); for the third all tasks are read once before
 * (af_elsewhere). One thread at a time.
 */
#ifndef AF_VIEWS_STACKS_CLAIMS_H
#define AF_VIEWS_STACKS_CLAIMS_H

#include "inspect/owners.h"
#include "runtimes/tasks.h"

#define AF_CLAIMS_LOCALS 64 /* of one future; more are not looked at */

/* Claims of one task. Zeroed to begin with, and used again for the next. */
struct af_claim {
	uint64_t memory, place; /* what is owned, and where the pointer to it lies */
	uint32_t node, local;	/* the variable's number, or AF_NO_LOCAL: something of the node */
	bool sure;		/* the variable is alive for certain */
};
#define AF_NO_LOCAL UINT32_MAX
struct af_claims {
	VECTOR(struct af_claim) items; /* by memory */
	VECTOR(uint64_t) marked;       /* node << 32 | local, ascending */
	VECTOR(uint64_t) awaited;      /* addresses of futures that are awaited, ascending */
	VECTOR(struct af_place) gone;  /* where nothing lives any more */
};
struct af_place {
	uint64_t start, end;
};

/* Of all tasks: what each owns. Zeroed to begin with. */
struct af_elsewhere {
	VECTOR(struct af_owned) items; /* by memory, once there are all */
	bool full;		       /* there is more, which was left out */
};
struct af_owned {
	uint64_t memory, place;
	uint32_t task;	  /* in af_task_list.items */
	uint32_t certain; /* 1: it is what the task awaits */
};

/* Appends what task number `task` owns to `text`, for af_elsewhere_add. */
void af_elsewhere_read(struct af_claims *claims, const struct af_target *target,
		       const struct af_found_task *found, uint32_t task,
		       const struct af_await_tree *tree, struct af_text *text);
void af_elsewhere_add(struct af_elsewhere *elsewhere, const char *data, size_t size);
/* After the last one, before the first question. */
void af_elsewhere_sort(struct af_elsewhere *elsewhere);
void af_elsewhere_deinit(struct af_elsewhere *elsewhere); /* accepts a zeroed one */

/* Finds the variables of task number `task` that are to be marked. What another task owns is looked at
   once more through `target`, so that it belongs to the same picture. */
void af_claims_find(struct af_claims *claims, const struct af_elsewhere *elsewhere,
		    const struct af_target *target, uint32_t task,
		    const struct af_await_tree *tree);
bool af_claims_marked(const struct af_claims *claims, uint32_t node, uint32_t local);
void af_claims_deinit(struct af_claims *claims); /* accepts a zeroed one */

/* Whether a node has variables that can be read. */
bool af_claims_has_locals(const struct af_node *node);

#endif

/* SPDX-License-Identifier: MIT */
/* What stacks.c hands to the writers of the three formats. */
#ifndef AF_VIEWS_STACKS_INTERNAL_H
#define AF_VIEWS_STACKS_INTERNAL_H

#include "views/stacks.h"
#include "views/stacks_claims.h"

/* No variable, but when a timer ends: "in 3.2s". */
#define AF_STACKS_TIMER 9

/* A variable of a node, as text. */
struct af_stack_value {
	uint32_t node;
	uint32_t name, type, value; /* offsets in af_stack.texts */
	uint8_t life;		    /* enum af_local_life, or AF_STACKS_TIMER */
};

/* A task as it was read, or a group of them. */
struct af_stack {
	struct af_found_task found;
	uint32_t n_nodes;
	const struct af_node *nodes;
	const struct af_stack_value *values; /* by node */
	uint32_t n_values;
	const char *texts;
	bool cut; /* the tree was larger than the limits */
	/* --group */
	uint64_t count;
	uint64_t *ids;
	uint32_t n_ids;
};

struct af_stacks_writer {
	const struct af_task_list *tasks;
	const struct af_target *target;
	const struct af_stacks_options *options;
	FILE *out;
	uint64_t written; /* stacks so far */
};

struct af_stacks_format_functions {
	void (*begin)(struct af_stacks_writer *writer);
	void (*stack)(struct af_stacks_writer *writer, const struct af_stack *stack);
	void (*end)(struct af_stacks_writer *writer);
};
extern const struct af_stacks_format_functions af_stacks_text, af_stacks_json, af_stacks_dot;

const char *af_stacks_executor(const struct af_found_task *found);
const char *af_stacks_state(const struct af_found_task *found);
/* What was spawned: the future in the map of the task's image, or NULL; *name is set always. */
const struct afm_future *af_stacks_future(const struct af_target *target,
					  const struct af_found_task *found, const char **name);
/* The same for people: without what the executor has put around it. *image: whose map it is in. */
const struct afm_future *af_stacks_title(const struct af_target *target,
					 const struct af_stack *stack, const char **name,
					 uint32_t *image);
const char *af_stacks_node_name(const struct af_target *target, const struct af_node *node);
const char *af_stacks_node_state(const struct af_node *node);
/* The await that the node stands at, or NULL. */
const struct afm_variant *af_stacks_await(const struct af_target *target,
					  const struct af_node *node);
/* The task that is running on a thread, the innermost where one polls another; or NULL. */
const struct af_found_task *af_stacks_task_of(const struct af_task_list *tasks, pid_t thread);
/* The id of the task whose header is at `address`; false if it has none, or is not known. */
bool af_stacks_task_id(const struct af_task_list *tasks, uint64_t address, uint64_t *id);

/* Appends when a task's timers end, and the variables of its futures, marked as `claims` says, as records that
   stacks.c takes apart: the timers first. */
void af_stacks_read_timers(const struct af_value_options *options, const struct af_target *target,
			   const struct af_await_tree *tree, struct af_text *text);
void af_stacks_read_values(const struct af_value_options *options, const struct af_target *target,
			   const struct af_await_tree *tree, const struct af_claims *claims,
			   struct af_text *text);
/* When the timer ends that node `i` is, "in 3.2s"; NULL if it is none, or that is not known. */
const char *af_stacks_timer(const struct af_stack *stack, uint32_t i);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The tasks of a walk, and which of them a poll belongs to. Executors that number their
 * tasks are believed; everywhere else a task is known by its address, and an address is
 * used again by the next task: the caller says when the old tenant is gone.
 */
#ifndef AF_TRACE_TASKS_H
#define AF_TRACE_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace/trace.h"

enum af_task_key {
	AF_KEY_NONE,
	AF_KEY_ID,	/* value: af_tasks_id() */
	AF_KEY_ADDRESS, /* value: address of the task */
	AF_KEY_SELF,	/* value: address of a future that no known root polls, and function */
	AF_KEY_INNER,	/* the same of what such a one points to: another name of the same task */
};

struct af_task_slot {
	uint64_t value;
	uint32_t function;
	uint16_t key; /* enum af_task_key */
	uint16_t reserved;
	uint32_t task; /* number of the present tenant */
};

struct af_tasks {
	struct af_task *tasks;
	uint32_t n_tasks, tasks_room;
	struct af_task_slot *slots; /* open addressing, a power of two */
	size_t n_used, n_slots;
	uint8_t loads[256]; /* by number of the object: how often it was unloaded */
};

/* An executor in a library numbers its tasks for itself, and anew when the library is loaded again;
   `owner` is the number of the object. */
static inline uint64_t af_tasks_id(const struct af_tasks *tasks, uint32_t owner, uint64_t id)
{
	uint8_t which = (uint8_t)owner;
	return (uint64_t)tasks->loads[which] << 56 | (uint64_t)which << 48 |
	       (id & AFR_SUBJECT_MASK);
}

void af_tasks_deinit(struct af_tasks *tasks);
void af_tasks_clear(struct af_tasks *tasks);

/*
 * The task that lives at this key. Born now if there is none, if the one there has
 * ended, or if the caller knows that this is another one (`fresh`). Returns its number,
 * 0 when memory is short. `function` names a new one; it is part of the key only for
 * AF_KEY_SELF and _INNER.
 */
uint32_t af_tasks_find(struct af_tasks *tasks, enum af_task_key key, uint64_t value,
		       uint32_t function, bool fresh, uint64_t now);

/* One more name for a task. */
void af_tasks_alias(struct af_tasks *tasks, uint64_t value, uint32_t function, uint32_t task);

/* The task that lives at this key, dead or alive; 0 if there is none. */
uint32_t af_tasks_lookup(const struct af_tasks *tasks, enum af_task_key key, uint64_t value,
			 uint32_t function);

static inline struct af_task *af_tasks_get(const struct af_tasks *tasks, uint32_t number)
{
	return &tasks->tasks[number - 1];
}

#endif

/* SPDX-License-Identifier: MIT */
#include "trace/tasks.h"

#include <stdlib.h>
#include <string.h>

void af_tasks_deinit(struct af_tasks *tasks)
{
	free(tasks->tasks);
	free(tasks->slots);
	*tasks = (struct af_tasks){0};
}

void af_tasks_clear(struct af_tasks *tasks)
{
	tasks->n_tasks = 0;
	tasks->n_used = 0;
	memset(tasks->loads, 0, sizeof(tasks->loads));
	if (tasks->slots)
		memset(tasks->slots, 0, tasks->n_slots * sizeof(*tasks->slots));
}

static size_t hash(const struct af_task_slot *slot)
{
	uint64_t h = slot->value * UINT64_C(0x9e3779b97f4a7c15);
	h ^= (uint64_t)slot->function << 32 | slot->key;
	h ^= h >> 29;
	h *= UINT64_C(0xbf58476d1ce4e5b9);
	return (size_t)(h ^ h >> 32);
}

static struct af_task_slot *probe(struct af_task_slot *slots, size_t n_slots,
				  const struct af_task_slot *want)
{
	size_t i = hash(want) & (n_slots - 1);
	while (slots[i].key != AF_KEY_NONE &&
	       (slots[i].key != want->key || slots[i].value != want->value ||
		slots[i].function != want->function))
		i = (i + 1) & (n_slots - 1);
	return &slots[i];
}

/* Keeps the table at most two thirds full, so that probes end. */
static bool make_room(struct af_tasks *tasks)
{
	if (tasks->n_used * 3 < tasks->n_slots * 2)
		return true;
	size_t n = tasks->n_slots ? tasks->n_slots * 2 : 256;
	struct af_task_slot *slots = calloc(n, sizeof(*slots));
	if (!slots)
		return false;
	for (size_t i = 0; i < tasks->n_slots; i++)
		if (tasks->slots[i].key != AF_KEY_NONE)
			*probe(slots, n, &tasks->slots[i]) = tasks->slots[i];
	free(tasks->slots);
	tasks->slots = slots;
	tasks->n_slots = n;
	return true;
}

static uint32_t born(struct af_tasks *tasks, uint64_t subject, uint32_t function, uint64_t now)
{
	if (tasks->n_tasks == tasks->tasks_room) {
		if (tasks->tasks_room > UINT32_MAX / 4)
			return 0;
		uint32_t room = tasks->tasks_room ? tasks->tasks_room * 2 : 64;
		struct af_task *more = realloc(tasks->tasks, room * sizeof(*more));
		if (!more)
			return 0;
		tasks->tasks = more;
		tasks->tasks_room = room;
	}
	uint32_t number = ++tasks->n_tasks;
	*af_tasks_get(tasks, number) = (struct af_task){
		.number = number,
		.function = function,
		.subject = subject,
		.first = now,
		.last = now,
		.parked = AF_STATE_NONE,
	};
	return number;
}

uint32_t af_tasks_lookup(const struct af_tasks *tasks, enum af_task_key key, uint64_t value,
			 uint32_t function)
{
	const struct af_task_slot want = {
		.value = value,
		.function = key >= AF_KEY_SELF ? function : 0,
		.key = (uint16_t)key,
	};
	if (!tasks->n_slots)
		return 0;
	const struct af_task_slot *slot = probe(tasks->slots, tasks->n_slots, &want);
	return slot->key == AF_KEY_NONE ? 0 : slot->task;
}

void af_tasks_alias(struct af_tasks *tasks, uint64_t value, uint32_t function, uint32_t task)
{
	const struct af_task_slot want = {
		.value = value, .function = function, .key = AF_KEY_INNER, .task = task};
	if (!make_room(tasks))
		return; /* it will not be found by that name */
	struct af_task_slot *slot = probe(tasks->slots, tasks->n_slots, &want);
	tasks->n_used += slot->key == AF_KEY_NONE;
	*slot = want;
}

uint32_t af_tasks_find(struct af_tasks *tasks, enum af_task_key key, uint64_t value,
		       uint32_t function, bool fresh, uint64_t now)
{
	struct af_task_slot want = {
		.value = value,
		.function = key >= AF_KEY_SELF ? function : 0,
		.key = (uint16_t)key,
	};
	if (!make_room(tasks))
		return 0;
	struct af_task_slot *slot = probe(tasks->slots, tasks->n_slots, &want);
	/* An id is never given twice: a poll after the end is still the same task's. */
	if (slot->key != AF_KEY_NONE && !fresh &&
	    (key == AF_KEY_ID || af_tasks_get(tasks, slot->task)->state == AF_TASK_ALIVE))
		return slot->task;
	/* It is gone without a word, and waits no more: its memory is another's. */
	if (slot->key != AF_KEY_NONE)
		af_tasks_get(tasks, slot->task)->pending = false;
	want.task = born(tasks, key == AF_KEY_ID ? value & AFR_SUBJECT_MASK : value, function, now);
	if (!want.task)
		return 0;
	tasks->n_used += slot->key == AF_KEY_NONE;
	*slot = want;
	af_tasks_get(tasks, want.task)->rooted = key != AF_KEY_SELF;
	return want.task;
}

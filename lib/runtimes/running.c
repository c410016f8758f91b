/* SPDX-License-Identifier: MIT */
/*
 * Which thread polls which of the tasks that are running. A thread that has a poll of the task's
 * own future on its stack may; where several have, or several tasks have the same future, the
 * address of the task must lie on one of these stacks and on no other.
 */
#include "runtimes/tasks.h"

#define CHUNK 8192u /* bytes of a stack at once */

static bool polls_future(const struct af_futuremap *map, const struct afm_poll *poll,
			 uint32_t future)
{
	for (uint32_t i = 0; i < poll->n_futures; i++)
		if (*af_futuremap_poll_futures(map, poll->first_future + i) == future)
			return true;
	return false;
}

/* Whether the thread has a poll of this task's future on its stack. */
static bool may_poll(const struct af_task_list *t, const struct af_thread_polls *thread,
		     const struct af_found_task *found)
{
	const struct af_futuremap *map = &t->target.images[found->task.image].map;
	const struct afm_root *root = af_futuremap_roots(map, found->task.root);
	for (uint32_t i = 0; i < thread->n; i++) {
		const struct af_thread_poll *at = &t->threads.polls.items[thread->first + i];
		if (at->image != found->task.image)
			continue;
		if (at->poll == root->poll ||
		    (root->future != AFM_NONE &&
		     polls_future(map, af_futuremap_polls(map, at->poll), root->future)))
			return true;
	}
	return false;
}

/* Whether a word on the stack, from `sp` outwards, is `address`. */
static bool stack_holds(const struct af_task_list *t, const struct af_thread_polls *thread,
			uint64_t sp, uint64_t address)
{
	uint64_t words[CHUNK / 8];
	sp &= ~(uint64_t)7;
	while (sp < thread->top) {
		size_t n = thread->top - sp < CHUNK ? thread->top - sp : CHUNK;
		n = af_process_read(t->process, sp, words, n);
		for (size_t i = 0; i < n / 8; i++)
			if (words[i] == address)
				return true;
		if (n < 8)
			return false;
		sp += n;
	}
	return false;
}

static bool same_future(const struct af_found_task *a, const struct af_found_task *b)
{
	return a->task.image == b->task.image && a->task.root == b->task.root;
}

/* The only thread that may poll the task; NULL: none, or it cannot be told. */
static const struct af_thread_polls *find_thread(const struct af_task_list *t,
						 const struct af_found_task *found, bool alone)
{
	const struct af_thread_polls *one = NULL, *holder = NULL;
	uint32_t n = 0, holders = 0;
	for (size_t i = 0; i < t->threads.items.count; i++) {
		const struct af_thread_polls *thread = &t->threads.items.items[i];
		if (thread->unknown || !may_poll(t, thread, found))
			continue;
		one = thread;
		n++;
		const struct af_process_thread *at = &t->process->threads.items[thread->thread];
		if (stack_holds(t, thread, at->registers[AF_REGISTER_SP], found->task.header)) {
			holder = thread;
			holders++;
		}
	}
	if (n == 1 && alone)
		return one;
	return holders == 1 ? holder : NULL;
}

void af_task_list_match_threads(struct af_task_list *t)
{
	for (size_t i = 0; i < t->items.count; i++) {
		struct af_found_task *found = &t->items.items[i];
		bool alone = true;
		if (found->found_by != AF_BY_HEADER || found->task.state != AF_TASK_RUNNING)
			continue;
		for (size_t k = 0; k < t->items.count && alone; k++) {
			const struct af_found_task *other = &t->items.items[k];
			alone = k == i || other->found_by != AF_BY_HEADER ||
				other->task.state != AF_TASK_RUNNING || !same_future(found, other);
		}
		const struct af_thread_polls *thread = find_thread(t, found, alone);
		if (thread)
			found->thread = t->process->threads.items[thread->thread].tid;
	}
}

bool af_task_list_is_own(const struct af_task_list *t, const struct af_driven *driven)
{
	const struct af_futuremap *map = &t->target.images[driven->image].map;
	const struct afm_driver *driver = af_futuremap_drivers(map, driven->driver);
	if (strstr(af_futuremap_string(map, driver->name), "block_on"))
		return true;
	if (driven->inside)
		return false;
	for (size_t i = 0; i < t->items.count; i++) {
		const struct af_found_task *found = &t->items.items[i];
		if (found->found_by == AF_BY_HEADER && found->task.state == AF_TASK_RUNNING &&
		    !found->blocking &&
		    stack_holds(t, &t->threads.items.items[driven->thread], driven->sp,
				found->task.header))
			return false;
	}
	return true;
}

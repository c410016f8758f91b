/* SPDX-License-Identifier: MIT */
#include "trace/spans.h"

#include <stdlib.h>
#include <string.h>

#include "trace/driven.h"

static struct af_open_span *top_of(const struct af_span_stack *stack)
{
	return &stack->open[stack->depth - 1];
}

/* Which task */

static const struct afm_root *function_root(const struct af_trace *trace,
					    const struct af_function *function)
{
	if (function->object == AFM_NONE)
		return NULL;
	const struct af_futuremap *map = &trace->maps[function->object];
	const struct afm_poll *poll = af_futuremap_polls(map, function->poll);
	return poll->root == AFM_NONE ? NULL : af_futuremap_roots(map, poll->root);
}

/* Whether `function` polls the very future that the task root `root_function` drives. */
static bool polls_future_of(const struct af_trace *trace, uint32_t root_function, uint32_t function)
{
	const struct af_function *root_side = af_trace_function(trace, root_function);
	const struct af_function *side = af_trace_function(trace, function);
	const struct afm_root *root = function_root(trace, root_side);
	if (!root || root->future == AFM_NONE || side->object != root_side->object || side->root)
		return false;
	const struct af_futuremap *map = &trace->maps[side->object];
	const struct afm_poll *poll = af_futuremap_polls(map, side->poll);
	for (uint32_t i = 0; i < poll->n_futures; i++)
		if (*af_futuremap_poll_futures(map, poll->first_future + i) == root->future)
			return true;
	return false;
}

static uint32_t find_task(struct af_walker *walker, enum af_task_key key,
			  const struct af_span *span, bool fresh)
{
	uint64_t value = span->self;
	if (key == AF_KEY_ID)
		value = af_tasks_id(&walker->trace->tasks,
				    af_trace_owner(walker->trace, span->function), value);
	uint32_t number = af_tasks_find(&walker->trace->tasks, key, value, span->function, fresh,
					span->begin);
	if (!number)
		walker->no_memory = true;
	return number;
}

/* What was read of the task shows its future as one that was never polled. */
static bool shows_unstarted(const struct af_span_stack *stack, const struct af_walker *walker)
{
	struct af_level level = {.started = true};
	uint32_t number = stack->n_nodes ? stack->nodes[0] : 0;
	for (uint32_t i = 0; i < AF_LEVELS_MAX && af_trace_level(walker->trace, number, &level);
	     i++)
		number = level.parent;
	return !level.started;
}

static bool is_born_with(const struct af_walker *walker, const struct af_span *span)
{
	return span->task && af_tasks_get(&walker->trace->tasks, span->task)->polls == 0;
}

/* It was the same task after all. */
static void tell_owed_wait(struct af_walker *walker, struct af_open_span *root)
{
	if (!root->owes_wait)
		return;
	root->owes_wait = false;
	struct af_wait wait = {
		.task = af_tasks_get(&walker->trace->tasks, root->span.task),
		.begin = root->wait_begin,
		.end = root->span.begin,
	};
	af_walker_wait(walker, &wait);
}

/*
 * The future of a task that is known by its address begins for the first time, but the
 * task at this address has been polled before: a new task has moved in. The root's poll
 * is already open under the name of the old one.
 */
static void replace_task(struct af_span_stack *stack, struct af_walker *walker, int32_t at)
{
	struct af_open_span *root = &stack->open[at];
	uint32_t before = root->span.task;
	uint32_t number = find_task(walker, AF_KEY_ADDRESS, &root->span, true);
	if (number && before) {
		af_tasks_get(&walker->trace->tasks, before)->polling--;
		af_tasks_get(&walker->trace->tasks, number)->polling++;
	}
	for (uint32_t i = (uint32_t)at; i < stack->depth; i++)
		stack->open[i].span.task = number;
	root->fresh = true;
	root->owes_wait = false;
}

static void begin_own_future(struct af_span_stack *stack, struct af_walker *walker,
			     struct af_open_span *open)
{
	struct af_open_span *root = &stack->open[open->root];
	if (root->own_seen ||
	    !polls_future_of(walker->trace, root->span.function, open->span.function))
		return;
	root->own_seen = true;
	open->own = true;
	if (open->span.first_poll && !root->fresh)
		replace_task(stack, walker, open->root);
	tell_owed_wait(walker, root);
}

/*
 * A poll that no other poll waits for. Executors run whole event loops inside the "poll"
 * of a blocking closure (tokio's workers are such closures): what is polled there is
 * nobody's child.
 */
static bool is_outermost(const struct af_walker *walker, const struct af_open_span *open,
			 enum afr_kind kind)
{
	return open->span.depth == 0 || kind == AFR_ENTER_TASK || kind == AFR_ENTER_TASK_AT ||
	       (af_trace_function(walker->trace, open[-1].span.function)->blocking &&
		!af_trace_function(walker->trace, open->span.function)->blocking);
}

/* Executors without a root of ours often hold a future by a pointer, which is polled first. */
static void name_pointed(struct af_walker *walker, struct af_open_span *open)
{
	const struct af_function *function = af_trace_function(walker->trace, open->span.function);
	bool inner = !open->owns_task && !open->span.outermost && open[-1].points;
	open->points = function->pointer && open->root < 0 && (open->owns_task || inner);
	if (!inner || !open->span.task)
		return;
	open[-1].points = false;
	af_tasks_alias(&walker->trace->tasks, open->span.self, open->span.function,
		       open->span.task);
}

/*
 * Task roots say which task they poll. Within a root every poll is that task's. A poll
 * that is outermost and in no root is driven by an executor (or a block_on) that nobody
 * told us about: then the future itself is the task, known by where it lies.
 */
static void begin_task(struct af_span_stack *stack, struct af_walker *walker,
		       struct af_open_span *open, enum afr_kind kind)
{
	struct af_span *span = &open->span;
	if (kind == AFR_ENTER_TASK || kind == AFR_ENTER_TASK_AT) {
		open->owns_task = true;
		open->root = (int32_t)stack->depth - 1;
		span->task =
			find_task(walker, kind == AFR_ENTER_TASK ? AF_KEY_ID : AF_KEY_ADDRESS, span,
				  kind == AFR_ENTER_TASK_AT && shows_unstarted(stack, walker));
		/* Nothing is to be replaced where ids are told. */
		open->fresh = kind == AFR_ENTER_TASK || is_born_with(walker, span);
	} else if (span->outermost &&
		   (span->task = af_driven_owner(stack, walker, span->self, span->function))) {
		return;
	} else if (span->outermost) {
		open->owns_task = true;
		span->task = find_task(walker, AF_KEY_SELF, span, kind == AFR_ENTER_NEW);
		if (span->task)
			af_driven_see(stack, span->task);
	} else {
		span->task = open[-1].span.task;
		open->root = open[-1].root;
		if (open->root >= 0)
			begin_own_future(stack, walker, open);
	}
}

/* The time since the task's last poll, if there was one. */
static void end_wait(const struct af_span_stack *stack, struct af_walker *walker,
		     struct af_open_span *open)
{
	const struct af_task *task = af_tasks_get(&walker->trace->tasks, open->span.task);
	if ((!task->polls && !task->polling) || task->state != AF_TASK_ALIVE)
		return;
	/* Another thread's poll of it is about to return: it has waited no time at all. */
	bool at_once = task->polling || task->last > open->span.begin;
	struct af_wait wait = {
		.task = task,
		.begin = at_once ? open->span.begin : task->last,
		.end = open->span.begin,
		.n_nodes = stack->n_nodes,
		.nodes = stack->nodes,
	};
	/* Nothing was read of it: perhaps it is another one's first poll, see replace_task(). */
	open->owes_wait = open->root >= 0 && !open->fresh && !stack->n_nodes;
	open->wait_begin = wait.begin;
	if (open->owes_wait)
		return;
	af_walker_wait(walker, &wait);
}

static void end_task(struct af_walker *walker, const struct af_open_span *open)
{
	const struct af_span *span = &open->span;
	if (!open->owns_task || !span->task)
		return;
	struct af_task *task = af_tasks_get(&walker->trace->tasks, span->task);
	task->polls++;
	task->polling--;
	task->parked = open->own_seen ? open->own_state : span->state;
	task->parked_in = open->own_seen ? open->own_function : span->function;
	task->pending = span->result == AF_SPAN_PENDING;
	task->busy += span->end - span->begin;
	if (span->end > task->last)
		task->last = span->end;
	if (span->result == AF_SPAN_READY)
		task->state = AF_TASK_READY;
	else if (span->result == AF_SPAN_PANICKED)
		task->state = AF_TASK_PANICKED;
}

/* Spans */

static bool reserve(struct af_span_stack *stack)
{
	if (stack->depth < stack->room)
		return true;
	uint32_t room = stack->room ? stack->room * 2 : 16;
	struct af_open_span *open = realloc(stack->open, room * sizeof(*open));
	if (!open)
		return false;
	stack->open = open;
	stack->room = room;
	return true;
}

static void begin_span(struct af_span_stack *stack, struct af_walker *walker,
		       const struct afr_record *record, uint64_t now)
{
	enum afr_kind kind = afr_kind(record);
	if (stack->depth == AF_SPAN_DEPTH_MAX) {
		walker->counts->bad++;
		return;
	}
	if (!reserve(stack)) {
		walker->no_memory = true;
		return;
	}
	struct af_open_span *open = &stack->open[stack->depth];
	*open = (struct af_open_span){
		.root = -1,
		.span =
			{
				.thread = stack->thread,
				.function = afr_function(record),
				.depth = stack->depth,
				.first_poll = kind == AFR_ENTER_NEW,
				.self = afr_subject(record),
				.begin = now,
				.state = AF_STATE_NONE,
			},
	};
	stack->depth++;
	open->span.outermost = is_outermost(walker, open, kind);
	begin_task(stack, walker, open, kind);
	name_pointed(walker, open);
	if (open->owns_task && open->span.task) {
		end_wait(stack, walker, open);
		af_tasks_get(&walker->trace->tasks, open->span.task)->polling++;
	}
	stack->n_nodes = 0;
	if (walker->visitor->begin && !walker->visitor->begin(walker->context, &open->span))
		walker->stopped = true;
}

/* A child that takes 60 % of its parent's time is what the parent is about. */
static void explain(struct af_span_stack *stack, struct af_open_span *open)
{
	struct af_span *span = &open->span;
	uint64_t duration = span->end - span->begin;
	bool inner = open->longest_child && open->longest_child >= duration - duration * 2 / 5;
	span->inner_function = inner ? open->longest_function : span->function;
	span->inner_duration = inner ? open->longest_duration : duration;
	if (!span->depth)
		return;
	struct af_open_span *parent = &stack->open[span->depth - 1];
	if (duration > parent->longest_child) {
		parent->longest_child = duration;
		parent->longest_function = span->inner_function;
		parent->longest_duration = span->inner_duration;
	}
}

static void end_span(struct af_span_stack *stack, struct af_walker *walker, uint64_t now,
		     enum af_span_result result, uint64_t state)
{
	struct af_open_span *open = top_of(stack);
	struct af_span *span = &open->span;
	/* What an executor's own entry returns says little; the future's poll in it does. */
	if (result == AF_SPAN_UNKNOWN && open->own_seen && open->own_result <= AF_SPAN_PANICKED)
		result = open->own_result;
	span->end = now;
	span->result = result;
	span->state = state;
	if (open->own) {
		stack->open[open->root].own_result = result;
		stack->open[open->root].own_state = state;
		stack->open[open->root].own_function = span->function;
	}
	explain(stack, open);
	tell_owed_wait(walker, open);
	end_task(walker, open);
	walker->counts->spans++;
	if (walker->visitor->end && !walker->visitor->end(walker->context, span))
		walker->stopped = true;
	stack->depth--;
}

static enum af_span_result result_of(const struct afr_record *record, uint64_t *state)
{
	uint64_t subject = afr_subject(record);
	*state = AF_STATE_NONE;
	switch (afr_kind(record)) {
	case AFR_UNWIND:
		return AF_SPAN_PANICKED;
	case AFR_EXIT_POLL:
		return subject == AFR_READY	? AF_SPAN_READY
		       : subject == AFR_PENDING ? AF_SPAN_PENDING
						: AF_SPAN_UNKNOWN;
	default: /* AFR_EXIT_STATE: 0 unresumed, 1 returned, 2 panicked, 3.. suspended */
		*state = subject;
		return subject >= 3   ? AF_SPAN_PENDING
		       : subject == 2 ? AF_SPAN_PANICKED
		       : subject == 1 ? AF_SPAN_READY
				      : AF_SPAN_UNKNOWN;
	}
}

/* A forked process returns from polls that its parent began, on the thread that forked,
   which is the child's first. */
static void count_stray(const struct af_span_stack *stack, struct af_walker *walker)
{
	const struct af_trace_info *info = &walker->trace->info;
	if (info->parent_pid && stack->thread->tid == info->pid && !info->end.dropped)
		walker->counts->inherited++;
	else
		walker->counts->stray++;
}

static void end_by_record(struct af_span_stack *stack, struct af_walker *walker,
			  const struct afr_record *record, uint64_t now)
{
	uint32_t depth = stack->depth;
	/* An unwinder that does not tell which function: unwinding goes from the top. */
	bool top = afr_kind(record) == AFR_UNWIND && afr_function(record) == AFR_FUNCTION_UNKNOWN;
	while (depth && !top && stack->open[depth - 1].span.function != afr_function(record))
		depth--;
	if (!depth) {
		count_stray(stack, walker);
		return;
	}
	while (stack->depth > depth) {
		walker->counts->lost++;
		end_span(stack, walker, now, AF_SPAN_LOST, AF_STATE_NONE);
	}
	uint64_t state;
	enum af_span_result result = result_of(record, &state);
	walker->counts->panicked += result == AF_SPAN_PANICKED;
	end_span(stack, walker, now, result, state);
}

/* A runtime has dropped a task between two polls: its last wait ends. */
static void drop_task(struct af_span_stack *stack, struct af_walker *walker,
		      const struct afr_record *record, uint64_t now)
{
	struct af_tasks *tasks = &walker->trace->tasks;
	uint32_t owner = af_trace_owner(walker->trace, afr_function(record));
	uint32_t number = af_tasks_lookup(tasks, AF_KEY_ID,
					  af_tasks_id(tasks, owner, afr_subject(record)), 0);
	struct af_task *task = number ? af_tasks_get(tasks, number) : NULL;
	if (task && task->state == AF_TASK_ALIVE && !task->polling && task->last <= now) {
		struct af_wait wait = {
			.task = task,
			.begin = task->last,
			.end = now,
			.dropped = true,
			.n_nodes = stack->n_nodes,
			.nodes = stack->nodes,
		};
		af_walker_wait(walker, &wait);
		task->state = AF_TASK_DROPPED;
		task->last = now;
	}
	stack->n_nodes = 0;
}

void af_span_stack_apply(struct af_span_stack *stack, struct af_walker *walker,
			 const struct afr_record *record, uint64_t now)
{
	/* Beyond the sort window times may still run back; spans must nest all the same. */
	if (now < stack->last)
		now = stack->last;
	stack->last = now;
	walker->counts->records++;
	switch (afr_kind(record)) {
	case AFR_ENTER:
	case AFR_ENTER_NEW:
	case AFR_ENTER_TASK:
	case AFR_ENTER_TASK_AT:
		begin_span(stack, walker, record, now);
		break;
	case AFR_PARKED:
		if (stack->n_nodes < AF_WAIT_NODES &&
		    af_trace_level(walker->trace, (uint32_t)afr_subject(record),
				   &(struct af_level){0}))
			stack->nodes[stack->n_nodes++] = (uint32_t)afr_subject(record);
		break;
	case AFR_WAIT:
		af_driven_begin(stack, walker, record, now);
		break;
	case AFR_WAITED:
		af_driven_end(stack, walker, record, now);
		break;
	case AFR_DROPPED:
		drop_task(stack, walker, record, now);
		break;
	case AFR_UNLOADED:
		walker->trace->tasks.loads[afr_subject(record) & 0xff]++;
		break;
	case AFR_PAUSED:
		af_walker_off(walker, now, false);
		break;
	case AFR_RESUMED:
		af_walker_on(walker, af_timebase_ns(&walker->trace->timebase, record->word1), now);
		break;
	default:
		end_by_record(stack, walker, record, now);
	}
}

void af_span_stack_finish(struct af_span_stack *stack, struct af_walker *walker, uint64_t end)
{
	while (stack->depth && !walker->stopped) {
		walker->counts->open++;
		end_span(stack, walker, end, AF_SPAN_OPEN, AF_STATE_NONE);
	}
	af_driven_finish(stack, walker, end);
	free(stack->open);
	*stack = (struct af_span_stack){0};
}

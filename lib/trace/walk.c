/* SPDX-License-Identifier: MIT */
/*
 * The walk: the streams of all threads merged by time, each record applied to its
 * thread's stack. The order over threads matters for tasks, which move between them.
 */
#include <errno.h>
#include <stdlib.h>

#include "trace/spans.h"
#include "trace/stream.h"

struct lane {
	struct af_stream stream;
	struct af_span_stack stack;
};

/* A binary heap of the lanes that have records left, the earliest one on top. */
struct merge {
	struct lane **heap;
	uint32_t count;
};

static uint64_t lane_ticks(const struct lane *lane)
{
	return afr_ticks(af_stream_first(&lane->stream));
}

static void sift_down(struct merge *merge, uint32_t at)
{
	struct lane *lane = merge->heap[at];
	uint64_t ticks = lane_ticks(lane);
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= merge->count)
			break;
		if (child + 1 < merge->count &&
		    lane_ticks(merge->heap[child + 1]) < lane_ticks(merge->heap[child]))
			child++;
		if (ticks <= lane_ticks(merge->heap[child]))
			break;
		merge->heap[at] = merge->heap[child];
		at = child;
	}
	merge->heap[at] = lane;
}

static void merge_start(struct merge *merge, struct lane *lanes, uint32_t n_lanes)
{
	for (uint32_t i = 0; i < n_lanes; i++)
		if (af_stream_first(&lanes[i].stream))
			merge->heap[merge->count++] = &lanes[i];
	for (uint32_t i = merge->count / 2; i-- > 0;)
		sift_down(merge, i);
}

static void merge_run(struct merge *merge, struct af_walker *walker)
{
	const struct af_timebase *base = &walker->trace->timebase;
	while (merge->count && !walker->stopped && !walker->no_memory) {
		struct lane *lane = merge->heap[0];
		const struct afr_record *record = af_stream_first(&lane->stream);
		uint64_t now = af_timebase_ns(base, afr_ticks(record));
		if (now >= walker->trace->info.stopped)
			af_walker_off(walker, walker->trace->info.stopped, true);
		if (now > walker->counts->end)
			walker->counts->end = now;
		af_span_stack_apply(&lane->stack, walker, record, now);
		af_stream_advance(&lane->stream);
		if (!af_stream_first(&lane->stream))
			merge->heap[0] = merge->heap[--merge->count];
		if (merge->count)
			sift_down(merge, 0);
	}
}

/* Whether it stands at an await: then it has not ended, whatever its last poll has seemed to return. (A poll whose
   result the compiler has taken away leaves anything; not all compilers say so.) */
static bool stands(const struct af_trace *trace, const struct af_seen_task *s)
{
	const struct afr_look_level *levels = trace->look_levels + s->told->first_level;
	if (s->told->found_by != AFR_BY_HEADER || s->told->state != AFR_LOOK_PARKED || !s->n_nodes)
		return false;
	for (uint32_t i = 0; i < s->told->n_levels; i++)
		if (levels[i].state == AFR_LEVEL_SUSPENDED)
			return true;
	return false;
}

/* What a look at the end has shown of a task: whether it still waits, and where. Only if it has
   not been polled since. */
static void use_look(const struct af_trace *trace, struct af_task *task, uint32_t seen,
		     struct af_wait *wait)
{
	uint64_t begin = af_timebase_ns(&trace->timebase, trace->look->begin);
	if (task->last > begin)
		return;
	if (task->state == AF_TASK_READY && seen != AFM_NONE && stands(trace, &trace->seen[seen]))
		task->state = AF_TASK_ALIVE;
	if (task->state != AF_TASK_ALIVE)
		return;
	if (seen == AFM_NONE) {
		/* Futures in frames are not all found, tasks are. */
		if (trace->look->whole && task->rooted)
			task->state = AF_TASK_GONE;
		return;
	}
	const struct af_seen_task *s = &trace->seen[seen];
	if (s->told->state == AFR_LOOK_ENDED)
		task->state = AF_TASK_GONE;
	if (s->told->state != AFR_LOOK_PARKED || !s->n_nodes)
		return;
	/* Another task, at the address of this one. */
	if (trace->look_levels[s->told->first_level].state == AFR_LEVEL_NOT_STARTED) {
		task->state = AF_TASK_GONE;
		return;
	}
	task->pending = true;
	wait->nodes = trace->seen_nodes + s->first_node;
	wait->n_nodes = s->n_nodes;
}

/*
 * What a look tells when recording was off at some time: of everything, where it was taken after
 * that. Where it is off at the end, until it was, if it was taken before; else of the moment at
 * which it was taken.
 */
enum look_use { LOOK_NONE, LOOK_ALL, LOOK_UNTIL_OFF, LOOK_MOMENT };

static enum look_use look_use(const struct af_walker *walker)
{
	const struct af_trace *trace = walker->trace;
	const struct af_pauses *pauses = &walker->pauses;
	if (!trace->look)
		return LOOK_NONE;
	uint64_t begin = af_timebase_ns(&trace->timebase, trace->look->begin);
	if (begin < af_pauses_last_end(pauses))
		return LOOK_NONE;
	if (!af_pauses_is_off(pauses))
		return LOOK_ALL;
	return begin < pauses->off[pauses->n - 1].begin ? LOOK_UNTIL_OFF : LOOK_MOMENT;
}

/* A future that a thread drives, and whose polls are all inlined: all that is known of it is where
   it stood when it was looked at. */
static void show_driven(struct af_walker *walker, const struct af_seen_task *seen, uint64_t end)
{
	struct af_trace *trace = walker->trace;
	uint64_t since = seen->told->since, look = trace->look->begin;
	uint64_t begin = af_timebase_ns(&trace->timebase, since < look ? since : look);
	if (seen->matched || seen->function == AFM_NONE || begin >= end || walker->stopped ||
	    !walker->visitor->wait)
		return;
	uint32_t number = af_tasks_find(&trace->tasks, AF_KEY_SELF, seen->told->address,
					seen->function, true, begin);
	if (!number) {
		walker->no_memory = true;
		return;
	}
	struct af_task *task = af_tasks_get(&trace->tasks, number);
	struct af_wait wait = {
		.task = task,
		.begin = begin,
		.end = end,
		.open = end == walker->counts->end,
		.cut = end != walker->counts->end,
		.unknown_begin = true,
		.n_nodes = seen->n_nodes,
		.nodes = trace->seen_nodes + seen->first_node,
	};
	task->pending = true;
	if (wait.cut) {
		task->state = AF_TASK_UNKNOWN;
		task->known = end;
	}
	if (!walker->visitor->wait(walker->context, &wait))
		walker->stopped = true;
}

static void tell(struct af_walker *walker, const struct af_wait *wait)
{
	if (walker->visitor->wait && wait->begin < wait->end && !walker->stopped &&
	    !walker->visitor->wait(walker->context, wait))
		walker->stopped = true;
}

/* Recording was off after the last poll that is known, and nobody has seen the task since it was on
   again. What is known is where it stood before; and at the moment of a look. */
static void finish_unknown(struct af_walker *walker, struct af_task *task, enum look_use use,
			   struct af_wait *wait, uint64_t off)
{
	const struct af_trace *trace = walker->trace;
	struct af_wait seen = *wait;
	task->state = AF_TASK_UNKNOWN;
	task->known = off;
	wait->open = false;
	wait->cut = true;
	wait->end = off;
	if (use == LOOK_MOMENT)
		wait->n_nodes = 0;
	if (task->pending)
		tell(walker, wait);
	if (use != LOOK_MOMENT || !seen.n_nodes)
		return;
	seen.begin = af_timebase_ns(&trace->timebase, trace->look->begin);
	seen.end = af_timebase_ns(&trace->timebase, trace->look->end);
	if (seen.end > walker->counts->end)
		seen.end = walker->counts->end;
	if (seen.end <= seen.begin || seen.begin < off)
		return;
	seen.open = false;
	seen.cut = seen.unknown_begin = true;
	task->known = seen.end;
	tell(walker, &seen);
}

/* Tasks that are parked when the trace ends wait on. Where nobody looked, and the last poll has
   not told how it ended, the task may be at its end as well. */
static void finish_waits(struct af_walker *walker)
{
	struct af_trace *trace = walker->trace;
	struct af_tasks *tasks = &trace->tasks;
	uint32_t n_tasks = tasks->n_tasks;
	enum look_use use = look_use(walker);
	uint32_t *seen = use ? af_trace_match_look(trace) : NULL;
	walker->no_memory |= use && !seen;
	for (uint32_t i = 1; i <= n_tasks; i++) {
		struct af_task *task = af_tasks_get(tasks, i);
		struct af_wait wait = {
			.task = task,
			.begin = task->last,
			.end = walker->counts->end,
			.open = true,
		};
		if (seen)
			use_look(trace, task, seen[i], &wait);
		struct af_off gap;
		if (task->state != AF_TASK_ALIVE)
			continue;
		if (af_pauses_within(&walker->pauses, wait.begin, wait.end, &gap) &&
		    (use != LOOK_ALL || !wait.n_nodes))
			finish_unknown(walker, task, use, &wait, gap.begin);
		else if (task->pending && wait.begin < wait.end && !walker->stopped)
			af_walker_wait(walker, &wait);
	}
	uint64_t end = walker->counts->end;
	if (use > LOOK_ALL && af_timebase_ns(&trace->timebase, trace->look->end) < end)
		end = af_timebase_ns(&trace->timebase, trace->look->end);
	for (uint32_t i = 0; seen && i < trace->n_seen; i++)
		show_driven(walker, &trace->seen[i], end);
	free(seen);
}

static void finish_pauses(struct af_walker *walker)
{
	struct af_pauses *pauses = &walker->pauses;
	if (!af_pauses_is_off(pauses))
		return;
	struct af_off off = pauses->off[pauses->n - 1];
	off.open = !off.stopped;
	off.end = walker->counts->end;
	if (off.end > off.begin && off.open)
		walker->counts->off += off.end - off.begin;
	if (walker->visitor->off && off.end > off.begin && !walker->stopped &&
	    !walker->visitor->off(walker->context, &off))
		walker->stopped = true;
}

static void finish(struct af_walker *walker, struct lane *lanes, uint32_t n_lanes)
{
	struct af_walk *counts = walker->counts;
	for (uint32_t i = 0; i < n_lanes; i++) {
		/* What had not returned when the file was full may have done so since. */
		uint64_t end = walker->trace->info.stopped;
		end = end > lanes[i].stack.last ? end : lanes[i].stack.last;
		af_span_stack_finish(&lanes[i].stack, walker,
				     end < counts->end ? end : counts->end);
		counts->unfinished += lanes[i].stream.unfinished;
		counts->bad += lanes[i].stream.bad;
	}
	if (counts->end > walker->trace->info.stopped)
		af_walker_off(walker, walker->trace->info.stopped, true);
	finish_waits(walker);
	finish_pauses(walker);
}

struct af_error *af_trace_walk(struct af_trace *trace, const struct af_visitor *visitor,
			       void *context, struct af_walk *walk)
{
	*walk = (struct af_walk){.end = trace->clock_end};
	af_tasks_clear(&trace->tasks);
	uint32_t n = trace->info.n_threads;
	struct lane *lanes = calloc(n ? n : 1, sizeof(*lanes));
	struct merge merge = {.heap = calloc(n ? n : 1, sizeof(*merge.heap))};
	struct af_walker walker = {
		.trace = trace,
		.visitor = visitor,
		.context = context,
		.counts = walk,
		.no_memory = !lanes || !merge.heap,
	};
	if (!walker.no_memory) {
		for (uint32_t i = 0; i < n; i++) {
			lanes[i].stack.thread = &trace->threads[i].thread;
			af_stream_init(&lanes[i].stream, trace, &trace->threads[i]);
		}
		merge_start(&merge, lanes, n);
		merge_run(&merge, &walker);
		finish(&walker, lanes, n);
	}
	af_pauses_deinit(&walker.pauses);
	free(merge.heap);
	free(lanes);
	return walker.no_memory ? af_error_system(ENOMEM, "reading the trace") : NULL;
}

uint32_t af_trace_n_tasks(const struct af_trace *trace)
{
	return trace->tasks.n_tasks;
}

const struct af_task *af_trace_task(const struct af_trace *trace, uint32_t number)
{
	return af_tasks_get(&trace->tasks, number);
}

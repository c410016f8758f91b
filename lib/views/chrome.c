/* SPDX-License-Identifier: MIT */
/*
 * One event a line, in a bare array, so that a viewer can read a file that ends early.
 * Times are integers of nanoseconds until they are printed as microseconds with three
 * decimals: what nests in the model nests to the last digit in the file.
 *
 * Readers want the events of a thread in order of their begin, but what is to be said
 * of a poll is known at its end. So the polls of a thread wait in a queue until the
 * outermost one has ended, which is soon. Should one go on for long (a poll with a
 * million polls inside), the queue is written out all the same: what is still open then
 * gets its line with room left in it, and the rest of that line is filled in when it
 * ends. Memory stays bounded whatever the program did.
 */
#include "views/chrome.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "views/function_texts.h"
#include "views/json.h"
#include "views/output.h"
#include "views/waits.h"

#define QUEUE_MAX 8192 /* polls of one thread that wait */
#define TAIL_MAX 768   /* bytes that the end of a line may take */
struct queued {
	uint64_t begin, end, state;
	uint32_t function, task;
	enum af_span_result result;
	bool ended;
};

/* Where an open span is to be found when it ends. */
struct open_span {
	uint64_t patch;	 /* place in the file of the end of its line, or 0: queued */
	uint32_t queued; /* index in the queue */
};

struct lane {
	struct queued *queue;
	uint32_t n_queued, room;
	struct open_span *open; /* by depth */
	uint32_t open_room;
	uint64_t tid;
};

struct chrome {
	struct af_trace *trace;
	struct af_output output;
	struct af_summary *summary;
	struct af_function_texts texts;
	struct lane *lanes;
	struct af_wait_texts waits;
	uint64_t end; /* of the trace, once that is known */
	bool first_event;
	bool no_memory;
};

/* Events */

static struct af_function_text *function_text(struct chrome *chrome, uint32_t number)
{
	struct af_function_text *text = af_function_text(&chrome->texts, number);
	if (!text)
		chrome->no_memory = true;
	return text;
}

/* The end of a poll's line: what is known only when it has ended. */
static size_t make_tail(struct chrome *chrome, struct af_function_text *text,
			const struct queued *poll, char tail[TAIL_MAX])
{
	uint64_t duration = poll->end - poll->begin;
	const char *parked = "";
	if (poll->state != AF_STATE_NONE && poll->result == AF_SPAN_PENDING)
		parked = af_function_text_parked(&chrome->texts, text, poll->function, poll->state);
	int n = snprintf(tail, TAIL_MAX, ",\"task\":%u,\"result\":\"%s\"%s%s%s},\"dur\":%llu.%03u}",
			 poll->task, af_span_result_text(poll->result),
			 *parked ? ",\"parked_at\":\"" : "", parked, *parked ? "\"" : "",
			 (unsigned long long)(duration / 1000), (unsigned)(duration % 1000));
	return (size_t)n;
}

static void begin_event(struct chrome *chrome, char phase, uint64_t tid)
{
	char text[] = ",\n{\"ph\":\"?\",\"pid\":";
	text[9] = phase;
	size_t skip = chrome->first_event ? 1 : 0;
	chrome->first_event = false;
	af_output_write(&chrome->output, text + skip, sizeof(text) - 1 - skip);
	af_output_number(&chrome->output, af_trace_info(chrome->trace)->pid);
	af_output_string(&chrome->output, ",\"tid\":");
	af_output_number(&chrome->output, tid);
}

static void write_time(struct chrome *chrome, uint64_t ns)
{
	af_output_string(&chrome->output, ",\"ts\":");
	af_output_microseconds(&chrome->output, ns);
}

/* Returns where in the file the end of the line begins. */
static uint64_t write_poll(struct chrome *chrome, const struct lane *lane,
			   const struct queued *poll)
{
	struct af_function_text *text = function_text(chrome, poll->function);
	if (!text)
		return 0;
	char tail[TAIL_MAX];
	size_t length;
	if (poll->ended) {
		length = make_tail(chrome, text, poll, tail);
	} else {
		memset(tail, ' ', sizeof(tail));
		length = sizeof(tail);
	}
	begin_event(chrome, 'X', lane->tid);
	write_time(chrome, poll->begin);
	af_output_write(&chrome->output, ",", 1);
	af_output_write(&chrome->output, text->head, text->length);
	if (text->once && !af_function_text_shorten(&chrome->texts, poll->function, text))
		chrome->no_memory = true;
	uint64_t at = af_output_tell(&chrome->output);
	af_output_write(&chrome->output, tail, length);
	return at;
}

static void write_queue(struct chrome *chrome, struct lane *lane, uint32_t depth)
{
	uint32_t next_open = 0;
	while (next_open < depth && lane->open[next_open].patch)
		next_open++;
	for (uint32_t i = 0; i < lane->n_queued && !chrome->no_memory; i++) {
		uint64_t at = write_poll(chrome, lane, &lane->queue[i]);
		if (next_open < depth && lane->open[next_open].queued == i)
			lane->open[next_open++].patch = at;
	}
	lane->n_queued = 0;
}

static void write_metadata(struct chrome *chrome, uint64_t tid, const char *what, const char *name)
{
	char *escaped = af_json_escaped(name);
	if (!escaped) {
		chrome->no_memory = true;
		return;
	}
	begin_event(chrome, 'M', tid);
	af_output_string(&chrome->output, ",\"name\":\"");
	af_output_string(&chrome->output, what);
	af_output_string(&chrome->output, "\",\"args\":{\"name\":\"");
	af_output_string(&chrome->output, escaped);
	af_output_string(&chrome->output, "\"}}");
	free(escaped);
}

static void write_process(struct chrome *chrome)
{
	const struct af_trace_info *info = af_trace_info(chrome->trace);
	const char *slash = strrchr(info->executable, '/');
	const char *name = slash ? slash + 1 : info->executable;
	write_metadata(chrome, info->pid, "process_name", *name ? name : "(unknown program)");
	for (uint32_t i = 0; i < info->n_threads; i++) {
		const struct af_thread *thread = af_trace_thread(chrome->trace, i);
		char unnamed[32];
		snprintf(unnamed, sizeof(unnamed), "thread %u", thread->tid);
		write_metadata(chrome, chrome->lanes[i].tid, "thread_name",
			       thread->name[0] ? thread->name : unnamed);
		begin_event(chrome, 'M', chrome->lanes[i].tid);
		af_output_string(&chrome->output,
				 ",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":");
		af_output_number(&chrome->output, i);
		af_output_string(&chrome->output, "}}");
	}
}

/* On a task's own track. Ids of different processes differ, so that traces can be merged. */
static void begin_task_event(struct chrome *chrome, const struct af_task *task, char phase,
			     uint64_t ns)
{
	const struct af_trace_info *info = af_trace_info(chrome->trace);
	char id[48];
	snprintf(id, sizeof(id), ",\"id\":\"0x%llx\",\"cat\":\"task\",",
		 (unsigned long long)info->pid << 32 | task->number);
	begin_event(chrome, phase, info->pid);
	write_time(chrome, ns);
	af_output_string(&chrome->output, id);
}

static void write_task_event(struct chrome *chrome, const struct af_task *task, char phase,
			     uint64_t ns)
{
	const struct af_function_text *text = function_text(chrome, task->function);
	if (!text)
		return;
	const char *name_end = strstr(text->head, "\",\"cat\":\"poll\"");
	begin_task_event(chrome, task, phase, ns);
	af_output_write(&chrome->output, text->head, (size_t)(name_end + 1 - text->head));
}

static void write_task(struct chrome *chrome, const struct af_task *task)
{
	if (task->part_of)
		return;
	static const char *const state[] = {
		[AF_TASK_ALIVE] = "alive",	 [AF_TASK_READY] = "ready",
		[AF_TASK_PANICKED] = "panicked", [AF_TASK_DROPPED] = "dropped",
		[AF_TASK_GONE] = "gone",	 [AF_TASK_UNKNOWN] = "unknown",
	};
	uint64_t end = task->last;
	if (task->state == AF_TASK_ALIVE && task->pending)
		end = chrome->end;
	else if (task->state == AF_TASK_UNKNOWN && task->known > end)
		end = task->known;
	write_task_event(chrome, task, 'b', task->first);
	af_output_string(&chrome->output, ",\"args\":{\"task\":");
	af_output_number(&chrome->output, task->number);
	af_output_string(&chrome->output, ",\"polls\":");
	af_output_number(&chrome->output, task->polls);
	af_output_string(&chrome->output, ",\"busy_us\":");
	af_output_microseconds(&chrome->output, task->busy);
	af_output_string(&chrome->output, ",\"state\":\"");
	af_output_string(&chrome->output, state[task->state]);
	af_output_string(&chrome->output, "\"}}");
	write_task_event(chrome, task, 'e', end);
	af_output_string(&chrome->output, "}");
}

/* The walk's visitor */

static bool grow(struct chrome *chrome, void *array, uint32_t *room, uint32_t need, size_t size)
{
	if (need < *room)
		return true;
	uint32_t more = *room ? *room * 2 : 32;
	while (more <= need)
		more *= 2;
	void *moved = realloc(*(void **)array, more * size);
	if (!moved) {
		chrome->no_memory = true;
		return false;
	}
	*(void **)array = moved;
	*room = more;
	return true;
}

static bool may_go_on(const struct chrome *chrome)
{
	return !chrome->no_memory && !chrome->output.error;
}

static bool on_begin(void *context, struct af_span *span)
{
	struct chrome *chrome = context;
	struct lane *lane = &chrome->lanes[span->thread->index];
	if (lane->n_queued == QUEUE_MAX)
		write_queue(chrome, lane, span->depth);
	if (!grow(chrome, &lane->queue, &lane->room, lane->n_queued, sizeof(*lane->queue)) ||
	    !grow(chrome, &lane->open, &lane->open_room, span->depth, sizeof(*lane->open)))
		return false;
	lane->open[span->depth] = (struct open_span){.queued = lane->n_queued};
	lane->queue[lane->n_queued++] = (struct queued){
		.begin = span->begin,
		.function = span->function,
	};
	return may_go_on(chrome);
}

static void patch_poll(struct chrome *chrome, uint64_t at, const struct queued *poll)
{
	struct af_function_text *text = function_text(chrome, poll->function);
	char tail[TAIL_MAX];
	if (text)
		af_output_patch(&chrome->output, at, tail, make_tail(chrome, text, poll, tail));
}

static bool on_end(void *context, struct af_span *span)
{
	struct chrome *chrome = context;
	struct lane *lane = &chrome->lanes[span->thread->index];
	const struct open_span *open = &lane->open[span->depth];
	const struct queued poll = {
		.begin = span->begin,
		.end = span->end,
		.state = span->state,
		.function = span->function,
		.task = span->task,
		.result = span->result,
		.ended = true,
	};
	if (open->patch)
		patch_poll(chrome, open->patch, &poll);
	else
		lane->queue[open->queued] = poll;
	if (span->depth == 0)
		write_queue(chrome, lane, 0);
	if (chrome->summary)
		af_summary_add(chrome->summary, chrome->trace, span);
	return may_go_on(chrome);
}

/* Within its task's span, on the same track: same category, same id. */
static bool on_wait(void *context, const struct af_wait *wait)
{
	struct chrome *chrome = context;
	const char *members = af_wait_members(&chrome->waits, wait);
	if (!members) {
		chrome->no_memory = true;
		return false;
	}
	begin_task_event(chrome, wait->task, 'b', wait->begin);
	af_output_string(&chrome->output, members);
	af_output_string(&chrome->output, "}");
	begin_task_event(chrome, wait->task, 'e', wait->end);
	/* The name is all that an end repeats. */
	const char *name_end = strstr(members, ",\"args\":");
	af_output_write(&chrome->output, members, (size_t)(name_end - members));
	af_output_string(&chrome->output, "}");
	return may_go_on(chrome);
}

/* On a track of its own; no task has the number 0. */
static void write_off(struct chrome *chrome, const struct af_off *off, char phase)
{
	const struct af_trace_info *info = af_trace_info(chrome->trace);
	char text[96];
	snprintf(text, sizeof(text),
		 ",\"id\":\"0x%llx\",\"cat\":\"recording\",\"name\":\"recording %s\"",
		 (unsigned long long)info->pid << 32, off->stopped ? "stopped" : "paused");
	begin_event(chrome, phase, info->pid);
	write_time(chrome, phase == 'b' ? off->begin : off->end);
	af_output_string(&chrome->output, text);
	if (phase == 'b' && off->open)
		af_output_string(&chrome->output, ",\"args\":{\"open\":true}");
	af_output_string(&chrome->output, "}");
}

static bool on_off(void *context, const struct af_off *off)
{
	struct chrome *chrome = context;
	write_off(chrome, off, 'b');
	write_off(chrome, off, 'e');
	return may_go_on(chrome);
}

/* All of it */

/*
 * A track is named by its tid. The kernel gives a tid again once its thread is gone; the
 * later thread must not land on the earlier one's track, so it gets a number above any
 * tid (PID_MAX_LIMIT is 2^22).
 */
static int compare_tids(const void *left, const void *right)
{
	const struct lane *a = *(const struct lane *const *)left;
	const struct lane *b = *(const struct lane *const *)right;
	if (a->tid != b->tid)
		return a->tid < b->tid ? -1 : 1;
	return a < b ? -1 : a > b;
}

static bool make_lanes(struct chrome *chrome, uint32_t n)
{
	chrome->lanes = calloc(n ? n : 1, sizeof(*chrome->lanes));
	struct lane **sorted = calloc(n ? n : 1, sizeof(struct lane *));
	if (chrome->lanes && sorted && n) {
		for (uint32_t i = 0; i < n; i++) {
			sorted[i] = &chrome->lanes[i];
			sorted[i]->tid = af_trace_thread(chrome->trace, i)->tid;
		}
		qsort(sorted, n, sizeof(*sorted), compare_tids);
		uint64_t tid = UINT64_MAX, reuses = 0;
		for (uint32_t i = 0; i < n; i++) {
			reuses = sorted[i]->tid == tid ? reuses + 1 : 0;
			tid = sorted[i]->tid;
			sorted[i]->tid = tid + (reuses << 22);
		}
	}
	free(sorted);
	return chrome->lanes && sorted;
}

static struct af_error *write_events(struct chrome *chrome)
{
	static const struct af_visitor visitor = {
		.begin = on_begin,
		.end = on_end,
		.wait = on_wait,
		.off = on_off,
	};
	struct af_walk walk;
	af_output_string(&chrome->output, "[");
	write_process(chrome);
	struct af_error *error = af_trace_walk(chrome->trace, &visitor, chrome, &walk);
	if (error)
		return error;
	uint32_t n_tasks = af_trace_n_tasks(chrome->trace);
	chrome->end = walk.end;
	for (uint32_t number = 1; number <= n_tasks && may_go_on(chrome); number++)
		write_task(chrome, af_trace_task(chrome->trace, number));
	af_output_string(&chrome->output, "\n]\n");
	if (chrome->no_memory)
		return af_error_system(ENOMEM, "%s", chrome->output.path);
	if (chrome->summary)
		af_summary_done(chrome->summary, chrome->trace, &walk);
	return af_output_commit(&chrome->output);
}

static void chrome_deinit(struct chrome *chrome)
{
	for (uint32_t i = 0; chrome->lanes && i < af_trace_info(chrome->trace)->n_threads; i++) {
		free(chrome->lanes[i].queue);
		free(chrome->lanes[i].open);
	}
	af_wait_texts_deinit(&chrome->waits);
	free(chrome->lanes);
	af_function_texts_deinit(&chrome->texts);
	af_output_deinit(&chrome->output);
}

struct af_error *af_chrome_write(struct af_trace *trace, const char *output_path,
				 struct af_summary *summary)
{
	const struct af_trace_info *info = af_trace_info(trace);
	struct chrome chrome = {
		.trace = trace,
		.summary = summary,
		.first_event = true,
	};
	struct af_error *error = af_output_init(&chrome.output, output_path);
	if (error)
		return error;
	af_wait_texts_init(&chrome.waits, trace);
	if (summary)
		af_summary_init(summary);
	if (!af_function_texts_init(&chrome.texts, trace) || !make_lanes(&chrome, info->n_threads))
		error = af_error_system(ENOMEM, "%s", output_path);
	else
		error = write_events(&chrome);
	chrome_deinit(&chrome);
	return error;
}

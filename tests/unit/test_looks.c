/* SPDX-License-Identifier: MIT */
/*
 * What a look from outside tells of tasks that are parked when the trace ends: believed where
 * the trace does not contradict it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "futuremap/futuremap.h"
#include "raw_writer.h"
#include "trace/trace.h"

enum { PARENT, CHILD, ROOT, POINTER };

static const struct raw_poll polls[] = {
	[PARENT] = {"app::parent", "app::parent::{async_fn_env#0}", "src/main.rs", 10,
		    AFM_P_ASYNC_BODY, -1, 12},
	[CHILD] = {"app::child", "app::child::{async_fn_env#0}", "src/main.rs", 20,
		   AFM_P_ASYNC_BODY, -1, 22},
	[ROOT] = {"app::parent", "", "", 0, AFM_P_TASK_ROOT, PARENT, 0},
	[POINTER] = {"core::pin::Pin<&mut app::child>", "core::pin::Pin<&mut app::child>", "pin.rs",
		     1, AFM_P_HAND, -1, 0},
};
#define COUNT(a) ((uint32_t)(sizeof(a) / sizeof((a)[0])))
#define END 9000

/* The open waits of a walk, by task. */
struct seen {
	unsigned n, dropped;
	struct {
		uint32_t task, n_nodes, nodes[4];
		uint64_t begin, end;
	} waits[16];
};

struct fixture {
	char path[32];
	struct raw raw;
	struct af_trace *trace;
	struct seen seen;
	uint64_t dropped; /* records, as the end says */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->path, "/tmp/test_looks.XXXXXX");
	close(mkstemp(f->path));
	raw_begin(&f->raw, AFR_TICKS_MONOTONIC);
	raw_object(&f->raw, 0, polls, COUNT(polls));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	af_trace_close(f->trace);
	raw_free(&f->raw);
	unlink(f->path);
	free(f);
	return 0;
}

static bool on_wait(void *context, const struct af_wait *wait)
{
	struct seen *seen = context;
	seen->dropped += wait->dropped;
	if (!wait->open)
		return true;
	assert_true(seen->n < COUNT(seen->waits) && wait->n_nodes <= 4);
	seen->waits[seen->n].task = wait->task->number;
	seen->waits[seen->n].begin = wait->begin;
	seen->waits[seen->n].end = wait->end;
	seen->waits[seen->n].n_nodes = wait->n_nodes;
	for (uint32_t i = 0; i < wait->n_nodes; i++)
		seen->waits[seen->n].nodes[i] = wait->nodes[i];
	seen->n++;
	return true;
}

/* Polls, then a look, then the end; walked. */
static void load(struct fixture *f, const struct afr_record *records, uint32_t n,
		 const struct afr_look *look, const struct afr_look_task *tasks,
		 const struct afr_look_level *levels)
{
	static const struct af_visitor visitor = {.wait = on_wait};
	struct af_walk walk;
	struct afr_look head = *look;
	raw_chunk(&f->raw, 0, 0, 100, "main", records, n);
	size_t task_bytes = head.n_tasks * sizeof(*tasks),
	       level_bytes = head.n_levels * sizeof(*levels);
	char *body = malloc(task_bytes + level_bytes + 1);
	memcpy(body, tasks, task_bytes);
	memcpy(body + task_bytes, levels, level_bytes);
	raw_block(&f->raw, AFR_B_LOOK, &head, sizeof(head), body, task_bytes + level_bytes);
	free(body);
	raw_end(&f->raw, END, END);
	if (f->dropped) {
		const struct afr_end end = {.reason = AFR_END_EXIT, .dropped = f->dropped};
		raw_block(&f->raw, AFR_B_END, &end, sizeof(end), NULL, 0);
	}
	raw_save(&f->raw, f->path, f->raw.size);
	assert_null(af_trace_open(&f->trace, f->path));
	assert_null(af_trace_walk(f->trace, &visitor, &f->seen, &walk));
}

#define ENTER(ticks, id) raw_record(AFR_ENTER_TASK, ticks, ROOT, id)
#define EXIT(ticks) raw_record(AFR_EXIT_POLL, ticks, ROOT, AFR_UNKNOWN)
#define PARKED(id_, first, n)                                                                    \
	{                                                                                        \
		.id = id_, .address = 0x7000 + (id_)*0x100, .first_level = first, .n_levels = n, \
		.state = AFR_LOOK_PARKED, .found_by = AFR_BY_HEADER,                             \
	}
#define LEVEL(type_, parent_, state_)                                         \
	{                                                                     \
		.parent = parent_, .type = type_, .variant = 4 * (type_) + 3, \
		.state = AFR_LEVEL_##state_,                                  \
	}

static void assert_level(const struct fixture *f, uint32_t number, const char *name, uint32_t line,
			 uint32_t *parent)
{
	struct af_level level;
	assert_true(af_trace_level(f->trace, number, &level));
	assert_string_equal(level.name, name);
	assert_int_equal(level.line, line);
	*parent = level.parent;
}

/* In optimised builds nothing tells what a task's last poll returned. */
static void a_task_that_is_seen_parked_waits_there(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 1), EXIT(1100), ENTER(1200, 2),
					     EXIT(1300)};
	const struct afr_look look = {
		.begin = 5000, .end = 6000, .n_tasks = 2, .n_levels = 5, .whole = 1};
	const struct afr_look_task tasks[] = {PARKED(1, 0, 3), PARKED(2, 3, 2)};
	const struct afr_look_level levels[] = {
		LEVEL(PARENT, AFM_NONE, SUSPENDED), LEVEL(CHILD, 0, SUSPENDED),
		LEVEL(CHILD, 0, SUSPENDED),	    LEVEL(PARENT, AFM_NONE, SUSPENDED),
		LEVEL(CHILD, 0, SUSPENDED),
	};
	uint32_t parent;
	load(f, records, COUNT(records), &look, tasks, levels);
	assert_int_equal(f->seen.n, 2);
	assert_int_equal(f->seen.waits[0].task, 1);
	assert_int_equal(f->seen.waits[0].begin, 1100);
	assert_int_equal(f->seen.waits[0].end, END);
	assert_int_equal(f->seen.waits[0].n_nodes, 2); /* two branches */
	assert_int_equal(f->seen.waits[1].n_nodes, 1);
	/* What tasks have in common is one level. */
	assert_int_equal(f->seen.waits[0].nodes[1], f->seen.waits[1].nodes[0]);
	assert_level(f, f->seen.waits[1].nodes[0], "app::child", 22, &parent);
	assert_level(f, parent, "app::parent", 12, &parent);
	assert_int_equal(parent, 0);
}

/* A result that was none: the register held something else. */
static void a_task_that_stands_at_an_await_was_not_ready(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {
		ENTER(1000, 1), raw_record(AFR_EXIT_POLL, 1100, ROOT, AFR_READY),
		ENTER(1200, 2), raw_record(AFR_EXIT_POLL, 1300, ROOT, AFR_READY),
		ENTER(1400, 3), raw_record(AFR_EXIT_POLL, 6000, ROOT, AFR_READY),
	};
	const struct afr_look_level levels[] = {
		LEVEL(PARENT, AFM_NONE, SUSPENDED),
		LEVEL(PARENT, AFM_NONE, NOT_STARTED),
		LEVEL(PARENT, AFM_NONE, SUSPENDED),
	};
	/* Another one that has come to the place of the second; and one that was polled since. */
	const struct afr_look_task tasks[] = {PARKED(1, 0, 1), PARKED(2, 1, 1), PARKED(3, 2, 1)};
	const struct afr_look look = {.begin = 5000, .end = 5100, .n_tasks = 3, .n_levels = 3};
	load(f, records, COUNT(records), &look, tasks, levels);
	assert_int_equal(f->seen.n, 1);
	assert_int_equal(f->seen.waits[0].task, 1);
	assert_int_equal(f->seen.waits[0].n_nodes, 1);
}

static void a_task_that_was_polled_since_is_not_believed(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 1), EXIT(1100),     ENTER(4900, 2),
					     EXIT(5100),     ENTER(7000, 1), EXIT(7100)};
	const struct afr_look look = {
		.begin = 5000, .end = 6000, .n_tasks = 2, .n_levels = 2, .whole = 1};
	const struct afr_look_task tasks[] = {PARKED(1, 0, 1), PARKED(2, 1, 1)};
	const struct afr_look_level levels[] = {LEVEL(PARENT, AFM_NONE, SUSPENDED),
						LEVEL(PARENT, AFM_NONE, SUSPENDED)};
	load(f, records, COUNT(records), &look, tasks, levels);
	assert_int_equal(f->seen.n, 0);
	assert_int_equal(af_trace_task(f->trace, 1)->state, AF_TASK_ALIVE);
}

static void where_records_are_missing_it_may_have_been_polled_since(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 1), EXIT(1100), ENTER(1200, 2),
					     EXIT(1300)};
	const struct afr_look look = {
		.begin = 5000, .end = 6000, .n_tasks = 1, .n_levels = 1, .whole = 1};
	const struct afr_look_task tasks[] = {PARKED(1, 0, 1)};
	const struct afr_look_level levels[] = {LEVEL(PARENT, AFM_NONE, SUSPENDED)};
	f->dropped = 1;
	load(f, records, COUNT(records), &look, tasks, levels);
	assert_int_equal(f->seen.n, 0);
	assert_int_equal(af_trace_task(f->trace, 2)->state, AF_TASK_ALIVE);
}

static void tasks_that_are_not_there_any_more_are_gone(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 1), EXIT(1100),     ENTER(1200, 2),
					     EXIT(1300),     ENTER(1400, 3), EXIT(1500)};
	const struct afr_look look = {
		.begin = 5000, .end = 6000, .n_tasks = 2, .n_levels = 1, .whole = 1};
	const struct afr_look_task tasks[] = {
		{.id = 2, .state = AFR_LOOK_ENDED, .found_by = AFR_BY_HEADER},
		PARKED(3, 0, 1),
	};
	const struct afr_look_level levels[] = {LEVEL(PARENT, AFM_NONE, NOT_STARTED)};
	load(f, records, COUNT(records), &look, tasks, levels);
	assert_int_equal(f->seen.n, 0);
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(af_trace_task(f->trace, i)->state, AF_TASK_GONE);
}

/* Freed memory with the head of a task, and in the place of its number that of another one. */
static void what_has_ended_elsewhere_does_not_end_a_task(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 1), EXIT(1100), ENTER(1200, 2),
					     EXIT(1300)};
	const struct afr_look look = {
		.begin = 5000, .end = 6000, .n_tasks = 4, .n_levels = 2, .whole = 1};
	const struct afr_look_task ended = {.state = AFR_LOOK_ENDED, .found_by = AFR_BY_HEADER};
	struct afr_look_task tasks[] = {PARKED(1, 0, 1), ended, ended, PARKED(2, 1, 1)};
	const struct afr_look_level levels[] = {LEVEL(PARENT, AFM_NONE, SUSPENDED),
						LEVEL(PARENT, AFM_NONE, SUSPENDED)};
	tasks[1].id = 1;
	tasks[2].id = 2;
	tasks[1].first_level = tasks[2].first_level = 1;
	load(f, records, COUNT(records), &look, tasks, levels);
	assert_int_equal(f->seen.n, 2);
	assert_int_equal(f->seen.waits[0].n_nodes, 1);
	assert_int_equal(f->seen.waits[1].n_nodes, 1);
}

static void what_was_not_looked_for_to_the_end_is_not_gone(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 1), EXIT(1100)};
	const struct afr_look look = {.begin = 5000, .end = 6000};
	load(f, records, COUNT(records), &look, NULL, NULL);
	assert_int_equal(af_trace_task(f->trace, 1)->state, AF_TASK_ALIVE);
}

/* block_on polls through a pointer in its own frame: what it points to is the same task. */
static void a_future_behind_a_pointer_is_its_task(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {
		raw_record(AFR_ENTER, 1000, POINTER, 0x5000),
		raw_record(AFR_ENTER, 1010, CHILD, 0x6000),
		raw_record(AFR_EXIT_STATE, 1020, CHILD, 3),
		raw_record(AFR_EXIT_POLL, 1030, POINTER, AFR_PENDING),
	};
	const struct afr_look look = {.begin = 5000, .end = 6000, .n_tasks = 1, .n_levels = 1};
	const struct afr_look_task tasks[] = {{.address = 0x6000,
					       .n_levels = 1,
					       .state = AFR_LOOK_PARKED,
					       .found_by = AFR_BY_STACK}};
	struct afr_look_level levels[] = {LEVEL(CHILD, AFM_NONE, SUSPENDED)};
	levels[0].address = 0x6000;
	load(f, records, COUNT(records), &look, tasks, levels);
	assert_int_equal(f->seen.n, 1);
	assert_int_equal(f->seen.waits[0].n_nodes, 1);
}

/* A thread drives it, and its polls are inlined: it is a task all the same. */
static void a_driven_future_without_polls_is_a_task(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 1), EXIT(1100)};
	const struct afr_look look = {.begin = 5000, .end = 6000, .n_tasks = 1, .n_levels = 1};
	const struct afr_look_task tasks[] = {{.address = 0x6000,
					       .n_levels = 1,
					       .since = 4000,
					       .state = AFR_LOOK_PARKED,
					       .found_by = AFR_BY_STACK}};
	struct afr_look_level levels[] = {LEVEL(CHILD, AFM_NONE, SUSPENDED)};
	load(f, records, COUNT(records), &look, tasks, levels);
	assert_int_equal(f->seen.n, 1);
	assert_int_equal(f->seen.waits[0].task, 2);
	assert_int_equal(f->seen.waits[0].begin, 4000);
	const struct af_task *task = af_trace_task(f->trace, 2);
	assert_string_equal(af_trace_function(f->trace, task->function)->name, "app::child");
	assert_int_equal(task->polls, 0);
}

static void a_dropped_task_ends_its_wait(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 1), EXIT(1100),
					     raw_record(AFR_DROPPED, 3000, ROOT, 1),
					     raw_record(AFR_DROPPED, 3100, ROOT, 7)};
	const struct afr_look look = {.begin = 5000, .end = 6000, .whole = 1};
	load(f, records, COUNT(records), &look, NULL, NULL);
	assert_int_equal(f->seen.n, 0);
	assert_int_equal(f->seen.dropped, 1);
	assert_int_equal(af_trace_n_tasks(f->trace), 1);
	assert_int_equal(af_trace_task(f->trace, 1)->state, AF_TASK_DROPPED);
	assert_int_equal(af_trace_task(f->trace, 1)->last, 3000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_task_that_is_seen_parked_waits_there),
		TEST(a_task_that_stands_at_an_await_was_not_ready),
		TEST(a_task_that_was_polled_since_is_not_believed),
		TEST(where_records_are_missing_it_may_have_been_polled_since),
		TEST(tasks_that_are_not_there_any_more_are_gone),
		TEST(what_has_ended_elsewhere_does_not_end_a_task),
		TEST(what_was_not_looked_for_to_the_end_is_not_gone),
		TEST(a_future_behind_a_pointer_is_its_task),
		TEST(a_driven_future_without_polls_is_a_task),
		TEST(a_dropped_task_ends_its_wait),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

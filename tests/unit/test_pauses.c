/* SPDX-License-Identifier: MIT */
/*
 * Traces of recordings that were off for some time: what nobody has seen is not shown as waiting,
 * whatever the file says.
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

enum { PARENT, ROOT };

static const struct raw_poll polls[] = {
	[PARENT] = {"app::parent", "app::parent::{async_fn_env#0}", "src/main.rs", 10,
		    AFM_P_ASYNC_BODY, -1, 12},
	[ROOT] = {"app::parent", "", "", 0, AFM_P_TASK_ROOT, PARENT, 0},
};
#define COUNT(a) ((uint32_t)(sizeof(a) / sizeof((a)[0])))
#define END 9000

struct interval {
	uint64_t begin, end;
	bool marked; /* wait: cut; off: stopped */
	bool unknown_begin, open;
};

struct fixture {
	char path[32];
	struct raw raw;
	struct af_trace *trace;
	struct interval waits[16], off[16], spans[16];
	unsigned n_waits, n_off, n_spans;
	struct af_walk walk;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->path, "/tmp/test_pauses.XXXXXX");
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
	struct fixture *f = context;
	assert_true(wait->begin <= wait->end);
	if (f->n_waits < COUNT(f->waits))
		f->waits[f->n_waits] = (struct interval){wait->begin, wait->end, wait->cut,
							 wait->unknown_begin, wait->open};
	f->n_waits++;
	return true;
}

static bool on_off(void *context, const struct af_off *off)
{
	struct fixture *f = context;
	assert_true(off->begin < off->end);
	if (f->n_off < COUNT(f->off))
		f->off[f->n_off] =
			(struct interval){off->begin, off->end, off->stopped, false, off->open};
	f->n_off++;
	return true;
}

static bool on_end(void *context, struct af_span *span)
{
	struct fixture *f = context;
	if (f->n_spans < COUNT(f->spans))
		f->spans[f->n_spans] = (struct interval){.begin = span->begin, .end = span->end};
	f->n_spans++;
	return true;
}

static void walk(struct fixture *f, const struct afr_record *records, uint32_t n)
{
	static const struct af_visitor visitor = {.wait = on_wait, .off = on_off, .end = on_end};
	raw_chunk(&f->raw, 0, 0, 100, "main", records, n);
	raw_end(&f->raw, END, END);
	raw_save(&f->raw, f->path, f->raw.size);
	assert_null(af_trace_open(&f->trace, f->path));
	assert_null(af_trace_walk(f->trace, &visitor, f, &f->walk));
}

#define ENTER(ticks, id) raw_record(AFR_ENTER_TASK, ticks, ROOT, id)
#define EXIT(ticks) raw_record(AFR_EXIT_POLL, ticks, ROOT, AFR_PENDING)
#define READY(ticks) raw_record(AFR_EXIT_POLL, ticks, ROOT, AFR_READY)
#define PAUSED(ticks) raw_record(AFR_PAUSED, ticks, 0, 0)
#define RESUMED(ticks, since) raw_record(AFR_RESUMED, ticks, 0, since)

static void assert_interval(const struct interval *is, uint64_t begin, uint64_t end)
{
	assert_int_equal(is->begin, begin);
	assert_int_equal(is->end, end);
}

static void a_wait_is_told_on_both_sides(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {
		ENTER(1000, 7), EXIT(1100),	     PAUSED(2000),   RESUMED(3000, 2000),
		PAUSED(3500),	RESUMED(4000, 3500), ENTER(5000, 7), READY(5100),
	};
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 2);
	assert_interval(&f->waits[0], 1100, 2000);
	assert_true(f->waits[0].marked && !f->waits[0].unknown_begin);
	assert_interval(&f->waits[1], 4000, 5000);
	assert_true(!f->waits[1].marked && f->waits[1].unknown_begin);
	assert_int_equal(f->n_off, 2);
	assert_interval(&f->off[0], 2000, 3000);
	assert_int_equal(f->walk.pauses, 2);
	assert_int_equal(f->walk.off, 1500);
	assert_int_equal(f->walk.stray + f->walk.bad + f->walk.lost, 0);
}

/* Before and behind it waits are as ever; so is a span that it lies in. */
static void other_waits_are_whole(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {
		ENTER(1000, 7),	     EXIT(1100), ENTER(1500, 7), PAUSED(2000),
		RESUMED(3000, 2000), EXIT(3100), ENTER(3500, 7), READY(3600),
	};
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 2);
	assert_interval(&f->waits[0], 1100, 1500);
	assert_interval(&f->waits[1], 3100, 3500);
	assert_false(f->waits[0].marked || f->waits[1].marked || f->waits[1].unknown_begin);
	assert_interval(&f->spans[1], 1500, 3100);
}

/* The chunk with the begin was overwritten, or lost. */
static void the_end_alone_tells(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 7), EXIT(1100), RESUMED(3000, 2000),
					     ENTER(5000, 7), READY(5100)};
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 2);
	assert_interval(&f->waits[0], 1100, 2000);
	assert_interval(&f->waits[1], 3000, 5000);
	assert_int_equal(f->walk.pauses, 1);
}

static void nonsense_is_no_news(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {
		RESUMED(500, UINT64_C(1) << 40), /* since the future */
		PAUSED(1000),
		PAUSED(1500),
		RESUMED(2000, 0),
		RESUMED(2500, 2500),
		RESUMED(2600, 1200), /* from within what is known already */
		PAUSED(3000),
		RESUMED(3000, 3000), /* no time at all */
	};
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_off, 2);
	assert_interval(&f->off[0], 1000, 2000);
	assert_interval(&f->off[1], 2000, 2600);
	assert_int_equal(f->walk.stray, 0);
}

static void off_at_the_end(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 7), EXIT(1100),   ENTER(1200, 8),
					     EXIT(1300),     PAUSED(2000), ENTER(2100, 9)};
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_interval(&f->waits[i], i ? 1300 : 1100, 2000);
		assert_true(f->waits[i].marked && !f->waits[i].open);
		const struct af_task *task = af_trace_task(f->trace, i + 1);
		assert_int_equal(task->state, AF_TASK_UNKNOWN);
		assert_int_equal(task->known, 2000);
	}
	assert_int_equal(f->n_off, 1);
	assert_interval(&f->off[0], 2000, END);
	assert_true(f->off[0].open);
	assert_int_equal(f->walk.off, END - 2000);
	/* What was begun before and has not returned is open still. */
	assert_interval(&f->spans[2], 2100, END);
}

/* A task that nobody has seen since it was on again may be gone. */
static void on_again_at_the_end(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 7),	  EXIT(1100),	  PAUSED(2000),
					     RESUMED(3000, 2000), ENTER(4000, 8), EXIT(4100)};
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 2);
	assert_interval(&f->waits[0], 1100, 2000);
	assert_interval(&f->waits[1], 4100, END);
	assert_true(f->waits[1].open);
	assert_int_equal(af_trace_task(f->trace, 1)->state, AF_TASK_UNKNOWN);
	assert_int_equal(af_trace_task(f->trace, 2)->state, AF_TASK_ALIVE);
}

/* A look at the one task, at `ticks`; it stands at its await. */
static void look(struct fixture *f, uint64_t ticks)
{
	const struct afr_look head = {
		.begin = ticks, .end = ticks + 10, .n_tasks = 1, .n_levels = 1, .whole = 1};
	const struct {
		struct afr_look_task task;
		struct afr_look_level level;
	} body = {
		{.id = 7,
		 .address = 0x7000,
		 .n_levels = 1,
		 .state = AFR_LOOK_PARKED,
		 .found_by = AFR_BY_HEADER},
		{.parent = AFM_NONE,
		 .type = PARENT,
		 .variant = 4 * PARENT + 3,
		 .state = AFR_LEVEL_SUSPENDED},
	};
	raw_block(&f->raw, AFR_B_LOOK, &head, sizeof(head), &body, sizeof(body));
}

static void a_look_holds_until_it_is_off(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 7), EXIT(1100), PAUSED(2000)};
	look(f, 1500);
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 1);
	assert_interval(&f->waits[0], 1100, 2000);
	assert_int_equal(af_trace_task(f->trace, 1)->state, AF_TASK_UNKNOWN);
}

static void a_look_while_it_is_off_tells_of_that_moment(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 7), EXIT(1100), PAUSED(2000)};
	look(f, 2500);
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 2);
	assert_interval(&f->waits[0], 1100, 2000);
	assert_interval(&f->waits[1], 2500, 2510);
	assert_int_equal(af_trace_task(f->trace, 1)->known, 2510);
}

static void a_look_afterwards_holds(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 7), EXIT(1100), PAUSED(2000),
					     RESUMED(3000, 2000)};
	look(f, 3500);
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 2);
	assert_interval(&f->waits[0], 1100, 2000);
	assert_interval(&f->waits[1], 3000, END);
	assert_true(f->waits[1].open && f->waits[1].unknown_begin);
	assert_int_equal(af_trace_task(f->trace, 1)->state, AF_TASK_ALIVE);
}

static void a_look_from_before_tells_nothing(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {ENTER(1000, 7), EXIT(1100), PAUSED(2000),
					     RESUMED(3000, 2000)};
	look(f, 1500);
	walk(f, records, COUNT(records));
	assert_int_equal(f->n_waits, 1);
	assert_interval(&f->waits[0], 1100, 2000);
	assert_int_equal(af_trace_task(f->trace, 1)->state, AF_TASK_UNKNOWN);
}

/* The file was full at 2000: what is open then is not known to have lasted longer. */
static void stopped(void **state)
{
	struct fixture *f = *state;
	const struct afr_stopped at = {2000};
	const struct afr_record records[] = {ENTER(1000, 7), EXIT(1100), ENTER(1500, 8),
					     RESUMED(3000, 2500)};
	raw_block(&f->raw, AFR_B_STOPPED, &at, sizeof(at), NULL, 0);
	walk(f, records, COUNT(records));
	assert_interval(&f->spans[1], 1500, 3000); /* there is a record of its thread then */
	assert_int_equal(f->n_waits, 1);
	assert_interval(&f->waits[0], 1100, 2000);
	assert_int_equal(f->n_off, 1);
	assert_interval(&f->off[0], 2000, END);
	assert_true(f->off[0].marked && !f->off[0].open);
	assert_int_equal(f->walk.pauses, 0);
	assert_int_equal(f->walk.off, 0);
	assert_int_equal(af_trace_info(f->trace)->stopped, 2000);
}

static void a_stop_that_is_cut_off_is_none(void **state)
{
	struct fixture *f = *state;
	raw_block(&f->raw, AFR_B_STOPPED, &(uint32_t){1}, sizeof(uint32_t), NULL, 0);
	walk(f, NULL, 0);
	assert_true(af_trace_info(f->trace)->stopped == UINT64_MAX);
	assert_int_equal(f->n_off, 0);
}

/* More than are remembered: of waits that are older than those nothing is believed in between. */
static void very_many(void **state)
{
	struct fixture *f = *state;
	enum { PAUSES = 200000 };
	struct afr_record *records = calloc(2 * PAUSES + 4, sizeof(*records));
	uint32_t n = 0;
	records[n++] = ENTER(10, 7);
	records[n++] = EXIT(11);
	for (uint64_t i = 0; i < PAUSES; i++) {
		records[n++] = PAUSED(100 + 4 * i);
		records[n++] = RESUMED(102 + 4 * i, 100 + 4 * i);
	}
	records[n++] = ENTER(100 + 4 * PAUSES, 7);
	records[n++] = READY(101 + 4 * PAUSES);
	walk(f, records, n);
	free(records);
	assert_int_equal(f->n_off, PAUSES);
	assert_int_equal(f->walk.off, 2 * PAUSES);
	assert_int_equal(f->n_waits, 1);
	assert_interval(&f->waits[0], 98 + 4 * PAUSES, 100 + 4 * PAUSES);
	assert_true(f->waits[0].unknown_begin);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_wait_is_told_on_both_sides),
		TEST(other_waits_are_whole),
		TEST(the_end_alone_tells),
		TEST(nonsense_is_no_news),
		TEST(off_at_the_end),
		TEST(on_again_at_the_end),
		TEST(a_look_holds_until_it_is_off),
		TEST(a_look_while_it_is_off_tells_of_that_moment),
		TEST(a_look_afterwards_holds),
		TEST(a_look_from_before_tells_nothing),
		TEST(stopped),
		TEST(a_stop_that_is_cut_off_is_none),
		TEST(very_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * From a raw trace to spans and tasks: raw traces are made record by record, and what the model
 * makes of them is compared with what really happened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace_fixture.h"
#include "views/chrome.h"

static void check_span(const struct af_span *span, uint32_t function, uint64_t begin, uint64_t end,
		       enum af_span_result result)
{
	assert_int_equal(span->function, function);
	assert_int_equal(span->begin, begin);
	assert_int_equal(span->end, end);
	assert_int_equal(span->result, result);
}

static void nested_polls_become_nested_spans(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record records[] = {
		R(AFR_ENTER_NEW, 100, PARENT, 0x1000), R(AFR_ENTER_NEW, 110, CHILD, 0x1010),
		R(AFR_EXIT_STATE, 120, CHILD, 3),      R(AFR_EXIT_STATE, 130, PARENT, 3),
		R(AFR_ENTER, 200, PARENT, 0x1000),     R(AFR_ENTER, 210, CHILD, 0x1010),
		R(AFR_EXIT_STATE, 220, CHILD, 1),      R(AFR_EXIT_STATE, 230, PARENT, 1),
	};
	/* clang-format on */
	fixture_load_records(f, records, COUNT(records));
	assert_int_equal(f->seen.n, 4);
	check_span(&f->seen.spans[0], CHILD, 110, 120, AF_SPAN_PENDING);
	assert_string_equal(f->seen.at[0], "src/main.rs:22");
	check_span(&f->seen.spans[1], PARENT, 100, 130, AF_SPAN_PENDING);
	assert_string_equal(f->seen.at[1], "src/main.rs:12");
	check_span(&f->seen.spans[2], CHILD, 210, 220, AF_SPAN_READY);
	assert_string_equal(f->seen.at[2], "");
	check_span(&f->seen.spans[3], PARENT, 200, 230, AF_SPAN_READY);
	assert_int_equal(f->seen.spans[0].depth, 1);
	assert_true(f->seen.spans[1].first_poll);
	assert_false(f->seen.spans[3].first_poll);
	assert_int_equal(af_trace_n_tasks(f->trace), 1);
	const struct af_task *task = af_trace_task(f->trace, 1);
	assert_int_equal(task->polls, 2);
	assert_int_equal(task->busy, 60);
	assert_int_equal(task->first, 100);
	assert_int_equal(task->last, 230);
	assert_int_equal(task->state, AF_TASK_READY);
}

static void panic_closes_each_span_it_passes(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record records[] = {
		R(AFR_ENTER_TASK, 10, ROOT, 7),	       R(AFR_ENTER_NEW, 20, PARENT, 0x1000),
		R(AFR_ENTER_NEW, 30, CHILD, 0x1010),   R(AFR_UNWIND, 40, CHILD, 0),
		R(AFR_UNWIND, 50, PARENT, 0),	       R(AFR_EXIT_POLL, 60, ROOT, AFR_UNKNOWN),
	};
	/* clang-format on */
	fixture_load_records(f, records, COUNT(records));
	check_span(&f->seen.spans[0], CHILD, 30, 40, AF_SPAN_PANICKED);
	check_span(&f->seen.spans[1], PARENT, 20, 50, AF_SPAN_PANICKED);
	check_span(&f->seen.spans[2], ROOT, 10, 60, AF_SPAN_PANICKED);
	assert_int_equal(f->walk.panicked, 2);
	assert_int_equal(af_trace_task(f->trace, 1)->state, AF_TASK_PANICKED);
}

static void missing_records_are_counted_and_the_rest_still_nests(void **state)
{
	struct fixture *f = *state;
	struct afr_record half = R(AFR_ENTER, 15, HAND, 0);
	half.word0 = 0;
	const struct afr_record records[] = {
		R(AFR_EXIT_POLL, 5, HAND, AFR_READY), /* its begin was dropped */
		R(AFR_ENTER, 10, PARENT, 0x1000),     half,
		R(AFR_ENTER, 20, CHILD, 0x1010), /* its end was dropped */
		R(AFR_EXIT_STATE, 30, PARENT, 3),     {R(200, 31, 1, 1).word0, 1},
		R(AFR_ENTER, 40, HAND, 0x2000), /* not returned at the end */
	};
	fixture_load_records(f, records, COUNT(records));
	assert_int_equal(f->seen.n, 3);
	check_span(&f->seen.spans[0], CHILD, 20, 30, AF_SPAN_LOST);
	check_span(&f->seen.spans[1], PARENT, 10, 30, AF_SPAN_PENDING);
	check_span(&f->seen.spans[2], HAND, 40, 1000, AF_SPAN_OPEN);
	assert_int_equal(f->walk.stray, 1);
	assert_int_equal(f->walk.lost, 1);
	assert_int_equal(f->walk.open, 1);
	assert_int_equal(f->walk.unfinished, 1);
	assert_int_equal(f->walk.bad, 1);
}

/* The handler ran between "slot taken" and "clock read" of the interrupted poll's end. */
static void records_of_a_signal_handler_are_put_in_order(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record records[] = {
		R(AFR_ENTER, 10, PARENT, 0x1000), R(AFR_EXIT_STATE, 50, PARENT, 3),
		R(AFR_ENTER, 20, HAND, 0x2000),	  R(AFR_EXIT_POLL, 30, HAND, AFR_READY),
		R(AFR_ENTER, 60, CHILD, 0x3000),  R(AFR_EXIT_STATE, 70, CHILD, 1),
	};
	/* clang-format on */
	fixture_load_records(f, records, COUNT(records));
	assert_int_equal(f->seen.n, 3);
	check_span(&f->seen.spans[0], HAND, 20, 30, AF_SPAN_READY);
	assert_int_equal(f->seen.spans[0].depth, 1);
	check_span(&f->seen.spans[1], PARENT, 10, 50, AF_SPAN_PENDING);
	check_span(&f->seen.spans[2], CHILD, 60, 70, AF_SPAN_READY);
}

static void tasks_move_between_threads(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record one[] = {
		R(AFR_ENTER_TASK, 10, ROOT, 7),	       R(AFR_EXIT_POLL, 20, ROOT, 0),
		R(AFR_ENTER_TASK, 50, ROOT, 8),	       R(AFR_EXIT_POLL, 60, ROOT, 0),
	};
	const struct afr_record two[] = {
		R(AFR_ENTER_TASK, 30, ROOT, 8),	       R(AFR_EXIT_POLL, 40, ROOT, 0),
		R(AFR_ENTER_TASK, 70, ROOT, 7),	       R(AFR_EXIT_POLL, 80, ROOT, 0),
	};
	/* clang-format on */
	/* Out of order in the file, as the companion drains them. */
	raw_chunk(&f->raw, 1, 1, 102, "two", two + 2, 2);
	raw_chunk(&f->raw, 0, 0, 101, "one", one, 4);
	raw_chunk(&f->raw, 1, 0, 102, "two", two, 2);
	raw_end(&f->raw, 1000, 1000);
	fixture_load(f, f->raw.size);
	assert_int_equal(f->seen.n, 4);
	assert_int_equal(f->seen.spans[0].task, 1);
	assert_int_equal(f->seen.spans[1].task, 2);
	assert_int_equal(f->seen.spans[1].thread->tid, 102);
	assert_int_equal(f->seen.spans[2].task, 2);
	assert_int_equal(f->seen.spans[3].task, 1);
	assert_int_equal(f->seen.spans[3].begin, 70);
	assert_int_equal(af_trace_n_tasks(f->trace), 2);
	assert_int_equal(af_trace_task(f->trace, 1)->polls, 2);
}

static void a_reused_address_is_a_new_task(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record records[] = {
		/* polled twice, then dropped unfinished */
		R(AFR_ENTER_TASK_AT, 10, ROOT, 0x5000), R(AFR_ENTER_NEW, 11, PARENT, 0x5010),
		R(AFR_EXIT_STATE, 12, PARENT, 3),	R(AFR_EXIT_POLL, 13, ROOT, 0),
		R(AFR_ENTER_TASK_AT, 20, ROOT, 0x5000), R(AFR_ENTER, 21, PARENT, 0x5010),
		R(AFR_EXIT_STATE, 22, PARENT, 3),	R(AFR_EXIT_POLL, 23, ROOT, 0),
		/* another one at the same address: its future is new; runs to its end */
		R(AFR_ENTER_TASK_AT, 30, ROOT, 0x5000), R(AFR_ENTER_NEW, 31, PARENT, 0x5010),
		R(AFR_ENTER_NEW, 32, PARENT, 0x6000),	R(AFR_EXIT_STATE, 33, PARENT, 1),
		R(AFR_EXIT_STATE, 34, PARENT, 1),	R(AFR_EXIT_POLL, 35, ROOT, 0),
		/* and a third, of which only the root is seen */
		R(AFR_ENTER_TASK_AT, 40, ROOT, 0x5000), R(AFR_EXIT_POLL, 45, ROOT, 0),
	};
	/* clang-format on */
	fixture_load_records(f, records, COUNT(records));
	static const uint32_t tasks[] = {1, 1, 1, 1, 2, 2, 2, 3};
	assert_int_equal(f->seen.n, COUNT(tasks));
	for (unsigned i = 0; i < COUNT(tasks); i++)
		assert_int_equal(f->seen.spans[i].task, tasks[i]);
	assert_int_equal(f->seen.spans[1].result, AF_SPAN_PENDING);
	assert_int_equal(f->seen.spans[6].result, AF_SPAN_READY);
	assert_int_equal(f->seen.spans[7].result, AF_SPAN_UNKNOWN);
	assert_int_equal(af_trace_task(f->trace, 1)->polls, 2);
	assert_int_equal(af_trace_task(f->trace, 2)->polls, 1);
	assert_int_equal(af_trace_task(f->trace, 2)->first, 30);
	/* The first one waited once. How long it lived after its last poll, nobody knows. */
	assert_int_equal(f->seen.n_waits, 1);
	assert_int_equal(f->seen.waits[0].task->number, 1);
	assert_int_equal(f->seen.waits[0].begin, 13);
	assert_int_equal(f->seen.waits[0].end, 20);
}

static void futures_outside_any_root_are_tasks_of_their_own(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record records[] = {
		R(AFR_ENTER, 10, HAND, 0x1000),	  R(AFR_EXIT_POLL, 11, HAND, AFR_PENDING),
		R(AFR_ENTER, 20, HAND, 0x2000),	  R(AFR_EXIT_POLL, 21, HAND, AFR_PENDING),
		R(AFR_ENTER, 30, HAND, 0x1000),	  R(AFR_EXIT_POLL, 31, HAND, AFR_READY),
		R(AFR_ENTER, 40, HAND, 0x1000),	  R(AFR_EXIT_POLL, 41, HAND, AFR_READY),
		R(AFR_ENTER, 50, PARENT, 0x2000), R(AFR_EXIT_STATE, 51, PARENT, 3),
	};
	/* clang-format on */
	fixture_load_records(f, records, COUNT(records));
	static const uint32_t tasks[] = {1, 2, 1, 3, 4};
	for (unsigned i = 0; i < COUNT(tasks); i++)
		assert_int_equal(f->seen.spans[i].task, tasks[i]);
}

static void ticks_become_nanoseconds_by_the_last_calibration(void **state)
{
	struct fixture *f = *state;
	raw_free(&f->raw);
	raw_begin(&f->raw, AFR_TICKS_TSC);
	/* clang-format off */
	const struct afr_record records[] = {
		R(AFR_ENTER, 3000000000, HAND, 1), R(AFR_EXIT_POLL, 6000000000, HAND, AFR_READY),
	};
	/* clang-format on */
	raw_chunk(&f->raw, 0, 0, 1, "main", records, 2);
	raw_end(&f->raw, 1000, 1);
	raw_end(&f->raw, 30000000000, 10000000000);
	fixture_load(f, f->raw.size);
	assert_in_range(f->seen.spans[0].begin, 999999999, 1000000000);
	assert_in_range(f->seen.spans[0].end, 1999999999, 2000000000);
	assert_in_range(f->walk.end, 9999999999, 10000000000);
	assert_string_equal(af_trace_function(f->trace, HAND)->name, "(unknown function)");
}

/* Every cut, every flipped byte: no crash (run under sanitizers), spans still nest. */
static void any_cut_and_any_wrong_byte_is_survived(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record records[] = {
		R(AFR_ENTER_TASK_AT, 10, ROOT, 0x5000), R(AFR_ENTER_NEW, 11, PARENT, 0x5010),
		R(AFR_EXIT_STATE, 12, PARENT, 3),	R(AFR_EXIT_POLL, 13, ROOT, 0),
	};
	/* clang-format on */
	raw_chunk(&f->raw, 0, 0, 4242, "main", records, COUNT(records));
	raw_end(&f->raw, 1000, 1000);
	unsigned most = 0;
	for (size_t size = sizeof(struct afr_header); size < f->raw.size; size++) {
		fixture_load(f, size);
		assert_true(af_trace_info(f->trace)->cut);
		assert_true(f->seen.n >= most);
		most = f->seen.n;
	}
	assert_int_equal(most, 2);
	for (size_t i = sizeof(struct afr_header); i < f->raw.size; i++) {
		f->raw.data[i] ^= 0xff;
		fixture_load(f, f->raw.size);
		no_error(af_chrome_write(f->trace, f->out, NULL));
		f->raw.data[i] ^= 0xff;
	}
}

static void what_is_no_raw_trace_is_refused(void **state)
{
	struct fixture *f = *state;
	for (unsigned change = 0; change < 12; change++) {
		f->raw.data[change] ^= 1;
		raw_save(&f->raw, f->path, f->raw.size);
		struct af_error *error = af_trace_open(&f->trace, f->path);
		assert_non_null(error);
		assert_null(f->trace);
		af_error_destroy(error);
		f->raw.data[change] ^= 1;
	}
	raw_save(&f->raw, f->path, 63);
	struct af_error *error = af_trace_open(&f->trace, f->path);
	assert_non_null(strstr(error->message, "too short"));
	af_error_destroy(error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nested_polls_become_nested_spans),
		TEST(panic_closes_each_span_it_passes),
		TEST(missing_records_are_counted_and_the_rest_still_nests),
		TEST(records_of_a_signal_handler_are_put_in_order),
		TEST(tasks_move_between_threads),
		TEST(a_reused_address_is_a_new_task),
		TEST(futures_outside_any_root_are_tasks_of_their_own),
		TEST(ticks_become_nanoseconds_by_the_last_calibration),
		TEST(any_cut_and_any_wrong_byte_is_survived),
		TEST(what_is_no_raw_trace_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * From a raw trace to spans, tasks and the Chrome file: raw traces are made record by
 * record, and what the model makes of them is compared with what really happened.
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
#include "views/chrome.h"

enum { PARENT, CHILD, ROOT, HAND, STRANGE };

static const struct raw_poll polls[] = {
	[PARENT] = {"app::parent", "app::parent::{async_fn_env#0}", "src/main.rs", 10,
		    AFM_P_ASYNC_BODY, -1, 12},
	[CHILD] = {"app::child<u8>", "app::child::{async_fn_env#0}<u8>", "src/main.rs", 20,
		   AFM_P_ASYNC_BODY, -1, 22},
	[ROOT] = {"app::parent", "", "", 0, AFM_P_TASK_ROOT, PARENT, 0},
	[HAND] = {"app::Hand", "app::Hand", "src/hand.rs", 5, AFM_P_HAND, -1, 0},
	[STRANGE] = {"quote\" back\\ \xff tab\t \xe2\x82\xac", "app::Strange", "src/\x01.rs", 1,
		     AFM_P_HAND, -1, 0},
};
#define N_POLLS (sizeof(polls) / sizeof(polls[0]))
#define COUNT(a) ((uint32_t)(sizeof(a) / sizeof((a)[0])))

/* The spans of a walk, in order of their ends. */
struct seen {
	struct af_span spans[256];
	char at[256][64]; /* parked_at */
	unsigned n, begun;
	struct af_wait waits[256];
	unsigned n_waits;
	const struct af_trace *trace;
};

struct fixture {
	char path[32], out[48];
	struct raw raw;
	struct af_trace *trace;
	struct seen seen;
	struct af_walk walk;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->path, "/tmp/test_trace.XXXXXX");
	close(mkstemp(f->path));
	snprintf(f->out, sizeof(f->out), "%s.json", f->path);
	raw_begin(&f->raw, AFR_TICKS_MONOTONIC);
	raw_process(&f->raw, "/opt/bin/app");
	raw_object(&f->raw, 0, polls, N_POLLS);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	af_trace_close(f->trace);
	raw_free(&f->raw);
	unlink(f->path);
	unlink(f->out);
	free(f);
	return 0;
}

static bool on_begin(void *context, struct af_span *span)
{
	struct seen *seen = context;
	span->cookie = ++seen->begun;
	return true;
}

static bool on_end(void *context, struct af_span *span)
{
	struct seen *seen = context;
	assert_true(span->cookie > 0 && span->cookie <= seen->begun);
	assert_true(span->begin <= span->end);
	if (seen->n == 256)
		return false;
	const char *file;
	uint32_t line;
	if (af_function_await(seen->trace, af_trace_function(seen->trace, span->function),
			      span->state, &file, &line))
		snprintf(seen->at[seen->n], 64, "%s:%u", file, line);
	seen->spans[seen->n++] = *span;
	return true;
}

static bool on_wait(void *context, const struct af_wait *wait)
{
	struct seen *seen = context;
	assert_true(wait->begin <= wait->end);
	if (seen->n_waits < 256)
		seen->waits[seen->n_waits++] = *wait;
	return true;
}

static void no_error(struct af_error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

static void load(struct fixture *f, size_t size)
{
	static const struct af_visitor visitor = {
		.begin = on_begin, .end = on_end, .wait = on_wait};
	raw_save(&f->raw, f->path, size);
	af_trace_close(f->trace);
	no_error(af_trace_open(&f->trace, f->path));
	f->seen = (struct seen){.trace = f->trace};
	no_error(af_trace_walk(f->trace, &visitor, &f->seen, &f->walk));
}

static void load_records(struct fixture *f, const struct afr_record *records, uint32_t n)
{
	raw_chunk(&f->raw, 0, 0, 4242, "main", records, n);
	raw_end(&f->raw, 1000, 1000);
	load(f, f->raw.size);
}

static void check_span(const struct af_span *span, uint32_t function, uint64_t begin, uint64_t end,
		       enum af_span_result result)
{
	assert_int_equal(span->function, function);
	assert_int_equal(span->begin, begin);
	assert_int_equal(span->end, end);
	assert_int_equal(span->result, result);
}

#define R raw_record

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
	load_records(f, records, COUNT(records));
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
	load_records(f, records, COUNT(records));
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
	load_records(f, records, COUNT(records));
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
	load_records(f, records, COUNT(records));
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
	load(f, f->raw.size);
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
	load_records(f, records, COUNT(records));
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
	load_records(f, records, COUNT(records));
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
	load(f, f->raw.size);
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
		load(f, size);
		assert_true(af_trace_info(f->trace)->cut);
		assert_true(f->seen.n >= most);
		most = f->seen.n;
	}
	assert_int_equal(most, 2);
	for (size_t i = sizeof(struct afr_header); i < f->raw.size; i++) {
		f->raw.data[i] ^= 0xff;
		load(f, f->raw.size);
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

static char *read_text(const char *path)
{
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	char *text = calloc(1, 64 << 20);
	assert_true(fread(text, 1, (64 << 20) - 1, file) > 0);
	fclose(file);
	return text;
}

static void chrome_events_say_what_happened(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record records[] = {
		R(AFR_ENTER_TASK, 1000, ROOT, 7),  R(AFR_ENTER_NEW, 1500, PARENT, 0x1000),
		R(AFR_EXIT_STATE, 3250, PARENT, 3), R(AFR_EXIT_POLL, 4001, ROOT, 0),
		R(AFR_ENTER, 5000, STRANGE, 0),	   R(AFR_EXIT_POLL, 5001, STRANGE, 1),
	};
	/* clang-format on */
	load_records(f, records, COUNT(records));
	struct af_summary summary;
	no_error(af_chrome_write(f->trace, f->out, &summary));
	char *text = read_text(f->out);
	static const char *const lines[] = {
		"[\n{\"ph\":\"M\",\"pid\":4242,\"tid\":4242,\"name\":\"process_name\","
		"\"args\":{\"name\":\"app\"}}",
		"\n{\"ph\":\"X\",\"pid\":4242,\"tid\":4242,\"ts\":1.000,\"name\":\"app::parent\","
		"\"cat\":\"poll\",\"args\":{\"future\":\"app::parent::{async_fn_env#0}\","
		"\"at\":\"src/main.rs:10\",\"root\":true,\"task\":1,\"result\":\"pending\"},"
		"\"dur\":3.001},",
		"\n{\"ph\":\"X\",\"pid\":4242,\"tid\":4242,\"ts\":1.500,\"name\":\"app::parent\","
		"\"cat\":\"poll\",\"args\":{\"future\":\"app::parent::{async_fn_env#0}\","
		"\"at\":\"src/main.rs:10\",\"task\":1,\"result\":\"pending\","
		"\"parked_at\":\"src/main.rs:12\"},\"dur\":1.750},",
		"\"name\":\"quote\\\" back\\\\ \xef\xbf\xbd tab\\t \xe2\x82\xac\"",
		"\"at\":\"src/\\u0001.rs:1\",\"task\":2,\"result\":\"ready\"},\"dur\":0.001}",
		"{\"ph\":\"b\",\"pid\":4242,\"tid\":4242,\"ts\":1.000,\"id\":\"0x109200000001\","
		"\"cat\":\"task\",\"name\":\"app::parent\",\"args\":{\"task\":1,\"polls\":1,"
		"\"busy_us\":3.001,\"state\":\"alive\"}},\n",
		"{\"ph\":\"b\",\"pid\":4242,\"tid\":4242,\"ts\":4.001,\"id\":\"0x109200000001\","
		"\"cat\":\"task\",\"name\":\"waiting: app::parent\",\"args\":{"
		"\"at\":\"src/main.rs:12\",\"stack\":[\"app::parent at src/main.rs:12\"],"
		"\"task\":1,\"open\":true}},\n",
		"{\"ph\":\"e\",\"pid\":4242,\"tid\":4242,\"ts\":5.001,\"id\":\"0x109200000001\","
		"\"cat\":\"task\",\"name\":\"waiting: app::parent\"},\n",
		"{\"ph\":\"e\",\"pid\":4242,\"tid\":4242,\"ts\":5.001,\"id\":\"0x109200000001\","
		"\"cat\":\"task\",\"name\":\"app::parent\"},\n",
	};
	for (unsigned i = 0; i < COUNT(lines); i++)
		if (!strstr(text, lines[i]))
			fail_msg("missing: %s\nin: %s", lines[i], text);
	free(text);
	assert_int_equal(summary.walk.spans, 3);
	assert_int_equal(summary.tasks, 2);
	assert_int_equal(summary.longest[0].duration, 3001);
	assert_string_equal(summary.longest[0].place.at, "src/main.rs:10");
}

/* Or a web server's trace would be nothing but names. */
static void a_very_long_type_stands_whole_in_one_event_only(void **state)
{
	struct fixture *f = *state;
	char type[2001];
	memset(type, 'T', 2000);
	type[2000] = '\0';
	const struct raw_poll poll = {type, type, "a.rs", 1, AFM_P_HAND, -1, 0};
	raw_object(&f->raw, N_POLLS, &poll, 1);
	struct afr_record records[200];
	for (uint32_t i = 0; i < 200; i++)
		records[i] = R(i % 2 ? AFR_EXIT_POLL : AFR_ENTER, 10 * i, N_POLLS, i % 2);
	load_records(f, records, 200);
	no_error(af_chrome_write(f->trace, f->out, NULL));
	char *text = read_text(f->out);
	char *first = strstr(text, type);
	assert_non_null(first);
	assert_null(strstr(first + 2000, type));
	assert_non_null(strstr(text, "TTT\xe2\x80\xa6#5\",\"cat\""));
	assert_true(strlen(text) < 200000);
	free(text);
}

/* A poll with more polls inside than the writer keeps: its line is filled in later. */
static void a_poll_with_a_hundred_thousand_inside_keeps_its_order(void **state)
{
	struct fixture *f = *state;
	uint32_t inner = 100000, n = 0;
	struct afr_record *records = calloc(2 * inner + 4, sizeof(*records));
	records[n++] = R(AFR_ENTER, 0, PARENT, 1);
	records[n++] = R(AFR_ENTER, 1, CHILD, 1);
	for (uint32_t i = 0; i < inner; i++) {
		records[n++] = R(AFR_ENTER, 10 + 2 * i, HAND, 1);
		records[n++] = R(AFR_EXIT_POLL, 11 + 2 * i, HAND, AFR_READY);
	}
	records[n++] = R(AFR_EXIT_STATE, 1000000, CHILD, 3);
	records[n++] = R(AFR_EXIT_STATE, 2000000, PARENT, 1);
	load_records(f, records, n);
	free(records);
	no_error(af_chrome_write(f->trace, f->out, NULL));
	FILE *file = fopen(f->out, "r");
	assert_non_null(file);
	char line[2048];
	uint64_t last = 0;
	unsigned events = 0, patched = 0;
	while (fgets(line, sizeof(line), file)) {
		unsigned long long us, ns;
		if (sscanf(line, "{\"ph\":\"X\",\"pid\":4242,\"tid\":4242,\"ts\":%llu.%llu,", &us,
			   &ns) != 2)
			continue;
		assert_true(us * 1000 + ns >= last);
		last = us * 1000 + ns;
		events++;
		patched += strstr(line, "\"result\":\"ready\"},\"dur\":2000.000}") != NULL;
		patched +=
			strstr(line, "\"parked_at\":\"src/main.rs:22\"},\"dur\":999.999}") != NULL;
	}
	fclose(file);
	assert_int_equal(events, inner + 2);
	assert_int_equal(patched, 2);
}

static void a_failed_write_leaves_nothing_behind(void **state)
{
	struct fixture *f = *state;
	const struct afr_record records[] = {R(AFR_ENTER, 10, HAND, 1)};
	load_records(f, records, COUNT(records));
	char path[128];
	snprintf(path, sizeof(path), "%s/there/is/no/such", f->path);
	struct af_error *error = af_chrome_write(f->trace, path, NULL);
	assert_non_null(error);
	af_error_destroy(error);
	error = af_chrome_write(f->trace, "/dev/full", NULL);
	assert_non_null(error);
	assert_int_equal(error->system, 28 /* ENOSPC */);
	af_error_destroy(error);
	no_error(af_chrome_write(f->trace, "/dev/null", NULL));
}

static void the_summary_names_the_longest_and_what_is_in_it(void **state)
{
	struct fixture *f = *state;
	/* clang-format off */
	const struct afr_record records[] = {
		R(AFR_ENTER_TASK, 1000, ROOT, 7),     R(AFR_ENTER_NEW, 1010, PARENT, 0x1000),
		R(AFR_ENTER_NEW, 1020, CHILD, 0x1010), R(AFR_EXIT_STATE, 50001020, CHILD, 3),
		R(AFR_EXIT_STATE, 50001040, PARENT, 3), R(AFR_EXIT_POLL, 50001050, ROOT, 0),
		R(AFR_ENTER, 60000000, HAND, 1),      R(AFR_EXIT_POLL, 60000500, HAND, AFR_READY),
		R(AFR_ENTER, 60001000, HAND, 1),      R(AFR_EXIT_POLL, 60001300, HAND, AFR_READY),
	};
	/* clang-format on */
	load_records(f, records, COUNT(records));
	struct af_summary summary;
	no_error(af_summary_collect(&summary, f->trace));
	char *text;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	af_summary_print(&summary, to, false, "/x/app.trace.json");
	fclose(to);
	static const char *const want[] = {
		"asyncflame: 5 polls of 3 tasks on 1 thread in 60.00 ms\n",
		"hooked 3 of 5 poll functions\n",
		"  50.00 ms  app::parent  src/main.rs:10  [main]\n",
		"of these 50.00 ms in app::child<u8>  src/main.rs:20\n",
		"500 ns  app::Hand  src/hand.rs:5  [main]\n  trace: /x/app.trace.json\n",
	};
	for (unsigned i = 0; i < COUNT(want); i++)
		if (!strstr(text, want[i]))
			fail_msg("missing: %s\nin: %s", want[i], text);
	free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(chrome_events_say_what_happened),
		TEST(a_very_long_type_stands_whole_in_one_event_only),
		TEST(a_poll_with_a_hundred_thousand_inside_keeps_its_order),
		TEST(a_failed_write_leaves_nothing_behind),
		TEST(the_summary_names_the_longest_and_what_is_in_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

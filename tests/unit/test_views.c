/* SPDX-License-Identifier: MIT */
/* The Chrome file and the summary of raw traces whose records are known. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "futuremap/futuremap.h"
#include "trace_fixture.h"
#include "views/chrome.h"

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
	fixture_load_records(f, records, COUNT(records));
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
	fixture_load_records(f, records, 200);
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
	fixture_load_records(f, records, n);
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
	fixture_load_records(f, records, COUNT(records));
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
	fixture_load_records(f, records, COUNT(records));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(chrome_events_say_what_happened),
		TEST(a_very_long_type_stands_whole_in_one_event_only),
		TEST(a_poll_with_a_hundred_thousand_inside_keeps_its_order),
		TEST(a_failed_write_leaves_nothing_behind),
		TEST(the_summary_names_the_longest_and_what_is_in_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

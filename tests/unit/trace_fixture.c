/* SPDX-License-Identifier: MIT */
#include "trace_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "futuremap/futuremap.h"

const struct raw_poll fixture_polls[N_POLLS] = {
	[PARENT] = {"app::parent", "app::parent::{async_fn_env#0}", "src/main.rs", 10,
		    AFM_P_ASYNC_BODY, -1, 12},
	[CHILD] = {"app::child<u8>", "app::child::{async_fn_env#0}<u8>", "src/main.rs", 20,
		   AFM_P_ASYNC_BODY, -1, 22},
	[ROOT] = {"app::parent", "", "", 0, AFM_P_TASK_ROOT, PARENT, 0},
	[HAND] = {"app::Hand", "app::Hand", "src/hand.rs", 5, AFM_P_HAND, -1, 0},
	[STRANGE] = {"quote\" back\\ \xff tab\t \xe2\x82\xac", "app::Strange", "src/\x01.rs", 1,
		     AFM_P_HAND, -1, 0},
};

int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->path, "/tmp/test_trace.XXXXXX");
	close(mkstemp(f->path));
	snprintf(f->out, sizeof(f->out), "%s.json", f->path);
	raw_begin(&f->raw, AFR_TICKS_MONOTONIC);
	raw_process(&f->raw, "/opt/bin/app");
	raw_object(&f->raw, 0, fixture_polls, N_POLLS);
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
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

void no_error(struct af_error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

void fixture_load(struct fixture *f, size_t size)
{
	static const struct af_visitor visitor = {
		.begin = on_begin, .end = on_end, .wait = on_wait};
	raw_save(&f->raw, f->path, size);
	af_trace_close(f->trace);
	no_error(af_trace_open(&f->trace, f->path));
	f->seen = (struct seen){.trace = f->trace};
	no_error(af_trace_walk(f->trace, &visitor, &f->seen, &f->walk));
}

void fixture_load_records(struct fixture *f, const struct afr_record *records, uint32_t n)
{
	raw_chunk(&f->raw, 0, 0, 4242, "main", records, n);
	raw_end(&f->raw, 1000, 1000);
	fixture_load(f, f->raw.size);
}

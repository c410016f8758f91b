/* SPDX-License-Identifier: MIT */
/* A raw trace that is made record by record, and what the model makes of it: for the tests of both
   the model and its views. */
#ifndef AF_TESTS_TRACE_FIXTURE_H
#define AF_TESTS_TRACE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "raw_writer.h"
#include "trace/trace.h"

/* Polls of the one object. */
enum { PARENT, CHILD, ROOT, HAND, STRANGE, N_POLLS };
extern const struct raw_poll fixture_polls[N_POLLS];
#define COUNT(a) ((uint32_t)(sizeof(a) / sizeof((a)[0])))
#define R raw_record

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

/* Of cmocka: *state is a struct fixture, whose raw trace has a process and the object. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Opens and walks the first `size` bytes of what was written. */
void fixture_load(struct fixture *f, size_t size);
/* The same for one chunk of the main thread's, and an end. */
void fixture_load_records(struct fixture *f, const struct afr_record *records, uint32_t n);
void no_error(struct af_error *error);

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif

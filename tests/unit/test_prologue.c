/* SPDX-License-Identifier: MIT */
/*
 * How deep a frame is by the code at a function's entry: known only where nothing can change it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtimes/prologue.h"

#define DEPTH(code, below) af_prologue_depth((const uint8_t *)(code), sizeof(code) - 1, (below))
#define REST "\x48\x8b\x07\x90\x90\x90"		    /* mov rax, [rdi] */
#define ENTRY "\x55\x48\x89\xe5"		    /* push rbp; mov rbp, rsp */
#define FIVE "\x41\x57\x41\x56\x41\x55\x41\x54\x53" /* push r15, r14, r13, r12, rbx */

static void frames_of_known_depth(void **state)
{
	uint64_t below;

	assert_true(DEPTH(ENTRY REST, &below));
	assert_int_equal(below, 0);
	assert_true(DEPTH("\x55\x48\x8b\xec\x53\x50" REST, &below)); /* the other mov */
	assert_int_equal(below, 16);
	/* As std::thread::park of rustc 1.95 begins: five registers, and 0x38 for locals. */
	assert_true(DEPTH(ENTRY FIVE "\x48\x83\xec\x38" REST, &below));
	assert_int_equal(below, 5 * 8 + 0x38);
	assert_true(
		DEPTH("\xf3\x0f\x1e\xfa" ENTRY "\x53\x48\x81\xec\x08\x01\x00\x00" REST, &below));
	assert_int_equal(below, 8 + 0x108);
}

static void frames_that_are_not_told(void **state)
{
	uint64_t below;

	assert_false(DEPTH("\x53\x48\x83\xec\x20" REST, &below)); /* no frame pointer */
	assert_false(DEPTH(ENTRY FIVE "\x48\x83\xe4\xe0\x48\x81\xec\x00\x01\x00\x00" REST, &below));
	/* Larger than a page: grown and touched step by step. */
	assert_false(DEPTH(ENTRY "\x48\x81\xec\x00\x10\x00\x00\x48\xc7\x04\x24\x00\x00\x00\x00"
				 "\x48\x83\xec\x20" REST,
			   &below));
	assert_false(DEPTH(ENTRY "\xb8\x00\x20\x00\x00\xe8\x00\x00\x00\x00" REST, &below));
	assert_false(DEPTH(ENTRY "\x48\x83\xec\xf0" REST, &below));		/* upwards */
	assert_false(DEPTH(ENTRY "\x48\x81\xec\x00\x00\x00\x40" REST, &below)); /* huge */
}

static void code_that_is_cut_off(void **state)
{
	static const char code[] = ENTRY FIVE "\x48\x81\xec\x38\x00\x00\x00" REST;
	uint64_t below;

	for (size_t n = 0; n < 20; n++) {
		uint8_t *copy = malloc(n + 1); /* for valgrind and sanitizers */
		assert_non_null(copy);
		memcpy(copy, code, n);
		assert_false(af_prologue_depth(copy, n, &below) && n < 15);
		free(copy);
	}
	assert_true(DEPTH(code, &below));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_of_known_depth),
		cmocka_unit_test(frames_that_are_not_told),
		cmocka_unit_test(code_that_is_cut_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

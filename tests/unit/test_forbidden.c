/* SPDX-License-Identifier: MIT */
/*
 * A process that we may not look into: one line that says why, and what would mend just that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtimes/forbidden.h"

/* Whether the line has all of `words`, up to a NULL, and none of the other ways out. */
static void says(struct af_error *error, const char *const *words, const char * not )
{
	assert_non_null(error);
	assert_non_null(strstr(error->message, "process 4711: not permitted"));
	assert_null(strchr(error->message, '\n'));
	for (; *words; words++)
		assert_non_null(strstr(error->message, *words));
	if (not )
		assert_null(strstr(error->message, not ));
	af_error_destroy(error);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void it_is_another_users(void **state)
{
	says(af_forbidden(4711, true, "alice", 1),
	     WORDS("alice", "as that user", "CAP_SYS_PTRACE", "sudo asyncflame dump 4711"),
	     "ptrace_scope");
	says(af_forbidden(4711, true, NULL, -1), WORDS("another namespace", "CAP_SYS_PTRACE"),
	     NULL);
}

static void the_kernel_is_told_to_forbid_it(void **state)
{
	for (long scope = 1; scope <= 2; scope++)
		says(af_forbidden(4711, false, NULL, scope),
		     WORDS(scope == 1 ? "ptrace_scope is 1" : "ptrace_scope is 2", "CAP_SYS_PTRACE",
			   "sudo asyncflame dump 4711", "sysctl kernel.yama.ptrace_scope=0"),
		     "dumpable");
	/* Nothing but a boot can lift that. */
	says(af_forbidden(4711, false, NULL, 3), WORDS("ptrace_scope is 3", "asyncflame dump CORE"),
	     "sudo");
}

static void it_forbids_it_itself(void **state)
{
	for (long scope = -1; scope <= 0; scope++)
		says(af_forbidden(4711, false, NULL, scope),
		     WORDS("not dumpable", "prctl", "CAP_SYS_PTRACE"), "ptrace_scope");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_another_users),
		cmocka_unit_test(the_kernel_is_told_to_forbid_it),
		cmocka_unit_test(it_forbids_it_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include "preload/say.h"

#include <stdio.h>
#include <unistd.h>

#include "record/session.h"

void af_say(const char *what, const char *why)
{
	char line[AF_PATH_MAX + 256];
	int n = snprintf(line, sizeof(line), "asyncflame: %s: %s\n", what, why);
	if (n > 0)
		(void)!write(STDERR_FILENO, line,
			     (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* SPDX-License-Identifier: MIT */
/* Putting texts together without libc. Every text ends with NUL; returned is where that is. */
#ifndef AF_RECORD_TEXT_H
#define AF_RECORD_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* At most up to `end`, which is behind the buffer. */
static inline char *af_put_text(char *to, const char *end, const char *text)
{
	while (*text && to + 1 < end)
		*to++ = *text++;
	*to = '\0';
	return to;
}

static inline char *af_put_number(char *to, const char *end, int64_t number)
{
	char digits[20];
	int n = 0;
	if (number < 0) {
		to = af_put_text(to, end, "-");
		number = -number;
	}
	do
		digits[n++] = (char)('0' + number % 10);
	while (number /= 10);
	while (n && to + 1 < end)
		*to++ = digits[--n];
	*to = '\0';
	return to;
}

static inline bool af_begins_with(const char *text, const char *with)
{
	while (*with)
		if (*text++ != *with++)
			return false;
	return true;
}

/* Behind the last slash. */
static inline const char *af_base_name(const char *path)
{
	const char *base = path;
	for (; *path; path++)
		if (*path == '/')
			base = path + 1;
	return base;
}

#endif

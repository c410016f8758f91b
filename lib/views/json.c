/* SPDX-License-Identifier: MIT */
#include "views/json.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the well-formed UTF-8 character at `s` (Unicode 15, table 3-7), 0 if none. */
static size_t character(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	size_t n = s[0] >= 0xc2 && s[0] <= 0xdf	  ? 2
		   : s[0] >= 0xe0 && s[0] <= 0xef ? 3
		   : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
						  : 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static size_t escape_one(char to[8], const unsigned char **at)
{
	static const char special[] = "\"\\\n\t\r\b\f";
	static const char letter[] = "\"\\ntrbf";
	const unsigned char *s = *at;
	size_t n = character(s);
	*at += n ? n : 1;
	const char *found = strchr(special, s[0]);
	if (!n) {
		memcpy(to, "\xef\xbf\xbd", 3);
		return 3;
	}
	if (found) {
		to[0] = '\\';
		to[1] = letter[found - special];
		return 2;
	}
	if (s[0] < 0x20 || s[0] == 0x7f)
		return (size_t)snprintf(to, 8, "\\u%04x", s[0]);
	memcpy(to, s, n);
	return n;
}

size_t af_json_escape(char *to, size_t size, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t used = 0;
	while (*at) {
		char one[8];
		size_t n = escape_one(one, &at);
		if (n >= size - used)
			break;
		memcpy(to + used, one, n);
		used += n;
	}
	to[used] = '\0';
	return used;
}

char *af_json_escaped(const char *text)
{
	size_t length = strlen(text);
	if (length > (SIZE_MAX - 1) / 6)
		return NULL;
	char *escaped = malloc(length * 6 + 1);
	if (escaped)
		af_json_escape(escaped, length * 6 + 1, text);
	return escaped;
}

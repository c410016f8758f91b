/* SPDX-License-Identifier: MIT */
/*
 * The filter of --filter and ASYNCFLAME_FILTER: patterns separated by commas.
 *
 *	app::*,!app::noise::*,*src/db.rs
 *
 * A pattern is compared with the qualified name of what is polled and with the source path of
 * its definition; `*` is any text, `?` one character, `[a-z]` and `[!a-z]` one of a set, `\`
 * takes the next character as it is. A pattern without `*`, `?` and `[` means the name itself
 * or what lies inside it (`app::shop` takes app::shop::checkout and app::shop<u8>), or a path
 * that ends with it as a whole component (`main.rs`, `src/main.rs`). `!` excludes. A poll is
 * wanted if a pattern includes it (or none includes anything) and none excludes it. Commas
 * inside `<...>`, `(...)` or `[...]` belong to the pattern, since generic arguments hold them.
 *
 * Works on the text as it is: no allocation, libc only, in the host before main.
 */
#include <string.h>

#include "futuremap/futuremap.h"

/* The end of the pattern at `p`: a comma outside brackets, or the end of the text. */
static const char *pattern_end(const char *p)
{
	int depth = 0;

	for (const char *start = p; *p; p++) {
		if (*p == '\\' && p[1]) {
			p++;
		} else if (*p == '>' && p > start && p[-1] == '-') {
			continue; /* -> of a function type */
		} else if (*p == '<' || *p == '(' || *p == '[') {
			depth++;
		} else if (*p == '>' || *p == ')' || *p == ']') {
			if (depth)
				depth--;
		} else if (*p == ',' && !depth) {
			break;
		}
	}
	return p;
}

/* Past the set that begins behind `[`, or NULL if it is not closed. `]` first is literal. */
static const char *set_end(const char *p, const char *end)
{
	if (p < end && (*p == '!' || *p == '^'))
		p++;
	if (p < end && *p == ']')
		p++;
	while (p < end && *p != ']')
		p += *p == '\\' && p + 1 < end ? 2 : 1;
	return p < end ? p + 1 : NULL;
}

static bool in_set(const char *p, const char *end, char c)
{
	bool negated = p < end && (*p == '!' || *p == '^'), found = false;
	const char *last = end - 1; /* the closing bracket */

	if (negated)
		p++;
	for (bool first = true; p < last || first; first = false) {
		if (p >= last)
			break;
		if (*p == '\\' && p + 1 < last)
			p++;
		unsigned char low = (unsigned char)*p++, high = low;
		if (p + 1 < last && *p == '-') {
			p++;
			if (*p == '\\' && p + 1 < last)
				p++;
			high = (unsigned char)*p++;
		}
		found |= (unsigned char)c >= low && (unsigned char)c <= high;
	}
	return found != negated;
}

/* Takes one element of the pattern off; whether `c` matches it. Not for `*`. */
static bool match_one(const char **pattern, const char *end, char c)
{
	const char *p = *pattern;

	if (*p == '[') {
		const char *after = set_end(p + 1, end);
		if (after) {
			*pattern = after;
			return in_set(p + 1, after, c);
		}
	}
	if (*p == '\\' && p + 1 < end)
		p++;
	else if (*p == '?') {
		*pattern = p + 1;
		return true;
	}
	*pattern = p + 1;
	return *p == c;
}

/* Glob match with one point of return, the last `*`: linear but for its backtracking. */
static bool glob(const char *p, const char *end, const char *text)
{
	const char *star = NULL, *retry = NULL;

	for (;;) {
		if (p < end && *p == '*') {
			star = ++p;
			retry = text;
			continue;
		}
		if (!*text && p == end)
			return true;
		if (*text && p < end) {
			const char *next = p;
			if (match_one(&next, end, *text)) {
				p = next;
				text++;
				continue;
			}
		}
		if (!star || !*retry)
			return false;
		p = star;
		text = ++retry;
	}
}

static bool has_wildcard(const char *p, const char *end)
{
	for (; p < end; p++)
		if (*p == '*' || *p == '?' || *p == '[' || *p == '\\')
			return true;
	return false;
}

static bool is_path_tail(const char *path, const char *tail, size_t length)
{
	size_t all = strlen(path);
	return length && length <= all && !memcmp(path + all - length, tail, length) &&
	       (length == all || path[all - length - 1] == '/');
}

static bool matches(const char *p, const char *end, const char *name, const char *file)
{
	size_t length = (size_t)(end - p);

	if (has_wildcard(p, end))
		return glob(p, end, name) || glob(p, end, file);
	if (!strncmp(name, p, length) && (!name[length] || name[length] == '<' ||
					  (name[length] == ':' && name[length + 1] == ':')))
		return true;
	return is_path_tail(file, p, length);
}

const char *af_filter_check(const char *pattern)
{
	const char *p = pattern;

	if (!p || !*p)
		return NULL;
	for (;; p++) {
		const char *end = pattern_end(p);
		if (p == end)
			return "an empty pattern between commas";
		if (*p == '!' && p + 1 == end)
			return "a `!` without a pattern";
		for (const char *q = p; q < end;) {
			if (*q == '\\') {
				if (q + 1 == end)
					return "a `\\` at the end";
				q += 2;
			} else if (*q == '[') {
				q = set_end(q + 1, end);
				if (!q)
					return "a `[` that is not closed";
			} else {
				q++;
			}
		}
		p = end;
		if (!*p)
			return NULL;
	}
}

bool af_filter_wants(const struct af_filter *filter, const char *name, const char *file,
		     bool generated)
{
	const char *p = filter->pattern;
	bool included = false, includes = false;

	if (filter->generated_only && !generated)
		return false;
	if (!p || !*p)
		return true;
	for (;; p++) {
		const char *end = pattern_end(p);
		if (*p == '!') {
			if (matches(p + 1, end, name, file))
				return false;
		} else {
			includes = true;
			included |= matches(p, end, name, file);
		}
		p = end;
		if (!*p)
			return included || !includes;
	}
}

/* SPDX-License-Identifier: MIT */
/* Text for JSON: escaped, and valid UTF-8 whatever the bytes were. */
#ifndef AF_VIEWS_JSON_H
#define AF_VIEWS_JSON_H

#include <stddef.h>

/*
 * Writes `text` as the inside of a JSON string (without the quotes) and a NUL to `to`,
 * at most `size` bytes, never ending inside an escape or a character. Bytes that are
 * no UTF-8 become U+FFFD. Returns the length without the NUL. `size` must be > 0.
 */
size_t af_json_escape(char *to, size_t size, const char *text);
/* The same, whole and on the heap; NULL when memory is short. */
char *af_json_escaped(const char *text);

#endif

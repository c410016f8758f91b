/* SPDX-License-Identifier: MIT */
/*
 * Text into a buffer of the caller's: always terminated, cut between characters with "..."
 * where it does not fit. Once full it takes no more, so that whoever writes much may go on and
 * need only look now and then. No allocation, no locale; any thread, also in a signal handler.
 */
#ifndef AF_INSPECT_LINE_H
#define AF_INSPECT_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AF_LINE_MIN 8 /* smaller buffers stay empty */

struct af_line {
	char *buffer;
	size_t size;
	size_t length; /* without the terminator */
	bool full;     /* something was cut off */
};

void af_line_init(struct af_line *line, char *buffer, size_t size);
void af_line_put(struct af_line *line, const char *text);
void af_line_append(struct af_line *line, const char *text, size_t length);
void af_line_unsigned(struct af_line *line, uint64_t number);
/* With at least `width` digits. */
void af_line_padded(struct af_line *line, uint64_t number, unsigned int width);
void af_line_hex(struct af_line *line, uint64_t number);
/* As Rust's {:?} prints a float; `single`: one of 32 bits. */
void af_line_float(struct af_line *line, double number, bool single);

enum af_quote {
	AF_QUOTE_STR,	/* "...": must be UTF-8 */
	AF_QUOTE_CHAR,	/* '...' */
	AF_QUOTE_OS,	/* "...": what is no UTF-8 as \xNN */
	AF_QUOTE_BYTES, /* b"..." */
	AF_QUOTE_C,	/* "...", of bytes too: a CStr */
};
/* Quoted and escaped as Rust's {:?}, unless it is AF_QUOTE_STR and no UTF-8: then false, and
   nothing is written. With `cut` the text may end in the middle of a character, which is left
   out. */
bool af_line_quote(struct af_line *line, enum af_quote how, const uint8_t *text, size_t length,
		   bool cut);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Numbers and texts as Rust's Debug writes them, into a bounded buffer.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/line.h"

#define ELLIPSIS "..."

void af_line_init(struct af_line *line, char *buffer, size_t size)
{
	*line = (struct af_line){.buffer = buffer, .size = size, .full = size < AF_LINE_MIN};
	if (size)
		buffer[0] = 0;
}

void af_line_append(struct af_line *line, const char *text, size_t length)
{
	if (line->full)
		return;
	size_t room = line->size - sizeof(ELLIPSIS) - line->length;
	if (length > room) {
		length = room;
		while (length && ((uint8_t)text[length] & 0xc0) == 0x80)
			length--;
		line->full = true;
	}
	memcpy(line->buffer + line->length, text, length);
	line->length += length;
	if (line->full) {
		memcpy(line->buffer + line->length, ELLIPSIS, sizeof(ELLIPSIS) - 1);
		line->length += sizeof(ELLIPSIS) - 1;
	}
	line->buffer[line->length] = 0;
}

void af_line_put(struct af_line *line, const char *text)
{
	af_line_append(line, text, strlen(text));
}

void af_line_padded(struct af_line *line, uint64_t number, unsigned int width)
{
	char digits[24];
	size_t at = sizeof(digits);

	for (unsigned int n = 0; n < width || number || !n; n++) {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
		if (at == 0)
			break;
	}
	af_line_append(line, digits + at, sizeof(digits) - at);
}

void af_line_unsigned(struct af_line *line, uint64_t number)
{
	af_line_padded(line, number, 1);
}

static void put_hex(struct af_line *line, uint64_t number)
{
	char digits[16];
	size_t at = sizeof(digits);

	do {
		digits[--at] = "0123456789abcdef"[number & 15];
		number >>= 4;
	} while (number);
	af_line_append(line, digits + at, sizeof(digits) - at);
}

void af_line_hex(struct af_line *line, uint64_t number)
{
	af_line_put(line, "0x");
	put_hex(line, number);
}

/* The fewest digits that mean this very number: "-1.2345e+02" in `text`. */
static void shortest(char *text, size_t size, double number, bool single)
{
	for (int precision = 0; precision < 17; precision++) {
		snprintf(text, size, "%.*e", precision, number);
		if (single ? strtof(text, NULL) == (float)number : strtod(text, NULL) == number)
			return;
	}
}

void af_line_float(struct af_line *line, double number, bool single)
{
	char text[40], digits[24];
	size_t n = 0;

	if (isnan(number)) {
		af_line_put(line, "NaN");
		return;
	}
	if (signbit(number))
		af_line_put(line, "-");
	number = fabs(number);
	if (isinf(number)) {
		af_line_put(line, "inf");
		return;
	}
	shortest(text, sizeof(text), number, single);
	for (const char *p = text; *p && *p != 'e'; p++)
		if (*p >= '0' && *p <= '9') /* but not the locale's point */
			digits[n++] = *p;
	while (n > 1 && digits[n - 1] == '0')
		n--;
	const char *exponent = strchr(text, 'e');
	int scale = exponent ? (int)strtol(exponent + 1, NULL, 10) : 0;

	if (number != 0 && (scale < -4 || scale >= 16)) {
		af_line_append(line, digits, 1);
		if (n > 1) {
			af_line_put(line, ".");
			af_line_append(line, digits + 1, n - 1);
		}
		af_line_put(line, scale < 0 ? "e-" : "e");
		af_line_unsigned(line, (uint64_t)(scale < 0 ? -scale : scale));
		return;
	}
	if (scale < 0)
		af_line_put(line, "0.");
	for (int i = scale + 1; i < 0; i++)
		af_line_put(line, "0");
	for (int i = 0; i < (int)n || i <= scale; i++) {
		if (i == scale + 1 && scale >= 0)
			af_line_put(line, ".");
		af_line_append(line, i < (int)n ? &digits[i] : "0", 1);
	}
	if (scale >= 0 && (int)n <= scale + 1)
		af_line_put(line, ".0");
}

/* The character that begins `text`: its length in bytes, 0 if that is no UTF-8. */
static size_t decode(const uint8_t *text, size_t length, uint32_t *character)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;

	if (n == 1) {
		*character = text[0];
		return 1;
	}
	if (text[0] < 0xc2 || text[0] > 0xf4 || n > length)
		return 0;
	uint32_t c = text[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (text[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*character = c;
	return n;
}

/* Whether the text ends in the middle of a character that is right so far. */
static bool is_cut_character(const uint8_t *text, size_t length)
{
	size_t n = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;

	if (text[0] < 0xc2 || text[0] > 0xf4 || length >= n)
		return false;
	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return false;
	return true;
}

/* What a terminal would not show as a letter of its own. Rust has tables; these are the
   ranges that matter. */
static bool is_printable(uint32_t c)
{
	return c >= 0x20 && (c < 0x7f || c >= 0xa0) && c != 0xad && !(c >= 0x300 && c < 0x370) &&
	       !(c >= 0x200b && c < 0x2010) && !(c >= 0x2028 && c < 0x202f) &&
	       !(c >= 0x2060 && c < 0x2070) && !(c >= 0xe000 && c < 0xf900) && c != 0xfeff &&
	       !(c >= 0xfff0 && c < 0xfffc) && (c & 0xfffe) != 0xfffe && c < 0xe0000;
}

/* Texts of the system that are bytes, whatever these mean. */
static bool is_bytes(enum af_quote how)
{
	return how == AF_QUOTE_BYTES || how == AF_QUOTE_C;
}

static void escape_byte(struct af_line *line, enum af_quote how, uint8_t byte)
{
	const char *digits = how == AF_QUOTE_OS ? "0123456789ABCDEF" : "0123456789abcdef";
	char text[4] = {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
	af_line_append(line, text, sizeof(text));
}

static void escape(struct af_line *line, enum af_quote how, const uint8_t *text, size_t n,
		   uint32_t character)
{
	switch (character) {
	case '\0':
		af_line_put(line, "\\0");
		return;
	case '\t':
		af_line_put(line, "\\t");
		return;
	case '\r':
		af_line_put(line, "\\r");
		return;
	case '\n':
		af_line_put(line, "\\n");
		return;
	case '\\':
		af_line_put(line, "\\\\");
		return;
	case '"':
	case '\'':
		if ((character == '\'') == (how == AF_QUOTE_CHAR))
			af_line_put(line, "\\");
		break;
	default:
		if (is_printable(character))
			break;
		if (is_bytes(how)) {
			escape_byte(line, how, (uint8_t)character);
			return;
		}
		af_line_put(line, "\\u{");
		put_hex(line, character);
		af_line_put(line, "}");
		return;
	}
	af_line_append(line, (const char *)text, n);
}

static bool is_text(const uint8_t *text, size_t length, bool cut)
{
	uint32_t character;

	for (size_t i = 0, n; i < length; i += n) {
		n = decode(text + i, length - i, &character);
		if (!n)
			return cut && is_cut_character(text + i, length - i);
	}
	return true;
}

bool af_line_quote(struct af_line *line, enum af_quote how, const uint8_t *text, size_t length,
		   bool cut)
{
	const char *quote = how == AF_QUOTE_CHAR ? "'" : "\"";

	if (how == AF_QUOTE_STR && !is_text(text, length, cut))
		return false;
	if (how == AF_QUOTE_BYTES)
		af_line_put(line, "b");
	af_line_put(line, quote);
	for (size_t i = 0, n; i < length && !line->full; i += n) {
		uint32_t character;
		n = is_bytes(how) && text[i] >= 0x80 ? 0 : decode(text + i, length - i, &character);
		if (n) {
			escape(line, how, text + i, n, character);
			continue;
		}
		if (cut && !is_bytes(how) && is_cut_character(text + i, length - i))
			break;
		escape_byte(line, how, text[i]);
		n = 1;
	}
	af_line_put(line, quote);
	return true;
}

/* SPDX-License-Identifier: MIT */
/*
 * A bounded reader of little-endian bytes. Reading past the end yields zero, moves to the end
 * and stays there, so that a loop over a cursor always terminates; `failed` tells afterwards.
 */
#ifndef AF_ANALYSIS_BYTES_H
#define AF_ANALYSIS_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct af_bytes {
	const uint8_t *pos, *end;
	bool failed;
};

static inline struct af_bytes af_bytes_make(const uint8_t *data, size_t size)
{
	return (struct af_bytes){data, data + size, false};
}

static inline size_t af_bytes_left(const struct af_bytes *b)
{
	return (size_t)(b->end - b->pos);
}

static inline void af_bytes_fail(struct af_bytes *b)
{
	b->pos = b->end;
	b->failed = true;
}

static inline void af_bytes_skip(struct af_bytes *b, uint64_t n)
{
	if (n > af_bytes_left(b))
		af_bytes_fail(b);
	else
		b->pos += n;
}

/* n of 1..8 bytes as a number. */
static inline uint64_t af_bytes_fixed(struct af_bytes *b, unsigned int n)
{
	uint64_t value = 0;
	if (n > af_bytes_left(b)) {
		af_bytes_fail(b);
		return 0;
	}
	/* Eight and a mask are cheaper than a copy of any size. */
	if (af_bytes_left(b) >= sizeof(value) && n) {
		memcpy(&value, b->pos, sizeof(value));
		value &= UINT64_MAX >> (64 - 8 * n);
	} else {
		memcpy(&value, b->pos, n);
	}
	b->pos += n;
	return value;
}

static inline uint8_t af_bytes_u8(struct af_bytes *b)
{
	return (uint8_t)af_bytes_fixed(b, 1);
}

static inline uint16_t af_bytes_u16(struct af_bytes *b)
{
	return (uint16_t)af_bytes_fixed(b, 2);
}

static inline uint32_t af_bytes_u32(struct af_bytes *b)
{
	return (uint32_t)af_bytes_fixed(b, 4);
}

static inline uint64_t af_bytes_u64(struct af_bytes *b)
{
	return af_bytes_fixed(b, 8);
}

static inline uint64_t af_bytes_uleb(struct af_bytes *b)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	if (__builtin_expect(b->pos < b->end && *b->pos < 0x80, 1))
		return *b->pos++;
	while (b->pos < b->end) {
		uint8_t byte = *b->pos++;
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
		shift += 7;
	}
	b->failed = true;
	return 0;
}

static inline int64_t af_bytes_sleb(struct af_bytes *b)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	while (b->pos < b->end) {
		uint8_t byte = *b->pos++;
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
		if (!(byte & 0x80)) {
			if (shift < 64 && (byte & 0x40))
				value |= ~UINT64_C(0) << shift;
			return (int64_t)value;
		}
	}
	b->failed = true;
	return 0;
}

/* A NUL terminated string inside the bytes, or NULL. */
static inline const char *af_bytes_string(struct af_bytes *b)
{
	const uint8_t *start = b->pos;
	const uint8_t *nul = memchr(start, 0, af_bytes_left(b));
	if (!nul) {
		af_bytes_fail(b);
		return NULL;
	}
	b->pos = nul + 1;
	return (const char *)start;
}

#endif

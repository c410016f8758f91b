/* SPDX-License-Identifier: MIT */
/*
 * What linkers and compilers put between functions: int3 (lld), or nops, of one byte or of
 * the many that Intel's optimization manual recommends (66... 2e 0f 1f /0).
 */
#include "patch/plan/site.h"

/* Length of the one at `bytes`, 0 if it is none. */
static size_t filler(const uint8_t *bytes, size_t n)
{
	size_t at = 0;

	if (bytes[0] == 0xcc)
		return 1;
	while (at < n && at < 12 && (bytes[at] == 0x66 || bytes[at] == 0x2e))
		at++;
	if (at < n && bytes[at] == 0x90)
		return at + 1;
	if (n - at < 3 || bytes[at] != 0x0f || bytes[at + 1] != 0x1f)
		return 0;
	uint8_t modrm = bytes[at + 2];
	if (modrm & 0x38)
		return 0;
	at += 3;
	if (modrm >> 6 != 3) {
		at += (modrm & 7) == 4; /* SIB */
		at += modrm >> 6 == 1 ? 1 : modrm >> 6 == 2 || (modrm & 7) == 5 ? 4 : 0;
	}
	return at <= n && at <= 15 ? at : 0;
}

size_t af_padding(const uint8_t *bytes, size_t n)
{
	size_t at = 0, length;

	while (at < n && (length = filler(bytes + at, n - at)))
		at += length;
	return at;
}

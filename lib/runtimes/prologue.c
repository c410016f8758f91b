/* SPDX-License-Identifier: MIT */
/*
 * What compilers write there (Intel SDM, volume 2: PUSH, SUB, MOV):
 *
 *	55			push rbp
 *	48 89 E5		mov rbp, rsp		(48 8B EC says the same)
 *	50+r, 41 50+r		push of whatever is saved, or to align
 *	48 83 EC ib		sub rsp, imm8		or none
 *	48 81 EC id		sub rsp, imm32
 *
 * What comes then must not go on with the frame: no other sub or and of rsp, no call that probes it.
 */
#include "runtimes/prologue.h"

#include <string.h>

#define FRAME_MAX 65536

static bool begins_with(const uint8_t **at, const uint8_t *end, const char *bytes, size_t n)
{
	if ((size_t)(end - *at) < n || memcmp(*at, bytes, n))
		return false;
	*at += n;
	return true;
}

/* Whether the instruction at hand changes rsp once more, or prepares to: mov of a number to eax or
   r11, lea r11, and rsp, sub rsp, or a store that touches the new page. */
static bool goes_on(const uint8_t *at, const uint8_t *end)
{
	static const char *const heads[] = {"\x48\x83\xe4", "\x48\x81\xe4", "\x48\x83\xec",
					    "\x48\x81\xec", "\x48\xc7\x04", "\x4c\x8d\x9c"};
	if (at < end && *at == 0xb8)
		return true;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (end - at >= 3 && !memcmp(at, heads[i], 3))
			return true;
	return false;
}

bool af_prologue_depth(const uint8_t *code, size_t size, uint64_t *below)
{
	const uint8_t *at = code, *end = code + size;
	int32_t room = 0;

	begins_with(&at, end, "\xf3\x0f\x1e\xfa", 4); /* endbr64 */
	if (!begins_with(&at, end, "\x55\x48\x89\xe5", 4) &&
	    !begins_with(&at, end, "\x55\x48\x8b\xec", 4))
		return false;
	*below = 0;
	for (;; *below += 8) {
		bool extended = at < end && *at == 0x41;
		if (end - at < 2 || (at[extended] & 0xf8) != 0x50)
			break;
		at += 1 + extended;
	}
	if (begins_with(&at, end, "\x48\x81\xec", 3)) {
		if (end - at < 4)
			return false;
		memcpy(&room, at, sizeof(room));
		at += sizeof(room);
	} else if (begins_with(&at, end, "\x48\x83\xec", 3)) {
		if (end - at < 1)
			return false;
		room = (int8_t)*at++;
	}
	if (room < 0 || room > FRAME_MAX || end - at < 3 || goes_on(at, end))
		return false;
	*below += (uint64_t)room;
	return true;
}

/* SPDX-License-Identifier: MIT */
#include "patch/plan/site.h"

static const char *const texts[AF_REFUSAL_COUNT] = {
	[AF_REFUSAL_NONE] = "hooked",
	[AF_REFUSAL_NO_BYTES] = "its code is not in the file",
	[AF_REFUSAL_TOO_SHORT] = "too short for a jump, and no padding near it",
	[AF_REFUSAL_UNDECODABLE] = "an instruction at its entry cannot be decoded",
	[AF_REFUSAL_JUMP_INTO_PATCH] = "its body jumps back to its entry",
	[AF_REFUSAL_CALL_INSIDE] = "a call at its entry cannot be moved",
	[AF_REFUSAL_INSTRUCTION] = "an instruction at its entry cannot be moved",
	[AF_REFUSAL_OUT_OF_REACH] = "an operand would be more than 2 GiB away",
	[AF_REFUSAL_STACK_ARGUMENTS] = "takes arguments on the stack",
	[AF_REFUSAL_OVERLAP] = "the patch would cover code that is reached otherwise",
	[AF_REFUSAL_FILTERED] = "excluded by the filter",
	[AF_REFUSAL_TEXT_DIFFERS] = "its code in memory is not what the file says",
	[AF_REFUSAL_NO_MEMORY] = "no memory near the program's code",
	[AF_REFUSAL_WRITE] = "the program's code could not be written",
	[AF_REFUSAL_TOO_MANY] = "more functions than a trace can name",
	[AF_REFUSAL_THREADS] = "other threads were running before the program's main",
	[AF_REFUSAL_ARCHITECTURE] = "no patcher for this processor",
};

const char *af_refusal_text(enum af_refusal refusal)
{
	if ((unsigned)refusal >= AF_REFUSAL_COUNT)
		return "unknown reason";
	return texts[refusal];
}

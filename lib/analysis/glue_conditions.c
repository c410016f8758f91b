/* SPDX-License-Identifier: MIT */
/*
 * Conditions of jumps, moves and sets, by the processor's flags (Intel's manual, volume 1, appendix B).
 */
#include "analysis/glue_machine.h"

int af_glue_condition_of(uint32_t id)
{
	/* clang-format off */
	static const uint32_t ids[16][3] = {
		{X86_INS_JO, X86_INS_SETO, X86_INS_CMOVO}, {X86_INS_JNO, X86_INS_SETNO, X86_INS_CMOVNO},
		{X86_INS_JB, X86_INS_SETB, X86_INS_CMOVB}, {X86_INS_JAE, X86_INS_SETAE, X86_INS_CMOVAE},
		{X86_INS_JE, X86_INS_SETE, X86_INS_CMOVE}, {X86_INS_JNE, X86_INS_SETNE, X86_INS_CMOVNE},
		{X86_INS_JBE, X86_INS_SETBE, X86_INS_CMOVBE}, {X86_INS_JA, X86_INS_SETA, X86_INS_CMOVA},
		{X86_INS_JS, X86_INS_SETS, X86_INS_CMOVS}, {X86_INS_JNS, X86_INS_SETNS, X86_INS_CMOVNS},
		{X86_INS_JP, X86_INS_SETP, X86_INS_CMOVP}, {X86_INS_JNP, X86_INS_SETNP, X86_INS_CMOVNP},
		{X86_INS_JL, X86_INS_SETL, X86_INS_CMOVL}, {X86_INS_JGE, X86_INS_SETGE, X86_INS_CMOVGE},
		{X86_INS_JLE, X86_INS_SETLE, X86_INS_CMOVLE}, {X86_INS_JG, X86_INS_SETG, X86_INS_CMOVG},
	};
	/* clang-format on */
	for (int i = 0; i < 16; i++)
		if (id == ids[i][0] || id == ids[i][1] || id == ids[i][2])
			return i;
	return -1;
}

int af_glue_condition(const struct af_glue_frame *frame, unsigned int condition)
{
	static const uint8_t needs[8] = {AF_G_OVERFLOW,
					 AF_G_CARRY,
					 AF_G_ZERO,
					 AF_G_CARRY | AF_G_ZERO,
					 AF_G_SIGN,
					 16, /* parity: never known */
					 AF_G_SIGN | AF_G_OVERFLOW,
					 AF_G_SIGN | AF_G_OVERFLOW | AF_G_ZERO};
	uint8_t need = needs[condition / 2], set = frame->flags;
	bool less = !(set & AF_G_SIGN) != !(set & AF_G_OVERFLOW), holds;

	if ((frame->flags_known & need) != need)
		return -1;
	if (condition / 2 == 6)
		holds = less;
	else if (condition / 2 == 7)
		holds = less || (set & AF_G_ZERO);
	else
		holds = set & need;
	return holds != (condition & 1);
}

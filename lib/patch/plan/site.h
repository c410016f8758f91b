/* SPDX-License-Identifier: MIT */
/*
 * Where and how a function can be patched: a pure function on bytes. Its result, the
 * patch site, travels in the future map; patch/apply copies it into the process.
 */
#ifndef AF_PATCH_SITE_H
#define AF_PATCH_SITE_H

#include <stddef.h>
#include <stdint.h>

#include "futuremap/futuremap.h"

/* Why a poll function is not hooked. Numbers are part of the map and raw trace formats:
   append only. af_refusal_text() has a line for each. */
enum af_refusal {
	AF_REFUSAL_NONE = 0,
	AF_REFUSAL_NO_BYTES,	    /* its bytes are not in the file */
	AF_REFUSAL_TOO_SHORT,	    /* under 5 bytes and no room behind it */
	AF_REFUSAL_UNDECODABLE,	    /* capstone does not know an instruction in the patch */
	AF_REFUSAL_JUMP_INTO_PATCH, /* the body branches back into the bytes to be replaced */
	AF_REFUSAL_CALL_INSIDE,	    /* a call whose return address would lie in the patch */
	AF_REFUSAL_INSTRUCTION,	    /* ret, int, loop, jrcxz, syscall, ... in the patch */
	AF_REFUSAL_OUT_OF_REACH,    /* a rip-relative operand more than 2 GiB away */
	AF_REFUSAL_STACK_ARGUMENTS, /* takes arguments on the stack */
	AF_REFUSAL_OVERLAP,	    /* the patch would overlap another function */
	AF_REFUSAL_FILTERED,	    /* the user's filter excludes it */
	AF_REFUSAL_TEXT_DIFFERS,    /* at run time: the text is not what the file says */
	AF_REFUSAL_NO_MEMORY,	    /* at run time: no room near the text */
	AF_REFUSAL_WRITE,	    /* at run time: the text could not be written */
	AF_REFUSAL_TOO_MANY,	    /* more functions than a record can name */
	AF_REFUSAL_THREADS,	    /* at run time: other threads were running already */
	AF_REFUSAL_ARCHITECTURE,    /* no patcher for this machine */
	AF_REFUSAL_COUNT
};

/* A short line for people: "too short (under 5 bytes)". Never NULL. */
const char *af_refusal_text(enum af_refusal refusal);

/* The plan for one function: the site without its place in the map's tables. */
struct af_site_plan {
	uint64_t address; /* first replaced byte */
	uint8_t displaced;
	uint8_t code_length;
	uint8_t n_fixups;
	uint8_t original[AFM_SITE_DISPLACED_MAX];
	uint8_t code[AFM_SITE_CODE_MAX];
	struct afm_fixup fixups[8];
};

struct af_planner;

/* A planner holds the disassembler's state; not thread safe, one per thread. NULL if the
   machine is not supported or memory is short. Destroy accepts NULL. */
struct af_planner *af_planner_create(uint32_t elf_machine);
void af_planner_destroy(struct af_planner *planner);

/*
 * Plans the patch of the function at link-time `address` whose `size` bytes of code lie
 * at `code`. `room` is the number of bytes from the entry to the next function's (or the
 * section's end): padding behind a short function may be used. Returns AF_REFUSAL_NONE
 * and fills *plan, or the reason. Reads nothing outside code[0..size).
 */
enum af_refusal af_planner_plan(struct af_planner *planner, uint64_t address, const uint8_t *code,
				size_t size, size_t room, struct af_site_plan *plan);

#endif

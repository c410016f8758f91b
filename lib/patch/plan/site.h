/* SPDX-License-Identifier: MIT */
/*
 * Where and how a function can be patched: a pure function on bytes. Its result, the
 * patch site, travels in the future map; patch/apply copies it into the process.
 */
#ifndef AF_PATCH_SITE_H
#define AF_PATCH_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "futuremap/futuremap.h"

/* Why a poll function is not hooked. Numbers are part of the map and raw trace formats:
   append only. af_refusal_text() has a line for each. */
enum af_refusal {
	AF_REFUSAL_NONE = 0,
	AF_REFUSAL_NO_BYTES,	    /* its bytes are not in the file */
	AF_REFUSAL_TOO_SHORT,	    /* no room for a jump, nor a hole that a short one reaches */
	AF_REFUSAL_UNDECODABLE,	    /* capstone does not know an instruction in the patch */
	AF_REFUSAL_JUMP_INTO_PATCH, /* the body branches back to the bytes to be replaced */
	AF_REFUSAL_CALL_INSIDE,	    /* a call whose return address would lie in the patch */
	AF_REFUSAL_INSTRUCTION,	    /* int, loop, jrcxz, syscall, ... in the patch */
	AF_REFUSAL_OUT_OF_REACH,    /* a rip-relative operand more than 2 GiB away */
	AF_REFUSAL_STACK_ARGUMENTS, /* takes arguments on the stack */
	AF_REFUSAL_OVERLAP,	    /* the patch would cover code that is reached otherwise */
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
	uint8_t patch;	  /* AFM_PATCH_* */
	uint8_t displaced;
	uint8_t code_length;
	uint8_t n_fixups;
	uint8_t original[AFM_SITE_ORIGINAL_MAX];
	uint8_t code[AFM_SITE_CODE_MAX];
	struct afm_fixup fixups[8];
};

/* The program's bytes at a link-time address, *available of them; NULL if there are none. */
struct af_plan_text {
	const uint8_t *(*bytes)(const void *arg, uint64_t address, uint64_t *available);
	const void *arg;
};

struct af_code_range {
	uint64_t address, size;
};

struct af_plan_function {
	uint64_t address;		   /* entry, link-time */
	uint64_t size;			   /* of the range that holds the entry */
	uint64_t next;			   /* where the next function or the section's end is */
	const struct af_code_range *parts; /* the other ranges of a split function */
	size_t n_parts;
};

struct af_planner;

/* A planner holds the disassembler's state; not thread safe, one per thread. NULL if the
   machine is not supported or memory is short. Destroy accepts NULL. */
struct af_planner *af_planner_create(uint32_t elf_machine);
void af_planner_destroy(struct af_planner *planner);

/*
 * Plans how the first `patch` bytes of a function (AFM_PATCH_*, behind an endbr64) are
 * replaced. Padding between the function's end and the next one may be used. Returns
 * AF_REFUSAL_NONE and fills *plan, or the reason. Where the hole of a short jump is, is the
 * caller's to say.
 */
enum af_refusal af_planner_plan(struct af_planner *planner, const struct af_plan_text *text,
				const struct af_plan_function *function, unsigned patch,
				struct af_site_plan *plan);

/* Whether a patch of fewer bytes may do where one was refused for this reason. */
bool af_refusal_of_length(enum af_refusal refusal);

/* --- inside patch/plan --------------------------------------------------------------- */

/* How many of the n bytes, from the first, are whole instructions that only fill: int3, or
   nops of any length. */
size_t af_padding(const uint8_t *bytes, size_t n);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Expressions of unwind tables: what a frame's caller had in its registers.
 */
#ifndef AF_RUNTIMES_EXPRESSION_H
#define AF_RUNTIMES_EXPRESSION_H

#include <dwarf.h>
#include <elfutils/libdw.h>

#include "runtimes/unwind.h"

/* A frame in the making: what an expression may ask for. */
struct af_expression_frame {
	struct af_memory *memory;
	const struct af_frame *frame;
	bool has_cfa;
	uint32_t missing; /* bit n: register n was asked for and is not known */
};

/* A register of the frame; false, and noted as missing, where it is not known. */
bool af_expression_register(struct af_expression_frame *frame, uint64_t number, uint64_t *value);
/* The value of an expression; *is_value: it is the value itself, else where that lies. */
bool af_expression_value(struct af_expression_frame *frame, const Dwarf_Op *ops, size_t n,
			 uint64_t *result, bool *is_value);

#endif

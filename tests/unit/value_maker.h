/* SPDX-License-Identifier: MIT */
/*
 * The types of the tests of values and variables, in one map, and a heap.
 */
#ifndef AF_TESTS_VALUE_MAKER_H
#define AF_TESTS_VALUE_MAKER_H

#include "inspect/locals.h"
#include "map_maker.h"

#define HEAP UINT64_C(0x10000) /* where it lies */
#define HEAP_WORDS 1024

extern struct map_maker maker;
extern uint64_t heap[HEAP_WORDS];
extern uint32_t u8_type, usize_type, unit_type, bool_type, char_type, string_type, vec_u8, vec_unit,
	vec_vec, node_type, str_type, map_type, tree_type, option_type, instant_type, arc_type,
	coroutine_type, f64_type, hand_type, holder_type, sleep_type, function_type,
	kind_sleep_type;
extern const struct af_target *target;

/* Makes all of them. */
int set_up_values(void **state);

/* The value of `type` at `address` as text, until the next call. */
const char *show(uint32_t type, uint64_t address);
const char *show_with(uint32_t type, uint64_t address, const struct af_value_options *options);
/* Capacity, address, length: what a Vec or String holds. */
void put_vec(uint64_t *at, uint64_t capacity, uint64_t address, uint64_t length);

#endif

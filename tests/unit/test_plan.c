/* SPDX-License-Identifier: MIT */
/* What the planner sees around a function: its other ranges, its jump tables, padding. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "patch/plan/result.h"
#include "patch/plan/site.h"

#define ENTRY 0x1000
#define PART 0x1100
#define TABLE 0x1200

/* 0x300 bytes from ENTRY on. */
static uint8_t text[0x300];

static const uint8_t *bytes_at(const void *arg, uint64_t address, uint64_t *available)
{
	if (address - ENTRY >= sizeof(text))
		return NULL;
	*available = sizeof(text) - (address - ENTRY);
	return text + (address - ENTRY);
}

static void put(uint64_t address, const void *bytes, size_t n)
{
	memcpy(text + (address - ENTRY), bytes, n);
}

static enum af_refusal plan(uint64_t size, uint64_t next, size_t n_parts, unsigned patch)
{
	static const struct af_code_range parts[] = {{PART, 16}};
	struct af_plan_text view = {bytes_at, NULL};
	struct af_plan_function function = {ENTRY, size, next, parts, n_parts};
	struct af_planner *planner = af_planner_create(EM_X86_64);
	struct af_site_plan site;

	assert_non_null(planner);
	enum af_refusal refusal = af_planner_plan(planner, &view, &function, patch, &site);
	af_planner_destroy(planner);
	return refusal;
}

/* push rbx; mov rbx, rdi; test rsi, rsi; ret; then int3 */
static void usual(void)
{
	memset(text, 0xcc, sizeof(text));
	put(ENTRY, "\x53\x48\x89\xfb\x48\x85\xf6\xc3", 8);
}

/* jmp rel32 at PART */
static void part_jumps_to(uint64_t target)
{
	int32_t distance = (int32_t)(target - (PART + 5));
	put(PART, "\xe9", 1);
	put(PART + 1, &distance, 4);
	memset(text + (PART + 5 - ENTRY), 0x90, 11);
}

static void a_cold_part_may_go_back_behind_the_patch_only(void **state)
{
	usual();
	part_jumps_to(ENTRY + 7);
	assert_int_equal(plan(8, ENTRY + 16, 1, AFM_PATCH_NEAR), AF_REFUSAL_NONE);
	for (unsigned inside = 0; inside < 7; inside++) {
		part_jumps_to(ENTRY + inside);
		assert_int_equal(plan(8, ENTRY + 16, 1, AFM_PATCH_NEAR),
				 AF_REFUSAL_JUMP_INTO_PATCH);
		/* Another function's code at the same place does not count. */
		assert_int_equal(plan(8, ENTRY + 16, 0, AFM_PATCH_NEAR), AF_REFUSAL_NONE);
	}
}

static void a_jump_table_may_lead_back_behind_the_patch_only(void **state)
{
	/* lea rax, [rip + table]; movsxd rcx, [rax + rdi * 4]; add rcx, rax; jmp rcx */
	static const uint8_t dispatch[] = {0x48, 0x8d, 0x05, 0xf9, 0x01, 0,    0,    0x48,
					   0x63, 0x0c, 0xb8, 0x48, 0x01, 0xc1, 0xff, 0xe1};
	int32_t entries[] = {ENTRY + 14 - TABLE, ENTRY + 7 - TABLE, 0x10000};

	memset(text, 0xcc, sizeof(text));
	put(ENTRY, dispatch, sizeof(dispatch));
	put(TABLE, entries, sizeof(entries));
	assert_int_equal(plan(16, ENTRY + 16, 0, AFM_PATCH_NEAR), AF_REFUSAL_NONE);
	entries[1] = ENTRY - TABLE;
	put(TABLE, entries, sizeof(entries));
	assert_int_equal(plan(16, ENTRY + 16, 0, AFM_PATCH_NEAR), AF_REFUSAL_JUMP_INTO_PATCH);
	/* Behind the table's end nothing counts. */
	entries[0] = 0x10000;
	put(TABLE, entries, sizeof(entries));
	assert_int_equal(plan(16, ENTRY + 16, 0, AFM_PATCH_NEAR), AF_REFUSAL_NONE);
}

static void a_short_function_needs_padding(void **state)
{
	static const char *const fillers[] = {"\xcc\xcc\xcc\xcc\xcc", "\x90\x90\x90\x90\x90",
					      "\x66\x0f\x1f\x44\x00", "\x66\x90\x66\x90\x90"};
	memset(text, 0x50, sizeof(text));
	put(ENTRY, "\x31\xc0\xc3", 3);
	assert_int_equal(plan(3, ENTRY + 16, 0, AFM_PATCH_NEAR), AF_REFUSAL_TOO_SHORT);
	assert_int_equal(plan(3, ENTRY + 16, 0, AFM_PATCH_SHORT), AF_REFUSAL_NONE);
	for (size_t i = 0; i < sizeof(fillers) / sizeof(fillers[0]); i++) {
		put(ENTRY + 3, fillers[i], 5);
		assert_int_equal(plan(3, ENTRY + 16, 0, AFM_PATCH_NEAR), AF_REFUSAL_NONE);
		/* Another function begins where a near jump would end. */
		assert_int_equal(plan(3, ENTRY + 4, 0, AFM_PATCH_NEAR), AF_REFUSAL_TOO_SHORT);
	}
	/* Another instruction among it. */
	put(ENTRY + 3, "\xcc\x50\xcc\xcc", 4);
	assert_int_equal(plan(3, ENTRY + 16, 0, AFM_PATCH_NEAR), AF_REFUSAL_TOO_SHORT);
}

/* Where an int3 is written the byte behind it is displaced as well. */
static void an_int3_needs_two_bytes_of_its_own(void **state)
{
	memset(text, 0x50, sizeof(text));
	put(ENTRY, "\x31\xc0\xc3", 3);
	assert_int_equal(plan(3, ENTRY + 3, 0, AFM_TRAP_DISPLACED), AF_REFUSAL_NONE);
	put(ENTRY, "\xc3", 1);
	assert_int_equal(plan(1, ENTRY + 1, 0, AFM_TRAP_DISPLACED), AF_REFUSAL_TOO_SHORT);
	/* push rax; then a loop that begins at the second byte: pop rax; jmp */
	put(ENTRY, "\x50\x58\x50\xeb\xfc", 5);
	assert_int_equal(plan(5, ENTRY + 5, 0, AFM_TRAP_DISPLACED), AF_REFUSAL_JUMP_INTO_PATCH);
}

static bool returns(const char *code, size_t size)
{
	return af_plan_returns_value(EM_X86_64, 0x1000, (const uint8_t *)code, size);
}
#define RETURNS(code) returns(code, sizeof(code) - 1)

static void a_register_that_is_set_for_nothing_is_the_result(void **state)
{
	/* xor eax, eax; cmp rdx, rcx; setne al; ret */
	assert_true(RETURNS("\x31\xc0\x48\x39\xca\x0f\x95\xc0\xc3"));
	/* mov eax, 1; jmp 1f; int3; 1: pop rbx; ret */
	assert_true(RETURNS("\xb8\x01\0\0\0\xeb\x01\xcc\x5b\xc3"));
}

static void what_is_left_over_is_no_result(void **state)
{
	/* mov al, 3; mov [rbx + 64], al; pop rbx; ret: a coroutine's state */
	assert_false(RETURNS("\xb0\x03\x88\x43\x40\x5b\xc3"));
	/* push rax; pop rax; ret: to align the stack */
	assert_false(RETURNS("\x50\x58\xc3"));
	/* mov al, 1; xchg [rdi], al; ret */
	assert_false(RETURNS("\xb0\x01\x86\x07\xc3"));
	/* mov al, 1; je 1f; 1: ret: read there, perhaps */
	assert_false(RETURNS("\xb0\x01\x74\x00\xc3"));
	/* call; ret: of the one that was called, if of anybody */
	assert_false(RETURNS("\xe8\0\0\0\0\xc3"));
	/* mov eax, 1; jmp to itself, and beyond the end */
	assert_false(RETURNS("\xb8\x01\0\0\0\xeb\xfe"));
	assert_false(RETURNS("\xb8\x01\0\0\0\xeb\x7f"));
	assert_false(RETURNS(""));
	assert_false(RETURNS("\xb8\x01"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cold_part_may_go_back_behind_the_patch_only),
		cmocka_unit_test(a_jump_table_may_lead_back_behind_the_patch_only),
		cmocka_unit_test(a_short_function_needs_padding),
		cmocka_unit_test(an_int3_needs_two_bytes_of_its_own),
		cmocka_unit_test(a_register_that_is_set_for_nothing_is_the_result),
		cmocka_unit_test(what_is_left_over_is_no_result),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

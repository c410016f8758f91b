/* SPDX-License-Identifier: MIT */
/*
 * Walks that are known: they must end as the same walk ends that is taken anew. The walk here is of
 * random values: which one is read next, and where it ends, follows from a hash of all that were read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "record/parked_guard.h"
#include "record/parked_known.h"

#define WORDS 64
#define ROOT (UINT64_C(1) << 63)

static bool closed;

bool af_guard_enter(uint32_t place)
{
	return !closed;
}

struct result {
	uint32_t leaves[8];
	int n;
};

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 29;
}

/* From `words` on, and from where pointers behind them lead, which is within them. */
static struct result take(uint64_t root, uint32_t epoch, const uint64_t *words)
{
	struct af_trail trail;
	struct result result = {.n = 0};
	uint64_t hash = mix(root, epoch);
	const uint64_t *here = words;
	uint32_t base = 0;
	af_trail_begin(&trail, root, epoch, (uint64_t)words);
	for (int step = 0; step < 12; step++) {
		const uint64_t *from = here + hash % (WORDS / 2);
		uint64_t value = *from;
		if (hash >> 60 == 0) { /* a default: all but 2 */
			af_trail_value(&trail, base, (uint64_t)from, 8, 2, value == 2);
			value = value == 2;
		} else if (hash >> 60 < 4 && !base) {
			from = words + WORDS + step;
			base = af_trail_pointer(&trail, 0, (uint64_t)from, *from);
			here = (const uint64_t *)*from;
			value = 7;
		} else {
			af_trail_value(&trail, base, (uint64_t)from, 1, (uint8_t)value, true);
		}
		hash = mix(hash, value);
		if (hash % 5 == 0 && result.n < 8)
			result.leaves[result.n++] = (uint32_t)hash;
	}
	af_trail_end(&trail, result.leaves, (uint32_t)result.n);
	return result;
}

static struct result known(uint64_t root, uint32_t epoch, const uint64_t *words)
{
	bool inside = false;
	struct result result = {0};
	result.n = af_known_walk(root, epoch, (uint64_t)words, 0, true, &inside, result.leaves, 8);
	return result;
}

static void end_as_they_did(void **state)
{
	static uint64_t words[WORDS + 16];
	unsigned n_known = 0;
	for (unsigned i = 0; i < 20000; i++) {
		for (unsigned k = 0; k < WORDS; k++)
			words[k] = rand() % 16 ? 0 : (uint64_t)rand() % 4;
		for (unsigned k = WORDS; k < WORDS + 16; k++)
			words[k] = (uint64_t)(words + rand() % (WORDS / 2));
		uint64_t root = ROOT | (uint64_t)(rand() % 4) << 32;
		uint32_t epoch = 1 + (uint32_t)i / 10000;
		struct result before = known(root, epoch, words);
		struct result taken = take(root, epoch, words);
		if (before.n < 0)
			continue;
		n_known++;
		assert_int_equal(before.n, taken.n);
		assert_memory_equal(before.leaves, taken.leaves,
				    (size_t)taken.n * sizeof(taken.leaves[0]));
	}
	assert_true(n_known > 2000);
}

/* Of tasks that were walked in another process, or before a library came, nothing is known. */
static void end_with_their_epoch(void **state)
{
	static uint64_t words[WORDS + 16];
	for (unsigned k = WORDS; k < WORDS + 16; k++)
		words[k] = (uint64_t)words;
	struct result taken = take(ROOT | 5, 1, words);
	assert_int_equal(known(ROOT | 5, 1, words).n, taken.n);
	assert_int_equal(known(ROOT | 5, 2, words).n, -1);
	assert_int_equal(known(ROOT | 6, 1, words).n, -1);
	take(ROOT | 5, AF_KNOWN_EPOCHS, words);
	assert_int_equal(known(ROOT | 5, AF_KNOWN_EPOCHS, words).n, -1);
}

static void stop_where_they_may_not_follow(void **state)
{
	static uint64_t target = 1, pointer;
	struct af_trail trail;
	struct result seen;
	pointer = (uint64_t)&target;
	af_trail_begin(&trail, ROOT | 7, 1, (uint64_t)&pointer);
	uint32_t base = af_trail_pointer(&trail, 0, (uint64_t)&pointer, pointer);
	af_trail_value(&trail, base, pointer, 8, 1, true);
	af_trail_end(&trail, (uint32_t[]){9}, 1);
	seen = known(ROOT | 7, 1, &pointer);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.leaves[0], 9);
	target = 2;
	assert_int_equal(known(ROOT | 7, 1, &pointer).n, -1);
	target = 1;
	pointer = 8; /* a Box of nothing */
	assert_int_equal(known(ROOT | 7, 1, &pointer).n, -1);
	pointer = (uint64_t)&target;
	closed = true;
	assert_int_equal(known(ROOT | 7, 1, &pointer).n, -1);
	closed = false;
}

/* More branches than there is room for: the others are taken as ever. */
static void are_not_all_known(void **state)
{
	uint64_t word = 0;
	unsigned n_known = 0;
	for (int round = 0; round < 2; round++)
		for (word = 0; word < 5000; word++) {
			struct af_trail trail;
			struct result seen = known(ROOT | 8, 1, &word);
			n_known += seen.n == 1;
			assert_true(seen.n < 0 || (seen.n == 1 && seen.leaves[0] == word));
			af_trail_begin(&trail, ROOT | 8, 1, (uint64_t)&word);
			af_trail_value(&trail, 0, (uint64_t)&word, 8, word, true);
			af_trail_end(&trail, (uint32_t[]){(uint32_t)word}, 1);
		}
	assert_true(n_known > 100 && n_known < 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(end_as_they_did),
		cmocka_unit_test(end_with_their_epoch),
		cmocka_unit_test(stop_where_they_may_not_follow),
		cmocka_unit_test(are_not_all_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The map file: what is accepted, what is refused, and what a reader may rely on afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "futuremap/futuremap.h"

/* A map with one future, one poll, one site, one driver, two layouts. */
struct small_map {
	struct afm_header header;
	char strings[64];
	struct afm_type type;
	struct afm_variant variants[2];
	struct afm_field field;
	struct afm_future future;
	struct afm_poll poll;
	uint32_t poll_future, pad1;
	uint32_t future_poll, pad2;
	struct afm_site site;
	struct afm_fixup fixup;
	uint8_t code[16];
	struct afm_step step;
	uint32_t pad3;
	struct afm_step_case step_case;
	struct afm_step_way way;
	struct afm_vtable vtable;
	struct afm_park park;
	struct afm_stay stay;
	struct afm_waker waker;
	struct afm_driver driver;
	struct afm_place places[2];
	struct afm_layout layouts[2];
};

static void seal(struct small_map *m)
{
	m->header.checksum = af_futuremap_checksum((const char *)m + AFM_CHECKED_FROM,
						   sizeof(*m) - AFM_CHECKED_FROM);
}

static void make(struct small_map *m)
{
	static const char strings[] = "\0app::shop\0a.size\0b.size\0object";
#define TABLE(what, member, n) \
	m->header.what = (struct afm_table){offsetof(struct small_map, member), n}

	memset(m, 0, sizeof(*m));
	memcpy(m->header.magic, AFM_MAGIC, 8);
	m->header.version = AFM_VERSION;
	m->header.header_size = sizeof(m->header);
	m->header.file_size = sizeof(*m);
	m->header.build_id_size = 20;
	memset(m->header.build_id, 0xab, 20);
	m->header.verdict = AFM_FUTURES;
	memcpy(m->strings, strings, sizeof(strings));
	TABLE(strings, strings, 64);
	TABLE(types, type, 1);
	TABLE(fields, field, 1);
	TABLE(variants, variants, 2);
	TABLE(futures, future, 1);
	TABLE(polls, poll, 1);
	TABLE(poll_futures, poll_future, 1);
	TABLE(future_polls, future_poll, 1);
	TABLE(roots, poll, 0);
	TABLE(sites, site, 1);
	TABLE(fixups, fixup, 1);
	TABLE(code, code, 16);
	TABLE(steps, step, 1);
	TABLE(step_cases, step_case, 1);
	TABLE(step_ways, way, 1);
	TABLE(vtables, vtable, 1);
	TABLE(drivers, driver, 1);
	TABLE(places, places, 2);
	TABLE(parks, park, 1);
	TABLE(stays, stay, 1);
	TABLE(wakers, waker, 1);
	TABLE(layouts, layouts, 2);
	m->type = (struct afm_type){.name = 1,
				    .kind = AFM_T_STRUCT,
				    .n_fields = 1,
				    .n_variants = 2,
				    .target = AFM_NONE,
				    .template_arg = AFM_NONE};
	m->field = (struct afm_field){.name = 1, .type = AFM_NONE};
	m->variants[0].awaitee = m->variants[1].awaitee = AFM_NONE;
	m->future = (struct afm_future){.name = 1, .n_polls = 1};
	m->poll = (struct afm_poll){
		.address = 0x1000, .name = 1, .n_futures = 1, .root = AFM_NONE, .step = AFM_NONE};
	m->park = (struct afm_park){.address = 0x2000, .name = 1, .site = AFM_NONE};
	m->stay = (struct afm_stay){.address = 0x3000, .base = 7};
	m->site = (struct afm_site){
		.address = 0x1000, .code_length = 16, .displaced = 5, .patch = 5, .n_fixups = 1};
	m->fixup = (struct afm_fixup){.at = 12, .next = 16};
	m->vtable = (struct afm_vtable){.address = 0x2000, .step = AFM_NONE};
	m->step = (struct afm_step){.n_cases = 1};
	m->step_case = (struct afm_step_case){.n_ways = 1};
	m->driver = (struct afm_driver){.address = 0x3000, .size = 64, .name = 1, .n_places = 2};
	m->places[0] = (struct afm_place){.start = 0x3000, .end = 0x3010, .base = 7};
	m->places[1] = (struct afm_place){.start = 0x3008, .end = 0x3020, .base = AFM_B_CFA};
	m->layouts[0] = (struct afm_layout){.name = 11, .value = 1};
	m->layouts[1] = (struct afm_layout){.name = 18, .value = 2};
	seal(m);
}

static void accepts_a_good_map(void **state)
{
	struct small_map m;
	make(&m);
	assert_null(af_futuremap_check(&m, sizeof(m)));
}

static void finds_by_name_and_address(void **state)
{
	struct small_map m;
	struct af_futuremap map = {&m.header, sizeof(m)};
	uint64_t value;

	make(&m);
	assert_true(af_futuremap_layout(&map, "a.size", &value) && value == 1);
	assert_true(af_futuremap_layout(&map, "b.size", &value) && value == 2);
	assert_false(af_futuremap_layout(&map, "c.size", &value));
	assert_non_null(af_futuremap_vtable(&map, 0x2000));
	assert_null(af_futuremap_vtable(&map, 0x2001));
	assert_int_equal(af_futuremap_place(&map, 0x2fff, 0), AFM_NONE);
	assert_int_equal(af_futuremap_place(&map, 0x3008, 0), 0);
	assert_int_equal(af_futuremap_place(&map, 0x3008, 1), 1);
	assert_int_equal(af_futuremap_place(&map, 0x3008, 2), AFM_NONE);
	assert_int_equal(af_futuremap_place(&map, 0x3020, 0), AFM_NONE);
}

static void refuses_any_flipped_bit(void **state)
{
	struct small_map m;

	make(&m);
	for (size_t i = 0; i < sizeof(m) * 8; i++) {
		uint8_t *byte = (uint8_t *)&m + i / 8;
		*byte ^= 1u << i % 8;
		assert_non_null(af_futuremap_check(&m, sizeof(m)));
		*byte ^= 1u << i % 8;
	}
	assert_null(af_futuremap_check(&m, sizeof(m)));
}

static void refuses_truncated_files(void **state)
{
	struct small_map m;

	make(&m);
	for (size_t size = 0; size < sizeof(m); size++) {
		/* On the heap, so that reading past it is seen by sanitizers. */
		void *copy = malloc(size ? size : 1);
		assert_non_null(copy);
		memcpy(copy, &m, size);
		assert_non_null(af_futuremap_check(copy, size));
		free(copy);
	}
}

/* Indices that lead astray, under a checksum that agrees with them. */
static void refuses_wild_indices(void **state)
{
	struct small_map m;
	uint32_t *const wild[] = {
		&m.type.name,
		&m.type.first_field,
		&m.type.n_fields,
		&m.type.first_variant,
		&m.type.target,
		&m.type.future,
		&m.field.name,
		&m.field.type,
		&m.variants[1].awaitee,
		&m.variants[0].first_field,
		&m.future.type,
		&m.future.first_poll,
		&m.poll.name,
		&m.poll.first_future,
		&m.poll.site,
		&m.poll_future,
		&m.future_poll,
		&m.site.poll,
		&m.site.code,
		&m.site.first_fixup,
		&m.vtable.type,
		&m.waker.type,
		&m.poll.step,
		&m.park.name,
		&m.park.site,
		&m.stay.step,
		&m.layouts[0].name,
		&m.step.type,
		&m.step.first_case,
		&m.step.n_cases,
		&m.step_case.step,
		&m.step_case.first_way,
		&m.step_case.variant,
		&m.way.via,
		&m.way.next,
		&m.vtable.step,
		&m.driver.name,
		&m.driver.future,
		&m.driver.first_place,
		&m.driver.n_places,
		&m.places[1].driver,
	};

	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		for (uint32_t value = UINT32_MAX - 2; value; value = value > 1000 ? 1000 : 0) {
			make(&m);
			*wild[i] = value;
			seal(&m);
			assert_non_null(af_futuremap_check(&m, sizeof(m)));
		}
	}
	make(&m);
	m.fixup.at = 13;
	seal(&m);
	assert_non_null(af_futuremap_check(&m, sizeof(m)));
	m.fixup.at = 9, m.fixup.kind = AFM_FIXUP_ADDRESS;
	seal(&m);
	assert_non_null(af_futuremap_check(&m, sizeof(m)));
	/* A patch of 5 bytes displaces as many; one of 2 keeps what its hole must hold; one of 1, an
	   int3, displaces the byte behind it too. */
	static const uint8_t sizes[][2] = {{5, 4}, {2, 1}, {2, 16}, {5, 21},
					   {3, 5}, {0, 5}, {1, 1}};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		make(&m);
		m.site.patch = sizes[i][0], m.site.displaced = sizes[i][1];
		seal(&m);
		assert_non_null(af_futuremap_check(&m, sizeof(m)));
	}
}

/* Whichever of the tables it is. */
static void refuses_tables_outside_the_file(void **state)
{
	struct small_map m;
	struct afm_table *last = &m.header.layouts;

	for (struct afm_table *table = &m.header.strings; table <= last; table++) {
		make(&m);
		table->offset = UINT64_C(1) << 40; /* nothing is there */
		seal(&m);
		assert_non_null(af_futuremap_check(&m, sizeof(m)));
		make(&m);
		table->count = UINT64_C(1) << 32;
		seal(&m);
		assert_non_null(af_futuremap_check(&m, sizeof(m)));
	}
}

static void make_cache_dir(char path[64], mode_t mode)
{
	strcpy(path, "/tmp/af-test-XXXXXX");
	assert_non_null(mkdtemp(path));
	assert_int_equal(chmod(path, mode), 0);
	setenv("ASYNCFLAME_CACHE", path, 1);
}

static void remove_cache_dir(const char *path)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", path);
	assert_int_equal(system(command), 0);
}

static void cache_gives_back_what_was_stored(void **state)
{
	struct small_map m;
	struct af_futuremap map;
	char path[64], name[128], file[256];
	struct stat status;

	make(&m);
	make_cache_dir(path, 0700);
	assert_non_null(af_cache_load(&map, m.header.build_id, 20));
	assert_null(af_cache_store(&m, sizeof(m)));
	assert_null(af_cache_load(&map, m.header.build_id, 20));
	assert_int_equal(map.size, sizeof(m));
	assert_memory_equal(map.header, &m, sizeof(m));
	af_futuremap_close(&map);
	af_futuremap_close(&map);

	af_cache_name(name, sizeof(name), m.header.build_id, 20);
	snprintf(file, sizeof(file), "%s/%s", path, name);
	assert_int_equal(stat(file, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	/* Others could have written it: not used. */
	assert_int_equal(chmod(file, 0644), 0);
	assert_non_null(af_cache_load(&map, m.header.build_id, 20));
	/* Damaged: not used. */
	assert_int_equal(chmod(file, 0600), 0);
	assert_int_equal(truncate(file, 300), 0);
	assert_non_null(af_cache_load(&map, m.header.build_id, 20));
	remove_cache_dir(path);
}

static void cache_of_others_is_not_used(void **state)
{
	struct small_map m;
	char path[64];
	const char *why;

	make(&m);
	make_cache_dir(path, 0755);
	assert_int_equal(af_cache_open_dir(true, &why), -1);
	assert_non_null(why);
	assert_non_null(af_cache_store(&m, sizeof(m)));
	remove_cache_dir(path);
}

static void cache_drops_the_oldest(void **state)
{
	struct small_map m;
	struct af_futuremap map;
	char path[64], max[32];

	make(&m);
	make_cache_dir(path, 0700);
	snprintf(max, sizeof(max), "%zu", sizeof(m) * 2);
	setenv("ASYNCFLAME_CACHE_MAX", max, 1);
	for (int i = 1; i <= 3; i++) {
		m.header.build_id[0] = (uint8_t)i;
		seal(&m);
		assert_null(af_cache_store(&m, sizeof(m)));
		usleep(20000);
	}
	for (int i = 1; i <= 3; i++) {
		m.header.build_id[0] = (uint8_t)i;
		if (i == 1) {
			assert_non_null(af_cache_load(&map, m.header.build_id, 20));
			continue;
		}
		assert_null(af_cache_load(&map, m.header.build_id, 20));
		af_futuremap_close(&map);
	}
	unsetenv("ASYNCFLAME_CACHE_MAX");
	remove_cache_dir(path);
}

static void cache_name_is_the_build_id(void **state)
{
	const uint8_t id[16] = {0x01, 0xfe};
	char name[128];

	af_cache_name(name, sizeof(name), id, 2);
	assert_string_equal(name, "01fe.afmap");
	af_cache_name(name, sizeof(name), id, 0);
	assert_string_equal(name, "hash-01fe0000000000000000000000000000.afmap");
}

static bool wants(const char *pattern, const char *name, const char *file)
{
	struct af_filter filter = {.pattern = pattern};
	assert_null(af_filter_check(pattern));
	return af_filter_wants(&filter, name, file, true);
}

static void filter_takes_what_it_says(void **state)
{
	const char *file = "/home/me/app/src/db.rs";

	assert_true(wants(NULL, "a::b", file));
	assert_true(wants("", "a::b", file));
	assert_true(wants("a::b", "a::b", file));
	assert_true(wants("a::b", "a::b::c", file));
	assert_true(wants("a::b", "a::b<u8>", file));
	assert_false(wants("a::b", "a::bc", file));
	assert_false(wants("b", "a::b", file));
	assert_true(wants("*b", "a::b", file));
	assert_true(wants("a::?", "a::b", file));
	assert_false(wants("a::?", "a::bc", file));
	assert_true(wants("a::[a-c]", "a::b", file));
	assert_false(wants("a::[!a-c]", "a::b", file));
	assert_true(wants("a::[]x]", "a::]", file));
	assert_true(wants("*src/db.rs", "x", file));
	assert_true(wants("db.rs", "x", file));
	assert_true(wants("src/db.rs", "x", file));
	assert_false(wants("b.rs", "x", file));
	assert_true(wants("x,a::*", "a::b", file));
	assert_false(wants("a::*,!a::b", "a::b", file));
	assert_true(wants("a::*,!a::b", "a::c", file));
	assert_false(wants("!a::*", "a::b", file));
	assert_true(wants("!a::*", "b::b", file));
	assert_true(wants("f<u8, u16>,x", "f<u8, u16>", file));
	assert_true(wants("f<fn(u8) -> u8, u16>", "f<fn(u8) -> u8, u16>", file));
	assert_true(wants("*{async_block#0}*", "m::{async_block#0}", file));
	assert_true(wants("a\\*b", "a*b", file));
	assert_false(wants("a\\*b", "axb", file));
	assert_true(wants("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaab", file));
	assert_false(wants("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaac", file));
}

static void filter_takes_generated_only(void **state)
{
	struct af_filter filter = {.generated_only = true};
	assert_true(af_filter_wants(&filter, "a", "", true));
	assert_false(af_filter_wants(&filter, "a", "", false));
}

static void filter_refuses_nonsense(void **state)
{
	static const char *const bad[] = {",",	 "a,", ",a",  "a,,b", "!",
					  "a,!", "[",  "a[b", "![a",  "a\\"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!af_filter_check(bad[i]))
			fail_msg("taken for well formed: %s", bad[i]);
}

/* Whatever the text, matching ends and stays inside it. */
static void filter_survives_anything(void **state)
{
	static const char letters[] = "a*?[]!-\\,<>:";
	uint32_t random = 1;

	for (int i = 0; i < 200000; i++) {
		char *pattern = malloc(9);
		assert_non_null(pattern);
		for (int k = 0; k < 8; k++) {
			random = random * 1664525 + 1013904223;
			pattern[k] = letters[(random >> 16) % (sizeof(letters) - 1)];
		}
		pattern[8] = '\0';
		struct af_filter filter = {.pattern = pattern};
		af_filter_check(pattern);
		af_filter_wants(&filter, "a::[a]", "a/b.rs", true);
		free(pattern);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_a_good_map),
		cmocka_unit_test(finds_by_name_and_address),
		cmocka_unit_test(refuses_any_flipped_bit),
		cmocka_unit_test(refuses_truncated_files),
		cmocka_unit_test(refuses_wild_indices),
		cmocka_unit_test(refuses_tables_outside_the_file),
		cmocka_unit_test(cache_gives_back_what_was_stored),
		cmocka_unit_test(cache_of_others_is_not_used),
		cmocka_unit_test(cache_drops_the_oldest),
		cmocka_unit_test(cache_name_is_the_build_id),
		cmocka_unit_test(filter_takes_what_it_says),
		cmocka_unit_test(filter_takes_generated_only),
		cmocka_unit_test(filter_refuses_nonsense),
		cmocka_unit_test(filter_survives_anything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

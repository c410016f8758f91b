/* SPDX-License-Identifier: MIT */
/* Writes small raw traces into the directory that is its argument. */
#include <stdio.h>

#include "../unit/raw_writer.h"
#include "futuremap/futuremap.h"

static const struct raw_poll polls[] = {
	{"app::outer", "app::outer::{async_fn_env#0}", "main.rs", 1, AFM_P_ASYNC_BODY, -1, 3},
	{"app::inner", "app::inner::{async_fn_env#0}", "main.rs", 5, AFM_P_ASYNC_BODY, -1, 7},
	{"app::outer", "", "", 0, AFM_P_TASK_ROOT, 0, 0},
	{"app::Hand", "app::Hand", "hand.rs", 5, AFM_P_HAND, -1, 0},
};

int main(int argc, char **argv)
{
	for (uint32_t seed = 0; argc > 1 && seed < 3; seed++) {
		struct raw raw;
		struct afr_record records[5 * AFR_KIND_COUNT];
		char path[4096];
		uint32_t n = 0;

		raw_begin(&raw, seed ? AFR_TICKS_TSC : AFR_TICKS_MONOTONIC);
		raw_process(&raw, "/app");
		if (seed < 2)
			raw_object(&raw, 0, polls, sizeof(polls) / sizeof(polls[0]));
		/* Every kind of record inside two polls, once per thread. */
		for (uint32_t thread = 0; thread < 2; thread++, n = 0) {
			uint64_t ticks = 2000 + thread * 7;
			for (uint32_t kind = 1; kind < AFR_KIND_COUNT; kind++) {
				records[n++] = raw_record(AFR_ENTER_TASK, ticks += 10, 2, 3);
				records[n++] = raw_record(AFR_ENTER, ticks += 10, 0, 0x1040);
				records[n++] = raw_record(kind, ticks += 10, kind & 3, 3);
				records[n++] = raw_record(AFR_EXIT_POLL, ticks += 10, 0, 1);
				records[n++] = raw_record(AFR_EXIT_STATE, ticks += 10, 0, 3);
			}
			raw_chunk(&raw, thread, 0, 100 + thread, "worker", records, n);
		}
		const struct afr_look look = {
			.begin = 8000, .end = 8500, .n_tasks = 2, .n_levels = 3, .whole = 1};
		const struct {
			struct afr_look_task tasks[2];
			struct afr_look_level levels[3];
		} body = {
			{{.id = 3,
			  .n_levels = 2,
			  .state = AFR_LOOK_PARKED,
			  .found_by = AFR_BY_HEADER},
			 {.address = 0x1040,
			  .first_level = 2,
			  .n_levels = 1,
			  .state = AFR_LOOK_PARKED,
			  .found_by = AFR_BY_STACK}},
			{{.parent = AFM_NONE, .variant = 3, .state = AFR_LEVEL_SUSPENDED},
			 {.type = 1, .variant = 7, .state = AFR_LEVEL_SUSPENDED},
			 {.address = 0x1040, .parent = AFM_NONE, .type = 3, .variant = AFM_NONE}},
		};
		raw_block(&raw, AFR_B_LOOK, &look, sizeof(look), &body, sizeof(body));
		if (seed == 2)
			raw_block(&raw, AFR_B_STOPPED, &(struct afr_stopped){8200},
				  sizeof(struct afr_stopped), NULL, 0);
		if (seed != 1)
			raw_end(&raw, 9000, 5000009000);
		snprintf(path, sizeof(path), "%s/trace-%u", argv[1], seed);
		raw_save(&raw, path, raw.size);
		raw_free(&raw);
	}
	return 0;
}

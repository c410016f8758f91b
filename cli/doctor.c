/* SPDX-License-Identifier: MIT */
/*
 * asyncflame doctor OBJECT: what would be traced, what not, why, and what mends it.
 */
#include <argp.h>
#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "analysis/analysis.h"
#include "cli.h"
#include "libraries.h"
#include "object.h"
#include "patch/plan/site.h"
#include "record/session.h"
#include "views/map.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
	if (key != ARGP_KEY_INIT)
		return ARGP_ERR_UNKNOWN;
	state->child_inputs[0] = state->input;
	return 0;
}

/* What hinders, before any debug info is read; NULL if nothing does. */
static const char *hindrance(const struct af_object_facts *facts, const char **mend)
{
	*mend = NULL;
	if (!facts->elf)
		return "is not an ELF file";
	if (facts->elf_class != ELFCLASS64 || facts->machine != EM_X86_64) {
		*mend = "build it for x86_64";
		return "is for another machine than x86_64";
	}
	if (facts->type == ET_EXEC || facts->static_pie) {
		if (!facts->has_interp) {
			*mend = "build without -C target-feature=+crt-static";
			return "is a static program: no library can be loaded into it";
		}
	}
	return NULL;
}

static const char *verdict_mend(uint32_t verdict, const char **problem)
{
	switch (verdict) {
	case AFM_NO_ASYNC:
		*problem = "holds no async Rust";
		return NULL;
	case AFM_STRIPPED:
		*problem = "holds async Rust but no debug info";
		return "CARGO_PROFILE_RELEASE_DEBUG=full CARGO_PROFILE_RELEASE_STRIP=none "
		       "cargo build --release";
	case AFM_LINE_TABLES_ONLY:
		*problem = "holds async Rust but its debug info has lines only, no types";
		return "CARGO_PROFILE_RELEASE_DEBUG=full cargo build --release";
	default:
		*problem = NULL;
		return NULL;
	}
}

static void print_futures(const struct object *object)
{
	const struct af_futuremap *map = &object->map;
	uint64_t n[3] = {0}, all = 0; /* out of line, inlined only, not emitted */

	for (uint32_t i = 0; i < map->header->futures.count; i++) {
		const struct afm_future *future = af_futuremap_futures(map, i);
		if (!af_map_wants_future(map, &object->filter, future))
			continue;
		n[future->flags & AFM_UF_OUT_OF_LINE ? 0
		  : future->flags & AFM_UF_INLINED   ? 1
						     : 2]++;
		all++;
	}
	printf("futures: %" PRIu64 "\n", all);
	printf("  %6" PRIu64 "  have a poll function of their own: every poll is seen\n", n[0]);
	printf("  %6" PRIu64 "  are polled in inlined code only: seen through the task's state\n",
	       n[1]);
	printf("  %6" PRIu64 "  are not polled by any code that was kept\n", n[2]);
}

static void print_polls(const struct object *object)
{
	const struct af_futuremap *map = &object->map;
	uint64_t refused[AF_REFUSAL_COUNT] = {0}, all = 0, roots = 0, hooked = 0, shared = 0;
	uint64_t traps = 0;

	for (uint32_t i = 0; i < map->header->polls.count; i++) {
		const struct afm_poll *poll = af_futuremap_polls(map, i);
		if (!af_map_wants_poll(map, &object->filter, poll))
			continue;
		all++;
		roots += poll->root != AFM_NONE;
		shared += (poll->flags & AFM_PF_AMBIGUOUS) != 0;
		bool trap = af_futuremap_is_trap(map, poll);
		traps += trap;
		if (poll->site != AFM_NONE && !trap)
			hooked++;
		else
			refused[poll->refusal < AF_REFUSAL_COUNT ? poll->refusal : 0]++;
	}
	printf("poll functions: %" PRIu64 ", %" PRIu64 " of them entries of tasks\n", all, roots);
	printf("  %6" PRIu64 "  can be hooked\n", hooked);
	for (int i = 0; i < AF_REFUSAL_COUNT; i++)
		if (refused[i])
			printf("  %6" PRIu64 "  cannot: %s\n", refused[i], af_refusal_text(i));
	if (traps)
		printf("  %6" PRIu64 "  of these can with run --int3, by a breakpoint\n", traps);
	if (shared)
		printf("  %6" PRIu64 "  are shared by several functions: named after one of them\n",
		       shared);
}

static bool has_stay(const struct af_futuremap *map, const struct afm_driver *driver)
{
	for (uint32_t i = 0; i < map->header->stays.count; i++) {
		uint64_t address = af_futuremap_stays(map, i)->address;
		if (address > driver->address && address <= driver->address + driver->size)
			return true;
	}
	return false;
}

/* What threads drive themselves: by polls that are functions, or by calls between those that are not. */
static void print_driven(const struct object *object)
{
	const struct af_futuremap *map = &object->map;
	uint64_t all = 0, polled = 0, between = 0;

	for (uint32_t i = 0; i < map->header->drivers.count; i++) {
		const struct afm_driver *driver = af_futuremap_drivers(map, i);
		const struct afm_future *future = af_futuremap_futures(map, driver->future);
		if (!strstr(af_futuremap_string(map, driver->name), "block_on") ||
		    !af_map_wants_future(map, &object->filter, future))
			continue;
		all++;
		if (future->n_polls)
			polled++;
		else if (has_stay(map, driver))
			between++;
	}
	if (!all)
		return;
	printf("futures that block_on drives: %" PRIu64 "\n", all);
	printf("  %6" PRIu64 "  are polled by functions of their own\n", polled);
	printf("  %6" PRIu64 "  are polled in inlined code: seen while their thread waits\n",
	       between);
	if (all > polled + between)
		printf("  %6" PRIu64
		       "  are seen only where they stand now and then, and at the end\n",
		       all - polled - between);
}

static int report(const struct object *object)
{
	const char *problem, *mend = verdict_mend(object->map.header->verdict, &problem);

	if (problem) {
		printf("%s: %s\n", object->path, problem);
		if (mend)
			printf("mend: %s\n", mend);
		return 1;
	}
	printf("%s: can be traced\n", object->path);
	print_futures(object);
	print_polls(object);
	print_driven(object);
	return 0;
}

struct libraries {
	const struct object *program;
	unsigned listed, traced;
};

static void print_library(struct libraries *libraries, const struct object *library)
{
	const char *problem, *mend = verdict_mend(library->map.header->verdict, &problem);
	if (library->map.header->verdict == AFM_NO_ASYNC)
		return;
	if (!libraries->listed++)
		printf("libraries that it loads at its start:\n");
	if (problem) {
		printf("  %s: %s\n", library->path, problem);
		printf("    mend: %s\n", mend);
		return;
	}
	libraries->traced++;
	printf("  %s: can be traced: %" PRIu64 " futures, %" PRIu64 " poll functions\n",
	       library->path, library->map.header->futures.count, library->map.header->polls.count);
}

static void look_at_library(const char *path, void *data)
{
	struct libraries *libraries = data;
	struct object library = {.path = path, .filter = libraries->program->filter};
	struct af_object_facts facts;
	struct af_error *error = af_analysis_facts(path, &facts);
	if (!error && (facts.rust || facts.async_sign))
		error = object_read(&library);
	if (!error && library.data)
		print_library(libraries, &library);
	object_deinit(&library);
	af_error_destroy(error); /* what cannot be read is not traced either */
}

/* Whether something of a program can be traced: itself, or libraries that it loads. */
static int report_all(const struct object *object)
{
	struct libraries libraries = {.program = object};
	int status = report(object);
	libraries_of(object->path, look_at_library, &libraries);
	if (libraries.traced >= AF_OBJECTS)
		printf("but of these %u libraries only %u: there is no room for more\n",
		       libraries.traced, AF_OBJECTS - 1);
	return libraries.traced ? 0 : status;
}

int cmd_doctor(int argc, char **argv)
{
	static const struct argp argp = {
		NULL,
		parse,
		NULL,
		"Says what of OBJECT would be traced, what not, why, and what mends it. "
		"So with the libraries that it loads at its start; those that it loads later are "
		"objects of their own. Exit status 0: can be traced, 1: cannot.",
		object_arguments,
		NULL,
		NULL,
	};
	struct af_object_facts facts;
	struct object object = {0};
	const char *mend;
	int status = 1;

	argp_err_exit_status = CLI_FAILED;
	argv[0] = (char[]){"asyncflame doctor"};
	argp_parse(&argp, argc, argv, 0, NULL, &object);
	struct af_error *error = af_analysis_facts(object.path, &facts);
	if (error)
		return cli_fail(CLI_FAILED, error);
	const char *why = hindrance(&facts, &mend);
	if (why) {
		printf("%s: %s\n", object.path, why);
		if (mend)
			printf("mend: %s\n", mend);
		return status;
	}
	error = object_read(&object);
	if (!error)
		status = report_all(&object);
	object_deinit(&object);
	return error ? cli_fail(CLI_FAILED, error) : status;
}

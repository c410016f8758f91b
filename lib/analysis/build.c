/* SPDX-License-Identifier: MIT */
/*
 * An object becomes a map: open it, walk its debug info once (scan.c), then look closer at what
 * was found, in this order:
 *
 *	polls		every function that polls, with the type that it polls
 *	parks		functions by which threads wait
 *	futures		every coroutine, polled or not
 *	awaits		where the user wrote them
 *	vtables		of `dyn Future` and of traits that are not the standard library's
 *	wakers		that are an Arc of what may be a task
 *	executors	types whose layout is wanted
 *	types		the fields of all types so far, and of what these hold
 *	declared	polls of types that are known by name only, and what is awaited
 *	drivers		functions that poll a future in their own frame
 *	completion	states, await points, places; polls by address
 *	drops		what each state of a coroutine drops
 *	steps		the ways down to what is awaited
 *	sites		how each poll is patched
 *
 * What is asked of the code goes on beside that (beside.c).
 */
#include <stdio.h>
#include <stdlib.h>

#include "analysis/analysis.h"
#include "analysis/beside.h"
#include "analysis/build.h"
#include "analysis/facts.h"

/* What one file inlined of another's. */
static void share_inlined(struct af_builder *b)
{
	for (size_t i = 0; i < b->info->files.count; i++)
		for (size_t k = 0; k < b->indexes[i].inlined_elsewhere.count; k++) {
			af_die_id id = b->indexes[i].inlined_elsewhere.items[k];
			af_bits_set(b->indexes[id >> 32].inlined, (uint32_t)id);
		}
}

static struct af_error *scan(struct af_builder *b, const struct af_analysis_options *options)
{
	size_t n = b->info->files.count;

	b->indexes = calloc(n ? n : 1, sizeof(*b->indexes));
	if (!b->indexes)
		return af_error_create("out of memory");
	for (size_t i = 0; i < n; i++) {
		struct af_scan_progress progress = {
			.report = options ? options->progress : NULL,
			.arg = options ? options->progress_arg : NULL,
			.from = 0.8 * (double)i / (double)n,
			.to = 0.8 * (double)(i + 1) / (double)n,
		};
		struct af_error *error =
			af_scan(b->info->files.items[i], &progress, &b->indexes[i]);
		if (error)
			return error;
	}
	share_inlined(b);
	return NULL;
}

/* Functions of coroutines without parameters: line tables only (debug = 1). */
static bool has_undescribed_bodies(const struct af_builder *b)
{
	for (size_t i = 0; i < b->info->files.count; i++)
		for (size_t k = 0; k < b->indexes[i].functions.count; k++)
			if (b->indexes[i].functions.items[k].what & AF_FOUND_ASYNC)
				return true;
	return false;
}

static void judge(struct af_builder *b)
{
	if (b->polls.count)
		b->verdict = AFM_FUTURES;
	else if (has_undescribed_bodies(b))
		b->verdict = AFM_LINE_TABLES_ONLY;
	else if (af_object_async_sign(b->object))
		b->verdict = AFM_STRIPPED;
	else
		b->verdict = AFM_NO_ASYNC;
}

static void second_pass(struct af_builder *b)
{
	af_polls_collect(b);
	if (!b->polls.count)
		return;
	af_parks_collect(b);
	af_beside_start(b);
	af_futures_collect(b);
	af_awaits_collect(b);
	af_vtables_collect(b);
	af_wakers_collect(b);
	af_executors_intern(b);
	af_types_detail(b);
	af_declared_complete(b);
	af_drivers_collect(b);
	af_types_detail(b);
	af_polls_complete(b);
	if (b->failed)
		return;
	af_bodies_find(b);
	af_futures_complete(b);
	af_drops_complete(b);
	af_reach_mark(b);
	af_wakers_complete(b);
	af_executors_complete(b);
	af_steps_make(b);
	af_beside_sites(b);
}

struct af_error *af_analysis_build(const char *path, const struct af_analysis_options *options,
				   void **data, size_t *size)
{
	struct af_object object;
	struct af_debuginfo info;
	struct af_builder b = {.object = &object, .info = &info};

	*data = NULL;
	*size = 0;
	struct af_error *error = af_object_open(&object, path);
	if (error)
		return error;
	af_debuginfo_init(&info);
	if (!object.main.elf)
		error = af_error_create("%s: not an ELF file", path);
	else if (object.elf_class != ELFCLASS64 || !object.little_endian)
		error = af_error_create("%s: not a 64-bit little-endian object", path);
	if (!error)
		error = af_object_debuginfo(&object, &info);
	if (!error)
		error = scan(&b, options);
	if (!error) {
		second_pass(&b);
		af_beside_stop(&b);
		judge(&b);
		error = af_builder_write(&b, path, data, size);
		if (options && options->progress)
			options->progress(options->progress_arg, 1);
	}
	af_builder_deinit(&b);
	af_debuginfo_deinit(&info);
	af_object_close(&object);
	return error;
}

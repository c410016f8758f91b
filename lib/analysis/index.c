/* SPDX-License-Identifier: MIT */
/*
 * The index of a file: its units walked (scan.c), by one thread or by several, and what they
 * found put together in the order of the bytes, so that nobody can tell how many they were.
 *
 * Units are dealt out in parts of about equal size, several to a thread since some take longer.
 * Threads share the units (read only), three bit fields (atomically set), and the number of the
 * next part. One core: no thread is made.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "analysis/scan.h"

#define THREADS_MAX 16
#define PARTS_PER_THREAD 8
#define PART_MIN (UINT32_C(1) << 20) /* bytes: less is not worth a thread */

struct work {
	struct af_file *file;
	struct af_index *index;
	const struct af_scan_progress *progress;
	struct af_index_part *parts;
	size_t *first_units; /* of each part, and behind the last */
	size_t n_parts;
	atomic_size_t next, done;
	atomic_bool failed;
};

static void *work_on(struct work *w, bool report)
{
	struct af_scanner *s = calloc(1, sizeof(*s));
	size_t at;

	if (!s) {
		atomic_store(&w->failed, true);
		return NULL;
	}
	s->index = w->index;
	s->data = w->file->sections[AF_SEC_INFO].data;
	memset(s->dull, 0xff, sizeof(s->dull));
	while ((at = atomic_fetch_add(&w->next, 1)) < w->n_parts && !atomic_load(&w->failed)) {
		s->part = &w->parts[at];
		for (size_t i = w->first_units[at]; i < w->first_units[at + 1]; i++)
			if (w->file->units.items[i].rust &&
			    !af_scan_unit(s, &w->file->units.items[i]))
				atomic_store(&w->failed, true);
		size_t done = atomic_fetch_add(&w->done, 1) + 1;
		const struct af_scan_progress *p = w->progress;
		if (report && p->report)
			p->report(p->arg,
				  p->from + (p->to - p->from) * (double)done / (double)w->n_parts);
	}
	vector_deinit(&s->open);
	free(s);
	return NULL;
}

static void *run_thread(void *work)
{
	return work_on(work, false);
}

size_t af_cores(void)
{
	cpu_set_t cores;

	return sched_getaffinity(0, sizeof(cores), &cores) ? 1 : (size_t)CPU_COUNT(&cores);
}

static size_t threads_wanted(const struct af_file *file)
{
	size_t wanted = file->sections[AF_SEC_INFO].size / PART_MIN;
	size_t n = af_cores();

	n = n < wanted ? n : wanted;
	return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : n;
}

/* Deals the units out. False when memory is short. */
static bool divide(struct work *w)
{
	const struct af_file *file = w->file;
	size_t n = file->units.count, wanted = file->sections[AF_SEC_INFO].size / PART_MIN, at = 0;
	const size_t most = THREADS_MAX * PARTS_PER_THREAD;
	uint64_t size;

	/* Not by the number of threads: progress is reported once for each. */
	wanted = wanted < 1 ? 1 : wanted > most ? most : wanted;
	size = file->sections[AF_SEC_INFO].size / wanted + 1;
	w->parts = calloc(wanted + 1, sizeof(*w->parts));
	w->first_units = calloc(wanted + 2, sizeof(*w->first_units));
	if (!w->parts || !w->first_units)
		return false;
	for (size_t i = 0; i < n; i++)
		if (file->units.items[i].offset >= at * size && at < wanted)
			w->first_units[at++] = i;
	w->n_parts = at;
	w->first_units[at] = n;
	return true;
}

static void walk(struct work *w)
{
	pthread_t threads[THREADS_MAX];
	size_t wanted = threads_wanted(w->file), n = 0;

	/* Without a thread that cannot be made, the others do its part. */
	while (n + 1 < wanted && !pthread_create(&threads[n], NULL, run_thread, w))
		n++;
	work_on(w, true);
	while (n--)
		pthread_join(threads[n], NULL);
}

/* Appends a vector to one of the same type. False when memory is short. */
#define append(to, from)                                                       \
	(vector_reserve((to), (from)->count) &&                                \
	 ((from)->count ? memcpy((to)->items + (to)->count, (from)->items,     \
				 (from)->count * sizeof(*(to)->items)) != NULL \
			: true) &&                                             \
	 ((to)->count += (from)->count, true))

static bool is_named(const struct af_index *index, uint32_t origin)
{
	return origin == AF_ORIGIN_ELSEWHERE || af_bits_get(index->named, origin);
}

/* Abstract instances may have their names one step further on, and that may be anywhere. */
static void follow_origins(struct work *w)
{
	bool again = true;
	for (int i = 0; again && i < 4; i++) {
		again = false;
		for (size_t p = 0; p < w->n_parts; p++)
			for (size_t k = 0; k < w->parts[p].unnamed.count; k++) {
				const struct af_unnamed *u = &w->parts[p].unnamed.items[k];
				if (!is_named(w->index, u->origin) ||
				    af_bits_get(w->index->named, u->offset))
					continue;
				af_bits_set(w->index->named, u->offset);
				again = true;
			}
	}
}

/* Functions with a name and those whose origin has one, in the order of the bytes. */
static bool merge_functions(struct af_index *index, const struct af_index_part *part)
{
	size_t n = part->functions.count, k = 0;

	for (size_t i = 0; i < part->unnamed.count || k < n;) {
		const struct af_unnamed *u = &part->unnamed.items[i];
		struct af_found found;
		if (k < n &&
		    (i == part->unnamed.count || part->functions.items[k].offset < u->offset)) {
			found = part->functions.items[k++];
		} else {
			i++;
			if (!is_named(index, u->origin))
				continue;
			found = (struct af_found){u->offset, u->what};
		}
		struct af_found *kept = vector_push(&index->functions);
		if (!kept)
			return false;
		*kept = found;
	}
	return true;
}

/* One of a part that begins at `base` in the index. */
static void place_namespace(struct af_index_part *part, size_t at, uint32_t base)
{
	struct af_namespace *space = &part->namespaces.items[at];

	if (space->parent != UINT32_MAX)
		space->parent += base;
}

/* So that the namespace around a DIE is found at once. */
static bool index_namespaces(struct af_index *index)
{
	size_t blocks = index->file->sections[AF_SEC_INFO].size / AF_SPACE_BLOCK + 2, at = 0;

	if (!vector_reserve(&index->namespace_starts, blocks))
		return false;
	for (uint64_t i = 0; i < blocks; i++) {
		while (at < index->namespaces.count &&
		       index->namespaces.items[at].start < i * AF_SPACE_BLOCK)
			at++;
		index->namespace_starts.items[index->namespace_starts.count++] = (uint32_t)at;
	}
	return true;
}

static bool merge(struct work *w)
{
	struct af_index *index = w->index;

	follow_origins(w);
	for (size_t i = 0; i < w->n_parts; i++) {
		struct af_index_part *part = &w->parts[i];
		uint32_t base = (uint32_t)index->namespaces.count;
		for (size_t k = 0; k < part->namespaces.count; k++)
			place_namespace(part, k, base);
		if (!append(&index->namespaces, &part->namespaces) ||
		    !append(&index->types, &part->types) ||
		    !append(&index->vtables, &part->vtables) ||
		    !append(&index->awaitees, &part->awaitees) ||
		    !append(&index->instances, &part->instances) ||
		    !append(&index->inlined_elsewhere, &part->inlined_elsewhere) ||
		    !merge_functions(index, part))
			return false;
		index->n_dies += part->n_dies;
		index->n_broken += part->n_broken;
	}
	return index_namespaces(index);
}

static void part_deinit(struct af_index_part *part)
{
	vector_deinit(&part->namespaces);
	vector_deinit(&part->functions);
	vector_deinit(&part->unnamed);
	vector_deinit(&part->types);
	vector_deinit(&part->vtables);
	vector_deinit(&part->awaitees);
	vector_deinit(&part->instances);
	vector_deinit(&part->inlined_elsewhere);
}

struct af_error *af_scan(struct af_file *file, const struct af_scan_progress *progress,
			 struct af_index *index)
{
	size_t bits = file->sections[AF_SEC_INFO].size / 32 + 1;
	struct work w = {.file = file, .index = index, .progress = progress};

	memset(index, 0, sizeof(*index));
	index->file = file;
	index->inlined = calloc(1, bits);
	index->wanted = calloc(1, bits);
	index->named = calloc(1, bits);
	bool ok = index->inlined && index->wanted && index->named && divide(&w);
	if (ok) {
		walk(&w);
		ok = !atomic_load(&w.failed) && merge(&w);
	}
	for (size_t i = 0; i < w.n_parts; i++)
		part_deinit(&w.parts[i]);
	free(w.parts);
	free(w.first_units);
	/* Only the walk asks for it. */
	free(index->named);
	index->named = NULL;
	return ok ? NULL : af_error_create("out of memory");
}

void af_index_deinit(struct af_index *index)
{
	vector_deinit(&index->namespaces);
	vector_deinit(&index->namespace_starts);
	vector_deinit(&index->functions);
	vector_deinit(&index->types);
	vector_deinit(&index->vtables);
	vector_deinit(&index->awaitees);
	vector_deinit(&index->instances);
	vector_deinit(&index->inlined_elsewhere);
	free(index->inlined);
	free(index->wanted);
	memset(index, 0, sizeof(*index));
}

uint32_t af_index_namespace(const struct af_index *index, uint32_t offset)
{
	size_t block = offset / AF_SPACE_BLOCK;
	if (block + 1 >= index->namespace_starts.count)
		return UINT32_MAX;
	size_t low = index->namespace_starts.items[block];
	size_t high = index->namespace_starts.items[block + 1];
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (index->namespaces.items[middle].start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	/* The last one that begins before it, or one of those around that. */
	for (uint32_t i = low ? (uint32_t)low - 1 : UINT32_MAX; i != UINT32_MAX;
	     i = index->namespaces.items[i].parent)
		if (offset < index->namespaces.items[i].end)
			return i;
	return UINT32_MAX;
}

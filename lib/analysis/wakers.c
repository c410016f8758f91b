/* SPDX-License-Identifier: MIT */
/*
 * Wakers that are an Arc<W>: of std's Wake and of futures' ArcWake. An executor that nobody has
 * heard of mostly makes W its task, so that whoever holds a waker leads to the task. W is told
 * by the functions of the waker's vtable: `wake` calls W's own code, and so is W's alone, where
 * `clone` only counts, and is the same code for all.
 */
#include "analysis/build.h"
#include "analysis/function.h"

static bool is_home(struct af_builder *b, const struct af_function *f)
{
	struct af_text path = {0};
	af_name_path(b, af_function_home(f), &path);
	const char *where = af_text_get(&path);
	bool home =
		!strcmp(where, "alloc::task::raw_waker") || !strcmp(where, "futures_task::waker");
	af_text_deinit(&path);
	return home;
}

static bool is_wake(const char *name)
{
	return name &&
	       (!strncmp(name, "wake<", 5) || !strncmp(name, "wake_by_ref<", 12) ||
		!strncmp(name, "wake_arc_raw<", 13) || !strncmp(name, "wake_by_ref_arc_raw<", 20));
}

static void add_waker(struct af_builder *b, af_die_id id)
{
	struct af_function f;
	uint64_t address, size;
	if (!af_function_read(b, id, &f) || !is_wake(f.name) || !is_home(b, &f) ||
	    !af_die_entry(&f.dies[0], &address, &size) || address <= 1)
		return;
	uint32_t type = af_types_intern(b, af_function_template(b, &f, 0));
	struct afm_waker *waker = type == AFM_NONE ? NULL : builder_push(b, wakers);
	if (waker)
		*waker = (struct afm_waker){.address = address, .type = type};
}

void af_wakers_collect(struct af_builder *b)
{
	for (size_t i = 0; i < b->info->files.count; i++) {
		const struct af_index *index = &b->indexes[i];
		for (size_t k = 0; k < index->functions.count && !b->failed; k++) {
			const struct af_found *found = &index->functions.items[k];
			if ((found->what & AF_FOUND_CONCRETE) &&
			    (found->what & (AF_FOUND_WAKE | AF_FOUND_UNNAMED)))
				add_waker(b, (uint64_t)index->file->number << 32 | found->offset);
		}
	}
}

static int compare_wakers(const void *a, const void *b)
{
	const struct afm_waker *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->type < y->type ? -1 : x->type > y->type;
}

void af_wakers_complete(struct af_builder *b)
{
	size_t kept = 0, n = b->wakers.count;
	struct afm_waker *wakers = b->wakers.items;

	vector_sort(&b->wakers, compare_wakers);
	for (size_t i = 0; i < n;) {
		size_t end = i + 1;
		bool one = true;
		for (; end < n && wakers[end].address == wakers[i].address; end++)
			one &= wakers[end].type == wakers[i].type;
		/* Code that several W share says nothing. */
		if (one && (b->types.items[wakers[i].type].flags & AFM_TF_REACHES_FUTURE))
			wakers[kept++] = wakers[i];
		i = end;
	}
	b->wakers.count = kept;
}

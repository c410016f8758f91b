/* SPDX-License-Identifier: MIT */
#include "trace/pauses.h"

#include <stdlib.h>
#include <string.h>

#include "trace/spans.h"

#define PAUSES_MAX 65536

void af_pauses_deinit(struct af_pauses *pauses)
{
	free(pauses->off);
	*pauses = (struct af_pauses){0};
}

static struct af_off *last_of(const struct af_pauses *pauses)
{
	return pauses->n ? &pauses->off[pauses->n - 1] : NULL;
}

bool af_pauses_is_off(const struct af_pauses *pauses)
{
	const struct af_off *last = last_of(pauses);
	return last && last->end == UINT64_MAX;
}

uint64_t af_pauses_last_end(const struct af_pauses *pauses)
{
	size_t n = pauses->n - af_pauses_is_off(pauses);
	return n ? pauses->off[n - 1].end : pauses->forgotten;
}

static bool make_room(struct af_pauses *pauses)
{
	if (pauses->n == PAUSES_MAX) {
		size_t half = PAUSES_MAX / 2;
		pauses->forgotten = pauses->off[half - 1].end;
		memmove(pauses->off, pauses->off + half, half * sizeof(*pauses->off));
		pauses->n = half;
	}
	if (pauses->n < pauses->room)
		return true;
	size_t room = pauses->room ? pauses->room * 2 : 16;
	struct af_off *more = realloc(pauses->off, room * sizeof(*more));
	if (!more)
		return false;
	pauses->off = more;
	pauses->room = room;
	return true;
}

static bool append(struct af_pauses *pauses, struct af_off off)
{
	uint64_t last = af_pauses_last_end(pauses);
	if (off.begin < last)
		off.begin = last;
	if (off.begin >= off.end)
		return true;
	if (!make_room(pauses))
		return false;
	pauses->off[pauses->n++] = off;
	return true;
}

bool af_pauses_begin(struct af_pauses *pauses, uint64_t now, bool stopped)
{
	struct af_off off = {.begin = now, .end = UINT64_MAX, .stopped = stopped};
	if (af_pauses_is_off(pauses)) {
		last_of(pauses)->stopped |= stopped;
		return true;
	}
	return append(pauses, off);
}

bool af_pauses_end(struct af_pauses *pauses, uint64_t since, uint64_t now)
{
	struct af_off *last = last_of(pauses);
	if (!af_pauses_is_off(pauses))
		return append(pauses, (struct af_off){.begin = since, .end = now});
	if (last->stopped)
		return true;
	last->end = now;
	pauses->n -= last->begin >= now; /* no time at all */
	return true;
}

/* How many intervals are over at `at`, or with `begun`: have begun before it. */
static size_t count_until(const struct af_pauses *pauses, uint64_t at, bool begun)
{
	size_t low = 0, high = pauses->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct af_off *off = &pauses->off[middle];
		if (begun ? off->begin < at : off->end <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool af_pauses_within(const struct af_pauses *pauses, uint64_t begin, uint64_t end,
		      struct af_off *gap)
{
	bool older = begin < pauses->forgotten && begin < end;
	size_t first = count_until(pauses, begin, false), last = count_until(pauses, end, true);
	if (begin >= end || (last <= first && !older))
		return false;
	*gap = last > first ? (struct af_off){.begin = pauses->off[first].begin,
					      .end = pauses->off[last - 1].end}
			    : (struct af_off){.begin = begin, .end = pauses->forgotten};
	if (older || gap->begin < begin)
		gap->begin = begin;
	if (gap->end > end)
		gap->end = end;
	return true;
}

/* --- what the walk does with them ----------------------------------------------------- */

void af_walker_off(struct af_walker *walker, uint64_t now, bool stopped)
{
	walker->counts->pauses += !stopped && !af_pauses_is_off(&walker->pauses);
	if (!af_pauses_begin(&walker->pauses, now, stopped))
		walker->no_memory = true;
}

void af_walker_on(struct af_walker *walker, uint64_t since, uint64_t now)
{
	struct af_pauses *pauses = &walker->pauses;
	bool told = af_pauses_is_off(pauses);
	uint64_t before = af_pauses_last_end(pauses);
	if (!af_pauses_end(pauses, since, now))
		walker->no_memory = true;
	if (af_pauses_is_off(pauses) || af_pauses_last_end(pauses) == before)
		return;
	const struct af_off *off = last_of(pauses);
	walker->counts->pauses += !told;
	walker->counts->off += off->end - off->begin;
	if (walker->visitor->off && !walker->visitor->off(walker->context, off))
		walker->stopped = true;
}

void af_walker_wait(struct af_walker *walker, const struct af_wait *wait)
{
	struct af_off gap;
	struct af_wait part = *wait;
	if (!walker->visitor->wait)
		return;
	if (af_pauses_within(&walker->pauses, wait->begin, wait->end, &gap)) {
		/* Where it stood was read at its end. */
		part.n_nodes = 0;
		part.open = part.dropped = false;
		part.cut = true;
		part.end = gap.begin;
		if (part.begin < part.end && !walker->visitor->wait(walker->context, &part))
			walker->stopped = true;
		part = *wait;
		part.begin = gap.end;
		part.unknown_begin = true;
		if (part.begin >= part.end)
			return;
	}
	if (!walker->stopped && !walker->visitor->wait(walker->context, &part))
		walker->stopped = true;
}

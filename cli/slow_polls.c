/* SPDX-License-Identifier: MIT */
#include "slow_polls.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#define THREADS_MAX 4096
#define DEPTH_MAX 64 /* deeper polls are not looked at: theirs are the longer ones around them */

struct slow_thread {
	uint32_t sequence, seen; /* of which chunk how many records were looked at */
	uint32_t depth;
	bool told; /* of the outermost open one that counts */
	struct {
		uint32_t function;
		uint64_t begin;
	} open[DEPTH_MAX];
};

void slow_polls_init(struct slow_polls *slow, struct af_session *session,
		     const struct af_futuremap *maps)
{
	*slow = (struct slow_polls){.session = session, .maps = maps};
	slow->threads = calloc(THREADS_MAX, sizeof(*slow->threads)); /* touched as used */
	slow->n_threads = slow->threads ? THREADS_MAX : 0;
}

void slow_polls_deinit(struct slow_polls *slow)
{
	free(slow->threads);
	*slow = (struct slow_polls){0};
}

static uint64_t monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Ticks in a nanosecond, by the whole length of the recording so far. */
static double ticks_per_ns(const struct af_session *s)
{
	uint64_t ns = monotonic() - s->base_monotonic, ticks = __rdtsc() - s->base_tsc;
	return ns ? (double)ticks / (double)ns : 1;
}

/* NULL if no map knows it. */
static const char *name_of(const struct slow_polls *slow, uint32_t function)
{
	for (uint32_t i = 0; i < AF_OBJECTS; i++) {
		const struct af_futuremap *map = &slow->maps[i];
		uint32_t index = function - slow->session->objects[i].first_function;
		if (map->header && index < map->header->polls.count)
			return af_futuremap_string(map, af_futuremap_polls(map, index)->name);
	}
	return NULL;
}

const char *slow_polls_name(const struct slow_polls *slow)
{
	const char *name = name_of(slow, slow->function);
	return name ? name : "a poll";
}

uint64_t slow_polls_ns(const struct slow_polls *slow)
{
	return (uint64_t)((double)slow->ticks / ticks_per_ns(slow->session));
}

/* tokio's workers, and what it runs in spawn_blocking, are polls of this future. */
static bool may_block(const struct slow_polls *slow, uint32_t function)
{
	static const char blocking[] = "tokio::runtime::blocking::task::BlockingTask<";
	const char *name = name_of(slow, function);
	return name && !strncmp(name, blocking, sizeof(blocking) - 1);
}

static void find(struct slow_polls *slow, uint32_t function, uint64_t ticks, bool open)
{
	if (ticks < slow->limit || may_block(slow, function) ||
	    (slow->found && ticks <= slow->ticks))
		return;
	slow->found = true;
	slow->function = function;
	slow->ticks = ticks;
	slow->open = open;
}

static void end_poll(struct slow_polls *slow, struct slow_thread *t, uint32_t function,
		     uint64_t now)
{
	uint32_t depth = t->depth;
	while (depth && depth <= DEPTH_MAX && function != AFR_FUNCTION_UNKNOWN &&
	       t->open[depth - 1].function != function)
		depth--;
	if (!depth)
		return;
	t->depth = depth - 1;
	if (depth > DEPTH_MAX)
		return;
	/* What was told while it went on is not told again at its end. */
	if (!t->told)
		find(slow, t->open[depth - 1].function, now - t->open[depth - 1].begin, false);
	bool counts = depth == 1 || may_block(slow, t->open[depth - 2].function);
	if (counts)
		t->told = false;
}

static void apply(struct slow_polls *slow, struct slow_thread *t, const struct afr_record *record)
{
	uint64_t now = afr_ticks(record);
	switch (afr_kind(record)) {
	case AFR_ENTER:
	case AFR_ENTER_NEW:
	case AFR_ENTER_TASK:
	case AFR_ENTER_TASK_AT:
		if (t->depth < DEPTH_MAX) {
			t->open[t->depth].function = afr_function(record);
			t->open[t->depth].begin = now;
		}
		t->depth++;
		break;
	case AFR_EXIT_STATE:
	case AFR_EXIT_POLL:
	case AFR_UNWIND:
		end_poll(slow, t, afr_function(record), now);
		break;
	default:
		break;
	}
}

void slow_polls_watch(void *context, const struct af_chunk *chunk, const struct afr_record *records,
		      uint32_t count)
{
	struct slow_polls *slow = context;
	uint32_t number = chunk->thread;
	if (number >= slow->n_threads)
		return;
	struct slow_thread *t = &slow->threads[number];
	if (chunk->sequence != t->sequence) {
		t->sequence = chunk->sequence;
		t->seen = 0;
	}
	for (; t->seen < count; t->seen++)
		apply(slow, t, &records[t->seen]);
}

/* The records of a chunk that is being written, up to the first that is not there yet. */
static void look_at_chunk(struct slow_polls *slow, const struct af_chunk *chunk)
{
	const struct afr_record *records = (const struct afr_record *)(chunk + 1);
	uint32_t number = chunk->thread, count = 0;
	uint64_t taken = chunk->taken;
	if (number >= slow->n_threads)
		return;
	if (slow->threads[number].sequence == chunk->sequence)
		count = slow->threads[number].seen;
	else if (slow->threads[number].sequence + 1 != chunk->sequence)
		return; /* the one before it comes first, when it is drained */
	while (count < AF_CHUNK_RECORDS) {
		uint64_t word0 = __atomic_load_n(&records[count].word0, __ATOMIC_ACQUIRE);
		if (!word0 || word0 >> AFR_KIND_BITS < taken)
			break;
		count++;
	}
	slow_polls_watch(slow, chunk, records, count);
}

static void look_at_open(struct slow_polls *slow, struct slow_thread *t, uint64_t now)
{
	uint32_t depth = t->depth < DEPTH_MAX ? t->depth : DEPTH_MAX, i = 0;
	while (i < depth && may_block(slow, t->open[i].function))
		i++;
	if (i == depth || t->told || now <= t->open[i].begin ||
	    now - t->open[i].begin < slow->limit)
		return;
	t->told = true;
	find(slow, t->open[i].function, now - t->open[i].begin, true);
}

bool slow_polls_look(struct slow_polls *slow)
{
	struct af_session *s = slow->session;
	uint32_t used = atomic_load(&s->chunks_used), threads = atomic_load(&s->threads);
	slow->limit = (uint64_t)((double)s->slow_poll * ticks_per_ns(s));
	for (uint32_t i = 0; i < used && i < s->n_chunks; i++) {
		const struct af_chunk *chunk = af_session_chunk(s, i);
		if (atomic_load(&chunk->state) == AF_CHUNK_ACTIVE)
			look_at_chunk(slow, chunk);
	}
	uint64_t now = __rdtsc() - s->base_tsc;
	for (uint32_t i = 0; i < threads && i < slow->n_threads; i++)
		look_at_open(slow, &slow->threads[i], now);
	bool found = slow->found;
	slow->found = false;
	return found;
}

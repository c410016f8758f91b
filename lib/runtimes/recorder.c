/* SPDX-License-Identifier: MIT */
#include "runtimes/recorder.h"

#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

#define NAME "/memfd:asyncflame-session"
#define PIECE 256	     /* records read at once */
#define MAX_KNOWN (1u << 22) /* twice what fits into all chunks */

static uint64_t monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool read_at(const struct af_recorder *r, uint64_t offset, void *to, size_t size)
{
	return af_process_read_all(r->process, r->at + offset, to, size);
}

/* The fields before the first path are all that is looked at. */
static bool read_head(struct af_recorder *r, const struct af_mapping *m)
{
	struct af_session *s = r->head;
	uint64_t size = m->end - m->start;
	r->at = m->start;
	return m->shared && !m->offset &&
	       read_at(r, 0, s, offsetof(struct af_session, executable)) &&
	       s->magic == AF_SESSION_MAGIC && s->chunk_size == AF_CHUNK_SIZE &&
	       s->n_chunks <= AF_CHUNKS && size >= sizeof(*s) && s->chunks_offset <= size &&
	       (size - s->chunks_offset) / AF_CHUNK_SIZE >= s->n_chunks &&
	       s->tick_source == AFR_TICKS_TSC && af_process_has_number(r->process, s->host_pid);
}

static bool find_session(struct af_recorder *r)
{
	for (size_t i = 0; i < r->process->mappings.count; i++) {
		const struct af_mapping *m = &r->process->mappings.items[i];
		if (m->path && !strcmp(m->path, NAME) && read_head(r, m))
			return true;
	}
	return false;
}

static bool is_build(const struct af_session_object *object, const struct af_module *module)
{
	return object->build_id_size && object->build_id_size <= sizeof(object->build_id) &&
	       object->build_id_size == module->build_id_size &&
	       !memcmp(object->build_id, module->build_id, object->build_id_size);
}

/* How the recorder numbers the functions of each of our images. */
static bool find_functions(struct af_recorder *r)
{
	const struct af_process *p = r->process;
	uint32_t n;
	for (size_t i = 0; i < p->images.count; i++) {
		uint32_t *first = vector_push(&r->functions);
		if (!first)
			return false;
		*first = AFM_NONE;
	}
	if (!read_at(r, offsetof(struct af_session, n_objects), &n, sizeof(n)))
		return false;
	for (uint32_t i = 0; i < n && i < AF_OBJECTS; i++) {
		struct af_session_object object;
		if (!read_at(r, offsetof(struct af_session, objects) + i * sizeof(object), &object,
			     offsetof(struct af_session_object, map_path)))
			return false;
		for (size_t k = 0; k < p->modules.count; k++) {
			const struct af_module *module = &p->modules.items[k];
			if (module->image < r->functions.count && is_build(&object, module))
				r->functions.items[module->image] = object.first_function;
		}
	}
	return true;
}

/* The closest of some pairs: a reader that is put aside in between reads two moments. */
static void read_clocks(uint64_t *ticks, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;
	for (int i = 0; i < 5; i++) {
		uint64_t before = __rdtsc(), now = monotonic(), after = __rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		*ticks = before + best / 2;
		*ns = now;
	}
}

/* The moment, and how long a tick is: as long as the two clocks have told since the session began. */
static bool find_moment(struct af_recorder *r)
{
	const struct af_session *s = r->head;
	uint64_t ticks = 0, ns = 0;
	read_clocks(&ticks, &ns);
	if (ticks <= s->base_tsc || ns <= s->base_monotonic)
		return false;
	r->now = ticks - s->base_tsc;
	r->tick = (double)(ns - s->base_monotonic) / (double)r->now;
	if (r->process->stood_at > s->base_monotonic)
		r->now = (uint64_t)((double)(r->process->stood_at - s->base_monotonic) / r->tick);
	return true;
}

void af_recorder_find(struct af_recorder *r, struct af_process *process)
{
	memset(r, 0, sizeof(*r));
	r->process = process;
	r->head = process->core ? NULL : calloc(1, sizeof(*r->head));
	if (!r->head || !find_session(r) || !find_functions(r) || !find_moment(r)) {
		af_recorder_deinit(r);
		return;
	}
	for (uint32_t i = 0; i < r->head->n_chunks; i++)
		(void)vector_push(&r->lanes);
	af_recorder_update(r);
}

void af_recorder_deinit(struct af_recorder *r)
{
	free(r->drained);
	free(r->head);
	vector_deinit(&r->functions);
	vector_deinit(&r->lanes);
	vector_deinit(&r->ticks);
	af_map_deinit(&r->known);
	memset(r, 0, sizeof(*r));
}

static void note(struct af_recorder *r, const struct afr_record *record)
{
	enum afr_kind kind = afr_kind(record);
	uint64_t ticks = afr_ticks(record);
	if (kind != AFR_ENTER_TASK && kind != AFR_ENTER_TASK_AT)
		return;
	uint32_t at = af_map_get(&r->known, record->word1);
	if (at != UINT32_MAX) {
		if (r->ticks.items[at] < ticks)
			r->ticks.items[at] = ticks;
		return;
	}
	uint64_t *kept = r->ticks.count < MAX_KNOWN ? vector_push(&r->ticks) : NULL;
	if (!kept)
		return;
	*kept = ticks;
	af_map_set(&r->known, record->word1, (uint32_t)r->ticks.count - 1);
}

/* Up to what is not written yet. A slot may be written later than those behind it. */
static void read_records(struct af_recorder *r, struct af_lane *lane, uint64_t offset)
{
	struct afr_record records[PIECE];
	uint32_t first = UINT32_MAX, good = 1;
	for (uint32_t at = lane->next; at < AF_CHUNK_RECORDS && good; at += PIECE) {
		uint32_t n = AF_CHUNK_RECORDS - at < PIECE ? AF_CHUNK_RECORDS - at : PIECE;
		if (!read_at(r, offset + at * sizeof(*records), records, n * sizeof(*records)))
			return;
		good = 0;
		for (uint32_t i = 0; i < n; i++) {
			if (records[i].word0 && afr_ticks(&records[i]) >= lane->taken) {
				good++;
				note(r, &records[i]);
			} else if (first == UINT32_MAX) {
				first = at + i;
			}
		}
	}
	lane->next = first == UINT32_MAX ? AF_CHUNK_RECORDS : first;
}

/* After the chunks were read: what was drained meanwhile is seen in the table. How many records that
   were is counted before their chunk is given back. */
static void read_table(struct af_recorder *r)
{
	uint64_t written[3]; /* records, unfinished, lost */
	if (!read_at(r, offsetof(struct af_session, written), written, sizeof(written)))
		return;
	uint64_t n = written[0] + written[2];
	if (r->drained && n == r->n_drained)
		return;
	if (!r->drained)
		r->drained = calloc(1, sizeof(r->head->polled));
	if (r->drained &&
	    read_at(r, offsetof(struct af_session, polled), r->drained, sizeof(r->head->polled)))
		r->n_drained = n;
}

/* Before that it was off, and polls have left no record; UINT64_MAX: it is off. */
static uint64_t on_since(const struct af_recorder *r)
{
	uint64_t since;
	uint32_t full;
	if (!read_at(r, offsetof(struct af_session, on_since), &since, sizeof(since)) ||
	    !read_at(r, offsetof(struct af_session, full), &full, sizeof(full)))
		return UINT64_MAX;
	return full ? UINT64_MAX : since;
}

void af_recorder_update(struct af_recorder *r)
{
	uint32_t used;
	if (!r->process ||
	    !read_at(r, offsetof(struct af_session, chunks_used), &used, sizeof(used)))
		return;
	for (uint32_t i = 0; i < used && i < r->lanes.count; i++) {
		uint64_t offset = r->head->chunks_offset + (uint64_t)i * AF_CHUNK_SIZE;
		struct af_chunk chunk;
		struct af_lane *lane = &r->lanes.items[i];
		if (!read_at(r, offset, &chunk, sizeof(chunk)) || chunk.state == AF_CHUNK_FREE)
			continue;
		if (lane->taken != chunk.taken)
			*lane = (struct af_lane){.taken = chunk.taken};
		read_records(r, lane, offset + sizeof(chunk));
	}
	read_table(r);
	r->on_since = on_since(r);
}

/* What the records of its root's polls have as their word1; 0: there are none. */
static uint64_t key_of(const struct af_recorder *r, const struct af_task *task)
{
	if (task->image >= r->functions.count || task->root == AFM_NONE ||
	    r->functions.items[task->image] == AFM_NONE)
		return 0;
	const struct af_futuremap *map = &r->process->images.items[task->image].map;
	const struct afm_root *root = af_futuremap_roots(map, task->root);
	bool has_id = root->executor == AFM_X_TOKIO;
	/* An address may be another task's by now, unless it was polled since. */
	if (has_id ? !task->has_id : task->state != AF_TASK_IDLE && task->state != AF_TASK_RUNNING)
		return 0;
	uint64_t function = (uint64_t)r->functions.items[task->image] + root->poll;
	return function << AFR_FUNCTION_SHIFT |
	       ((has_id ? task->id : task->header) & AFR_SUBJECT_MASK);
}

bool af_recorder_polled(const struct af_recorder *r, const struct af_task *task, uint64_t *ago)
{
	uint64_t key = r->process ? key_of(r, task) : 0, ticks = 0;
	if (!key)
		return false;
	uint32_t known = af_map_get(&r->known, key);
	if (known != UINT32_MAX)
		ticks = r->ticks.items[known];
	const struct af_polled *at = r->drained ? &r->drained[af_polled_at(key)] : NULL;
	for (unsigned i = 0; i < AF_POLLED_WAYS && at; i++)
		if (at[i].task == key && at[i].ticks > ticks)
			ticks = at[i].ticks;
	if (!ticks || ticks < r->on_since)
		return false;
	/* What came after a process was frozen has hidden when it was polled before. */
	if (ticks > r->now && r->process->stood_at)
		return false;
	*ago = ticks < r->now ? (uint64_t)((double)(r->now - ticks) * r->tick) : 0;
	return true;
}

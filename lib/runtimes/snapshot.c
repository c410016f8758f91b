/* SPDX-License-Identifier: MIT */
#include "runtimes/snapshot.h"

#define WAYS 8	  /* places in the cache that a line may be in */
#define JOIN 1024 /* what lies between two reads is read too, rather than in two pieces */

struct af_snapshot_line {
	uint64_t address; /* multiple of AF_SNAPSHOT_LINE */
	uint32_t epoch;	  /* valid if it is the snapshot's */
	uint32_t size;	  /* bytes that could be read, from the start */
	uint64_t used;	  /* when last */
};

/* Among the lines of its set: the one of `start`, else the one that was used longest ago. */
static struct af_snapshot_line *find_line(struct af_snapshot *s, uint64_t start)
{
	uint64_t hash = start / AF_SNAPSHOT_LINE * 0x9e3779b97f4a7c15 >> 32;
	struct af_snapshot_line *set = &s->heads[hash % (AF_SNAPSHOT_LINES / WAYS) * WAYS];
	struct af_snapshot_line *oldest = set;
	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].address == start && set[i].epoch == s->epoch)
			return &set[i];
		if (set[i].used < oldest->used)
			oldest = &set[i];
	}
	return oldest;
}

/* The line that holds `address`, filled. */
static const struct af_snapshot_line *fill(struct af_snapshot *s, uint64_t address, uint8_t **data)
{
	uint64_t start = address & ~(uint64_t)(AF_SNAPSHOT_LINE - 1);
	struct af_snapshot_line *line = find_line(s, start);
	*data = s->lines + (size_t)(line - s->heads) * AF_SNAPSHOT_LINE;
	line->used = ++s->clock;
	if (line->epoch != s->epoch || line->address != start) {
		line->address = start;
		line->epoch = s->epoch;
		line->size = (uint32_t)af_process_read(s->process, start, *data, AF_SNAPSHOT_LINE);
		/* A line that begins before its mapping does. */
		if (line->size <= address - start)
			line->epoch = s->epoch - 1;
	}
	return line;
}

static bool read_lines(struct af_snapshot *s, uint64_t address, void *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		uint8_t *data;
		const struct af_snapshot_line *line = fill(s, address + done, &data);
		uint64_t at = address + done - line->address, n = size - done;
		if (at >= line->size)
			return af_process_read_all(s->process, address + done, (char *)to + done,
						   n);
		n = n < line->size - at ? n : line->size - at;
		memcpy((char *)to + done, data + at, n);
		done += n;
	}
	return true;
}

/* Whether the address can change: what the process cannot write to does not. */
static bool can_change(struct af_snapshot *s, uint64_t address)
{
	if (!s->last || address < s->last->start || address >= s->last->end)
		s->last = af_process_mapping(s->process, address);
	return !s->last || s->last->writable;
}

static void note_lines(struct af_process *p, uint64_t address, size_t size)
{
	for (uint64_t line = address & ~(uint64_t)(AF_LINE - 1); line < address + size;
	     line += AF_LINE) {
		uint64_t *noted = af_map_get(&p->is_touched, line) == UINT32_MAX
					  ? vector_push(&p->touched)
					  : NULL;
		if (!noted)
			continue;
		*noted = line;
		af_map_set(&p->is_touched, line, 1);
	}
}

static void remember(struct af_snapshot *s, uint64_t address, const void *data, size_t size)
{
	struct af_read *read = NULL;
	if (s->bytes.count + size <= UINT32_MAX && vector_reserve(&s->bytes, size))
		read = vector_push(&s->reads);
	if (!read) {
		s->short_of_memory = true;
		return;
	}
	*read = (struct af_read){address, (uint32_t)s->bytes.count, (uint32_t)size, false};
	memcpy(s->bytes.items + s->bytes.count, data, size);
	s->bytes.count += size;
}

static bool read_memory(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct af_snapshot *s = (void *)memory;
	if (s->still)
		return af_process_read_all(s->process, address, to, size);
	bool read = size <= AF_SNAPSHOT_LINE ? read_lines(s, address, to, size)
					     : af_process_read_all(s->process, address, to, size);
	if (!read || !size || !can_change(s, address))
		return read;
	remember(s, address, to, size);
	if (s->process->rehearsing)
		note_lines(s->process, address, size);
	return read;
}

struct af_error *af_snapshot_init(struct af_snapshot *s, struct af_process *process)
{
	memset(s, 0, sizeof(*s));
	/* No `forget`: whoever wants to see a word anew has it compared. */
	s->memory = (struct af_memory){read_memory, NULL};
	s->process = process;
	s->still = process->core || process->copies.count;
	s->epoch = 1;
	s->lines = malloc((size_t)AF_SNAPSHOT_LINES * AF_SNAPSHOT_LINE);
	s->heads = calloc(AF_SNAPSHOT_LINES, sizeof(*s->heads));
	if (s->lines && s->heads)
		return NULL;
	af_snapshot_deinit(s);
	return af_error_create("out of memory");
}

void af_snapshot_deinit(struct af_snapshot *s)
{
	free(s->lines);
	free(s->heads);
	vector_deinit(&s->reads);
	vector_deinit(&s->bytes);
	vector_deinit(&s->again);
	vector_deinit(&s->pieces);
	vector_deinit(&s->order);
	memset(s, 0, sizeof(*s));
}

void af_snapshot_begin(struct af_snapshot *s)
{
	s->reads.count = s->bytes.count = 0;
	s->last = NULL; /* mappings may have been read anew */
	s->short_of_memory = false;
}

void af_snapshot_forget(struct af_snapshot *s)
{
	s->epoch += 2; /* one less marks a line that is never valid */
}

static int compare_order(const void *a, const void *b)
{
	const struct af_order *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

static bool sort_reads(struct af_snapshot *s)
{
	s->order.count = 0;
	if (!vector_reserve(&s->order, s->reads.count))
		return false;
	for (size_t i = 0; i < s->reads.count; i++)
		s->order.items[i] = (struct af_order){s->reads.items[i].address, (uint32_t)i};
	s->order.count = s->reads.count;
	vector_sort(&s->order, compare_order);
	return true;
}

/* Joins reads that lie close together; their pieces' places in `again`, from its start. */
static bool make_pieces(struct af_snapshot *s)
{
	size_t total = 0;
	s->pieces.count = 0;
	for (size_t i = 0; i < s->order.count; i++) {
		const struct af_read *read = &s->reads.items[s->order.items[i].read];
		struct af_piece *last =
			s->pieces.count ? &s->pieces.items[s->pieces.count - 1] : NULL;
		uint64_t end = read->address + read->size;
		if (last && read->address <= last->address + last->size + JOIN) {
			uint64_t size = end - last->address;
			if (size > last->size) {
				total += size - last->size;
				last->size = size;
			}
			continue;
		}
		last = vector_push(&s->pieces);
		if (!last)
			return false;
		*last = (struct af_piece){.address = read->address, .size = read->size};
		total += read->size;
	}
	s->again.count = 0;
	if (!vector_reserve(&s->again, total))
		return false;
	total = 0;
	for (size_t i = 0; i < s->pieces.count; i++) {
		s->pieces.items[i].to = s->again.items + total;
		total += s->pieces.items[i].size;
	}
	return true;
}

void af_snapshot_compare(struct af_snapshot *s)
{
	size_t piece = 0;
	if (s->still || s->short_of_memory || !sort_reads(s) || !make_pieces(s))
		return;
	af_process_read_pieces(s->process, s->pieces.items, s->pieces.count);
	for (size_t i = 0; i < s->order.count; i++) {
		struct af_read *read = &s->reads.items[s->order.items[i].read];
		while (read->address >=
		       s->pieces.items[piece].address + s->pieces.items[piece].size)
			piece++;
		const struct af_piece *in = &s->pieces.items[piece];
		read->holds = in->read && !memcmp((uint8_t *)in->to + (read->address - in->address),
						  s->bytes.items + read->at, read->size);
	}
}

bool af_snapshot_held(const struct af_snapshot *s, size_t from, size_t to)
{
	bool all = !s->short_of_memory;
	for (size_t i = from; i < to && all; i++)
		all = s->reads.items[i].holds;
	return all || s->still;
}

bool af_snapshot_holds(struct af_snapshot *s)
{
	af_snapshot_compare(s);
	return af_snapshot_held(s, 0, s->reads.count);
}

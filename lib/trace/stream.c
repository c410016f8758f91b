/* SPDX-License-Identifier: MIT */
#include "trace/stream.h"

#include <string.h>

/* The thread's next record that says something, in slot order; NULL at the end. */
static const struct afr_record *next_record(struct af_stream *stream)
{
	while (stream->chunk < stream->chunks_end) {
		if (stream->next >= stream->chunk->count) {
			stream->chunk++;
			stream->next = 0;
			continue;
		}
		const struct afr_record *record = &stream->chunk->records[stream->next++];
		if (record->word0 == 0)
			stream->unfinished++;
		else if (afr_kind(record) == 0 || afr_kind(record) >= AFR_KIND_COUNT)
			stream->bad++;
		else
			return record;
	}
	return NULL;
}

/* Behind every record of the same ticks: equal times keep the order of their slots. */
static void insert(struct af_stream *stream, const struct afr_record *record)
{
	uint32_t at = stream->tail++;
	for (; at > stream->head && afr_ticks(&stream->window[at - 1]) > afr_ticks(record); at--)
		stream->window[at] = stream->window[at - 1];
	stream->window[at] = *record;
}

static void fill(struct af_stream *stream)
{
	if (stream->tail == 2 * AF_STREAM_WINDOW) {
		uint32_t count = stream->tail - stream->head;
		memmove(stream->window, stream->window + stream->head,
			count * sizeof(*stream->window));
		stream->head = 0;
		stream->tail = count;
	}
	while (stream->tail - stream->head < AF_STREAM_WINDOW &&
	       stream->tail < 2 * AF_STREAM_WINDOW) {
		const struct afr_record *record = next_record(stream);
		if (!record)
			return;
		insert(stream, record);
	}
}

void af_stream_init(struct af_stream *stream, const struct af_trace *trace,
		    const struct af_thread_entry *thread)
{
	stream->chunk = trace->chunks + thread->first_chunk;
	stream->chunks_end = stream->chunk + thread->n_chunks;
	stream->next = 0;
	stream->head = stream->tail = 0;
	stream->unfinished = stream->bad = 0;
	fill(stream);
}

void af_stream_advance(struct af_stream *stream)
{
	if (stream->head < stream->tail)
		stream->head++;
	fill(stream);
}

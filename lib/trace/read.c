/* SPDX-License-Identifier: MIT */
/*
 * Opening a raw trace: the file is mapped, its blocks are walked once, and everything
 * but the records is read. Of the records only the place of each chunk is noted, so
 * that opening costs the same for a trace of a second and one of a day.
 *
 * The file may be cut off at any byte (the writer was killed, the disk was full) and
 * may hold anything. The one thing that is refused is a file that is no raw trace.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace/driven.h"

#define NODES_MAX (1u << 20) /* far more than a recorder makes */
#define OBJECTS_MAX 1024     /* the same */

/* What the walk over the blocks collects before it is put in order. */
struct index {
	struct af_trace *trace;
	const struct afr_clock *clock;
	size_t chunks_room, maps_room;
};

static bool grow(void **array, size_t *room, size_t count, size_t size)
{
	if (count < *room)
		return true;
	size_t more = *room ? *room * 2 : 16;
	void *moved = realloc(*array, more * size);
	if (!moved)
		return false;
	*array = moved;
	*room = more;
	return true;
}

/* The next NUL terminated string of [*at, end), "" when there is none left. */
static const char *next_string(const char **at, const char *end)
{
	const char *string = *at;
	const char *nul = memchr(string, '\0', (size_t)(end - string));
	if (!nul)
		return "";
	*at = nul + 1;
	return string;
}

static void read_process(struct af_trace *trace, const uint8_t *data, size_t length)
{
	const char *at = (const char *)data, *end = at + length;
	trace->info.executable = next_string(&at, end);
	trace->info.directory = next_string(&at, end);
}

uint32_t af_trace_map(const struct af_trace *trace, uint32_t number)
{
	for (size_t i = 0; i < trace->n_maps; i++)
		if (trace->objects[i].number == number)
			return (uint32_t)i;
	return AFM_NONE;
}

static bool read_object(struct index *index, const uint8_t *data, size_t length)
{
	struct af_trace *trace = index->trace;
	const struct afr_object *object = (const void *)data;
	if (length < sizeof(*object))
		return true;
	const void *map = object + 1;
	size_t size = length - sizeof(*object);
	if (af_futuremap_check(map, size)) {
		trace->info.bad_maps++;
		return true;
	}
	/* A writer that died may have left one twice. */
	if (af_trace_map(trace, object->number) != AFM_NONE || trace->n_maps >= OBJECTS_MAX)
		return true;
	size_t room = index->maps_room;
	if (!grow((void **)&trace->maps, &index->maps_room, trace->n_maps, sizeof(*trace->maps)))
		return false;
	if (!grow((void **)&trace->objects, &room, trace->n_maps, sizeof(*trace->objects)))
		return false;
	trace->maps[trace->n_maps] = (struct af_futuremap){.header = map, .size = size};
	trace->objects[trace->n_maps++] = *object;
	return true;
}

static bool read_chunk(struct index *index, const uint8_t *data, size_t length)
{
	struct af_trace *trace = index->trace;
	const struct afr_chunk *chunk = (const void *)data;
	if (length < sizeof(*chunk))
		return true;
	size_t records = (length - sizeof(*chunk)) / sizeof(struct afr_record);
	if (!grow((void **)&trace->chunks, &index->chunks_room, trace->n_chunks,
		  sizeof(*trace->chunks)))
		return false;
	trace->chunks[trace->n_chunks++] = (struct af_chunk_entry){
		.thread = chunk->thread,
		.sequence = chunk->sequence,
		.count = records < chunk->count ? (uint32_t)records : chunk->count,
		.tid = chunk->tid,
		.records = (const void *)(chunk + 1),
	};
	return true;
}

static bool read_nodes(struct af_trace *trace, const uint8_t *data, size_t length)
{
	const struct afr_node *nodes = (const void *)data;
	for (size_t i = 0; i < length / sizeof(*nodes); i++) {
		uint32_t number = nodes[i].number;
		if (!number || number > NODES_MAX || nodes[i].parent > NODES_MAX ||
		    nodes[i].step_case == AFM_NONE)
			continue;
		if (number > trace->n_nodes) {
			uint32_t room = number + number / 2;
			struct af_trace_node *more = realloc(trace->nodes, room * sizeof(*more));
			if (!more)
				return false;
			memset(more + trace->n_nodes, 0, (room - trace->n_nodes) * sizeof(*more));
			trace->nodes = more;
			trace->n_nodes = room;
		}
		trace->nodes[number - 1] = (struct af_trace_node){
			.number = number,
			.parent = nodes[i].parent,
			.object = nodes[i].object,
			.step_case = nodes[i].step_case,
		};
	}
	return true;
}

/* One block whose `length` bytes are in the file; false when memory is short. */
static bool read_block(struct index *index, uint32_t type, const uint8_t *data, size_t length)
{
	struct af_trace_info *info = &index->trace->info;
	switch (type) {
	case AFR_B_PROCESS:
		read_process(index->trace, data, length);
		return true;
	case AFR_B_OBJECT:
		return read_object(index, data, length);
	case AFR_B_CHUNK:
		return read_chunk(index, data, length);
	case AFR_B_NODES:
		return read_nodes(index->trace, data, length);
	case AFR_B_LOOK:
		index->trace->look = (const void *)data;
		index->trace->look_size = length;
		return true;
	case AFR_B_STOPPED:
		if (length >= sizeof(struct afr_stopped))
			index->trace->stopped =
				((const struct afr_stopped *)(const void *)data)->ticks;
		return true;
	case AFR_B_CLOCK:
		if (length >= sizeof(struct afr_clock))
			index->clock = (const void *)data;
		return true;
	case AFR_B_HOOKS:
		info->has_hooks = length >= AFR_HOOKS_LEAST;
		if (info->has_hooks)
			memcpy(&info->hooks, data,
			       length < sizeof(info->hooks) ? AFR_HOOKS_LEAST
							    : sizeof(info->hooks));
		return true;
	case AFR_B_END:
		info->has_end = length >= sizeof(info->end);
		if (info->has_end)
			memcpy(&info->end, data, sizeof(info->end));
		return true;
	default:
		return true;
	}
}

static bool read_blocks(struct index *index)
{
	struct af_trace *trace = index->trace;
	size_t at = sizeof(struct afr_header);
	while (trace->size - at >= sizeof(struct afr_block)) {
		const struct afr_block *block = (const void *)(trace->data + at);
		at += sizeof(*block);
		size_t left = trace->size - at;
		bool whole = block->length <= left;
		size_t length = whole ? (size_t)block->length : left;
		/* Of what is cut off in the middle only records are of use. */
		if (!whole)
			trace->info.cut = true;
		if ((whole || block->type == AFR_B_CHUNK) &&
		    !read_block(index, block->type, trace->data + at, length))
			return false;
		size_t padded = length + (-length & 7);
		at += padded < left ? padded : left;
	}
	if (at < trace->size || !trace->info.has_end)
		trace->info.cut = true;
	return true;
}

/* Functions, by number. */

static const char *map_string(const struct af_futuremap *map, uint32_t string)
{
	return af_futuremap_string(map, string);
}

/* The future that a poll shows first, or NULL. */
static const struct afm_future *poll_future(const struct af_futuremap *map,
					    const struct afm_poll *poll)
{
	if (poll->root != AFM_NONE) {
		const struct afm_root *root = af_futuremap_roots(map, poll->root);
		if (root->future != AFM_NONE)
			return af_futuremap_futures(map, root->future);
	}
	if (!poll->n_futures)
		return NULL;
	return af_futuremap_futures(map, *af_futuremap_poll_futures(map, poll->first_future));
}

static const char *future_type_name(const struct af_futuremap *map, const struct afm_poll *poll)
{
	const struct afm_future *future = poll_future(map, poll);
	uint32_t type = future ? future->type : AFM_NONE;
	if (!future && poll->root != AFM_NONE)
		type = af_futuremap_roots(map, poll->root)->future_type;
	return type == AFM_NONE ? "" : map_string(map, af_futuremap_types(map, type)->name);
}

static const char *object_name(const struct af_futuremap *map)
{
	const char *path = map_string(map, map->header->object), *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* What is in the box where a task's future is a Pin<Box<F>>; else the future itself. */
static const struct afm_future *boxed_future(const struct af_futuremap *map,
					     const struct afm_future *future)
{
	const struct afm_type *pin = af_futuremap_types(map, future->type);
	if (pin->n_fields != 1 || strncmp(map_string(map, pin->name), "core::pin::Pin<", 15))
		return future;
	uint32_t box = af_futuremap_fields(map, pin->first_field)->type;
	uint32_t inner = box == AFM_NONE || af_futuremap_types(map, box)->kind != AFM_T_POINTER
				 ? AFM_NONE
				 : af_futuremap_types(map, box)->target;
	uint32_t found = inner == AFM_NONE ? AFM_NONE : af_futuremap_types(map, inner)->future;
	return found == AFM_NONE ? future : af_futuremap_futures(map, found);
}

static const char *const pointers[] = {"core::pin::Pin<", "alloc::boxed::Box<", "&mut "};

static void read_function(struct af_trace *trace, uint32_t map_index, uint32_t poll_index)
{
	const struct af_futuremap *map = &trace->maps[map_index];
	const struct afm_poll *poll = af_futuremap_polls(map, poll_index);
	struct af_function *function =
		&trace->functions[trace->objects[map_index].first_function + poll_index];
	*function = (struct af_function){
		.name = map_string(map, poll->name),
		.future = future_type_name(map, poll),
		.file = map_string(map, poll->file),
		.line = poll->line,
		.root = poll->kind == AFM_P_TASK_ROOT,
		.trap = af_futuremap_is_trap(map, poll),
		.library = trace->objects[map_index].number ? object_name(map) : "",
		.object = map_index,
		.poll = poll_index,
	};
	/* A root's own place is in the executor: people look for the future's. */
	const struct afm_future *future = poll_future(map, poll);
	if (function->root && future)
		future = boxed_future(map, future);
	if (function->root && future && future->line) {
		function->file = map_string(map, future->file);
		function->line = future->line;
	}
	for (size_t i = 0; i < sizeof(pointers) / sizeof(pointers[0]); i++)
		function->pointer |= !strncmp(function->future, pointers[i], strlen(pointers[i]));
	function->hand = poll->kind == AFM_P_HAND && poll->n_futures == 1 && !function->pointer;
	if (!*function->name)
		function->name = *function->future ? function->future : "(unnamed)";
	/* tokio's spawn_blocking, and its workers, are tasks of this future (tokio
	   src/runtime/blocking/task.rs, 0.2 and later). */
	static const char blocking[] = "tokio::runtime::blocking::task::BlockingTask<";
	function->blocking = !strncmp(function->name, blocking, sizeof(blocking) - 1);
}

static uint32_t map_functions(const struct af_trace *trace, size_t i)
{
	uint64_t count = trace->maps[i].header->polls.count;
	uint32_t first = trace->objects[i].first_function;
	if (first >= AFR_FUNCTIONS_MAX)
		return 0;
	return count < AFR_FUNCTIONS_MAX - first ? (uint32_t)count : AFR_FUNCTIONS_MAX - first;
}

static bool read_functions(struct af_trace *trace)
{
	uint32_t n = 0;
	for (size_t i = 0; i < trace->n_maps; i++) {
		uint32_t count = map_functions(trace, i);
		if (count && trace->objects[i].first_function + count > n)
			n = trace->objects[i].first_function + count;
	}
	trace->info.n_functions = n;
	trace->functions = calloc(n ? n : 1, sizeof(*trace->functions));
	if (!trace->functions)
		return false;
	for (size_t i = 0; i < trace->n_maps; i++)
		for (uint32_t k = 0; k < map_functions(trace, i); k++)
			read_function(trace, (uint32_t)i, k);
	return true;
}

/* Threads: the runs of equal numbers among the sorted chunks. */

static int compare_chunks(const void *left, const void *right)
{
	const struct af_chunk_entry *a = left, *b = right;
	if (a->thread != b->thread)
		return a->thread < b->thread ? -1 : 1;
	if (a->sequence != b->sequence)
		return a->sequence < b->sequence ? -1 : 1;
	return a->records < b->records ? -1 : a->records > b->records;
}

static void name_thread(struct af_thread *thread, const struct af_chunk_entry *chunk)
{
	const struct afr_chunk *head = (const struct afr_chunk *)(const void *)chunk->records - 1;
	if (!head->name[0])
		return;
	memcpy(thread->name, head->name, sizeof(thread->name));
	thread->name[sizeof(thread->name) - 1] = '\0';
}

static bool read_threads(struct af_trace *trace)
{
	if (trace->n_chunks)
		qsort(trace->chunks, trace->n_chunks, sizeof(*trace->chunks), compare_chunks);
	size_t n = 0;
	for (size_t i = 0; i < trace->n_chunks; i++)
		n += i == 0 || trace->chunks[i].thread != trace->chunks[i - 1].thread;
	trace->threads = calloc(n ? n : 1, sizeof(*trace->threads));
	if (!trace->threads)
		return false;
	struct af_thread_entry *entry = trace->threads - 1;
	for (size_t i = 0; i < trace->n_chunks; i++) {
		const struct af_chunk_entry *chunk = &trace->chunks[i];
		if (i == 0 || chunk->thread != chunk[-1].thread) {
			*++entry = (struct af_thread_entry){.first_chunk = i};
			entry->thread.index = (uint32_t)(entry - trace->threads);
			entry->thread.number = chunk->thread;
			entry->thread.tid = chunk->tid;
		}
		entry->n_chunks++;
		name_thread(&entry->thread, chunk);
	}
	trace->info.n_threads = (uint32_t)n;
	return true;
}

/* Opening */

static struct af_error *map_file(struct af_trace *trace, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return af_error_system(errno, "%s", path);
	struct af_error *error = NULL;
	struct stat st;
	void *data = MAP_FAILED;
	if (fstat(fd, &st) < 0)
		error = af_error_system(errno, "%s", path);
	else if (!S_ISREG(st.st_mode))
		error = af_error_create("%s: not a regular file", path);
	else if (st.st_size < (off_t)sizeof(struct afr_header))
		error = af_error_create("%s: not a raw asyncflame trace (too short)", path);
	else if ((data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) ==
		 MAP_FAILED)
		error = af_error_system(errno, "%s: cannot be mapped", path);
	close(fd);
	if (error)
		return error;
	trace->data = data;
	trace->size = (size_t)st.st_size;
	return NULL;
}

static struct af_error *check_header(struct af_trace *trace, const char *path)
{
	const struct afr_header *header = (const void *)trace->data;
	if (memcmp(header->magic, AFR_MAGIC, sizeof(header->magic)))
		return af_error_create("%s: not a raw asyncflame trace", path);
	if (header->version != AFR_VERSION || header->header_size != sizeof(*header))
		return af_error_create("%s: raw trace of version %u, this asyncflame reads %u",
				       path, header->version, AFR_VERSION);
	trace->info.pid = header->pid;
	trace->info.parent_pid = header->parent_pid;
	trace->info.realtime = header->base_realtime;
	return NULL;
}

static struct af_error *load(struct af_trace *trace, const char *path)
{
	struct af_error *error = map_file(trace, path);
	if (!error)
		error = check_header(trace, path);
	if (error)
		return error;
	struct index index = {.trace = trace};
	if (!read_blocks(&index) || !read_functions(trace) || !af_driven_read(trace) ||
	    !read_threads(trace) || !af_trace_read_look(trace))
		return af_error_system(ENOMEM, "%s", path);
	af_timebase_init(&trace->timebase, (const void *)trace->data, index.clock);
	trace->info.clock_estimated = trace->timebase.estimated;
	if (index.clock)
		trace->clock_end = af_timebase_ns(&trace->timebase, index.clock->ticks);
	if (trace->stopped != UINT64_MAX)
		trace->info.stopped = af_timebase_ns(&trace->timebase, trace->stopped);
	return NULL;
}

struct af_error *af_trace_open(struct af_trace **out, const char *raw_path)
{
	*out = NULL;
	struct af_trace *trace = calloc(1, sizeof(*trace));
	if (!trace)
		return af_error_system(ENOMEM, "%s", raw_path);
	trace->info.executable = trace->info.directory = "";
	trace->stopped = trace->info.stopped = UINT64_MAX;
	struct af_error *error = load(trace, raw_path);
	if (error) {
		af_trace_close(trace);
		return error;
	}
	*out = trace;
	return NULL;
}

void af_trace_close(struct af_trace *trace)
{
	if (!trace)
		return;
	af_tasks_deinit(&trace->tasks);
	af_trace_forget_look(trace);
	free(trace->nodes);
	free(trace->threads);
	free(trace->chunks);
	free(trace->driven_types);
	free(trace->functions);
	free(trace->objects);
	free(trace->maps);
	if (trace->data)
		munmap((void *)trace->data, trace->size);
	free(trace);
}

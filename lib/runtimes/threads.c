/* SPDX-License-Identifier: MIT */
#include "runtimes/threads.h"

#include "runtimes/unwind.h"

#include <time.h>

#define TRIES 5
#define MOMENTS 40 /* that a dump waits for threads, in all */

/* Where a root's code is that is nothing but a jump. */
struct body {
	uint32_t image, poll;
	uint64_t address; /* link-time */
	uint32_t size;
};

struct look {
	struct af_threads *threads;
	struct af_process *process;
	struct af_snapshot *snapshot;
	struct af_unwinder unwinder;
	struct af_stack_trace *trace;
	VECTOR(struct body) bodies;
	uint32_t thread;
	int moments; /* that may still be waited */
	bool failed;
};

/* The map of the module that a frame is in, and its pc there; NULL if it has none. */
static const struct af_futuremap *frame_map(const struct look *l, const struct af_frame *frame,
					    uint32_t *image, uint64_t *pc)
{
	if (frame->module == AFM_NONE)
		return NULL;
	const struct af_module *module = &l->process->modules.items[frame->module];
	if (module->image == AFM_NONE)
		return NULL;
	*image = module->image;
	*pc = frame->pc - module->bias;
	return &l->process->images.items[module->image].map;
}

static int compare_bodies(const void *a, const void *b)
{
	const struct body *x = a, *y = b;
	if (x->image != y->image)
		return x->image < y->image ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

static void collect_bodies(struct look *l)
{
	for (uint32_t image = 0; image < l->process->images.count; image++) {
		const struct af_futuremap *map = &l->process->images.items[image].map;
		for (uint32_t i = 0; i < map->header->polls.count; i++) {
			const struct afm_poll *poll = af_futuremap_polls(map, i);
			struct body *body = poll->body ? vector_push(&l->bodies) : NULL;
			l->failed |= poll->body && !body;
			if (body)
				*body = (struct body){image, i, poll->body, poll->body_size};
		}
	}
	vector_sort(&l->bodies, compare_bodies);
}

static uint32_t find_body(const struct look *l, uint32_t image, uint64_t pc)
{
	const struct body wanted = {.image = image, .address = pc};
	size_t low = 0, high = l->bodies.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare_bodies(&l->bodies.items[middle], &wanted) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return AFM_NONE;
	const struct body *body = &l->bodies.items[low - 1];
	return body->image == image && pc - body->address < body->size ? body->poll : AFM_NONE;
}

/* The poll whose function holds link-time `pc`. */
static uint32_t find_poll(const struct look *l, uint32_t image, uint64_t pc)
{
	const struct af_futuremap *map = &l->process->images.items[image].map;
	uint32_t low = 0, high = (uint32_t)map->header->polls.count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (af_futuremap_polls(map, middle)->address <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	if (low &&
	    pc - af_futuremap_polls(map, low - 1)->address < af_futuremap_polls(map, low - 1)->size)
		return low - 1;
	return find_body(l, image, pc);
}

static void note_polls(struct look *l, struct af_thread_polls *found)
{
	found->first = (uint32_t)l->threads->polls.count;
	for (uint32_t i = l->trace->n; i-- > 0;) {
		struct af_thread_poll poll;
		const struct af_futuremap *map =
			frame_map(l, &l->trace->frames[i], &poll.image, &poll.pc);
		poll.poll = map ? find_poll(l, poll.image, poll.pc) : AFM_NONE;
		if (poll.poll == AFM_NONE)
			continue;
		struct af_thread_poll *kept = vector_push(&l->threads->polls);
		if (kept)
			*kept = poll;
		else
			l->failed = true;
	}
	found->n = (uint32_t)l->threads->polls.count - found->first;
}

/* Where the future is that the frame drives, by one place of the map; 0 if that needs a
   register that is not known. */
static uint64_t driven_address(struct look *l, const struct af_frame *frame,
			       const struct afm_place *place)
{
	uint64_t value = frame->cfa;
	if (place->base != AFM_B_CFA) {
		if (place->base >= AF_REGISTERS || !(frame->known & 1u << place->base))
			return 0;
		value = frame->registers[place->base];
	}
	if (!value)
		return 0;
	value += (uint64_t)place->offset;
	if (!(place->flags & AFM_PL_POINTER))
		return value;
	return af_memory_read_u64(&l->snapshot->memory, value, &value)
		       ? value + (uint64_t)place->then
		       : 0;
}

/* Whether the address lies in a future that this thread drives further out. */
static bool is_inside(const struct look *l, uint64_t address)
{
	for (size_t i = l->threads->driven.count; i-- > 0;) {
		const struct af_driven *outer = &l->threads->driven.items[i];
		if (outer->thread != l->thread)
			break;
		const struct af_futuremap *map = &l->process->images.items[outer->image].map;
		const struct afm_driver *driver = af_futuremap_drivers(map, outer->driver);
		const struct afm_type *type =
			af_futuremap_types(map, af_futuremap_futures(map, driver->future)->type);
		if (address - outer->address < (type->size ? type->size : 1))
			return true;
	}
	return false;
}

/* Whether, from frame `i` inwards, the first poll is not a task's: then what the frame drives
   is being polled. */
static bool is_polled(const struct look *l, uint32_t i)
{
	while (i-- > 0) {
		uint32_t image;
		uint64_t pc;
		const struct af_futuremap *map = frame_map(l, &l->trace->frames[i], &image, &pc);
		uint32_t poll = map ? find_poll(l, image, pc) : AFM_NONE;
		if (poll != AFM_NONE)
			return af_futuremap_polls(map, poll)->kind != AFM_P_TASK_ROOT;
	}
	return false;
}

/* Whether a frame further out is a poll's. */
static bool is_inside_poll(const struct look *l, uint32_t i)
{
	while (++i < l->trace->n) {
		uint32_t image;
		uint64_t pc;
		const struct af_futuremap *map = frame_map(l, &l->trace->frames[i], &image, &pc);
		uint32_t poll = map ? find_poll(l, image, pc) : AFM_NONE;
		if (poll != AFM_NONE)
			return true;
	}
	return false;
}

static void note_driven(struct look *l, uint32_t i)
{
	const struct af_frame *frame = &l->trace->frames[i];
	uint32_t image, at = 0;
	uint64_t pc;
	const struct af_futuremap *map = frame_map(l, frame, &image, &pc);
	for (; map && (at = af_futuremap_place(map, pc, at)) != AFM_NONE; at++) {
		const struct afm_place *place = af_futuremap_places(map, at);
		uint64_t address = driven_address(l, frame, place);
		if (!address || is_inside(l, address))
			continue;
		struct af_driven *driven = vector_push(&l->threads->driven);
		if (driven)
			*driven = (struct af_driven){
				.thread = l->thread,
				.image = image,
				.driver = place->driver,
				.address = address,
				.running = is_polled(l, i),
				.inside = is_inside_poll(l, i),
				.sp = frame->registers[AF_REGISTER_SP],
			};
		else
			l->failed = true;
	}
}

/* One try; false if the thread goes on meanwhile. */
static bool look_at(struct look *l, struct af_thread_polls *found)
{
	struct af_process_thread *thread = &l->process->threads.items[l->thread];
	size_t n_polls = l->threads->polls.count, n_driven = l->threads->driven.count;

	af_snapshot_begin(l->snapshot);
	found->n = 0;
	found->unknown = "it runs on a processor, and was not stopped to see where (--freeze does)";
	if (!thread->known)
		return false;
	af_unwind(&l->unwinder, &l->snapshot->memory, thread, l->trace);
	found->unknown = "its stack could not be followed to its end";
	found->top = l->trace->n ? l->trace->frames[l->trace->n - 1].registers[AF_REGISTER_SP] : 0;
	if (l->trace->complete) {
		found->unknown = NULL;
		note_polls(l, found);
		for (uint32_t i = l->trace->n; i-- > 0;)
			note_driven(l, i);
	}
	if (af_snapshot_holds(l->snapshot) && !af_process_thread_moved(l->process, thread))
		return true;
	l->threads->polls.count = n_polls;
	l->threads->driven.count = n_driven;
	found->n = 0;
	found->unknown = "it went on each time it was looked at (--freeze stops it)";
	return false;
}

/* Reads a thread's registers anew; one that runs on a processor is given a moment to come to rest,
   as most do. */
static bool read_again(struct look *l)
{
	struct af_process_thread *thread = &l->process->threads.items[l->thread];
	const struct timespec moment = {.tv_nsec = 250000};
	if (!thread->known && !l->moments)
		return false;
	if (!thread->known) {
		l->moments--;
		nanosleep(&moment, NULL);
	}
	af_snapshot_forget(l->snapshot);
	af_process_read_thread(l->process, thread);
	return true;
}

struct af_error *af_threads_look(struct af_threads *threads, struct af_process *process,
				 struct af_snapshot *snapshot)
{
	struct look l = {
		.threads = threads, .process = process, .snapshot = snapshot, .moments = MOMENTS};
	struct af_error *error = af_unwinder_init(&l.unwinder, process);
	l.trace = error ? NULL : malloc(sizeof(*l.trace));
	l.failed = !l.trace;
	collect_bodies(&l);
	for (; l.thread < process->threads.count && !l.failed; l.thread++) {
		struct af_thread_polls found = {.thread = l.thread};
		for (int i = 0; i < TRIES && !look_at(&l, &found) && read_again(&l); i++)
			;
		struct af_thread_polls *kept = vector_push(&threads->items);
		if (kept)
			*kept = found;
		else
			l.failed = true;
	}
	af_unwinder_deinit(&l.unwinder);
	vector_deinit(&l.bodies);
	free(l.trace);
	return error ? error : l.failed ? af_error_create("out of memory") : NULL;
}

bool af_threads_on_stack(const struct af_threads *threads, const struct af_process *process,
			 uint64_t address)
{
	const struct af_mapping *m = af_process_mapping(process, address);
	if (m && m->path && !strncmp(m->path, "[stack", 6))
		return true;
	for (size_t i = 0; m && i < threads->items.count; i++) {
		const struct af_thread_polls *at = &threads->items.items[i];
		const struct af_process_thread *thread = &process->threads.items[at->thread];
		if (!(thread->known & 1u << AF_REGISTER_SP))
			continue;
		uint64_t sp = thread->registers[AF_REGISTER_SP];
		/* A stack may lie right below other memory, as one mapping with it. */
		if (sp >= m->start && sp < m->end && address < (at->top ? at->top : sp))
			return true;
	}
	return false;
}

void af_threads_deinit(struct af_threads *threads)
{
	vector_deinit(&threads->items);
	vector_deinit(&threads->polls);
	vector_deinit(&threads->driven);
}

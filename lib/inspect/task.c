/* SPDX-License-Identifier: MIT */
/*
 * Tasks. Where things lie comes from debug info; what the bits of a state word mean is in no
 * debug info, and has been the same since tokio 1.0 and async-task 4.0:
 *
 *	tokio		RUNNING 1, COMPLETE 2, NOTIFIED 4, ..., CANCELLED 32; references from bit 6
 *	async-task	SCHEDULED 1, RUNNING 2, COMPLETED 4, CLOSED 8, ...; references from bit 8
 */
#include "inspect/task.h"
#include "inspect/walk.h"

enum {
	TOKIO_RUNNING = 1,
	TOKIO_COMPLETE = 2,
	TOKIO_NOTIFIED = 4,
	TOKIO_CANCELLED = 32,
	TOKIO_REFERENCES = 6,
	ASYNC_TASK_SCHEDULED = 1,
	ASYNC_TASK_RUNNING = 2,
	ASYNC_TASK_COMPLETED = 4,
	ASYNC_TASK_CLOSED = 8,
	ASYNC_TASK_TASK = 16, /* the handle exists: a reference that is not counted */
	ASYNC_TASK_REFERENCES = 8,
};

struct places {
	uint64_t state, vtable; /* from the header */
	uint64_t poll;		/* in the vtable */
};

static uint64_t field_at(const struct af_target *target, uint32_t image, uint32_t type,
			 const char *path, bool *found)
{
	uint64_t at = 0;
	*found &= type != AFM_NONE && af_target_path(target, image, path, &type, &at);
	return at;
}

static bool find_places(const struct af_target *target, uint32_t image, const struct afm_root *root,
			struct places *p)
{
	const struct af_futuremap *map = &target->images[image].map;
	bool found = true;

	if (root->executor == AFM_X_TOKIO)
		return af_futuremap_layout(map, "tokio.Header.state", &p->state) &&
		       af_futuremap_layout(map, "tokio.Header.vtable", &p->vtable) &&
		       af_futuremap_layout(map, "tokio.Vtable.poll", &p->poll);
	if (root->executor != AFM_X_ASYNC_TASK ||
	    !af_futuremap_layout(map, "async_task.TaskVTable.run", &p->poll))
		return false;
	p->state = field_at(target, image, root->cell_type, "state", &found);
	p->vtable = field_at(target, image, root->cell_type, "vtable", &found);
	return found;
}

static enum af_task_state tokio_state(uint64_t word, uint64_t *references)
{
	*references = word >> TOKIO_REFERENCES;
	/* Freed, or never one. Nobody holds a task a thousand million times. */
	if (!*references || *references >> 30 ||
	    (word & (TOKIO_RUNNING | TOKIO_COMPLETE)) == (TOKIO_RUNNING | TOKIO_COMPLETE))
		return AF_TASK_INVALID;
	if (word & TOKIO_COMPLETE)
		return AF_TASK_DONE;
	if (word & TOKIO_RUNNING)
		return AF_TASK_RUNNING;
	if (word & TOKIO_CANCELLED)
		return AF_TASK_CANCELLED;
	return word & TOKIO_NOTIFIED ? AF_TASK_SCHEDULED : AF_TASK_IDLE;
}

static enum af_task_state async_task_state(uint64_t word, uint64_t *references)
{
	*references = word >> ASYNC_TASK_REFERENCES;
	if (*references >> 30 || (!*references && !(word & ASYNC_TASK_TASK)))
		return AF_TASK_INVALID;
	if (word & ASYNC_TASK_COMPLETED)
		return AF_TASK_DONE;
	if (word & ASYNC_TASK_CLOSED)
		return AF_TASK_CANCELLED;
	if (word & ASYNC_TASK_RUNNING)
		return AF_TASK_RUNNING;
	return word & ASYNC_TASK_SCHEDULED ? AF_TASK_SCHEDULED : AF_TASK_IDLE;
}

/* tokio: the future is in the stage's variant Running. False if the bytes are no stage. */
static bool read_stage(const struct af_target *target, uint32_t image, const struct afm_root *root,
		       struct af_task *task)
{
	const struct af_futuremap *map = &target->images[image].map;
	uint64_t at = task->header;
	uint32_t type = root->cell_type, variant;

	if (type == AFM_NONE || !af_target_path(target, image, "core.stage", &type, &at))
		return false;
	type = af_dig_enum(target, image, type);
	if (type == AFM_NONE)
		return false;
	switch (af_target_variant(target, image, type, at, &variant)) {
	case AF_ACTIVE_FOUND:
		break;
	case AF_ACTIVE_UNREADABLE:
		task->state = AF_TASK_UNREADABLE;
		return false;
	default:
		return false;
	}
	const struct afm_variant *v = af_futuremap_variants(map, variant);
	if (strcmp(af_futuremap_string(map, v->name), "Running")) {
		/* Ended, though the state word does not say so yet. */
		task->state = AF_TASK_DONE;
		return true;
	}
	if (v->n_fields != 1)
		return false;
	const struct afm_field *field = af_futuremap_fields(map, v->first_field);
	task->future = at + field->offset;
	task->future_type = field->type;
	return true;
}

static void read_id(const struct af_target *target, uint32_t image, const struct afm_root *root,
		    struct af_task *task)
{
	uint32_t type = root->cell_type;
	uint64_t at = task->header;

	if (root->executor == AFM_X_TOKIO && type != AFM_NONE &&
	    af_target_path(target, image, "core.task_id", &type, &at) &&
	    af_target_type(target, image, type)->size == 8)
		task->has_id = af_memory_read_u64(target->memory, at, &task->id);
}

static bool is_live(enum af_task_state state)
{
	return state == AF_TASK_IDLE || state == AF_TASK_SCHEDULED || state == AF_TASK_RUNNING;
}

bool af_task_read(const struct af_target *target, uint32_t image, uint32_t root, uint64_t header,
		  struct af_task *task)
{
	const struct af_futuremap *map = &target->images[image].map;
	const struct afm_root *r = af_futuremap_roots(map, root);
	uint64_t vtable, poll;
	struct places p;

	*task = (struct af_task){
		.header = header, .image = image, .root = root, .future_type = AFM_NONE};
	uint64_t align =
		r->cell_type == AFM_NONE ? 0 : af_futuremap_types(map, r->cell_type)->align;
	if (header % (align ? align : 8) || !find_places(target, image, r, &p))
		return false;
	task->state = AF_TASK_UNREADABLE;
	if (!af_memory_read_u64(target->memory, header + p.vtable, &vtable) ||
	    !af_memory_read_u64(target->memory, vtable + p.poll, &poll) ||
	    !af_memory_read_u64(target->memory, header + p.state, &task->state_word))
		return false;
	task->state = AF_TASK_INVALID;
	if (poll - target->images[image].bias != af_futuremap_polls(map, r->poll)->address)
		return false;
	task->state = r->executor == AFM_X_TOKIO
			      ? tokio_state(task->state_word, &task->references)
			      : async_task_state(task->state_word, &task->references);
	if (task->state == AF_TASK_INVALID)
		return false;
	if (r->executor == AFM_X_TOKIO) {
		if (!read_stage(target, image, r, task)) {
			if (task->state != AF_TASK_UNREADABLE)
				task->state = AF_TASK_INVALID;
			return false;
		}
	} else if (is_live(task->state) && r->future_offset != AFM_NONE) {
		task->future = header + r->future_offset;
		task->future_type = r->future_type;
	}
	read_id(target, image, r, task);
	if (!is_live(task->state)) {
		task->future = 0;
		task->future_type = AFM_NONE;
	}
	return true;
}

bool af_task_read_tree(const struct af_target *target, uint32_t image, uint32_t root,
		       uint64_t header, struct af_task *task, struct af_await_tree *tree)
{
	const struct afm_root *r = af_futuremap_roots(&target->images[image].map, root);
	struct places p;
	uint64_t word;

	bool read = af_task_read(target, image, root, header, task);
	uint32_t type = task->future_type != AFM_NONE ? task->future_type : r->future_type;
	if (!read || !task->future || task->state == AF_TASK_RUNNING || type == AFM_NONE) {
		af_await_tree_clear(tree, target, image, type,
				    task->state == AF_TASK_DONE ? AF_NODE_DONE : AF_NODE_UNKNOWN);
		return read;
	}
	af_await_tree_read(tree, target, image, type, task->future);
	return find_places(target, image, r, &p) &&
	       af_memory_read_u64(target->memory, header + p.state, &word) &&
	       word == task->state_word;
}

uint32_t af_task_root_by_poll(const struct af_target *target, uint64_t poll, uint32_t *image)
{
	for (uint32_t i = 0; i < target->n_images; i++) {
		const struct af_futuremap *map = &target->images[i].map;
		uint64_t address = poll - target->images[i].bias;
		uint32_t low = 0, high = (uint32_t)map->header->polls.count;
		while (low < high) {
			uint32_t middle = low + (high - low) / 2;
			if (af_futuremap_polls(map, middle)->address < address)
				low = middle + 1;
			else
				high = middle;
		}
		for (; low < map->header->polls.count; low++) {
			const struct afm_poll *p = af_futuremap_polls(map, low);
			if (p->address != address)
				break;
			if (p->root == AFM_NONE)
				continue;
			*image = i;
			return p->root;
		}
	}
	return AFM_NONE;
}

bool af_task_is_blocking(const struct af_target *target, uint32_t image, uint64_t header)
{
	const struct af_futuremap *map = &target->images[image].map;
	uint64_t vtable_at, poll_at, vtable, poll;
	static const char blocking[] = "tokio::runtime::blocking::task::BlockingTask<";

	if (!af_futuremap_layout(map, "tokio.Header.vtable", &vtable_at) ||
	    !af_futuremap_layout(map, "tokio.Vtable.poll", &poll_at) ||
	    !af_memory_read_u64(target->memory, header + vtable_at, &vtable) ||
	    !af_memory_read_u64(target->memory, vtable + poll_at, &poll))
		return false;
	uint32_t root = af_task_root_by_poll(target, poll, &image);
	if (root == AFM_NONE)
		return false;
	uint32_t type = af_futuremap_roots(&target->images[image].map, root)->future_type;
	return type != AFM_NONE &&
	       !strncmp(af_target_string(target, image, af_target_type(target, image, type)->name),
			blocking, sizeof(blocking) - 1);
}

/* SPDX-License-Identifier: MIT */
/* Finding the tasks: by headers, by stacks, by wakers; each once. */
#include "runtimes/tasks.h"

#define SMALL_TREE 4096
#define MANY_REFERENCES ((uint64_t)1 << 24)

/* A candidate that holds no task is dropped here: memory that was freed still shows a header,
   but not a state word with references (an allocator has written to it, or the last of them was
   given back). */
static bool is_plausible(const struct af_task *task)
{
	return task->references < MANY_REFERENCES &&
	       (task->references || task->state == AF_TASK_IDLE);
}

static void read_owner(struct af_task_list *t, struct af_found_task *found, uint32_t offset)
{
	uint64_t owner;
	if (offset == AFM_NONE ||
	    !af_memory_read_u64(t->target.memory, found->task.header + offset, &owner))
		return;
	/* 0: in no runtime's list, as closures on the blocking pool are. */
	found->has_owner = owner != 0;
	found->owner = owner;
}

static void try_header(struct af_task_list *t, const struct af_header *header)
{
	const struct af_vtable *vtable = &t->headers.vtables.items[header->vtable];
	struct af_found_task found = {
		.found_by = AF_BY_HEADER,
		.executor = vtable->executor,
		.blocking = vtable->blocking,
		.vtable = header->vtable,
	};

	/* A task is built on the stack of the thread that spawns it, and moved to the heap: what
	   stays behind looks like one. */
	if (af_threads_on_stack(&t->threads, t->process, header->address))
		return;
	af_snapshot_begin(&t->snapshot);
	if (!af_task_read(&t->target, vtable->image, vtable->root, header->address, &found.task) ||
	    !is_plausible(&found.task))
		return;
	read_owner(t, &found, vtable->owner);
	/* A task that no runtime has taken yet. tokio before 1.13 has no such field. */
	if (vtable->executor == AFM_X_TOKIO && vtable->owner != AFM_NONE && !found.has_owner &&
	    !found.blocking)
		return;
	struct af_found_task *kept = vector_push(&t->items);
	if (kept)
		*kept = found;
	else
		t->headers.failed = true;
}

/* Whether the address lies in a task that was found by its header: what a task drives itself is
   in that task's own tree, or is a frame's of the task's poll. */
static bool in_a_task(const struct af_task_list *t, uint64_t address)
{
	for (size_t i = 0; i < t->items.count; i++) {
		const struct af_found_task *found = &t->items.items[i];
		const struct af_futuremap *map = &t->target.images[found->task.image].map;
		uint64_t size = 1;
		if (found->found_by != AF_BY_HEADER)
			continue;
		const struct afm_root *root = af_futuremap_roots(map, found->task.root);
		if (root->cell_type != AFM_NONE)
			size = af_futuremap_types(map, root->cell_type)->size;
		else if (root->future_type != AFM_NONE && root->future_offset != AFM_NONE)
			size = root->future_offset +
			       af_futuremap_types(map, root->future_type)->size;
		if (address - found->task.header < size)
			return true;
	}
	return false;
}

/* What threads drive, while it is being collected. */
struct collector {
	struct af_task_list *list;
	struct af_await_tree tree;
	struct af_map seen; /* addresses of futures in trees of the same thread */
	uint32_t thread;
};

/* Reads what is driven, to find what it really is: block_on is often given a reference. False
   if a future further out on this stack awaits it: that one's tree shows it. */
static bool resolve_driven(struct collector *c, struct af_found_task *found,
			   struct af_driven *driven)
{
	const struct af_await_tree *tree = &c->tree;
	af_await_tree_read(&c->tree, &c->list->target, found->task.image, found->task.future_type,
			   found->task.future);
	if (!tree->n_nodes)
		return true;
	const struct af_node *root = &tree->nodes[0];
	driven->begun = root->status == AF_NODE_SUSPENDED;
	if (af_map_get(&c->seen, root->address) != UINT32_MAX)
		return false;
	for (uint32_t i = 0; i < tree->n_nodes; i++)
		af_map_set(&c->seen, tree->nodes[i].address, 1);
	found->task.header = found->task.future = root->address;
	found->task.image = root->image;
	found->task.future_type = root->type;
	return true;
}

static void add_driven(struct collector *c, uint32_t i)
{
	struct af_task_list *t = c->list;
	struct af_driven *driven = &t->threads.driven.items[i];
	const struct af_futuremap *map = &t->target.images[driven->image].map;
	const struct afm_driver *driver = af_futuremap_drivers(map, driven->driver);
	struct af_found_task found = {
		.task = {.header = driven->address,
			 .image = driven->image,
			 .root = AFM_NONE,
			 .state = driven->running ? AF_TASK_RUNNING : AF_TASK_IDLE,
			 .future = driven->address,
			 .future_type = af_futuremap_futures(map, driver->future)->type},
		.found_by = AF_BY_STACK,
		.executor = AFM_X_OTHER,
		.thread = t->process->threads.items[driven->thread].tid,
		.driven = i,
	};
	if (driven->thread != c->thread)
		af_map_deinit(&c->seen);
	c->thread = driven->thread;
	if (!af_task_list_is_own(t, driven) || !resolve_driven(c, &found, driven) ||
	    in_a_task(t, found.task.header))
		return;
	struct af_found_task *kept = vector_push(&t->items);
	if (kept)
		*kept = found;
	else
		t->headers.failed = true;
}

/* Whether a future is only the place that another one of the same frame was moved from, which still
   looks as it did then. */
static bool is_left_behind(const struct af_task_list *t, const struct af_found_task *found)
{
	const struct af_driven *own = &t->threads.driven.items[found->driven];
	for (size_t i = 0; i < t->items.count && !own->begun; i++) {
		const struct af_found_task *other = &t->items.items[i];
		if (other->found_by != AF_BY_STACK || other->thread != found->thread ||
		    other->task.image != found->task.image ||
		    other->task.future_type != found->task.future_type)
			continue;
		const struct af_driven *driven = &t->threads.driven.items[other->driven];
		if (driven->begun && driven->sp == own->sp)
			return true;
	}
	return false;
}

static void drop_left_behind(struct af_task_list *t)
{
	size_t kept = 0;
	for (size_t i = 0; i < t->items.count; i++)
		if (t->items.items[i].found_by == AF_BY_STACK &&
		    is_left_behind(t, &t->items.items[i]))
			t->items.items[i].found_by = 0;
	for (size_t i = 0; i < t->items.count; i++)
		if (t->items.items[i].found_by)
			t->items.items[kept++] = t->items.items[i];
	t->items.count = kept;
}

/* Outermost first, as they lie on each stack. */
static void add_all_driven(struct af_task_list *t)
{
	struct collector c = {.list = t, .thread = UINT32_MAX};
	size_t size = af_await_tree_size(SMALL_TREE);
	void *block = malloc(size);
	if (!block || !af_await_tree_init(&c.tree, block, size)) {
		t->headers.failed = true;
	} else {
		for (uint32_t i = 0; i < t->threads.driven.count; i++)
			add_driven(&c, i);
		drop_left_behind(t);
	}
	t->headers.failed |= c.seen.failed;
	af_map_deinit(&c.seen);
	free(block);
}

/* What wakers lead to, without what other tasks await (FuturesUnordered makes such wakers for
   its futures) */

static void note_nodes(void *arg, const struct af_task_view *view)
{
	struct af_map *seen = arg;
	for (uint32_t i = 0; i < view->n_nodes; i++)
		af_map_set(seen, view->nodes[i].address, 1);
}

static bool is_unordered(const struct af_task_list *t, const struct af_woken *woken)
{
	const struct af_futuremap *map = &t->target.images[woken->image].map;
	const char *name = af_futuremap_string(map, af_futuremap_types(map, woken->type)->name);
	return strstr(name, "futures_unordered::task::Task<") != NULL;
}

static void add_woken(struct af_task_list *t, struct af_await_tree *tree, struct af_map *seen,
		      uint32_t i)
{
	const struct af_woken *woken = &t->wakers.items.items[i];
	struct af_found_task found = {
		.task = {.header = woken->address, .image = woken->image, .root = AFM_NONE},
		.found_by = AF_BY_WAKER,
		.executor = AFM_X_OTHER,
		.woken = i,
	};
	af_snapshot_begin(&t->snapshot);
	if (is_unordered(t, woken) || !af_task_list_read_woken(t, &found, tree) ||
	    af_map_get(seen, found.task.future) != UINT32_MAX)
		return;
	struct af_found_task *kept = vector_push(&t->items);
	if (kept)
		*kept = found;
	else
		t->headers.failed = true;
}

static struct af_error *add_all_woken(struct af_task_list *t)
{
	struct af_await_tree tree;
	struct af_map seen = {0};
	const struct af_task_visitor visitor = {.arg = &seen, .visit = note_nodes};
	struct af_error *error = NULL;

	af_wakers_find(&t->wakers, t->process, t->target.memory);
	t->headers.failed |= t->wakers.failed;
	if (!t->wakers.items.count)
		return NULL;
	size_t size = af_await_tree_size(SMALL_TREE);
	void *block = malloc(size);
	if (!block || !af_await_tree_init(&tree, block, size))
		error = af_error_create("out of memory");
	else
		error = af_task_list_visit(t, &tree, &visitor);
	for (uint32_t i = 0; i < t->wakers.items.count && !error; i++)
		add_woken(t, &tree, &seen, i);
	t->headers.failed |= seen.failed;
	af_map_deinit(&seen);
	free(block);
	return error;
}

static int compare_tasks(const void *a, const void *b)
{
	const struct af_found_task *x = a, *y = b;
	if (x->executor != y->executor)
		return x->executor < y->executor ? -1 : 1;
	if (x->task.has_id && y->task.has_id && x->task.id != y->task.id)
		return x->task.id < y->task.id ? -1 : 1;
	return x->task.header < y->task.header ? -1 : x->task.header > y->task.header;
}

struct af_error *af_task_list_find(struct af_task_list *t, struct af_process *process)
{
	memset(t, 0, sizeof(*t));
	t->process = process;
	struct af_error *error = af_snapshot_init(&t->snapshot, process);
	if (error)
		return error;
	t->target = af_process_target(process, &t->snapshot.memory);
	af_headers_find_vtables(&t->headers, process);
	af_headers_find(&t->headers, process);
	error = af_threads_look(&t->threads, process, &t->snapshot);
	if (error)
		return error;
	for (size_t i = 0; i < t->headers.items.count; i++)
		try_header(t, &t->headers.items.items[i]);
	vector_deinit(&t->headers.items);
	add_all_driven(t);
	error = add_all_woken(t);
	if (error)
		return error;
	af_task_list_match_threads(t);
	vector_sort(&t->items, compare_tasks);
	for (uint32_t i = 0; i < t->items.count; i++) {
		t->counts[t->items.items[i].task.state]++;
		af_map_set(&t->by_address, t->items.items[i].task.header, i);
	}
	return t->headers.failed || t->by_address.failed ? af_error_create("out of memory") : NULL;
}

void af_task_list_deinit(struct af_task_list *t)
{
	af_headers_deinit(&t->headers);
	af_snapshot_deinit(&t->snapshot);
	vector_deinit(&t->items);
	af_threads_deinit(&t->threads);
	af_wakers_deinit(&t->wakers);
	af_recorder_deinit(&t->recorder);
	af_map_deinit(&t->by_address);
}

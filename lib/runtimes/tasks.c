/* SPDX-License-Identifier: MIT */
#include "runtimes/tasks.h"

#include <time.h>

#define TRIES 12
#define SMALL_TREE 4096
#define BATCH 256 /* tasks */
#define BATCH_NODES 65536u
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
	if (vtable->executor == AFM_X_TOKIO && !found.has_owner && !found.blocking)
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
static bool resolve_driven(struct collector *c, struct af_found_task *found)
{
	const struct af_await_tree *tree = &c->tree;
	af_await_tree_read(&c->tree, &c->list->target, found->task.image, found->task.future_type,
			   found->task.future);
	if (!tree->n_nodes)
		return true;
	const struct af_node *root = &tree->nodes[0];
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
	const struct af_driven *driven = &t->threads.driven.items[i];
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
	if (!resolve_driven(c, &found) || in_a_task(t, found.task.header))
		return;
	struct af_found_task *kept = vector_push(&t->items);
	if (kept)
		*kept = found;
	else
		t->headers.failed = true;
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
	}
	t->headers.failed |= c.seen.failed;
	af_map_deinit(&c.seen);
	free(block);
}

/* A coroutine that is awaited has been polled and is not done: its parent would not stand
   there. If it seems so, the two were read at different times. */
static bool contradicts(const struct af_await_tree *tree)
{
	for (uint32_t i = 0; i < tree->n_nodes; i++) {
		const struct af_node *node = &tree->nodes[i];
		if (node->relation != AF_IS_AWAITED || node->parent >= tree->n_nodes ||
		    tree->nodes[node->parent].status != AF_NODE_SUSPENDED)
			continue;
		if (node->status == AF_NODE_NOT_STARTED || node->status == AF_NODE_DONE ||
		    node->status == AF_NODE_PANICKED || node->status == AF_NODE_UNKNOWN)
			return true;
	}
	return false;
}

static void read_spawned(struct af_task_list *t, struct af_found_task *found)
{
	found->spawned = 0;
	if (found->found_by != AF_BY_HEADER)
		return;
	uint32_t offset = t->headers.vtables.items[found->vtable].spawned;
	if (offset != AFM_NONE)
		(void)af_memory_read_u64(t->target.memory, found->task.header + offset,
					 &found->spawned);
}

/* Location { file: &str, line: u32, col: u32 }: not described where nobody asks for it, but its
   layout has been this as long as #[track_caller] has been there. Held against what it must be. */
bool af_task_list_location(const struct af_task_list *t, uint64_t address, char *path, size_t size,
			   uint32_t *line)
{
	struct {
		uint64_t file, length;
		uint32_t line, column;
	} location;
	if (!address || size < 8 ||
	    !af_memory_read(t->target.memory, address, &location, sizeof(location)))
		return false;
	/* Newer ones count the zero behind the path. */
	uint64_t n = location.length;
	if (n < 4 || n >= size || !location.line || location.line > 10000000 ||
	    !af_memory_read(t->target.memory, location.file, path, n))
		return false;
	path[n] = '\0';
	n = strlen(path);
	*line = location.line;
	return n + 1 >= location.length && n >= 4 && !strcmp(path + n - 3, ".rs");
}

/* Reads what a waker leads to, and finds its future: the only one that it holds. */
static bool read_woken(struct af_task_list *t, struct af_found_task *found,
		       struct af_await_tree *tree)
{
	const struct af_woken *woken = &t->wakers.items.items[found->woken];
	uint64_t counts[2];
	/* A task that is freed meanwhile changes its counts at least. */
	(void)af_memory_read(t->target.memory, woken->address - sizeof(counts), counts,
			     sizeof(counts));
	af_await_tree_read(tree, &t->target, woken->image, woken->type, woken->address);
	if (tree->n_nodes < 2 || tree->nodes[0].n_children != 1) {
		found->task.state = AF_TASK_INVALID;
		return false;
	}
	const struct af_node *future = &tree->nodes[1];
	found->task.image = future->image;
	found->task.future = future->address;
	found->task.future_type = future->type;
	found->task.state = future->status == AF_NODE_NOT_STARTED ? AF_TASK_SCHEDULED
			    : future->status == AF_NODE_DONE	  ? AF_TASK_DONE
								  : AF_TASK_IDLE;
	return true;
}

/* One try to read; true if it can be shown, should all that was read hold. */
static bool try_read(struct af_task_list *t, struct af_found_task *found,
		     struct af_await_tree *tree)
{
	struct af_task *task = &found->task;
	tree->n_nodes = 0;
	if (found->found_by == AF_BY_STACK)
		af_await_tree_read(tree, &t->target, task->image, task->future_type, task->future);
	else if (found->found_by == AF_BY_WAKER)
		return read_woken(t, found, tree) && (t->snapshot.still || !contradicts(tree));
	else if (!af_task_read_tree(&t->target, task->image, task->root, task->header, task, tree))
		return false;
	read_spawned(t, found);
	if (task->state != AF_TASK_IDLE && task->state != AF_TASK_SCHEDULED)
		tree->n_nodes = 0;
	return t->snapshot.still || !contradicts(tree);
}

/* What a thread drives in its frame is there as long as the frame is. */
static bool frame_holds(struct af_task_list *t, const struct af_found_task *found)
{
	if (found->found_by != AF_BY_STACK)
		return true;
	uint32_t thread = t->threads.driven.items[found->driven].thread;
	return !af_process_thread_moved(t->process, &t->process->threads.items[thread]);
}

static void wait_a_little(int tries)
{
	struct timespec time = {0, 20000L << (tries < 6 ? tries : 6)};
	nanosleep(&time, NULL);
}

/* A task of a batch that has been read and not yet compared. */
struct item {
	struct af_found_task *found;
	struct af_found_task before;
	size_t first_node, n_nodes;
	size_t first_read, end_read;
	size_t text, text_size;
	uint64_t likeness;
	uint32_t cut;
	bool read;
};

struct batch {
	struct af_task_list *list;
	struct af_await_tree *tree;
	const struct af_task_visitor *visitor;
	struct item items[BATCH];
	size_t n;
	VECTOR(struct af_node) nodes;
	struct af_text text;
	bool failed;
};

static void empty(struct batch *b)
{
	b->n = b->nodes.count = 0;
	af_text_clear(&b->text);
	af_snapshot_begin(&b->list->snapshot);
}

static void read_item(struct batch *b, struct item *item)
{
	struct af_await_tree *tree = b->tree;
	item->first_read = af_snapshot_mark(&b->list->snapshot);
	item->first_node = b->nodes.count;
	item->text = b->text.length;
	item->read = try_read(b->list, item->found, tree);
	item->n_nodes = item->read ? tree->n_nodes : 0;
	item->cut = tree->cut;
	item->likeness = tree->likeness;
	if (item->n_nodes && b->visitor->more)
		b->visitor->more(b->visitor->arg, &b->list->target, tree, &b->text);
	item->text_size = b->text.length - item->text;
	item->end_read = af_snapshot_mark(&b->list->snapshot);
	if (!vector_reserve(&b->nodes, item->n_nodes)) {
		b->failed = true;
		item->n_nodes = 0;
	}
	if (item->n_nodes)
		memcpy(b->nodes.items + item->first_node, tree->nodes,
		       item->n_nodes * sizeof(*tree->nodes));
	b->nodes.count += item->n_nodes;
}

static void show_item(struct batch *b, const struct item *item)
{
	struct af_task_view view = {
		.found = item->found,
		.nodes = b->nodes.items + item->first_node,
		.n_nodes = (uint32_t)item->n_nodes,
		.cut = item->n_nodes ? item->cut : 0,
		.likeness = item->likeness,
		.more = af_text_get(&b->text) + item->text,
		.more_size = item->text_size,
	};
	b->visitor->visit(b->visitor->arg, &view);
}

static bool holds(struct batch *b, const struct item *item)
{
	return item->read &&
	       af_snapshot_held(&b->list->snapshot, item->first_read, item->end_read) &&
	       frame_holds(b->list, item->found);
}

/* A task that moved while its batch was read, alone. */
static void read_again(struct batch *b, struct item *item)
{
	int invalid = item->found->task.state == AF_TASK_INVALID;
	for (int i = 0; i < TRIES; i++) {
		wait_a_little(i);
		af_snapshot_forget(&b->list->snapshot);
		empty(b);
		*item->found = item->before;
		read_item(b, item);
		af_snapshot_compare(&b->list->snapshot);
		if (holds(b, item)) {
			show_item(b, item);
			return;
		}
		invalid += item->found->task.state == AF_TASK_INVALID;
	}
	if (invalid > TRIES / 2) /* has ended */
		return;
	*item->found = item->before;
	item->found->moving = true;
	item->n_nodes = item->text_size = 0;
	show_item(b, item);
}

/* Shows in order; what comes behind one that moved must be read again after it, since that
   one's reading empties the batch: so these few are read first and kept aside. */
static void finish_batch(struct batch *b)
{
	struct item moved[BATCH];
	size_t n_moved = 0;
	af_snapshot_compare(&b->list->snapshot);
	for (size_t i = 0; i < b->n; i++) {
		struct item *item = &b->items[i];
		if (holds(b, item))
			show_item(b, item);
		else if (!b->list->snapshot.still)
			moved[n_moved++] = *item;
	}
	for (size_t i = 0; i < n_moved; i++)
		read_again(b, &moved[i]);
	empty(b);
}

struct af_error *af_task_list_visit(struct af_task_list *t, struct af_await_tree *tree,
				    const struct af_task_visitor *visitor)
{
	struct batch *b = calloc(1, sizeof(*b));
	if (!b)
		return af_error_create("out of memory");
	b->list = t;
	b->tree = tree;
	b->visitor = visitor;
	empty(b);
	for (size_t i = 0; i < t->items.count && !b->failed; i++) {
		struct item *item = &b->items[b->n++];
		*item = (struct item){.found = &t->items.items[i], .before = t->items.items[i]};
		read_item(b, item);
		if (b->n == BATCH || b->nodes.count > BATCH_NODES)
			finish_batch(b);
	}
	finish_batch(b);
	bool failed = b->failed || b->text.failed;
	vector_deinit(&b->nodes);
	af_text_deinit(&b->text);
	free(b);
	return failed ? af_error_create("out of memory") : NULL;
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
	if (is_unordered(t, woken) || !read_woken(t, &found, tree) ||
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
	af_map_deinit(&t->by_address);
}

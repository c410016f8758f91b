/* SPDX-License-Identifier: MIT */
/* Reading the tasks, many at once, each in one picture. */
#include "runtimes/tasks.h"

#include <time.h>

#include "inspect/shape.h"
#include "runtimes/names.h"

#define TRIES 12
#define STEADY 4  /* of these show the same */
#define BATCH 256 /* tasks */
#define BATCH_NODES 65536u

/* A coroutine that is awaited has been polled and is not done: its parent would not stand
   there. If it seems so, the two were read at different times. Of a `dyn` that no map knows (a
   stripped library's) there is nothing to be said. */
static bool contradicts(const struct af_target *target, const struct af_await_tree *tree)
{
	for (uint32_t i = 0; i < tree->n_nodes; i++) {
		const struct af_node *node = &tree->nodes[i];
		if (node->relation != AF_IS_AWAITED || node->parent >= tree->n_nodes ||
		    tree->nodes[node->parent].status != AF_NODE_SUSPENDED)
			continue;
		if (node->status == AF_NODE_NOT_STARTED || node->status == AF_NODE_DONE ||
		    node->status == AF_NODE_PANICKED ||
		    (node->status == AF_NODE_UNKNOWN &&
		     af_shape_of(target, node->image, node->type) != AF_SHAPE_DYN))
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

bool af_task_list_read_woken(struct af_task_list *t, struct af_found_task *found,
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
		return af_task_list_read_woken(t, found, tree);
	else if (!af_task_read_tree(&t->target, task->image, task->root, task->header, task, tree))
		return false;
	/* It has gone on since the threads were looked at. */
	if (found->found_by == AF_BY_HEADER && task->state != AF_TASK_RUNNING)
		found->thread = 0;
	read_spawned(t, found);
	if (found->executor == AFM_X_ASYNC_TASK && tree->n_nodes)
		af_task_name(&t->target, task->image, task->future_type, task->future, found->name,
			     sizeof(found->name));
	if (task->state != AF_TASK_IDLE && task->state != AF_TASK_SCHEDULED)
		tree->n_nodes = 0;
	return true;
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
	uint64_t likeness, identity;
	uint32_t cut;
	bool read;
	bool contradicts; /* itself: perhaps two moments in one */
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
	item->identity = tree->identity;
	item->contradicts =
		item->n_nodes && !b->list->snapshot.still && contradicts(&b->list->target, tree);
	if (item->n_nodes && b->visitor->more)
		b->visitor->more(b->visitor->arg, &b->list->target, item->found, tree, &b->text);
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
	struct af_found_task *found = item->found;
	found->has_polled = b->visitor->timed && found->found_by == AF_BY_HEADER &&
			    !found->moving &&
			    af_recorder_polled(&b->list->recorder, &found->task, &found->polled);
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

static bool stood(struct batch *b, const struct item *item)
{
	return item->read &&
	       af_snapshot_held(&b->list->snapshot, item->first_read, item->end_read) &&
	       frame_holds(b->list, item->found);
}

static bool holds(struct batch *b, const struct item *item)
{
	return !item->contradicts && stood(b, item);
}

/* Then, when they were polled: not before the picture is. */
static void compare(struct batch *b)
{
	af_snapshot_compare(&b->list->snapshot);
	if (b->visitor->timed)
		af_recorder_update(&b->list->recorder);
}

static bool is_stopped(const struct batch *b)
{
	return b->visitor->stop && b->visitor->stop(b->visitor->arg);
}

/* A task that moved while its batch was read, alone. */
static void read_again(struct batch *b, struct item *item)
{
	int invalid = item->found->task.state == AF_TASK_INVALID, steady = 0;
	uint64_t last = 0;
	for (int i = 0; i < TRIES && !is_stopped(b); i++) {
		wait_a_little(i);
		af_snapshot_forget(&b->list->snapshot);
		empty(b);
		*item->found = item->before;
		read_item(b, item);
		compare(b);
		/* What seems to contradict itself each time, and never moves, is so: whatever the
		   map has got wrong of it. Not without a state word, though: it may be in a poll. */
		bool same = stood(b, item) && item->identity == last &&
			    item->found->found_by == AF_BY_HEADER;
		steady = same ? steady + 1 : 0;
		last = item->identity;
		if (holds(b, item) || steady == STEADY) {
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
	compare(b);
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
		t->items.items[i].moving = false; /* as it may have been at an earlier visit */
		*item = (struct item){.found = &t->items.items[i], .before = t->items.items[i]};
		read_item(b, item);
		if (b->n < BATCH && b->nodes.count <= BATCH_NODES)
			continue;
		finish_batch(b);
		if (is_stopped(b))
			break;
	}
	finish_batch(b);
	bool failed = b->failed || b->text.failed;
	vector_deinit(&b->nodes);
	af_text_deinit(&b->text);
	free(b);
	return failed ? af_error_create("out of memory") : NULL;
}

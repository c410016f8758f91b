/* SPDX-License-Identifier: MIT */
#include "runtimes/look.h"

#include <time.h>

#include "runtimes/modules.h"
#include "runtimes/tasks.h"

#define TREE_NODES 65536u
#define TASKS_MAX (1u << 20)
#define THREADS_MAX 128 /* whose switches are counted */
#define LEVELS_MAX (1u << 22)
#define TIME_MAX 300000000 /* ns of the processor's time, in which tasks are read */

/* Of one thread, before it was looked at. */
struct switches {
	pid_t tid;
	uint64_t count;
};

struct look {
	const struct af_look_block *before;
	struct af_process *process;
	struct afr_look head;
	VECTOR(struct afr_look_task) tasks;
	VECTOR(struct afr_look_level) levels;
	VECTOR(struct switches) switches;
	VECTOR(uint32_t) places; /* of a task's nodes among its levels, or AFM_NONE */
	uint32_t visited;
	bool stopped, failed;
};

static uint64_t ticks(const struct af_session *session)
{
	return __builtin_ia32_rdtsc() - session->base_tsc;
}

/* What is waited for. Held futures, finished branches and second sights of one are not; what is
   no such future tells nothing, nor what is below it. */
static bool is_awaited(const struct af_node *node)
{
	return node->relation != AF_IS_HELD && !(node->flags & AF_NODE_DISABLED) &&
	       (node->status == AF_NODE_NOT_STARTED || node->status == AF_NODE_SUSPENDED ||
		node->status == AF_NODE_HAND);
}

static enum afr_level_state state_of(const struct af_node *node)
{
	return node->status == AF_NODE_SUSPENDED     ? AFR_LEVEL_SUSPENDED
	       : node->status == AF_NODE_NOT_STARTED ? AFR_LEVEL_NOT_STARTED
						     : AFR_LEVEL_HAND;
}

/* Nodes come in order of a walk from the root: a parent is before its children. */
static void add_levels(struct look *look, struct afr_look_task *task,
		       const struct af_task_view *view)
{
	task->first_level = (uint32_t)look->levels.count;
	look->places.count = 0;
	if (!vector_reserve(&look->places, view->n_nodes) ||
	    !vector_reserve(&look->levels, view->n_nodes)) {
		look->failed = true;
		return;
	}
	for (uint32_t i = 0; i < view->n_nodes; i++) {
		const struct af_node *node = &view->nodes[i];
		bool root = node->parent == AF_NODE_NONE;
		uint32_t parent = root ? AFM_NONE : look->places.items[node->parent];
		look->places.items[look->places.count++] = AFM_NONE;
		if (!is_awaited(node) || (!root && parent == AFM_NONE))
			continue;
		look->places.items[i] = task->n_levels++;
		look->levels.items[look->levels.count++] = (struct afr_look_level){
			.address = node->address,
			.parent = parent,
			.object = look->process->images.items[node->image].object,
			.type = node->type,
			.variant = node->variant,
			.state = state_of(node),
		};
	}
}

static void count_switches(struct look *look)
{
	for (size_t i = 0; i < look->process->threads.count && i < THREADS_MAX; i++) {
		struct switches *kept = vector_push(&look->switches);
		if (!kept)
			return; /* then less is known */
		kept->tid = look->process->threads.items[i].tid;
		kept->count = af_process_thread_switches(look->process, kept->tid);
	}
}

/* How often the thread had been switched, if it has not run since this look began. */
static uint64_t still_switches(const struct look *look, pid_t tid)
{
	for (size_t i = 0; i < look->switches.count; i++)
		if (look->switches.items[i].tid == tid)
			return look->switches.items[i].count ==
					       af_process_thread_switches(look->process, tid)
				       ? look->switches.items[i].count
				       : 0;
	return 0;
}

/* What a thread drives was seen before, and the thread has not run since: so it has stood there
   all the time. */
static void find_since(const struct look *look, struct afr_look_task *task)
{
	const struct afr_look *head = look->before->data;
	task->since = look->head.begin;
	task->switches = still_switches(look, (pid_t)task->tid);
	if (!task->switches || look->before->size < sizeof(*head) ||
	    (look->before->size - sizeof(*head)) / sizeof(*task) < head->n_tasks)
		return;
	const struct afr_look_task *tasks = (const void *)(head + 1);
	for (uint32_t i = 0; i < head->n_tasks; i++)
		if (tasks[i].found_by == AFR_BY_STACK && tasks[i].tid == task->tid &&
		    tasks[i].address == task->address && tasks[i].switches == task->switches)
			task->since = tasks[i].since;
}

static void visit(void *arg, const struct af_task_view *view)
{
	struct look *look = arg;
	look->visited++;
	const struct af_found_task *found = view->found;
	bool header = found->found_by == AF_BY_HEADER;
	struct afr_look_task task = {
		.address = header ? found->task.header : found->task.future,
		.id = found->task.has_id ? found->task.id : 0,
		.tid = found->found_by == AF_BY_STACK ? (uint32_t)found->thread : 0,
		.found_by = found->found_by,
		.object =
			header ? (uint8_t)look->process->images.items[found->task.image].object : 0,
	};
	switch (found->task.state) {
	case AF_TASK_IDLE:
	case AF_TASK_SCHEDULED:
		task.state = AFR_LOOK_PARKED;
		break;
	case AF_TASK_RUNNING:
		task.state = AFR_LOOK_RUNNING;
		break;
	case AF_TASK_DONE:
	case AF_TASK_CANCELLED:
		task.state = AFR_LOOK_ENDED;
		break;
	default:
		return;
	}
	task.since = look->head.begin;
	if (found->found_by == AF_BY_STACK)
		find_since(look, &task);
	if (look->tasks.count == TASKS_MAX || look->levels.count >= LEVELS_MAX) {
		look->head.left_out++;
		return;
	}
	if (found->moving) {
		look->head.left_out++;
		task.state = AFR_LOOK_RUNNING;
	} else if (task.state == AFR_LOOK_PARKED) {
		add_levels(look, &task, view);
	}
	struct afr_look_task *kept = vector_push(&look->tasks);
	if (kept)
		*kept = task;
	else
		look->failed = true;
}

static bool is_there(struct look *look)
{
	struct af_error *error = af_process_still_there(look->process);
	af_error_destroy(error);
	return !error;
}

static bool is_over(void *arg)
{
	struct look *look = arg;
	struct timespec used;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	look->stopped = used.tv_sec || used.tv_nsec > TIME_MAX || !is_there(look);
	return look->stopped;
}

static bool finds_all_of(const struct af_task_list *tasks, const struct af_futuremap *map,
			 uint32_t image)
{
	const struct afm_table *roots = &map->header->roots;
	bool *found = calloc(roots->count + 1, sizeof(*found)), all = found;
	for (size_t i = 0; found && i < tasks->headers.vtables.count; i++) {
		const struct af_vtable *vtable = &tasks->headers.vtables.items[i];
		if (vtable->image != image)
			continue;
		/* An old tokio has no owner, by which a header is told from its like. */
		found[vtable->root] = vtable->vtable != AFM_NONE && vtable->state != AFM_NONE &&
				      (vtable->executor != AFM_X_TOKIO || vtable->blocking ||
				       vtable->owner != AFM_NONE);
	}
	for (uint64_t i = 0; i < roots->count && all; i++)
		all = found[i];
	free(found);
	return all;
}

/* Whether the tasks of every root can be found, so that one that is not found is not there. Those of
   a library that is not there are not, either. */
static bool finds_all(const struct af_task_list *tasks, const struct af_process *process)
{
	bool all = true;
	for (uint32_t i = 0; i < process->images.count && all; i++)
		all = finds_all_of(tasks, &process->images.items[i].map, i);
	return all;
}

static struct af_error *look_at_tasks(struct look *look, struct af_process *process)
{
	struct af_task_list tasks = {0};
	struct af_await_tree tree;
	const struct af_task_visitor visitor = {.arg = look, .visit = visit, .stop = is_over};
	size_t size = af_await_tree_size(TREE_NODES);
	void *block = malloc(size);
	struct af_error *error = NULL;
	if (!block || !af_await_tree_init(&tree, block, size))
		error = af_error_create("out of memory");
	count_switches(look);
	if (!error)
		error = af_task_list_find(&tasks, process);
	if (!error)
		error = af_task_list_visit(&tasks, &tree, &visitor);
	/* What is missing since the process went away has not ended for that. */
	look->head.whole = !error && !look->stopped && is_there(look) && finds_all(&tasks, process);
	if (look->stopped && look->visited < tasks.items.count)
		look->head.left_out += (uint32_t)tasks.items.count - look->visited;
	af_task_list_deinit(&tasks);
	free(block);
	return error;
}

/* Those that are loaded at this moment. A build may be there at several places. */
static struct af_error *lend_maps(struct af_process *process, const struct af_futuremap *maps)
{
	struct af_error *error = NULL;
	af_modules_find(process);
	for (uint32_t i = 0; i < AF_OBJECTS && !error; i++)
		if (maps[i].header)
			error = af_modules_lend(process, &maps[i], i);
	if (!error && !process->images.count)
		error = af_error_create("process %d: its program is not where it was",
					process->pid);
	return error;
}

struct af_error *af_look(const struct af_session *session, const struct af_futuremap *maps,
			 const struct af_look_block *before, struct af_text *block)
{
	struct af_process process = {0};
	struct look look = {
		.process = &process, .before = before, .head = {.begin = ticks(session)}};
	struct af_error *error = af_process_open_live(&process, (pid_t)session->host_pid);
	if (!error)
		error = lend_maps(&process, maps);
	if (!error)
		error = look_at_tasks(&look, &process);
	af_modules_return(&process);
	af_process_close(&process);
	if (!error && look.failed)
		error = af_error_create("out of memory");
	look.head.end = ticks(session);
	look.head.n_tasks = (uint32_t)look.tasks.count;
	look.head.n_levels = (uint32_t)look.levels.count;
	if (!error) {
		af_text_append(block, (char *)&look.head, sizeof(look.head));
		af_text_append(block, (char *)look.tasks.items,
			       look.tasks.count * sizeof(*look.tasks.items));
		af_text_append(block, (char *)look.levels.items,
			       look.levels.count * sizeof(*look.levels.items));
		error = block->failed ? af_error_create("out of memory") : NULL;
	}
	vector_deinit(&look.tasks);
	vector_deinit(&look.levels);
	vector_deinit(&look.switches);
	vector_deinit(&look.places);
	return error;
}

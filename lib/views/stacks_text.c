/* SPDX-License-Identifier: MIT */
/* Await stacks for people: one task after another, each an indented tree. */
#include <inttypes.h>
#include <stdlib.h>

#include "views/stacks_internal.h"

#define MAX_GENERIC_NAME 120 /* characters */
#define PATH_MAX_NODES 64    /* of a tree that are drawn */

/* What colour a part has; "" without colours. */
enum part { PLAIN, TITLE, PLACE, DIM, LOUD };

static void paint(const struct af_stacks_writer *w, enum part part)
{
	static const char *const codes[] = {"\033[0m", "\033[1m", "\033[36m", "\033[2m",
					    "\033[33m"};
	if (w->options->colour)
		fputs_unlocked(codes[part], w->out);
}

static void put_part(const struct af_stacks_writer *w, enum part part, const char *text)
{
	paint(w, part);
	fputs_unlocked(text, w->out);
	paint(w, PLAIN);
}

/* Text from the process: control characters could steer the terminal. */
static void put_text(FILE *out, const char *text)
{
	for (const char *p = text; *p; p++)
		putc_unlocked((unsigned char)*p < ' ' || *p == 127 ? '?' : *p, out);
}

/* Whether `<` at `at` opens what a Pin or a Box is of. */
static bool opens_pointer(const char *name, const char *at)
{
	static const char *const pointers[] = {"core::pin::Pin", "alloc::boxed::Box"};
	for (size_t i = 0; i < sizeof(pointers) / sizeof(pointers[0]); i++) {
		size_t length = strlen(pointers[i]);
		if ((size_t)(at - name) >= length && !memcmp(at - length, pointers[i], length))
			return true;
	}
	return false;
}

/* A name with `keep` levels of its generic arguments, of which Pin and Box are none; how long it is,
   and printed unless `out` is NULL. `<` at the start of a path's segment is part of the name:
   <app::Db as app::Store>::get. */
static size_t put_name(FILE *out, const char *name, int keep)
{
	static const char allocator[] = ", alloc::alloc::Global";
	size_t length = 0;
	uint64_t free_levels = 0; /* bit n: level n does not count */
	int depth = 0, counted = 0;
	for (const char *p = name; *p; p++) {
		bool kept = p == name || (p[-1] == ':' && *p == '<') || p[-1] == ' ';
		bool closes = *p == '>' && depth && p[-1] != '-';
		if (depth && !strncmp(p, allocator, sizeof(allocator) - 1)) {
			p += sizeof(allocator) - 2;
			continue;
		}
		if (*p == '<' && (depth || !kept)) {
			bool free = keep && opens_pointer(name, p);
			free_levels = free_levels << 1 | free;
			depth++;
			counted += !free;
		}
		if (counted <= keep) {
			length++;
			if (out)
				putc_unlocked((unsigned char)*p < ' ' || *p == 127 ? '?' : *p, out);
		}
		if (closes) {
			counted -= !(free_levels & 1);
			free_levels >>= 1;
			depth--;
		}
	}
	return length;
}

/* With what it is of, where that is short. */
static void put_name_of(FILE *out, const char *name)
{
	put_name(out, name, put_name(NULL, name, 1) <= MAX_GENERIC_NAME);
}

/* The closure that a task of tokio's blocking pool runs; NULL: the name is none of such a task. */
static const char *closure_of(const char *name)
{
	static const char head[] = "tokio::runtime::blocking::task::BlockingTask<";
	return strncmp(name, head, sizeof(head) - 1) ? NULL : name + sizeof(head) - 1;
}

/* Up to the end of what BlockingTask is of. */
static void put_closure(FILE *out, const char *closure)
{
	char *name = strdup(closure);
	char *end = name ? strrchr(name, '>') : NULL;
	if (end)
		*end = 0;
	put_name(out, name ? name : closure, 0);
	free(name);
}

/* A source path without the directories that a registry, a checkout or rustc puts in front of a
   crate's own: nobody looks there, and they are longer than the rest. */
static const char *short_path(const char *path)
{
	static const struct {
		const char *directory;
		int levels; /* below it that go as well */
	} places[] = {{"/registry/src/", 1}, {"/git/checkouts/", 0}, {"/rustc/", 2}};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		const char *at = strstr(path, places[i].directory);
		at = at ? at + strlen(places[i].directory) : NULL;
		for (int level = 0; at && level < places[i].levels; level++) {
			at = strchr(at, '/');
			at += at != NULL;
		}
		if (at && *at)
			return at;
	}
	return path;
}

static void put_place(const struct af_stacks_writer *w, const struct af_futuremap *map,
		      uint32_t file, uint32_t line)
{
	paint(w, PLACE);
	put_text(w->out, short_path(af_futuremap_string(map, file)));
	fprintf(w->out, ":%" PRIu32, line);
	paint(w, PLAIN);
}

static const char *name_or(const char *name, const char *otherwise)
{
	return name && *name ? name : otherwise;
}

static void text_begin(struct af_stacks_writer *w)
{
	static const struct {
		enum af_task_state state;
		const char *name;
	} states[] = {
		{AF_TASK_IDLE, "parked"},	  {AF_TASK_SCHEDULED, "scheduled"},
		{AF_TASK_RUNNING, "running"},	  {AF_TASK_DONE, "finished"},
		{AF_TASK_CANCELLED, "cancelled"},
	};
	const struct af_process *p = w->tasks->process;
	const char *before = ": ";

	put_text(w->out, name_or(p->executable, "process"));
	if (p->pid)
		fprintf(w->out, " (%s%d)", p->core ? "core of process " : "process ", p->pid);
	if (p->modules.count && p->modules.items[0].build_id_size) {
		fputs(", build ", w->out);
		for (uint32_t i = 0; i < 4 && i < p->modules.items[0].build_id_size; i++)
			fprintf(w->out, "%02x", p->modules.items[0].build_id[i]);
	}
	fprintf(w->out, ": %zu tasks", w->tasks->items.count);
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		uint32_t n = w->tasks->counts[states[i].state];
		if (!n)
			continue;
		fprintf(w->out, "%s%" PRIu32 " %s", before, n, states[i].name);
		before = ", ";
	}
	if (p->stood_still)
		fprintf(w->out, "; stood still for %.1f ms", (double)p->stood_still / 1e6);
	fputc('\n', w->out);
}

/* "3.2s": nobody asks for more digits, of a moment that is over. */
static void put_polled(struct af_stacks_writer *w, const struct af_found_task *found)
{
	double seconds = (double)found->polled / 1e9;
	const char *form =
		found->task.state == AF_TASK_RUNNING ? " for %.*f%s" : ", last polled %.*f%s ago";
	if (seconds < 1)
		fprintf(w->out, form, 0, seconds * 1e3, "ms");
	else
		fprintf(w->out, form, 1, seconds, "s");
}

static void put_title(struct af_stacks_writer *w, const struct af_stack *stack)
{
	const struct af_found_task *found = &stack->found;
	const char *name;
	uint32_t image;
	const struct afm_future *future = af_stacks_title(w->target, stack, &name, &image);

	fputc('\n', w->out);
	paint(w, TITLE);
	if (w->options->group)
		fprintf(w->out, "%" PRIu64 " x ", stack->count);
	if (found->found_by == AF_BY_STACK)
		fprintf(w->out, "block_on of thread %d", found->thread);
	else if (w->options->group)
		fputs("task", w->out);
	else if (found->task.has_id)
		fprintf(w->out, "task %" PRIu64, found->task.id);
	else
		fprintf(w->out, "task at 0x%" PRIx64, found->task.header);
	if (*found->name && !w->options->group) {
		fputs(" \"", w->out);
		put_text(w->out, found->name);
		fputc('"', w->out);
	}
	fputs(" ", w->out);
	const char *closure = closure_of(name);
	if (closure)
		put_closure(w->out, closure);
	else if (future && future->kind != AFM_F_HAND)
		put_name(w->out, name, 0);
	else
		put_name_of(w->out, name);
	paint(w, PLAIN);
	if (future && future->line && !closure) {
		fputs(" (", w->out);
		put_place(w, &w->target->images[image].map, future->file, future->line);
		fputc(')', w->out);
	}
	fprintf(w->out, ", %s", af_stacks_executor(found));
	if (found->blocking)
		fputs(" (blocking)", w->out);
	fputs(", ", w->out);
	put_part(w, LOUD, found->moving ? "moving" : af_stacks_state(found));
	if (found->thread && found->found_by == AF_BY_HEADER && !found->moving && stack->count < 2)
		fprintf(w->out, " on thread %d", found->thread);
	if (found->moving)
		fputs(": polled again each time it was read", w->out);
	if (found->has_polled && !w->options->group)
		put_polled(w, found);
	char path[1024];
	uint32_t line;
	if (af_task_list_location(w->tasks, found->spawned, path, sizeof(path), &line)) {
		fputs(", spawned at ", w->out);
		paint(w, PLACE);
		put_text(w->out, short_path(path));
		fprintf(w->out, ":%" PRIu32, line);
		paint(w, PLAIN);
	}
	fputc('\n', w->out);
	if (!stack->n_ids)
		return;
	fputs(stack->n_ids > 1 ? "  tasks" : "  task", w->out);
	for (uint32_t i = 0; i < stack->n_ids && i < 16; i++)
		fprintf(w->out, " %" PRIu64, stack->ids[i]);
	fputs(stack->count > 16 ? " ..." : "", w->out);
	fputs(w->options->values && stack->count > 1 ? "; the values are those of the first\n"
						     : "\n",
	      w->out);
}

/* Node `i` and what is above it, but for the root. Returns how many. */
static uint32_t find_path(const struct af_stack *stack, uint32_t i, uint32_t path[PATH_MAX_NODES])
{
	uint32_t n = 0;
	for (uint32_t at = i;
	     at < stack->n_nodes && stack->nodes[at].parent != AF_NODE_NONE && n < PATH_MAX_NODES;
	     at = stack->nodes[at].parent)
		path[n++] = at;
	return n;
}

/* The lines on the left that lead to node `i`; whether each ancestor has a next sibling. */
static void put_lines(struct af_stacks_writer *w, const struct af_stack *stack, uint32_t i)
{
	uint32_t path[PATH_MAX_NODES], n = find_path(stack, i, path);
	fputs_unlocked("  ", w->out);
	paint(w, DIM);
	while (n--) {
		bool more = stack->nodes[path[n]].next != AF_NODE_NONE;
		fputs_unlocked(n ? (more ? "│ " : "  ") : (more ? "├ " : "└ "), w->out);
	}
	paint(w, PLAIN);
}

static void put_node_end(struct af_stacks_writer *w, const struct af_stack *stack, uint32_t i)
{
	const struct af_node *node = &stack->nodes[i];
	const char *timer = w->options->group ? NULL : af_stacks_timer(stack, i);
	uint64_t id;
	if (node->wait == AF_WAIT_TASK && node->task) {
		if (af_stacks_task_id(w->tasks, node->task, &id))
			fprintf(w->out, ", waits for task %" PRIu64, id);
		else
			fprintf(w->out, ", waits for the task at 0x%" PRIx64, node->task);
	} else if (node->wait == AF_WAIT_NEVER) {
		fputs(", waits for ever", w->out);
	} else if (node->wait == AF_WAIT_TIMER && timer && strncmp(timer, "in ", 3)) {
		/* It is held, and nobody waits for it; or it has woken the task just now. */
		fprintf(w->out, ", a timer that ended %s", timer);
		timer = NULL;
	} else if (af_wait_name(node->wait)) {
		fprintf(w->out, ", waits for %s", af_wait_name(node->wait));
	}
	if (timer)
		fprintf(w->out, strncmp(timer, "in ", 3) ? ", which ended %s" : ", wakes %s",
			timer);
	if (node->flags & AF_NODE_DISABLED)
		fputs(", disabled", w->out);
	if (node->flags & AF_NODE_CUT)
		fputs(", more below", w->out);
	putc_unlocked('\n', w->out);
}

/* Of a future with nothing below it, whose own name says little, what it is of: Next<TcpStream>. */
static bool wants_generics(const struct af_node *node, const char *name)
{
	if (node->status != AF_NODE_HAND || node->n_children)
		return false;
	switch (node->wait) {
	case AF_WAIT_NONE:
		return true;
	case AF_WAIT_IO:
	case AF_WAIT_CHANNEL:
	case AF_WAIT_LOCK:
	case AF_WAIT_NOTIFY:
		return !strstr(name, "::PollFn<"); /* whoever awaits that says it better */
	default:
		return false;
	}
}

/* Whether a place among siblings tells anything. */
static bool has_siblings(const struct af_stacks_writer *w, const struct af_stack *stack,
			 const struct af_node *node)
{
	const struct af_node *parent = &stack->nodes[node->parent];
	return parent->n_children > 1 ||
	       strstr(af_stacks_node_name(w->target, parent), "::PollFn<");
}

static void put_node(struct af_stacks_writer *w, const struct af_stack *stack, uint32_t i)
{
	const struct af_node *node = &stack->nodes[i];
	const char *name = af_stacks_node_name(w->target, node);
	const struct af_futuremap *map = &w->target->images[node->image].map;
	const struct afm_variant *at = af_stacks_await(w->target, node);

	put_lines(w, stack, i);
	if (node->relation == AF_IS_HELD)
		put_part(w, DIM, "holds ");
	if (node->relation == AF_IS_CHILD && node->index != AFM_NONE &&
	    has_siblings(w, stack, node))
		fprintf(w->out, "%" PRIu32 ": ", node->index);
	if (wants_generics(node, name))
		put_name_of(w->out, name);
	else
		put_name(w->out, name, 0);
	if (at) {
		fputs_unlocked(" at ", w->out);
		put_place(w, map, at->file, at->line);
		if (at->line_index)
			fprintf(w->out, " (await %" PRIu32 " of the line)", at->line_index + 1);
	} else if (node->status == AF_NODE_SAME) {
		fputs_unlocked(", as above", w->out);
	} else if (node->status != AF_NODE_HAND && node->status != AF_NODE_SUSPENDED) {
		fputs_unlocked(", ", w->out);
		fputs_unlocked(af_stacks_node_state(node), w->out);
	}
	put_node_end(w, stack, i);
}

/* The lines that go on past what is told of node `i`, to its siblings and below it. */
static void put_guides(struct af_stacks_writer *w, const struct af_stack *stack, uint32_t i)
{
	uint32_t path[PATH_MAX_NODES], n = find_path(stack, i, path);
	fputs_unlocked("  ", w->out);
	paint(w, DIM);
	while (n--)
		fputs_unlocked(stack->nodes[path[n]].next != AF_NODE_NONE ? "│ " : "  ", w->out);
	fputs_unlocked(stack->nodes[i].n_children ? "│   " : "    ", w->out);
	paint(w, PLAIN);
}

static void put_values(struct af_stacks_writer *w, const struct af_stack *stack, uint32_t i)
{
	for (uint32_t v = 0; v < stack->n_values; v++) {
		const struct af_stack_value *value = &stack->values[v];
		if (value->node != i || value->life == AF_STACKS_TIMER)
			continue;
		put_guides(w, stack, i);
		put_text(w->out, stack->texts + value->name);
		fputs_unlocked(" = ", w->out);
		put_text(w->out, stack->texts + value->value);
		putc_unlocked('\n', w->out);
	}
}

static void text_stack(struct af_stacks_writer *w, const struct af_stack *stack)
{
	put_title(w, stack);
	for (uint32_t i = 0; i < stack->n_nodes; i++) {
		put_node(w, stack, i);
		put_values(w, stack, i);
	}
}

static void put_poll(struct af_stacks_writer *w, const struct af_futuremap *map,
		     const struct afm_poll *poll)
{
	const char *name = af_futuremap_string(map, poll->name), *closure = closure_of(name);
	if (closure)
		put_closure(w->out, closure);
	else
		put_name(w->out, name, 0);
	/* A task's root is written in its executor. */
	if (poll->line && !closure && poll->kind != AFM_P_TASK_ROOT) {
		fputs(" (", w->out);
		put_place(w, map, poll->file, poll->line);
		fputc(')', w->out);
	}
	fputc('\n', w->out);
}

/* Of a thread that polls nothing: what it drives, if that is known. */
static void put_idle(struct af_stacks_writer *w, const struct af_thread_polls *polls, pid_t tid)
{
	const char *name;
	if (polls->unknown) {
		fprintf(w->out, ": %s\n", polls->unknown);
		return;
	}
	fputs(": polls nothing", w->out);
	for (size_t i = w->tasks->items.count; i-- > 0;) {
		const struct af_found_task *found = &w->tasks->items.items[i];
		if (found->found_by != AF_BY_STACK || found->thread != tid)
			continue;
		af_stacks_future(w->target, found, &name);
		fputs(", in block_on of ", w->out);
		put_name(w->out, name, 0);
		break;
	}
	fputc('\n', w->out);
}

static void put_thread(struct af_stacks_writer *w, const struct af_thread_polls *polls)
{
	const struct af_process_thread *thread = &w->tasks->process->threads.items[polls->thread];
	const char *before = ": polls ";
	fprintf(w->out, *thread->name ? "  %d " : "  %d", thread->tid);
	put_text(w->out, thread->name);
	if (polls->unknown || !polls->n)
		put_idle(w, polls, thread->tid);
	for (uint32_t i = 0; i < polls->n; i++) {
		const struct af_thread_poll *at = &w->tasks->threads.polls.items[polls->first + i];
		const struct af_futuremap *map = &w->target->images[at->image].map;
		const struct afm_poll *poll = af_futuremap_polls(map, at->poll);
		/* Its future's own poll, if it is the next one, says the same. */
		if (poll->kind == AFM_P_TASK_ROOT && i + 1 < polls->n && at[1].image == at->image &&
		    af_futuremap_polls(map, at[1].poll)->name == poll->name)
			continue;
		fputs(before, w->out);
		before = "    ";
		put_poll(w, map, poll);
	}
}

static void text_end(struct af_stacks_writer *w)
{
	const struct af_process *p = w->tasks->process;
	const char *wanted = w->options->filter.pattern;
	if (!w->written && wanted && *wanted)
		fputs("\nno task matches the filter\n", w->out);
	if (w->tasks->threads.items.count)
		put_part(w, TITLE, "\nthreads\n");
	for (size_t i = 0; i < w->tasks->threads.items.count; i++)
		put_thread(w, &w->tasks->threads.items.items[i]);
	if (p->notes.count)
		fputc('\n', w->out);
	for (size_t i = 0; i < p->notes.count; i++) {
		fputs("note: ", w->out);
		put_text(w->out, p->notes.items[i]);
		fputc('\n', w->out);
	}
}

const struct af_stacks_format_functions af_stacks_text = {text_begin, text_stack, text_end};

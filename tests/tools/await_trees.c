/* SPDX-License-Identifier: MIT */
/*
 * await_trees PID [repeat]: prints the await tree of every task of a process, as lib/inspect sees
 * it, and what it cost. For looking at the walk itself; users have `asyncflame dump`.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "analysis/analysis.h"
#include "inspect/task.h"

#define MAX_TASKS 1000000

static struct af_memory_process process;
static struct af_image image;
static struct af_target target = {&process.memory, &image, 1};

struct range {
	uint64_t start, end;
	bool writable, own;
};
static struct range *ranges;
static size_t n_ranges;

static void read_maps(const char *pid, const char *exe)
{
	char path[64], line[4500];

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	FILE *maps = fopen(path, "re");
	if (!maps)
		exit(1);
	while (fgets(line, sizeof(line), maps)) {
		uint64_t start, end, offset;
		char flags[5], name[4400] = "";
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %4399[^\n]",
			   &start, &end, flags, &offset, name) < 4 ||
		    flags[0] != 'r')
			continue;
		bool own = !strcmp(name, exe);
		if (own && !offset)
			image.bias = start;
		ranges = realloc(ranges, (n_ranges + 1) * sizeof(*ranges));
		ranges[n_ranges++] = (struct range){start, end, flags[1] == 'w', own};
	}
	fclose(maps);
}

struct hit {
	uint64_t vtable;
	uint32_t root;
};
static struct hit *hits;
static size_t n_hits;

static uint64_t field(const char *path, uint32_t type)
{
	uint64_t at = 0;
	return type != AFM_NONE && af_target_path(&target, 0, path, &type, &at) ? at : 0;
}

static uint64_t vtable_at(const struct afm_root *root)
{
	uint64_t value = 0;
	if (root->executor == AFM_X_TOKIO)
		af_futuremap_layout(&image.map, "tokio.Header.vtable", &value);
	else
		value = field("vtable", root->cell_type);
	return value;
}

static uint64_t poll_at(const struct afm_root *root)
{
	uint64_t value = 0;
	af_futuremap_layout(&image.map,
			    root->executor == AFM_X_TOKIO ? "tokio.Vtable.poll"
							  : "async_task.TaskVTable.run",
			    &value);
	return value;
}

static void find_vtables(const uint64_t *words, size_t n, uint64_t start)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t in, root = af_task_root_by_poll(&target, words[i], &in);
		if (root == AFM_NONE)
			continue;
		hits = realloc(hits, (n_hits + 1) * sizeof(*hits));
		hits[n_hits++] = (struct hit){
			start + i * 8 - poll_at(af_futuremap_roots(&image.map, root)), root};
	}
}

struct found {
	uint64_t header;
	uint32_t root;
};
static struct found *found;
static size_t n_found;

static void find_headers(const uint64_t *words, size_t n, uint64_t start)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n_hits; k++) {
			if (words[i] != hits[k].vtable)
				continue;
			const struct afm_root *root = af_futuremap_roots(&image.map, hits[k].root);
			struct found f = {start + i * 8 - vtable_at(root), hits[k].root};
			struct af_task task;
			if (n_found < MAX_TASKS &&
			    af_task_read(&target, 0, f.root, f.header, &task)) {
				found = realloc(found, (n_found + 1) * sizeof(*found));
				found[n_found++] = f;
			}
		}
}

static void scan(bool writable, void (*look)(const uint64_t *, size_t, uint64_t))
{
	size_t size = 1 << 20;
	uint64_t *words = malloc(size);

	for (size_t i = 0; words && i < n_ranges; i++) {
		if (writable ? !ranges[i].writable : !ranges[i].own)
			continue;
		for (uint64_t at = ranges[i].start; at < ranges[i].end; at += size) {
			size_t part = ranges[i].end - at < size ? ranges[i].end - at : size;
			if (af_memory_read(&process.memory, at, words, part))
				look(words, part / 8, at);
		}
	}
	free(words);
}

static const char *const states[] = {"invalid", "unreadable", "idle",	  "scheduled",
				     "running", "done",	      "cancelled"};
static const char *const statuses[] = {"UNKNOWN",  "UNREADABLE", "not started", "suspended", "done",
				       "PANICKED", "",		 "same"};
static const char *const relations[] = {"", "", "", "held "};

static bool table;
static uint64_t header;

static void print_node(const struct af_await_tree *tree, uint32_t i)
{
	const struct af_node *n = &tree->nodes[i];
	const struct afm_type *t = af_target_type(&target, n->image, n->type);
	const char *name =
		n->future != AFM_NONE
			? af_target_string(&target, n->image,
					   af_futuremap_futures(&image.map, n->future)->name)
			: af_target_string(&target, n->image, t->name);

	if (table) {
		const struct afm_variant *v =
			n->variant == AFM_NONE ? NULL
					       : af_futuremap_variants(&image.map, n->variant);
		printf("%" PRIx64 "\t%u\t%d\t%u\t%u\t%" PRIx64 "\t%s\t%s\t%u\t%u\t%" PRIx64
		       "\t%u\t%u\n",
		       header, i, (int)n->parent, n->relation, n->status, n->address, name,
		       v ? af_futuremap_string(&image.map, v->file) : "", v ? v->line : 0, n->wait,
		       n->task, n->flags, n->index);
		return;
	}
	printf("  %*s%s", n->depth * 2, "", relations[n->relation]);
	if (n->index != AFM_NONE)
		printf("[%u] ", n->index);
	if (n->label)
		printf("%s: ", af_target_string(&target, n->label_image, n->label));
	printf("%.160s", name);
	if (n->variant != AFM_NONE) {
		const struct afm_variant *v = af_futuremap_variants(&image.map, n->variant);
		const char *file = af_futuremap_string(&image.map, v->file);
		const char *slash = strrchr(file, '/');
		printf(" at %s:%u", slash ? slash + 1 : file, v->line);
		if (n->flags & AF_NODE_IN_STATE)
			printf(" (%s)", af_futuremap_string(&image.map, v->name));
	}
	printf(" %s", statuses[n->status]);
	if (n->wait)
		printf(" <%s>", af_wait_name(n->wait));
	if (n->task)
		printf(" -> %" PRIx64, n->task);
	if (n->same_as != AF_NODE_NONE)
		printf(" as node %u", n->same_as);
	if (n->flags & ~AF_NODE_IN_STATE)
		printf(" flags %x", n->flags);
	printf("\n");
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* others may be busy */
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	char path[64], exe[4096] = "";
	struct af_await_tree tree;
	struct af_task task;
	void *data;
	size_t size;

	if (argc < 2)
		return 2;
	snprintf(path, sizeof(path), "/proc/%s/exe", argv[1]);
	if (readlink(path, exe, sizeof(exe) - 1) < 0)
		return 1;
	struct af_error *error = af_analysis_build(path, NULL, &data, &size);
	if (error || af_futuremap_check(data, size))
		return 1;
	image.map = (struct af_futuremap){data, size};
	image.shapes = calloc(image.map.header->types.count, sizeof(*image.shapes));
	read_maps(argv[1], exe);
	const char *why = af_memory_process_init(&process, atoi(argv[1]), image.bias);
	if (why) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	scan(false, find_vtables);
	scan(true, find_headers);

	size = af_await_tree_size(4096);
	if (!af_await_tree_init(&tree, malloc(size), size))
		return 1;
	if (argc > 2 && strchr(argv[2], 'p'))
		tree.held = AF_HELD_POINTERS;
	table = argc > 2 && strchr(argv[2], 't');
	for (size_t i = 0; i < n_found; i++) {
		af_memory_forget(&process.memory);
		header = found[i].header;
		bool same =
			af_task_read_tree(&target, 0, found[i].root, found[i].header, &task, &tree);
		if (!table)
			printf("task %" PRIx64 " id %" PRIu64 " %s%s, %u nodes, %" PRIu64
			       " reads, %u failed, cut %x, innermost %u\n",
			       found[i].header, task.id, states[task.state], same ? "" : " MOVED",
			       tree.n_nodes, tree.n_reads, tree.n_failed, tree.cut,
			       af_await_tree_innermost(&tree));
		for (uint32_t k = 0; k < tree.n_nodes; k++)
			print_node(&tree, k);
	}
	int repeat = argc > 2 ? atoi(argv[2]) : 0;
	uint64_t nodes = 0, reads = 0, trees = 0, calls = process.calls;
	double from = now();
	for (int r = 0; r < repeat; r++)
		for (size_t i = 0; i < n_found; i++) {
			if (i % 256 == 0)
				af_memory_forget(&process.memory);
			af_task_read_tree(&target, 0, found[i].root, found[i].header, &task, &tree);
			trees++;
			nodes += tree.n_nodes;
			reads += tree.n_reads;
		}
	if (trees)
		printf("%" PRIu64 " trees: %.0f ns, %.1f nodes, %.1f reads, %.2f calls each\n",
		       trees, (now() - from) / (double)trees * 1e9, (double)nodes / (double)trees,
		       (double)reads / (double)trees,
		       (double)(process.calls - calls) / (double)trees);
	af_memory_process_deinit(&process);
	return 0;
}

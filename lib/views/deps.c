/* SPDX-License-Identifier: MIT */
/*
 * Edges of the graph: a coroutine awaits, in each state, its awaitee; a hand-written future
 * (a timeout, a select) drives the futures among its fields. What is awaited need not be a
 * future of the map: between it and the coroutine may stand a Pin, a Box, a reference, a tuple,
 * a closure of join!. These are looked through; behind `dyn Future` anything may be. Futures
 * that the filter hides are passed through: who awaits them awaits what they await.
 */
#include "views/deps.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "views/json.h"
#include "views/map.h"

struct edge {
	uint32_t from, to;   /* nodes; to AFM_NONE: some dyn Future */
	uint32_t file, line; /* of the await; line 0: held by a hand-written future */
};

struct graph {
	const struct af_futuremap *map;
	const struct af_deps_options *options;
	char **names;		/* of nodes */
	bool *wanted;		/* nodes to be printed */
	uint32_t *node_of;	/* future -> node */
	uint32_t *first_future; /* node -> a future of it */
	uint32_t n_nodes;
	struct edge *edges;
	size_t n_edges, capacity;
	uint8_t *seen; /* types, during one search */
	bool failed;
};

static void add_edge(struct graph *g, struct edge edge)
{
	for (size_t i = g->n_edges; i-- > 0 && g->edges[i].from == edge.from;)
		if (!memcmp(&g->edges[i], &edge, sizeof(edge)))
			return;
	if (g->n_edges == g->capacity) {
		size_t capacity = g->capacity * 2 + 256;
		struct edge *edges = reallocarray(g->edges, capacity, sizeof(*edges));
		if (!edges) {
			g->failed = true;
			return;
		}
		g->edges = edges;
		g->capacity = capacity;
	}
	g->edges[g->n_edges++] = edge;
}

static bool is_transparent(const struct af_futuremap *map, const struct afm_type *type)
{
	const char *name = af_futuremap_string(map, type->name);
	/* Pin<P>, Box<F> and &mut F are polled themselves, but only pass it on. */
	return !strncmp(name, "core::pin::Pin<", 15) || !strncmp(name, "alloc::boxed::Box<", 18) ||
	       name[0] == '&';
}

static void search(struct graph *g, struct edge edge, uint32_t index, int depth);

static void search_fields(struct graph *g, struct edge edge, uint32_t first, uint32_t n, int depth)
{
	for (uint32_t i = 0; i < n; i++)
		search(g, edge, af_futuremap_fields(g->map, first + i)->type, depth);
}

static void search_inside(struct graph *g, struct edge edge, const struct afm_type *type, int depth)
{
	search_fields(g, edge, type->first_field, type->n_fields, depth);
	for (uint32_t i = 0; i < type->n_variants; i++) {
		const struct afm_variant *v =
			af_futuremap_variants(g->map, type->first_variant + i);
		search_fields(g, edge, v->first_field, v->n_fields, depth);
	}
	if (type->kind == AFM_T_POINTER || type->kind == AFM_T_ARRAY)
		search(g, edge, type->target, depth);
}

/* Every nearest future in a value of type `index` becomes an edge. */
static void search(struct graph *g, struct edge edge, uint32_t index, int depth)
{
	if (index == AFM_NONE || depth > 16 || (g->seen[index / 8] >> index % 8 & 1))
		return;
	g->seen[index / 8] |= (uint8_t)(1u << index % 8);
	const struct afm_type *type = af_futuremap_types(g->map, index);
	const char *name = af_futuremap_string(g->map, type->name);
	if (!(type->flags & AFM_TF_REACHES_FUTURE))
		return;
	bool transparent = is_transparent(g->map, type);
	if (type->future != AFM_NONE && !transparent) {
		edge.to = g->node_of[type->future];
		add_edge(g, edge);
		return;
	}
	if (strstr(name, "dyn ") && type->n_fields == 2 && !type->n_variants &&
	    strncmp(name, "core::pin::Pin<", 15)) {
		edge.to = AFM_NONE;
		add_edge(g, edge);
		return;
	}
	search_inside(g, edge, type, depth + 1);
}

static void edges_of(struct graph *g, uint32_t index)
{
	const struct afm_future *future = af_futuremap_futures(g->map, index);
	const struct afm_type *type = af_futuremap_types(g->map, future->type);
	size_t bytes = g->map->header->types.count / 8 + 1;
	struct edge edge = {.from = g->node_of[index]};

	if (future->kind == AFM_F_HAND) {
		memset(g->seen, 0, bytes);
		search_inside(g, edge, type, 0);
		return;
	}
	for (uint32_t i = 0; i < type->n_variants; i++) {
		const struct afm_variant *v =
			af_futuremap_variants(g->map, type->first_variant + i);
		if (v->awaitee == AFM_NONE)
			continue;
		edge.file = v->file;
		edge.line = v->line;
		memset(g->seen, 0, bytes);
		search(g, edge, af_futuremap_fields(g->map, v->awaitee)->type, 0);
	}
}

/* The name of a node: without generic arguments if those are to be collapsed. */
static char *node_name(const struct graph *g, const struct afm_future *future)
{
	const char *name = af_futuremap_string(g->map, future->name);
	char *copy = strdup(name), *to = copy;
	int depth = 0;

	if (!copy || !g->options->collapse || name[0] == '<')
		return copy;
	for (const char *p = name; *p; p++) {
		if (*p == '<')
			depth++;
		if (!depth)
			*to++ = *p;
		if (*p == '>' && depth && (p == name || p[-1] != '-'))
			depth--;
	}
	*to = '\0';
	return copy;
}

static bool make_nodes(struct graph *g)
{
	uint32_t n = (uint32_t)g->map->header->futures.count;

	for (uint32_t i = 0; i < n; i++) {
		char *name = node_name(g, af_futuremap_futures(g->map, i));
		uint32_t node = g->n_nodes;
		if (!name)
			return false;
		if (g->options->collapse)
			for (node = 0; node < g->n_nodes; node++)
				if (!strcmp(g->names[node], name))
					break;
		g->node_of[i] = node;
		if (node < g->n_nodes) {
			free(name);
			continue;
		}
		g->first_future[node] = i;
		g->names[g->n_nodes++] = name;
	}
	return true;
}

/* Marks the nodes to print: all, or what can be reached from the root. */
static void choose(struct graph *g)
{
	const char *root = g->options->root;
	size_t length = root ? strlen(root) : 0;
	bool again = root != NULL;

	for (uint32_t i = 0; i < g->n_nodes; i++)
		g->wanted[i] = !root || (!strncmp(g->names[i], root, length) &&
					 (!g->names[i][length] || g->names[i][length] == '<' ||
					  !strncmp(g->names[i] + length, "::{", 3)));
	while (again) {
		again = false;
		for (size_t i = 0; i < g->n_edges; i++) {
			const struct edge *e = &g->edges[i];
			if (e->to == AFM_NONE || !g->wanted[e->from] || g->wanted[e->to])
				continue;
			g->wanted[e->to] = true;
			again = true;
		}
	}
	for (uint32_t i = 0; i < g->n_nodes; i++)
		if (!af_map_wants_future(g->map, &g->options->filter,
					 af_futuremap_futures(g->map, g->first_future[i])))
			g->wanted[i] = false;
}

/* Follows the futures that the filter hides, from one that is shown to the next shown ones. */
static void follow_hidden(struct graph *g, const struct edge *first, uint32_t hidden, size_t n,
			  bool *visited)
{
	visited[hidden] = true;
	for (size_t i = 0; i < n && !g->failed; i++) {
		struct edge e = g->edges[i];
		if (e.from != hidden)
			continue;
		if (e.to != AFM_NONE && !g->wanted[e.to]) {
			if (!visited[e.to])
				follow_hidden(g, first, e.to, n, visited);
			continue;
		}
		struct edge through = *first;
		through.to = e.to;
		if (through.from != through.to && e.to != AFM_NONE)
			add_edge(g, through);
	}
}

static void bridge(struct graph *g)
{
	size_t n = g->n_edges;
	bool *visited = calloc(g->n_nodes + 1, sizeof(*visited));

	g->failed |= !visited;
	for (size_t i = 0; i < n && !g->failed; i++) {
		struct edge e = g->edges[i];
		if (e.to == AFM_NONE || !g->wanted[e.from] || g->wanted[e.to])
			continue;
		memset(visited, 0, g->n_nodes * sizeof(*visited));
		follow_hidden(g, &e, e.to, n, visited);
	}
	free(visited);
}

static void destroy(struct graph *g)
{
	for (uint32_t i = 0; i < g->n_nodes; i++)
		free(g->names[i]);
	free(g->names);
	free(g->wanted);
	free(g->node_of);
	free(g->first_future);
	free(g->edges);
	free(g->seen);
}

static struct af_error *make(struct graph *g, const struct af_futuremap *map,
			     const struct af_deps_options *options)
{
	uint32_t n = (uint32_t)map->header->futures.count;

	*g = (struct graph){.map = map, .options = options};
	g->names = calloc(n + 1, sizeof(*g->names));
	g->wanted = calloc(n + 1, sizeof(*g->wanted));
	g->node_of = calloc(n + 1, sizeof(*g->node_of));
	g->first_future = calloc(n + 1, sizeof(*g->first_future));
	g->seen = calloc(1, map->header->types.count / 8 + 1);
	g->failed = !g->names || !g->wanted || !g->node_of || !g->first_future || !g->seen ||
		    !make_nodes(g);
	for (uint32_t i = 0; i < n && !g->failed; i++)
		edges_of(g, i);
	if (!g->failed) {
		choose(g);
		bridge(g);
	}
	if (g->failed) {
		destroy(g);
		return af_error_create("out of memory");
	}
	return NULL;
}

static bool is_shown(const struct graph *g, const struct edge *e)
{
	return g->wanted[e->from] && (e->to == AFM_NONE || g->wanted[e->to]);
}

static void put_text(const char *text, FILE *out)
{
	char *escaped = af_json_escaped(text);
	fprintf(out, "\"%s\"", escaped ? escaped : "");
	free(escaped);
}

struct af_error *af_deps_print_json(const struct af_futuremap *map,
				    const struct af_deps_options *options, FILE *out)
{
	struct graph g;
	struct af_error *error = make(&g, map, options);
	const char *comma = "\n";

	if (error)
		return error;
	fputs("{\n  \"format\": \"asyncflame-deps\",\n  \"version\": 1,\n  \"futures\": [", out);
	for (uint32_t i = 0; i < g.n_nodes; i++) {
		const struct afm_future *f = af_futuremap_futures(map, g.first_future[i]);
		if (!g.wanted[i])
			continue;
		fprintf(out, "%s    {\"id\": %" PRIu32 ", \"name\": ", comma, i);
		put_text(g.names[i], out);
		fputs(", \"file\": ", out);
		put_text(af_futuremap_string(map, f->file), out);
		fprintf(out, ", \"line\": %" PRIu32 ", \"kind\": \"%s\"}", f->line,
			af_map_future_kind_name(f->kind));
		comma = ",\n";
	}
	fputs("\n  ],\n  \"awaits\": [", out);
	comma = "\n";
	for (size_t i = 0; i < g.n_edges; i++) {
		const struct edge *e = &g.edges[i];
		if (!is_shown(&g, e))
			continue;
		fprintf(out, "%s    {\"from\": %" PRIu32 ", \"to\": ", comma, e->from);
		if (e->to == AFM_NONE)
			fputs("null", out);
		else
			fprintf(out, "%" PRIu32, e->to);
		fputs(", \"file\": ", out);
		if (e->line)
			put_text(af_futuremap_string(map, e->file), out);
		else
			fputs("null", out);
		fprintf(out, ", \"line\": %" PRIu32 "}", e->line);
		comma = ",\n";
	}
	fputs("\n  ]\n}\n", out);
	destroy(&g);
	return NULL;
}

struct af_error *af_deps_print_dot(const struct af_futuremap *map,
				   const struct af_deps_options *options, FILE *out)
{
	struct graph g;
	struct af_error *error = make(&g, map, options);

	if (error)
		return error;
	fputs("digraph awaits {\n\trankdir=LR;\n\tnode [shape=box, fontname=\"sans-serif\"];\n"
	      "\tedge [fontname=\"sans-serif\", fontsize=10];\n",
	      out);
	for (uint32_t i = 0; i < g.n_nodes; i++) {
		if (!g.wanted[i])
			continue;
		fprintf(out, "\tn%" PRIu32 " [label=", i);
		put_text(g.names[i], out);
		if (af_futuremap_futures(map, g.first_future[i])->kind == AFM_F_HAND)
			fputs(", style=rounded", out);
		fputs("];\n", out);
	}
	for (size_t i = 0; i < g.n_edges; i++) {
		const struct edge *e = &g.edges[i];
		if (!is_shown(&g, e))
			continue;
		if (e->to == AFM_NONE)
			fprintf(out,
				"\td%zu [label=\"dyn Future\", style=dotted];\n"
				"\tn%" PRIu32 " -> d%zu",
				i, e->from, i);
		else
			fprintf(out, "\tn%" PRIu32 " -> n%" PRIu32, e->from, e->to);
		if (e->line) {
			const char *file = af_futuremap_string(map, e->file);
			const char *slash = strrchr(file, '/');
			fprintf(out, " [label=\"%s:%" PRIu32 "\"]", slash ? slash + 1 : file,
				e->line);
		}
		fputs(";\n", out);
	}
	fputs("}\n", out);
	destroy(&g);
	return NULL;
}

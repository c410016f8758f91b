/* SPDX-License-Identifier: MIT */
/*
 * A coroutine is as large as its largest state, and a state as what lives across its await:
 * locals, captured arguments, and the awaited future itself. Fields that share bytes (an
 * argument that was moved into a local of the same place) are shown once.
 */
#include "views/sizes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "views/json.h"
#include "views/map.h"

struct held {
	const struct afm_field *field;
	uint64_t size;
};

static uint64_t field_size(const struct af_futuremap *map, const struct afm_field *field)
{
	return field->type == AFM_NONE ? 0 : af_futuremap_types(map, field->type)->size;
}

static int compare_held(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	if (x->size != y->size)
		return x->size < y->size ? 1 : -1;
	return x->field < y->field ? -1 : x->field > y->field;
}

/* The fields of a state, largest first, each place once. `held` has room for all. */
static size_t collect_held(const struct af_futuremap *map, const struct afm_variant *variant,
			   struct held *held)
{
	size_t n = 0;

	for (uint32_t i = 0; i < variant->n_fields; i++) {
		const struct afm_field *field = af_futuremap_fields(map, variant->first_field + i);
		uint64_t size = field_size(map, field);
		size_t k;
		for (k = 0; k < n; k++)
			if (held[k].field->offset == field->offset && held[k].size == size)
				break;
		if (k == n && size)
			held[n++] = (struct held){field, size};
	}
	qsort(held, n, sizeof(*held), compare_held);
	return n;
}

static const char *shown_type(const struct af_futuremap *map, uint32_t index)
{
	const struct afm_type *type = af_futuremap_types(map, index);
	uint32_t name = type->future == AFM_NONE ? type->name
						 : af_futuremap_futures(map, type->future)->name;
	return af_futuremap_string(map, name);
}

static void put_json_text(const char *key, const char *text, FILE *out)
{
	char *escaped = af_json_escaped(text);
	fprintf(out, "\"%s\": \"%s\"", key, escaped ? escaped : "");
	free(escaped);
}

static void print_state(const struct af_futuremap *map, const struct afm_variant *v,
			struct held *held, bool json, bool first, FILE *out)
{
	size_t n = collect_held(map, v, held);

	if (json)
		fprintf(out, "%s\n      {\"value\": %" PRIu64 ", ", first ? "" : ",", v->discr);
	else
		fprintf(out, "    across %s:%" PRIu32 "\n", af_futuremap_string(map, v->file),
			v->line);
	if (json) {
		put_json_text("file", af_futuremap_string(map, v->file), out);
		fprintf(out, ", \"line\": %" PRIu32 ", \"held\": [", v->line);
	}
	for (size_t i = 0; i < n; i++) {
		const struct afm_field *field = held[i].field;
		bool awaited = field->flags & AFM_FF_AWAITEE;
		const char *name = af_futuremap_string(map, field->name);
		if (!json) {
			fprintf(out, "    %8" PRIu64 "  %s%s: %s\n", held[i].size,
				awaited ? "(awaited)" : name,
				field->flags & AFM_FF_CAPTURED ? " (argument)" : "",
				shown_type(map, field->type));
			continue;
		}
		fputs(i ? ", {" : "{", out);
		put_json_text("name", name, out);
		fputs(", ", out);
		put_json_text("type", shown_type(map, field->type), out);
		fprintf(out,
			", \"size\": %" PRIu64 ", \"offset\": %" PRIu64
			", \"awaited\": %s, \"captured\": %s}",
			held[i].size, field->offset, awaited ? "true" : "false",
			field->flags & AFM_FF_CAPTURED ? "true" : "false");
	}
	if (json)
		fputs("]}", out);
}

static void print_future(const struct af_futuremap *map, const struct afm_future *future,
			 struct held *held, bool json, FILE *out)
{
	const struct afm_type *type = af_futuremap_types(map, future->type);
	bool first = true;

	if (json) {
		fputs("    {", out);
		put_json_text("name", af_futuremap_string(map, future->name), out);
		fprintf(out, ", \"size\": %" PRIu64 ", ", type->size);
		put_json_text("file", af_futuremap_string(map, future->file), out);
		fprintf(out, ", \"line\": %" PRIu32 ", \"states\": [", future->line);
	} else {
		fprintf(out, "%8" PRIu64 "  %s  %s:%" PRIu32 "\n", type->size,
			af_futuremap_string(map, future->name),
			af_futuremap_string(map, future->file), future->line);
	}
	for (uint32_t i = 3; future->kind != AFM_F_HAND && i < type->n_variants; i++) {
		print_state(map, af_futuremap_variants(map, type->first_variant + i), held, json,
			    first, out);
		first = false;
	}
	fputs(json ? "]}" : "\n", out);
}

struct sized {
	uint64_t size;
	uint32_t future;
};

static int compare_sized(const void *a, const void *b)
{
	const struct sized *x = a, *y = b;
	if (x->size != y->size)
		return x->size < y->size ? 1 : -1;
	return x->future < y->future ? -1 : x->future > y->future;
}

static uint32_t most_fields(const struct af_futuremap *map)
{
	uint32_t most = 0;
	for (uint32_t i = 0; i < map->header->variants.count; i++) {
		uint32_t n = af_futuremap_variants(map, i)->n_fields;
		most = n > most ? n : most;
	}
	return most;
}

struct af_error *af_sizes_print(const struct af_futuremap *map, const struct af_filter *filter,
				bool json, FILE *out)
{
	size_t n = 0;
	struct sized *sized = calloc(map->header->futures.count + 1, sizeof(*sized));
	struct held *held = calloc(most_fields(map) + 1, sizeof(*held));

	if (!sized || !held) {
		free(sized);
		free(held);
		return af_error_create("out of memory");
	}
	for (uint32_t i = 0; i < map->header->futures.count; i++) {
		const struct afm_future *future = af_futuremap_futures(map, i);
		if (af_map_wants_future(map, filter, future))
			sized[n++] = (struct sized){af_futuremap_types(map, future->type)->size, i};
	}
	qsort(sized, n, sizeof(*sized), compare_sized);
	if (json)
		fputs("{\n  \"format\": \"asyncflame-sizes\",\n  \"version\": 1,\n  \"futures\": [",
		      out);
	for (size_t i = 0; i < n; i++) {
		if (json)
			fputs(i ? ",\n" : "\n", out);
		print_future(map, af_futuremap_futures(map, sized[i].future), held, json, out);
	}
	if (json)
		fputs("\n  ]\n}\n", out);
	free(sized);
	free(held);
	return NULL;
}

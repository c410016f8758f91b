/* SPDX-License-Identifier: MIT */
/*
 * The future map as text for people, and the words that both forms share.
 */
#include "views/map.h"

#include <inttypes.h>
#include <stdlib.h>

#include "patch/plan/site.h"

const char *af_map_verdict_name(uint32_t verdict)
{
	switch (verdict) {
	case AFM_FUTURES:
		return "futures";
	case AFM_NO_ASYNC:
		return "no-async";
	case AFM_STRIPPED:
		return "stripped";
	case AFM_LINE_TABLES_ONLY:
		return "line-tables-only";
	default:
		return "unknown";
	}
}

const char *af_map_future_kind_name(uint32_t kind)
{
	switch (kind) {
	case AFM_F_ASYNC_FN:
		return "async fn";
	case AFM_F_ASYNC_BLOCK:
		return "async block";
	case AFM_F_ASYNC_CLOSURE:
		return "async closure";
	case AFM_F_COROUTINE:
		return "coroutine";
	case AFM_F_HAND:
		return "hand-written";
	default:
		return "unknown";
	}
}

const char *af_map_poll_kind_name(uint32_t kind)
{
	switch (kind) {
	case AFM_P_ASYNC_BODY:
		return "async body";
	case AFM_P_HAND:
		return "hand-written";
	case AFM_P_GENERATOR:
		return "generator";
	case AFM_P_TASK_ROOT:
		return "task root";
	default:
		return "unknown";
	}
}

bool af_map_wants_future(const struct af_futuremap *map, const struct af_filter *filter,
			 const struct afm_future *future)
{
	return af_filter_wants(filter, af_futuremap_string(map, future->name),
			       af_futuremap_string(map, future->file), future->kind != AFM_F_HAND);
}

bool af_map_wants_poll(const struct af_futuremap *map, const struct af_filter *filter,
		       const struct afm_poll *poll)
{
	return af_filter_wants(filter, af_futuremap_string(map, poll->name),
			       af_futuremap_string(map, poll->file), poll->kind != AFM_P_HAND);
}

static void print_place(const struct af_futuremap *map, uint32_t file, uint32_t line, FILE *out)
{
	if (line)
		fprintf(out, "%s:%" PRIu32, af_futuremap_string(map, file), line);
	else
		fputs("?", out);
}

static const char *type_name(const struct af_futuremap *map, uint32_t type)
{
	return type == AFM_NONE ? "?"
				: af_futuremap_string(map, af_futuremap_types(map, type)->name);
}

/* What a type is called where it is awaited: as people write it if it is a future. */
static const char *awaited_name(const struct af_futuremap *map, uint32_t type)
{
	if (type != AFM_NONE) {
		uint32_t future = af_futuremap_types(map, type)->future;
		if (future != AFM_NONE)
			return af_futuremap_string(map, af_futuremap_futures(map, future)->name);
	}
	return type_name(map, type);
}

static void print_states(const struct af_futuremap *map, const struct afm_future *future, FILE *out)
{
	const struct afm_type *type = af_futuremap_types(map, future->type);

	if (future->kind == AFM_F_HAND)
		return;
	for (uint32_t i = 0; i < type->n_variants; i++) {
		const struct afm_variant *v = af_futuremap_variants(map, type->first_variant + i);
		if (v->awaitee == AFM_NONE)
			continue;
		const struct afm_field *awaitee = af_futuremap_fields(map, v->awaitee);
		fprintf(out, "    %3" PRIu64 " await at ", v->discr);
		print_place(map, v->file, v->line, out);
		fprintf(out, "  %s\n", awaited_name(map, awaitee->type));
	}
}

static void print_poll(const struct af_futuremap *map, const struct afm_poll *poll, FILE *out)
{
	fprintf(out, "    poll 0x%" PRIx64 ", %s, %" PRIu32 " bytes", poll->address,
		af_map_poll_kind_name(poll->kind), poll->size);
	if (poll->flags & AFM_PF_AMBIGUOUS)
		fputs(", shared with other functions", out);
	if (poll->site == AFM_NONE)
		fprintf(out, ", not patchable: %s", af_refusal_text(poll->refusal));
	else if (af_futuremap_is_trap(map, poll))
		fprintf(out, ", patchable by --int3 only: %s", af_refusal_text(poll->refusal));
	fputc('\n', out);
}

static void print_future(const struct af_futuremap *map, const struct afm_future *future, FILE *out)
{
	const struct afm_type *type = af_futuremap_types(map, future->type);

	fprintf(out, "%s\n    %s at ", af_futuremap_string(map, future->name),
		af_map_future_kind_name(future->kind));
	print_place(map, future->file, future->line, out);
	fprintf(out, ", %" PRIu64 " bytes%s\n", type->size,
		future->flags & AFM_UF_OUT_OF_LINE ? ""
		: future->flags & AFM_UF_INLINED   ? ", polled in inlined code only"
						   : ", not polled anywhere");
	print_states(map, future, out);
	for (uint32_t i = 0; i < future->n_polls; i++)
		print_poll(map,
			   af_futuremap_polls(
				   map, *af_futuremap_future_polls(map, future->first_poll + i)),
			   out);
}

void af_map_print_text(const struct af_futuremap *map, const struct af_filter *filter, FILE *out)
{
	const struct afm_header *h = map->header;

	fprintf(out,
		"%s: %s; %" PRIu64 " futures, %" PRIu64 " polls, %" PRIu64 " of them task roots\n",
		af_futuremap_string(map, h->object), af_map_verdict_name(h->verdict),
		h->futures.count, h->polls.count, h->roots.count);
	for (uint32_t i = 0; i < h->futures.count; i++) {
		const struct afm_future *future = af_futuremap_futures(map, i);
		if (af_map_wants_future(map, filter, future)) {
			fputc('\n', out);
			print_future(map, future, out);
		}
	}
	for (uint32_t i = 0; i < h->roots.count; i++) {
		const struct afm_poll *poll =
			af_futuremap_polls(map, af_futuremap_roots(map, i)->poll);
		if (!af_map_wants_poll(map, filter, poll))
			continue;
		fprintf(out, "\ntask of %s\n", af_futuremap_string(map, poll->name));
		print_poll(map, poll, out);
	}
}

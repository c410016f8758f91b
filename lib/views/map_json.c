/* SPDX-License-Identifier: MIT */
/*
 * The future map as JSON. One value a line where a list is long, so that it can be read by
 * line tools as well.
 */
#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>

#include "patch/plan/site.h"
#include "views/json.h"
#include "views/map.h"

static void put_text(const char *text, FILE *out)
{
	char *escaped = af_json_escaped(text);
	fprintf(out, "\"%s\"", escaped ? escaped : "");
	free(escaped);
}

static void put_string(const struct af_futuremap *map, uint32_t string, FILE *out)
{
	put_text(af_futuremap_string(map, string), out);
}

static void put_place(const struct af_futuremap *map, uint32_t file, uint32_t line, FILE *out)
{
	if (!line) {
		fputs("\"file\": null, \"line\": null", out);
		return;
	}
	fputs("\"file\": ", out);
	put_string(map, file, out);
	fprintf(out, ", \"line\": %" PRIu32, line);
}

static void put_type(const struct af_futuremap *map, uint32_t type, FILE *out)
{
	if (type == AFM_NONE)
		fputs("null", out);
	else
		put_string(map, af_futuremap_types(map, type)->name, out);
}

/* Of a variant's field, what is dropped in that state. */
static void put_dropped(const struct af_futuremap *map, const struct afm_variant *variant,
			const struct afm_field *field, FILE *out)
{
	const struct afm_field *flag = af_futuremap_drop_flag(map, variant, field);

	if (flag) {
		fputs(", \"dropped\": ", out);
		put_string(map, flag->name, out);
	} else if (field->flags & (AFM_FF_DROPPED | AFM_FF_GONE)) {
		fprintf(out, ", \"dropped\": %s",
			!(field->flags & AFM_FF_GONE)	? "true"
			: field->flags & AFM_FF_DROPPED ? "\"in part\""
							: "false");
	}
}

static void put_field(const struct af_futuremap *map, const struct afm_variant *variant,
		      const struct afm_field *field, FILE *out)
{
	fputs("{\"name\": ", out);
	put_string(map, field->name, out);
	fputs(", \"type\": ", out);
	put_type(map, field->type, out);
	fprintf(out, ", \"offset\": %" PRIu64 ", \"size\": %" PRIu64, field->offset,
		field->type == AFM_NONE ? 0 : af_futuremap_types(map, field->type)->size);
	if (field->flags & AFM_FF_CAPTURED)
		fputs(", \"captured\": true", out);
	if (variant)
		put_dropped(map, variant, field, out);
	fputc('}', out);
}

static void put_fields(const struct af_futuremap *map, const struct afm_variant *variant,
		       uint32_t first, uint32_t n, FILE *out)
{
	const char *comma = "";

	fputc('[', out);
	for (uint32_t i = 0; i < n; i++) {
		const struct afm_field *field = af_futuremap_fields(map, first + i);
		if (field->flags & AFM_FF_AWAITEE)
			continue;
		fputs(comma, out);
		put_field(map, variant, field, out);
		comma = ", ";
	}
	fputc(']', out);
}

static void put_awaitee(const struct af_futuremap *map, uint32_t index, FILE *out)
{
	if (index == AFM_NONE) {
		fputs("null", out);
		return;
	}
	const struct afm_field *field = af_futuremap_fields(map, index);
	const struct afm_type *type =
		field->type == AFM_NONE ? NULL : af_futuremap_types(map, field->type);
	fputs("{\"type\": ", out);
	put_type(map, field->type, out);
	fprintf(out,
		", \"offset\": %" PRIu64 ", \"size\": %" PRIu64 ", \"future\": ", field->offset,
		type ? type->size : 0);
	if (type && type->future != AFM_NONE)
		put_string(map, af_futuremap_futures(map, type->future)->name, out);
	else
		fputs("null", out);
	fputc('}', out);
}

static void put_variant(const struct af_futuremap *map, const struct afm_variant *v, FILE *out)
{
	fputs("      {\"name\": ", out);
	put_string(map, v->name, out);
	if (v->flags & AFM_VF_DEFAULT)
		fputs(", \"value\": null, ", out);
	else
		fprintf(out, ", \"value\": %" PRIu64 ", ", v->discr);
	put_place(map, v->file, v->line, out);
	if (v->line_index)
		fprintf(out, ", \"line_index\": %" PRIu32, v->line_index);
	if (v->macro_line) {
		fputs(", \"macro_file\": ", out);
		put_string(map, v->macro_file, out);
		fprintf(out, ", \"macro_line\": %" PRIu32, v->macro_line);
	}
	fputs(", \"awaitee\": ", out);
	put_awaitee(map, v->awaitee, out);
	fputs(", \"fields\": ", out);
	put_fields(map, v, v->first_field, v->n_fields, out);
	fputc('}', out);
}

static void put_variants(const struct af_futuremap *map, const struct afm_type *type, FILE *out)
{
	fputc('[', out);
	for (uint32_t i = 0; i < type->n_variants; i++) {
		fputs(i ? ",\n" : "\n", out);
		put_variant(map, af_futuremap_variants(map, type->first_variant + i), out);
	}
	fputc(']', out);
}

static void put_future(const struct af_futuremap *map, const struct afm_future *future, FILE *out)
{
	const struct afm_type *type = af_futuremap_types(map, future->type);

	fputs("    {\"name\": ", out);
	put_string(map, future->name, out);
	fputs(", \"type\": ", out);
	put_string(map, type->name, out);
	fprintf(out, ", \"kind\": \"%s\", ", af_map_future_kind_name(future->kind));
	put_place(map, future->file, future->line, out);
	fprintf(out, ", \"size\": %" PRIu64 ", \"align\": %" PRIu32, type->size, type->align);
	if (future->state_offset != AFM_NONE)
		fprintf(out, ", \"state\": {\"offset\": %" PRIu32 ", \"size\": %" PRIu32 "}",
			future->state_offset, future->state_size);
	else
		fputs(", \"state\": null", out);
	fprintf(out, ", \"out_of_line\": %s, \"inlined\": %s, \"polls\": [",
		future->flags & AFM_UF_OUT_OF_LINE ? "true" : "false",
		future->flags & AFM_UF_INLINED ? "true" : "false");
	for (uint32_t i = 0; i < future->n_polls; i++) {
		uint32_t poll = *af_futuremap_future_polls(map, future->first_poll + i);
		fprintf(out, "%s\"0x%" PRIx64 "\"", i ? ", " : "",
			af_futuremap_polls(map, poll)->address);
	}
	fputs("],\n     \"fields\": ", out);
	put_fields(map, NULL, type->first_field, type->n_fields, out);
	fputs(",\n     \"states\": ", out);
	put_variants(map, type, out);
	fputc('}', out);
}

static const char *register_name(unsigned int reg)
{
	switch (reg) {
	case AFM_R_RDI:
		return "\"rdi\"";
	case AFM_R_RSI:
		return "\"rsi\"";
	case AFM_R_RDX:
		return "\"rdx\"";
	case AFM_R_NONE:
		return "\"none\"";
	default:
		return "null";
	}
}

static void put_offset(const char *name, uint32_t offset, FILE *out)
{
	if (offset == AFM_NONE)
		fprintf(out, ", \"%s\": null", name);
	else
		fprintf(out, ", \"%s\": %" PRIu32, name, offset);
}

static void put_root(const struct af_futuremap *map, const struct afm_root *root, FILE *out)
{
	fprintf(out, "{\"executor\": \"%s\", \"type\": ",
		root->executor == AFM_X_TOKIO	     ? "tokio"
		: root->executor == AFM_X_ASYNC_TASK ? "async-task"
						     : "other");
	put_type(map, root->future_type, out);
	put_offset("future_offset", root->future_offset, out);
	put_offset("stage_offset", root->stage_offset, out);
	fputs(", \"cell\": ", out);
	put_type(map, root->cell_type, out);
	fputc('}', out);
}

static void put_site(const struct af_futuremap *map, uint32_t index, uint32_t refusal, FILE *out)
{
	if (index == AFM_NONE) {
		fputs(", \"site\": null, \"refusal\": ", out);
		put_text(af_refusal_text(refusal), out);
		return;
	}
	const struct afm_site *site = af_futuremap_sites(map, index);
	fprintf(out,
		", \"site\": {\"address\": \"0x%" PRIx64
		"\", \"displaced\": %u, \"patch\": %u}, \"refusal\": ",
		site->address, site->displaced, site->patch);
	if (site->patch == AFM_PATCH_TRAP)
		put_text(af_refusal_text(refusal), out);
	else
		fputs("null", out);
}

static void put_poll(const struct af_futuremap *map, const struct afm_poll *poll, FILE *out)
{
	fprintf(out,
		"    {\"address\": \"0x%" PRIx64 "\", \"size\": %" PRIu32
		", \"kind\": \"%s\", \"name\": ",
		poll->address, poll->size, af_map_poll_kind_name(poll->kind));
	put_string(map, poll->name, out);
	fputs(", \"symbol\": ", out);
	put_string(map, poll->symbol, out);
	fputs(", ", out);
	put_place(map, poll->file, poll->line, out);
	fputs(", \"futures\": [", out);
	for (uint32_t i = 0; i < poll->n_futures; i++) {
		uint32_t future = *af_futuremap_poll_futures(map, poll->first_future + i);
		fputs(i ? ", " : "", out);
		put_string(map, af_futuremap_futures(map, future)->name, out);
	}
	fprintf(out,
		"], \"ambiguous\": %s, \"self_register\": %s, \"params\": %u, "
		"\"return_size\": %" PRIu32 ", \"tag\": ",
		poll->flags & AFM_PF_AMBIGUOUS ? "true" : "false",
		register_name(poll->self_register), poll->n_params, poll->return_size);
	if (poll->tag_width)
		fprintf(out, "{\"offset\": %" PRIu32 ", \"width\": %u, \"pending\": %" PRIu64 "}",
			poll->tag_offset, poll->tag_width, poll->pending);
	else
		fputs("null", out);
	put_site(map, poll->site, poll->refusal, out);
	fputs(", \"root\": ", out);
	if (poll->root != AFM_NONE)
		put_root(map, af_futuremap_roots(map, poll->root), out);
	else
		fputs("null", out);
	fputc('}', out);
}

static void put_park(const struct af_futuremap *map, const struct afm_park *park, FILE *out)
{
	fprintf(out, "    {\"address\": \"0x%" PRIx64 "\", \"size\": %" PRIu32 ", \"symbol\": ",
		park->address, park->size);
	put_string(map, park->name, out);
	put_site(map, park->site, park->refusal, out);
	fputc('}', out);
}

static void put_stay(const struct af_futuremap *map, const struct afm_stay *stay, FILE *out)
{
	uint32_t future =
		af_futuremap_types(map, af_futuremap_steps(map, stay->step)->type)->future;

	fprintf(out,
		"    {\"address\": \"0x%" PRIx64 "\", \"base\": %u, \"offset\": %" PRId64
		", \"pointer\": ",
		stay->address, stay->base, stay->offset);
	if (stay->flags & AFM_PL_POINTER)
		fprintf(out, "true, \"then\": %" PRId64, stay->then);
	else
		fputs("false", out);
	fprintf(out, ", \"number\": %u, \"quiet\": \"0x%" PRIx64 "\", \"future\": ", stay->number,
		stay->quiet);
	if (future != AFM_NONE)
		put_string(map, af_futuremap_futures(map, future)->name, out);
	else
		fputs("null", out);
	fputc('}', out);
}

static void put_place_in_frame(const struct afm_place *place, FILE *out)
{
	fprintf(out, "{\"start\": \"0x%" PRIx64 "\", \"end\": \"0x%" PRIx64 "\", \"base\": ",
		place->start, place->end);
	if (place->base == AFM_B_CFA)
		fputs("\"cfa\"", out);
	else
		fprintf(out, "%u", place->base);
	fprintf(out, ", \"offset\": %" PRId64 ", \"pointer\": ", place->offset);
	if (place->flags & AFM_PL_POINTER)
		fprintf(out, "true, \"then\": %" PRId64, place->then);
	else
		fputs("false", out);
	fputs(place->flags & AFM_PL_DERIVED ? ", \"derived\": true}" : "}", out);
}

static void put_driver(const struct af_futuremap *map, const struct afm_driver *driver, FILE *out)
{
	fprintf(out, "    {\"address\": \"0x%" PRIx64 "\", \"size\": %" PRIu32 ", \"name\": ",
		driver->address, driver->size);
	put_string(map, driver->name, out);
	fputs(", ", out);
	put_place(map, driver->file, driver->line, out);
	fputs(", \"future\": ", out);
	put_string(map, af_futuremap_futures(map, driver->future)->name, out);
	fputs(", \"places\": [", out);
	for (uint32_t i = 0; i < driver->n_places; i++) {
		fputs(i ? ",\n      " : "\n      ", out);
		put_place_in_frame(af_futuremap_places(map, driver->first_place + i), out);
	}
	fputs("]}", out);
}

static void put_head(const struct af_futuremap *map, FILE *out)
{
	const struct afm_header *h = map->header;
	uint32_t n = h->build_id_size ? h->build_id_size : 16;
	const char *comma = "";

	fprintf(out, "{\n  \"format\": \"asyncflame-map\",\n  \"version\": 1,\n  \"object\": ");
	put_string(map, h->object, out);
	fprintf(out, ",\n  \"build_id\": \"%s", h->build_id_size ? "" : "hash-");
	for (uint32_t i = 0; i < n; i++)
		fprintf(out, "%02x", h->build_id[i]);
	fprintf(out, "\",\n  \"verdict\": \"%s\",\n  \"machine\": \"%s\",\n  \"producer\": ",
		af_map_verdict_name(h->verdict),
		h->machine == EM_X86_64	   ? "x86_64"
		: h->machine == EM_AARCH64 ? "aarch64"
					   : "other");
	put_string(map, h->producer, out);
	fputs(",\n  \"dwarf_versions\": [", out);
	for (unsigned int i = 2; i <= 5; i++) {
		if (!(h->dwarf_versions >> i & 1))
			continue;
		fprintf(out, "%s%u", comma, i);
		comma = ", ";
	}
	fprintf(out, "],\n  \"debug_info_size\": %" PRIu64, h->debug_info_size);
}

void af_map_print_json(const struct af_futuremap *map, const struct af_filter *filter, FILE *out)
{
	const struct afm_header *h = map->header;
	const char *comma = "\n";

	put_head(map, out);
	fputs(",\n  \"futures\": [", out);
	for (uint32_t i = 0; i < h->futures.count; i++) {
		const struct afm_future *future = af_futuremap_futures(map, i);
		if (!af_map_wants_future(map, filter, future))
			continue;
		fputs(comma, out);
		put_future(map, future, out);
		comma = ",\n";
	}
	fputs("\n  ],\n  \"polls\": [", out);
	comma = "\n";
	for (uint32_t i = 0; i < h->polls.count; i++) {
		const struct afm_poll *poll = af_futuremap_polls(map, i);
		if (!af_map_wants_poll(map, filter, poll))
			continue;
		fputs(comma, out);
		put_poll(map, poll, out);
		comma = ",\n";
	}
	fputs("\n  ],\n  \"vtables\": [", out);
	for (uint32_t i = 0; i < h->vtables.count; i++) {
		const struct afm_vtable *vtable = af_futuremap_vtables(map, i);
		fprintf(out, "%s    {\"address\": \"0x%" PRIx64 "\", \"type\": ", i ? ",\n" : "\n",
			vtable->address);
		put_type(map, vtable->type, out);
		fputc('}', out);
	}
	fputs("\n  ],\n  \"wakers\": [", out);
	for (uint32_t i = 0; i < h->wakers.count; i++) {
		const struct afm_waker *waker = af_futuremap_wakers(map, i);
		fprintf(out, "%s    {\"address\": \"0x%" PRIx64 "\", \"type\": ", i ? ",\n" : "\n",
			waker->address);
		put_type(map, waker->type, out);
		fputc('}', out);
	}
	fputs("\n  ],\n  \"drivers\": [", out);
	comma = "\n";
	for (uint32_t i = 0; i < h->drivers.count; i++) {
		const struct afm_driver *driver = af_futuremap_drivers(map, i);
		if (!af_map_wants_future(map, filter, af_futuremap_futures(map, driver->future)))
			continue;
		fputs(comma, out);
		put_driver(map, driver, out);
		comma = ",\n";
	}
	fputs("\n  ],\n  \"parks\": [", out);
	for (uint32_t i = 0; i < h->parks.count; i++) {
		fputs(i ? ",\n" : "\n", out);
		put_park(map, af_futuremap_parks(map, i), out);
	}
	fputs("\n  ],\n  \"stays\": [", out);
	for (uint32_t i = 0; i < h->stays.count; i++) {
		fputs(i ? ",\n" : "\n", out);
		put_stay(map, af_futuremap_stays(map, i), out);
	}
	fputs("\n  ],\n  \"layouts\": {", out);
	for (uint32_t i = 0; i < h->layouts.count; i++) {
		const struct afm_layout *layout = af_futuremap_layouts(map, i);
		fputs(i ? ",\n    " : "\n    ", out);
		put_string(map, layout->name, out);
		fprintf(out, ": %" PRIu64, layout->value);
	}
	fputs("\n  }\n}\n", out);
}

/* SPDX-License-Identifier: MIT */
/*
 * The types of a future map as JSON, for whoever reads a program's memory by them.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "views/json.h"
#include "views/map.h"

static void put_string(const struct af_futuremap *map, uint32_t string, FILE *out)
{
	char *escaped = af_json_escaped(af_futuremap_string(map, string));
	fprintf(out, "\"%s\"", escaped ? escaped : "");
	free(escaped);
}

static void put_index(const char *name, uint32_t index, FILE *out)
{
	if (index != AFM_NONE)
		fprintf(out, ", \"%s\": %" PRIu32, name, index);
}

static void put_fields(const struct af_futuremap *map, uint32_t first, uint32_t n, FILE *out)
{
	fputs("\"fields\": [", out);
	for (uint32_t i = 0; i < n; i++) {
		const struct afm_field *field = af_futuremap_fields(map, first + i);
		fputs(i ? ", {\"name\": " : "{\"name\": ", out);
		put_string(map, field->name, out);
		fprintf(out, ", \"offset\": %" PRIu64, field->offset);
		put_index("type", field->type, out);
		fputs(field->flags & AFM_FF_CAPTURED ? ", \"captured\": true}" : "}", out);
	}
	fputc(']', out);
}

static void put_variants(const struct af_futuremap *map, const struct afm_type *type, FILE *out)
{
	fputs(", \"discriminant\": ", out);
	if (type->discr_offset == AFM_NONE)
		fputs("null", out);
	else
		fprintf(out, "{\"offset\": %" PRIu32 ", \"size\": %" PRIu32 "}", type->discr_offset,
			type->discr_size);
	fputs(", \"variants\": [", out);
	for (uint32_t i = 0; i < type->n_variants; i++) {
		const struct afm_variant *v = af_futuremap_variants(map, type->first_variant + i);
		fputs(i ? ", {\"name\": " : "{\"name\": ", out);
		put_string(map, v->name, out);
		if (v->flags & AFM_VF_DEFAULT)
			fputs(", \"value\": null, ", out);
		else
			fprintf(out, ", \"value\": %" PRIu64 ", ", v->discr);
		put_fields(map, v->first_field, v->n_fields, out);
		fputc('}', out);
	}
	fputc(']', out);
}

static const char *kind_name(const struct afm_type *type)
{
	static const char *const names[] = {
		[AFM_T_OPAQUE] = "opaque",   [AFM_T_UNSIGNED] = "unsigned",
		[AFM_T_SIGNED] = "signed",   [AFM_T_FLOAT] = "float",
		[AFM_T_BOOL] = "bool",	     [AFM_T_CHAR] = "char",
		[AFM_T_POINTER] = "pointer", [AFM_T_ARRAY] = "array",
		[AFM_T_STRUCT] = "struct",   [AFM_T_UNION] = "union",
		[AFM_T_CENUM] = "enum",	     [AFM_T_FUNCTION] = "function",
	};

	return type->kind < sizeof(names) / sizeof(names[0]) ? names[type->kind] : "opaque";
}

static void put_type(const struct af_futuremap *map, uint32_t index, FILE *out)
{
	const struct afm_type *type = af_futuremap_types(map, index);

	fprintf(out, "    {\"id\": %" PRIu32 ", \"kind\": \"%s\", \"name\": ", index,
		kind_name(type));
	put_string(map, type->name, out);
	if (type->flags & AFM_TF_DECLARATION)
		fputs(", \"declaration\": true", out);
	else
		fprintf(out, ", \"size\": %" PRIu64 ", \"align\": %" PRIu32, type->size,
			type->align);
	put_index("target", type->target, out);
	put_index("of", type->template_arg, out);
	if (type->kind == AFM_T_ARRAY)
		fprintf(out, ", \"length\": %" PRIu64, type->length);
	if (type->future != AFM_NONE) {
		fputs(", \"future\": ", out);
		put_string(map, af_futuremap_futures(map, type->future)->name, out);
	}
	if (type->flags & AFM_TF_REACHES_FUTURE)
		fputs(", \"reaches_future\": true", out);
	if (type->n_fields) {
		fputs(", ", out);
		put_fields(map, type->first_field, type->n_fields, out);
	}
	if (type->n_variants)
		put_variants(map, type, out);
	fputc('}', out);
}

void af_map_print_types(const struct af_futuremap *map, FILE *out)
{
	fputs("{\n  \"format\": \"asyncflame-types\",\n  \"version\": 1,\n  \"types\": [", out);
	for (uint32_t i = 0; i < map->header->types.count; i++) {
		fputs(i ? ",\n" : "\n", out);
		put_type(map, i, out);
	}
	fputs("\n  ]\n}\n", out);
}

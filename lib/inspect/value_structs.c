/* SPDX-License-Identifier: MIT */
/*
 * Structs, tuples and enums by their fields.
 */
#include <string.h>

#include "inspect/value_show.h"

/* Where the last part of a path begins: behind the last "::" that is in no brackets. */
static const char *last_part(const char *name)
{
	const char *last = name;
	int depth = 0;

	for (const char *p = name; *p; p++) {
		if (*p == '<' || *p == '(' || *p == '[' || *p == '{')
			depth++;
		else if ((*p == '>' && (p == name || p[-1] != '-')) || *p == ')' || *p == ']' ||
			 *p == '}')
			depth--;
		else if (!depth && p[0] == ':' && p[1] == ':')
			last = p + 2;
	}
	return last;
}

void af_show_type_head(struct af_show *s, const char *name)
{
	name = last_part(name);
	if (!strncmp(name, "{closure_env#", 13))
		af_line_put(s->line, "{closure}");
	else
		af_line_append(s->line, name, strcspn(name, "<"));
}

static bool is_positional(const struct af_show *s, const struct afm_field *field)
{
	const char *name = af_futuremap_string(s->map, field->name);
	return !strncmp(name, "__", 2) && name[2] >= '0' && name[2] <= '9';
}

/* The fields in braces, or in parentheses if they have no names. */
static void show_fields(struct af_show *s, uint32_t first, uint32_t n, uint64_t address,
			bool is_tuple)
{
	const char *comma = "";

	if (!n)
		return;
	bool positional = is_tuple || is_positional(s, af_futuremap_fields(s->map, first));
	af_line_put(s->line, positional ? "(" : " { ");
	if (af_show_enter(s)) {
		for (uint32_t i = 0; i < n; i++) {
			const struct afm_field *field = af_futuremap_fields(s->map, first + i);
			af_line_put(s->line, comma);
			comma = ", ";
			if (af_show_is_over(s)) {
				af_line_put(s->line, "..");
				break;
			}
			if (!positional) {
				af_line_put(s->line, af_futuremap_string(s->map, field->name));
				af_line_put(s->line, ": ");
			}
			af_show_value(s, (struct af_spot){field->type, address + field->offset});
		}
		if (is_tuple && n == 1)
			af_line_put(s->line, ",");
		af_show_leave(s);
	}
	af_line_put(s->line, positional ? ")" : " }");
}

/* Whether there can be values of this type, for sure. A struct without fields may be a unit
   or an enum without variants: debug info shows both alike. */
static bool is_inhabited(const struct af_show *s, uint32_t type, int depth, int *budget)
{
	if (type == AFM_NONE || depth > 4 || --*budget < 0)
		return false;
	const struct afm_type *t = af_show_type(s, type);
	const char *name = af_futuremap_string(s->map, t->name);

	if (t->kind != AFM_T_STRUCT)
		return strcmp(name, "!") != 0 && t->kind != AFM_T_OPAQUE &&
		       (t->kind != AFM_T_ARRAY || is_inhabited(s, t->target, depth + 1, budget));
	if (t->n_variants)
		return t->discr_offset != AFM_NONE;
	if (!t->n_fields)
		return !strncmp(name, "core::marker::Phantom", 21) ||
		       !strcmp(name, "alloc::alloc::Global");
	for (uint32_t i = 0; i < t->n_fields; i++)
		if (!is_inhabited(s, af_futuremap_fields(s->map, t->first_field + i)->type,
				  depth + 1, budget))
			return false;
	return true;
}

/* Without a tag at most one variant can be: the one that surely can. */
static const struct afm_variant *possible_variant(const struct af_show *s,
						  const struct afm_type *type)
{
	const struct afm_variant *only = NULL;
	int budget = 200; /* types looked at */

	for (uint32_t i = 0; i < type->n_variants; i++) {
		const struct afm_variant *v =
			af_futuremap_variants(s->map, type->first_variant + i);
		bool possible = true;
		for (uint32_t k = 0; k < v->n_fields && possible; k++)
			possible = is_inhabited(
				s, af_futuremap_fields(s->map, v->first_field + k)->type, 0,
				&budget);
		if (!possible)
			continue;
		if (only)
			return NULL;
		only = v;
	}
	return only;
}

/* Tags of 16 bytes, of which the map has the lower half: enough where the upper is 0. */
static enum af_active wide_variant(const struct af_show *s, const struct afm_type *type,
				   uint64_t address, uint32_t *variant)
{
	uint64_t tag[2];

	if (!af_memory_read(s->target->memory, address + type->discr_offset, tag, sizeof(tag)))
		return AF_ACTIVE_UNREADABLE;
	for (uint32_t i = 0; i < type->n_variants; i++) {
		const struct afm_variant *v =
			af_futuremap_variants(s->map, type->first_variant + i);
		if (v->flags & AFM_VF_DEFAULT)
			return AF_ACTIVE_UNTOLD;
		if (!tag[1] && v->discr == tag[0]) {
			*variant = type->first_variant + i;
			return AF_ACTIVE_FOUND;
		}
	}
	return AF_ACTIVE_INVALID;
}

const struct afm_variant *af_show_variant(struct af_show *s, struct af_spot at)
{
	const struct afm_type *type = af_show_type(s, at.type);
	const struct afm_variant *possible;
	enum af_active active;
	uint32_t index;

	if (type->discr_size == 16 && type->discr_offset != AFM_NONE)
		active = wide_variant(s, type, at.address, &index);
	else
		active = af_target_variant(s->target, s->image, at.type, at.address, &index);
	switch (active) {
	case AF_ACTIVE_FOUND:
		return af_futuremap_variants(s->map, index);
	case AF_ACTIVE_UNREADABLE:
		af_line_put(s->line, AF_UNREADABLE);
		return NULL;
	case AF_ACTIVE_INVALID:
		af_line_put(s->line, AF_INVALID);
		return NULL;
	case AF_ACTIVE_UNTOLD:
		break;
	}
	possible = type->discr_offset == AFM_NONE ? possible_variant(s, type) : NULL;
	if (!possible)
		af_line_put(s->line, "<unknown variant>");
	return possible;
}

void af_show_enum(struct af_show *s, struct af_spot at)
{
	const struct afm_variant *variant = af_show_variant(s, at);

	if (!variant)
		return;
	af_line_put(s->line, af_futuremap_string(s->map, variant->name));
	show_fields(s, variant->first_field, variant->n_fields, at.address, false);
}

/* A hand-written future that is itself what was asked for. */
static bool is_opened(const struct af_show *s, const struct afm_type *type)
{
	return s->options->open_future && s->nesting == 1 &&
	       af_futuremap_futures(s->map, type->future)->kind == AFM_F_HAND;
}

void af_show_struct(struct af_show *s, struct af_spot at)
{
	const struct afm_type *type = af_show_type(s, at.type);
	const char *name = af_futuremap_string(s->map, type->name);

	if (type->flags & AFM_TF_DECLARATION) {
		af_line_put(s->line, "<unknown>");
	} else if (type->future != AFM_NONE && !is_opened(s, type)) {
		/* What it awaits is told elsewhere, and better. */
		const struct afm_future *future = af_futuremap_futures(s->map, type->future);
		af_line_put(s->line, "<future ");
		af_line_put(s->line, af_futuremap_string(s->map, future->name));
		af_line_put(s->line, ">");
	} else if (type->n_variants) {
		af_show_enum(s, at);
	} else if (name[0] == '(') {
		show_fields(s, type->first_field, type->n_fields, at.address, true);
	} else {
		af_show_type_head(s, name);
		show_fields(s, type->first_field, type->n_fields, at.address, false);
	}
}

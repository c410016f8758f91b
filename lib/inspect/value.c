/* SPDX-License-Identifier: MIT */
/*
 * Values by the kind of their type; what has parts goes on in the other value_ files.
 *
 * Everything recurses through af_show_value alone, which counts: nesting bounds the stack,
 * steps bound the time, also where lists in lists are empty and nothing is ever written.
 */
#include <string.h>

#include "inspect/value_show.h"

#define NESTING_MAX 48
#define NEWTYPES_MAX 16

const struct af_value_options af_value_defaults = {
	.max_text = 100,
	.max_elements = 32,
	.max_depth = 8,
	.max_steps = 2000,
};

bool af_show_is_over(const struct af_show *s)
{
	return s->line->full || !s->steps;
}

bool af_show_enter(struct af_show *s)
{
	if (s->depth >= s->options->max_depth) {
		af_line_put(s->line, "..");
		return false;
	}
	s->depth++;
	return true;
}

void af_show_leave(struct af_show *s)
{
	s->depth--;
}

uint64_t af_show_size(const struct af_show *s, uint32_t type)
{
	uint64_t size = 1;

	for (int i = 0; i < NEWTYPES_MAX && type != AFM_NONE; i++) {
		const struct afm_type *t = af_show_type(s, type);
		if (__builtin_mul_overflow(
			    size, t->kind == AFM_T_ARRAY && !t->size ? t->length : t->size, &size))
			return UINT64_MAX;
		if (t->kind != AFM_T_ARRAY || t->size)
			return size;
		type = t->target;
	}
	return 0;
}

/* The only field that is more than a marker. */
static const struct afm_field *only_field(const struct af_show *s, const struct afm_type *type)
{
	const struct afm_field *only = NULL;

	if (type->kind != AFM_T_STRUCT || type->n_variants)
		return NULL;
	for (uint32_t i = 0; i < type->n_fields; i++) {
		const struct afm_field *field = af_futuremap_fields(s->map, type->first_field + i);
		if (field->type == AFM_NONE || !af_show_size(s, field->type))
			continue;
		if (only)
			return NULL;
		only = field;
	}
	return only;
}

bool af_show_scalar(const struct af_show *s, struct af_spot *spot)
{
	struct af_spot at = *spot;

	for (int i = 0; i < NEWTYPES_MAX; i++) {
		const struct afm_type *type = af_show_type(s, at.type);
		if (type->kind >= AFM_T_UNSIGNED && type->kind <= AFM_T_POINTER) {
			*spot = at;
			return true;
		}
		const struct afm_field *field = only_field(s, type);
		if (!field)
			return false;
		at.type = field->type;
		at.address += field->offset;
	}
	return false;
}

enum af_read af_show_number(const struct af_show *s, struct af_spot from, const char *path,
			    uint64_t *number)
{
	if ((*path && !af_show_path(s, path, &from)) || !af_show_scalar(s, &from))
		return AF_READ_NONE;
	uint64_t size = af_show_type(s, from.type)->size;
	if (!size || size > 8 || (size & (size - 1)))
		return AF_READ_NONE;
	return af_memory_read_number(s->target->memory, from.address, (size_t)size, number)
		       ? AF_READ_FINE
		       : AF_READ_FAILED;
}

enum af_read af_show_numbers(const struct af_show *s, struct af_spot from, const char *const *paths,
			     uint64_t *numbers, unsigned int n)
{
	enum af_read all = AF_READ_FINE;

	for (unsigned int i = 0; i < n; i++) {
		enum af_read read = af_show_number(s, from, paths[i], &numbers[i]);
		if (read == AF_READ_NONE)
			return read;
		if (read == AF_READ_FAILED)
			all = read;
	}
	return all;
}

static void put_wide(struct af_line *line, unsigned __int128 number)
{
	const uint64_t part = UINT64_C(10000000000000000000);

	if (number >= part) {
		put_wide(line, number / part);
		af_line_padded(line, (uint64_t)(number % part), 19);
	} else {
		af_line_unsigned(line, (uint64_t)number);
	}
}

static void show_integer(struct af_show *s, const struct afm_type *type, const uint8_t *bytes)
{
	unsigned __int128 number = 0;
	bool negative = type->kind == AFM_T_SIGNED && bytes[type->size - 1] & 0x80;

	memcpy(&number, bytes, type->size);
	if (negative) {
		/* Two's complement of as many bytes as there are. */
		if (type->size < sizeof(number))
			number |= ~(unsigned __int128)0 << type->size * 8;
		number = -number;
		af_line_put(s->line, "-");
	}
	put_wide(s->line, number);
}

static void show_char(struct af_show *s, const uint8_t *bytes)
{
	uint32_t c;
	uint8_t text[4];
	size_t n = 0;

	memcpy(&c, bytes, sizeof(c));
	if (c < 0x80) {
		text[n++] = (uint8_t)c;
	} else {
		int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
		static const uint8_t head[] = {0, 0xc0, 0xe0, 0xf0};
		if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
			af_line_put(s->line, AF_INVALID);
			return;
		}
		text[n++] = (uint8_t)(head[more] | c >> 6 * more);
		while (more--)
			text[n++] = (uint8_t)(0x80 | (c >> 6 * more & 0x3f));
	}
	af_line_quote(s->line, AF_QUOTE_CHAR, text, n, false);
}

static void show_float(struct af_show *s, const struct afm_type *type, const uint8_t *bytes)
{
	if (type->size == sizeof(float)) {
		float number;
		memcpy(&number, bytes, sizeof(number));
		af_line_float(s->line, number, true);
	} else if (type->size == sizeof(double)) {
		double number;
		memcpy(&number, bytes, sizeof(number));
		af_line_float(s->line, number, false);
	} else {
		af_line_put(s->line, "<float>"); /* f16, f128: none of C's types */
	}
}

static void show_number(struct af_show *s, const struct afm_type *type, uint64_t address)
{
	const char *name = af_futuremap_string(s->map, type->name);
	uint8_t bytes[16];

	if (!type->size) {
		/* () and ! are numbers of no size to debug info. */
		af_line_put(s->line, !strcmp(name, "!") ? AF_INVALID : name);
		return;
	}
	if (type->size > sizeof(bytes) || (type->kind == AFM_T_CHAR && type->size != 4) ||
	    (type->kind == AFM_T_BOOL && type->size != 1)) {
		af_line_put(s->line, "<unknown>");
		return;
	}
	if (!af_memory_read(s->target->memory, address, bytes, (size_t)type->size)) {
		af_line_put(s->line, AF_UNREADABLE);
		return;
	}
	if (type->kind == AFM_T_FLOAT)
		show_float(s, type, bytes);
	else if (type->kind == AFM_T_CHAR)
		show_char(s, bytes);
	else if (type->kind == AFM_T_BOOL)
		af_line_put(s->line, bytes[0] > 1 ? AF_INVALID : bytes[0] ? "true" : "false");
	else
		show_integer(s, type, bytes);
}

static void show_kind(struct af_show *s, const struct afm_type *type, struct af_spot at)
{
	switch (type->kind) {
	case AFM_T_UNSIGNED:
	case AFM_T_SIGNED:
	case AFM_T_FLOAT:
	case AFM_T_BOOL:
	case AFM_T_CHAR:
		show_number(s, type, at.address);
		break;
	case AFM_T_POINTER:
		af_show_pointer(s, at);
		break;
	case AFM_T_ARRAY: {
		struct af_list list = {.type = type->target,
				       .base = at.address,
				       .stride = af_show_size(s, type->target),
				       .length = type->length};
		af_show_list(s, &list);
		break;
	}
	case AFM_T_STRUCT:
		if (!af_show_known(s, at) && !af_show_wide(s, at))
			af_show_struct(s, at);
		break;
	case AFM_T_CENUM:
		af_show_enum(s, at);
		break;
	case AFM_T_UNION:
		/* Which of its fields is meant, nobody can tell. */
		af_show_type_head(s, af_futuremap_string(s->map, type->name));
		af_line_put(s->line, " { .. }");
		break;
	default:
		af_line_put(s->line, "<unknown>");
	}
}

void af_show_value(struct af_show *s, struct af_spot at)
{
	if (at.type == AFM_NONE) {
		af_line_put(s->line, "<unknown>");
		return;
	}
	if (af_show_is_over(s) || s->nesting >= NESTING_MAX) {
		af_line_put(s->line, "..");
		return;
	}
	s->steps--;
	s->nesting++;
	show_kind(s, af_show_type(s, at.type), at);
	s->nesting--;
}

void af_value_print(struct af_line *line, const struct af_value_options *options,
		    const struct af_target *target, uint32_t image, uint32_t type, uint64_t address)
{
	struct af_show s = {.line = line,
			    .options = options ? options : &af_value_defaults,
			    .target = target,
			    .map = &target->images[image].map,
			    .image = image};

	s.steps = s.options->max_steps;
	af_show_value(&s, (struct af_spot){type, address});
}

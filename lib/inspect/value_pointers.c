/* SPDX-License-Identifier: MIT */
/*
 * Pointers: what is behind a Box, a reference, Rc and Arc; addresses of the others.
 */
#include <string.h>

#include "inspect/value_show.h"

#define COUNT_MAX (UINT64_C(1) << 40) /* nobody holds so many */

static bool begins(const char *name, const char *with)
{
	return !strncmp(name, with, strlen(with));
}

static bool is_owning(const char *name)
{
	return begins(name, "alloc::boxed::Box<");
}

/* References and boxes are looked through; raw pointers may dangle. */
static bool is_followed(const char *name)
{
	return name[0] == '&' || is_owning(name);
}

/* Whether a function of ours can be there. */
static bool is_code(const struct af_target *target, uint64_t address)
{
	bool known = false;
	uint8_t byte;

	for (uint32_t i = 0; i < target->n_images; i++) {
		const struct af_image *image = &target->images[i];
		known |= image->text_end != 0;
		if (address >= image->text && address < image->text_end)
			return true;
	}
	return !known && af_memory_read(target->memory, address, &byte, 1);
}

void af_show_pointer(struct af_show *s, struct af_spot at)
{
	const struct afm_type *type = af_show_type(s, at.type);
	const char *name = af_futuremap_string(s->map, type->name);
	uint64_t pointer;

	if (type->size != sizeof(pointer)) {
		af_line_put(s->line, "<unknown>");
	} else if (!af_memory_read_u64(s->target->memory, at.address, &pointer)) {
		af_line_put(s->line, AF_UNREADABLE);
	} else if (type->target != AFM_NONE &&
		   af_show_type(s, type->target)->kind == AFM_T_FUNCTION &&
		   !is_code(s->target, pointer)) {
		/* Debug info calls a function item such a pointer, too, which has no bytes: what
		   lies there is something else's. */
		af_line_put(s->line, "<function>");
	} else if (type->target == AFM_NONE || !is_followed(name) ||
		   af_show_type(s, type->target)->kind == AFM_T_FUNCTION) {
		af_line_hex(s->line, pointer);
	} else if (!pointer) {
		af_line_put(s->line, AF_INVALID);
	} else {
		af_show_value(s, (struct af_spot){type->target, pointer});
	}
}

/* "dyn Trait" of "&mut dyn Trait", "Box<dyn Trait, Global>", "*const ArcInner<dyn Trait>". */
static void put_trait(struct af_show *s, const char *name)
{
	const char *from = strstr(name, "dyn ");
	size_t n = 0;

	if (!from) {
		af_line_put(s->line, "dyn");
		return;
	}
	for (int depth = 0; from[n]; n++) {
		if (from[n] == '<' || from[n] == '(')
			depth++;
		else if ((from[n] == '>' && from[n - 1] != '-') || from[n] == ')')
			depth--;
		if (depth < 0 || (!depth && from[n] == ','))
			break;
	}
	af_line_append(s->line, from, n);
}

/* A trait object is the future that its vtable tells of, else an address. */
static void show_object(struct af_show *s, const char *name, uint64_t pointer, uint64_t vtable)
{
	uint32_t image, type;

	if (!pointer || !vtable) {
		af_line_put(s->line, AF_INVALID);
		return;
	}
	af_line_put(s->line, "<");
	if (af_target_vtable(s->target, vtable, &image, &type) &&
	    af_target_type(s->target, image, type)->future != AFM_NONE) {
		const struct af_futuremap *map = &s->target->images[image].map;
		uint32_t future = af_futuremap_types(map, type)->future;
		af_line_put(s->line, "future ");
		af_line_put(s->line,
			    af_futuremap_string(map, af_futuremap_futures(map, future)->name));
	} else {
		put_trait(s, name);
		af_line_put(s->line, " at ");
		af_line_hex(s->line, pointer);
	}
	af_line_put(s->line, ">");
}

/* The bytes behind a pointer to str, to a slice, or to a struct that ends in one. */
static void show_unsized(struct af_show *s, const char *name, uint32_t element, uint64_t pointer,
			 uint64_t length)
{
	const char *target = name + strcspn(name, "<&");

	target += *target != 0;
	if (begins(target, "mut "))
		target += 4;
	if (begins(target, "str")) {
		af_show_text(s, AF_QUOTE_STR, pointer, length);
	} else if (begins(target, "std::path::Path") || begins(target, "std::ffi::os_str::OsStr")) {
		af_show_text(s, AF_QUOTE_OS, pointer, length);
	} else if (begins(target, "core::ffi::c_str::CStr") ||
		   begins(target, "std::ffi::c_str::CStr")) {
		af_show_c_text(s, pointer, length);
	} else if (target[0] == '[') {
		struct af_list list = {.type = element,
				       .stride = af_show_size(s, element),
				       .base = pointer,
				       .length = length};
		uint64_t bytes;
		if (!pointer || __builtin_mul_overflow(list.stride, length, &bytes) || bytes >> 47)
			af_line_put(s->line, AF_INVALID);
		else
			af_show_list(s, &list);
	} else {
		af_line_put(s->line, "<unsized at ");
		af_line_hex(s->line, pointer);
		af_line_put(s->line, ">");
	}
}

bool af_show_wide(struct af_show *s, struct af_spot at)
{
	const char *const slice[] = {"data_ptr", "length"};
	const char *const object[] = {"pointer", "vtable"};
	const char *name = af_show_type_name(s, at.type);
	uint64_t parts[2];
	struct af_spot pointer = at;

	if (!is_followed(name) && name[0] != '*')
		return false;
	bool is_object = false;
	enum af_read read = af_show_numbers(s, at, slice, parts, 2);
	if (read == AF_READ_NONE) {
		is_object = true;
		read = af_show_numbers(s, at, object, parts, 2);
	}
	if (read == AF_READ_NONE)
		return false;
	if (read == AF_READ_FAILED) {
		af_line_put(s->line, AF_UNREADABLE);
	} else if (name[0] == '*') {
		af_line_hex(s->line, parts[0]);
	} else if (is_object) {
		show_object(s, name, parts[0], parts[1]);
	} else {
		af_show_path(s, "data_ptr", &pointer);
		show_unsized(s, name, af_show_type(s, pointer.type)->target, parts[0], parts[1]);
	}
	return true;
}

/* Whether an Rc or Arc can have these counts; freed memory mostly has others. */
static bool is_counted(struct af_show *s, struct af_spot inner)
{
	const char *const counts[] = {"strong", "weak"};
	uint64_t numbers[2];

	switch (af_show_numbers(s, inner, counts, numbers, 2)) {
	case AF_READ_FINE:
		if (numbers[0] && numbers[0] < COUNT_MAX && numbers[1] &&
		    (numbers[1] < COUNT_MAX || numbers[1] == UINT64_MAX))
			return true;
		af_line_put(s->line, AF_INVALID);
		return false;
	default:
		af_line_put(s->line, AF_UNREADABLE);
		return false;
	}
}

/* Arc<dyn Trait>: the value lies behind the counts, aligned as its vtable says. */
static void show_counted_object(struct af_show *s, const char *name, struct af_spot fat)
{
	const char *const object[] = {"pointer", "vtable"};
	uint64_t parts[2], align;

	if (af_show_numbers(s, fat, object, parts, 2) != AF_READ_FINE ||
	    !af_memory_read_u64(s->target->memory, parts[1] + 16, &align)) {
		af_line_put(s->line, AF_UNREADABLE);
		return;
	}
	if (!align || align & (align - 1) || align > 1 << 20) {
		af_line_put(s->line, AF_INVALID);
		return;
	}
	show_object(s, name, parts[0] + ((16 + align - 1) & ~(align - 1)), parts[1]);
}

bool af_show_counted(struct af_show *s, struct af_spot at)
{
	const char *name = af_show_type_name(s, at.type);
	struct af_spot pointer = at, thin, inner, data;
	uint64_t address, length = 0;

	if (!af_show_path(s, "ptr.pointer", &pointer))
		return false;
	thin = pointer;
	bool is_slice = af_show_path(s, "data_ptr", &thin);
	if (!is_slice && af_show_path(s, "vtable", &thin)) {
		show_counted_object(s, name, pointer);
		return true;
	}
	uint32_t target = af_show_type(s, thin.type)->target;
	if (af_show_type(s, thin.type)->kind != AFM_T_POINTER || target == AFM_NONE)
		return false;
	data = (struct af_spot){target, 0};
	if (!af_show_path(s, "data", &data) && !af_show_path(s, "value", &data))
		return false;
	if (af_show_number(s, thin, "", &address) != AF_READ_FINE ||
	    (is_slice && af_show_number(s, pointer, "length", &length) != AF_READ_FINE)) {
		af_line_put(s->line, AF_UNREADABLE);
		return true;
	}
	inner = (struct af_spot){target, address};
	data.address += address;
	if (!is_counted(s, inner))
		return true;
	if (is_slice)
		show_unsized(s, name, data.type, data.address, length);
	else
		af_show_value(s, data);
	return true;
}

/* SPDX-License-Identifier: MIT */
/*
 * Texts and rows of elements: arrays, slices, Vec, VecDeque, String.
 */
#include "inspect/value_show.h"

/* No allocation is larger than half of what a program can address. */
#define BYTES_MAX (UINT64_C(1) << 47)

static void put_rest(struct af_show *s, uint64_t n)
{
	af_line_put(s->line, ".. ");
	af_line_unsigned(s->line, n);
	af_line_put(s->line, " more");
}

void af_show_list(struct af_show *s, const struct af_list *list)
{
	uint64_t index = list->first;

	af_line_put(s->line, "[");
	if (list->length && af_show_enter(s)) {
		for (uint64_t i = 0; i < list->length; i++) {
			if (i)
				af_line_put(s->line, ", ");
			if (i >= s->options->max_elements || af_show_is_over(s)) {
				put_rest(s, list->length - i);
				break;
			}
			af_show_value(
				s, (struct af_spot){list->type, list->base + index * list->stride});
			if (++index == list->wrap)
				index = 0;
		}
		af_show_leave(s);
	}
	af_line_put(s->line, "]");
}

void af_show_text(struct af_show *s, enum af_quote how, uint64_t address, uint64_t length)
{
	uint8_t text[AF_VALUE_TEXT_MAX];
	uint64_t shown = s->options->max_text;

	if (shown > sizeof(text))
		shown = sizeof(text);
	if (shown > length)
		shown = length;
	if (length >= BYTES_MAX || !address) {
		af_line_put(s->line, AF_INVALID);
		return;
	}
	if (shown && !af_memory_read(s->target->memory, address, text, (size_t)shown)) {
		af_line_put(s->line, AF_UNREADABLE);
		return;
	}
	if (!af_line_quote(s->line, how, text, (size_t)shown, shown < length)) {
		af_line_put(s->line, AF_INVALID);
		return;
	}
	if (shown < length) {
		af_line_put(s->line, "... (");
		af_line_unsigned(s->line, length);
		af_line_put(s->line, " bytes)");
	}
}

void af_show_c_text(struct af_show *s, uint64_t address, uint64_t length)
{
	if (length)
		af_show_text(s, AF_QUOTE_C, address, length - 1);
	else
		af_line_put(s->line, AF_INVALID);
}

/* Whether memory of `capacity` elements at `address` can be, `length` of them in use. */
static bool is_sound(uint64_t address, uint64_t stride, uint64_t capacity, uint64_t length)
{
	uint64_t bytes;

	return address && (!stride || length <= capacity) &&
	       !__builtin_mul_overflow(length, stride, &bytes) && bytes < BYTES_MAX &&
	       address < BYTES_MAX && address + bytes <= BYTES_MAX;
}

/* RawVec: until 1.77 or so all in one, since then with an `inner` that knows no type. */
static enum af_read raw_parts(const struct af_show *s, struct af_spot raw, uint64_t *pointer,
			      uint64_t *capacity)
{
	const char *const old[] = {"ptr", "cap"};
	const char *const now[] = {"inner.ptr", "inner.cap"};
	uint64_t parts[2] = {0};
	enum af_read read = af_show_numbers(s, raw, now, parts, 2);

	if (read == AF_READ_NONE)
		read = af_show_numbers(s, raw, old, parts, 2);
	*pointer = parts[0];
	*capacity = parts[1];
	return read;
}

enum af_read af_show_vec_parts(const struct af_show *s, struct af_spot at, struct af_list *list)
{
	uint64_t length, pointer, capacity;
	struct af_spot raw = at;
	uint32_t element = af_show_type(s, at.type)->template_arg;

	if (element == AFM_NONE || !af_show_path(s, "buf", &raw))
		return AF_READ_NONE;
	enum af_read read = raw_parts(s, raw, &pointer, &capacity);
	if (read == AF_READ_FINE)
		read = af_show_number(s, at, "len", &length);
	if (read != AF_READ_FINE)
		return read;
	*list = (struct af_list){.type = element,
				 .stride = af_show_size(s, element),
				 .base = pointer,
				 .length = length};
	if (!is_sound(pointer, list->stride, capacity, length))
		list->base = 0;
	return AF_READ_FINE;
}

/* What has been written instead of the value, if it could not be found. */
static bool has_failed(struct af_show *s, enum af_read read, const struct af_list *list)
{
	if (read == AF_READ_FINE && list->base)
		return false;
	af_line_put(s->line, read == AF_READ_FINE ? AF_INVALID : AF_UNREADABLE);
	return true;
}

bool af_show_vec(struct af_show *s, struct af_spot at)
{
	struct af_list list;
	enum af_read read = af_show_vec_parts(s, at, &list);

	if (read == AF_READ_NONE)
		return false;
	if (!has_failed(s, read, &list))
		af_show_list(s, &list);
	return true;
}

/* String, OsString, PathBuf: newtypes around a Vec<u8>. */
bool af_show_string(struct af_show *s, struct af_spot at)
{
	struct af_list list;
	enum af_read read = AF_READ_NONE;
	enum af_quote how = AF_QUOTE_STR;

	if (!af_show_path(s, "vec", &at)) {
		how = AF_QUOTE_OS;
		/* How many `inner` there are depends on platform and version. */
		for (int i = 0; i < 4 && af_show_path(s, "inner", &at); i++)
			;
	}
	read = af_show_vec_parts(s, at, &list);
	if (read == AF_READ_NONE || (read == AF_READ_FINE && list.stride != 1))
		return false;
	if (!has_failed(s, read, &list))
		af_show_text(s, how, list.base, list.length);
	return true;
}

/* Until 1.66 `tail` and `head`, both taken modulo a power of two; since then `head` and `len`. */
bool af_show_deque(struct af_show *s, struct af_spot at)
{
	const char *const now[] = {"head", "len"};
	const char *const old[] = {"tail", "head"};
	struct af_spot raw = at;
	uint64_t parts[2] = {0}, pointer, capacity;
	uint32_t element = af_show_type(s, at.type)->template_arg;
	struct af_list list = {.type = element};

	if (element == AFM_NONE || !af_show_path(s, "buf", &raw))
		return false;
	enum af_read read = raw_parts(s, raw, &pointer, &capacity);
	if (read == AF_READ_NONE)
		return false;
	list.stride = af_show_size(s, element);
	if (!list.stride)
		capacity = UINT64_MAX;
	enum af_read ends = af_show_numbers(s, at, now, parts, 2);
	list.first = parts[0];
	list.length = parts[1];
	if (ends == AF_READ_NONE) {
		ends = af_show_numbers(s, at, old, parts, 2);
		if (ends == AF_READ_NONE || !list.stride)
			return false;
		list.first = parts[0];
		list.length = capacity ? (parts[1] - parts[0]) & (capacity - 1) : 0;
		if (capacity & (capacity - 1))
			pointer = 0;
	}
	list.wrap = capacity;
	list.base = list.first < capacity || (!list.first && !list.length) ? pointer : 0;
	if (!is_sound(pointer, list.stride, capacity, capacity == UINT64_MAX ? 0 : capacity) ||
	    list.length > capacity)
		list.base = 0;
	if (!has_failed(s, read == AF_READ_FINE ? ends : read, &list))
		af_show_list(s, &list);
	return true;
}

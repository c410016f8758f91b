/* SPDX-License-Identifier: MIT */
/*
 * What the files that show values (value.c) share. Each af_show_ function appends to the line
 * what it finds; none of them fails otherwise than in words.
 */
#ifndef AF_INSPECT_VALUE_SHOW_H
#define AF_INSPECT_VALUE_SHOW_H

#include "inspect/value.h"

struct af_show {
	struct af_line *line;
	const struct af_value_options *options;
	const struct af_target *target;
	const struct af_futuremap *map; /* of image: */
	uint32_t image;
	uint32_t steps;	  /* left */
	uint32_t nesting; /* values within values, transparent ones too */
	uint32_t depth;	  /* of braces */
};

/* A value: of this type, at this address. */
struct af_spot {
	uint32_t type;
	uint64_t address;
};

#define AF_UNREADABLE "<unreadable>"
#define AF_INVALID "<invalid>"

/* value.c */
void af_show_value(struct af_show *s, struct af_spot at);
/* Opens a brace of a value with parts: false if that is too deep, and then ".." is written. */
bool af_show_enter(struct af_show *s);
void af_show_leave(struct af_show *s);
/* Whether the work must end here. */
bool af_show_is_over(const struct af_show *s);

static inline const struct afm_type *af_show_type(const struct af_show *s, uint32_t type)
{
	return af_futuremap_types(s->map, type);
}
static inline const char *af_show_type_name(const struct af_show *s, uint32_t type)
{
	return af_futuremap_string(s->map, af_show_type(s, type)->name);
}
/* Bytes of one element of a list; also of arrays, whose size debug info does not give. */
uint64_t af_show_size(const struct af_show *s, uint32_t type);
/* Follows a path of fields by value, as af_target_path. */
static inline bool af_show_path(const struct af_show *s, const char *path, struct af_spot *spot)
{
	return af_target_path(s->target, s->image, path, &spot->type, &spot->address);
}
/* Down through structs with one field that matters, to a number or a pointer. */
bool af_show_scalar(const struct af_show *s, struct af_spot *spot);
/* The same by path, and reads it. AF_READ_NONE: no such path or scalar. */
enum af_read { AF_READ_NONE, AF_READ_FAILED, AF_READ_FINE };
enum af_read af_show_number(const struct af_show *s, struct af_spot from, const char *path,
			    uint64_t *number);
/* All of `numbers` numbers by their paths: for structures of which nothing is to be missing. */
enum af_read af_show_numbers(const struct af_show *s, struct af_spot from, const char *const *paths,
			     uint64_t *numbers, unsigned int n);

/* value_structs.c */
void af_show_struct(struct af_show *s, struct af_spot at);
void af_show_enum(struct af_show *s, struct af_spot at);
/* The active variant, also where only one can be; NULL: written why not. */
const struct afm_variant *af_show_variant(struct af_show *s, struct af_spot at);
/* "Name" of "a::b::Name<T>". */
void af_show_type_head(struct af_show *s, const char *name);

/* value_lists.c */
struct af_list {
	uint32_t type;	 /* of an element */
	uint64_t stride; /* bytes from one to the next */
	uint64_t base;	 /* address of the first place */
	uint64_t first;	 /* index of the first element */
	uint64_t wrap;	 /* places before they begin again, or 0 */
	uint64_t length;
};
void af_show_list(struct af_show *s, const struct af_list *list);
void af_show_text(struct af_show *s, enum af_quote how, uint64_t address, uint64_t length);
/* What a CStr is: `length` counts the zero at its end. */
void af_show_c_text(struct af_show *s, uint64_t address, uint64_t length);
bool af_show_vec(struct af_show *s, struct af_spot at);
bool af_show_string(struct af_show *s, struct af_spot at);
bool af_show_deque(struct af_show *s, struct af_spot at);
/* Of a Vec: where its elements are, if it can be one. */
enum af_read af_show_vec_parts(const struct af_show *s, struct af_spot at, struct af_list *list);

/* value_maps.c */
bool af_show_hash_map(struct af_show *s, struct af_spot at);
bool af_show_tree_map(struct af_show *s, struct af_spot at);

/* value_pointers.c */
void af_show_pointer(struct af_show *s, struct af_spot at);
/* A pair of pointer and length, or vtable. False if it is none. */
bool af_show_wide(struct af_show *s, struct af_spot at);
bool af_show_counted(struct af_show *s, struct af_spot at);

/* value_known.c */
/* A type of the standard library, tokio or bytes that is shown otherwise than by its fields.
   False if it is none, or has not the structure expected; nothing is written then. */
bool af_show_known(struct af_show *s, struct af_spot at);

/* value_times.c */
bool af_show_duration(struct af_show *s, struct af_spot at);
bool af_show_instant(struct af_show *s, struct af_spot at);
bool af_show_date(struct af_show *s, struct af_spot at);

/* value_addresses.c */
bool af_show_ipv4(struct af_show *s, struct af_spot at);
bool af_show_ipv6(struct af_show *s, struct af_spot at);
bool af_show_socket_v4(struct af_show *s, struct af_spot at);
bool af_show_socket_v6(struct af_show *s, struct af_spot at);

/* value_locks.c */
bool af_show_std_mutex(struct af_show *s, struct af_spot at);
bool af_show_std_rwlock(struct af_show *s, struct af_spot at);
bool af_show_tokio_lock(struct af_show *s, struct af_spot at);
bool af_show_lock_api(struct af_show *s, struct af_spot at);
bool af_show_refcell(struct af_show *s, struct af_spot at);

#endif

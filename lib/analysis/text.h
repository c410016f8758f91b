/* SPDX-License-Identifier: MIT */
/*
 * Text that is being put together, and the map's string table: every string once.
 */
#ifndef AF_ANALYSIS_TEXT_H
#define AF_ANALYSIS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing, NUL terminated text. When memory is short it stays as it was. */
struct af_text {
	char *data; /* never NULL after the first append that succeeded */
	size_t length, capacity;
	bool failed;
};

void af_text_append(struct af_text *text, const char *more, size_t length);
void af_text_add(struct af_text *text, const char *more);
void af_text_clear(struct af_text *text);
void af_text_deinit(struct af_text *text);
static inline const char *af_text_get(const struct af_text *text)
{
	return text->data ? text->data : "";
}

struct af_strings {
	char *data; /* as it goes into the map; offset 0 is "" */
	size_t size, capacity;
	uint32_t *slots; /* hash table of offsets; 0: free */
	size_t n_slots, used;
	bool failed; /* memory was short, or 4 GiB were not enough */
};

/* The offset of `string` in the table, 0 for NULL or on failure. */
uint32_t af_strings_add(struct af_strings *strings, const char *string);
/* The same without adding: 0 where it is not in the table. */
uint32_t af_strings_find(const struct af_strings *strings, const char *string);
static inline const char *af_strings_get(const struct af_strings *strings, uint32_t offset)
{
	return strings->data ? strings->data + offset : "";
}
void af_strings_deinit(struct af_strings *strings);

/* u64 -> u32, for DIEs and other keys. Key UINT64_MAX is not storable. */
struct af_map {
	struct af_map_slot {
		uint64_t key;
		uint32_t value;
	} * slots;
	size_t n_slots, used;
	bool failed;
};

/* The value of `key`, or UINT32_MAX. */
uint32_t af_map_get(const struct af_map *map, uint64_t key);
void af_map_set(struct af_map *map, uint64_t key, uint32_t value);
void af_map_deinit(struct af_map *map);

#endif

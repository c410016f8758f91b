/* SPDX-License-Identifier: MIT */
#include "analysis/text.h"

#include <stdlib.h>
#include <string.h>

void af_text_append(struct af_text *text, const char *more, size_t length)
{
	if (text->length + length + 1 > text->capacity) {
		size_t capacity = (text->length + length + 128) * 2;
		char *data = realloc(text->data, capacity);
		if (!data) {
			text->failed = true;
			return;
		}
		text->data = data;
		text->capacity = capacity;
	}
	memcpy(text->data + text->length, more, length);
	text->length += length;
	text->data[text->length] = '\0';
}

void af_text_add(struct af_text *text, const char *more)
{
	af_text_append(text, more, strlen(more));
}

void af_text_clear(struct af_text *text)
{
	text->length = 0;
	if (text->data)
		text->data[0] = '\0';
}

void af_text_deinit(struct af_text *text)
{
	free(text->data);
	memset(text, 0, sizeof(*text));
}

static uint64_t hash_string(const char *string, size_t length)
{
	const uint64_t prime = 0x9e3779b97f4a7c15;
	uint64_t hash = length, word;

	for (; length >= sizeof(word); length -= sizeof(word), string += sizeof(word)) {
		memcpy(&word, string, sizeof(word));
		hash = (hash ^ word) * prime;
		hash ^= hash >> 32;
	}
	word = 0;
	memcpy(&word, string, length);
	hash = (hash ^ word) * prime;
	return hash ^ hash >> 32;
}

static bool grow_strings(struct af_strings *s)
{
	size_t n = s->n_slots ? s->n_slots * 2 : 1024;
	uint32_t *slots = calloc(n, sizeof(*slots));
	if (!slots)
		return false;
	for (size_t i = 0; i < s->n_slots; i++) {
		if (!s->slots[i])
			continue;
		const char *string = s->data + s->slots[i];
		size_t at = hash_string(string, strlen(string)) & (n - 1);
		while (slots[at])
			at = (at + 1) & (n - 1);
		slots[at] = s->slots[i];
	}
	free(s->slots);
	s->slots = slots;
	s->n_slots = n;
	return true;
}

static bool reserve_bytes(struct af_strings *s, size_t more)
{
	if (s->size + more <= s->capacity)
		return true;
	size_t capacity = s->capacity * 2 + more + 4096;
	char *data = realloc(s->data, capacity);
	if (!data || s->size + more > UINT32_MAX)
		return false;
	s->data = data;
	s->capacity = capacity;
	return true;
}

uint32_t af_strings_add(struct af_strings *s, const char *string)
{
	if (!string || !*string || s->failed)
		return 0;
	if (s->used * 2 >= s->n_slots && !grow_strings(s)) {
		s->failed = true;
		return 0;
	}
	size_t length = strlen(string);
	size_t at = hash_string(string, length) & (s->n_slots - 1);
	for (; s->slots[at]; at = (at + 1) & (s->n_slots - 1))
		if (!strcmp(s->data + s->slots[at], string))
			return s->slots[at];
	if (!reserve_bytes(s, length + 2)) {
		s->failed = true;
		return 0;
	}
	if (!s->size)
		s->data[s->size++] = '\0';
	uint32_t offset = (uint32_t)s->size;
	memcpy(s->data + offset, string, length + 1);
	s->size += length + 1;
	s->slots[at] = offset;
	s->used++;
	return offset;
}

uint32_t af_strings_find(const struct af_strings *s, const char *string)
{
	if (!s->n_slots)
		return 0;
	size_t at = hash_string(string, strlen(string)) & (s->n_slots - 1);
	for (; s->slots[at]; at = (at + 1) & (s->n_slots - 1))
		if (!strcmp(s->data + s->slots[at], string))
			return s->slots[at];
	return 0;
}

void af_strings_deinit(struct af_strings *s)
{
	free(s->data);
	free(s->slots);
	memset(s, 0, sizeof(*s));
}

static inline size_t hash_key(uint64_t key)
{
	key *= 0x9e3779b97f4a7c15;
	return (size_t)(key ^ key >> 29);
}

uint32_t af_map_get(const struct af_map *map, uint64_t key)
{
	if (!map->n_slots)
		return UINT32_MAX;
	size_t at = hash_key(key) & (map->n_slots - 1);
	for (; map->slots[at].key != UINT64_MAX; at = (at + 1) & (map->n_slots - 1))
		if (map->slots[at].key == key)
			return map->slots[at].value;
	return UINT32_MAX;
}

static bool grow_map(struct af_map *map)
{
	size_t n = map->n_slots ? map->n_slots * 2 : 256;
	struct af_map_slot *slots = malloc(n * sizeof(*slots));
	if (!slots)
		return false;
	for (size_t i = 0; i < n; i++)
		slots[i].key = UINT64_MAX;
	for (size_t i = 0; i < map->n_slots; i++) {
		if (map->slots[i].key == UINT64_MAX)
			continue;
		size_t at = hash_key(map->slots[i].key) & (n - 1);
		while (slots[at].key != UINT64_MAX)
			at = (at + 1) & (n - 1);
		slots[at] = map->slots[i];
	}
	free(map->slots);
	map->slots = slots;
	map->n_slots = n;
	return true;
}

void af_map_set(struct af_map *map, uint64_t key, uint32_t value)
{
	if (map->used * 2 >= map->n_slots && !grow_map(map)) {
		map->failed = true;
		return;
	}
	size_t at = hash_key(key) & (map->n_slots - 1);
	for (; map->slots[at].key != UINT64_MAX; at = (at + 1) & (map->n_slots - 1)) {
		if (map->slots[at].key == key) {
			map->slots[at].value = value;
			return;
		}
	}
	map->slots[at] = (struct af_map_slot){key, value};
	map->used++;
}

void af_map_deinit(struct af_map *map)
{
	free(map->slots);
	memset(map, 0, sizeof(*map));
}

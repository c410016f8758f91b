/* SPDX-License-Identifier: MIT */
/*
 * The last step of making a map: its tables, one behind the other, in one file.
 */
#include <stdlib.h>

#include "analysis/build.h"

struct part {
	struct afm_table *table; /* in the header */
	const void *data;
	size_t count, size; /* size of one entry */
};

static uint64_t aligned(uint64_t size)
{
	return (size + 7) & ~UINT64_C(7);
}

static void describe(const struct af_builder *b, struct afm_header *header)
{
	const struct af_object *object = b->object;

	memcpy(header->magic, AFM_MAGIC, sizeof(header->magic));
	header->version = AFM_VERSION;
	header->header_size = sizeof(*header);
	header->build_id_size = object->build_id_size;
	memcpy(header->build_id, object->build_id, sizeof(header->build_id));
	if (!object->build_id_size)
		af_futuremap_content_hash(object->main.data, object->main.size, header->build_id);
	header->verdict = b->verdict;
	header->machine = object->machine;
	for (size_t f = 0; f < b->info->files.count; f++) {
		const struct af_file *file = b->info->files.items[f];
		header->debug_info_size += file->sections[AF_SEC_INFO].size;
		for (size_t i = 0; i < file->units.count; i++)
			if (file->units.items[i].rust)
				header->dwarf_versions |= 1u << file->units.items[i].version;
	}
	if (b->polls.count)
		af_object_text(object, b->polls.items[0].address, &header->text_start,
			       &header->text_end);
}

static uint32_t producer(struct af_builder *b)
{
	for (size_t f = 0; f < b->info->files.count; f++) {
		const struct af_file *file = b->info->files.items[f];
		for (size_t i = 0; i < file->units.count; i++)
			if (file->units.items[i].producer &&
			    strstr(file->units.items[i].producer, "rustc"))
				return af_strings_add(&b->strings, file->units.items[i].producer);
	}
	return 0;
}

struct af_error *af_builder_write(struct af_builder *b, const char *path, void **data, size_t *size)
{
	struct afm_header header = {0};
	static const char empty[] = "";

	describe(b, &header);
	header.object = af_strings_add(&b->strings, path);
	header.producer = producer(b);
	if (b->failed || b->strings.failed || b->scratch.failed || b->file_names.failed)
		return af_error_create("%s: out of memory", path);
	bool strings = b->strings.size != 0;
	/* clang-format off */
	const struct part parts[] = {
		{&header.strings, strings ? b->strings.data : empty,
		 strings ? b->strings.size : 1, 1},
#define PART(what) {&header.what, b->what.items, b->what.count, sizeof(*b->what.items)}
		PART(types), PART(fields), PART(variants), PART(futures), PART(polls),
		PART(poll_futures), PART(future_polls), PART(roots), PART(sites), PART(fixups),
		PART(code), PART(steps), PART(step_cases), PART(step_ways), PART(vtables), PART(drivers),
		PART(places), PART(parks), PART(stays), PART(wakers), PART(layouts),
#undef PART
	};
	/* clang-format on */
	const size_t n = sizeof(parts) / sizeof(parts[0]);
	uint64_t at = aligned(sizeof(header));
	for (size_t i = 0; i < n; i++) {
		*parts[i].table = (struct afm_table){at, parts[i].count};
		at = aligned(at + parts[i].count * parts[i].size);
	}
	uint8_t *file = calloc(1, at);
	if (!file)
		return af_error_create("%s: out of memory", path);
	header.file_size = at;
	for (size_t i = 0; i < n; i++)
		if (parts[i].count)
			memcpy(file + parts[i].table->offset, parts[i].data,
			       parts[i].count * parts[i].size);
	memcpy(file, &header, sizeof(header));
	header.checksum = af_futuremap_checksum(file + AFM_CHECKED_FROM, at - AFM_CHECKED_FROM);
	memcpy(file, &header, AFM_CHECKED_FROM);
	*data = file;
	*size = at;
	return NULL;
}

void af_builder_deinit(struct af_builder *b)
{
	for (size_t i = 0; b->indexes && i < b->info->files.count; i++)
		af_index_deinit(&b->indexes[i]);
	free(b->indexes);
	vector_deinit(&b->types);
	vector_deinit(&b->fields);
	vector_deinit(&b->variants);
	vector_deinit(&b->futures);
	vector_deinit(&b->polls);
	vector_deinit(&b->poll_futures);
	vector_deinit(&b->future_polls);
	vector_deinit(&b->roots);
	vector_deinit(&b->root_arguments);
	vector_deinit(&b->sites);
	vector_deinit(&b->parts);
	vector_deinit(&b->fixups);
	vector_deinit(&b->code);
	vector_deinit(&b->steps);
	vector_deinit(&b->step_cases);
	vector_deinit(&b->step_ways);
	vector_deinit(&b->vtables);
	vector_deinit(&b->implementors);
	vector_deinit(&b->drivers);
	vector_deinit(&b->places);
	vector_deinit(&b->parks);
	vector_deinit(&b->stays);
	vector_deinit(&b->park_slots);
	vector_deinit(&b->wakers);
	vector_deinit(&b->block_ons);
	vector_deinit(&b->layouts);
	vector_deinit(&b->type_dies);
	vector_deinit(&b->awaits);
	vector_deinit(&b->declared);
	vector_deinit(&b->impls);
	af_map_deinit(&b->impl_heads);
	af_map_deinit(&b->impl_names);
	af_strings_deinit(&b->strings);
	af_strings_deinit(&b->scratch);
	af_map_deinit(&b->die_types);
	af_map_deinit(&b->key_types);
	af_map_deinit(&b->copies);
	af_map_deinit(&b->name_types);
	af_map_deinit(&b->twice_named);
	af_map_deinit(&b->file_names);
}

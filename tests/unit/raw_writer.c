/* SPDX-License-Identifier: MIT */
#include "raw_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "futuremap/futuremap.h"

static size_t put(struct raw *raw, const void *data, size_t size)
{
	size_t at = raw->size, padded = (size + 7) & ~(size_t)7;
	if (raw->size + padded > raw->room) {
		raw->room = (raw->size + padded) * 2;
		raw->data = realloc(raw->data, raw->room);
		if (!raw->data)
			abort();
	}
	memset(raw->data + at, 0, padded);
	if (size)
		memcpy(raw->data + at, data, size);
	raw->size += padded;
	return at;
}

void raw_begin(struct raw *raw, uint32_t tick_source)
{
	*raw = (struct raw){0};
	struct afr_header header = {
		.magic = AFR_MAGIC,
		.version = AFR_VERSION,
		.header_size = sizeof(header),
		.pid = 4242,
		.tick_source = tick_source,
		.base_tsc = 1000,
		.base_monotonic = 5000000000,
		.base_realtime = 1700000000000000000,
	};
	put(raw, &header, sizeof(header));
}

/* The head's size must be a multiple of 8. */
void raw_block(struct raw *raw, uint32_t type, const void *head, size_t head_size, const void *body,
	       size_t body_size)
{
	struct afr_block block = {.type = type, .length = head_size + body_size};
	put(raw, &block, sizeof(block));
	put(raw, head, head_size);
	put(raw, body, body_size);
}

void raw_process(struct raw *raw, const char *executable)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "%s%c/tmp%c%s", executable, 0, 0, executable);
	raw_block(raw, AFR_B_PROCESS, NULL, 0, text, (size_t)n + 1);
}

/* Strings of the map, with offset 0 as "". */
struct strings {
	char text[8192];
	size_t size;
};

static uint32_t intern(struct strings *strings, const char *string)
{
	size_t length = strlen(string) + 1, at = strings->size;
	if (at + length > sizeof(strings->text))
		abort();
	memcpy(strings->text + at, string, length);
	strings->size += length;
	return (uint32_t)at;
}

static struct afm_table table(struct raw *map, const void *data, size_t count, size_t size)
{
	return (struct afm_table){.offset = put(map, data, count * size), .count = count};
}

/* Per poll one future with one type, whose variants are the states 0 to 3. */
static void make_map(struct raw *map, const struct raw_poll *polls, uint32_t n)
{
	struct strings strings = {.size = 1};
	struct afm_type *types = calloc(n, sizeof(*types));
	struct afm_variant *variants = calloc(n, 4 * sizeof(*variants));
	struct afm_future *futures = calloc(n, sizeof(*futures));
	struct afm_poll *out = calloc(n, sizeof(*out));
	struct afm_root *roots = calloc(n, sizeof(*roots));
	uint32_t *identity = calloc(n, sizeof(*identity)), n_roots = 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct raw_poll *p = &polls[i];
		uint32_t file = intern(&strings, p->file), name = intern(&strings, p->name);
		identity[i] = i;
		types[i] = (struct afm_type){
			.name = intern(&strings, p->type),
			.kind = AFM_T_STRUCT,
			.size = 16,
			.target = AFM_NONE,
			.first_variant = 4 * i,
			.n_variants = 4,
			.discr_size = 1,
			.file = file,
			.line = p->line,
			.future = i,
			.template_arg = AFM_NONE,
		};
		for (uint32_t k = 0; k < 4; k++)
			variants[4 * i + k] = (struct afm_variant){
				.discr = k,
				.file = file,
				.awaitee = AFM_NONE,
				.line = k == 3 ? p->await_line : 0,
			};
		futures[i] = (struct afm_future){
			.type = i,
			.kind = AFM_F_ASYNC_FN,
			.name = name,
			.file = file,
			.line = p->line,
			.state_size = 1,
			.first_poll = i,
			.n_polls = 1,
		};
		out[i] = (struct afm_poll){
			.address = 0x1000 + 16 * i,
			.size = 16,
			.kind = p->kind,
			.name = name,
			.file = file,
			.line = p->line,
			.first_future = i,
			.n_futures = 1,
			.site = AFM_NONE,
			.root = AFM_NONE,
			.step = AFM_NONE,
		};
		if (p->kind != AFM_P_TASK_ROOT)
			continue;
		out[i].root = n_roots;
		roots[n_roots++] = (struct afm_root){
			.poll = i,
			.executor = AFM_X_TOKIO,
			.future_type = AFM_NONE,
			.future = p->root_of < 0 ? AFM_NONE : (uint32_t)p->root_of,
			.future_offset = AFM_NONE,
			.stage_offset = AFM_NONE,
			.cell_type = AFM_NONE,
			.step = AFM_NONE,
		};
	}
	*map = (struct raw){0};
	struct afm_header h = {
		.magic = AFM_MAGIC,
		.version = AFM_VERSION,
		.header_size = sizeof(h),
		.verdict = AFM_FUTURES,
		.build_id_size = 4,
	};
	put(map, &h, sizeof(h));
	h.strings = table(map, strings.text, strings.size, 1);
	h.types = table(map, types, n, sizeof(*types));
	h.variants = table(map, variants, 4 * n, sizeof(*variants));
	h.futures = table(map, futures, n, sizeof(*futures));
	h.polls = table(map, out, n, sizeof(*out));
	h.poll_futures = table(map, identity, n, sizeof(*identity));
	h.future_polls = table(map, identity, n, sizeof(*identity));
	h.roots = table(map, roots, n_roots, sizeof(*roots));
	h.fields = h.sites = h.fixups = h.code = h.steps = h.step_cases = h.step_ways = h.vtables =
		h.drivers = h.places = h.parks = h.stays = h.wakers = h.layouts =
			table(map, NULL, 0, 1);
	h.file_size = map->size;
	memcpy(map->data, &h, sizeof(h));
	h.checksum =
		af_futuremap_checksum(map->data + AFM_CHECKED_FROM, map->size - AFM_CHECKED_FROM);
	memcpy(map->data, &h, AFM_CHECKED_FROM);
	free(types);
	free(variants);
	free(futures);
	free(out);
	free(roots);
	free(identity);
}

void raw_object(struct raw *raw, uint32_t first_function, const struct raw_poll *polls, uint32_t n)
{
	struct raw map;
	make_map(&map, polls, n);
	struct afr_object object = {
		.first_function = first_function, .number = first_function, /* as good as any */
	};
	raw_block(raw, AFR_B_OBJECT, &object, sizeof(object), map.data, map.size);
	raw_free(&map);
}

void raw_chunk(struct raw *raw, uint32_t thread, uint32_t sequence, uint32_t tid, const char *name,
	       const struct afr_record *records, uint32_t n)
{
	struct afr_chunk chunk = {
		.tid = tid,
		.sequence = sequence,
		.count = n,
		.thread = thread,
	};
	strncpy(chunk.name, name, sizeof(chunk.name) - 1);
	raw_block(raw, AFR_B_CHUNK, &chunk, sizeof(chunk), records, n * sizeof(*records));
}

void raw_end(struct raw *raw, uint64_t ticks, uint64_t ns)
{
	struct afr_clock clock = {.ticks = ticks, .monotonic = 5000000000 + ns};
	struct afr_hooks hooks = {.functions = 5, .hooked = 3, .refused = {[2] = 2}};
	struct afr_end end = {.reason = AFR_END_EXIT};
	raw_block(raw, AFR_B_CLOCK, &clock, sizeof(clock), NULL, 0);
	raw_block(raw, AFR_B_HOOKS, &hooks, sizeof(hooks), NULL, 0);
	raw_block(raw, AFR_B_END, &end, sizeof(end), NULL, 0);
}

void raw_save(const struct raw *raw, const char *path, size_t size)
{
	FILE *file = fopen(path, "wb");
	if (!file || fwrite(raw->data, 1, size, file) != size || fclose(file))
		abort();
}

void raw_free(struct raw *raw)
{
	free(raw->data);
	*raw = (struct raw){0};
}

/* SPDX-License-Identifier: MIT */
/*
 * values --noise MAP SEED: prints every type of the map, and the variables of every state of
 * its coroutines, from memory that says anything; only how much came of it.
 *
 * values PID MAP BIAS: reads lines "NAME ADDRESS" from its input, and prints for each the
 * variables of the future of that name (and its await state) at that address of the process.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/owners.h"

#define LOCALS_MAX 128

/* The coroutine of this name. */
static uint32_t find_type(const struct af_futuremap *map, const char *name)
{
	for (uint32_t i = 0; i < map->header->futures.count; i++) {
		const struct afm_future *future = af_futuremap_futures(map, i);
		if (future->kind != AFM_F_HAND &&
		    !strcmp(af_futuremap_string(map, future->name), name))
			return future->type;
	}
	return AFM_NONE;
}

static void print_future(const struct af_target *target, const char *name, uint64_t address)
{
	struct af_local locals[LOCALS_MAX];
	uint32_t type = find_type(&target->images[0].map, name), variant;
	char text[4096];
	struct af_line line;

	printf("future %s\n", name);
	if (type == AFM_NONE ||
	    af_target_variant(target, 0, type, address, &variant) != AF_ACTIVE_FOUND) {
		puts("  not known");
		return;
	}
	uint32_t n = af_locals_find(target, 0, type, address, variant, locals, LOCALS_MAX);
	for (uint32_t i = 0; i < n; i++) {
		af_line_init(&line, text, sizeof(text));
		af_local_print(&line, NULL, target, 0, &locals[i]);
		printf("  %s = %s\n", locals[i].name, text);
	}
}

/* Memory that is there wherever one looks, mostly with what may pass for a length, an address. */
struct noise {
	struct af_memory memory;
	uint64_t seed;
	uint64_t reads;
};

static uint64_t random_of(uint64_t seed)
{
	seed ^= seed >> 33;
	seed *= 0xff51afd7ed558ccd;
	seed ^= seed >> 33;
	seed *= 0xc4ceb9fe1a85ec53;
	return seed ^ seed >> 33;
}

static bool read_noise(struct af_memory *memory, uint64_t address, void *to, size_t size)
{
	struct noise *noise = (struct noise *)memory;
	uint8_t *bytes = to;

	noise->reads++;
	for (size_t i = 0; i < size; i++) {
		uint64_t word = random_of(noise->seed ^ (address + i) >> 3);
		uint64_t shape = word >> 56;
		word = shape < 128 ? word & 7 : shape < 220 ? 0x10000 + (word & 0xfff8) : word;
		bytes[i] = (uint8_t)(word >> ((address + i) & 7) * 8);
	}
	return random_of(noise->seed ^ address) % 100 != 0;
}

static int print_noise(const char *path, uint64_t seed)
{
	static char text[65536];
	struct noise noise = {.memory.read = read_noise, .seed = seed};
	struct af_image image = {0};
	struct af_target target = {.memory = &noise.memory, .images = &image, .n_images = 1};
	struct af_local locals[LOCALS_MAX];
	struct af_line line;
	struct af_owner owners[LOCALS_MAX];
	uint64_t most = 0, bytes = 0, owned = 0;
	uint32_t n_locals = 0, i, k;
	const char *why = af_futuremap_open(&image.map, -100, path, false);

	if (why) {
		fprintf(stderr, "values: %s\n", why);
		return 1;
	}
	for (i = 0; i < image.map.header->types.count; i++) {
		const struct afm_type *type = af_futuremap_types(&image.map, i);
		noise.reads = 0;
		af_line_init(&line, text, sizeof(text));
		af_value_print(&line, NULL, &target, 0, i, 0x10000);
		most = noise.reads > most ? noise.reads : most;
		bytes += line.length;
		for (uint32_t v = 0; v < type->n_variants; v++) {
			uint32_t n = af_locals_find(&target, 0, i, 0x10000, type->first_variant + v,
						    locals, LOCALS_MAX);
			af_line_init(&line, text, sizeof(text));
			for (k = 0; k < n; k++)
				af_local_print(&line, NULL, &target, 0, &locals[k]);
			n_locals += n;
		}
		owned += af_owners_find(&target, 0, i, 0x10000, owners, LOCALS_MAX);
	}
	printf("%" PRIu32 " types, %" PRIu32 " locals, %" PRIu64 " bytes, at most %" PRIu64
	       " reads, %" PRIu64 " owners\n",
	       i, n_locals, bytes, most, owned);
	af_futuremap_close(&image.map);
	return 0;
}

int main(int argc, char **argv)
{
	static struct af_memory_process process;
	struct af_image image = {0};
	struct af_target target = {.memory = &process.memory, .images = &image, .n_images = 1};
	char name[512];
	uint64_t address;
	const char *why;

	if (argc == 4 && !strcmp(argv[1], "--noise"))
		return print_noise(argv[2], strtoull(argv[3], NULL, 0));
	if (argc != 4) {
		fputs("usage: values PID MAP BIAS | --noise MAP SEED\n", stderr);
		return 2;
	}
	image.bias = strtoull(argv[3], NULL, 0);
	why = af_futuremap_open(&image.map, -100, argv[2], false);
	if (!why)
		why = af_memory_process_init(&process, atoi(argv[1]), image.bias);
	if (why) {
		fprintf(stderr, "values: %s\n", why);
		return 1;
	}
	while (scanf("%511s %" SCNx64, name, &address) == 2)
		print_future(&target, name, address);
	af_memory_process_deinit(&process);
	af_futuremap_close(&image.map);
	return 0;
}

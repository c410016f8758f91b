/* SPDX-License-Identifier: MIT */
/*
 * values PID MAP BIAS: reads lines "NAME ADDRESS" from its input, and prints for each the
 * variables of the future of that name (and its await state) at that address of the process.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/locals.h"

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

int main(int argc, char **argv)
{
	static struct af_memory_process process;
	struct af_image image = {0};
	struct af_target target = {.memory = &process.memory, .images = &image, .n_images = 1};
	char name[512];
	uint64_t address;
	const char *why;

	if (argc != 4) {
		fputs("usage: values PID MAP BIAS\n", stderr);
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

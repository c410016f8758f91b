/* SPDX-License-Identifier: MIT */
/* Whatever an object's bytes are, the analysis gives an error or a map that is sound. */
#include <stdio.h>
#include <stdlib.h>

#include "analysis/analysis.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *path = fuzz_input(data, size);
	struct af_object_facts facts;
	void *map;
	size_t map_size;

	af_error_destroy(af_analysis_facts(path, &facts));
	struct af_error *error = af_analysis_build(path, NULL, &map, &map_size);
	if (!error) {
		const char *wrong = af_futuremap_check(map, map_size);
		if (wrong) {
			fprintf(stderr, "the map is not sound: %s\n", wrong);
			abort();
		}
		free(map);
	}
	af_error_destroy(error);
	return 0;
}

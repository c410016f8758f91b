/* SPDX-License-Identifier: MIT */
/* tree_map OBJECT MAP: the map that the fuzz target `trees` walks by. */
#include <stdio.h>

#include "analysis/analysis.h"

int main(int argc, char **argv)
{
	void *data;
	size_t size;

	if (argc != 3)
		return 2;
	struct af_error *error = af_analysis_build(argv[1], NULL, &data, &size);
	FILE *file = error ? NULL : fopen(argv[2], "we");
	return !file || fwrite(data, 1, size, file) != size || fclose(file);
}

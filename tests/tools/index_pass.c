/* SPDX-License-Identifier: MIT */
/* The analysis up to its index pass and no further, for the bench. */
#include <inttypes.h>
#include <stdio.h>

#include "analysis/object.h"
#include "analysis/scan.h"

int main(int argc, char **argv)
{
	struct af_scan_progress progress = {0};
	struct af_object object;
	struct af_debuginfo info;
	uint64_t n = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: index_pass OBJECT\n");
		return 2;
	}
	struct af_error *error = af_object_open(&object, argv[1]);
	af_debuginfo_init(&info);
	if (!error)
		error = af_object_debuginfo(&object, &info);
	for (size_t i = 0; !error && i < info.files.count; i++) {
		struct af_index index;
		error = af_scan(info.files.items[i], &progress, &index);
		n += index.n_dies;
		af_index_deinit(&index);
	}
	if (error)
		fprintf(stderr, "%s: %s\n", argv[1], error->message);
	else
		printf("{\"entries\": %" PRIu64 "}\n", n);
	int status = error ? 1 : 0;
	af_error_destroy(error);
	af_debuginfo_deinit(&info);
	af_object_close(&object);
	return status;
}

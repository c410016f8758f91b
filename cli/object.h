/* SPDX-License-Identifier: MIT */
/* What the verbs that look at an OBJECT share: its argument, the filters, and its map. */
#ifndef AF_CLI_OBJECT_H
#define AF_CLI_OBJECT_H

#include <argp.h>

#include "base/error.h"
#include "futuremap/futuremap.h"

struct object {
	const char *path; /* as given */
	struct af_filter filter;
	void *data; /* the map, once it is made */
	struct af_futuremap map;
};

/* OBJECT, --filter and --generated-only, as the first child of a verb's own parser, which gives
   its struct object as child_inputs[0]. */
extern const struct argp_child object_arguments[];
/* Makes the map of object->path, with progress on a terminal if it takes long. */
struct af_error *object_read(struct object *object) af_must_check;
void object_deinit(struct object *object);

#endif

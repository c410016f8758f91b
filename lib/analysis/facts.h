/* SPDX-License-Identifier: MIT */
/* Signs of async Rust in an object's bytes. */
#ifndef AF_ANALYSIS_FACTS_H
#define AF_ANALYSIS_FACTS_H

#include "analysis/object.h"

/* Whether the object holds compiled coroutines, whatever debug info it has. */
bool af_object_async_sign(const struct af_object *object);

#endif

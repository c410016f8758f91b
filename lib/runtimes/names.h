/* SPDX-License-Identifier: MIT */
/* What a program calls its tasks, where the executor keeps that: async-std's task::Builder. */
#ifndef AF_RUNTIMES_NAMES_H
#define AF_RUNTIMES_NAMES_H

#include "inspect/target.h"

/* The name of the task whose future of `type` lies at `address`, cut to `size` - 1 bytes; "" if
   it has none. */
void af_task_name(const struct af_target *target, uint32_t image, uint32_t type, uint64_t address,
		  char *name, size_t size);

#endif

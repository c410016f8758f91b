/* SPDX-License-Identifier: MIT */
/* What a function returns, as far as its code tells. For polls whose result the compiler may have taken away. */
#ifndef AF_PATCH_RESULT_H
#define AF_PATCH_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether the `size` bytes of code at link-time `address` surely return a value in rax. False also if that
   cannot be told, memory is short, or the machine is not supported. */
bool af_plan_returns_value(uint32_t elf_machine, uint64_t address, const uint8_t *code,
			   size_t size);

#endif

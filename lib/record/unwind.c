/* SPDX-License-Identifier: MIT */
/*
 * The personality of the stubs: closes the span when a panic, or a forced unwind, passes
 * through. It never stops one, so it needs no landing pad and no language data.
 *
 * The unwinder is the host's (libgcc_s in Rust programs): our library links libc only, so
 * the one function wanted of it is weak. Where it is missing (an unwinder linked into the
 * host) the record says only that the innermost span was unwound.
 */
#include <stddef.h>
#include <stdint.h>

#include "record/driven.h"
#include "record/thread.h"

/* From the Itanium C++ ABI, "Exception Handling", level I. */
enum { URC_CONTINUE_UNWIND = 8, UA_CLEANUP_PHASE = 2, DWARF_RBP = 6 };
struct _Unwind_Context;
extern uintptr_t _Unwind_GetGR(struct _Unwind_Context *context, int index)
	__attribute__((weak, visibility("default")));

void af_record_unwind(const struct af_hook *hook);
int af_stub_personality(int version, int actions, uint64_t exception_class, void *exception,
			struct _Unwind_Context *context);
int af_park_personality(int version, int actions, uint64_t exception_class, void *exception,
			struct _Unwind_Context *context);

int af_stub_personality(int version, int actions, uint64_t exception_class, void *exception,
			struct _Unwind_Context *context)
{
	static const struct af_hook unknown = {
		.payload = (uint64_t)AFR_FUNCTION_UNKNOWN << AFR_FUNCTION_SHIFT,
	};
	if (actions & UA_CLEANUP_PHASE) {
		const struct af_hook *hook = &unknown;
		if (_Unwind_GetGR) {
			uintptr_t rbp = _Unwind_GetGR(context, DWARF_RBP);
			hook = *(struct af_hook **)(rbp + AF_FRAME_HOOK);
		}
		af_record_unwind(hook);
	}
	return URC_CONTINUE_UNWIND;
}

/* Of a function that waits: it has no span, but what waits in it goes on. */
int af_park_personality(int version, int actions, uint64_t exception_class, void *exception,
			struct _Unwind_Context *context)
{
	if ((actions & UA_CLEANUP_PHASE) && _Unwind_GetGR) {
		uintptr_t rbp = _Unwind_GetGR(context, DWARF_RBP);
		uint64_t future = *(uint64_t *)(rbp + AF_FRAME_RDI);
		if (future)
			af_driven_waited(future, (const uint64_t *)(rbp + AF_FRAME_SAVED));
	}
	return URC_CONTINUE_UNWIND;
}

/* SPDX-License-Identifier: MIT */
/*
 * Names that the index pass stops at: of functions that may poll, types that may be polled or
 * whose layout is wanted, vtables, and what `.await` keeps. A first sieve, by the bare name;
 * what a thing is the second pass decides.
 */
#include "analysis/scan.h"

bool af_name_is_coroutine(const char *name)
{
	static const char *const heads[] = {
		"fn_env#", "block_env#", "closure_env#", "coroutine_env#", "generator_env#",
	};
	if (name[0] != '{')
		return false;
	name++;
	if (!strncmp(name, "async_", 6))
		name += 6;
	else if (name[0] != 'g' && strncmp(name, "coroutine", 9))
		return false; /* {closure_env#0}, {impl#0}, ... */
	if (!strncmp(name, "gen_", 4))
		name += 4;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (!strncmp(name, heads[i], strlen(heads[i])))
			return true;
	return false;
}

static bool is_name(const char *name, const char *wanted)
{
	size_t length = strlen(wanted);
	return !strncmp(name, wanted, length) && (name[length] == '\0' || name[length] == '<');
}

/* Types whose fields executors.c asks for, by their bare name. */
static bool is_layout(const char *name)
{
	switch (name[0]) {
	case 'C':
		return is_name(name, "Cell") || is_name(name, "Core") || is_name(name, "Context") ||
		       is_name(name, "CoreStage");
	case 'H':
		return !strcmp(name, "Header");
	case 'R':
		return !strcmp(name, "RawWaker") || !strcmp(name, "RawWakerVTable") ||
		       is_name(name, "RawTask");
	case 'S':
		return is_name(name, "Stage");
	case 'T':
		return !strcmp(name, "TaskVTable") || !strcmp(name, "Task") ||
		       !strcmp(name, "Trailer");
	case 'V':
		return !strcmp(name, "Vtable");
	case 'W':
		return !strcmp(name, "Waker");
	default:
		return false;
	}
}

/* `drop_in_place<a::b::{async_fn_env#0}<T>>`; before 1.64 also that of the GenFuture around it. */
static bool is_drop_glue(const char *name)
{
	static const char head[] = "drop_in_place<",
			  wrapper[] = "core::future::from_generator::GenFuture<";
	if (strncmp(name, head, sizeof(head) - 1))
		return false;
	name += sizeof(head) - 1;
	if (!strncmp(name, wrapper, sizeof(wrapper) - 1))
		name += sizeof(wrapper) - 1;
	/* A coroutine's path has no generic arguments but behind its own name. */
	const char *end = strchrnul(name, '<'), *last = memrchr(name, '{', (size_t)(end - name));
	return last && af_name_is_coroutine(last);
}

static uint32_t function_class(const char *name)
{
	if (name[0] == '{') {
		if (!strncmp(name, "{async_", 7))
			return AF_FOUND_BODY | AF_FOUND_ASYNC;
		return strncmp(name, "{closure", 8) ? AF_FOUND_BODY : 0;
	}
	if (name[0] == 'p')
		return is_name(name, "poll") ? AF_FOUND_POLL : 0;
	if (name[0] == 'r')
		return is_name(name, "run") ? AF_FOUND_RUN : 0;
	if (name[0] == 'w')
		return strncmp(name, "wake<", 5) && strncmp(name, "wake_by_ref", 11) &&
				       strncmp(name, "wake_arc_raw", 12)
			       ? 0
			       : AF_FOUND_WAKE;
	if (name[0] == 'b')
		return strncmp(name, "block_on", 8) ? 0 : AF_FOUND_BLOCK_ON;
	if (name[0] == 'd')
		return is_drop_glue(name) ? AF_FOUND_DROP : 0;
	return 0;
}

/* `<X as a::Trait<..>>::{vtable}`: not of the standard library's traits, which are many, and of
   which only Future's matter. */
static bool is_vtable(const char *name)
{
	const char *trait = af_name_vtable_trait(name);

	if (!trait)
		return false;
	return !strncmp(trait, "core::future::", 14) ||
	       (strncmp(trait, "core::", 6) && strncmp(trait, "alloc::", 7) &&
		strncmp(trait, "std::", 5));
}

const char *af_name_vtable_trait(const char *name)
{
	static const char end[] = ">::{vtable}";
	size_t length = strlen(name), size = sizeof(end) - 1;

	if (length < size || strcmp(name + length - size, end))
		return NULL;
	for (const char *p = name + length - size; p - 4 > name; p--)
		if (!strncmp(p - 4, " as ", 4))
			return p;
	return NULL;
}

uint32_t af_name_class(const char *name)
{
	switch (name[0]) {
	case '{':
		return function_class(name) | (af_name_is_coroutine(name) ? AF_NAME_COROUTINE : 0);
	case 'p':
	case 'r':
	case 'b':
	case 'd':
	case 'w':
		return function_class(name);
	case '<':
		return is_vtable(name) ? AF_NAME_VTABLE : 0;
	case '_':
		return strcmp(name, "__awaitee") ? 0 : AF_NAME_AWAITEE;
	default:
		return is_layout(name) ? AF_NAME_LAYOUT : 0;
	}
}

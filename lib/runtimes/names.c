/* SPDX-License-Identifier: MIT */
/*
 * async-std wraps what is spawned in SupportTaskLocals, which holds the task's name; around that
 * lie what async-executor adds and sometimes a box. Type names say on which way it lies.
 */
#include "runtimes/names.h"

#include "inspect/value.h"

#define MAX_STEPS 12

static const char wrapper[] = "async_std::task::builder::SupportTaskLocals<";

static const char *type_name(const struct af_target *target, uint32_t image, uint32_t type)
{
	return type == AFM_NONE
		       ? ""
		       : af_target_string(target, image, af_target_type(target, image, type)->name);
}

/* Goes on to the first of these fields whose type is the wrapper or generic over it. */
static bool enter(const struct af_target *target, uint32_t image, uint32_t first, uint32_t n,
		  uint32_t *type, uint64_t *address)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct afm_field *field =
			af_futuremap_fields(&target->images[image].map, first + i);
		if (!strstr(type_name(target, image, field->type), wrapper))
			continue;
		*type = field->type;
		*address += field->offset;
		return true;
	}
	return false;
}

static bool step(const struct af_target *target, uint32_t image, uint32_t *type, uint64_t *address)
{
	const struct afm_type *t = af_target_type(target, image, *type);
	uint32_t active;
	if (t->kind == AFM_T_POINTER) {
		*type = t->target;
		return *type != AFM_NONE && af_memory_read_u64(target->memory, *address, address);
	}
	if (enter(target, image, t->first_field, t->n_fields, type, address))
		return true;
	if (!t->n_variants ||
	    af_target_variant(target, image, *type, *address, &active) != AF_ACTIVE_FOUND)
		return false;
	const struct afm_variant *variant =
		af_futuremap_variants(&target->images[image].map, active);
	/* What is awaited was moved there: what is stored beside it under another name is stale. */
	if (variant->awaitee != AFM_NONE &&
	    enter(target, image, variant->awaitee, 1, type, address))
		return true;
	return enter(target, image, variant->first_field, variant->n_fields, type, address);
}

void af_task_name(const struct af_target *target, uint32_t image, uint32_t type, uint64_t address,
		  char *name, size_t size)
{
	char text[256];
	struct af_line line;
	*name = '\0';
	for (int i = 0; i < MAX_STEPS; i++) {
		const char *at = type_name(target, image, type);
		if (!strncmp(at, wrapper, sizeof(wrapper) - 1))
			break;
		if (!strstr(at, wrapper) || !step(target, image, &type, &address))
			return;
	}
	if (!af_target_path(target, image, "tag.task.name", &type, &address))
		return;
	af_line_init(&line, text, sizeof(text));
	af_value_print(&line, NULL, target, image, type, address);
	/* Some("name") */
	char *start = strchr(text, '"'), *end = strrchr(text, '"');
	if (strncmp(text, "Some(", 5) || !start || end <= start)
		return;
	size_t length = (size_t)(end - start - 1);
	length = length < size - 1 ? length : size - 1;
	memcpy(name, start + 1, length);
	name[length] = '\0';
}

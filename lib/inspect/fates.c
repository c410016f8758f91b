/* SPDX-License-Identifier: MIT */
/*
 * What drop glue tells of a coroutine's members, and what drop flags tell without it; locals.h.
 */
#include "inspect/locals.h"

#define FIELDS_MAX 4096 /* of one state; more are not looked at */
#define KNOWN_MAX 512	/* of more nothing is known */

bool af_fate_is_numbered(const char *name)
{
	return name[0] == '_' && name[1] == '_' && name[2] >= '0' && name[2] <= '9';
}

static bool is_drop_flag(const struct af_futuremap *map, const struct afm_field *field)
{
	return af_fate_is_numbered(af_futuremap_string(map, field->name)) &&
	       field->type != AFM_NONE && af_futuremap_types(map, field->type)->kind == AFM_T_BOOL;
}

static bool read_flag(const struct af_target *target, uint64_t address,
		      const struct afm_field *flag, uint64_t *value)
{
	return af_memory_read_number(target->memory, address + flag->offset, 1, value);
}

enum af_fate af_locals_fate(const struct af_target *target, uint32_t image, uint64_t address,
			    const struct afm_variant *variant, const struct afm_field *field)
{
	const struct afm_field *flag =
		af_futuremap_drop_flag(&target->images[image].map, variant, field);
	bool dropped = field->flags & AFM_FF_DROPPED, gone = field->flags & AFM_FF_GONE;
	uint64_t set;

	if (flag) {
		if (!read_flag(target, address, flag, &set) || set > 1)
			return AF_FATE_DOUBTFUL;
		return set ? AF_FATE_ALIVE : AF_FATE_MOVED;
	}
	if (dropped && gone)
		return AF_FATE_DOUBTFUL;
	return dropped ? AF_FATE_ALIVE : gone ? AF_FATE_MOVED : AF_FATE_UNKNOWN;
}

/* Whether a member is known whose flag this is. */
static bool is_known(const struct af_futuremap *map, const struct afm_variant *variant, uint32_t n,
		     const struct afm_field *flag)
{
	for (uint32_t i = 0; n <= KNOWN_MAX && i < n; i++)
		if (af_futuremap_drop_flag(map, variant,
					   af_futuremap_fields(map, variant->first_field + i)) ==
		    flag)
			return true;
	return false;
}

bool af_locals_any_gone(const struct af_target *target, uint32_t image, uint64_t address,
			const struct afm_variant *variant)
{
	const struct af_futuremap *map = &target->images[image].map;
	uint32_t n = variant->n_fields < FIELDS_MAX ? variant->n_fields : FIELDS_MAX;
	uint64_t set;

	for (uint32_t i = 0; i < n; i++) {
		const struct afm_field *field = af_futuremap_fields(map, variant->first_field + i);
		if (is_drop_flag(map, field) &&
		    (!read_flag(target, address, field, &set) || set != 1) &&
		    !is_known(map, variant, n, field))
			return true;
	}
	return false;
}

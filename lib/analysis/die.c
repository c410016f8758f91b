/* SPDX-License-Identifier: MIT */
/*
 * One DIE and the DIEs below it: for the second pass, which looks at what the index pass
 * found worth it. Nothing is cached, so a DIE costs what its bytes cost.
 */
#include <dwarf.h>

#include "analysis/debuginfo.h"

bool af_die_in(struct af_unit *unit, uint32_t offset, struct af_die *die)
{
	const uint8_t *data = unit->file->sections[AF_SEC_INFO].data;

	*die = (struct af_die){.unit = unit, .offset = offset};
	if (offset < unit->first_die)
		return false;
	struct af_bytes b = af_bytes_make(data + offset, unit->end - offset);
	uint64_t code = af_bytes_uleb(&b);
	die->abbrev = code ? af_abbrevs_find(unit->abbrevs, code) : NULL;
	die->attributes = b.pos;
	return die->abbrev != NULL;
}

bool af_die_at(struct af_debuginfo *info, af_die_id id, struct af_die *die)
{
	uint32_t number = (uint32_t)(id >> 32), offset = (uint32_t)id;
	*die = (struct af_die){0};
	if (id == AF_DIE_NONE || number >= info->files.count)
		return false;
	struct af_unit *unit = af_file_unit(info->files.items[number], offset);
	return unit && af_die_in(unit, offset, die);
}

struct af_bytes af_die_bytes(const struct af_die *die)
{
	const uint8_t *data = die->unit->file->sections[AF_SEC_INFO].data;
	return (struct af_bytes){die->attributes, data + die->unit->end, false};
}

bool af_die_attribute(const struct af_die *die, unsigned int name, struct af_value *value)
{
	const struct af_abbrevs *table = die->unit->abbrevs;
	const struct af_attribute *attribute =
		&table->attributes.items[die->abbrev->first_attribute];
	struct af_bytes b = af_die_bytes(die);

	for (uint32_t i = 0; i < die->abbrev->n_attributes; i++, attribute++) {
		if (attribute->name == name) {
			af_form_read(die->unit, &b, attribute, value);
			return !b.failed;
		}
		if (attribute->size >= 0)
			af_bytes_skip(&b, (uint64_t)attribute->size);
		else
			af_form_skip(die->unit, &b, attribute->form);
		if (b.failed)
			break;
	}
	*value = (struct af_value){0};
	return false;
}

void af_die_attributes(const struct af_die *die, const uint16_t *names, struct af_value *values,
		       unsigned int n)
{
	const struct af_abbrevs *table = die->unit->abbrevs;
	const struct af_attribute *a = &table->attributes.items[die->abbrev->first_attribute];
	struct af_bytes b = af_die_bytes(die);
	unsigned int found = 0;

	memset(values, 0, n * sizeof(*values));
	for (uint32_t i = 0; i < die->abbrev->n_attributes && found < n; i++, a++) {
		unsigned int k = 0;
		while (k < n && a->name != names[k])
			k++;
		if (k < n && !values[k].form) {
			af_form_read(die->unit, &b, a, &values[k]);
			found++;
			if (b.failed)
				values[k] = (struct af_value){0};
		} else if (a->size >= 0) {
			af_bytes_skip(&b, (uint64_t)a->size);
		} else {
			af_form_skip(die->unit, &b, a->form);
		}
		if (b.failed)
			return;
	}
}

const char *af_die_string(const struct af_die *die, unsigned int name)
{
	struct af_value value;
	if (!af_die_attribute(die, name, &value))
		return NULL;
	return af_value_string(die->unit, &value);
}

bool af_die_number(const struct af_die *die, unsigned int name, uint64_t *number)
{
	struct af_value value;
	return af_die_attribute(die, name, &value) && af_value_constant(&value, number);
}

bool af_die_flag(const struct af_die *die, unsigned int name)
{
	uint64_t number;
	return af_die_number(die, name, &number) && number;
}

af_die_id af_die_reference(const struct af_die *die, unsigned int name)
{
	struct af_value value;
	if (!af_die_attribute(die, name, &value))
		return AF_DIE_NONE;
	return af_value_reference(die->unit, &value);
}

void af_walk_start(struct af_walk *walk, const struct af_die *die)
{
	struct af_bytes b = af_die_bytes(die);

	*walk = (struct af_walk){.unit = die->unit};
	if (!die->abbrev->children)
		return;
	const uint8_t *end = af_attributes_end(die->unit, die->abbrev, b.pos, b.end);
	if (!end)
		return;
	b.pos = end;
	walk->bytes = b;
	walk->depth = 1;
}

bool af_walk_next(struct af_walk *walk, struct af_die *die, unsigned int *depth)
{
	const uint8_t *data = walk->unit->file->sections[AF_SEC_INFO].data;
	struct af_bytes *b = &walk->bytes;

	if (walk->pending) {
		walk->pending = false;
		walk->depth++;
	}
	while (walk->depth && b->pos < b->end) {
		uint32_t offset = (uint32_t)(b->pos - data);
		uint64_t code = *b->pos < 0x80 ? *b->pos++ : af_bytes_uleb(b);
		if (!code) {
			walk->depth--;
			continue;
		}
		const struct af_abbrev *abbrev = af_abbrevs_find(walk->unit->abbrevs, code);
		if (!abbrev || b->failed)
			break;
		*die = (struct af_die){walk->unit, abbrev, offset, b->pos};
		const uint8_t *end = af_attributes_end(walk->unit, abbrev, b->pos, b->end);
		if (end)
			b->pos = end;
		else
			af_bytes_fail(b);
		walk->pending = abbrev->children;
		walk->die = *die;
		*depth = walk->depth;
		return true;
	}
	walk->depth = 0;
	return false;
}

void af_walk_skip_children(struct af_walk *walk)
{
	struct af_bytes *b = &walk->bytes;
	unsigned int lists = 1; /* of children that have not ended */

	if (!walk->pending)
		return;
	walk->pending = false;
	while (lists && b->pos < b->end) {
		uint64_t code = af_bytes_uleb(b);
		if (!code) {
			lists--;
			continue;
		}
		const struct af_abbrev *abbrev = af_abbrevs_find(walk->unit->abbrevs, code);
		const uint8_t *end =
			abbrev ? af_attributes_end(walk->unit, abbrev, b->pos, b->end) : NULL;
		if (!end) {
			af_bytes_fail(b);
			return;
		}
		b->pos = end;
		lists += abbrev->children;
	}
}

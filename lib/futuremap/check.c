/* SPDX-License-Identifier: MIT */
/*
 * Is this a future map? Everything a reader could follow is checked once, when the file is
 * opened, so that no reader need check again and no damaged file can lead one astray. Linear
 * in the size of the file; allocates nothing; libc only; safe in the host before main.
 */
#include <string.h>

#include "futuremap/futuremap.h"

static const uint64_t prime = 0x9e3779b97f4a7c15;

static inline uint64_t stir(uint64_t lane, uint64_t word)
{
	uint64_t x = (lane ^ word) * prime;
	return x << 29 | x >> 35;
}

/* Four lanes of multiply and rotate over 32 bytes at a time: fast (several GB/s) and good
   enough against damage; not meant against malice. Ends with the length. */
static uint64_t hash_bytes(const void *data, size_t size, uint64_t seed)
{
	uint64_t a = seed, b = seed + 1, c = seed + 2, d = seed + 3;
	const uint8_t *p = data;
	size_t left = size;

	/* One by one: in registers, which is all of its speed. */
	for (; left >= 32; left -= 32, p += 32) {
		uint64_t words[4];
		memcpy(words, p, sizeof(words));
		a = stir(a, words[0]);
		b = stir(b, words[1]);
		c = stir(c, words[2]);
		d = stir(d, words[3]);
	}
	const uint64_t lanes[4] = {a, b, c, d};
	uint64_t hash = size;
	for (int i = 0; i < 4; i++)
		hash = (hash ^ lanes[i] ^ lanes[i] >> 31) * prime;
	for (; left; left--)
		hash = (hash ^ *p++) * prime;
	return hash ^ hash >> 32;
}

uint64_t af_futuremap_checksum(const void *data, size_t size)
{
	return hash_bytes(data, size, 1);
}

void af_futuremap_content_hash(const void *data, size_t size, uint8_t hash[16])
{
	uint64_t halves[2] = {hash_bytes(data, size, 0x243f6a8885a308d3),
			      hash_bytes(data, size, 0x13198a2e03707344)};
	memcpy(hash, halves, sizeof(halves));
}

struct checker {
	const struct afm_header *h;
	struct af_futuremap map;
};

static bool table_ok(const struct afm_header *h, const struct afm_table *t, size_t entry)
{
	return t->offset >= h->header_size && t->offset % 8 == 0 && t->offset <= h->file_size &&
	       t->count <= (h->file_size - t->offset) / entry && t->count < AFM_NONE;
}

static bool tables_ok(const struct afm_header *h)
{
	return table_ok(h, &h->strings, 1) && table_ok(h, &h->types, sizeof(struct afm_type)) &&
	       table_ok(h, &h->fields, sizeof(struct afm_field)) &&
	       table_ok(h, &h->variants, sizeof(struct afm_variant)) &&
	       table_ok(h, &h->futures, sizeof(struct afm_future)) &&
	       table_ok(h, &h->polls, sizeof(struct afm_poll)) &&
	       table_ok(h, &h->poll_futures, sizeof(uint32_t)) &&
	       table_ok(h, &h->future_polls, sizeof(uint32_t)) &&
	       table_ok(h, &h->roots, sizeof(struct afm_root)) &&
	       table_ok(h, &h->sites, sizeof(struct afm_site)) &&
	       table_ok(h, &h->fixups, sizeof(struct afm_fixup)) && table_ok(h, &h->code, 1) &&
	       table_ok(h, &h->steps, sizeof(struct afm_step)) &&
	       table_ok(h, &h->step_cases, sizeof(struct afm_step_case)) &&
	       table_ok(h, &h->step_ways, sizeof(struct afm_step_way)) &&
	       table_ok(h, &h->vtables, sizeof(struct afm_vtable)) &&
	       table_ok(h, &h->drivers, sizeof(struct afm_driver)) &&
	       table_ok(h, &h->places, sizeof(struct afm_place)) &&
	       table_ok(h, &h->parks, sizeof(struct afm_park)) &&
	       table_ok(h, &h->stays, sizeof(struct afm_stay)) &&
	       table_ok(h, &h->wakers, sizeof(struct afm_waker)) &&
	       table_ok(h, &h->layouts, sizeof(struct afm_layout));
}

/* `n` entries from `first` lie in a table of `count`. */
static bool range_ok(uint64_t first, uint64_t n, uint64_t count)
{
	return first <= count && n <= count - first;
}

static bool index_ok(uint32_t index, uint64_t count)
{
	return index == AFM_NONE || index < count;
}

#define FOR_EACH(c, what, type)                                            \
	for (const type *e = af_futuremap_table(&(c)->map, &(c)->h->what), \
			*end_ = e + (c)->h->what.count;                    \
	     e < end_; e++)

static bool string_ok(const struct checker *c, uint32_t string)
{
	return string < c->h->strings.count;
}

static bool types_ok(const struct checker *c)
{
	const struct afm_header *h = c->h;
	FOR_EACH (c, types, struct afm_type)
		if (!string_ok(c, e->name) || !string_ok(c, e->file) || e->kind > AFM_T_FUNCTION ||
		    !index_ok(e->target, h->types.count) ||
		    !range_ok(e->first_field, e->n_fields, h->fields.count) ||
		    !range_ok(e->first_variant, e->n_variants, h->variants.count) ||
		    e->discr_size > 16 || !index_ok(e->future, h->futures.count) ||
		    !index_ok(e->template_arg, h->types.count))
			return false;
	FOR_EACH (c, fields, struct afm_field)
		if (!string_ok(c, e->name) || !index_ok(e->type, h->types.count))
			return false;
	FOR_EACH (c, variants, struct afm_variant)
		if (!string_ok(c, e->name) || !string_ok(c, e->file) ||
		    !string_ok(c, e->macro_file) ||
		    !range_ok(e->first_field, e->n_fields, h->fields.count) ||
		    !index_ok(e->awaitee, h->fields.count))
			return false;
	return true;
}

static bool polls_ok(const struct checker *c)
{
	const struct afm_header *h = c->h;
	uint64_t last = 0;
	FOR_EACH (c, futures, struct afm_future)
		if (e->type >= h->types.count || !string_ok(c, e->name) || !string_ok(c, e->file) ||
		    !range_ok(e->first_poll, e->n_polls, h->future_polls.count))
			return false;
	FOR_EACH (c, polls, struct afm_poll) {
		if (!string_ok(c, e->name) || !string_ok(c, e->symbol) || !string_ok(c, e->file) ||
		    e->address < last || e->n_futures < 1 ||
		    !range_ok(e->first_future, e->n_futures, h->poll_futures.count) ||
		    !index_ok(e->site, h->sites.count) || !index_ok(e->root, h->roots.count) ||
		    !index_ok(e->step, h->steps.count))
			return false;
		last = e->address;
	}
	FOR_EACH (c, poll_futures, uint32_t)
		if (*e >= h->futures.count)
			return false;
	FOR_EACH (c, future_polls, uint32_t)
		if (*e >= h->polls.count)
			return false;
	FOR_EACH (c, roots, struct afm_root)
		if (e->poll >= h->polls.count || !index_ok(e->future, h->futures.count) ||
		    !index_ok(e->future_type, h->types.count) ||
		    !index_ok(e->cell_type, h->types.count) || !index_ok(e->step, h->steps.count))
			return false;
	return true;
}

static bool steps_ok(const struct checker *c)
{
	const struct afm_header *h = c->h;
	FOR_EACH (c, steps, struct afm_step)
		if (e->type >= h->types.count || !e->n_cases ||
		    !range_ok(e->first_case, e->n_cases, h->step_cases.count) ||
		    (e->tag_size && e->tag_size != 1 && e->tag_size != 2 && e->tag_size != 4 &&
		     e->tag_size != 8))
			return false;
	FOR_EACH (c, step_cases, struct afm_step_case)
		if (!index_ok(e->variant, h->variants.count) || e->step >= h->steps.count ||
		    e->n_ways > AFM_WAYS_MAX ||
		    !range_ok(e->first_way, e->n_ways, h->step_ways.count))
			return false;
	FOR_EACH (c, step_ways, struct afm_step_way)
		if (e->via > AFM_V_DYN || (e->via != AFM_V_DYN && e->next >= h->steps.count))
			return false;
	return true;
}

static bool fixup_ok(const struct afm_site *site, const struct afm_fixup *fixup)
{
	unsigned size = fixup->kind == AFM_FIXUP_ADDRESS ? 8 : 4;
	return fixup->kind <= AFM_FIXUP_ADDRESS && fixup->at + size <= site->code_length &&
	       fixup->next <= site->code_length;
}

static bool site_ok(const struct afm_site *site)
{
	unsigned hole = site->patch == AFM_PATCH_SHORT ? AFM_PATCH_NEAR : 0;
	unsigned least = site->patch == AFM_PATCH_TRAP ? AFM_TRAP_DISPLACED : site->patch;
	return (site->patch == AFM_PATCH_NEAR || site->patch == AFM_PATCH_SHORT ||
		site->patch == AFM_PATCH_TRAP) &&
	       site->displaced >= least && site->displaced + hole <= AFM_SITE_ORIGINAL_MAX;
}

static bool sites_ok(const struct checker *c)
{
	const struct afm_header *h = c->h;
	const struct afm_fixup *fixups = af_futuremap_table(&c->map, &h->fixups);
	FOR_EACH (c, sites, struct afm_site) {
		if (e->poll >= h->polls.count + h->parks.count ||
		    e->code_length > AFM_SITE_CODE_MAX ||
		    !range_ok(e->code, e->code_length, h->code.count) || !site_ok(e) ||
		    !range_ok(e->first_fixup, e->n_fixups, h->fixups.count))
			return false;
		for (uint32_t i = 0; i < e->n_fixups; i++)
			if (!fixup_ok(e, &fixups[e->first_fixup + i]))
				return false;
	}
	return true;
}

static bool rest_ok(const struct checker *c)
{
	const struct afm_header *h = c->h;
	const char *last_name = "";
	uint64_t last = 0;
	FOR_EACH (c, vtables, struct afm_vtable) {
		if (e->address < last || e->type >= h->types.count ||
		    !index_ok(e->step, h->steps.count))
			return false;
		last = e->address;
	}
	last = 0;
	FOR_EACH (c, drivers, struct afm_driver) {
		if (e->address < last || !string_ok(c, e->name) || !string_ok(c, e->file) ||
		    e->future >= h->futures.count ||
		    !range_ok(e->first_place, e->n_places, h->places.count))
			return false;
		last = e->address;
	}
	FOR_EACH (c, places, struct afm_place)
		if (e->driver >= h->drivers.count || e->start >= e->end ||
		    (e->base > AFM_B_REGISTER_MAX && e->base != AFM_B_CFA))
			return false;
	last = 0;
	FOR_EACH (c, parks, struct afm_park) {
		if (e->address < last || !string_ok(c, e->name) ||
		    !index_ok(e->site, h->sites.count))
			return false;
		last = e->address;
	}
	last = 0;
	FOR_EACH (c, stays, struct afm_stay) {
		if (e->address <= last || e->base > AFM_B_REGISTER_MAX || e->step >= h->steps.count)
			return false;
		last = e->address;
	}
	last = 0;
	FOR_EACH (c, wakers, struct afm_waker) {
		if (e->address < last || e->type >= h->types.count)
			return false;
		last = e->address;
	}
	FOR_EACH (c, layouts, struct afm_layout) {
		if (!string_ok(c, e->name) ||
		    strcmp(last_name, af_futuremap_string(&c->map, e->name)) > 0)
			return false;
		last_name = af_futuremap_string(&c->map, e->name);
	}
	return true;
}

const char *af_futuremap_check(const void *data, size_t size)
{
	const struct afm_header *h = data;
	struct checker c = {h, {h, size}};

	if (size < sizeof(h->magic) || memcmp(h->magic, AFM_MAGIC, sizeof(h->magic)))
		return "not a future map";
	if (size < sizeof(*h))
		return "truncated";
	if (h->version != AFM_VERSION || h->header_size != sizeof(*h))
		return "a future map of another version";
	if (h->file_size != size)
		return "truncated";
	if (h->build_id_size > AFM_BUILD_ID_MAX || h->verdict < AFM_FUTURES ||
	    h->verdict > AFM_LINE_TABLES_ONLY)
		return "damaged header";
	if (!tables_ok(h))
		return "a table lies outside the file";
	if (af_futuremap_checksum((const char *)data + AFM_CHECKED_FROM, size - AFM_CHECKED_FROM) !=
	    h->checksum)
		return "wrong checksum";
	/* A terminated table makes every offset inside it a terminated string. */
	const char *strings = af_futuremap_table(&c.map, &h->strings);
	if (!h->strings.count || strings[0] || strings[h->strings.count - 1])
		return "strings are not terminated";
	if (!string_ok(&c, h->object) || !string_ok(&c, h->producer) || !types_ok(&c) ||
	    !polls_ok(&c) || !steps_ok(&c) || !sites_ok(&c) || !rest_ok(&c))
		return "an index lies outside its table";
	return NULL;
}

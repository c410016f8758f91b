/* SPDX-License-Identifier: MIT */
/*
 * The index pass: a linear decoder over .debug_info.
 *
 * A DIE is visited once, in the order of the bytes, and costs little more than finding its
 * end: its abbreviation says how (abbrev.c compiles that). Only namespaces, structures,
 * subprograms, variables outside functions and inlined instances are looked at, and of those
 * only a name, an origin and the presence of an address are read. What is kept is an offset
 * and a class, 8 bytes; the second pass reads it again with die.c. libdw's tree walk takes 6 to
 * 10 times as long over the same bytes, since it decodes a subtree once per level.
 *
 * Parents are known while walking, so namespaces are kept as extents: the path of any DIE can
 * then be found from its offset (names.c).
 */
#include <dwarf.h>
#include <stdlib.h>

#include "analysis/scan.h"

struct open_namespace {
	uint32_t index;
	uint32_t depth; /* of its children */
};

struct scanner {
	struct af_index *index;
	struct af_unit *unit;
	const uint8_t *data; /* of .debug_info */
	uint32_t body;	     /* of a coroutine: the subprogram that is being walked, or 0 */
	uint32_t body_depth;
	uint32_t function; /* concrete, not named like a poll: the one being walked, or 0 */
	uint32_t function_depth;
	VECTOR(struct open_namespace) open;
};

static inline void skip_attributes(const struct af_unit *unit, const struct af_abbrev *abbrev,
				   struct af_bytes *b)
{
	const struct af_skip *skip = &unit->abbrevs->skips.items[abbrev->first_skip];
	for (;; skip++) {
		if (__builtin_expect(skip->fixed > af_bytes_left(b), 0)) {
			af_bytes_fail(b);
			return;
		}
		b->pos += skip->fixed;
		switch (skip->form) {
		case 0:
			return;
		case DW_FORM_exprloc:
			af_bytes_skip(b, af_bytes_uleb(b));
			break;
		case DW_FORM_udata:
			af_bytes_uleb(b);
			break;
		default:
			af_form_skip(unit, b, skip->form);
		}
	}
}

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
	if (name[0] == 'b')
		return strncmp(name, "block_on", 8) ? 0 : AF_FOUND_BLOCK_ON;
	return 0;
}

static bool add_found(struct scanner *s, uint32_t offset, uint32_t what)
{
	struct af_found *found = vector_push(&s->index->functions);
	if (!found)
		return false;
	*found = (struct af_found){offset, what};
	return true;
}

/* The value of an attribute that the abbreviation has noted; `b` stands at the attributes and
   stays there. */
static void value_at(struct scanner *s, const struct af_abbrev *abbrev,
		     const struct af_place *place, const struct af_bytes *b, struct af_value *value)
{
	const struct af_skip *skip = &s->unit->abbrevs->skips.items[abbrev->first_skip];
	struct af_bytes own = *b;

	for (unsigned int i = 0; i < place->steps; i++, skip++) {
		af_bytes_skip(&own, skip->fixed);
		af_form_skip(s->unit, &own, skip->form);
	}
	af_bytes_skip(&own, place->fixed);
	af_form_read(s->unit, &own, &s->unit->abbrevs->attributes.items[place->attribute], value);
}

/* The name of a DIE, or NULL. */
static const char *name_of(struct scanner *s, const struct af_abbrev *abbrev,
			   const struct af_bytes *b)
{
	const struct af_section *strings = &s->unit->file->sections[AF_SEC_STR];
	struct af_value value;

	if (abbrev->name.attribute == UINT32_MAX)
		return NULL;
	/* The usual case: the first attribute, an offset in .debug_str. */
	if (!abbrev->name.steps && af_bytes_left(b) >= abbrev->name.fixed + 4u &&
	    s->unit->abbrevs->attributes.items[abbrev->name.attribute].form == DW_FORM_strp) {
		uint32_t offset;
		memcpy(&offset, b->pos + abbrev->name.fixed, sizeof(offset));
		return offset < strings->terminated ? (const char *)strings->data + offset : NULL;
	}
	value_at(s, abbrev, &abbrev->name, b, &value);
	return af_value_string(s->unit, &value);
}

/* A closure's namespace is the function that it is in. */
static bool in_block_on(const struct scanner *s, const char *name)
{
	size_t n = s->open.count;

	if (!n || strncmp(name, "{closure", 8))
		return false;
	const char *space = s->index->namespaces.items[s->open.items[n - 1].index].name;
	return !strncmp(space, "block_on", 8);
}

static bool at_subprogram(struct scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
			  uint32_t depth, struct af_bytes *b)
{
	struct af_bytes own = *b;
	struct af_value value;
	uint32_t what = 0;

	skip_attributes(s->unit, abbrev, b);
	if (abbrev->has_ranges) {
		what = AF_FOUND_CONCRETE;
	} else if (abbrev->low_pc.attribute != UINT32_MAX) {
		value_at(s, abbrev, &abbrev->low_pc, &own, &value);
		/* 0 and 1 are what linkers leave of dropped code. */
		if (value.form != DW_FORM_addr || value.number > 1)
			what = AF_FOUND_CONCRETE;
	}
	if (abbrev->has_inline)
		what |= AF_FOUND_INLINE;
	if (!what)
		return true;
	const char *name = name_of(s, abbrev, &own);
	bool walked = (what & AF_FOUND_CONCRETE) && abbrev->children;
	if (walked) {
		s->function = offset;
		s->function_depth = depth;
	}
	if (!name)
		return !abbrev->has_origin || add_found(s, offset, what | AF_FOUND_UNNAMED);
	uint32_t class = function_class(name);
	if (walked && (class & AF_FOUND_ASYNC))
		s->function = 0;
	if (!class && walked && in_block_on(s, name))
		class = AF_FOUND_BLOCK_ON;
	if ((class & AF_FOUND_BODY) && abbrev->children) {
		s->body = offset;
		s->body_depth = depth;
	}
	return !class || add_found(s, offset, what | class);
}

static bool at_type(struct scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
		    struct af_bytes *b)
{
	const char *name = name_of(s, abbrev, b);
	uint32_t what;

	skip_attributes(s->unit, abbrev, b);
	if (!name)
		return true;
	if (name[0] == '{' && af_name_is_coroutine(name))
		what = AF_FOUND_COROUTINE;
	else if (is_layout(name))
		what = AF_FOUND_LAYOUT;
	else
		return true;
	struct af_found *found = vector_push(&s->index->types);
	if (!found)
		return false;
	*found = (struct af_found){offset, what};
	return true;
}

static bool at_variable(struct scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
			struct af_bytes *b)
{
	const char *name = name_of(s, abbrev, b);

	skip_attributes(s->unit, abbrev, b);
	if (!name || name[0] != '<' || !strstr(name, "Future>::{vtable}"))
		return true;
	uint32_t *kept = vector_push(&s->index->vtables);
	if (!kept)
		return false;
	*kept = offset;
	return true;
}

/* A variable inside a coroutine's body: is it what `.await` keeps? */
static bool at_local(struct scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
		     struct af_bytes *b)
{
	const char *name = name_of(s, abbrev, b);

	skip_attributes(s->unit, abbrev, b);
	if (!name || strcmp(name, "__awaitee"))
		return true;
	struct af_awaitee *awaitee = vector_push(&s->index->awaitees);
	if (!awaitee)
		return false;
	*awaitee = (struct af_awaitee){offset, s->body};
	return true;
}

/* Whether the abstract subprogram at `offset` is named like a poll. */
static bool is_poll_like(struct scanner *s, uint32_t offset)
{
	af_die_id id = (uint64_t)s->index->file->number << 32 | offset;
	struct af_die die;

	for (int i = 0; i < 3 && af_die_at(s->index->file->info, id, &die); i++) {
		const char *name = af_die_string(&die, DW_AT_name);
		if (name)
			return function_class(name) & (AF_FOUND_BODY | AF_FOUND_POLL);
		id = af_die_reference(&die, DW_AT_specification);
	}
	return false;
}

static bool at_inlined(struct scanner *s, const struct af_abbrev *abbrev, uint32_t offset,
		       struct af_bytes *b)
{
	struct af_value value;
	bool ok = true;

	if (abbrev->name.attribute != UINT32_MAX) {
		value_at(s, abbrev, &abbrev->name, b, &value);
		af_die_id id = af_value_reference(s->unit, &value);
		uint32_t origin = (uint32_t)id;
		if (id != AF_DIE_NONE && id >> 32 == s->index->file->number) {
			uint8_t *seen = &s->index->inlined[origin >> 5];
			uint8_t *poll = &s->index->poll_like[origin >> 5];
			uint8_t bit = (uint8_t)(1u << (origin >> 2 & 7));
			if (!(*seen & bit) && is_poll_like(s, origin))
				*poll |= bit;
			*seen |= bit;
			if (s->function && (*poll & bit)) {
				struct af_inlined *found = vector_push(&s->index->polls_inlined);
				ok = found != NULL;
				if (found)
					*found = (struct af_inlined){offset, s->function};
			}
		}
	}
	skip_attributes(s->unit, abbrev, b);
	return ok;
}

/* The children of a DIE at `depth` have ended. */
static inline void leave(struct scanner *s, uint32_t depth)
{
	if (depth <= s->body_depth)
		s->body = 0;
	if (depth <= s->function_depth)
		s->function = 0;
}

static bool open_namespace(struct scanner *s, const struct af_abbrev *abbrev, uint32_t depth,
			   struct af_bytes *b)
{
	const char *name = name_of(s, abbrev, b);
	size_t n = s->open.count;

	skip_attributes(s->unit, abbrev, b);
	if (!abbrev->children)
		return true;
	struct af_namespace *space = vector_push(&s->index->namespaces);
	struct open_namespace *open = vector_push(&s->open);
	if (!space || !open)
		return false;
	space->name = name ? name : "";
	space->start = (uint32_t)(b->pos - s->data);
	space->parent = n ? s->open.items[n - 1].index : UINT32_MAX;
	open->index = (uint32_t)s->index->namespaces.count - 1;
	open->depth = depth + 1;
	return true;
}

static void close_namespaces(struct scanner *s, uint32_t depth, uint32_t offset)
{
	while (s->open.count && s->open.items[s->open.count - 1].depth > depth) {
		uint32_t index = s->open.items[--s->open.count].index;
		s->index->namespaces.items[index].end = offset;
	}
}

/* One unit. False when memory is short. */
static bool scan_unit(struct scanner *s, struct af_unit *unit)
{
	struct af_bytes b = af_bytes_make(s->data + unit->first_die, unit->end - unit->first_die);
	uint32_t depth = 0, inner = 1; /* inner: depth of DIEs directly in a namespace or unit */
	bool ok = true;

	s->unit = unit;
	s->body = s->function = 0;
	while (ok && b.pos < b.end) {
		uint32_t offset = (uint32_t)(b.pos - s->data);
		uint64_t code = *b.pos < 0x80 ? *b.pos++ : af_bytes_uleb(&b);
		if (!code) {
			if (depth)
				leave(s, --depth);
			if (depth && depth < inner) {
				close_namespaces(s, depth, (uint32_t)(b.pos - s->data));
				inner = s->open.count ? s->open.items[s->open.count - 1].depth : 1;
			}
			continue;
		}
		const struct af_abbrev *abbrev = af_abbrevs_find(unit->abbrevs, code);
		if (!abbrev) {
			s->index->n_broken++;
			break;
		}
		s->index->n_dies++;
		switch (abbrev->role) {
		case AF_ROLE_NAMESPACE:
			ok = open_namespace(s, abbrev, depth, &b);
			if (abbrev->children)
				inner = depth + 1;
			break;
		case AF_ROLE_TYPE:
			ok = at_type(s, abbrev, offset, &b);
			break;
		case AF_ROLE_SUBPROGRAM:
			ok = at_subprogram(s, abbrev, offset, depth, &b);
			break;
		case AF_ROLE_VARIABLE:
			if (depth == inner)
				ok = at_variable(s, abbrev, offset, &b);
			else if (s->body)
				ok = at_local(s, abbrev, offset, &b);
			else
				skip_attributes(unit, abbrev, &b);
			break;
		case AF_ROLE_INLINED:
			ok = at_inlined(s, abbrev, offset, &b);
			break;
		default:
			skip_attributes(unit, abbrev, &b);
		}
		depth += abbrev->children;
	}
	if (b.failed)
		s->index->n_broken++;
	close_namespaces(s, 0, unit->end);
	return ok;
}

struct af_error *af_scan(struct af_file *file, const struct af_scan_progress *progress,
			 struct af_index *index)
{
	const struct af_section *info = &file->sections[AF_SEC_INFO];
	struct scanner s = {.index = index, .data = info->data};
	bool ok;

	memset(index, 0, sizeof(*index));
	index->file = file;
	index->inlined = calloc(1, info->size / 32 + 1);
	index->poll_like = calloc(1, info->size / 32 + 1);
	ok = index->inlined && index->poll_like;
	for (size_t i = 0; ok && i < file->units.count; i++) {
		struct af_unit *unit = &file->units.items[i];
		if (!unit->rust)
			continue;
		ok = scan_unit(&s, unit);
		if (progress->report && i % 64 == 0)
			progress->report(progress->arg,
					 progress->from + (progress->to - progress->from) *
								  (double)unit->end /
								  (double)info->size);
	}
	vector_deinit(&s.open);
	if (!ok)
		return af_error_create("out of memory");
	return NULL;
}

void af_index_deinit(struct af_index *index)
{
	vector_deinit(&index->namespaces);
	vector_deinit(&index->functions);
	vector_deinit(&index->types);
	vector_deinit(&index->vtables);
	vector_deinit(&index->awaitees);
	vector_deinit(&index->polls_inlined);
	free(index->inlined);
	free(index->poll_like);
	memset(index, 0, sizeof(*index));
}

uint32_t af_index_namespace(const struct af_index *index, uint32_t offset)
{
	size_t low = 0, high = index->namespaces.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (index->namespaces.items[middle].start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	/* The last one that begins before it, or one of those around that. */
	for (uint32_t i = low ? (uint32_t)low - 1 : UINT32_MAX; i != UINT32_MAX;
	     i = index->namespaces.items[i].parent)
		if (offset < index->namespaces.items[i].end)
			return i;
	return UINT32_MAX;
}

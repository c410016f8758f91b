/* SPDX-License-Identifier: MIT */
/*
 * `{impl#N}`: how debug info calls an impl block. Which type it is for stands in the mangled
 * names of the functions inside (legacy mangling, the default before rustc 1.97):
 *
 *	_ZN5tokio4sync4mpsc7bounded15Sender$LT$T$GT$4send...	bounded::{impl#3} is Sender
 *	_ZN49_$LT$app..Db$u20$as$u20$app..Store$GT$3get...	app::{impl#0} is <app::Db as app::Store>
 *
 * and the same in v0 mangling (mangling.c). Looked up for the names that are shown only.
 */
#include <ctype.h>
#include <dwarf.h>

#include "analysis/build.h"
#include "analysis/mangling.h"

/* Undoes the escapes of one component of a legacy symbol. */
static void unescape(const char *from, size_t length, struct af_text *text)
{
	static const struct {
		const char *escape, *plain;
	} escapes[] = {
		{"$LT$", "<"},	{"$GT$", ">"},	{"$RF$", "&"},	 {"$BP$", "*"},	 {"$C$", ","},
		{"$LP$", "("},	{"$RP$", ")"},	{"$u20$", " "},	 {"$u27$", "'"}, {"$u3d$", "="},
		{"$u5b$", "["}, {"$u5d$", "]"}, {"$u7b$", "{"},	 {"$u7d$", "}"}, {"$u7e$", "~"},
		{"$u2b$", "+"}, {"$u3b$", ";"}, {"$u22$", "\""}, {"..", "::"},
	};
	const char *end = from + length;

	if (length > 1 && from[0] == '_' && from[1] == '$')
		from++; /* a component may not begin with an escape */
	while (from < end) {
		size_t i, n = sizeof(escapes) / sizeof(escapes[0]);
		for (i = 0; i < n; i++) {
			size_t size = strlen(escapes[i].escape);
			if ((size_t)(end - from) >= size && !memcmp(from, escapes[i].escape, size))
				break;
		}
		if (i < n) {
			af_text_add(text, escapes[i].plain);
			from += strlen(escapes[i].escape);
		} else {
			af_text_append(text, from++, 1);
		}
	}
}

/* The next component of a legacy symbol: a decimal length and that many bytes. */
static const char *component(const char **symbol, size_t *length)
{
	const char *p = *symbol;
	size_t n = 0;

	if (!isdigit((unsigned char)*p))
		return NULL;
	while (isdigit((unsigned char)*p) && n < 100000)
		n = n * 10 + (size_t)(*p++ - '0');
	if (strnlen(p, n) < n)
		return NULL;
	*symbol = p + n;
	*length = n;
	return p;
}

/* "Sender<T>" and "<impl other::Sender<T>>" become "Sender" and "other::Sender": generic
   arguments stand behind the whole name already. */
static void put_type(const char *type, struct af_text *text)
{
	if (!strncmp(type, "<impl ", 6) && !strstr(type, " for "))
		type += 6;
	af_text_append(text, type, strcspn(type, "<>"));
}

static bool from_v0(const char *symbol, struct af_text *text)
{
	struct af_text decoded = {0};
	bool found = af_mangling_v0_impl(symbol, &decoded);

	if (found && strstr(af_text_get(&decoded), " as ") && decoded.data[0] == '<')
		af_text_add(text, af_text_get(&decoded));
	else if (found)
		put_type(af_text_get(&decoded), text);
	text->failed |= decoded.failed;
	af_text_deinit(&decoded);
	return found && text->length;
}

/* What the impl block `path` ("a::b::{impl#3}") is for, by a symbol of a function in it. */
static bool from_symbol(const char *path, size_t length, const char *symbol, struct af_text *text)
{
	const char *last = path + length, *p = path, *part;
	struct af_text decoded = {0};
	size_t size;
	bool found = false;

	if (!strncmp(symbol, "_R", 2))
		return from_v0(symbol, text);
	if (strncmp(symbol, "_ZN", 3))
		return false;
	symbol += 3;
	part = component(&symbol, &size);
	if (part && size > 5 && !memcmp(part, "_$LT$", 5)) {
		unescape(part, size, &decoded);
		/* Closures in generic impls may print more than the impl; that is not it. */
		if (strstr(af_text_get(&decoded), " as ")) {
			af_text_add(text, af_text_get(&decoded));
			found = true;
		}
		af_text_deinit(&decoded);
		return found;
	}
	while (part) {
		const char *end = memmem(p, (size_t)(last - p), "::", 2);
		if (!end) { /* all before {impl#N} agree: this one is the type */
			unescape(part, size, &decoded);
			if (strncmp(af_text_get(&decoded), "<impl ", 6))
				af_text_append(text, path, (size_t)(p - path));
			put_type(af_text_get(&decoded), text);
			found = decoded.length > 0;
			break;
		}
		if ((size_t)(end - p) != size || memcmp(p, part, size))
			break;
		p = end + 2;
		part = component(&symbol, &size);
	}
	af_text_deinit(&decoded);
	return found;
}

/* Symbols of functions between two offsets, until one tells. */
static bool from_namespace(struct af_builder *b, const struct af_index *index, uint32_t space,
			   const char *path, size_t length, struct af_text *text)
{
	const struct af_namespace *ns = &index->namespaces.items[space];
	struct af_unit *unit = af_file_unit(index->file, ns->start);
	struct af_die die;
	struct af_walk walk;
	unsigned int depth;

	if (!unit || ns->end < ns->start || ns->end > unit->end)
		return false;
	const uint8_t *data = index->file->sections[AF_SEC_INFO].data;
	walk = (struct af_walk){.unit = unit,
				.depth = 1,
				.bytes = af_bytes_make(data + ns->start, ns->end - ns->start)};
	while (af_walk_next(&walk, &die, &depth)) {
		if (die.abbrev->tag == DW_TAG_namespace) {
			/* Symbols in an impl inside this one's functions tell of that one. */
			const char *name = af_die_string(&die, DW_AT_name);
			if (name && !strncmp(name, "{impl#", 6))
				af_walk_skip_children(&walk);
			continue;
		}
		if (die.abbrev->tag == DW_TAG_subprogram) {
			const char *symbol = af_die_string(&die, DW_AT_linkage_name);
			if (symbol && from_symbol(path, length, symbol, text))
				return true;
		}
		af_walk_skip_children(&walk);
	}
	return false;
}

static uint64_t mix_text(uint64_t hash, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3;
	return hash;
}

#define START 0xcbf29ce484222325

/* Hashes of the paths of every impl block: b->impl_heads leads to the last one of a path, and
   b->impls from each to the one before. */
static void collect(struct af_builder *b)
{
	for (uint32_t f = 0; f < b->info->files.count; f++) {
		const struct af_index *index = &b->indexes[f];
		size_t n = index->namespaces.count;
		uint64_t *hashes = reallocarray(NULL, n + 1, sizeof(*hashes));
		if (!hashes) {
			b->failed = true;
			return;
		}
		for (uint32_t i = 0; i < n; i++) {
			const struct af_namespace *ns = &index->namespaces.items[i];
			uint64_t hash = ns->parent == UINT32_MAX
						? START
						: mix_text(hashes[ns->parent], "::", 2);
			hashes[i] = mix_text(hash, ns->name, strlen(ns->name));
			if (strncmp(ns->name, "{impl#", 6))
				continue;
			struct af_impl *impl = builder_push(b, impls);
			if (!impl)
				break;
			uint64_t key = hashes[i] >> 1;
			*impl = (struct af_impl){f, i, af_map_get(&b->impl_heads, key)};
			af_map_set(&b->impl_heads, key, (uint32_t)b->impls.count - 1);
		}
		free(hashes);
	}
	b->failed |= b->impl_heads.failed;
}

const char *af_impls_name(struct af_builder *b, const char *path, size_t length)
{
	uint64_t key = mix_text(START, path, length) >> 1;
	struct af_text text = {0};

	uint32_t known = af_map_get(&b->impl_names, key);
	if (known != UINT32_MAX)
		return known ? af_strings_get(&b->scratch, known) : NULL;
	if (!b->impls.count)
		collect(b);
	for (uint32_t i = af_map_get(&b->impl_heads, key); i < b->impls.count;
	     i = b->impls.items[i].next) {
		const struct af_impl *impl = &b->impls.items[i];
		if (from_namespace(b, &b->indexes[impl->file], impl->space, path, length, &text))
			break;
	}
	known = text.length ? af_strings_add(&b->scratch, af_text_get(&text)) : 0;
	af_map_set(&b->impl_names, key, known);
	b->failed |= b->impl_names.failed | text.failed;
	af_text_deinit(&text);
	return known ? af_strings_get(&b->scratch, known) : NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * Names: the qualified one of debug info, and the one that people write.
 *
 *	a::work::leaf::{async_fn_env#0}			a::work::leaf
 *	a::leaf::{async_fn_env#0}<u32>			a::leaf<u32>
 *	a::main::{async_block_env#2}			a::main::{async_block#2}
 *	a::run::{async_fn#0}::{closure_env#1}		a::run::{closure#1}
 *	a::{impl#3}::send::{async_fn_env#0}<u32>	a::Sender::send<u32>
 *	core::future::from_generator::GenFuture<X>	X
 *
 * and the same wherever they stand inside another type's arguments.
 */
#include <dwarf.h>
#include <stdio.h>

#include "analysis/build.h"

void af_name_path(struct af_builder *b, const struct af_die *die, struct af_text *text)
{
	const struct af_index *index = &b->indexes[die->unit->file->number];
	const struct af_namespace *path[64];
	size_t n = 0;

	for (uint32_t i = af_index_namespace(index, die->offset); i != UINT32_MAX && n < 64;
	     i = index->namespaces.items[i].parent)
		path[n++] = &index->namespaces.items[i];
	while (n--) {
		af_text_add(text, path[n]->name);
		if (n)
			af_text_add(text, "::");
	}
}

void af_name_qualify(struct af_builder *b, const struct af_die *die, struct af_text *text)
{
	const char *name = af_die_string(die, DW_AT_name);
	size_t before = text->length;

	/* Fat pointers and the like carry their path in the name and stand at the top. */
	af_name_path(b, die, text);
	if (text->length > before)
		af_text_add(text, "::");
	if (name)
		af_text_add(text, name);
}

/* The end of the generic arguments that begin behind `open`; NULL if they never end. */
static const char *closing(const char *open)
{
	int depth = 0;
	for (const char *p = open; *p; p++) {
		if (*p == '<' || *p == '(' || *p == '[')
			depth++;
		else if (*p == '>' && p > open && p[-1] == '-')
			continue; /* -> of a function type */
		else if ((*p == '>' || *p == ')' || *p == ']') && --depth == 0)
			return p;
	}
	return NULL;
}

static const char gen_future[] = "core::future::from_generator::GenFuture<";

/* The length of a component that only says "the body of the function before me": its state's
   type, or its scope in the path of what lies inside it. 0 if there is none at `from`. */
static size_t own_scope(const char *from, const char *end)
{
	static const char *const heads[] = {"::{async_fn", "::{async_gen_fn", "::{gen_fn"};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		size_t length = strlen(heads[i]);
		if (strncmp(from, heads[i], length) ||
		    (strncmp(from + length, "_env#", 5) && from[length] != '#'))
			continue;
		const char *close = strchr(from, '}');
		if (close && close < end)
			return (size_t)(close + 1 - from);
	}
	return 0;
}

/* "::{impl#3}" behind the path that began at `path`: writes what people call it in place of
   what was written of the path. The length of the component, or 0. */
static size_t impl_block(struct af_builder *b, const char *path, const char *from, const char *end,
			 struct af_text *text, size_t path_out)
{
	const char *close, *name;

	if (strncmp(from, "::{impl#", 8))
		return 0;
	close = strchr(from, '}');
	if (!close || close >= end)
		return 0;
	name = af_impls_name(b, path, (size_t)(close + 1 - path));
	if (!name)
		return 0;
	text->length = path_out;
	af_text_add(text, name);
	return (size_t)(close + 1 - from);
}

static void display(struct af_builder *b, const char *from, const char *end, struct af_text *text)
{
	const char *path = from; /* where the current path began, here and in `text` */
	size_t path_out = text->length;

	while (from < end) {
		/* Nothing begins in between: most of a name is copied in runs. */
		size_t run = strcspn(from, ":_c<>(), &*;[]");
		if (run > (size_t)(end - from))
			run = (size_t)(end - from);
		if (run) {
			af_text_append(text, from, run);
			from += run;
			continue;
		}
		if (*from == 'c' && !strncmp(from, gen_future, sizeof(gen_future) - 1)) {
			const char *open = from + sizeof(gen_future) - 2;
			const char *close = closing(open);
			if (close && close < end) {
				display(b, open + 1, close, text);
				from = close + 1;
				continue;
			}
		}
		size_t skip = *from == ':' ? own_scope(from, end) : 0;
		if (!skip && *from == ':')
			skip = impl_block(b, path, from, end, text, path_out);
		if (!skip && *from == '_' && !strncmp(from, "_env#", 5))
			skip = 4;
		if (skip) {
			from += skip;
			continue;
		}
		af_text_append(text, from, 1);
		if (!strchr(":_c", *from++)) {
			path = from;
			path_out = text->length;
		}
	}
}

const char *af_name_last(const char *name)
{
	const char *last = name;
	int depth = 0;

	for (const char *p = name; *p; p++) {
		if (*p == '<')
			depth++;
		else if (*p == '>' && p > name && p[-1] == '-')
			continue; /* -> of a function type */
		else if (*p == '>')
			depth--;
		else if (!depth && p[0] == ':' && p[1] == ':')
			last = p + 2;
	}
	return last;
}

void af_name_display(struct af_builder *b, const char *qualified, struct af_text *text)
{
	/* The string table moves while impl blocks are looked up. */
	char *copy = strdup(qualified);
	if (!copy) {
		b->failed = true;
		return;
	}
	display(b, copy, copy + strlen(copy), text);
	b->failed |= text->failed;
	free(copy);
}

void af_name_place(struct af_builder *b, const struct af_die *die, uint32_t *file, uint32_t *line)
{
	uint64_t number, at;
	char path[4096];

	*file = 0;
	*line = 0;
	if (af_die_number(die, DW_AT_decl_line, &at))
		*line = (uint32_t)at;
	if (!af_die_number(die, DW_AT_decl_file, &number) || number > UINT16_MAX)
		return;
	uint64_t key = (uint64_t)(die->unit->file->number & 0xffff) << 48 |
		       (uint64_t)die->unit->offset << 16 | number;
	uint32_t known = af_map_get(&b->file_names, key);
	if (known == UINT32_MAX) {
		known = 0;
		if (af_unit_file_name(die->unit, number, path, sizeof(path)))
			known = af_strings_add(&b->strings, path);
		af_map_set(&b->file_names, key, known);
	}
	*file = known;
}

/* SPDX-License-Identifier: MIT */
/*
 * A concrete subprogram often says nothing but its address and an origin: the abstract instance
 * holds names and parameter types, and that one may again have a declaration elsewhere.
 */
#include "analysis/function.h"

#include <dwarf.h>

/* Compilers write parameters and variables first, then the scopes, which may be large. */
static bool is_scope(const struct af_die *die)
{
	return die->abbrev->tag == DW_TAG_lexical_block ||
	       die->abbrev->tag == DW_TAG_inlined_subroutine;
}

static void add_param(struct af_builder *b, struct af_function *f, const struct af_die *param)
{
	struct af_die origin;

	if (f->n_params < 3) {
		af_die_id type = af_types_target(b, param);
		if (type == AF_DIE_NONE &&
		    af_die_at(b->info, af_die_reference(param, DW_AT_abstract_origin), &origin))
			type = af_types_target(b, &origin);
		f->params[f->n_params] = type;
	}
	if (!f->n_params)
		f->first_param = af_die_id_of(param);
	f->n_params++;
}

/* Adds the children of a tag; of variables only the one called `name`, or all others. */
static void add_params(struct af_builder *b, struct af_function *f, const struct af_die *die,
		       unsigned int tag, const char *name, bool others)
{
	struct af_walk walk;
	struct af_die child;
	unsigned int depth;

	af_walk_start(&walk, die);
	while (af_walk_next(&walk, &child, &depth) && !is_scope(&child)) {
		if (child.abbrev->tag == tag) {
			const char *own = name ? af_die_string(&child, DW_AT_name) : NULL;
			if (!name || (own && !strcmp(own, name)) != others)
				add_param(b, f, &child);
		}
		af_walk_skip_children(&walk);
	}
}

/* An argument that the compiler has taken apart before it inlined the function (`mut self`) is
   a variable of the abstract instance, beside the others. What the body declares is in a block;
   but in a closure or a coroutine what it has captured is beside them as well. */
static void read_params(struct af_builder *b, struct af_function *f, const struct af_die *die)
{
	uint64_t kind;
	bool abstract = f->name && f->name[0] != '{' && af_die_number(die, DW_AT_inline, &kind);

	if (abstract)
		add_params(b, f, die, DW_TAG_variable, "self", false);
	add_params(b, f, die, DW_TAG_formal_parameter, NULL, false);
	if (abstract && f->n_params)
		add_params(b, f, die, DW_TAG_variable, "self", true);
}

bool af_function_read(struct af_builder *b, af_die_id id, struct af_function *f)
{
	uint64_t convention;

	memset(f, 0, sizeof(*f));
	f->first_param = f->result = AF_DIE_NONE;
	for (int i = 0; i < 3; i++)
		f->params[i] = AF_DIE_NONE;
	while (f->n_dies < AF_FUNCTION_CHAIN && af_die_at(b->info, id, &f->dies[f->n_dies])) {
		const struct af_die *die = &f->dies[f->n_dies++];
		if (!f->name)
			f->name = af_die_string(die, DW_AT_name);
		if (!f->symbol)
			f->symbol = af_die_string(die, DW_AT_linkage_name);
		if (!f->symbol)
			f->symbol = af_die_string(die, DW_AT_MIPS_linkage_name);
		if (f->result == AF_DIE_NONE)
			f->result = af_types_target(b, die);
		f->changed |= af_die_number(die, DW_AT_calling_convention, &convention) &&
			      convention == DW_CC_nocall;
		id = af_die_reference(die, DW_AT_abstract_origin);
		if (id == AF_DIE_NONE)
			id = af_die_reference(die, DW_AT_specification);
	}
	/* The last of the chain that describes parameters has all of them; the concrete
	   instance may have lost some. */
	for (size_t i = f->n_dies; i-- > 0 && !f->n_params;)
		read_params(b, f, &f->dies[i]);
	return f->n_dies > 0;
}

const struct af_die *af_function_home(const struct af_function *f)
{
	for (size_t i = f->n_dies; i-- > 0;)
		if (af_die_string(&f->dies[i], DW_AT_name))
			return &f->dies[i];
	return &f->dies[0];
}

af_die_id af_function_template(struct af_builder *b, const struct af_function *f, unsigned int n)
{
	for (size_t i = f->n_dies; i-- > 0;) {
		struct af_walk walk;
		struct af_die child;
		unsigned int depth, seen = 0;

		af_walk_start(&walk, &f->dies[i]);
		while (af_walk_next(&walk, &child, &depth)) {
			if (child.abbrev->tag == DW_TAG_template_type_parameter && seen++ == n)
				return af_types_target(b, &child);
			af_walk_skip_children(&walk);
		}
	}
	return AF_DIE_NONE;
}

unsigned int af_function_self_register(const struct af_function *f, uint64_t entry, bool *located,
				       bool *fixed)
{
	struct af_walk walk;
	struct af_die child;
	struct af_value value;
	unsigned int depth;

	*located = *fixed = false;
	af_walk_start(&walk, &f->dies[0]);
	while (af_walk_next(&walk, &child, &depth)) {
		if (child.abbrev->tag == DW_TAG_formal_parameter &&
		    (af_die_id_of(&child) == f->first_param ||
		     af_die_reference(&child, DW_AT_abstract_origin) == f->first_param)) {
			if (!af_die_attribute(&child, DW_AT_location, &value))
				return 0;
			*located = true;
			/* One place for the whole function, e.g. a stack slot: not optimised. */
			*fixed = value.form == DW_FORM_exprloc || value.form == DW_FORM_block1;
			return af_location_register(&child, entry);
		}
		af_walk_skip_children(&walk);
	}
	return 0;
}

/* As the index pass does for functions that have their name with them. */
bool af_function_is_block_on(const struct af_builder *b, const struct af_function *f)
{
	const struct af_die *home = af_function_home(f);
	const struct af_index *index = &b->indexes[home->unit->file->number];

	if (!f->name)
		return false;
	if (!strncmp(f->name, "block_on", 8))
		return true;
	if (strncmp(f->name, "{closure", 8))
		return false;
	uint32_t space = af_index_namespace(index, home->offset);
	return space != UINT32_MAX && !strncmp(index->namespaces.items[space].name, "block_on", 8);
}

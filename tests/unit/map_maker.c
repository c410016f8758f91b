/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "map_maker.h"

#define TABLE(m, what) (m)->header.what.offset = offsetof(struct map_maker, what)
#define ADD(m, what) \
	(&(m)->what[(m)->header.what.count < MAKER_MAX ? (m)->header.what.count++ : (abort(), 0)])

void maker_init(struct map_maker *m)
{
	memset(m, 0, sizeof(*m));
	TABLE(m, types);
	TABLE(m, fields);
	TABLE(m, variants);
	TABLE(m, futures);
	TABLE(m, polls);
	TABLE(m, roots);
	TABLE(m, vtables);
	TABLE(m, layouts);
	TABLE(m, strings);
	m->header.strings.count = 1;
}

struct af_futuremap maker_map(struct map_maker *m)
{
	return (struct af_futuremap){&m->header, sizeof(*m)};
}

/* The same name is the same string, as in real maps. */
static uint32_t string(struct map_maker *m, const char *text)
{
	size_t length = strlen(text) + 1, at = 0;

	for (; at < m->header.strings.count; at += strlen(m->strings + at) + 1)
		if (!strcmp(m->strings + at, text))
			return (uint32_t)at;
	if (at + length > sizeof(m->strings))
		abort();
	memcpy(m->strings + at, text, length);
	m->header.strings.count = at + length;
	return (uint32_t)at;
}

uint32_t maker_type(struct map_maker *m, unsigned int kind, const char *name, uint64_t size)
{
	*ADD(m, types) = (struct afm_type){.kind = (uint16_t)kind,
					   .name = string(m, name),
					   .size = size,
					   .target = AFM_NONE,
					   .discr_offset = AFM_NONE,
					   .future = AFM_NONE,
					   .template_arg = AFM_NONE};
	return (uint32_t)m->header.types.count - 1;
}

uint32_t maker_pointer(struct map_maker *m, const char *name, uint32_t target)
{
	uint32_t type = maker_type(m, AFM_T_POINTER, name, 8);

	m->types[type].target = target;
	return type;
}

void maker_field(struct map_maker *m, uint32_t type, const char *name, uint32_t of, uint64_t offset)
{
	struct afm_type *t = &m->types[type];
	uint32_t index = (uint32_t)m->header.fields.count;
	uint32_t *first = &t->first_field, *n = &t->n_fields;

	if (t->n_variants) {
		struct afm_variant *v = &m->variants[t->first_variant + t->n_variants - 1];
		first = &v->first_field;
		n = &v->n_fields;
	}
	*ADD(m, fields) = (struct afm_field){.name = string(m, name), .type = of, .offset = offset};
	if (!*n)
		*first = index;
	if (*first + *n != index)
		abort();
	++*n;
}

void maker_variant(struct map_maker *m, uint32_t type, const char *name, uint64_t discr,
		   uint32_t flags)
{
	struct afm_type *t = &m->types[type];
	uint32_t index = (uint32_t)m->header.variants.count;

	*ADD(m, variants) = (struct afm_variant){
		.name = string(m, name), .discr = discr, .flags = flags, .awaitee = AFM_NONE};
	if (!t->n_variants)
		t->first_variant = index;
	if (t->first_variant + t->n_variants != index)
		abort();
	t->n_variants++;
}

void maker_future(struct map_maker *m, uint32_t type, const char *name, uint32_t kind,
		  uint32_t state_offset)
{
	m->types[type].future = (uint32_t)m->header.futures.count;
	m->types[type].discr_offset = state_offset;
	m->types[type].discr_size = 1;
	*ADD(m, futures) = (struct afm_future){.type = type,
					       .kind = kind,
					       .name = string(m, name),
					       .state_offset = state_offset,
					       .state_size = 1};
}

void maker_vtable(struct map_maker *m, uint64_t address, uint32_t type)
{
	*ADD(m, vtables) = (struct afm_vtable){.address = address, .type = type, .step = AFM_NONE};
}

uint32_t maker_root(struct map_maker *m, uint64_t address, struct afm_root root)
{
	uint32_t index = (uint32_t)m->header.roots.count;

	root.poll = (uint32_t)m->header.polls.count;
	*ADD(m, polls) = (struct afm_poll){
		.address = address, .kind = AFM_P_TASK_ROOT, .root = index, .step = AFM_NONE};
	*ADD(m, roots) = root;
	return index;
}

void maker_layout(struct map_maker *m, const char *name, uint64_t value)
{
	*ADD(m, layouts) = (struct afm_layout){.name = string(m, name), .value = value};
}

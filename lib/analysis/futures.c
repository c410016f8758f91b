/* SPDX-License-Identifier: MIT */
/*
 * Futures: the types that are polled, and for coroutines their states. The compiler describes a
 * coroutine as a structure with one variant part over `__state`: 0 Unresumed, 1 Returned, 2
 * Panicked, 3 + k Suspend_k, and says on the member of each variant where in the source it stands:
 * the await point. `__awaitee` in a suspended state is the future that is awaited there.
 */
#include "analysis/build.h"

static uint32_t kind_of(const char *name)
{
	static const struct {
		const char *head;
		enum afm_future_kind kind;
	} kinds[] = {
		{"{async_fn_env#", AFM_F_ASYNC_FN},
		{"{async_block_env#", AFM_F_ASYNC_BLOCK},
		{"{async_closure_env#", AFM_F_ASYNC_CLOSURE},
	};
	const char *end = af_name_last(name);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strncmp(end, kinds[i].head, strlen(kinds[i].head)))
			return kinds[i].kind;
	return AFM_F_COROUTINE;
}

uint32_t af_futures_add(struct af_builder *b, uint32_t type, bool coroutine)
{
	uint32_t known = b->types.items[type].future;
	struct af_text shown = {0};

	if (known != AFM_NONE)
		return known;
	const char *name = af_strings_get(&b->strings, b->types.items[type].name);
	uint32_t kind = coroutine ? kind_of(name) : AFM_F_HAND;
	af_name_display(b, name, &shown);
	struct afm_future *future = builder_push(b, futures);
	if (!future) {
		af_text_deinit(&shown);
		return AFM_NONE;
	}
	*future = (struct afm_future){
		.type = type,
		.kind = kind,
		.state_offset = AFM_NONE,
		.name = af_strings_add(&b->strings, af_text_get(&shown)),
	};
	b->failed |= shown.failed;
	af_text_deinit(&shown);
	b->types.items[type].future = (uint32_t)b->futures.count - 1;
	return b->types.items[type].future;
}

void af_futures_collect(struct af_builder *b)
{
	for (size_t i = 0; i < b->info->files.count; i++) {
		const struct af_index *index = &b->indexes[i];
		for (size_t k = 0; k < index->types.count && !b->failed; k++) {
			const struct af_found_type *found = &index->types.items[k];
			if (found->what != AF_FOUND_COROUTINE)
				continue;
			uint32_t type = af_types_copy(
				b, (uint64_t)index->file->number << 32 | found->offset, found->key);
			if (type != AFM_NONE)
				af_futures_add(b, type, true);
		}
	}
}

static bool same_field(const struct afm_field *a, const struct afm_field *b)
{
	return a->name == b->name && a->offset == b->offset;
}

/* Captured arguments are listed in every state, whether they still live or not: those that
   stand in Unresumed too. */
static void mark_captured(struct af_builder *b, const struct afm_type *type)
{
	const struct afm_variant *unresumed = &b->variants.items[type->first_variant];

	for (uint32_t v = 1; v < type->n_variants; v++) {
		const struct afm_variant *variant = &b->variants.items[type->first_variant + v];
		for (uint32_t i = 0; i < variant->n_fields; i++) {
			struct afm_field *field = &b->fields.items[variant->first_field + i];
			for (uint32_t k = 0; k < unresumed->n_fields; k++)
				if (same_field(field, &b->fields.items[unresumed->first_field + k]))
					field->flags |= AFM_FF_CAPTURED;
		}
	}
}

static void find_awaitees(struct af_builder *b, const struct afm_type *type)
{
	for (uint32_t v = 0; v < type->n_variants; v++) {
		struct afm_variant *variant = &b->variants.items[type->first_variant + v];
		for (uint32_t i = 0; i < variant->n_fields; i++)
			if (b->fields.items[variant->first_field + i].flags & AFM_FF_AWAITEE)
				variant->awaitee = variant->first_field + i;
	}
}

/* Several awaits on one line are told apart by their order. */
static void number_lines(struct af_builder *b, const struct afm_type *type)
{
	for (uint32_t v = 4; v < type->n_variants; v++) {
		struct afm_variant *variant = &b->variants.items[type->first_variant + v];
		for (uint32_t w = 3; w < v; w++) {
			const struct afm_variant *other =
				&b->variants.items[type->first_variant + w];
			if (other->line && other->line == variant->line &&
			    other->file == variant->file)
				variant->line_index++;
		}
	}
}

/* rustc before 1.64 wraps every coroutine: GenFuture<X> is polled as X, at the same address. */
static void unwrap_gen_futures(struct af_builder *b)
{
	for (uint32_t i = 0; i < b->types.count; i++) {
		struct afm_type *type = &b->types.items[i];
		if (!af_types_named(b, i, "core::future::from_generator::GenFuture<") ||
		    type->n_fields != 1 || type->future != AFM_NONE)
			continue;
		uint32_t inner = b->fields.items[type->first_field].type;
		if (inner != AFM_NONE)
			type->future = b->types.items[inner].future;
	}
}

void af_futures_complete(struct af_builder *b)
{
	unwrap_gen_futures(b);
	for (size_t i = 0; i < b->futures.count; i++) {
		struct afm_future *future = &b->futures.items[i];
		struct afm_type *type = &b->types.items[future->type];
		if (future->kind == AFM_F_HAND) {
			if (type->line && !future->line) {
				future->file = type->file;
				future->line = type->line;
			}
			continue;
		}
		if (!type->n_variants)
			continue;
		future->state_offset = type->discr_offset;
		future->state_size = type->discr_size;
		future->file = b->variants.items[type->first_variant].file;
		future->line = b->variants.items[type->first_variant].line;
		if (!type->line) {
			type->file = future->file;
			type->line = future->line;
		}
		mark_captured(b, type);
		find_awaitees(b, type);
	}
	af_awaits_complete(b);
	for (size_t i = 0; i < b->futures.count; i++)
		if (b->futures.items[i].kind != AFM_F_HAND)
			number_lines(b, &b->types.items[b->futures.items[i].type]);
	/* A poll of a coroutine is shown where the future is defined. */
	for (size_t i = 0; i < b->polls.count; i++) {
		struct afm_poll *poll = &b->polls.items[i];
		const struct afm_future *future =
			&b->futures.items[b->poll_futures.items[poll->first_future]];
		if (poll->kind == AFM_P_ASYNC_BODY || poll->kind == AFM_P_GENERATOR) {
			poll->file = future->file;
			poll->line = future->line;
		}
	}
}

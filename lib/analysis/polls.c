/* SPDX-License-Identifier: MIT */
/*
 * Which function polls which future. Decided by the type behind `self`, not by names: symbols
 * cannot tell an async body from a closure, and one name may stand for several types.
 *
 * - A coroutine's body is a function called `{...}` whose first parameter is Pin<&mut X>, X a
 *   coroutine's state, and which returns Poll. (`{synthetic#0}`: an async closure called by
 *   value.)
 * - A hand-written poll is called `poll`, takes Pin<&mut X> and &mut Context, and returns Poll.
 *   A result of no size has no DW_AT_type at all.
 * - Before 1.64, rustc made two functions of an async fn: GenFuture<X>::poll, and a body without
 *   a described `self` that returns GeneratorState. Only the first is a poll.
 * - Executors enter a task through a function of their own, one per future type, that is
 *   out of line in every build: the task roots.
 */
#include <dwarf.h>
#include <stdlib.h>

#include "analysis/polls.h"
#include "patch/plan/result.h"

const char *af_die_name(struct af_builder *b, af_die_id id)
{
	struct af_die die;
	if (!af_die_at(b->info, id, &die))
		return "";
	const char *name = af_die_string(&die, DW_AT_name);
	return name ? name : "";
}

af_die_id af_die_first_member(struct af_builder *b, af_die_id id)
{
	struct af_walk walk;
	struct af_die die, child;
	unsigned int depth;

	if (!af_die_at(b->info, id, &die) || die.abbrev->tag != DW_TAG_structure_type)
		return AF_DIE_NONE;
	af_walk_start(&walk, &die);
	while (af_walk_next(&walk, &child, &depth)) {
		if (child.abbrev->tag == DW_TAG_member)
			return af_types_target(b, &child);
		af_walk_skip_children(&walk);
	}
	return AF_DIE_NONE;
}

af_die_id af_die_pointee(struct af_builder *b, af_die_id id)
{
	struct af_die die;
	if (!af_die_at(b->info, id, &die) || die.abbrev->tag != DW_TAG_pointer_type)
		return AF_DIE_NONE;
	return af_types_target(b, &die);
}

af_die_id af_die_unwrap_gen_future(struct af_builder *b, af_die_id id, bool *wrapped)
{
	*wrapped = !strncmp(af_die_name(b, id), "GenFuture<", 10);
	return *wrapped ? af_die_first_member(b, id) : id;
}

static bool returns_poll(struct af_builder *b, const struct af_function *f)
{
	return f->result == AF_DIE_NONE || !strncmp(af_die_name(b, f->result), "Poll<", 5);
}

/* Whether the symbol, where it tells, is that of a Future implementation. */
static bool symbol_allows(const char *symbol)
{
	return !symbol || strstr(symbol, "Future");
}

bool af_polls_match(struct af_builder *b, const struct af_function *f, struct af_match *match)
{
	bool wrapped;
	af_die_id self = f->params[0];

	if (!f->name || !f->n_params || strncmp(af_die_name(b, self), "Pin<&mut ", 9) ||
	    !returns_poll(b, f))
		return false;
	const char *pin = af_die_name(b, self);
	self = af_die_first_member(b, self);
	match->declared = NULL;
	if (self != AF_DIE_NONE)
		self = af_die_pointee(b, self);
	else if (!af_declared_match(pin, match))
		return false;
	if (self == AF_DIE_NONE && !match->declared)
		return false;
	if (f->name[0] == '{') {
		match->kind = AFM_P_ASYNC_BODY;
		match->future = self;
		match->coroutine = true;
		return af_name_is_coroutine(match->declared ? af_name_last(match->declared)
							    : af_die_name(b, self));
	}
	if (strcmp(f->name, "poll") && strncmp(f->name, "poll<", 5))
		return false;
	const char *context = af_die_name(b, af_die_pointee(b, f->params[1]));
	if (f->n_params < 2 || strncmp(context, "Context", 7) ||
	    (context[7] && context[7] != '<') || !symbol_allows(f->symbol))
		return false;
	match->future = af_die_unwrap_gen_future(b, self, &wrapped);
	match->coroutine = match->declared
				   ? af_name_is_coroutine(af_name_last(match->declared))
				   : wrapped && af_name_is_coroutine(af_die_name(b, match->future));
	match->kind = match->coroutine ? AFM_P_GENERATOR : AFM_P_HAND;
	return match->declared || match->future != AF_DIE_NONE;
}

uint32_t af_match_type(struct af_builder *b, const struct af_match *match)
{
	if (!match->declared)
		return af_types_intern(b, match->future);
	return af_declared_type(b, match->declared, match->declared_length);
}

bool af_polls_match_root(struct af_builder *b, const struct af_function *f, struct af_match *match)
{
	struct af_text path = {0};
	bool wrapped;

	if (!f->name || (strncmp(f->name, "poll<", 5) && strncmp(f->name, "run<", 4)))
		return false;
	af_name_path(b, af_function_home(f), &path);
	const char *where = af_text_get(&path);
	match->executor = 0;
	if (f->name[0] == 'p' && !strcmp(where, "tokio::runtime::task::raw"))
		match->executor = AFM_X_TOKIO;
	else if (f->name[0] == 'r' && !strncmp(where, "async_task::raw", 15))
		match->executor = AFM_X_ASYNC_TASK;
	af_text_deinit(&path);
	if (!match->executor)
		return false;
	match->kind = AFM_P_TASK_ROOT;
	match->future = af_die_unwrap_gen_future(b, af_function_template(b, f, 0), &wrapped);
	match->coroutine = af_name_is_coroutine(af_die_name(b, match->future));
	return match->future != AF_DIE_NONE;
}

/* Size of the result, and where Poll keeps its tag. */
static void describe_result(struct af_builder *b, af_die_id result, struct afm_poll *poll)
{
	struct af_walk walk;
	struct af_die die, child, tag, base;
	unsigned int depth;
	uint64_t number, discr = 0;
	bool has_discr = false;

	if (!af_die_at(b->info, result, &die))
		return;
	if (af_die_number(&die, DW_AT_byte_size, &number))
		poll->return_size = (uint32_t)number;
	af_walk_start(&walk, &die);
	while (af_walk_next(&walk, &child, &depth)) {
		switch (child.abbrev->tag) {
		case DW_TAG_variant_part:
			if (!af_die_at(b->info, af_die_reference(&child, DW_AT_discr), &tag))
				break;
			if (af_die_number(&tag, DW_AT_data_member_location, &number))
				poll->tag_offset = (uint32_t)number;
			if (af_die_at(b->info, af_types_target(b, &tag), &base) &&
			    af_die_number(&base, DW_AT_byte_size, &number))
				poll->tag_width = (uint16_t)number;
			break;
		case DW_TAG_variant:
			has_discr = af_die_number(&child, DW_AT_discr_value, &discr);
			break;
		case DW_TAG_member: {
			const char *name = af_die_string(&child, DW_AT_name);
			if (depth == 3 && has_discr && name && !strcmp(name, "Pending"))
				poll->pending = discr;
			break;
		}
		case DW_TAG_structure_type:
		case DW_TAG_subprogram:
			af_walk_skip_children(&walk);
		}
	}
	if (poll->tag_width && poll->tag_width < 8)
		poll->pending &= (UINT64_C(1) << poll->tag_width * 8) - 1;
}

/* Of a poll that is never ready, say, no caller needs to be told: LLVM then returns nothing, and leaves
   anything in the register. Debug info says that it took something away, but not what. */
static bool surely_returns(struct af_builder *b, const struct afm_poll *poll)
{
	uint64_t available;
	const uint8_t *code = af_object_bytes(b->object, poll->address, &available);

	return code && poll->size <= available && poll->tag_offset < 8 && poll->return_size <= 16 &&
	       af_plan_returns_value(b->object->machine, poll->address, code, poll->size);
}

/* The register of `self` at entry: as debug info says in optimised code; by the calling
   convention where the result surely travels in registers; else left to the first hit. */
static enum afm_register self_register(const struct af_function *f, const struct afm_poll *poll)
{
	bool located, fixed;

	if (poll->kind == AFM_P_TASK_ROOT)
		return AFM_R_RDI; /* called through a vtable: its signature is never changed */
	switch (af_function_self_register(f, poll->address, &located, &fixed)) {
	case 1 + 5:
		return AFM_R_RDI;
	case 1 + 4:
		return AFM_R_RSI;
	case 1 + 1:
		return AFM_R_RDX;
	case 0:
		break;
	default:
		return AFM_R_UNKNOWN;
	}
	if (located && fixed && poll->return_size <= 8 && !f->changed)
		return AFM_R_RDI;
	return AFM_R_UNKNOWN;
}

static void add_root(struct af_builder *b, struct afm_poll *poll, const struct af_match *match,
		     const char *name, uint32_t type, uint32_t future)
{
	struct afm_root *root = builder_push(b, roots);
	uint32_t *arguments = builder_push(b, root_arguments);
	if (!root || !arguments)
		return;
	*arguments = af_strings_add(&b->strings, strchr(name, '<'));
	*root = (struct afm_root){
		.executor = match->executor,
		.future = future,
		.future_type = type,
		.future_offset = AFM_NONE,
		.stage_offset = AFM_NONE,
		.cell_type = AFM_NONE,
		.step = AFM_NONE,
		.step_offset = AFM_NONE,
	};
	poll->root = (uint32_t)b->roots.count - 1;
}

static void add_poll(struct af_builder *b, const struct af_function *f,
		     const struct af_match *match, uint64_t address, uint64_t size)
{
	uint32_t type = af_match_type(b, match), future = AFM_NONE;

	if (type != AFM_NONE)
		future = af_futures_add(b, type, match->coroutine);
	if (future == AFM_NONE)
		return;
	struct afm_poll poll = {
		.address = address,
		.size = size > UINT32_MAX ? 0 : (uint32_t)size,
		.kind = (uint16_t)match->kind,
		.first_future = future,
		.n_params = f->n_params > 255 ? 255 : (uint8_t)f->n_params,
		.site = AFM_NONE,
		.root = AFM_NONE,
		.step = AFM_NONE,
	};
	poll.name = b->futures.items[future].name;
	poll.symbol = af_strings_add(&b->strings, f->symbol);
	af_name_place(b, af_function_home(f), &poll.file, &poll.line);
	if (match->kind == AFM_P_TASK_ROOT)
		add_root(b, &poll, match, f->name, type, future);
	else
		describe_result(b, f->result, &poll);
	if (f->changed && !surely_returns(b, &poll))
		poll.tag_width = 0;
	poll.self_register = (uint8_t)self_register(f, &poll);
	struct afm_poll *added = builder_push(b, polls);
	if (added)
		*added = poll;

	struct afm_future *entry = &b->futures.items[future];
	if (match->kind != AFM_P_TASK_ROOT)
		entry->flags |= AFM_UF_OUT_OF_LINE;
	/* A hand-written future is defined, as far as debug info knows, where its poll is. */
	if (match->kind == AFM_P_HAND && !entry->line) {
		entry->file = poll.file;
		entry->line = poll.line;
	}
}

/* The abstract instance of a poll that was inlined somewhere. */
static void add_inlined(struct af_builder *b, const struct af_function *f,
			const struct af_match *match)
{
	uint32_t type = af_match_type(b, match);
	if (type == AFM_NONE)
		return;
	uint32_t future = af_futures_add(b, type, match->coroutine);
	if (future == AFM_NONE)
		return;
	struct afm_future *entry = &b->futures.items[future];
	entry->flags |= AFM_UF_INLINED;
	if (match->kind == AFM_P_HAND && !entry->line)
		af_name_place(b, af_function_home(f), &entry->file, &entry->line);
}

/* A split function's ranges behind the first, which holds the entry. */
static void add_parts(struct af_builder *b, const struct af_die *die)
{
	struct af_ranges ranges;
	uint64_t entry, start, end;

	if (!af_ranges_start(&ranges, die) || !af_ranges_next(&ranges, &entry, &end))
		return;
	while (af_ranges_next(&ranges, &start, &end)) {
		struct af_part *part = end > start ? builder_push(b, parts) : NULL;
		if (part)
			*part = (struct af_part){entry, {start, end - start}};
	}
}

static void add_match(struct af_builder *b, const struct af_function *f,
		      const struct af_match *match)
{
	uint64_t address, size;

	if (af_die_entry(&f->dies[0], &address, &size)) {
		if (address > 1)
			add_poll(b, f, match, address, size);
		add_parts(b, &f->dies[0]);
	} else if (match->kind != AFM_P_TASK_ROOT) {
		add_inlined(b, f, match);
	}
}

static void collect_one(struct af_builder *b, const struct af_index *index,
			const struct af_found *found)
{
	const uint32_t wanted =
		AF_FOUND_BODY | AF_FOUND_POLL | AF_FOUND_RUN | AF_FOUND_UNNAMED | AF_FOUND_BLOCK_ON;
	struct af_function f;
	struct af_match match = {0};

	if (!(found->what & wanted))
		return;
	if (!(found->what & AF_FOUND_CONCRETE) && !af_index_inlined(index, found->offset))
		return;
	af_die_id id = (uint64_t)index->file->number << 32 | found->offset;
	if (!af_function_read(b, id, &f))
		return;
	if ((found->what & AF_FOUND_CONCRETE) &&
	    ((found->what & AF_FOUND_BLOCK_ON) || af_function_is_block_on(b, &f))) {
		af_die_id *kept = builder_push(b, block_ons);
		if (kept)
			*kept = id;
		return;
	}
	bool root = af_polls_match_root(b, &f, &match);
	if (!root && !af_polls_match(b, &f, &match))
		return;
	if (match.declared) {
		af_die_id *kept = builder_push(b, declared);
		if (kept)
			*kept = id;
	} else {
		add_match(b, &f, &match);
	}
}

void af_polls_collect(struct af_builder *b)
{
	for (size_t i = 0; i < b->info->files.count; i++) {
		const struct af_index *index = &b->indexes[i];
		for (size_t k = 0; k < index->functions.count && !b->failed; k++)
			collect_one(b, index, &index->functions.items[k]);
	}
}

void af_polls_declared(struct af_builder *b)
{
	struct af_function f;
	struct af_match match = {0};

	for (size_t i = 0; i < b->declared.count && !b->failed; i++)
		if (af_function_read(b, b->declared.items[i], &f) && af_polls_match(b, &f, &match))
			add_match(b, &f, &match);
}

static int compare_polls(const void *a, const void *b)
{
	const struct afm_poll *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	if (x->root != y->root) /* roots first */
		return x->root < y->root ? -1 : 1;
	return x->first_future < y->first_future ? -1 : x->first_future > y->first_future;
}

/* Makes one entry of all polls with one address; their futures follow each other. */
static void join_polls(struct af_builder *b)
{
	size_t kept = 0;

	for (size_t i = 0; i < b->polls.count;) {
		struct afm_poll poll = b->polls.items[i];
		uint32_t last = AFM_NONE, first = (uint32_t)b->poll_futures.count;
		for (; i < b->polls.count && b->polls.items[i].address == poll.address; i++) {
			uint32_t future = b->polls.items[i].first_future;
			if (future == last)
				continue;
			uint32_t *added = builder_push(b, poll_futures);
			if (!added)
				return;
			*added = last = future;
		}
		poll.first_future = first;
		poll.n_futures = (uint32_t)b->poll_futures.count - first;
		if (poll.n_futures > 1)
			poll.flags |= AFM_PF_AMBIGUOUS;
		if (poll.root != AFM_NONE)
			b->roots.items[poll.root].poll = (uint32_t)kept;
		b->polls.items[kept++] = poll;
	}
	b->polls.count = kept;
}

struct afm_poll *af_polls_at(const struct af_builder *b, uint64_t address)
{
	size_t low = 0, high = b->polls.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (b->polls.items[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	bool found = low < b->polls.count && b->polls.items[low].address == address;
	return found ? &b->polls.items[low] : NULL;
}

/* A symbol of another name at a poll's address: LLVM or the linker folded functions, and
   the one that is gone left no debug info. */
static void see_symbol(void *arg, const char *name, uint64_t address, uint64_t size)
{
	struct af_builder *b = arg;
	struct afm_poll *poll = af_polls_at(b, address);

	if (!poll)
		return;
	const char *symbol = af_strings_get(&b->strings, poll->symbol);
	/* LTO may rename a local symbol by a suffix (".llvm.123"). */
	if (*symbol && strncmp(name, symbol, strlen(symbol)))
		poll->flags |= AFM_PF_AMBIGUOUS;
}

static void link_futures(struct af_builder *b)
{
	for (uint32_t i = 0; i < b->futures.count; i++)
		b->futures.items[i].n_polls = 0;
	for (size_t p = 0; p < b->polls.count; p++) {
		const struct afm_poll *poll = &b->polls.items[p];
		if (poll->kind == AFM_P_TASK_ROOT)
			continue;
		for (uint32_t i = 0; i < poll->n_futures; i++)
			b->futures.items[b->poll_futures.items[poll->first_future + i]].n_polls++;
	}
	uint32_t at = 0;
	for (uint32_t i = 0; i < b->futures.count; i++) {
		b->futures.items[i].first_poll = at;
		at += b->futures.items[i].n_polls;
		b->futures.items[i].n_polls = 0;
	}
	if (!vector_reserve(&b->future_polls, at)) {
		b->failed = true;
		return;
	}
	b->future_polls.count = at;
	for (size_t p = 0; p < b->polls.count; p++) {
		const struct afm_poll *poll = &b->polls.items[p];
		if (poll->kind == AFM_P_TASK_ROOT)
			continue;
		for (uint32_t i = 0; i < poll->n_futures; i++) {
			struct afm_future *future =
				&b->futures.items[b->poll_futures.items[poll->first_future + i]];
			b->future_polls.items[future->first_poll + future->n_polls++] = (uint32_t)p;
		}
	}
}

void af_polls_complete(struct af_builder *b)
{
	vector_sort(&b->polls, compare_polls);
	join_polls(b);
	if (b->failed)
		return;
	/* Roots of folded polls point nowhere: an address has one root. */
	af_object_symbols(b->object, see_symbol, b);
	link_futures(b);
}

/* SPDX-License-Identifier: MIT */
/*
 * Sites -> patched text.
 *
 * Near the text one block of executable memory is made, which holds a cell for each function (block.c);
 * elsewhere the table of the hooks.
 *
 * Each function's entry becomes `jmp cell`, or where it has no room for that, a short jump to
 * padding near it, which becomes `jmp cell`, or on request, where there is none, int3 (traps.c).
 * The cells' call is over before the function begins, so none of its frames returns there, and what
 * unwinds through it needs to know only the stubs.
 */
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "patch/apply/patcher.h"
#include "patch/plan/site.h"

#define PAGES_TO_OPEN 50

static void *map_memory(uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

static uint64_t align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

static void refuse(struct afr_hooks *hooks, uint32_t reason)
{
	hooks->refused[reason < 64 ? reason : 63]++;
}

static bool is_park(const struct patcher *p, uint32_t h)
{
	return p->polls[h] != AFM_NONE && p->polls[h] >= p->map->header->polls.count;
}

static void refuse_hook(const struct patcher *p, uint32_t h, uint32_t reason)
{
	if (!is_park(p, h))
		refuse(p->hooks, reason);
}

static bool generated(const struct afm_poll *poll)
{
	return poll->kind != AFM_P_HAND;
}

/* Where it takes an int3: is that asked for, and possible? */
static enum af_refusal refuse_trap(const struct afm_poll *poll)
{
	if (af_trap_begin && af_trap_begin())
		return AF_REFUSAL_NONE;
	return poll->refusal ? poll->refusal : AF_REFUSAL_TOO_SHORT;
}

static uint64_t address_of(const struct patcher *p, uint32_t poll)
{
	uint32_t n = (uint32_t)p->map->header->polls.count;
	return poll < n ? af_futuremap_polls(p->map, poll)->address
			: af_futuremap_parks(p->map, poll - n)->address;
}

/* Functions that wait, where a driver may call them. */
static void select_parks(struct patcher *p, uint32_t first)
{
	const struct afm_header *h = p->map->header;
	for (uint32_t i = 0; h->stays.count && first < AFR_FUNCTIONS_MAX - 1 && i < h->parks.count;
	     i++) {
		uint32_t site = af_futuremap_parks(p->map, i)->site;
		if (site == AFM_NONE || af_futuremap_sites(p->map, site)->patch == AFM_PATCH_TRAP)
			continue;
		/* All by address. */
		uint64_t address = af_futuremap_parks(p->map, i)->address;
		uint32_t at = p->count++;
		for (; at && address_of(p, p->polls[at - 1]) > address; at--)
			p->polls[at] = p->polls[at - 1];
		p->polls[at] = (uint32_t)h->polls.count + i;
		p->block_size += af_cell_size(af_futuremap_sites(p->map, site));
	}
}

/* What is to be patched, and how large the block gets. */
static void select_polls(struct patcher *p, const struct af_filter *filter, uint32_t first)
{
	uint32_t n = p->map->header->polls.count;
	p->block_size = AF_CELLS_AT;
	for (uint32_t i = 0; i < n; i++) {
		const struct afm_poll *poll = af_futuremap_polls(p->map, i);
		enum af_refusal refusal = AF_REFUSAL_NONE;
		if (!af_filter_wants(filter, af_futuremap_string(p->map, poll->name),
				     af_futuremap_string(p->map, poll->file), generated(poll)))
			refusal = AF_REFUSAL_FILTERED;
		else if (poll->site == AFM_NONE)
			refusal = poll->refusal;
		else if (poll->n_params > 6)
			refusal = AF_REFUSAL_STACK_ARGUMENTS;
		else if (first + i >= AFR_FUNCTIONS_MAX - 1)
			refusal = AF_REFUSAL_TOO_MANY;
		else if (af_futuremap_is_trap(p->map, poll))
			refusal = refuse_trap(poll);
		if (refusal) {
			refuse(p->hooks, refusal);
			continue;
		}
		p->polls[p->count++] = i;
		p->n_traps += af_futuremap_is_trap(p->map, poll);
		p->block_size += af_cell_size(af_futuremap_sites(p->map, poll->site));
	}
	select_parks(p, first);
	p->block_size = align_up(p->block_size, 4096);
}

static bool text_is(const struct patcher *p, uint64_t address, const uint8_t *bytes, unsigned n)
{
	return address >= p->place->start && address + n <= p->place->end &&
	       !memcmp((void *)address, bytes, n);
}

/* Where the jump to the cell is written: at the entry, or in the hole of a short jump. */
static uint64_t jump_place(const struct patcher *p, const struct afm_site *site)
{
	uint64_t address = site->address + p->place->load_bias;
	return site->patch == AFM_PATCH_SHORT
		       ? address + AFM_PATCH_SHORT + (uint64_t)(int64_t)site->hole
		       : address;
}

static bool text_is_expected(const struct patcher *p, const struct afm_site *site)
{
	uint64_t address = site->address + p->place->load_bias;
	if (site->displaced < site->patch || site->displaced > AFM_SITE_ORIGINAL_MAX)
		return false;
	if (site->patch == AFM_PATCH_SHORT &&
	    (site->displaced + AFM_PATCH_NEAR > AFM_SITE_ORIGINAL_MAX ||
	     !text_is(p, jump_place(p, site), site->original + site->displaced, AFM_PATCH_NEAR)))
		return false;
	return text_is(p, address, site->original, site->displaced);
}

static const struct afm_site *site_of(const struct patcher *p, uint32_t h)
{
	uint32_t n = (uint32_t)p->map->header->polls.count;
	return af_futuremap_sites(p->map,
				  is_park(p, h) ? af_futuremap_parks(p->map, p->polls[h] - n)->site
						: af_futuremap_polls(p->map, p->polls[h])->site);
}

/* Many pages: they are copied now, and the jumps stored at once later. `pages` has room for one of
   each hook. */
static void prepare_text(struct patcher *p, uint64_t *pages)
{
	uint32_t n = 0;
	for (uint32_t h = 0; h < p->count; h++) {
		uint64_t address = site_of(p, h)->address + p->place->load_bias;
		uint64_t page = address & ~UINT64_C(4095);
		if (address < p->place->start || address >= p->place->end ||
		    (n && page < pages[n - 1]))
			return;
		if (!n || page != pages[n - 1])
			pages[n++] = page;
	}
	if (n < PAGES_TO_OPEN)
		return;
	af_text_find(&p->text, pages[0], pages[n - 1] + 4096);
	af_text_touch(&p->text, pages, n);
}

static af_stub *init_hook(const struct patcher *p, uint32_t h, struct af_hook *hook,
			  uint32_t first_function)
{
	uint32_t poll = p->polls[h], n = (uint32_t)p->map->header->polls.count;
	if (is_park(p, h))
		return af_hook_init_park(hook, af_futuremap_parks(p->map, poll - n),
					 p->place->index, first_function);
	return af_hook_init(hook, p->map, p->place->index, af_futuremap_polls(p->map, poll),
			    first_function + poll);
}

/* Fills the image; cells that cannot be are refused and left out (p->polls = AFM_NONE). */
static void fill_image(struct patcher *p, uint32_t first_function)
{
	uint64_t at = AF_CELLS_AT;
	af_block_put_ways(p);
	for (uint32_t h = 0; h < p->count; h++) {
		const struct afm_site *site = site_of(p, h);
		p->slots[h] = (uint32_t)((at - AF_CELLS_AT) / AF_CELL_SIZE);
		struct af_hook *hook = &p->table[p->slots[h]];
		af_stub *stub = init_hook(p, h, hook, first_function);
		enum af_refusal refusal = AF_REFUSAL_NONE;
		if (!text_is_expected(p, site))
			refusal = AF_REFUSAL_TEXT_DIFFERS;
		else if (!af_block_put_cell(p, hook, stub, site, at))
			refusal = AF_REFUSAL_OUT_OF_REACH;
		if (refusal) {
			refuse_hook(p, h, refusal);
			p->polls[h] = AFM_NONE;
			continue;
		}
		at += af_cell_size(site);
	}
}

/* The jump of hook `h` to its cell, which is written at *from; false if out of reach. */
static bool make_jump(const struct patcher *p, uint32_t h, uint64_t *from,
		      uint8_t jump[AFM_PATCH_NEAR])
{
	*from = jump_place(p, site_of(p, h));
	jump[0] = 0xe9;
	return af_put_displacement(jump + 1, *from + AFM_PATCH_NEAR,
				   (uint64_t)p->table[p->slots[h]].resume - AF_CELL_RESUME);
}

/* The holes come first, and all of them or none: a short jump must never lead to padding. */
static bool fill_holes(struct patcher *p)
{
	struct af_text_writer writer;
	uint8_t jump[AFM_PATCH_NEAR];
	uint64_t from;

	af_text_begin(&writer, true);
	for (uint32_t h = 0; h < p->count; h++)
		if (p->polls[h] != AFM_NONE && site_of(p, h)->patch == AFM_PATCH_SHORT &&
		    make_jump(p, h, &from, jump))
			af_text_write(&writer, from, jump, sizeof(jump));
	return !af_text_end(&writer);
}

static void publish(struct patcher *p)
{
	struct af_text_writer writer;
	bool holes = fill_holes(p);

	af_text_begin(&writer, true);
	if (af_text_open(&p->text))
		writer.open = &p->text;
	for (uint32_t h = 0; h < p->count; h++) {
		if (p->polls[h] == AFM_NONE)
			continue;
		const struct afm_site *site = site_of(p, h);
		if (site->patch == AFM_PATCH_TRAP)
			continue;
		uint8_t jump[AFM_PATCH_NEAR], short_jump[] = {0xeb, (uint8_t)site->hole};
		bool brief = site->patch == AFM_PATCH_SHORT;
		uint64_t from;
		if (!make_jump(p, h, &from, jump)) {
			refuse_hook(p, h, AF_REFUSAL_OUT_OF_REACH);
			continue;
		}
		if (brief && !holes) {
			refuse_hook(p, h, AF_REFUSAL_WRITE);
			continue;
		}
		af_text_write(&writer, site->address + p->place->load_bias,
			      brief ? short_jump : jump, brief ? sizeof(short_jump) : sizeof(jump));
		p->hooks->hooked += !is_park(p, h);
	}
	uint32_t failed = af_text_end(&writer);
	if (failed > p->hooks->hooked)
		failed = p->hooks->hooked;
	p->hooks->hooked -= failed;
	p->hooks->refused[AF_REFUSAL_WRITE] += failed;
}

/* An int3 is written when its handler knows where it leads to. */
static void publish_traps(struct patcher *p)
{
	struct af_text_writer writer;
	uint32_t n = 0;

	for (uint32_t h = 0; h < p->count; h++) {
		if (p->polls[h] == AFM_NONE || site_of(p, h)->patch != AFM_PATCH_TRAP)
			continue;
		uint64_t address = site_of(p, h)->address + p->place->load_bias;
		if (n && address <= p->traps[n - 1].address) {
			refuse(p->hooks, AF_REFUSAL_OVERLAP);
			continue;
		}
		p->traps[n++] = (struct af_trap){
			.address = address,
			.cell = (uint64_t)p->table[p->slots[h]].resume - AF_CELL_RESUME,
		};
	}
	af_trap_start(p->place->index, p->traps, n);
	af_text_begin(&writer, true);
	for (uint32_t i = 0; i < n; i++)
		af_text_write(&writer, p->traps[i].address, "\xcc", AFM_PATCH_TRAP);
	uint32_t failed = af_text_end(&writer);
	p->hooks->hooked += n - failed;
	p->hooks->trapped += n - failed;
	p->hooks->refused[AF_REFUSAL_WRITE] += failed;
}

static void refuse_rest(struct patcher *p)
{
	for (uint32_t h = 0; h < p->count; h++)
		if (p->polls[h] != AFM_NONE)
			refuse_hook(p, h, AF_REFUSAL_NO_MEMORY);
}

/* Room for the cells, and before it the page of their ways. */
static uint64_t reserve_block(const struct patcher *p)
{
	uint64_t at = af_near_reserve(p->place->start, p->place->end, AF_WAYS_SIZE + p->block_size);
	void *ways = at ? mmap((void *)at, AF_WAYS_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
			: MAP_FAILED;
	return ways == MAP_FAILED ? 0 : at + AF_WAYS_SIZE;
}

/* Hooks and room for the cells: those of the last time, if the object has been here before. */
static bool take_memory(struct patcher *p, struct af_patch_memory *memory)
{
	uint64_t table_size = p->block_size / AF_CELL_SIZE * sizeof(*p->table);
	if (!(p->image = map_memory(p->block_size)))
		return false;
	if (!memory->block) {
		memory->table = map_memory(table_size);
		memory->table_size = table_size;
		memory->block = reserve_block(p);
		memory->block_size = p->block_size;
		memory->traps_size = align_up(p->n_traps * sizeof(*p->traps), 4096);
		if (p->n_traps && !(memory->traps = map_memory(memory->traps_size)))
			memory->traps_size = 0;
	}
	p->traps = memory->traps;
	p->table = memory->table;
	p->block = memory->block;
	p->ways = (struct af_ways *)(memory->block - AF_WAYS_SIZE);
	return p->table && p->block && memory->table_size == table_size &&
	       memory->block_size == p->block_size &&
	       memory->traps_size >= p->n_traps * sizeof(*p->traps);
}

/* The cells are in place, or have been since the last time. */
static bool put_image(const struct patcher *p, struct af_patch_memory *memory)
{
	if (memory->filled)
		return !memcmp((void *)p->block, p->image, p->block_size);
	memory->filled = af_near_map(p->block, p->image, p->block_size);
	return memory->filled;
}

void af_patch_apply(const struct af_futuremap *map, const struct af_object_place *place,
		    const struct af_filter *filter, uint32_t first_function,
		    struct af_patch_memory *memory, struct afr_hooks *hooks)
{
	struct patcher p = {.map = map, .place = place, .hooks = hooks};
	uint32_t n = map->header->polls.count;
	hooks->functions += n;
	if (!n)
		return;
	uint32_t all = n + (uint32_t)map->header->parks.count;
	uint64_t polls_size = align_up((uint64_t)all * 2 * sizeof(*p.polls), 4096);
	if (!(p.polls = map_memory(polls_size))) {
		hooks->refused[AF_REFUSAL_NO_MEMORY] += n;
		return;
	}
	p.slots = p.polls + all;
	select_polls(&p, filter, first_function);
	af_record_decide = af_hook_decide;
	if (take_memory(&p, memory)) {
		if (!memory->filled)
			prepare_text(&p, (uint64_t *)p.table); /* which is not in use yet */
		fill_image(&p, first_function);
		if (put_image(&p, memory)) {
			publish(&p);
			publish_traps(&p);
		} else {
			refuse_rest(&p);
		}
	} else {
		refuse_rest(&p);
	}
	if (p.text.usable)
		close(p.text.file);
	if (p.image)
		munmap(p.image, p.block_size);
	munmap(p.polls, polls_size);
}

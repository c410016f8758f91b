/* SPDX-License-Identifier: MIT */
/*
 * Near the text one block of executable memory is made:
 *
 *   -4096  the ways (record/switch.h): the addresses of ways in and of enter parts, which lie in our
 *          library, too far for a displacement. Not code, and can be written to
 *   +0     for each stub, a way in. For the first block of the process, which may hold a thousand
 *          hot functions, it is the stub's af_main_ entry, else it is here:
 *              mov r10, table - 2 * r11 of the first cell
 *              lea r10, [r10 + 2 * r11]   now the hook
 *              jmp [rip + stub]
 *   +256   the ways past the stubs, for when recording is off, AF_OFFS times
 *              lea r11, [r11 + 6]
 *              jmp r11
 *          and the same for when the file is full: unless this is a new process
 *              movabs rax, [af_gate.shift]
 *              test rax, rax
 *              jz af_off_forked
 *          (Jumps to and from our library would cost more: it is far away, for a branch predictor.)
 *   +1344  cells, one per function, of 32 bytes, or 64 where the prologue needs them:
 *              lea r11, [rip + 6]         4c 8d 1d 06 00 00 00
 *              jmp [rip + ways.in]        ff 25 disp32
 *      r11:    call [rip + ways.enter]    ff 15 disp32
 *              displaced prologue, then jmp back
 *
 * Elsewhere lies the table of the hooks, one of 64 bytes for every 32 of the cells: so a cell need
 * not name its own. With a thousand hot functions it is the lines and pages of cells that cost. (For
 * the same reason the way in is not in the hook: a jump that is not predicted would wait for it.)
 */
#include <stddef.h>
#include <string.h>

#include "patch/apply/patcher.h"

#define CELL_HEAD (AF_CELL_RESUME + AF_CELL_ENTER)

uint64_t af_cell_size(const struct afm_site *site)
{
	return (CELL_HEAD + site->code_length + AF_CELL_SIZE - 1) / AF_CELL_SIZE * AF_CELL_SIZE;
}

bool af_put_displacement(uint8_t *field, uint64_t from, uint64_t target)
{
	int64_t displacement = (int64_t)(target - from);
	if (displacement != (int32_t)displacement)
		return false;
	int32_t value = (int32_t)displacement;
	memcpy(field, &value, sizeof(value));
	return true;
}

static af_stub *const stubs[AF_STUBS] = {
	af_stub_coroutine,	  af_stub_plain,	af_stub_tokio_root, af_stub_root,
	af_stub_driven_coroutine, af_stub_driven_plain, af_stub_park};
static af_stub *const enters[AF_STUBS] = {
	af_enter_coroutine, af_enter_plain, af_enter_tokio_root, af_enter_plain,
	af_enter_coroutine, af_enter_plain, af_enter_park};
static af_stub *const mains[AF_STUBS] = {
	af_main_coroutine,	  af_main_plain,	af_main_tokio_root, af_main_root,
	af_main_driven_coroutine, af_main_driven_plain, af_main_park};

/* At the head of the block, for each stub. */
struct way_in {
	uint8_t code[24];
	uint64_t stub;
};
_Static_assert(AF_STUBS * sizeof(struct way_in) <= AF_OFF_AT, "they lie before the cells");
_Static_assert(sizeof(struct af_ways) <= AF_WAYS_SIZE, "they have a page");
_Static_assert(sizeof(struct af_hook) == 2 * AF_CELL_SIZE,
	       "hook = 2 * r11 + what is the same for all");

static void put_ways_past(struct patcher *p)
{
	static const uint8_t off[] = {0x4d, 0x8d, 0x5b, AF_CELL_ENTER, 0x41, 0xff, 0xe3};
	uint64_t gate = (uint64_t)&af_gate.shift, forked = (uint64_t)af_off_forked;
	for (unsigned i = 0; i < AF_OFFS; i++) {
		uint8_t *code = p->image + AF_OFF_AT + i * AF_OFF_SIZE;
		memcpy(code, off, sizeof(off));
		code = p->image + AF_OFF_FULL_AT + i * AF_OFF_SIZE;
		memcpy(code, "\x48\xa1", 2);
		memcpy(code + 2, &gate, 8);
		memcpy(code + 10, "\x48\x85\xc0\x74\x07", 5);
		memcpy(code + 15, off, sizeof(off));
		memcpy(code + 22, "\xff\x25", 2);
		af_put_displacement(code + 24, AF_OFF_FULL_AT + i * AF_OFF_SIZE + 28, AF_FORKED_AT);
	}
	memcpy(p->image + AF_FORKED_AT, &forked, sizeof(forked));
	p->ways->off = p->block + AF_OFF_AT;
	p->ways->off_full = p->block + AF_OFF_FULL_AT;
}

void af_block_put_ways(struct patcher *p)
{
	uint64_t base = (uint64_t)p->table - 2 * (p->block + AF_CELLS_AT + AF_CELL_RESUME);
	/* The same one again, when its object has come back. */
	bool first = !af_main_hooks || af_main_hooks == base;
	if (first)
		af_main_hooks = base;
	for (unsigned i = 0; i < AF_STUBS; i++) {
		uint64_t at = p->block + i * sizeof(struct way_in);
		struct way_in way = {.stub = (uint64_t)stubs[i]};
		memcpy(way.code, "\x49\xba", 2);
		memcpy(way.code + 2, &base, 8);
		memcpy(way.code + 10, "\x4f\x8d\x14\x5a\xff\x25", 6);
		af_put_displacement(way.code + 16, at + 20, at + offsetof(struct way_in, stub));
		memcpy(p->image + i * sizeof(way), &way, sizeof(way));
		p->ways->on[i] = first ? (uint64_t)mains[i] : at;
		p->ways->enter[i] = (uint64_t)enters[i];
	}
	put_ways_past(p);
	af_switch_add(p->place->index, p->ways);
}

/* Makes the relocated code in `code` right for its place, `address`. */
static bool fix_up(const struct patcher *p, const struct afm_site *site, uint8_t *code,
		   uint64_t address)
{
	for (uint32_t i = 0; i < site->n_fixups; i++) {
		const struct afm_fixup *fixup = af_futuremap_fixups(p->map, site->first_fixup + i);
		uint64_t target = fixup->target + p->place->load_bias;
		if (fixup->kind == AFM_FIXUP_ADDRESS) {
			if (fixup->at + sizeof(target) > site->code_length)
				return false;
			memcpy(code + fixup->at, &target, sizeof(target));
		} else if (fixup->at + 4u > site->code_length ||
			   !af_put_displacement(code + fixup->at, address + fixup->at + fixup->next,
						target)) {
			return false;
		}
	}
	return true;
}

bool af_block_put_cell(struct patcher *p, struct af_hook *hook, af_stub *stub,
		       const struct afm_site *site, uint64_t at)
{
	unsigned which = 0;
	while (stubs[which] != stub)
		which++;
	uint8_t *cell = p->image + at;
	uint64_t address = p->block + at;
	memcpy(cell, "\x4c\x8d\x1d\x06\0\0\0\xff\x25", 9);
	af_put_displacement(cell + 9, address + AF_CELL_RESUME,
			    (uint64_t)&p->ways->in[which][at / AF_CELL_SIZE % AF_OFFS]);
	memcpy(cell + 13, "\xff\x15", 2);
	af_put_displacement(cell + 15, address + CELL_HEAD, (uint64_t)&p->ways->enter[which]);
	uint8_t *code = cell + CELL_HEAD;
	memcpy(code, af_futuremap_code(p->map, site->code), site->code_length);
	if (!fix_up(p, site, code, address + CELL_HEAD))
		return false;
	hook->resume = (void *)(address + AF_CELL_RESUME);
	return true;
}

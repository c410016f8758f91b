/* SPDX-License-Identifier: MIT */
/*
 * One site, as it was and relocated, on random states.
 */
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "subject.h"

#define ARENA UINT64_C(0x7e0000000000)
#define ARENA_SIZE (UINT64_C(1) << 20)
#define STACK UINT64_C(0x7f0000000000)
#define STACK_SIZE (UINT64_C(1) << 18)
#define TRIES 12 /* states, where accesses go nowhere */

uint64_t chance_seed = 1;

uint64_t chance(void)
{
	/* splitmix64 */
	uint64_t z = chance_seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void fill(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i + 8 <= size; i += 8) {
		/* Pointers among it, so that what is loaded can be followed. */
		uint64_t word = chance(), kind = word >> 62;
		word = kind == 0 ? ARENA + (word & (ARENA_SIZE - 1) & ~15ull) : word;
		word = kind == 1 ? word & 0xff : word;
		memcpy(bytes + i, &word, 8);
	}
}

/* --- states -------------------------------------------------------------------------- */

static uint64_t some_value(const struct subject *s)
{
	uint64_t r = chance();
	switch (r % 16) {
	case 0:
	case 1:
		return r >> 56;
	case 2:
		return r >> 32;
	case 3:
		return r;
	case 4:
		return -(r >> 58);
	case 5:
	case 6:
		return s->data + (r >> 8) % s->data_size;
	default:
		return ARENA + ARENA_SIZE / 4 + (r >> 8) % (ARENA_SIZE / 2) / 16 * 16;
	}
}

static void some_state(const struct subject *s, struct machine_state *state)
{
	for (unsigned i = 0; i < 16; i++)
		state->registers[i] = some_value(s);
	state->registers[MACHINE_RSP] = STACK + STACK_SIZE / 2 + 8;
	state->registers[MACHINE_EFLAGS] = 2 | (chance() & 0x8d5); /* of OF SF ZF AF PF CF */
	state->registers[MACHINE_EFLAGS + 1] = 0;
	state->registers[MACHINE_EFLAGS + 2] = 0x1f80;
	fill(state->xmm[0], sizeof(state->xmm));
}

/* --- one site ------------------------------------------------------------------------ */

static void count_kinds(struct counts *c, const struct af_site_plan *plan)
{
	for (unsigned i = 0; i < plan->n_fixups; i++) {
		const struct afm_fixup *f = &plan->fixups[i];
		const uint8_t *field = plan->code + f->at;
		if (f->kind == AFM_FIXUP_ADDRESS)
			c->calls++;
		else if (field[-1] == 0xe9)
			c->jumps += f->target != plan->address + plan->displaced;
		else if (f->at >= 2 && field[-2] == 0x0f && (field[-1] & 0xf0) == 0x80)
			c->conditional++;
		else
			c->relative++;
	}
}

/* Puts the relocated code where nothing was before, as patch/apply would; its address. */
static uint64_t put_cell(struct subject *s, const struct af_site_plan *plan)
{
	uint64_t address = s->next_cell;
	uint8_t *code = s->cell_bytes + (address - s->cells);

	s->next_cell += CELL_SPACING;
	if (s->next_cell + CELL_SPACING > s->cells + CELLS_SIZE)
		errx(2, "no more room for cells");
	memcpy(code, plan->code, plan->code_length);
	for (unsigned i = 0; i < plan->n_fixups; i++) {
		const struct afm_fixup *f = &plan->fixups[i];
		uint64_t target = f->target + s->bias;
		int64_t distance = (int64_t)(target - (address + f->at + f->next));
		if (f->kind == AFM_FIXUP_ADDRESS)
			memcpy(code + f->at, &target, 8);
		else if (distance == (int32_t)distance)
			memcpy(code + f->at, &distance, 4);
		else
			return 0;
	}
	return address;
}

static void print_bytes(const char *what, const uint8_t *bytes, unsigned n)
{
	fprintf(stderr, "  %s", what);
	for (unsigned i = 0; i < n; i++)
		fprintf(stderr, " %02x", bytes[i]);
	fputc('\n', stderr);
}

static void differ(struct subject *s, const struct af_site_plan *plan, const char *what,
		   const struct machine_outcome *a, const struct machine_outcome *b)
{
	if (s->counts.differences++ >= 20)
		return;
	fprintf(stderr, "%#" PRIx64 ": %s differs: ends %d at %#" PRIx64 ", %d at %#" PRIx64 "\n",
		plan->address, what, a->end, a->pc, b->end, b->pc);
	for (unsigned i = 0; i < MACHINE_REGISTERS; i++)
		if (a->state.registers[i] != b->state.registers[i])
			fprintf(stderr, "  register %u: %#" PRIx64 ", %#" PRIx64 "\n", i,
				a->state.registers[i], b->state.registers[i]);
	for (unsigned i = 0; i < a->n_writes && i < b->n_writes; i++) {
		if (!memcmp(&a->writes[i], &b->writes[i], sizeof(a->writes[i])))
			continue;
		fprintf(stderr, "  at %#" PRIx64 "\n", a->writes[i].address);
		print_bytes("originally", a->writes[i].bytes, a->writes[i].size);
		print_bytes("relocated ", b->writes[i].bytes, b->writes[i].size);
	}
	print_bytes("original ", plan->original, plan->displaced);
	print_bytes("relocated", plan->code, plan->code_length);
}

/*
 * What does not end alike each time for reasons of its own: flags that a shift by cl leaves
 * undefined (in the emulator they depend on how the block around it was translated), and what
 * keeps a program counter in memory: the emulator's `enter` of a nested procedure, the x87's
 * environment; clocks and chance. Returns the undefined flags.
 */
static uint64_t quirks(const struct subject *s, const struct af_site_plan *plan, bool *excused)
{
	const uint8_t *at = plan->original;
	size_t left = plan->displaced;
	uint64_t pc = plan->address, flags = 0;

	while (left && cs_disasm_iter(s->capstone, &at, &left, &pc, s->insn)) {
		/* Whoever reads them, reads something undefined. */
		*excused |= flags && s->insn->id != X86_INS_RET;
		/* clang-format off */
		switch (s->insn->id) {
		case X86_INS_SHL: case X86_INS_SHR: case X86_INS_SAL: case X86_INS_SAR:
		case X86_INS_ROL: case X86_INS_ROR: case X86_INS_RCL: case X86_INS_RCR:
		case X86_INS_SHLD: case X86_INS_SHRD:
			flags = 0x811; /* OF AF CF */
			break;
		case X86_INS_ENTER: case X86_INS_FNSTENV: case X86_INS_FNSAVE:
		case X86_INS_FXSAVE: case X86_INS_FXSAVE64:
		case X86_INS_RDTSC: case X86_INS_RDTSCP: case X86_INS_RDRAND: case X86_INS_RDSEED:
			*excused = true;
		}
		/* clang-format on */
	}
	return flags;
}

/* Whether the code at [start, end) was written to: it is not the same code any more. */
static bool writes_itself(const struct machine_outcome *o, uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < o->n_writes; i++)
		if (o->writes[i].address < end && o->writes[i].address + o->writes[i].size > start)
			return true;
	return false;
}

static const char *difference(const struct subject *s, const struct af_site_plan *plan,
			      struct machine_outcome *a, struct machine_outcome *b, bool *excused)
{
	const char *what = machine_difference(a, b);
	uint64_t start = plan->address + s->bias;
	if (!what)
		return NULL;
	uint64_t kept = ~quirks(s, plan, excused);
	*excused |= writes_itself(a, start, start + plan->displaced);
	/* The jump back is one step more. */
	*excused |= a->end == MACHINE_LIMIT || b->end == MACHINE_LIMIT;
	/* A trap after each instruction ends what has more of them. */
	*excused |=
		(a->state.registers[MACHINE_EFLAGS] | b->state.registers[MACHINE_EFLAGS]) & 0x100;
	a->state.registers[MACHINE_EFLAGS] &= kept;
	b->state.registers[MACHINE_EFLAGS] &= kept;
	return machine_difference(a, b);
}

static void compare(struct subject *s, const struct af_site_plan *plan, uint64_t cell)
{
	struct machine_outcome original, relocated;
	struct machine_state state;
	uint64_t start = plan->address + s->bias;
	bool unknown = false;
	unsigned good = 0;

	for (unsigned i = 0; i < TRIES && good < s->states && !unknown; i++) {
		some_state(s, &state);
		machine_run(s->machine, start, start + plan->displaced, &state, &original);
		machine_run(s->machine, cell, cell + plan->code_length, &state, &relocated);
		bool excused = false;
		const char *what = difference(s, plan, &original, &relocated, &excused);
		if (what && excused) {
			s->counts.unsteady++;
			return;
		}
		if (what) {
			/* rdtsc and the like do not even agree with themselves. */
			machine_run(s->machine, start, start + plan->displaced, &state, &relocated);
			if (machine_difference(&original, &relocated)) {
				s->counts.unsteady++;
				return;
			}
			machine_run(s->machine, cell, cell + plan->code_length, &state, &relocated);
			differ(s, plan, what, &original, &relocated);
			return;
		}
		good += original.end == MACHINE_LEFT || original.end == MACHINE_LIMIT;
		unknown = original.end == MACHINE_INVALID;
	}
	s->counts.compared += good > 0;
	s->counts.unknown += !good && unknown;
	s->counts.faulted += !good && !unknown;
}

void subject_consider(struct subject *s, const struct af_plan_function *function)
{
	struct af_site_plan plan;
	struct counts *c = &s->counts;

	c->functions++;
	enum af_refusal refusal =
		af_planner_plan(s->planner, &s->text, function, AFM_PATCH_NEAR, &plan);
	bool brief = refusal && s->holes && af_refusal_of_length(refusal) &&
		     !af_planner_plan(s->planner, &s->text, function, AFM_PATCH_SHORT, &plan) &&
		     af_holes_take(s->holes, plan.address + AFM_PATCH_SHORT);
	uint64_t cell = refusal && !brief ? 0 : put_cell(s, &plan);
	if (!cell) {
		refusal = refusal && !brief ? refusal : AF_REFUSAL_OUT_OF_REACH;
		c->refused[refusal]++;
		return;
	}
	c->accepted++;
	c->brief += brief;
	c->near += !brief;
	if (s->print)
		printf("%" PRIx64 " %" PRIx64 " %u\n", function->address, plan.address,
		       plan.patch > plan.displaced ? plan.patch : plan.displaced);
	count_kinds(c, &plan);
	compare(s, &plan, cell);
}

void subject_set_up(struct subject *s, uint64_t low, uint64_t high)
{
	s->machine = machine_create();
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &s->capstone) || !(s->insn = cs_malloc(s->capstone)))
		errx(2, "capstone");
	fill(machine_map(s->machine, ARENA, ARENA_SIZE), ARENA_SIZE);
	fill(machine_map(s->machine, STACK, STACK_SIZE), STACK_SIZE);
	/* Now below, now above the code. */
	s->cells = chance() & 1 ? high + (64 << 20) : low - CELLS_SIZE - (64 << 20);
	s->cell_bytes = machine_map(s->machine, s->cells, CELLS_SIZE);
	s->next_cell = s->cells;
}

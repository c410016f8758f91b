/* SPDX-License-Identifier: MIT */
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <unicorn/unicorn.h>

#include "machine.h"

#define REGIONS 16
#define STEPS 200

struct region {
	uint64_t address, size;
	uint8_t *bytes;
};

struct machine {
	uc_engine *uc;
	uc_context *fresh; /* a processor that has run nothing */
	struct region regions[REGIONS];
	/* of the current run */
	uint64_t start, end, outside;
	bool left, too_long;
	unsigned steps;
	struct machine_outcome *outcome;
	uint8_t old[MACHINE_WRITES][32];
};

static int register_ids[MACHINE_REGISTERS + 16] = {
	UC_X86_REG_RAX,	  UC_X86_REG_RCX,    UC_X86_REG_RDX,   UC_X86_REG_RBX,	 UC_X86_REG_RSP,
	UC_X86_REG_RBP,	  UC_X86_REG_RSI,    UC_X86_REG_RDI,   UC_X86_REG_R8,	 UC_X86_REG_R9,
	UC_X86_REG_R10,	  UC_X86_REG_R11,    UC_X86_REG_R12,   UC_X86_REG_R13,	 UC_X86_REG_R14,
	UC_X86_REG_R15,	  UC_X86_REG_EFLAGS, UC_X86_REG_FPSW,  UC_X86_REG_MXCSR, UC_X86_REG_XMM0,
	UC_X86_REG_XMM1,  UC_X86_REG_XMM2,   UC_X86_REG_XMM3,  UC_X86_REG_XMM4,	 UC_X86_REG_XMM5,
	UC_X86_REG_XMM6,  UC_X86_REG_XMM7,   UC_X86_REG_XMM8,  UC_X86_REG_XMM9,	 UC_X86_REG_XMM10,
	UC_X86_REG_XMM11, UC_X86_REG_XMM12,  UC_X86_REG_XMM13, UC_X86_REG_XMM14, UC_X86_REG_XMM15,
};

static void must(uc_err error, const char *what)
{
	if (error)
		errx(2, "unicorn: %s: %s", what, uc_strerror(error));
}

/* --- what Unicorn tells -------------------------------------------------------------- */

static void see_code(uc_engine *uc, uint64_t address, uint32_t size, void *arg)
{
	struct machine *m = arg;

	if (address >= m->start && address < m->end) {
		m->too_long = ++m->steps > STEPS;
		if (!m->too_long)
			return;
	} else {
		m->left = true;
		m->outside = address;
	}
	uc_emu_stop(uc);
}

static uint8_t *memory(struct machine *m, uint64_t address, uint64_t size)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		const struct region *r = &m->regions[i];
		if (r->bytes && address >= r->address && address - r->address < r->size &&
		    r->size - (address - r->address) >= size)
			return r->bytes + (address - r->address);
	}
	return NULL;
}

static void see_write(uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value,
		      void *arg)
{
	struct machine *m = arg;
	struct machine_outcome *o = m->outcome;
	const uint8_t *bytes = memory(m, address, size);

	/* To no memory: it will fault. */
	if (!bytes)
		return;
	if (size > 32 || o->n_writes == MACHINE_WRITES)
		errx(2, "a write of %d bytes at %#lx cannot be undone", size, address);
	memcpy(m->old[o->n_writes], bytes, size);
	o->writes[o->n_writes++] = (struct machine_write){.address = address, .size = size};
	if (o->n_writes == MACHINE_WRITES - 4) {
		m->too_long = true;
		uc_emu_stop(uc);
	}
}

/* --- the machine --------------------------------------------------------------------- */

struct machine *machine_create(void)
{
	struct machine *m = calloc(1, sizeof(*m));
	uc_hook hook;

	if (!m)
		err(2, "machine");
	must(uc_open(UC_ARCH_X86, UC_MODE_64, &m->uc), "open");
	must(uc_hook_add(m->uc, &hook, UC_HOOK_CODE, see_code, m, 1, 0), "hook");
	must(uc_hook_add(m->uc, &hook, UC_HOOK_MEM_WRITE, see_write, m, 1, 0), "hook");
	must(uc_context_alloc(m->uc, &m->fresh), "context");
	must(uc_context_save(m->uc, m->fresh), "context");
	return m;
}

void machine_destroy(struct machine *m)
{
	uc_context_free(m->fresh);
	uc_close(m->uc);
	for (unsigned i = 0; i < REGIONS; i++)
		if (m->regions[i].bytes)
			munmap(m->regions[i].bytes, m->regions[i].size);
	free(m);
}

uint8_t *machine_map(struct machine *m, uint64_t address, uint64_t size)
{
	struct region *region = m->regions;

	while (region->bytes)
		if (++region == m->regions + REGIONS)
			errx(2, "too many regions");
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bytes == MAP_FAILED)
		err(2, "mmap");
	must(uc_mem_map_ptr(m->uc, address, size, UC_PROT_ALL, bytes), "map");
	*region = (struct region){address, size, bytes};
	return bytes;
}

void machine_unmap(struct machine *m, uint64_t address)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		struct region *r = &m->regions[i];
		if (!r->bytes || r->address != address)
			continue;
		must(uc_mem_unmap(m->uc, r->address, r->size), "unmap");
		munmap(r->bytes, r->size);
		*r = (struct region){0};
	}
}

static void pointers(struct machine_state *state, void *values[])
{
	for (unsigned i = 0; i < MACHINE_REGISTERS; i++)
		values[i] = &state->registers[i];
	for (unsigned i = 0; i < 16; i++)
		values[MACHINE_REGISTERS + i] = state->xmm[i];
}

static enum machine_end how_it_ended(const struct machine *m, uc_err error, uint64_t pc)
{
	if (m->too_long)
		return MACHINE_LIMIT;
	if (m->left)
		return MACHINE_LEFT;
	switch (error) {
	case UC_ERR_FETCH_UNMAPPED:
	case UC_ERR_FETCH_PROT:
		return MACHINE_LEFT;
	case UC_ERR_OK: /* and yet inside: so it says of some exceptions */
		return pc >= m->start && pc < m->end ? MACHINE_EXCEPTION : MACHINE_LEFT;
	case UC_ERR_INSN_INVALID:
		return MACHINE_INVALID;
	case UC_ERR_EXCEPTION:
		return MACHINE_EXCEPTION;
	default:
		return MACHINE_FAULT;
	}
}

void machine_run(struct machine *m, uint64_t start, uint64_t end, const struct machine_state *state,
		 struct machine_outcome *outcome)
{
	void *values[MACHINE_REGISTERS + 16];
	struct machine_state before = *state;
	uint64_t pc;

	memset(outcome, 0, sizeof(*outcome));
	m->outcome = outcome;
	m->start = start;
	m->end = end;
	m->left = m->too_long = false;
	m->steps = 0;
	pointers(&before, values);
	must(uc_context_restore(m->uc, m->fresh), "context");
	must(uc_reg_write_batch(m->uc, register_ids, values, MACHINE_REGISTERS + 16), "write");
	uc_err error = uc_emu_start(m->uc, start, end, 0, 0);
	must(uc_reg_read(m->uc, UC_X86_REG_RIP, &pc), "read");
	pointers(&outcome->state, values);
	must(uc_reg_read_batch(m->uc, register_ids, values, MACHINE_REGISTERS + 16), "read");
	outcome->pc = m->left ? m->outside : pc;
	outcome->end = how_it_ended(m, error, pc);
	for (unsigned i = 0; i < outcome->n_writes; i++) {
		struct machine_write *w = &outcome->writes[i];
		memcpy(w->bytes, memory(m, w->address, w->size), w->size);
	}
	for (unsigned i = outcome->n_writes; i-- > 0;) {
		const struct machine_write *w = &outcome->writes[i];
		memcpy(memory(m, w->address, w->size), m->old[i], w->size);
	}
}

const char *machine_difference(const struct machine_outcome *a, const struct machine_outcome *b)
{
	if (a->end != b->end)
		return "how it ends";
	if (a->end == MACHINE_FAULT || a->end == MACHINE_INVALID || a->end == MACHINE_EXCEPTION)
		return NULL;
	if (a->end == MACHINE_LEFT && a->pc != b->pc)
		return "where it goes on";
	if (memcmp(a->state.registers, b->state.registers, sizeof(a->state.registers)))
		return "a register";
	if (memcmp(a->state.xmm, b->state.xmm, sizeof(a->state.xmm)))
		return "a vector register";
	if (a->n_writes != b->n_writes ||
	    memcmp(a->writes, b->writes, a->n_writes * sizeof(a->writes[0])))
		return "memory";
	return NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * From frame to frame by unwind tables; and a frame pointer that nobody has saved, by code.
 */
#include "runtimes/unwind.h"

#include "runtimes/expression.h"
#include "runtimes/prologue.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_ROWS 256 /* of a function's unwind table */
#define MAX_CALL 7   /* bytes of a call instruction */
#define MAX_LOCALS 65536u
#define SMALL_FRAME 192u
#define FEW_FRAMES 4

struct af_unwind_file {
	bool tried;
	int fd;
	Elf *elf;
	Dwarf_CFI *cfi;
};

struct af_error *af_unwinder_init(struct af_unwinder *u, struct af_process *process)
{
	u->process = process;
	u->files = calloc(process->modules.count + 1, sizeof(*u->files));
	return u->files ? NULL : af_error_create("out of memory");
}

void af_unwinder_deinit(struct af_unwinder *u)
{
	for (size_t i = 0; u->files && i < u->process->modules.count; i++) {
		struct af_unwind_file *file = &u->files[i];
		if (!file->elf)
			continue;
		dwarf_cfi_end(file->cfi);
		elf_end(file->elf);
		close(file->fd);
	}
	free(u->files);
	u->files = NULL;
}

/* Opens the module's file, if it is the one that was loaded. */
static void open_file(const struct af_module *module, struct af_unwind_file *file)
{
	const void *id;
	file->tried = true;
	file->fd = module->file ? open(module->file, O_RDONLY | O_CLOEXEC) : -1;
	if (file->fd < 0)
		return;
	elf_version(EV_CURRENT);
	file->elf = elf_begin(file->fd, ELF_C_READ_MMAP, NULL);
	ssize_t size = file->elf ? dwelf_elf_gnu_build_id(file->elf, &id) : -1;
	bool same =
		!module->build_id_size || (size == (ssize_t)module->build_id_size &&
					   !memcmp(id, module->build_id, module->build_id_size));
	if (file->elf && same)
		file->cfi = dwarf_getcfi_elf(file->elf);
	if (file->cfi)
		return;
	elf_end(file->elf);
	close(file->fd);
	file->elf = NULL;
}

static Dwarf_CFI *find_cfi(struct af_unwinder *u, uint32_t module)
{
	if (module == AFM_NONE)
		return NULL;
	struct af_unwind_file *file = &u->files[module];
	if (!file->tried)
		open_file(&u->process->modules.items[module], file);
	return file->cfi;
}

static uint32_t module_of(struct af_unwinder *u, uint64_t pc)
{
	const struct af_module *module = af_process_module(u->process, pc);
	return module ? (uint32_t)(module - u->process->modules.items) : AFM_NONE;
}

/* What register `number` was in the caller: 1 known, 0 not, -1 there is none (the stack ends). */
static int caller_register(struct af_expression_frame *c, Dwarf_Frame *row, int number,
			   uint64_t *value)
{
	Dwarf_Op memory[3], *ops;
	size_t n;
	bool is_value;
	if (dwarf_frame_register(row, number, memory, &ops, &n) < 0)
		return 0;
	if (!n) {
		/* The same place means undefined, NULL means unchanged. Of registers that a table does
		   not mention libdw takes those that callees keep as unchanged, but rax (0) for rbx (3). */
		bool kept = number && (ops != memory || number == 3);
		return kept ? af_expression_register(c, (uint64_t)number, value) : -1;
	}
	if (!af_expression_value(c, ops, n, value, &is_value))
		return 0;
	return is_value || af_memory_read_u64(c->memory, *value, value);
}

/* A frame pointer that nobody below has saved */

/* Whether the CFA is register `number` plus `offset`: libdw says so with DW_OP_bregx. */
static bool is_cfa(const Dwarf_Op *ops, size_t n, uint64_t number, uint64_t offset)
{
	return n == 1 && ops->atom == DW_OP_bregx && ops->number == number &&
	       ops->number2 == offset;
}

/* At a function's entry nothing but the return address has been pushed. */
static bool has_entry_cfa(Dwarf_Frame *row)
{
	Dwarf_Op *ops;
	size_t n;
	return dwarf_frame_cfa(row, &ops, &n) == 0 && is_cfa(ops, n, AF_REGISTER_SP, 8);
}

/* Whether link-time `entry` begins the function that holds `pc`: its table begins there, and goes
   on without a gap. */
static bool begins_function(Dwarf_CFI *cfi, uint64_t entry, uint64_t pc)
{
	uint64_t at = entry;
	for (int i = 0; i < MAX_ROWS && at <= pc; i++) {
		Dwarf_Frame *row;
		Dwarf_Addr start, end;
		bool is_signal;
		if (dwarf_cfi_addrframe(cfi, at, &row) < 0)
			return false;
		bool good = dwarf_frame_info(row, &start, &end, &is_signal) >= 0 && end > at &&
			    (at != entry || (start == entry && has_entry_cfa(row)));
		free(row);
		if (!good)
			return false;
		if (pc < end)
			return true;
		at = end;
	}
	return false;
}

/* What instruction stands before an address that may be a return address. */
enum call { CALL_NONE, CALL_TO, CALL_INDIRECT };

/* call rel32 (E8), call [rip + rel32] (FF 15), and other forms of FF /2, which are 2, 3, 4, 6 or
   7 bytes long; Intel SDM, volume 2, CALL. Only the first two tell where they go. */
static enum call find_call(struct af_expression_frame *c, uint64_t back, uint64_t *target)
{
	uint8_t code[8];
	int32_t distance;
	if (!af_memory_read(c->memory, back - sizeof(code), code, sizeof(code)))
		return CALL_NONE;
	memcpy(&distance, code + 4, sizeof(distance));
	if (code[3] == 0xe8) {
		*target = back + (uint64_t)(int64_t)distance;
		return CALL_TO;
	}
	if (code[2] == 0xff && code[3] == 0x15)
		return af_memory_read_u64(c->memory, back + (uint64_t)(int64_t)distance, target)
			       ? CALL_TO
			       : CALL_INDIRECT;
	static const uint8_t lengths[] = {2, 3, 4, 6, 7};
	for (size_t i = 0; i < sizeof(lengths); i++) {
		const uint8_t *at = code + sizeof(code) - lengths[i];
		if (at[0] == 0xff && (at[1] & 0x38) == 0x10)
			return CALL_INDIRECT;
	}
	return CALL_NONE;
}

/* Unoptimised code loads the address of a function of another crate (48 8B 05: mov rax, [rip +
   rel32]) and calls it some instructions later. Whether one of the last loads before `back` is of
   the function that the frame is in. */
static bool loads_function(struct af_unwinder *u, struct af_expression_frame *c, Dwarf_CFI *cfi,
			   uint64_t back)
{
	uint8_t code[96];
	uint64_t target, bias = u->process->modules.items[c->frame->module].bias;
	if (!af_memory_read(c->memory, back - sizeof(code), code, sizeof(code)))
		return false;
	for (size_t i = 0; i + 7 <= sizeof(code); i++) {
		int32_t distance;
		uint64_t next = back - sizeof(code) + i + 7;
		if (code[i] != 0x48 || code[i + 1] != 0x8b || code[i + 2] != 0x05)
			continue;
		memcpy(&distance, code + i + 3, sizeof(distance));
		if (af_memory_read_u64(c->memory, next + (uint64_t)(int64_t)distance, &target) &&
		    target <= c->frame->pc && target >= bias &&
		    begins_function(cfi, target - bias, c->frame->pc - bias))
			return true;
	}
	return false;
}

enum step { STEP_ON, STEP_END, STEP_LOST };
static enum step step(struct af_unwinder *u, struct af_memory *memory, struct af_frame *frame,
		      bool *is_signal, struct af_frame *caller);

/* Whether the stack goes on to its end within `most` frames, if the frame pointer is `rbp`. */
static bool ends(struct af_unwinder *u, struct af_expression_frame *c, uint64_t rbp, int most)
{
	struct af_frame frame = *c->frame, caller;
	bool is_signal;
	enum step result = STEP_ON;
	frame.registers[6] = rbp;
	frame.known |= 1u << 6;
	for (int i = 0; i < most && result == STEP_ON; i++) {
		result = step(u, c->memory, &frame, &is_signal, &caller);
		frame = caller;
		frame.module = module_of(u, --frame.pc);
	}
	return result == STEP_END;
}

/* Puts the first instructions of a function that is hooked in their place again: they stand in its
   cell (patch/apply/apply.c), behind its head and before a jump to what comes then. */
static void undo_hook(struct af_memory *memory, uint64_t entry, uint8_t *code, size_t size)
{
	static const uint8_t head[] = {0x4c, 0x8d, 0x1d, 6, 0, 0, 0, 0xff, 0x25};
	uint8_t cell[19 + 32];
	int32_t distance;
	memcpy(&distance, code + 1, sizeof(distance));
	uint64_t at = entry + 5 + (uint64_t)(int64_t)distance;
	if (code[0] != 0xe9 || !af_memory_read(memory, at, cell, sizeof(cell)) ||
	    memcmp(cell, head, sizeof(head)) != 0)
		return;
	for (size_t n = 5; n <= 20 && n < size && 19 + n + 5 <= sizeof(cell); n++) {
		memcpy(&distance, cell + 19 + n + 1, sizeof(distance));
		uint64_t to = at + 19 + n + 5 + (uint64_t)(int64_t)distance;
		if (cell[19 + n] != 0xe9 || to != entry + n)
			continue;
		memcpy(code, cell + 19, n);
		return;
	}
}

static bool read_code(struct af_memory *memory, uint64_t entry, uint8_t *code, size_t size)
{
	if (!af_memory_read(memory, entry, code, size))
		return false;
	undo_hook(memory, entry, code, size);
	return true;
}

/* The entry of the function that the frame is in, by its unwind table: the last place before at which
   nothing was pushed and the code makes a frame; 0 if none is found. *below: how deep that is. */
static uint64_t find_entry(struct af_unwinder *u, struct af_expression_frame *c, Dwarf_CFI *cfi,
			   uint64_t *below)
{
	uint64_t bias = u->process->modules.items[c->frame->module].bias;
	uint64_t pc = c->frame->pc - bias, at = pc;
	for (int i = 0; i < MAX_ROWS; i++) {
		Dwarf_Frame *row;
		Dwarf_Addr start, end;
		bool is_signal;
		uint8_t code[48];
		if (dwarf_cfi_addrframe(cfi, at, &row) < 0)
			return 0;
		bool entry = has_entry_cfa(row);
		bool good = dwarf_frame_info(row, &start, &end, &is_signal) >= 0 && start &&
			    start <= at;
		free(row);
		if (!good)
			return 0;
		/* `ret` behind `pop rbp` has such a row as well. */
		if (entry && read_code(c->memory, start + bias, code, sizeof(code)) &&
		    af_prologue_depth(code, sizeof(code), below) && begins_function(cfi, start, pc))
			return start + bias;
		at = start - 1;
	}
	return 0;
}

/* The frame pointer by how deep the function's own code makes its frame, if a return address lies
   where that must be. */
static bool find_by_prologue(struct af_unwinder *u, struct af_expression_frame *c, Dwarf_CFI *cfi,
			     uint64_t *rbp)
{
	uint64_t below, back, target, entry = find_entry(u, c, cfi, &below);
	if (!entry)
		return false;
	*rbp = c->frame->registers[AF_REGISTER_SP] + below;
	if (!af_memory_read_u64(c->memory, *rbp + 8, &back))
		return false;
	const struct af_module *module = af_process_module(u->process, back);
	if (!module || back < module->text || back >= module->text_end)
		return false;
	enum call call = find_call(c, back, &target);
	if (call != CALL_TO || target == entry)
		return call != CALL_NONE;
	/* Another function was called, and has gone on to this one by a jump (a tail call). */
	u->guesses = true;
	bool fits = ends(u, c, *rbp, AF_MAX_FRAMES);
	u->guesses = false;
	return fits;
}

/*
 * A function with a frame pointer keeps its return address at [rbp + 8]. So, rbp unknown: the
 * first place above the stack pointer that holds a return address behind a call of this very
 * function; what lies nearer is of this function's own frame. A thread's first function is
 * called through a pointer, by a library that polls nothing: there the stack must end soon. And a
 * small function (futex_wait) may be called through a register: there it must go on to its end
 * without another doubt. For both, no other return address may lie before.
 */
static bool find_frame_pointer(struct af_unwinder *u, struct af_expression_frame *c, Dwarf_CFI *cfi,
			       uint64_t *rbp)
{
	const struct af_frame *frame = c->frame;
	uint64_t bias = u->process->modules.items[frame->module].bias;
	uint64_t sp = frame->registers[AF_REGISTER_SP];
	bool first = true;
	if (u->guesses || !(frame->known & 1u << AF_REGISTER_SP))
		return false;
	if (find_by_prologue(u, c, cfi, rbp))
		return true;
	for (uint64_t at = sp; at < sp + MAX_LOCALS; at += 8) {
		uint64_t back, target;
		if (!af_memory_read_u64(c->memory, at, &back))
			return false;
		const struct af_module *module = af_process_module(u->process, back);
		if (!module || back < module->text || back >= module->text_end)
			continue;
		enum call call = find_call(c, back, &target);
		if (call == CALL_NONE)
			continue;
		*rbp = at - 8;
		if (call == CALL_TO && target <= frame->pc && target >= bias &&
		    begins_function(cfi, target - bias, frame->pc - bias))
			return true;
		if (call == CALL_INDIRECT && loads_function(u, c, cfi, back))
			return true;
		bool library = module->image == AFM_NONE;
		bool near = call == CALL_INDIRECT && at - sp < SMALL_FRAME;
		u->guesses = true;
		bool fits = first && (library || near) &&
			    ends(u, c, at - 8, library ? FEW_FRAMES : AF_MAX_FRAMES);
		u->guesses = false;
		if (fits)
			return true;
		first = false;
	}
	return false;
}

/* Steps */

static bool find_cfa(struct af_unwinder *u, struct af_expression_frame *c, struct af_frame *frame,
		     Dwarf_CFI *cfi, Dwarf_Frame *row)
{
	Dwarf_Op *ops;
	size_t n;
	bool is_value;
	const uint32_t rbp = 1u << 6;
	if (dwarf_frame_cfa(row, &ops, &n) < 0 || !n)
		return false;
	c->missing = 0;
	if (!af_expression_value(c, ops, n, &frame->cfa, &is_value)) {
		if (c->missing != rbp || !is_cfa(ops, n, 6, 16) ||
		    !find_frame_pointer(u, c, cfi, &frame->registers[6]))
			return false;
		frame->known |= rbp;
		frame->cfa = frame->registers[6] + 16;
	}
	c->has_cfa = true;
	return true;
}

/* The caller of `frame`, whose `cfa` is set on the way. */
static enum step step(struct af_unwinder *u, struct af_memory *memory, struct af_frame *frame,
		      bool *is_signal, struct af_frame *caller)
{
	struct af_expression_frame context = {.memory = memory, .frame = frame};
	Dwarf_CFI *cfi = find_cfi(u, frame->module);
	Dwarf_Frame *row;
	Dwarf_Addr start, end;
	if (!cfi ||
	    dwarf_cfi_addrframe(cfi, frame->pc - u->process->modules.items[frame->module].bias,
				&row) < 0)
		return STEP_LOST;
	int back = dwarf_frame_info(row, &start, &end, is_signal);
	bool placed = back >= 0 && find_cfa(u, &context, frame, cfi, row);
	int known = 0;
	memset(caller, 0, sizeof(*caller));
	for (int i = 0; placed && i < AF_REGISTERS; i++) {
		int found = caller_register(&context, row, i, &caller->registers[i]);
		if (i == back)
			known = found;
		if (found > 0)
			caller->known |= 1u << i;
	}
	free(row);
	if (!placed)
		return STEP_LOST;
	if (known <= 0)
		return known < 0 ? STEP_END : STEP_LOST;
	caller->registers[AF_REGISTER_SP] = frame->cfa;
	caller->pc = caller->registers[back];
	caller->registers[AF_REGISTER_PC] = caller->pc;
	caller->known |= 1u << AF_REGISTER_SP | 1u << AF_REGISTER_PC;
	return caller->pc ? STEP_ON : STEP_END;
}

void af_unwind(struct af_unwinder *u, struct af_memory *memory,
	       const struct af_process_thread *thread, struct af_stack_trace *trace)
{
	const uint32_t least = 1u << AF_REGISTER_SP | 1u << AF_REGISTER_PC;
	trace->n = 0;
	trace->complete = false;
	if ((thread->known & least) != least)
		return;
	struct af_frame *frame = &trace->frames[0], next;
	*frame = (struct af_frame){.pc = thread->registers[AF_REGISTER_PC], .known = thread->known};
	memcpy(frame->registers, thread->registers, sizeof(frame->registers));
	for (;;) {
		bool is_signal = false;
		frame->module = module_of(u, frame->pc);
		trace->n++;
		enum step result = step(u, memory, frame, &is_signal, &next);
		trace->complete = result == STEP_END;
		/* Callers lie higher: anything else would not end. */
		if (result != STEP_ON || trace->n == AF_MAX_FRAMES ||
		    frame->cfa <= frame->registers[AF_REGISTER_SP])
			return;
		frame = &trace->frames[trace->n];
		*frame = next;
		if (!is_signal)
			frame->pc--;
	}
}

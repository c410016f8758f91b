/* SPDX-License-Identifier: MIT */
/*
 * Inside glue.h: the machine that follows glue. Its values are what is known of a register or a
 * word of the stack frame; a join of two is what holds of both.
 */
#ifndef AF_ANALYSIS_GLUE_MACHINE_H
#define AF_ANALYSIS_GLUE_MACHINE_H

#include <capstone/capstone.h>

#include "analysis/glue.h"
#include "analysis/text.h"

enum af_glue_kind {
	AF_G_UNKNOWN, /* at most n; nothing of *self can be reached by it. `count` - 1, if that is not
			 0: where in *self it was loaded from */
	AF_G_NUMBER, /* n; where bits < 64 only that many low ones are known */
	AF_G_SELF,   /* self + n */
	AF_G_FRAME,  /* rsp at the entry + n */
	AF_G_MIXED,  /* something of the two before, but it is not known what: not to be used */
	AF_G_TABLE,  /* one of `count` entries of 32 bits at n; bits 1: added to n */
};

struct af_glue_value {
	uint8_t kind, bits;
	uint32_t count;
	uint64_t n;
};

#define AF_G_REGISTERS 16 /* by DWARF number: rax 0, rdx 1, rcx 2, rsi 4, rdi 5, rsp 7 */
#define AF_G_RDI 5
#define AF_G_RSP 7
#define AF_G_SLOTS 48

struct af_glue_slot {
	int64_t offset;
	uint32_t size;
	struct af_glue_value value;
};

enum { AF_G_ZERO = 1, AF_G_SIGN = 2, AF_G_CARRY = 4, AF_G_OVERFLOW = 8, AF_G_FLAGS = 15 };

/* What is known at one place of the code. */
struct af_glue_frame {
	struct af_glue_value regs[AF_G_REGISTERS];
	uint32_t n_slots;
	uint8_t flags, flags_known; /* of the processor */
	int8_t compared;	    /* the last comparison was of this register with a number; -1 */
	uint8_t compared_size;
	bool state_read; /* on every way here */
	bool flag_lost;	 /* the drop flag was overwritten */
	bool rdi_set;	 /* on every way here, since the function was entered */
	uint64_t compared_with;
	uint64_t touched[AF_GLUE_WORDS];       /* on every way here */
	struct af_glue_slot slots[AF_G_SLOTS]; /* the last, so that the rest is not copied */
};

static inline void af_glue_copy(struct af_glue_frame *to, const struct af_glue_frame *from)
{
	memcpy(to, from,
	       offsetof(struct af_glue_frame, slots) + from->n_slots * sizeof(from->slots[0]));
}

struct af_glue_operand {
	uint8_t type; /* x86_op_type */
	uint8_t size;
	int8_t reg, base, index; /* DWARF numbers; -1: none, -2: another one */
	bool high;		 /* ah and its like */
	uint8_t scale;
	bool next; /* memory: counts from the next instruction */
	bool segment;
	int64_t n; /* number, displacement */
};

struct af_glue_instruction {
	uint64_t address, next;
	const uint8_t *start; /* its bytes */
	uint32_t id;	      /* x86_insn */
	uint8_t n_operands;
	bool call, jump, ret;
	struct af_glue_operand operands[4];
	uint16_t reads, writes; /* registers; reads: those that no operand names */
	uint32_t run, entry;	/* the number of the last run that has an entry here, and that */
};

/* A way that is still to be followed. */
struct af_glue_entry {
	uint64_t address;
	bool waits;
	struct af_glue_frame frame;
};

struct af_glue_entries {
	VECTOR(struct af_glue_entry) all;
};

/* One function that is followed. */
struct af_glue_run {
	struct af_glue *glue;
	const struct af_glue_question *question;
	struct af_glue_answer *answer; /* `ever` and `used` */
	uint64_t start, end;	       /* its code, 0 where unknown */
	int depth;
	uint32_t number;
	struct af_glue_entries *entries;
	bool ended;
	uint64_t always[AF_GLUE_WORDS]; /* up to all ends */
};

/* What was found of a function that gets self + `self`. */
struct af_glue_part {
	uint64_t target, self;
	bool followed;
	struct af_glue_answer answer;
};

/* A slot of the GOT, and the address that it holds. */
struct af_glue_got {
	uint64_t slot, value;
};

#define AF_GLUE_DEPTH 3 /* functions within functions */

struct af_glue {
	struct af_glue_entries entries[AF_GLUE_DEPTH + 1]; /* by depth, used again and again */
	uint32_t runs;
	const struct af_object *object;
	csh capstone;
	cs_insn *insn;
	uint64_t text, text_end; /* the segment that was decoded last */
	const uint8_t *bytes;	 /* at `text` */
	VECTOR(struct af_glue_instruction) code;
	struct af_map code_of; /* address -> code */
	uint32_t last;	       /* in `code`: what was asked for last */
	VECTOR(struct af_glue_part) parts;
	VECTOR(struct af_glue_got) got; /* by slot */
	uint64_t got_start, got_end;
	bool got_read, got_unordered;
	/* Instructions that may still be followed: for this question, this glue, this object. */
	uint32_t steps, all_steps, object_steps;
};

/* glue_decode.c: the instruction at an address, which lives until the next call; NULL if there
   is none. */
const struct af_glue_instruction *af_glue_decode(struct af_glue *glue, uint64_t address);

/* Notes that a run has an entry at the one that was decoded last. */
void af_glue_note(struct af_glue *glue, uint32_t run, uint32_t entry);
/* glue_common.c: the same of `left` bytes, of the most common ones only; false of all others. Sets neither
   `reads` nor `writes`, which nobody asks for these. */
bool af_glue_decode_common(const uint8_t *code, size_t left, uint64_t address,
			   struct af_glue_instruction *out);

/* glue_slots.c: what the object's relocations say of the word at `address`. */
bool af_glue_slot(struct af_glue *glue, uint64_t address, uint64_t *value);

/* glue_values.c */
struct af_glue_value af_glue_join(struct af_glue_value a, struct af_glue_value b);
struct af_glue_value af_glue_cut(struct af_glue_value value, unsigned int size);
/* False if that cannot be told. */
bool af_glue_load_slot(const struct af_glue_frame *frame, int64_t offset, uint32_t size,
		       struct af_glue_value *value);
bool af_glue_store_slot(struct af_glue_frame *frame, int64_t offset, uint32_t size,
			struct af_glue_value value);
/* Makes `into` what holds of both. Whether that has changed it. */
bool af_glue_merge(struct af_glue_frame *into, const struct af_glue_frame *from);
static inline bool af_glue_is_place(struct af_glue_value value)
{
	return value.kind == AF_G_SELF || value.kind == AF_G_FRAME || value.kind == AF_G_MIXED;
}
static inline struct af_glue_value af_glue_unknown(unsigned int size)
{
	uint64_t most = size < 8 ? (UINT64_C(1) << size * 8) - 1 : UINT64_MAX;
	return (struct af_glue_value){AF_G_UNKNOWN, 64, 0, most};
}
static inline struct af_glue_value af_glue_number(uint64_t n)
{
	return (struct af_glue_value){AF_G_NUMBER, 64, 0, n};
}

/* glue_memory.c: all of these are false where the glue cannot be followed any further */
struct af_glue_value af_glue_address(struct af_glue_run *run, const struct af_glue_frame *frame,
				     const struct af_glue_instruction *in,
				     const struct af_glue_operand *memory);
bool af_glue_load(struct af_glue_run *run, struct af_glue_frame *frame,
		  struct af_glue_value address, uint32_t size, struct af_glue_value *value);
bool af_glue_store(struct af_glue_run *run, struct af_glue_frame *frame,
		   struct af_glue_value address, uint32_t size, struct af_glue_value value);
/* Marks what lies in [offset, offset + size) of *self; `surely`: as touched on this way. */
bool af_glue_touch(struct af_glue_run *run, struct af_glue_frame *frame, uint64_t offset,
		   uint64_t size, bool surely);
/* Marks what holds the byte at `offset` as handed on: its address, or what was loaded from there. */
void af_glue_use(struct af_glue_run *run, uint64_t offset);

/* glue_step.c: what an instruction does that is no jump, call or return. */
bool af_glue_step(struct af_glue_run *run, struct af_glue_frame *frame,
		  const struct af_glue_instruction *in);
struct af_glue_value af_glue_read_register(const struct af_glue_frame *frame,
					   const struct af_glue_operand *operand);
void af_glue_set_register(struct af_glue_frame *frame, int reg, struct af_glue_value value);
/* Whether a condition holds (jcc, setcc, cmovcc by its number): 1, 0, -1: unknown. */
int af_glue_condition(const struct af_glue_frame *frame, unsigned int condition);
/* The number of an instruction's condition as the processor has it (0 o ... 15 g), or -1. */
int af_glue_condition_of(uint32_t id);

#endif

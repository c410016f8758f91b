/* SPDX-License-Identifier: MIT */
/*
 * Following glue: every way that it can go, until no place of the code knows less than before.
 * Ways meet at the targets of jumps (af_glue_merge), so that their number does not grow with the
 * branches.
 */
#include "analysis/glue_machine.h"

#define STEPS_MAX 20000	  /* instructions of one question */
#define STEPS_ALL 1000000 /* of one glue's questions */
#define ENTRIES_MAX 2000  /* targets of jumps in one function */
#define LOOK_AHEAD 40	  /* instructions of a function, for whether it takes an argument */
#define KEPT_MAX 65536	  /* decoded instructions, from one glue to the next */

enum next { ON, JUMPED, ENDED, FAILED };

/* rdi, rsi, rdx, rcx, r8, r9 */
static const int arguments[] = {AF_G_RDI, 4, 1, 2, 8, 9};
#define N_ARGUMENTS (sizeof(arguments) / sizeof(arguments[0]))

static bool follow(struct af_glue *glue, const struct af_glue_question *question,
		   struct af_glue_answer *answer, uint64_t entry, uint64_t self, int depth);

/* Whether anything leads to *self or may do so: else nothing more can be touched. */
static bool holds_self(const struct af_glue_frame *frame)
{
	for (int i = 0; i < AF_G_REGISTERS; i++)
		if (frame->regs[i].kind == AF_G_SELF || frame->regs[i].kind == AF_G_MIXED)
			return true;
	for (uint32_t i = 0; i < frame->n_slots; i++)
		if (frame->slots[i].value.kind == AF_G_SELF ||
		    frame->slots[i].value.kind == AF_G_MIXED)
			return true;
	return false;
}

/* Goes on at an address, with what is known there by now. */
static bool enter(struct af_glue_run *run, uint64_t address, const struct af_glue_frame *frame)
{
	const struct af_glue_instruction *at = af_glue_decode(run->glue, address);
	struct af_glue_entry *entry;

	if (!at)
		return false;
	if (at->run == run->number) {
		entry = &run->entries->all.items[at->entry];
		entry->waits |= af_glue_merge(&entry->frame, frame);
		return true;
	}
	/* Not cleared, as most of a frame is not used. */
	if (run->entries->all.count >= ENTRIES_MAX || !vector_reserve(&run->entries->all, 1))
		return false;
	uint32_t number = (uint32_t)run->entries->all.count++;
	entry = &run->entries->all.items[number];
	entry->address = address;
	entry->waits = true;
	af_glue_copy(&entry->frame, frame);
	af_glue_note(run->glue, run->number, number);
	return true;
}

static void end_way(struct af_glue_run *run, const struct af_glue_frame *frame)
{
	for (int i = 0; i < AF_GLUE_WORDS; i++)
		run->always[i] =
			run->ended ? run->always[i] & frame->touched[i] : frame->touched[i];
	run->ended = true;
}

/* --- calls -------------------------------------------------------------------------------- */

/* From where on the frame may be read and written by a function that is called: INT64_MAX. */
static int64_t lent_from(const struct af_glue_frame *frame)
{
	int64_t from = INT64_MAX;
	bool again = true;

	for (size_t i = 0; i < N_ARGUMENTS; i++) {
		const struct af_glue_value *v = &frame->regs[arguments[i]];
		if (v->kind == AF_G_FRAME && (int64_t)v->n < from)
			from = (int64_t)v->n;
	}
	while (again) {
		again = false;
		for (uint32_t i = 0; i < frame->n_slots; i++) {
			const struct af_glue_slot *slot = &frame->slots[i];
			if (slot->value.kind == AF_G_FRAME && slot->offset >= from &&
			    (int64_t)slot->value.n < from) {
				from = (int64_t)slot->value.n;
				again = true;
			}
		}
	}
	return from;
}

/* What lies in the part of the frame that is lent may be used, and is not known afterwards. */
static bool lend_frame(struct af_glue_run *run, struct af_glue_frame *frame)
{
	int64_t from = lent_from(frame);

	for (uint32_t i = frame->n_slots; i-- > 0;) {
		struct af_glue_slot *slot = &frame->slots[i];
		if (slot->offset + (int64_t)slot->size <= from)
			continue;
		if (slot->value.kind == AF_G_SELF &&
		    !af_glue_touch(run, frame, slot->value.n, 1, false))
			return false;
		if (af_glue_is_place(slot->value))
			slot->value = (struct af_glue_value){AF_G_MIXED, 64, 0, 0};
		else
			*slot = frame->slots[--frame->n_slots];
	}
	return true;
}

/* The composed place that `offset` lies in, of which it matters what part is handed on, or NULL. */
static const struct af_glue_range *composed_at(const struct af_glue_question *q, uint64_t offset)
{
	for (uint32_t i = 0; i < q->n_ranges; i++)
		if (q->ranges[i].inside && offset - q->ranges[i].offset < q->ranges[i].size)
			return &q->ranges[i];
	return NULL;
}

/* What a function makes of a part of *self. It knows neither state nor flag, and so does the same
   whenever it is called, for all questions on one state. */
static bool follow_part(struct af_glue_run *run, struct af_glue_frame *frame, uint64_t target,
			uint64_t self)
{
	struct af_glue *glue = run->glue;
	struct af_glue_part part = {.target = target, .self = self}, *kept;
	size_t i = 0;

	while (i < glue->parts.count &&
	       (glue->parts.items[i].target != target || glue->parts.items[i].self != self))
		i++;
	if (i == glue->parts.count) {
		part.followed =
			follow(glue, run->question, &part.answer, target, self, run->depth + 1);
		kept = vector_push(&glue->parts);
		if (kept)
			*kept = part;
	} else {
		part = glue->parts.items[i];
	}
	for (int k = 0; k < AF_GLUE_WORDS; k++) {
		run->answer->ever[k] |= part.answer.ever[k];
		run->answer->used[k] |= part.answer.used[k];
		frame->touched[k] |= part.followed ? part.answer.always[k] : 0;
	}
	return part.followed;
}

/* Whether an instruction reads rdi; -1: writes it without. */
static int uses_argument(const struct af_glue_instruction *in)
{
	bool sets = in->id == X86_INS_MOV || in->id == X86_INS_MOVABS || in->id == X86_INS_MOVZX ||
		    in->id == X86_INS_LEA || in->id == X86_INS_POP ||
		    (in->id == X86_INS_XOR && in->operands[1].reg == AF_G_RDI);

	for (int i = 0; i < in->n_operands; i++) {
		const struct af_glue_operand *op = &in->operands[i];
		if (op->base == AF_G_RDI || op->index == AF_G_RDI ||
		    (op->reg == AF_G_RDI && !(sets && !i) && in->id != X86_INS_XOR))
			return 1;
	}
	if (in->reads >> AF_G_RDI & 1)
		return 1;
	return sets && in->operands[0].reg == AF_G_RDI ? -1 : 0;
}

/* Whether the function at `target` takes an argument: else what is in rdi is left over there. */
static bool takes_argument(struct af_glue *glue, uint64_t target)
{
	for (int i = 0; i < LOOK_AHEAD; i++) {
		const struct af_glue_instruction *in = af_glue_decode(glue, target);
		if (!in || in->ret)
			return false;
		int uses = uses_argument(in);
		if (uses)
			return uses > 0;
		if (in->call) /* it may hand it on */
			return true;
		bool leaves = in->id == X86_INS_JMP;
		if (leaves && (in->n_operands != 1 || in->operands[0].type != X86_OP_IMM))
			return true;
		target = leaves ? (uint64_t)in->operands[0].n : in->next;
	}
	return false;
}

/* What a function with address `target` (0: unknown) does to what it is given. */
static bool hand_over(struct af_glue_run *run, struct af_glue_frame *frame, uint64_t target)
{
	const struct af_glue_value *self = &frame->regs[AF_G_RDI];

	for (size_t i = 0; i < N_ARGUMENTS; i++) {
		const struct af_glue_value *v = &frame->regs[arguments[i]];
		if (v->kind == AF_G_MIXED)
			return false;
		if (i && v->kind == AF_G_SELF && !af_glue_touch(run, frame, v->n, 1, false))
			return false;
	}
	bool given = target ? takes_argument(run->glue, target) : frame->rdi_set;
	if (self->kind == AF_G_UNKNOWN && self->count && given)
		af_glue_use(run, self->count - 1);
	if (self->kind == AF_G_SELF && !given && !af_glue_touch(run, frame, self->n, 1, false))
		return false;
	if (self->kind == AF_G_SELF && given) {
		if (!frame->state_read)
			return false;
		af_glue_use(run, self->n);
		const struct af_glue_range *composed = composed_at(run->question, self->n);
		if (composed && target && run->depth < AF_GLUE_DEPTH &&
		    follow_part(run, frame, target, self->n))
			return lend_frame(run, frame);
		/* What is behind may be of what is handed on, too. */
		if (!af_glue_touch(run, frame, self->n, 1, true) ||
		    (composed &&
		     !af_glue_touch(run, frame, self->n,
				    composed->offset + composed->size - self->n, false)))
			return false;
	}
	return lend_frame(run, frame);
}

/* The address that an operand of a call or jump means; 0: none that is known. */
static bool find_target(struct af_glue_run *run, struct af_glue_frame *frame,
			const struct af_glue_instruction *in, struct af_glue_value *target)
{
	const struct af_glue_operand *op = &in->operands[0];

	*target = af_glue_unknown(8);
	if (in->n_operands != 1)
		return false;
	if (op->type == X86_OP_IMM)
		*target = af_glue_number((uint64_t)op->n);
	else if (op->type == X86_OP_REG)
		*target = af_glue_read_register(frame, op);
	else if (op->type == X86_OP_MEM)
		return af_glue_load(run, frame, af_glue_address(run, frame, in, op), 8, target);
	return true;
}

/* `mov eax, SIZE; call PROBE; sub rsp, rax`, where a frame is larger than a page: it changes nothing. */
static bool is_probe(struct af_glue_run *run, const struct af_glue_frame *frame,
		     const struct af_glue_instruction *in)
{
	const struct af_glue_instruction *next;

	if (frame->regs[0].kind != AF_G_NUMBER)
		return false;
	next = af_glue_decode(run->glue, in->next);
	return next && next->id == X86_INS_SUB && next->operands[0].reg == AF_G_RSP &&
	       next->operands[1].type == X86_OP_REG && next->operands[1].reg == 0;
}

static enum next call(struct af_glue_run *run, struct af_glue_frame *frame,
		      const struct af_glue_instruction *in)
{
	static const int changed[] = {0, 1, 2, 4, 5, 8, 9, 10, 11};
	struct af_glue_value target;

	if (is_probe(run, frame, in))
		return ON;
	if (frame->regs[AF_G_RSP].kind != AF_G_FRAME || !find_target(run, frame, in, &target) ||
	    !hand_over(run, frame, target.kind == AF_G_NUMBER ? target.n : 0))
		return FAILED;
	for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++)
		af_glue_set_register(frame, changed[i], af_glue_unknown(8));
	frame->flags_known = 0;
	frame->compared = -1;
	return ON;
}

/* --- jumps -------------------------------------------------------------------------------- */

/* What a comparison with a number says of the register, where condition c holds. */
static void bound(struct af_glue_frame *frame, unsigned int condition)
{
	uint64_t most = frame->compared_with;
	int reg = frame->compared;

	if (reg < 0 || frame->regs[reg].kind != AF_G_UNKNOWN)
		return;
	if (condition == 4) /* equal */
		most = frame->compared_with;
	else if (condition == 2 && most) /* below */
		most--;
	else if (condition != 6) /* below or equal */
		return;
	/* Of a part of the register it says nothing of the rest. */
	if (frame->compared_size < 8 && frame->regs[reg].n >= UINT64_C(1)
								      << frame->compared_size * 8)
		return;
	if (most < frame->regs[reg].n)
		frame->regs[reg].n = most;
}

static enum next branch(struct af_glue_run *run, struct af_glue_frame *frame,
			const struct af_glue_instruction *in)
{
	int condition = af_glue_condition_of(in->id), holds;

	if (condition < 0 || in->n_operands != 1 || in->operands[0].type != X86_OP_IMM)
		return FAILED;
	holds = af_glue_condition(frame, (unsigned int)condition);
	if (holds) {
		struct af_glue_frame taken;
		af_glue_copy(&taken, frame);
		bound(&taken, (unsigned int)condition);
		if (!enter(run, (uint64_t)in->operands[0].n, &taken))
			return FAILED;
	}
	if (holds > 0)
		return JUMPED;
	bound(frame, (unsigned int)condition ^ 1);
	return ON;
}

static enum next jump_by_table(struct af_glue_run *run, const struct af_glue_frame *frame,
			       const struct af_glue_value *table)
{
	uint64_t available;
	const uint8_t *bytes = af_object_bytes(run->glue->object, table->n, &available);

	for (uint32_t i = 0; i < table->count; i++) {
		int32_t distance;
		if (!run->glue->steps)
			return FAILED;
		run->glue->steps--;
		if (!bytes || available < 4 * (uint64_t)(i + 1))
			return FAILED;
		memcpy(&distance, bytes + 4 * (uint64_t)i, sizeof(distance));
		uint64_t to = table->n + (uint64_t)(int64_t)distance;
		/* Where no comparison tells how long it is: up to what cannot be of it. */
		if (i && (to < run->start || to >= run->end))
			break;
		if (!enter(run, to, frame))
			return FAILED;
	}
	return JUMPED;
}

static enum next jump(struct af_glue_run *run, struct af_glue_frame *frame,
		      const struct af_glue_instruction *in)
{
	struct af_glue_value target;
	const struct af_glue_value *rsp = &frame->regs[AF_G_RSP];

	if (!find_target(run, frame, in, &target))
		return FAILED;
	if (target.kind == AF_G_TABLE && target.bits == 1 && run->end)
		return jump_by_table(run, frame, &target);
	if (!holds_self(frame)) {
		end_way(run, frame);
		return ENDED;
	}
	bool inside = target.kind == AF_G_NUMBER &&
		      (!run->end || (target.n >= run->start && target.n < run->end));
	if (inside)
		return enter(run, target.n, frame) ? JUMPED : FAILED;
	/* To another function, in the place of a call. */
	if (rsp->kind != AF_G_FRAME || rsp->n ||
	    (target.kind != AF_G_NUMBER && in->operands[0].type != X86_OP_MEM) ||
	    !hand_over(run, frame, target.kind == AF_G_NUMBER ? target.n : 0))
		return FAILED;
	end_way(run, frame);
	return ENDED;
}

/* --- the way through ---------------------------------------------------------------------- */

static enum next at_instruction(struct af_glue_run *run, struct af_glue_frame *frame,
				const struct af_glue_instruction *in)
{
	if (in->ret) {
		end_way(run, frame);
		return ENDED;
	}
	if (!in->call && !in->jump && in->id != X86_INS_UD2 && in->id != X86_INS_INT3 &&
	    in->id != X86_INS_HLT)
		return af_glue_step(run, frame, in) ? ON : FAILED;
	struct af_glue_instruction now = *in; /* others may be decoded */
	in = &now;
	if (in->call)
		return call(run, frame, in);
	if (in->id == X86_INS_JMP)
		return jump(run, frame, in);
	return in->jump ? branch(run, frame, in) : ENDED; /* ud2: never reached */
}

static bool follow_entry(struct af_glue_run *run, size_t i)
{
	struct af_glue_frame frame;
	uint64_t address = run->entries->all.items[i].address;
	bool first = true;

	af_glue_copy(&frame, &run->entries->all.items[i].frame);
	run->entries->all.items[i].waits = false;
	for (;;) {
		if ((run->end && (address < run->start || address >= run->end)) ||
		    !run->glue->steps)
			return false;
		run->glue->steps--;
		const struct af_glue_instruction *in = af_glue_decode(run->glue, address);
		if (!in)
			return false;
		if (!first && in->run == run->number)
			return enter(run, address, &frame);
		first = false;
		address = in->next;
		enum next next = at_instruction(run, &frame, in);
		if (next != ON)
			return next != FAILED;
	}
}

static bool follow(struct af_glue *glue, const struct af_glue_question *question,
		   struct af_glue_answer *answer, uint64_t entry, uint64_t self, int depth)
{
	struct af_glue_run run = {
		.glue = glue,
		.question = question,
		.answer = answer,
		.start = depth ? 0 : question->start,
		.end = depth ? 0 : question->end,
		.depth = depth,
		.number = ++glue->runs,
		.entries = &glue->entries[depth],
	};
	/* What is called has no business with the flag. */
	struct af_glue_frame frame = {
		.compared = -1, .state_read = depth > 0, .flag_lost = depth > 0};
	bool ok;

	run.entries->all.count = 0;
	for (int i = 0; i < AF_G_REGISTERS; i++)
		frame.regs[i] = af_glue_unknown(8);
	frame.regs[AF_G_RDI] = (struct af_glue_value){AF_G_SELF, 64, 0, self};
	frame.regs[AF_G_RSP] = (struct af_glue_value){AF_G_FRAME, 64, 0, 0};
	ok = enter(&run, entry, &frame);
	for (bool again = true; ok && again;) {
		again = false;
		for (size_t i = run.entries->all.count; ok && i-- > 0;)
			if (run.entries->all.items[i].waits) {
				again = true;
				ok = follow_entry(&run, i);
			}
	}
	memcpy(answer->always, run.always, sizeof(run.always));
	return ok && run.ended;
}

void af_glue_next(struct af_glue *glue)
{
	glue->parts.count = 0;
}

void af_glue_begin(struct af_glue *glue)
{
	/* Functions that are called are so by many. */
	if (glue->code.count >= KEPT_MAX) {
		glue->code.count = 0;
		af_map_deinit(&glue->code_of);
	}
	glue->all_steps = STEPS_ALL < glue->object_steps ? STEPS_ALL : glue->object_steps;
}

bool af_glue_ask(struct af_glue *glue, const struct af_glue_question *question,
		 struct af_glue_answer *answer)
{
	uint32_t limit = glue->all_steps < STEPS_MAX ? glue->all_steps : STEPS_MAX;

	memset(answer, 0, sizeof(*answer));
	if (question->n_ranges > AF_GLUE_RANGES)
		return false;
	glue->steps = limit;
	bool ok = follow(glue, question, answer, question->entry, 0, 0);
	glue->all_steps -= limit - glue->steps;
	glue->object_steps -= limit - glue->steps;
	return ok;
}

/* SPDX-License-Identifier: MIT */
/*
 * Instructions as the machine wants them, by capstone; each is decoded once.
 */
#include "analysis/glue_machine.h"

#include "analysis/elffile.h"
#include "patch/plan/flow.h"

#define STEPS_MAX (1u << 25) /* of all glue: seconds, and some hundred times what is met */
#define CODE_MAX 131072	     /* instructions that are kept */

static bool in_group(const cs_insn *insn, uint8_t group)
{
	for (uint8_t i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == group)
			return true;
	return false;
}

static int8_t number_of(unsigned int reg)
{
	int number = af_flow_register(reg);

	return reg == X86_REG_INVALID ? -1 : number < 0 ? -2 : (int8_t)number;
}

static void read_operand(const cs_x86_op *op, struct af_glue_operand *out)
{
	*out = (struct af_glue_operand){.type = (uint8_t)op->type, .size = op->size};
	out->reg = out->base = out->index = -1;
	if (op->type == X86_OP_REG) {
		out->reg = number_of(op->reg);
		out->high = op->reg == X86_REG_AH || op->reg == X86_REG_BH ||
			    op->reg == X86_REG_CH || op->reg == X86_REG_DH;
	} else if (op->type == X86_OP_IMM) {
		out->n = op->imm;
	} else if (op->type == X86_OP_MEM) {
		out->next = op->mem.base == X86_REG_RIP;
		out->base = out->next ? -1 : number_of(op->mem.base);
		out->index = number_of(op->mem.index);
		out->scale = (uint8_t)op->mem.scale;
		out->segment = op->mem.segment != X86_REG_INVALID;
		out->n = op->mem.disp;
	}
}

static uint16_t bit_of(unsigned int reg)
{
	int number = af_flow_register(reg);
	return number < 0 ? 0 : (uint16_t)(1u << number);
}

static bool describe(struct af_glue *glue, struct af_glue_instruction *out)
{
	const cs_insn *insn = glue->insn;
	const cs_detail *detail = insn->detail;
	cs_regs read, written;
	uint8_t n_read, n_written;

	*out = (struct af_glue_instruction){.address = insn->address,
					    .next = insn->address + insn->size,
					    .id = insn->id,
					    .n_operands = detail->x86.op_count};
	if (out->n_operands > 4 ||
	    cs_regs_access(glue->capstone, insn, read, &n_read, written, &n_written) != CS_ERR_OK)
		return false;
	for (uint8_t i = 0; i < out->n_operands; i++)
		read_operand(&detail->x86.operands[i], &out->operands[i]);
	for (uint8_t i = 0; i < n_written; i++)
		out->writes |= bit_of(written[i]);
	for (uint8_t i = 0; i < detail->regs_read_count; i++)
		out->reads |= bit_of(detail->regs_read[i]);
	out->call = in_group(insn, CS_GRP_CALL);
	out->ret = in_group(insn, CS_GRP_RET) || in_group(insn, CS_GRP_IRET);
	out->jump = in_group(insn, CS_GRP_JUMP);
	return true;
}

static bool find_text(struct af_glue *glue, uint64_t address)
{
	uint64_t end, size;

	if (glue->bytes && address >= glue->text && address < glue->text_end)
		return true;
	if (!af_object_text(glue->object, address, &glue->text, &end))
		return false;
	glue->bytes = af_object_bytes(glue->object, glue->text, &size);
	glue->text_end = glue->text + size;
	return glue->bytes && address < glue->text_end;
}

const struct af_glue_instruction *af_glue_decode(struct af_glue *glue, uint64_t address)
{
	struct af_glue_instruction in;
	uint64_t at = address;

	/* Mostly it is the one behind the last one. */
	uint32_t known = glue->last + 1;
	if (known >= glue->code.count || glue->code.items[known].address != address)
		known = af_map_get(&glue->code_of, address);
	if (known != UINT32_MAX) {
		glue->last = known;
		return &glue->code.items[known];
	}
	if (!find_text(glue, address) || glue->code.count >= CODE_MAX)
		return NULL;
	const uint8_t *bytes = glue->bytes + (address - glue->text);
	size_t left = glue->text_end - address < 16 ? glue->text_end - address : 16;
	if (!af_glue_decode_common(bytes, left, address, &in) &&
	    (!cs_disasm_iter(glue->capstone, &bytes, &left, &at, glue->insn) ||
	     !describe(glue, &in)))
		return NULL;
	struct af_glue_instruction *kept = vector_push(&glue->code);
	if (!kept)
		return NULL;
	*kept = in;
	glue->last = (uint32_t)glue->code.count - 1;
	af_map_set(&glue->code_of, address, (uint32_t)glue->code.count - 1);
	return glue->code_of.failed ? NULL : kept;
}

void af_glue_note(struct af_glue *glue, uint32_t run, uint32_t entry)
{
	glue->code.items[glue->last].run = run;
	glue->code.items[glue->last].entry = entry;
}

struct af_glue *af_glue_create(const struct af_object *object)
{
	struct af_glue *glue = object->machine == EM_X86_64 ? calloc(1, sizeof(*glue)) : NULL;

	if (!glue)
		return NULL;
	glue->object = object;
	glue->object_steps = STEPS_MAX;
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &glue->capstone) != CS_ERR_OK) {
		free(glue);
		return NULL;
	}
	if (cs_option(glue->capstone, CS_OPT_DETAIL, CS_OPT_ON) == CS_ERR_OK)
		glue->insn = cs_malloc(glue->capstone);
	if (!glue->insn) {
		af_glue_destroy(glue);
		return NULL;
	}
	return glue;
}

void af_glue_destroy(struct af_glue *glue)
{
	if (!glue)
		return;
	if (glue->insn)
		cs_free(glue->insn, 1);
	cs_close(&glue->capstone);
	vector_deinit(&glue->code);
	vector_deinit(&glue->parts);
	for (int i = 0; i <= AF_GLUE_DEPTH; i++)
		vector_deinit(&glue->entries[i].all);
	vector_deinit(&glue->got);
	af_map_deinit(&glue->code_of);
	free(glue);
}

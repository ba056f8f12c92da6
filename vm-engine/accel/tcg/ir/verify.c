/*
 * Is a block well-formed? Operand kinds as the op table says, temps assigned once and before use, tables' indices in
 * range, exactly one end. Run between passes in debug builds: a pass that breaks a rule is found at once.
 */
#include "vm-engine/accel/tcg/ir/ir.h"

typedef struct Verifier {
  const IrBlock *block;
  GByteArray *assigned; /* by temp */
  unsigned index;
  GError **error;
} Verifier;

static bool fail(Verifier *v, const char *what)
{
  const IrInsn *insn = ir_get(v->block, v->index);
  g_set_error(v->error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "IR op %u (%s) of block 0x%" G_GINT64_MODIFIER "x: %s",
              v->index, insn->op < IR_N_OPS ? ir_ops[insn->op].text : "?", v->block->pc, what);
  return false;
}

static bool check_input(Verifier *v, IrRef ref, unsigned kind)
{
  if (kind == IR_OPERAND_N)
    return ref == IR_NONE || fail(v, "an operand that the op does not have");
  if (ref == IR_NONE)
    return kind == IR_OPERAND_RN || fail(v, "a missing operand");
  if (ir_is_temp(ref)) {
    unsigned t = ref - IR_TEMP_BASE;
    return (t < v->block->n_temps && v->assigned->data[t] != 0) || fail(v, "a temp used before it is assigned");
  }
  if (ir_is_reg(ref))
    return ir_reg_index(ref) < v->block->n_guest_regs || fail(v, "no such guest register");
  return (unsigned)(ref - IR_CONST_BASE) < v->block->consts->len || fail(v, "no such constant");
}

static bool check_output(Verifier *v, IrRef ref, bool optional)
{
  if (ref == IR_NONE)
    return optional || fail(v, "a missing result");
  if (ir_is_reg(ref))
    return ir_reg_index(ref) < v->block->n_guest_regs || fail(v, "no such guest register");
  if (!ir_is_temp(ref) || (unsigned)(ref - IR_TEMP_BASE) >= v->block->n_temps)
    return fail(v, "the result is neither temp nor register");
  uint8_t *assigned = &v->assigned->data[ref - IR_TEMP_BASE];
  if (*assigned != 0)
    return fail(v, "a temp assigned twice");
  *assigned = 1;
  return true;
}

static bool check_outputs(Verifier *v, const IrInsn *insn, const IrOpInfo *info)
{
  bool d_optional = insn->op == IR_CALL || insn->op == IR_NAT;
  if (info->d == IR_OPERAND_O ? !check_output(v, insn->d, d_optional) : insn->d != IR_NONE)
    return info->d == IR_OPERAND_O ? false : fail(v, "a result that the op does not have");
  if (info->c != IR_OPERAND_O2)
    return true;
  if (insn->c != IR_NONE && insn->c == insn->d)
    return fail(v, "both results in one place");
  return check_output(v, insn->c, insn->width == IR_W8);
}

static bool check_details(Verifier *v, const IrInsn *insn)
{
  unsigned size = insn->aux & IR_MEM_SIZE;
  switch (insn->op) {
  case IR_LD:
  case IR_ST:
    return (size <= 3 && size == insn->width) || fail(v, "access size and width differ");
  case IR_LDV:
  case IR_STV:
    return (size >= 2 && size <= 5 && insn->imm >= 0 && (uint64_t)insn->imm + (1u << size) <= sizeof(TcgCpu)) ||
           fail(v, "bad vector access");
  case IR_LDE:
  case IR_STE:
    return (insn->imm >= 0 && (uint64_t)insn->imm + 8 <= sizeof(TcgCpu)) || fail(v, "outside of the CPU's state");
  case IR_CALL:
    return (insn->imm >= 0 && insn->imm < HELPER_N) || fail(v, "no such helper");
  case IR_NAT:
    return (insn->imm >= 0 && (uint64_t)insn->imm < v->block->natives->len) || fail(v, "no such native instruction");
  case IR_LEA:
    return insn->aux <= 3 || fail(v, "bad scale");
  case IR_MUL:
  case IR_BSWAP:
    return insn->width >= IR_W32 || fail(v, "bad width");
  case IR_SHLDF:
  case IR_SHRDF:
  case IR_IMULF:
  case IR_BTF:
  case IR_BTSF:
  case IR_BTRF:
  case IR_BTCF:
  case IR_BSFF:
  case IR_BSRF:
  case IR_POPCNTF:
  case IR_LZCNTF:
  case IR_TZCNTF:
    return insn->width >= IR_W16 || fail(v, "bad width");
  default:
    return true;
  }
}

static bool check_insn(Verifier *v)
{
  const IrInsn *insn = ir_get(v->block, v->index);
  if (insn->op >= IR_N_OPS || insn->width > IR_W64)
    return fail(v, "no such op or width");
  const IrOpInfo *info = &ir_ops[insn->op];
  bool last = v->index + 1 == ir_count(v->block);
  if (((info->props & IR_END) != 0) != last)
    return fail(v, last ? "the block has no end" : "an end in the middle");
  if (!check_input(v, insn->a, info->a) || !check_input(v, insn->b, info->b))
    return false;
  if (info->c != IR_OPERAND_O2 && !check_input(v, insn->c, info->c))
    return false;
  return check_details(v, insn) && check_outputs(v, insn, info);
}

bool ir_verify(const IrBlock *block, GError **error)
{
  g_autoptr(GByteArray) assigned = g_byte_array_new();
  g_byte_array_set_size(assigned, block->n_temps + 1);
  memset(assigned->data, 0, assigned->len);
  Verifier v = { .block = block, .assigned = assigned, .error = error };
  if (ir_count(block) == 0) {
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "IR block 0x%" G_GINT64_MODIFIER "x is empty", block->pc);
    return false;
  }
  for (; v.index < ir_count(block); v.index++) {
    if (!check_insn(&v))
      return false;
  }
  return true;
}

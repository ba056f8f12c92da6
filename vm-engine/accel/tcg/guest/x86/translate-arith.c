/*
 * Arithmetic and logic.
 *
 * A read-modify-write of memory computes twice: once without flags for the store, and behind it once more for the flags
 * alone. So no access stands between what sets the host's flags and the branch that uses them, and flags that nobody
 * uses cost nothing. With LOCK a helper does the exchange and returns the old value, from which the flags follow.
 */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

/* By insn, from ADD on. `flagged` computes value and flags; `plain` the value (ADC and SBB add the carry to it). */
typedef struct ArithOps {
  uint16_t flagged, plain, atomic;
  bool carry, negate; /* the atomic helper adds: subtractions negate */
} ArithOps;
static const ArithOps arith_ops[] = {
  { IR_ADDF, IR_ADD, HELPER_atomic_add, false, false }, { IR_ORF, IR_OR, HELPER_atomic_or, false, false },
  { IR_ADCF, IR_ADD, HELPER_atomic_add, true, false },  { IR_SBBF, IR_SUB, HELPER_atomic_add, true, true },
  { IR_ANDF, IR_AND, HELPER_atomic_and, false, false }, { IR_SUBF, IR_SUB, HELPER_atomic_add, false, true },
  { IR_XORF, IR_XOR, HELPER_atomic_xor, false, false },
};
G_STATIC_ASSERT(X86_I_XOR - X86_I_ADD + 1 == G_N_ELEMENTS(arith_ops));

/* The second operand with the carry, where there is one. */
static IrRef with_carry(X86Translator *t, const ArithOps *ops, IrWidth w, IrRef value)
{
  if (!ops->carry)
    return value;
  return ir_op2(t->ir, IR_ADD, w, value, ir_setcc(t->ir, X86_CC_C));
}

static void arith_memory(X86Translator *t, const X86Decoded *d, const ArithOps *ops, X86Dest *dest, IrRef b)
{
  IrRef old;
  IrRef addend = with_carry(t, ops, dest->w, b);
  if (d->lock) {
    if (ops->negate)
      addend = ir_op1(t->ir, IR_NEG, dest->w, addend);
    old = x86_call(t, (TcgHelperId)ops->atomic, x86_dest_linear(t, dest), addend, x86_const(t, dest->w));
  } else {
    old = x86_dest_load(t, dest);
    x86_dest_store(t, dest, ir_op2(t->ir, (IrOpcode)ops->plain, dest->w, old, addend));
  }
  ir_op2(t->ir, (IrOpcode)ops->flagged, dest->w, old, b);
}

static void compare(X86Translator *t, const X86Decoded *d)
{
  IrRef a = x86_load_operand(t, d, 0);
  IrRef b = x86_load_operand(t, d, 1);
  ir_emit(t->ir, d->insn == X86_I_CMP ? IR_CMPF : IR_TESTF, x86_width(d, 0), IR_NONE, a, b);
}

void x86_tr_arith(X86Translator *t, const X86Decoded *d)
{
  if (d->insn == X86_I_CMP || d->insn == X86_I_TEST) {
    compare(t, d);
    return;
  }
  const ArithOps *ops = &arith_ops[d->insn - X86_I_ADD];
  X86Dest dest = x86_open_dest(t, d, 0);
  IrRef b = x86_load_operand(t, d, 1);
  if (dest.memory) {
    arith_memory(t, d, ops, &dest, b);
    return;
  }
  IrRef a = x86_dest_load(t, &dest);
  IrRef out = x86_dest_output(t, &dest);
  ir_emit(t->ir, (IrOpcode)ops->flagged, dest.w, out, a, b);
  x86_dest_finish(t, &dest, out);
}

/* ---- one operand ----------------------------------------------------------------------------------------------------- */

static IrRef unary_plain(X86Translator *t, X86Insn insn, IrWidth w, IrRef a)
{
  switch (insn) {
  case X86_I_INC:
    return ir_op2(t->ir, IR_ADD, w, a, x86_const(t, 1));
  case X86_I_DEC:
    return ir_op2(t->ir, IR_SUB, w, a, x86_const(t, 1));
  case X86_I_NEG:
    return ir_op1(t->ir, IR_NEG, w, a);
  default:
    return ir_op1(t->ir, IR_NOT, w, a);
  }
}

static IrRef unary_locked(X86Translator *t, X86Insn insn, const X86Dest *dest)
{
  TcgHelperId helper = insn == X86_I_NEG   ? HELPER_atomic_neg
                       : insn == X86_I_NOT ? HELPER_atomic_xor
                                           : HELPER_atomic_add;
  int64_t value = insn == X86_I_INC ? 1 : -1;
  return x86_call(t, helper, x86_dest_linear(t, dest), x86_const(t, value), x86_const(t, dest->w));
}

void x86_tr_unary(X86Translator *t, const X86Decoded *d)
{
  static const IrOpcode flagged[4] = { IR_INCF, IR_DECF, IR_NEGF, IR_NOT };
  IrOpcode op = flagged[d->insn - X86_I_INC];
  X86Dest dest = x86_open_dest(t, d, 0);
  if (dest.memory) {
    IrRef old;
    if (d->lock) {
      old = unary_locked(t, (X86Insn)d->insn, &dest);
    } else {
      old = x86_dest_load(t, &dest);
      x86_dest_store(t, &dest, unary_plain(t, (X86Insn)d->insn, dest.w, old));
    }
    if (d->insn != X86_I_NOT)
      ir_op1(t->ir, op, dest.w, old);
    return;
  }
  IrRef a = x86_dest_load(t, &dest);
  IrRef out = x86_dest_output(t, &dest);
  ir_emit(t->ir, op, dest.w, out, a, IR_NONE);
  x86_dest_finish(t, &dest, out);
}

/* ---- multiplication, division ------------------------------------------------------------------------------------------ */

void x86_tr_mul_wide(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  IrRef b = x86_load_operand(t, d, 0);
  IrRef low = ir_temp(t->ir), high = w == IR_W8 ? IR_NONE : ir_temp(t->ir);
  ir_emit(t->ir, d->insn == X86_I_MUL ? IR_UMULWF : IR_SMULWF, w, low, ir_reg(X86_RAX), b)->c = high;
  if (w == IR_W8) {
    x86_set_reg(t, X86_RAX, IR_W16, low);
    return;
  }
  x86_set_reg(t, X86_RAX, w, low);
  x86_set_reg(t, X86_RDX, w, high);
}

void x86_tr_imul(X86Translator *t, const X86Decoded *d)
{
  bool three = d->insn == X86_I_IMUL3;
  IrRef a = x86_load_operand(t, d, three ? 1 : 0);
  IrRef b = x86_load_operand(t, d, three ? 2 : 1);
  X86Dest dest = x86_open_dest(t, d, 0);
  IrRef out = x86_dest_output(t, &dest);
  ir_emit(t->ir, IR_IMULF, dest.w, out, a, b);
  x86_dest_finish(t, &dest, out);
}

void x86_tr_div(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  IrRef divisor = x86_zero_extend(t, w, x86_load_operand(t, d, 0));
  x86_call_void(t, d->insn == X86_I_DIV ? HELPER_div : HELPER_idiv, divisor, x86_const(t, w), IR_NONE);
}

/* ADCX and ADOX: an addition that carries through one flag and leaves the others. */
void x86_tr_adx(X86Translator *t, const X86Decoded *d)
{
  if (!(x86_tcg_features.leaf7_ebx & 1u << 19)) {
    x86_emit_ud(t);
    return;
  }
  IrRef b = x86_load_operand(t, d, 1);
  IrRef before = x86_get_flags(t);
  bool by_of = d->insn == X86_I_ADOX;
  if (by_of)
    x86_set_flags(t, ir_setcc(t->ir, X86_CC_O), X86_F_CF);
  IrRef dest = ir_reg(d->reg);
  ir_emit(t->ir, IR_ADCF, x86_width(d, 0), dest, dest, b);
  if (!by_of) {
    x86_set_flags(t, before, X86_F_ARITH & ~X86_F_CF);
    return;
  }
  IrRef carry = ir_op2(t->ir, IR_SHL, IR_W64, ir_setcc(t->ir, X86_CC_C), x86_const(t, 11));
  x86_set_flags(t, before, X86_F_ARITH & ~X86_F_OF);
  x86_set_flags(t, carry, X86_F_OF);
}

void x86_tr_bcd(X86Translator *t, const X86Decoded *d)
{
  static const TcgHelperId helpers[6] = { HELPER_daa, HELPER_das, HELPER_aaa, HELPER_aas, HELPER_aam, HELPER_aad };
  x86_call_void(t, helpers[d->insn - X86_I_DAA], x86_const(t, d->imm), IR_NONE, IR_NONE);
}

/* CBW, CWDE, CDQE and CWD, CDQ, CQO. */
void x86_tr_convert(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  IrRef rax = ir_reg(X86_RAX);
  if (d->insn == X86_I_CBW) {
    x86_set_reg(t, X86_RAX, w, x86_sign_extend(t, (IrWidth)(w - 1), rax));
    return;
  }
  x86_set_reg(t, X86_RDX, w, ir_op2(t->ir, IR_SAR, w, rax, x86_const(t, (8 << w) - 1)));
}

/* ---- flags as such ---------------------------------------------------------------------------------------------------------- */

static void set_direction(X86Translator *t, bool down)
{
  uint32_t offset = X86_STATE(x86.rflags);
  IrRef flags = ir_lde(t->ir, IR_W64, offset);
  IrRef df = x86_const(t, X86_F_DF), others = x86_const(t, ~(int64_t)X86_F_DF);
  ir_ste(t->ir, IR_W64, offset, ir_op2(t->ir, down ? IR_OR : IR_AND, IR_W64, flags, down ? df : others));
}

static void load_flags_to_ah(X86Translator *t)
{
  IrRef flags = ir_op2(t->ir, IR_AND, IR_W64, x86_get_flags(t), x86_const(t, 0xd5));
  IrRef image = ir_op2(t->ir, IR_OR, IR_W64, flags, x86_const(t, X86_F_FIXED));
  ir_emit(t->ir, IR_DEP8H, IR_W64, ir_reg(X86_RAX), ir_reg(X86_RAX), image);
}

void x86_tr_flags(X86Translator *t, const X86Decoded *d)
{
  switch ((X86Insn)d->insn) {
  case X86_I_CLC:
    ir_emit(t->ir, IR_CLC, IR_W64, IR_NONE, IR_NONE, IR_NONE);
    break;
  case X86_I_STC:
    ir_emit(t->ir, IR_STC, IR_W64, IR_NONE, IR_NONE, IR_NONE);
    break;
  case X86_I_CMC:
    ir_emit(t->ir, IR_CMC, IR_W64, IR_NONE, IR_NONE, IR_NONE);
    break;
  case X86_I_CLD:
  case X86_I_STD:
    set_direction(t, d->insn == X86_I_STD);
    break;
  case X86_I_LAHF:
    load_flags_to_ah(t);
    break;
  case X86_I_SAHF:
    x86_set_flags(t, ir_op1(t->ir, IR_XH8, IR_W64, ir_reg(X86_RAX)), 0xd5);
    break;
  default: /* SALC: AL = CF ? FF : 0 */
    x86_set_reg(t, X86_RAX, IR_W8, ir_op1(t->ir, IR_NEG, IR_W32, ir_setcc(t->ir, X86_CC_C)));
    break;
  }
}

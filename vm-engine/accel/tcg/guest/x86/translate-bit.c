/* Bit tests, scans and counts, byte swaps, CRC32, and BMI's bit-field instructions. */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

enum {
  CPUID_1_ECX_SSE42 = 1 << 20,
  CPUID_1_ECX_POPCNT = 1 << 23,
  CPUID_7_EBX_BMI1 = 1 << 3,
  CPUID_7_EBX_BMI2 = 1 << 8,
  CPUID_EXT1_ECX_ABM = 1 << 5,
};

/* ---- BT and kin ------------------------------------------------------------------------------------------------------ */

/* In memory a bit number from a register reaches beyond the operand: it selects the operand-sized word, counted from the
 * address, that holds the bit. */
static X86Mem bit_string_address(X86Translator *t, const X86Decoded *d, IrWidth w, IrRef bit, X86Access access)
{
  IrRef word = ir_op2(t->ir, IR_SAR, IR_W64, x86_sign_extend(t, w, bit), x86_const(t, 3 + w));
  IrRef offset = ir_lea(t->ir, (IrWidth)d->addr_size, x86_effective_offset(t, d),
                        ir_op2(t->ir, IR_SHL, IR_W64, word, x86_const(t, w)), 0, 0);
  return x86_segment_address(t, d->seg, offset, 1u << w, access);
}

static IrRef change_bit(X86Translator *t, X86Insn insn, IrWidth w, IrRef old, IrRef mask)
{
  switch (insn) {
  case X86_I_BTS:
    return ir_op2(t->ir, IR_OR, w, old, mask);
  case X86_I_BTR:
    return ir_op2(t->ir, IR_AND, w, old, ir_op1(t->ir, IR_NOT, w, mask));
  default:
    return ir_op2(t->ir, IR_XOR, w, old, mask);
  }
}

static IrRef change_bit_locked(X86Translator *t, X86Insn insn, const X86Dest *dest, IrRef mask)
{
  TcgHelperId helper = insn == X86_I_BTS ? HELPER_atomic_or : insn == X86_I_BTR ? HELPER_atomic_and : HELPER_atomic_xor;
  if (insn == X86_I_BTR)
    mask = ir_op1(t->ir, IR_NOT, IR_W64, mask);
  return x86_call(t, helper, x86_dest_linear(t, dest), mask, x86_const(t, dest->w));
}

/* `bit` is below the width. */
static void bit_test_memory(X86Translator *t, const X86Decoded *d, X86Dest *dest, IrRef bit)
{
  IrRef old;
  X86Insn insn = (X86Insn)d->insn;
  if (insn == X86_I_BT) {
    old = x86_load(t, dest->w, dest->mem);
  } else {
    IrRef mask = ir_op2(t->ir, IR_SHL, IR_W64, x86_const(t, 1), bit);
    if (d->lock) {
      old = change_bit_locked(t, insn, dest, mask);
    } else {
      old = x86_dest_load(t, dest);
      x86_dest_store(t, dest, change_bit(t, insn, dest->w, old, mask));
    }
  }
  ir_emit(t->ir, IR_BTF, dest->w, IR_NONE, old, bit);
}

void x86_tr_bit_test(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  IrRef bit = x86_load_operand(t, d, 1);
  bool immediate = ir_is_const(bit);
  if (immediate)
    bit = x86_const(t, d->imm & ((8 << w) - 1));
  if (x86_decoded_is_memory(d)) {
    X86Access access = d->insn == X86_I_BT ? X86_READ : X86_WRITE;
    X86Dest dest = { .w = w, .memory = true, .d = d };
    dest.mem = immediate ? x86_operand_address(t, d, 1u << w, access) : bit_string_address(t, d, w, bit, access);
    if (!immediate)
      bit = ir_op2(t->ir, IR_AND, IR_W64, bit, x86_const(t, (8 << w) - 1));
    bit_test_memory(t, d, &dest, bit);
    return;
  }
  static const IrOpcode ops[4] = { IR_BTF, IR_BTSF, IR_BTRF, IR_BTCF };
  X86Dest dest = x86_open_dest(t, d, 0);
  IrRef a = x86_dest_load(t, &dest);
  if (d->insn == X86_I_BT) {
    ir_emit(t->ir, IR_BTF, w, IR_NONE, a, bit);
    return;
  }
  IrRef out = x86_dest_output(t, &dest);
  ir_emit(t->ir, ops[d->insn - X86_I_BT], w, out, a, bit);
  x86_dest_finish(t, &dest, out);
}

/* ---- scans, counts, swaps ------------------------------------------------------------------------------------------------ */

/* LZCNT and TZCNT are BSR and BSF to processors that do not know them. */
static X86Insn known_scan(const X86Decoded *d)
{
  if (d->insn == X86_I_LZCNT && !(x86_tcg_features.ext1_ecx & CPUID_EXT1_ECX_ABM))
    return X86_I_BSR;
  if (d->insn == X86_I_TZCNT && !(x86_tcg_features.leaf7_ebx & CPUID_7_EBX_BMI1))
    return X86_I_BSF;
  return (X86Insn)d->insn;
}

/* Without a bit set, the destination keeps all of its 64 bits. */
static void scan(X86Translator *t, IrOpcode op, X86Dest *dest, IrRef source)
{
  IrRef old = ir_reg(dest->reg);
  IrRef index = ir_op2(t->ir, op, dest->w, old, source);
  if (dest->w == IR_W32)
    ir_mov(t->ir, old, x86_cmovcc(t, IR_W64, X86_CC_Z, old, index));
  else
    x86_dest_store(t, dest, index);
}

void x86_tr_bit_scan(X86Translator *t, const X86Decoded *d)
{
  X86Insn insn = known_scan(d);
  if (insn == X86_I_POPCNT && !(x86_tcg_features.leaf1_ecx & CPUID_1_ECX_POPCNT)) {
    x86_emit_ud(t);
    return;
  }
  IrRef source = x86_load_operand(t, d, 1);
  X86Dest dest = x86_open_dest(t, d, 0);
  if (insn == X86_I_BSF || insn == X86_I_BSR) {
    scan(t, insn == X86_I_BSF ? IR_BSFF : IR_BSRF, &dest, source);
    return;
  }
  IrOpcode op = insn == X86_I_TZCNT ? IR_TZCNTF : insn == X86_I_LZCNT ? IR_LZCNTF : IR_POPCNTF;
  IrRef out = x86_dest_output(t, &dest);
  ir_emit(t->ir, op, dest.w, out, source, IR_NONE);
  x86_dest_finish(t, &dest, out);
}

/* With 16 bits the manual leaves the result open; processors clear the register's low half. */
void x86_tr_bswap(X86Translator *t, const X86Decoded *d)
{
  IrRef r = ir_reg(d->opcode_reg);
  if (d->op_size == 1)
    x86_set_reg(t, d->opcode_reg, IR_W16, x86_const(t, 0));
  else
    ir_emit(t->ir, IR_BSWAP, (IrWidth)d->op_size, r, r, IR_NONE);
}

void x86_tr_crc32(X86Translator *t, const X86Decoded *d)
{
  if (!(x86_tcg_features.leaf1_ecx & CPUID_1_ECX_SSE42)) {
    x86_emit_ud(t);
    return;
  }
  IrRef source = x86_load_operand(t, d, 1);
  ir_emit(t->ir, IR_CRC32, x86_width(d, 1), ir_reg(d->reg), ir_reg(d->reg), source);
}

/* ---- BMI -------------------------------------------------------------------------------------------------------------------- */

static bool refuse_without(X86Translator *t, uint32_t feature)
{
  if (x86_tcg_features.leaf7_ebx & feature)
    return false;
  x86_emit_ud(t);
  return true;
}

/* The carry (0 or 1) of these comes from another computation than the result's sign and zero. AF and PF are undefined (and
 * `undefined` may add SF); processors clear them. */
static void result_with_carry(X86Translator *t, const X86Decoded *d, IrRef result, IrRef carry, uint32_t undefined)
{
  IrWidth w = x86_width(d, 0);
  X86Dest dest = x86_open_dest(t, d, 0);
  ir_emit(t->ir, IR_TESTF, w, IR_NONE, result, result);
  x86_set_flags(t, carry, X86_F_CF | X86_F_AF | X86_F_PF | undefined);
  x86_dest_store(t, &dest, result);
}

void x86_tr_bmi_logic(X86Translator *t, const X86Decoded *d)
{
  if (refuse_without(t, CPUID_7_EBX_BMI1))
    return;
  IrWidth w = x86_width(d, 0);
  IrRef a = x86_load_operand(t, d, 1);
  if (d->insn == X86_I_ANDN) {
    IrRef b = x86_load_operand(t, d, 2);
    result_with_carry(t, d, ir_op2(t->ir, IR_AND, w, ir_op1(t->ir, IR_NOT, w, a), b), x86_const(t, 0), 0);
    return;
  }
  bool isolate = d->insn == X86_I_BLSI;
  /* NEG carries unless its operand is 0, a - 1 if it is: the manual's CF. */
  IrRef other = isolate ? ir_op1(t->ir, IR_NEGF, w, a) : ir_op2(t->ir, IR_SUBF, w, a, x86_const(t, 1));
  IrRef carry = ir_setcc(t->ir, X86_CC_C);
  result_with_carry(t, d, ir_op2(t->ir, d->insn == X86_I_BLSMSK ? IR_XOR : IR_AND, w, a, other), carry, 0);
}

void x86_tr_bmi_field(X86Translator *t, const X86Decoded *d)
{
  bool extract = d->insn == X86_I_BEXTR;
  if (refuse_without(t, extract ? CPUID_7_EBX_BMI1 : CPUID_7_EBX_BMI2))
    return;
  IrWidth w = x86_width(d, 0);
  IrRef value = x86_zero_extend(t, w, x86_load_operand(t, d, 1));
  IrRef control = x86_load_operand(t, d, 2);
  if (extract) {
    result_with_carry(t, d, x86_call(t, HELPER_extract_bits, value, control, IR_NONE), x86_const(t, 0), X86_F_SF);
    return;
  }
  IrRef count = ir_op1(t->ir, IR_ZX8, IR_W64, control);
  IrRef result = x86_call(t, HELPER_zero_high_bits, value, count, x86_const(t, w));
  ir_emit(t->ir, IR_CMPF, IR_W32, IR_NONE, x86_const(t, (8 << w) - 1), count);
  result_with_carry(t, d, result, ir_setcc(t->ir, X86_CC_C), 0);
}

/* MULX: vvvv gets the low half, modrm.reg the high; the same register for both keeps the high half. */
static void translate_mulx(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  IrRef a = x86_zero_extend(t, w, ir_reg(X86_RDX)), b = x86_zero_extend(t, w, x86_load_operand(t, d, 2));
  IrRef low = ir_op2(t->ir, IR_MUL, IR_W64, a, b);
  IrRef high = w == IR_W32 ? ir_op2(t->ir, IR_SHR, IR_W64, low, x86_const(t, 32))
                           : x86_call(t, HELPER_multiply_high, a, b, IR_NONE);
  x86_set_reg(t, d->vex_v, w, low);
  x86_set_reg(t, d->reg, w, high);
}

void x86_tr_bmi_move(X86Translator *t, const X86Decoded *d)
{
  static const IrOpcode ops[] = {
    [X86_I_PEXT - X86_I_PEXT] = IR_PEXT, [X86_I_PDEP - X86_I_PEXT] = IR_PDEP, [X86_I_SHLX - X86_I_PEXT] = IR_SHL,
    [X86_I_SARX - X86_I_PEXT] = IR_SAR,  [X86_I_SHRX - X86_I_PEXT] = IR_SHR,  [X86_I_RORX - X86_I_PEXT] = IR_ROR,
  };
  if (refuse_without(t, CPUID_7_EBX_BMI2))
    return;
  if (d->insn == X86_I_MULX) {
    translate_mulx(t, d);
    return;
  }
  IrRef a = x86_load_operand(t, d, 1);
  IrRef b = x86_load_operand(t, d, 2);
  ir_emit(t->ir, ops[d->insn - X86_I_PEXT], x86_width(d, 0), ir_reg(d->reg), a, b);
}

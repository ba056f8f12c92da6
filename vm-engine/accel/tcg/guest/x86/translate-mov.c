/* Moves, extensions, exchanges, conditional moves and sets. */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

/* A load straight into a register that it replaces whole. */
static void load_to_register(X86Translator *t, IrWidth w, unsigned memop, X86Mem m, unsigned reg)
{
  IrInsn *insn = ir_emit(t->ir, IR_LD, w, ir_reg(reg), m.base, IR_NONE);
  insn->aux = (uint8_t)memop;
  insn->imm = m.disp;
}

static bool is_memory_class(const X86Decoded *d, unsigned i)
{
  X86OperandClass class = x86_operand_class((X86Operand)d->row.operands[i]);
  return class == X86_OPC_O || (x86_decoded_is_memory(d) && (class == X86_OPC_E || class == X86_OPC_M));
}

void x86_tr_mov(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  if (d->map == X86_MAP_0F && (d->prefix_66 || d->rep)) { /* MOVNTI has no prefixed forms */
    x86_emit_ud(t);
    return;
  }
  if (is_memory_class(d, 1) && w >= IR_W32) {
    X86Mem m = x86_operand_address(t, d, 1u << w, X86_READ);
    load_to_register(t, w, w, m, d->map == X86_MAP_ONE && d->opcode < 0xa0 ? d->reg : (unsigned)X86_RAX);
    return;
  }
  X86Dest dest = x86_open_dest(t, d, 0);
  x86_dest_store(t, &dest, x86_load_operand(t, d, 1));
}

/* MOVZX, MOVSX, MOVSXD; the last may be as narrow as its destination. */
void x86_tr_mov_extend(X86Translator *t, const X86Decoded *d)
{
  IrWidth to = x86_width(d, 0), from = MIN(x86_width(d, 1), to);
  bool sign = d->insn != X86_I_MOVZX;
  if (x86_decoded_is_memory(d)) {
    X86Mem m = x86_operand_address(t, d, 1u << from, X86_READ);
    unsigned memop = from | (sign ? IR_MEM_SIGNED : 0);
    if (to == IR_W64 || (to == IR_W32 && !sign))
      load_to_register(t, from, memop, m, d->reg);
    else
      x86_set_reg(t, d->reg, to, ir_ld(t->ir, memop, m.base, m.disp));
    return;
  }
  IrRef source = x86_get_gpr(t, d, d->rm, from);
  x86_set_reg(t, d->reg, to, sign ? x86_sign_extend(t, from, source) : x86_zero_extend(t, from, source));
}

void x86_tr_lea(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  if (w == IR_W16 || d->addr_size == 1 || (d->base == X86_NO_REG && d->index == X86_NO_REG)) {
    x86_set_reg(t, d->reg, w, x86_effective_offset(t, d));
    return;
  }
  IrRef base = d->base == X86_NO_REG ? IR_NONE : ir_reg(d->base);
  IrRef index = d->index == X86_NO_REG ? IR_NONE : ir_reg(d->index);
  IrInsn *insn = ir_emit(t->ir, IR_LEA, MIN(w, (IrWidth)d->addr_size), ir_reg(d->reg), base, index);
  insn->aux = d->scale;
  insn->imm = d->disp;
}

/* ---- exchanges --------------------------------------------------------------------------------------------------------- */

void x86_tr_xchg(X86Translator *t, const X86Decoded *d)
{
  if (d->map == X86_MAP_ONE && d->opcode == 0x90 && d->opcode_reg == X86_RAX)
    return; /* NOP and PAUSE: not even the upper half is cleared */
  X86Dest first = x86_open_dest(t, d, 0), second = x86_open_dest(t, d, 1);
  IrRef value = x86_dest_load(t, &second);
  if (first.memory) {
    IrRef address = x86_dest_linear(t, &first);
    IrRef old = x86_call(t, HELPER_atomic_xchg, address, value, x86_const(t, first.w));
    x86_dest_store(t, &second, old);
    return;
  }
  IrRef old = x86_zero_extend(t, first.w, x86_dest_load(t, &first));
  x86_dest_store(t, &first, value);
  x86_dest_store(t, &second, old);
}

void x86_tr_xadd(X86Translator *t, const X86Decoded *d)
{
  X86Dest first = x86_open_dest(t, d, 0), second = x86_open_dest(t, d, 1);
  IrRef b = x86_dest_load(t, &second);
  if (!first.memory) {
    IrRef old = x86_zero_extend(t, first.w, x86_dest_load(t, &first));
    IrRef sum = ir_op2(t->ir, IR_ADDF, first.w, old, b);
    x86_dest_store(t, &second, old);
    x86_dest_store(t, &first, sum);
    return;
  }
  IrRef old;
  if (d->lock) {
    old = x86_call(t, HELPER_atomic_add, x86_dest_linear(t, &first), b, x86_const(t, first.w));
  } else {
    old = x86_dest_load(t, &first);
    x86_dest_store(t, &first, ir_op2(t->ir, IR_ADD, first.w, old, b));
  }
  ir_op2(t->ir, IR_ADDF, first.w, old, b);
  x86_dest_store(t, &second, old);
}

/* The accumulator gets the old value if it differed; where it was equal even its upper half stays. */
static void update_accumulator(X86Translator *t, IrWidth w, IrRef old)
{
  if (w == IR_W32)
    ir_mov(t->ir, ir_reg(X86_RAX), x86_cmovcc(t, IR_W64, X86_CC_Z, ir_reg(X86_RAX), x86_zero_extend(t, w, old)));
  else
    x86_set_reg(t, X86_RAX, w, old);
}

/* Memory is written in either case, and with or without LOCK by the same atomic operation. */
void x86_tr_cmpxchg(X86Translator *t, const X86Decoded *d)
{
  X86Dest dest = x86_open_dest(t, d, 0);
  IrWidth w = dest.w;
  IrRef source = x86_load_operand(t, d, 1), rax = ir_reg(X86_RAX);
  if (dest.memory) {
    IrRef old = x86_call(t, HELPER_atomic_cmpxchg, x86_dest_linear(t, &dest), source, x86_const(t, w));
    ir_emit(t->ir, IR_CMPF, w, IR_NONE, rax, old);
    update_accumulator(t, w, old);
    return;
  }
  IrRef old = x86_zero_extend(t, w, x86_dest_load(t, &dest));
  ir_emit(t->ir, IR_CMPF, w, IR_NONE, rax, old);
  /* Where they differ a 32-bit register keeps its upper half. */
  IrRef result = w <= IR_W16 ? x86_cmovcc(t, IR_W32, X86_CC_Z, source, old)
                             : x86_cmovcc(t, IR_W64, X86_CC_Z, x86_zero_extend(t, w, source), ir_reg(dest.reg));
  update_accumulator(t, w, old);
  if (w == IR_W32)
    ir_mov(t->ir, ir_reg(dest.reg), result);
  else
    x86_dest_store(t, &dest, result);
}

void x86_tr_cmpxchg8b(X86Translator *t, const X86Decoded *d)
{
  bool wide = d->rex_w;
  IrRef address = x86_operand_linear(t, d, wide ? 16 : 8, X86_WRITE);
  x86_call_void(t, wide ? HELPER_cmpxchg16b : HELPER_cmpxchg8b, address, IR_NONE, IR_NONE);
}

/* ---- the rest -------------------------------------------------------------------------------------------------------------- */

void x86_tr_movbe(X86Translator *t, const X86Decoded *d)
{
  if (!(x86_tcg_features.leaf1_ecx & 1u << 22)) {
    x86_emit_ud(t);
    return;
  }
  IrRef value = x86_load_operand(t, d, 1);
  X86Dest dest = x86_open_dest(t, d, 0);
  if (dest.w == IR_W16)
    value = ir_op2(t->ir, IR_ROL, IR_W16, value, x86_const(t, 8));
  else
    value = ir_op1(t->ir, IR_BSWAP, dest.w, value);
  x86_dest_store(t, &dest, value);
}

void x86_tr_xlat(X86Translator *t, const X86Decoded *d)
{
  IrRef al = ir_op1(t->ir, IR_ZX8, IR_W64, ir_reg(X86_RAX));
  IrRef offset = ir_lea(t->ir, (IrWidth)d->addr_size, ir_reg(X86_RBX), al, 0, 0);
  X86Mem m = x86_segment_address(t, d->seg, offset, 1, X86_READ);
  x86_set_reg(t, X86_RAX, IR_W8, x86_load(t, IR_W8, m));
}

void x86_tr_cmovcc(X86Translator *t, const X86Decoded *d)
{
  IrRef source = x86_load_operand(t, d, 1);
  X86Dest dest = x86_open_dest(t, d, 0);
  IrRef out = x86_dest_output(t, &dest);
  ir_emit(t->ir, IR_CMOVCC, dest.w, out, source, x86_dest_load(t, &dest))->aux = d->opcode & 15;
  x86_dest_finish(t, &dest, out);
}

void x86_tr_setcc(X86Translator *t, const X86Decoded *d)
{
  X86Dest dest = x86_open_dest(t, d, 0);
  x86_dest_store(t, &dest, ir_setcc(t->ir, d->opcode & 15));
}

void x86_tr_nop(X86Translator *t, const X86Decoded *d) {}

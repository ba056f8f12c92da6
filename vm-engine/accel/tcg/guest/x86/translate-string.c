/*
 * String instructions. One iteration without REP is inline. With REP a helper does a bounded number of iterations,
 * a page at a time where it can, and the block jumps to itself until the count is used up: so interrupts are taken in
 * between, and at a fault the registers say how far it got.
 */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

static X86Mem source_address(X86Translator *t, const X86Decoded *d, IrWidth w)
{
  IrRef rsi = ir_lea(t->ir, (IrWidth)d->addr_size, ir_reg(X86_RSI), IR_NONE, 0, 0);
  return x86_segment_address(t, d->seg, rsi, 1u << w, X86_READ);
}

/* ES, whatever the override. */
static X86Mem destination_address(X86Translator *t, const X86Decoded *d, IrWidth w, X86Access access)
{
  IrRef rdi = ir_lea(t->ir, (IrWidth)d->addr_size, ir_reg(X86_RDI), IR_NONE, 0, 0);
  return x86_segment_address(t, X86_ES, rdi, 1u << w, access);
}

/* What one iteration adds to the index registers: the width, negative under DF. */
static IrRef step_of(X86Translator *t, IrWidth w)
{
  IrRef flags = ir_lde(t->ir, IR_W64, X86_STATE(x86.rflags));
  IrRef twice = ir_op2(t->ir, IR_AND, IR_W64, ir_op2(t->ir, IR_SHR, IR_W64, flags, x86_const(t, 9)), x86_const(t, 2));
  IrRef down = ir_op2(t->ir, IR_SHL, IR_W64, twice, x86_const(t, w));
  return ir_op2(t->ir, IR_SUB, IR_W64, x86_const(t, 1 << w), down);
}

static void advance(X86Translator *t, const X86Decoded *d, unsigned reg, IrRef step)
{
  IrWidth w = (IrWidth)d->addr_size;
  x86_set_reg(t, reg, w, ir_lea(t->ir, w, ir_reg(reg), step, 0, 0));
}

/* Emits the helper's call and the block's end; `compares` tells REPE from REPNE. False without a REP prefix. */
static bool repeat(X86Translator *t, const X86Decoded *d, TcgHelperId helper, IrWidth w)
{
  if (!d->rep)
    return false;
  uint32_t what = (uint32_t)w | (uint32_t)d->addr_size << X86_REP_ADDRESS_SHIFT | (uint32_t)d->seg << X86_REP_SEG_SHIFT;
  if (d->rep == 0xf3)
    what |= X86_REP_WHILE_EQUAL;
  if (t->hflags & TCG_HF_TF)
    what |= X86_REP_ONCE;
  IrRef again = x86_call(t, helper, x86_const(t, what), IR_NONE, IR_NONE);
  x86_end_nonzero(t, IR_W32, again, t->rip, t->next_rip);
  return true;
}

void x86_tr_movs(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  if (repeat(t, d, HELPER_rep_movs, w))
    return;
  IrRef value = x86_load(t, w, source_address(t, d, w));
  x86_store(t, w, destination_address(t, d, w, X86_WRITE), value);
  IrRef step = step_of(t, w);
  advance(t, d, X86_RSI, step);
  advance(t, d, X86_RDI, step);
}

void x86_tr_stos(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  if (repeat(t, d, HELPER_rep_stos, w))
    return;
  x86_store(t, w, destination_address(t, d, w, X86_WRITE), ir_reg(X86_RAX));
  advance(t, d, X86_RDI, step_of(t, w));
}

void x86_tr_lods(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 1);
  if (repeat(t, d, HELPER_rep_lods, w))
    return;
  IrRef value = x86_load(t, w, source_address(t, d, w));
  advance(t, d, X86_RSI, step_of(t, w));
  x86_set_reg(t, X86_RAX, w, value);
}

void x86_tr_cmps(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  if (repeat(t, d, HELPER_rep_cmps, w))
    return;
  IrRef a = x86_load(t, w, source_address(t, d, w));
  IrRef b = x86_load(t, w, destination_address(t, d, w, X86_READ));
  IrRef step = step_of(t, w);
  advance(t, d, X86_RSI, step);
  advance(t, d, X86_RDI, step);
  ir_emit(t->ir, IR_CMPF, w, IR_NONE, a, b);
}

void x86_tr_scas(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 1);
  if (repeat(t, d, HELPER_rep_scas, w))
    return;
  IrRef b = x86_load(t, w, destination_address(t, d, w, X86_READ));
  advance(t, d, X86_RDI, step_of(t, w));
  ir_emit(t->ir, IR_CMPF, w, IR_NONE, ir_reg(X86_RAX), b);
}

/* The right to the port comes first, then the memory; the port is read only when nothing can fault any more. */
void x86_tr_ins(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  if (repeat(t, d, HELPER_rep_ins, w))
    return;
  IrRef port = ir_op1(t->ir, IR_ZX16, IR_W64, ir_reg(X86_RDX)), bytes = x86_const(t, 1 << w);
  x86_call_void(t, HELPER_check_io, port, bytes, IR_NONE);
  X86Mem m = destination_address(t, d, w, X86_WRITE);
  x86_probe_write(t, w, x86_mem_linear(t, m));
  x86_store(t, w, m, x86_call(t, HELPER_in, port, bytes, IR_NONE));
  advance(t, d, X86_RDI, step_of(t, w));
  x86_end_loop(t);
}

void x86_tr_outs(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 1);
  if (repeat(t, d, HELPER_rep_outs, w))
    return;
  IrRef port = ir_op1(t->ir, IR_ZX16, IR_W64, ir_reg(X86_RDX)), bytes = x86_const(t, 1 << w);
  x86_call_void(t, HELPER_check_io, port, bytes, IR_NONE);
  IrRef value = x86_load(t, w, source_address(t, d, w));
  x86_call_void(t, HELPER_out, port, bytes, value);
  advance(t, d, X86_RSI, step_of(t, w));
  x86_end_loop(t);
}

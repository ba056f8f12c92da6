/* Jumps, calls, returns, loops; software interrupts. Far transfers are the system helpers'. */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

void x86_tr_jcc(X86Translator *t, const X86Decoded *d)
{
  x86_end_cc(t, d->opcode & 15, x86_relative_target(t, d));
}

void x86_tr_jmp(X86Translator *t, const X86Decoded *d)
{
  if (d->insn == X86_I_JMP)
    x86_end_direct(t, x86_relative_target(t, d));
  else
    x86_end_indirect(t, x86_zero_extend(t, (IrWidth)d->op_size, x86_load_operand(t, d, 0)));
}

void x86_tr_call(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  IrRef back = x86_const(t, (int64_t)t->next_rip);
  if (d->insn == X86_I_CALL) {
    x86_push(t, w, back);
    x86_end_direct(t, x86_relative_target(t, d));
    return;
  }
  IrRef target = x86_zero_extend(t, w, x86_load_operand(t, d, 0));
  x86_push(t, w, back);
  x86_end_indirect(t, target);
}

void x86_tr_ret(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  IrRef target = x86_load(t, w, x86_stack_address(t, 0, 1u << w, X86_READ));
  x86_adjust_sp(t, (1 << w) + (uint16_t)d->imm);
  x86_end_indirect(t, target);
}

/* LOOP, LOOPE, LOOPNE and JCXZ: the counter's width is the address size; no flags are touched. */
void x86_tr_loop(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->addr_size;
  IrRef rcx = ir_reg(X86_RCX);
  uint64_t target = x86_relative_target(t, d);
  if (d->insn == X86_I_JCXZ) {
    x86_end_nonzero(t, w, rcx, t->next_rip, target);
    return;
  }
  x86_set_reg(t, X86_RCX, w, ir_lea(t->ir, w, rcx, IR_NONE, 0, -1));
  IrRef goes_on = rcx;
  if (d->insn != X86_I_LOOP)
    goes_on = x86_cmovcc(t, IR_W64, d->insn == X86_I_LOOPE ? X86_CC_Z : X86_CC_NZ, rcx, x86_const(t, 0));
  x86_end_nonzero(t, w, goes_on, target, t->next_rip);
}

/* ---- far ------------------------------------------------------------------------------------------------------------ */

static void load_far_pointer(X86Translator *t, const X86Decoded *d, IrRef *selector, IrRef *offset)
{
  IrWidth w = (IrWidth)d->op_size;
  X86Mem m = x86_operand_address(t, d, (1u << w) + 2, X86_READ);
  *offset = x86_load(t, w, m);
  *selector = x86_load(t, IR_W16, x86_mem_plus(t, m, 1 << w));
}

void x86_tr_far(X86Translator *t, const X86Decoded *d)
{
  IrRef selector = x86_const(t, d->imm2), offset = x86_const(t, d->imm);
  if (d->insn == X86_I_JMP_FAR_MEM || d->insn == X86_I_CALL_FAR_MEM)
    load_far_pointer(t, d, &selector, &offset);
  IrRef next = x86_const(t, (int64_t)t->next_rip);
  if (d->insn == X86_I_JMP_FAR || d->insn == X86_I_JMP_FAR_MEM) {
    x86_call_void(t, HELPER_far_jmp, selector, offset, next);
  } else {
    IrRef size = x86_const(t, (int64_t)(1 << d->op_size) << 16);
    x86_call_void(t, HELPER_far_call, ir_op2(t->ir, IR_OR, IR_W64, selector, size), offset, next);
  }
  x86_end_loop_stored(t);
}

void x86_tr_far_return(X86Translator *t, const X86Decoded *d)
{
  IrRef bytes = x86_const(t, 1 << d->op_size);
  if (d->insn == X86_I_IRET)
    x86_call_void(t, HELPER_iret, bytes, x86_const(t, (int64_t)t->next_rip), IR_NONE);
  else
    x86_call_void(t, HELPER_far_ret, bytes, x86_const(t, d->imm), IR_NONE);
  x86_end_loop_stored(t);
}

/* LES, LDS, LSS, LFS, LGS. */
void x86_tr_load_far(X86Translator *t, const X86Decoded *d)
{
  unsigned seg = d->map == X86_MAP_ONE ? (d->opcode == 0xc4 ? X86_ES : X86_DS)
                 : d->opcode == 0xb2   ? X86_SS
                                       : (d->opcode == 0xb4 ? X86_FS : X86_GS);
  IrRef selector, offset;
  load_far_pointer(t, d, &selector, &offset);
  x86_call_void(t, HELPER_load_seg, x86_const(t, seg), selector, x86_const(t, 0));
  x86_set_reg(t, d->reg, (IrWidth)d->op_size, offset);
  x86_end_after_segment(t, seg);
}

/* ---- software interrupts ------------------------------------------------------------------------------------------------ */

void x86_tr_interrupt(X86Translator *t, const X86Decoded *d)
{
  IrRef next = x86_const(t, (int64_t)t->next_rip);
  switch ((X86Insn)d->insn) {
  case X86_I_INT:
    x86_call_void(t, HELPER_int_n, x86_const(t, d->imm), next, IR_NONE);
    break;
  case X86_I_INT3:
    x86_call_void(t, HELPER_int3, next, IR_NONE, IR_NONE);
    break;
  case X86_I_INT1:
    x86_call_void(t, HELPER_int1, next, IR_NONE, IR_NONE);
    break;
  default: /* INTO: goes on where OF is clear */
    x86_call_void(t, HELPER_into, next, IR_NONE, IR_NONE);
    return;
  }
  x86_end_loop_stored(t);
}

/* Processors judge the lower bound before they read the upper one. */
void x86_tr_bound(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  X86Mem m = x86_operand_address(t, d, 2u << w, X86_READ);
  IrRef index = x86_sign_extend(t, w, ir_reg(d->reg));
  IrRef lower = x86_sign_extend(t, w, x86_load(t, w, m));
  x86_call_void(t, HELPER_bound, index, lower, x86_const(t, INT64_MAX));
  IrRef upper = x86_sign_extend(t, w, x86_load(t, w, x86_mem_plus(t, m, 1 << w)));
  x86_call_void(t, HELPER_bound, index, lower, upper);
}

/* Shifts and rotates. Their flags depend on the count in ways that the host computes exactly. */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

/* By insn, from ROL on; rotates through carry have no form without flags. */
static const struct {
  IrOpcode flagged, plain;
} shift_ops[8] = {
  { IR_ROLF, IR_ROL }, { IR_RORF, IR_ROR }, { IR_RCLF, IR_MOV }, { IR_RCRF, IR_MOV },
  { IR_SHLF, IR_SHL }, { IR_SHRF, IR_SHR }, { IR_SHLF, IR_SHL }, { IR_SARF, IR_SAR },
};

void x86_tr_shift(X86Translator *t, const X86Decoded *d)
{
  unsigned i = d->insn - X86_I_ROL;
  X86Dest dest = x86_open_dest(t, d, 0);
  IrRef count = x86_load_operand(t, d, 1);
  bool through_carry = shift_ops[i].plain == IR_MOV;
  if (!dest.memory || through_carry) {
    IrRef a = x86_dest_load(t, &dest);
    IrRef out = x86_dest_output(t, &dest);
    ir_emit(t->ir, shift_ops[i].flagged, dest.w, out, a, count);
    x86_dest_finish(t, &dest, out);
    return;
  }
  IrRef old = x86_dest_load(t, &dest);
  x86_dest_store(t, &dest, ir_op2(t->ir, shift_ops[i].plain, dest.w, old, count));
  ir_op2(t->ir, shift_ops[i].flagged, dest.w, old, count);
}

void x86_tr_shift_double(X86Translator *t, const X86Decoded *d)
{
  X86Dest dest = x86_open_dest(t, d, 0);
  IrRef fill = x86_load_operand(t, d, 1);
  IrRef count = x86_load_operand(t, d, 2);
  IrRef a = x86_dest_load(t, &dest);
  IrRef out = x86_dest_output(t, &dest);
  ir_emit(t->ir, d->insn == X86_I_SHLD ? IR_SHLDF : IR_SHRDF, dest.w, out, a, fill)->c = count;
  x86_dest_finish(t, &dest, out);
}

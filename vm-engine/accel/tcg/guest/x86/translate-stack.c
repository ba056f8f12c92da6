/*
 * The stack. Orders that matter: a push stores before SP moves, so that a faulting store leaves everything as it was; a
 * pop to memory addresses with the SP that the pop leaves behind, but moves SP only after the store.
 */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

static IrRef load_stack(X86Translator *t, IrWidth w, int64_t offset)
{
  return x86_load(t, w, x86_stack_address(t, offset, 1u << w, X86_READ));
}

static void store_stack(X86Translator *t, IrWidth w, int64_t offset, IrRef value)
{
  x86_store(t, w, x86_stack_address(t, offset, 1u << w, X86_WRITE), value);
}

void x86_tr_push(X86Translator *t, const X86Decoded *d)
{
  x86_push(t, (IrWidth)d->op_size, x86_load_operand(t, d, 0));
}

void x86_tr_pop(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  IrRef value = load_stack(t, w, 0);
  if (!x86_decoded_is_memory(d)) {
    x86_adjust_sp(t, 1 << w); /* first: POP SP keeps what was popped */
    X86Dest dest = x86_open_dest(t, d, 0);
    x86_dest_store(t, &dest, value);
    return;
  }
  X86Decoded moved = *d;
  if (d->base == X86_RSP)
    moved.disp += 1 << w;
  X86Dest dest = x86_open_dest(t, &moved, 0);
  x86_dest_store(t, &dest, value);
  x86_adjust_sp(t, 1 << w);
}

static unsigned segment_of_opcode(const X86Decoded *d)
{
  if (d->map == X86_MAP_0F)
    return d->opcode & 8 ? X86_GS : X86_FS;
  return d->opcode >> 3 & 3;
}

/* With 32 bits, SP moves by four but 16 bits are written, as processors have done for long. */
void x86_tr_push_seg(X86Translator *t, const X86Decoded *d)
{
  uint32_t offset = X86_STATE(x86.seg) + segment_of_opcode(d) * (uint32_t)sizeof(X86Segment) +
                    (uint32_t)offsetof(X86Segment, selector);
  IrWidth w = d->op_size == 3 ? IR_W64 : IR_W16;
  store_stack(t, w, -(1 << d->op_size), ir_lde(t->ir, IR_W16, offset));
  x86_adjust_sp(t, -(1 << d->op_size));
}

void x86_tr_pop_seg(X86Translator *t, const X86Decoded *d)
{
  unsigned seg = segment_of_opcode(d);
  IrRef selector = ir_op1(t->ir, IR_ZX16, IR_W64, load_stack(t, (IrWidth)d->op_size, 0));
  x86_call_void(t, HELPER_load_seg, x86_const(t, seg), selector, x86_const(t, seg == X86_SS));
  x86_adjust_sp(t, 1 << d->op_size);
  x86_end_after_segment(t, seg);
}

/* AX CX DX BX SP BP SI DI, downwards. */
void x86_tr_pusha(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  for (int i = 0; i < 8; i++)
    store_stack(t, w, -(int64_t)(i + 1) * (1 << w), ir_reg((unsigned)i));
  x86_adjust_sp(t, -8 * (1 << w));
}

void x86_tr_popa(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  IrRef values[8];
  for (int i = 0; i < 8; i++)
    values[i] = i == X86_RSP ? IR_NONE : load_stack(t, w, (int64_t)(7 - i) * (1 << w));
  x86_adjust_sp(t, 8 * (1 << w));
  for (unsigned i = 0; i < 8; i++)
    if (i != X86_RSP)
      x86_set_reg(t, i, w, values[i]);
}

void x86_tr_pushf(X86Translator *t, const X86Decoded *d)
{
  IrRef image = x86_call(t, HELPER_pushf, x86_const(t, 1 << d->op_size), IR_NONE, IR_NONE);
  x86_push(t, (IrWidth)d->op_size, image);
}

void x86_tr_popf(X86Translator *t, const X86Decoded *d)
{
  IrRef bytes = x86_const(t, 1 << d->op_size);
  if (t->hflags & TCG_HF_VM)
    x86_call_void(t, HELPER_check_popf, bytes, IR_NONE, IR_NONE);
  IrRef image = load_stack(t, (IrWidth)d->op_size, 0);
  x86_call_void(t, HELPER_popf, image, bytes, IR_NONE);
  x86_adjust_sp(t, 1 << d->op_size);
  x86_end_loop(t);
}

/* A pointer of the stack's size into BP, as far as the operand size reaches. */
static void set_frame(X86Translator *t, IrWidth w, IrRef frame)
{
  x86_set_reg(t, X86_RBP, w, frame);
}

/* SS:[BP + offset], for the outer frames' pointers. */
static IrRef load_outer_frame(X86Translator *t, IrWidth w, int64_t offset)
{
  IrRef address = ir_lea(t->ir, (IrWidth)t->stack_size, ir_reg(X86_RBP), IR_NONE, 0, offset);
  return x86_load(t, w, x86_segment_address(t, X86_SS, address, 1u << w, X86_READ));
}

void x86_tr_enter(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  int64_t bytes = 1 << w;
  int64_t level = d->imm2 & 31;
  store_stack(t, w, -bytes, ir_reg(X86_RBP));
  IrRef frame = ir_lea(t->ir, (IrWidth)t->stack_size, ir_reg(X86_RSP), IR_NONE, 0, -bytes);
  for (int64_t i = 1; i < level; i++)
    store_stack(t, w, -bytes * (i + 1), load_outer_frame(t, w, -bytes * i));
  if (level)
    store_stack(t, w, -bytes * (level + 1), frame);
  int64_t down = -bytes * (level + 1) - (uint16_t)d->imm;
  /* The manual's last step: the new top of the stack must be writable. */
  IrRef top = x86_mem_linear(t, x86_stack_address(t, down, 1u << w, X86_WRITE));
  x86_probe_write(t, w, top);
  x86_adjust_sp(t, down);
  set_frame(t, w, frame);
}

void x86_tr_leave(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size, sp_width = (IrWidth)t->stack_size;
  IrRef value = load_outer_frame(t, w, 0);
  IrRef sp = ir_lea(t->ir, sp_width, ir_reg(X86_RBP), IR_NONE, 0, 1 << w);
  x86_set_reg(t, X86_RSP, sp_width, sp);
  set_frame(t, w, value);
}

/*
 * The guest's own vector and MMX instructions, with their registers rewritten: operands come from CPU state into xmm0–xmm2
 * (mm0–mm1), results go back. The encoding is the guest's in all else.
 *
 * MMX use marks the host's x87 registers as used, which C and the FPU's helpers do not expect: EMMS comes before both.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"

void be_emms(Backend *be)
{
  if (!be->mmx_used)
    return;
  emit_u8(&be->e, 0x0f);
  emit_u8(&be->e, 0x77);
  be->mmx_used = false;
}

static void load_operand(Emit *e, const IrNativeOperand *o, unsigned reg)
{
  Mem m = cpu_mem((int32_t)o->offset);
  if (o->kind == IR_NAT_MMX)
    emit_rm(e, D, o->bytes == 4 ? OP0F(0x6e) : OP0F(0x6f), reg, m); /* movd, movq */
  else if (o->bytes == 16)
    emit_rm(e, D, OP0F(0x28), reg, m); /* movaps */
  else if (o->bytes == 8)
    emit_rm(e, D, PREFIX(0xf3, OP0F(0x7e)), reg, m); /* movq */
  else
    emit_rm(e, D, PREFIX(0xf3, OP0F(0x10)), reg, m); /* movss */
}

static void store_operand(Emit *e, const IrNativeOperand *o, unsigned reg)
{
  Mem m = cpu_mem((int32_t)o->offset);
  if (o->kind == IR_NAT_MMX)
    emit_rm(e, D, o->bytes == 4 ? OP0F(0x7e) : OP0F(0x7f), reg, m);
  else if (o->bytes == 16)
    emit_rm(e, D, OP0F(0x29), reg, m);
  else if (o->bytes == 8)
    emit_rm(e, D, PREFIX(0x66, OP0F(0xd6)), reg, m);
  else
    emit_rm(e, D, PREFIX(0xf3, OP0F(0x11)), reg, m);
}

static bool is_vector(const IrNativeOperand *o)
{
  return o->kind == IR_NAT_XMM || o->kind == IR_NAT_MMX;
}

/* May the slot itself be the instruction's memory operand? Not where that form differs from the register form. */
static bool can_use_slot(const IrNative *n)
{
  static const uint8_t register_only[] = { 0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x50, 0xc5, 0xd6, 0xd7, 0xf7 };
  if (n->group || n->rm.kind != IR_NAT_XMM || n->rm.bytes != 16 || n->rm.writes || !n->rm.reads)
    return false;
  for (unsigned i = 0; i < G_N_ELEMENTS(register_only); i++) {
    if (n->map == 1 && n->opcode == register_only[i])
      return false;
  }
  if (n->map == 3 && n->opcode == 0x21) /* INSERTPS: the immediate chooses an element of a register only */
    return false;
  return n->rm.offset % 16 == 0;
}

void be_emit_native(Backend *be, const IrNative *n, unsigned gpr)
{
  Emit *e = &be->e;
  unsigned first = n->implicit_xmm0 ? 1 : 0;
  unsigned reg = n->group ? n->group_reg : n->reg.kind == IR_NAT_GPR ? gpr : first;
  unsigned rm = n->rm.kind == IR_NAT_GPR ? gpr : first + 1;
  unsigned op = PREFIX(n->prefix, (unsigned)n->map << 8 | n->opcode), width = n->rex_w ? Q : D;
  bool slot = can_use_slot(n);
  if (n->reg.kind == IR_NAT_MMX || n->rm.kind == IR_NAT_MMX)
    be->mmx_used = true;
  if (n->implicit_xmm0)
    emit_rm(e, D, OP0F(0x28), 0, cpu_mem((int32_t)n->xmm0_offset));
  if (is_vector(&n->reg) && n->reg.reads)
    load_operand(e, &n->reg, reg);
  if (is_vector(&n->rm) && n->rm.reads && !slot)
    load_operand(e, &n->rm, rm);
  if (slot)
    emit_rm(e, width, op, reg, cpu_mem((int32_t)n->rm.offset));
  else
    emit_rr(e, width, op, reg, rm);
  if (n->has_imm)
    emit_u8(e, n->imm);
  if (is_vector(&n->reg) && n->reg.writes)
    store_operand(e, &n->reg, reg);
  if (is_vector(&n->rm) && n->rm.writes)
    store_operand(e, &n->rm, rm);
}

void be_op_native(Backend *be, const IrInsn *insn)
{
  const IrNative *n = &g_array_index(be->ir->natives, IrNative, insn->imm);
  if (n->flags_def != 0 && be_flags_needed(be) != 0)
    be_need_host_flags(be);
  unsigned gpr = RAX;
  if (insn->a != IR_NONE)
    gpr = be_reg(be, insn->a, Q, RAX);
  if (insn->d != IR_NONE)
    gpr = be_def(be, insn->d, false);
  be_emit_native(be, n, gpr);
  if (n->flags_def != 0)
    be->flags = FLAGS_HOST;
  be_def_done(be, insn->d, gpr);
}

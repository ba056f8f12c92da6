/*
 * Where the guest's arithmetic flags are, and the ops on flags.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"

#define HIGH_FLAGS (CPU(flags) + 1) /* the byte with SF ZF AF PF CF */
#define COND_NZ    5u

uint16_t be_flags_needed(const Backend *be)
{
  const IrInsn *insn = ir_get(be->ir, be->index);
  IrFlagEffect effect = ir_flag_effect(be->ir, insn, insn->flags_live);
  return (uint16_t)((insn->flags_live & ~effect.def) | effect.use);
}

void be_save_flags(Backend *be)
{
  Emit *e = &be->e;
  emit_u8(e, 0x9f);                              /* lahf */
  emit_opcode(e, D, OP0F(0x90), 0, 0, 0, false); /* seto al */
  emit_modrm_reg(e, 0, RAX);
  emit_mov_mr(e, W, cpu_mem(CPU(flags)), RAX);
  be->flags |= FLAGS_MEM;
}

void be_clobber_flags(Backend *be)
{
  if (be->flags == FLAGS_HOST && be_flags_needed(be) != 0)
    be_save_flags(be);
  be->flags = FLAGS_MEM;
}

void be_need_host_flags(Backend *be)
{
  Emit *e = &be->e;
  if ((be->flags & FLAGS_HOST) != 0)
    return;
  emit_rm(e, D, OP0F(0xb7), RAX, cpu_mem(CPU(flags))); /* movzx eax, word */
  emit_u8(e, 0x04);                                    /* add al, 127: OF from bit 0 */
  emit_u8(e, 127);
  emit_u8(e, 0x9e); /* sahf */
  be->flags |= FLAGS_HOST;
}

void be_need_host_carry(Backend *be)
{
  if ((be->flags & FLAGS_HOST) != 0)
    return;
  emit_rm(&be->e, D, OP0F(0xba), 4, cpu_mem(CPU(flags))); /* bt dword, 8 */
  emit_u8(&be->e, 8);
}

unsigned be_condition(Backend *be, unsigned cc)
{
  static const struct {
    uint8_t high; /* in the byte with SF … CF */
    uint8_t mask;
  } tests[8] = { { 0, 1 }, { 1, 0x01 }, { 1, 0x40 }, { 1, 0x41 }, { 1, 0x80 }, { 1, 0x04 }, { 0, 0 }, { 0, 0 } };
  if ((be->flags & FLAGS_HOST) != 0)
    return cc;
  if (tests[cc >> 1].mask == 0) { /* compares SF with OF: needs the host's own */
    be_need_host_flags(be);
    return cc;
  }
  emit_test_mi(&be->e, B, cpu_mem(tests[cc >> 1].high ? HIGH_FLAGS : CPU(flags)), tests[cc >> 1].mask);
  return COND_NZ ^ (cc & 1);
}

static void op_setcc(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  unsigned cc = be_condition(be, insn->aux), d = be_def(be, insn->d, false);
  emit_opcode(e, D, OP0F(0x90 | cc), 0, 0, RCX, false);
  emit_modrm_reg(e, 0, RCX);
  emit_movzx8(e, d, RCX);
  be_def_done(be, insn->d, d);
}

static void op_cmov(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  unsigned width = insn->width < D ? (unsigned)D : insn->width;
  unsigned cc = be_condition(be, insn->aux);
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  unsigned d = be_def(be, insn->d, false);
  if (a.kind == LOC_REG && a.reg == d) { /* the taken value stands there already: the other one is moved in */
    Loc t = a;
    a = b;
    b = t;
    cc ^= 1;
  }
  if (a.kind == LOC_IMM) {
    be_load(be, RCX, a);
    a = (Loc){ .kind = LOC_REG, .reg = RCX };
  }
  be_load(be, d, b);
  if (a.kind == LOC_REG)
    emit_rr(e, width, OP0F(0x40 | cc), d, a.reg);
  else
    emit_rm(e, width, OP0F(0x40 | cc), d, cpu_mem(a.offset));
  be_def_done(be, insn->d, d);
}

static void op_getflags(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  if (be->flags == FLAGS_HOST)
    be_save_flags(be);
  be->flags = FLAGS_MEM;
  unsigned d = be_def(be, insn->d, false);
  emit_rm(e, D, OP0F(0xb6), RCX, cpu_mem(HIGH_FLAGS));
  emit_rm(e, D, OP0F(0xb6), RAX, cpu_mem(CPU(flags)));
  emit_alu_ri(e, D, ALU_AND, RCX, 0xd5);
  emit_shift_ri(e, D, 4, RAX, 11);
  emit_alu_rr(e, D, ALU_OR, RCX, RAX);
  emit_mov_rr(e, D, d, RCX);
  be_def_done(be, insn->d, d);
}

static void op_setflags(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  unsigned mask = (unsigned)insn->imm & IR_FL_ALL, low = mask & 0xd5;
  be_clobber_flags(be);
  be_load(be, RCX, be_loc(be, insn->a));
  if (low != 0) {
    emit_mov_rr(e, D, RAX, RCX);
    emit_alu_ri(e, D, ALU_AND, RAX, (int32_t)low);
    if (low != 0xd5)
      emit_alu_mi(e, B, ALU_AND, cpu_mem(HIGH_FLAGS), (int8_t)~low);
    else
      emit_alu_ri(e, D, ALU_OR, RAX, 2); /* the bit that LAHF always sets */
    if (low != 0xd5)
      emit_alu_mr(e, B, ALU_OR, cpu_mem(HIGH_FLAGS), RAX);
    else
      emit_mov_mr(e, B, cpu_mem(HIGH_FLAGS), RAX);
  }
  if ((mask & 0x800) != 0) {
    emit_shift_ri(e, D, 5, RCX, 11);
    emit_alu_ri(e, D, ALU_AND, RCX, 1);
    emit_mov_mr(e, B, cpu_mem(CPU(flags)), RCX);
  }
}

static void op_carry(Backend *be, const IrInsn *insn)
{
  static const uint8_t host[3] = { 0xf8, 0xf9, 0xf5 }; /* clc, stc, cmc */
  unsigned which = insn->op - IR_CLC;
  if ((be->flags & FLAGS_HOST) != 0) {
    emit_u8(&be->e, host[which]);
    be->flags = FLAGS_HOST;
    return;
  }
  static const uint8_t alu[3] = { ALU_AND, ALU_OR, ALU_XOR };
  emit_alu_mi(&be->e, B, alu[which], cpu_mem(HIGH_FLAGS), which == 0 ? (int8_t)0xfe : 1);
}

void be_op_flags(Backend *be, const IrInsn *insn)
{
  switch (insn->op) {
  case IR_SETCC:
    op_setcc(be, insn);
    break;
  case IR_CMOVCC:
    op_cmov(be, insn);
    break;
  case IR_GETFLAGS:
    op_getflags(be, insn);
    break;
  case IR_SETFLAGS:
    op_setflags(be, insn);
    break;
  default:
    op_carry(be, insn);
    break;
  }
}

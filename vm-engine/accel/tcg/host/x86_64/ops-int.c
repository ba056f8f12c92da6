/*
 * Computing ops: one or two host instructions each, at the guest's width, so that a flag-setting op leaves in the host's
 * flags what the guest's instruction leaves in its own.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"
#include "vm-engine/accel/tcg/ir/alu.h"

static bool same_reg(Loc a, unsigned reg)
{
  return a.kind == LOC_REG && a.reg == reg;
}

/* A constant as the instruction's immediate of that width, sign-extended. */
static int64_t imm_at(unsigned width, int64_t v)
{
  return width == B ? (int8_t)v : width == W ? (int16_t)v : width == D ? (int32_t)v : v;
}

/* Makes an immediate that no instruction can hold a register's content. */
static Loc short_imm(Backend *be, unsigned width, Loc loc, unsigned scratch)
{
  if (loc.kind != LOC_IMM)
    return loc;
  loc.imm = imm_at(width, loc.imm);
  if (loc.imm == (int32_t)loc.imm)
    return loc;
  be_load(be, scratch, loc);
  return (Loc){ .kind = LOC_REG, .reg = (uint8_t)scratch };
}

static Loc in_register(Backend *be, Loc loc, unsigned scratch)
{
  if (loc.kind == LOC_REG)
    return loc;
  be_load(be, scratch, loc);
  return (Loc){ .kind = LOC_REG, .reg = (uint8_t)scratch };
}

static void load_narrow(Backend *be, unsigned reg, unsigned width, Loc loc)
{
  if (loc.kind == LOC_IMM && width < Q)
    loc.imm = (uint32_t)loc.imm;
  be_load(be, reg, loc);
}

/* The host's flags before an op that sets flags: what it reads or leaves as it was has to be there. */
static void prepare_flags(Backend *be)
{
  uint16_t needed = be_flags_needed(be);
  if ((needed & IR_FL_NOT_CF) != 0)
    be_need_host_flags(be);
  else if (needed != 0)
    be_need_host_carry(be);
}

/* For either kind: sets up the flags before the first instruction that changes them. Returns whether they are kept. */
static void begin_flags(Backend *be, const IrInsn *insn)
{
  if (ir_ops[insn->op].flags_def != 0)
    prepare_flags(be);
  else
    be_clobber_flags(be);
}

static void end_flags(Backend *be, const IrInsn *insn)
{
  if (ir_ops[insn->op].flags_def != 0)
    be->flags = FLAGS_HOST;
}

/* ---- moves and bit fields --------------------------------------------------------------------------------------------- */

static void op_mov(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  Loc a = be_loc(be, insn->a), d_loc = be_loc(be, insn->d);
  if (ir_is_reg(insn->d) && d_loc.kind == LOC_MEM && insn->width == Q) {
    if (a.kind == LOC_IMM && a.imm == (int32_t)a.imm) {
      emit_mov_mi(e, Q, cpu_mem(d_loc.offset), (uint32_t)a.imm);
      return;
    }
    a = in_register(be, a, RAX);
    emit_mov_mr(e, Q, cpu_mem(d_loc.offset), a.reg);
    return;
  }
  unsigned d = be_def(be, insn->d, false);
  if (insn->width == Q)
    be_load(be, d, a);
  else if (a.kind == LOC_REG)
    emit_mov_rr(e, D, d, a.reg);
  else if (a.kind == LOC_MEM)
    emit_mov_rm(e, D, d, cpu_mem(a.offset));
  else
    emit_mov_ri(e, d, (uint32_t)a.imm);
  be_def_done(be, insn->d, d);
}

static void op_extend(Backend *be, const IrInsn *insn)
{
  static const struct {
    uint16_t op;
    uint8_t width, byte;
  } forms[] = { { OP0F(0xb6), D, 1 }, { OP0F(0xb7), D, 0 }, { 0x8b, D, 0 },
                { OP0F(0xbe), Q, 1 }, { OP0F(0xbf), Q, 0 }, { 0x63, Q, 0 } };
  Emit *e = &be->e;
  unsigned k = insn->op - IR_ZX8;
  Loc a = be_loc(be, insn->a);
  unsigned d = be_def(be, insn->d, false);
  if (a.kind == LOC_IMM)
    a = in_register(be, a, RCX);
  if (a.kind == LOC_MEM) {
    emit_rm(e, forms[k].width, forms[k].op, d, cpu_mem(a.offset));
  } else {
    emit_opcode(e, forms[k].width, forms[k].op, d, 0, a.reg, forms[k].byte && a.reg >= 4);
    emit_modrm_reg(e, d, a.reg);
  }
  be_def_done(be, insn->d, d);
}

/* Bits 15–8: AH and kin can be named only in rax … rbx and without REX. */
static void op_extract_high(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  Loc a = be_loc(be, insn->a);
  unsigned d = be_def(be, insn->d, false);
  if (a.kind == LOC_MEM) {
    emit_rm(e, D, OP0F(0xb6), d, cpu_mem(a.offset + 1));
    be_def_done(be, insn->d, d);
    return;
  }
  if (a.kind == LOC_IMM || a.reg >= 4) {
    be_load(be, RAX, a);
    a.reg = RAX;
  }
  unsigned to = d < 8 ? d : (unsigned)RAX;
  emit_opcode(e, D, OP0F(0xb6), to, 0, a.reg, false);
  emit_modrm_reg(e, to, a.reg + 4u);
  if (to != d)
    emit_mov_rr(e, D, d, to);
  be_def_done(be, insn->d, d);
}

static void deposit_high(Backend *be, unsigned d, Loc b)
{
  Emit *e = &be->e;
  be_load(be, RCX, b);
  if (be->has.bmi2) {
    emit_rorx(e, Q, d, d, 8);
    emit_mov_rr(e, B, d, RCX);
    emit_rorx(e, Q, d, d, 56);
    return;
  }
  be_clobber_flags(be); /* d is not rax here: see op_deposit */
  emit_shift_ri(e, Q, 1, d, 8);
  emit_mov_rr(e, B, d, RCX);
  emit_shift_ri(e, Q, 0, d, 8);
}

static void deposit_low(Backend *be, unsigned width, unsigned d, Loc b)
{
  Emit *e = &be->e;
  if (b.kind == LOC_REG) {
    emit_mov_rr(e, width, d, b.reg);
  } else if (b.kind == LOC_MEM) {
    emit_mov_rm(e, width, d, cpu_mem(b.offset));
  } else {
    emit_opcode(e, width, width == B ? 0xc6 : 0xc7, 0, 0, d, width == B && d >= 4);
    emit_modrm_reg(e, 0, d);
    emit_imm(e, width, (uint32_t)b.imm);
  }
}

/* Into a register that lives in memory, the part alone is written. */
static bool deposit_in_memory(Backend *be, const IrInsn *insn, Loc b)
{
  Loc d = be_loc(be, insn->d);
  unsigned width = insn->op == IR_DEP16 ? W : B;
  if (insn->d != insn->a || !ir_is_reg(insn->d) || d.kind != LOC_MEM)
    return false;
  Mem m = cpu_mem(d.offset + (insn->op == IR_DEP8H));
  if (b.kind == LOC_IMM)
    emit_mov_mi(&be->e, width, m, (uint32_t)b.imm);
  else
    emit_mov_mr(&be->e, width, m, in_register(be, b, RCX).reg);
  return true;
}

static void op_deposit(Backend *be, const IrInsn *insn)
{
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  if (deposit_in_memory(be, insn, b))
    return;
  if (insn->op == IR_DEP8H && !be->has.bmi2)
    be_clobber_flags(be);
  unsigned d = be_def(be, insn->d, false);
  if (same_reg(b, d) && !same_reg(a, d)) {
    be_load(be, RCX, b);
    b.reg = RCX;
  }
  be_load(be, d, a);
  if (insn->op == IR_DEP8H)
    deposit_high(be, d, b);
  else
    deposit_low(be, insn->op == IR_DEP16 ? W : B, d, b);
  be_def_done(be, insn->d, d);
}

/* ---- LEA and additions --------------------------------------------------------------------------------------------------- */

static void emit_sum(Backend *be, unsigned width, unsigned d, Mem m)
{
  Emit *e = &be->e;
  if (m.base == NO_REG && m.index != NO_REG) { /* without a base only [index << scale + disp32] exists */
    if (m.scale == 0) {
      m.base = m.index;
      m.index = NO_REG;
    } else {
      emit_opcode(e, width, 0x8d, d, m.index, 0, false);
      emit_u8(e, 0x04 | (d & 7) << 3);
      emit_u8(e, (unsigned)m.scale << 6 | (m.index & 7u) << 3 | 5);
      emit_u32(e, (uint32_t)m.disp);
      return;
    }
  }
  if (m.index == NO_REG && m.disp == 0)
    emit_mov_rr(e, width, d, m.base);
  else
    emit_lea(e, width, d, m);
}

static void op_lea(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  unsigned width = insn->width == Q ? Q : D;
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  int64_t disp = insn->imm;
  Mem m = { NO_REG, NO_REG, insn->aux & 3, 0 };
  if (a.kind == LOC_IMM) {
    disp = (int64_t)((uint64_t)disp + (uint64_t)a.imm); /* wraps, as addresses do */
    a.kind = LOC_NONE;
  }
  if (b.kind == LOC_IMM) {
    disp = (int64_t)((uint64_t)disp + ((uint64_t)b.imm << (insn->aux & 3)));
    b.kind = LOC_NONE;
  }
  if (width == D)
    disp = (int32_t)disp;
  if (b.kind != LOC_NONE)
    m.index = in_register(be, b, RAX).reg;
  if (a.kind != LOC_NONE)
    m.base = in_register(be, a, RCX).reg;
  unsigned d = be_def(be, insn->d, false);
  if (disp == (int32_t)disp) {
    m.disp = (int32_t)disp;
    if (m.base == NO_REG && m.index == NO_REG)
      emit_mov_ri(e, d, width == Q ? (uint64_t)disp : (uint32_t)disp);
    else
      emit_sum(be, width, d, m);
  } else if (m.base == NO_REG && m.index == NO_REG) {
    emit_mov_ri(e, d, (uint64_t)disp);
  } else { /* a displacement of more than 32 bits: two steps */
    emit_sum(be, Q, RAX, m);
    emit_mov_ri(e, RCX, (uint64_t)disp);
    emit_lea(e, Q, d, mem_index(RAX, RCX, 0, 0));
  }
  if (insn->width == W)
    emit_movzx16(e, d, d);
  be_def_done(be, insn->d, d);
}

/* An addition by LEA, where that saves a move or the flags. */
static bool add_by_lea(Backend *be, const IrInsn *insn, Loc a, Loc b)
{
  bool subtract = insn->op == IR_SUB;
  if ((insn->op != IR_ADD && !subtract) || insn->width < D || a.kind != LOC_REG)
    return false;
  if (b.kind == LOC_IMM) {
    b.imm = imm_at(insn->width, subtract ? -(uint64_t)b.imm : (uint64_t)b.imm);
    if (b.imm != (int32_t)b.imm)
      return false;
  } else if (b.kind != LOC_REG || subtract) {
    return false;
  }
  bool flags_matter = be->flags == FLAGS_HOST && be_flags_needed(be) != 0;
  unsigned d = be_def(be, insn->d, false);
  if (!flags_matter && (d == a.reg || same_reg(b, d))) {
    be_clobber_flags(be);
    if (b.kind == LOC_IMM)
      emit_alu_ri(&be->e, insn->width, ALU_ADD, d, (int32_t)b.imm);
    else
      emit_alu_rr(&be->e, insn->width, ALU_ADD, d, d == a.reg ? b.reg : a.reg);
  } else if (b.kind == LOC_IMM) {
    emit_lea(&be->e, insn->width, d, mem_at(a.reg, (int32_t)b.imm));
  } else {
    emit_lea(&be->e, insn->width, d, mem_index(a.reg, b.reg, 0, 0));
  }
  be_def_done(be, insn->d, d);
  return true;
}

/* ---- two operands ------------------------------------------------------------------------------------------------------------ */

static unsigned alu_of(IrOpcode op)
{
  switch (op) {
  case IR_ADD:
  case IR_ADDF:
    return ALU_ADD;
  case IR_ADCF:
    return ALU_ADC;
  case IR_SUB:
  case IR_SUBF:
    return ALU_SUB;
  case IR_SBBF:
    return ALU_SBB;
  case IR_CMPF:
    return ALU_CMP;
  case IR_AND:
  case IR_ANDF:
    return ALU_AND;
  case IR_OR:
  case IR_ORF:
    return ALU_OR;
  default:
    return ALU_XOR;
  }
}

static void emit_alu(Backend *be, unsigned width, unsigned alu, unsigned d, Loc b)
{
  if (b.kind == LOC_REG)
    emit_alu_rr(&be->e, width, alu, d, b.reg);
  else if (b.kind == LOC_MEM)
    emit_alu_rm(&be->e, width, alu, d, cpu_mem(b.offset));
  else
    emit_alu_ri(&be->e, width, alu, d, (int32_t)imm_at(width, b.imm));
}

/* d = a in d's register, where b is not lost by that. Returns b's place. */
static Loc set_up(Backend *be, const IrInsn *insn, unsigned d, Loc a, Loc b)
{
  bool commutes = (ir_ops[insn->op].props & IR_COMM) != 0 || insn->op == IR_IMULF;
  if (same_reg(b, d) && !same_reg(a, d)) {
    if (commutes) {
      Loc t = a;
      a = b;
      b = t;
    } else {
      be_load(be, RCX, b);
      b.reg = RCX;
    }
  }
  b = short_imm(be, insn->width, b, RCX);
  load_narrow(be, d, insn->width, a);
  return b;
}

static void op_binary(Backend *be, const IrInsn *insn)
{
  unsigned alu = alu_of(insn->op);
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  if (add_by_lea(be, insn, a, b))
    return;
  begin_flags(be, insn);
  if (insn->width == Q && insn->d == insn->a && ir_is_reg(insn->d) && a.kind == LOC_MEM && b.kind != LOC_MEM) {
    b = short_imm(be, Q, b, RCX);
    if (b.kind == LOC_IMM)
      emit_alu_mi(&be->e, Q, alu, cpu_mem(a.offset), (int32_t)b.imm);
    else
      emit_alu_mr(&be->e, Q, alu, cpu_mem(a.offset), b.reg);
    end_flags(be, insn);
    return;
  }
  unsigned d = be_def(be, insn->d, false);
  b = set_up(be, insn, d, a, b);
  emit_alu(be, insn->width, alu, d, b);
  end_flags(be, insn);
  be_def_done(be, insn->d, d);
}

static void op_compare(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  bool test = insn->op == IR_TESTF;
  Loc a = be_loc(be, insn->a), b = short_imm(be, insn->width, be_loc(be, insn->b), RCX);
  begin_flags(be, insn);
  if (a.kind == LOC_MEM && b.kind == LOC_IMM) {
    if (test)
      emit_test_mi(e, insn->width, cpu_mem(a.offset), (uint32_t)b.imm);
    else
      emit_alu_mi(e, insn->width, ALU_CMP, cpu_mem(a.offset), (int32_t)b.imm);
  } else if (!test) {
    if (a.kind == LOC_MEM && b.kind == LOC_REG)
      emit_alu_mr(e, insn->width, ALU_CMP, cpu_mem(a.offset), b.reg);
    else
      emit_alu(be, insn->width, ALU_CMP, in_register(be, a, RAX).reg, b);
  } else {
    a = in_register(be, a, RAX);
    if (b.kind == LOC_IMM)
      emit_test_ri(e, insn->width, a.reg, (uint32_t)b.imm);
    else
      emit_test_rr(e, insn->width, a.reg, in_register(be, b, RCX).reg);
  }
  be->flags = FLAGS_HOST;
}

static void op_unary(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  Loc a = be_loc(be, insn->a);
  if (insn->op != IR_NOT)
    begin_flags(be, insn);
  unsigned d = be_def(be, insn->d, false);
  load_narrow(be, d, insn->width, a);
  if (insn->op == IR_NOT)
    emit_unary(e, insn->width, 0xf6, 2, d);
  else if (insn->op == IR_NEG || insn->op == IR_NEGF)
    emit_unary(e, insn->width, 0xf6, 3, d);
  else
    emit_unary(e, insn->width, 0xfe, insn->op == IR_DECF, d);
  end_flags(be, insn);
  be_def_done(be, insn->d, d);
}

static void op_bswap(Backend *be, const IrInsn *insn)
{
  Loc a = be_loc(be, insn->a);
  unsigned d = be_def(be, insn->d, false);
  load_narrow(be, d, insn->width, a);
  emit_opcode(&be->e, insn->width, OP0F(0xc8 | (d & 7)), 0, 0, d, false);
  be_def_done(be, insn->d, d);
}

/* ---- multiplication ------------------------------------------------------------------------------------------------------------ */

static void op_multiply(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  begin_flags(be, insn);
  unsigned d = be_def(be, insn->d, false);
  int64_t imm = imm_at(insn->width, b.imm);
  if (b.kind == LOC_IMM && imm == (int32_t)imm) {
    if (a.kind == LOC_IMM)
      a = in_register(be, a, RCX);
    if (a.kind == LOC_REG)
      emit_rr(e, insn->width, 0x69, d, a.reg);
    else
      emit_rm(e, insn->width, 0x69, d, cpu_mem(a.offset));
    emit_imm(e, insn->width, (uint32_t)imm);
  } else {
    b = set_up(be, insn, d, a, b);
    if (b.kind == LOC_MEM)
      emit_rm(e, insn->width, OP0F(0xaf), d, cpu_mem(b.offset));
    else
      emit_rr(e, insn->width, OP0F(0xaf), d, in_register(be, b, RCX).reg);
  }
  end_flags(be, insn);
  be_def_done(be, insn->d, d);
}

/* c:d = a * b by MUL or IMUL: rdx:rax. */
static void op_multiply_wide(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  unsigned digit = insn->op == IR_SMULWF ? 5 : 4;
  begin_flags(be, insn);
  be_take(be, RDX);
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  if (b.kind == LOC_IMM)
    b = in_register(be, b, RCX);
  be_load(be, RAX, a);
  if (b.kind == LOC_MEM)
    emit_unary_mem(e, insn->width, 0xf6, digit, cpu_mem(b.offset));
  else
    emit_unary(e, insn->width, 0xf6, digit, b.reg);
  be->flags = FLAGS_HOST;
  /* Nothing but moves from here on. rcx keeps the high half while the results get their registers. */
  if (insn->c != IR_NONE)
    emit_mov_rr(e, Q, RCX, RDX);
  be_def(be, insn->d, false);
  be_def_done(be, insn->d, RAX);
  if (insn->c != IR_NONE) {
    be_def(be, insn->c, true);
    be_def_done(be, insn->c, RCX);
  }
}

/* ---- shifts -------------------------------------------------------------------------------------------------------------- */

/* The digit in the C0/D2 groups. */
static unsigned shift_digit(IrOpcode op)
{
  switch (op) {
  case IR_ROL:
  case IR_ROLF:
    return 0;
  case IR_ROR:
  case IR_RORF:
    return 1;
  case IR_RCLF:
    return 2;
  case IR_RCRF:
    return 3;
  case IR_SHL:
  case IR_SHLF:
    return 4;
  case IR_SHR:
  case IR_SHRF:
    return 5;
  default:
    return 7;
  }
}

static unsigned count_mask(unsigned width)
{
  return width == Q ? 63 : 31;
}

static void shift_by_constant(Backend *be, const IrInsn *insn, Loc a, unsigned count)
{
  Emit *e = &be->e;
  bool flags = ir_ops[insn->op].flags_def != 0;
  if (!flags && insn->op == IR_SHL && insn->width >= D && count >= 1 && count <= 3 && a.kind == LOC_REG) {
    unsigned d = be_def(be, insn->d, false);
    if (count == 1)
      emit_lea(e, insn->width, d, mem_index(a.reg, a.reg, 0, 0));
    else
      emit_sum(be, insn->width, d, mem_index(NO_REG, a.reg, count, 0));
    be_def_done(be, insn->d, d);
    return;
  }
  if (!flags && (insn->op == IR_ROL || insn->op == IR_ROR) && insn->width >= D && be->has.bmi2 && a.kind == LOC_REG) {
    unsigned d = be_def(be, insn->d, false);
    emit_rorx(e, insn->width, d, a.reg,
              insn->op == IR_ROR ? count : (ir_width_bits(insn->width) - count) & count_mask(insn->width));
    be_def_done(be, insn->d, d);
    return;
  }
  if (count != 0)
    begin_flags(be, insn);
  unsigned d = be_def(be, insn->d, false);
  load_narrow(be, d, insn->width, a);
  if (count != 0) {
    emit_shift_ri(e, insn->width, shift_digit(insn->op), d, count);
    end_flags(be, insn);
  } else if (insn->width == D) {
    emit_mov_rr(e, D, d, d);
  }
  be_def_done(be, insn->d, d);
}

/* SHLX, SHRX, SARX: any count register, flags untouched. */
static bool shift_by_bmi2(Backend *be, const IrInsn *insn, Loc a, Loc b)
{
  unsigned pp = insn->op == IR_SHL ? 1 : insn->op == IR_SHR ? 3 : 2;
  if (!be->has.bmi2 || insn->width < D || (insn->op != IR_SHL && insn->op != IR_SHR && insn->op != IR_SAR))
    return false;
  a = in_register(be, a, RAX);
  b = in_register(be, b, RCX);
  unsigned d = be_def(be, insn->d, false);
  emit_vex(&be->e, 2, pp, insn->width, 0xf7, d, b.reg, a.reg);
  be_def_done(be, insn->d, d);
  return true;
}

/* Rotations by an immediate leave another OF than those by CL, where the manuals define none; the interpreter's, and so
 * everybody's here, is that of CL. */
static bool needs_cl(const IrInsn *insn, unsigned count)
{
  return insn->op >= IR_ROLF && insn->op <= IR_RCRF && count > 1 && (insn->flags_live & 0x800) != 0;
}

static void op_shift(Backend *be, const IrInsn *insn)
{
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  if (b.kind == LOC_IMM && !needs_cl(insn, (unsigned)b.imm & count_mask(insn->width))) {
    shift_by_constant(be, insn, a, (unsigned)b.imm & count_mask(insn->width));
    return;
  }
  if (shift_by_bmi2(be, insn, a, b))
    return;
  begin_flags(be, insn);
  be_load(be, RCX, b);
  unsigned d = be_def(be, insn->d, false);
  load_narrow(be, d, insn->width, a);
  emit_shift_cl(&be->e, insn->width, shift_digit(insn->op), d);
  end_flags(be, insn);
  be_def_done(be, insn->d, d);
}

static void op_shift_double(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  unsigned op = insn->op == IR_SHLDF ? OP0F(0xa4) : OP0F(0xac);
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b), c = be_loc(be, insn->c);
  bool by_cl = c.kind != LOC_IMM;
  if (by_cl || ((unsigned)c.imm & count_mask(insn->width)) != 0)
    prepare_flags(be);
  if (by_cl)
    be_load(be, RCX, c);
  if (b.kind != LOC_REG) { /* rax: the result must not be there */
    be_load(be, RAX, b);
    b = (Loc){ .kind = LOC_REG, .reg = RAX };
  }
  unsigned d = be_def(be, insn->d, true), work = d;
  if (d == RAX && b.reg == RAX) { /* both live in memory: compute in rsi, whose temp dies here or goes to memory */
    be_take(be, RSI);
    work = RSI;
  }
  if (same_reg(b, work) && !same_reg(a, work)) {
    be_load(be, RAX, b);
    b.reg = RAX;
  }
  load_narrow(be, work, insn->width, a);
  emit_rr(e, insn->width, by_cl ? op + 1 : op, b.reg, work);
  if (!by_cl)
    emit_u8(e, (unsigned)c.imm);
  if (by_cl || ((unsigned)c.imm & count_mask(insn->width)) != 0)
    be->flags = FLAGS_HOST;
  be_def_done(be, insn->d, work);
}

/* ---- single bits ---------------------------------------------------------------------------------------------------------- */

static void op_bit_test(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  unsigned digit = insn->op == IR_BTF ? 4 : insn->op == IR_BTSF ? 5 : insn->op == IR_BTRF ? 6 : 7;
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  prepare_flags(be);
  unsigned d;
  if (insn->op == IR_BTF) {
    d = in_register(be, a, RAX).reg;
  } else {
    d = be_def(be, insn->d, false);
    b = set_up(be, insn, d, a, b);
  }
  if (b.kind == LOC_IMM)
    emit_bt_ri(e, insn->width, digit, d, (unsigned)b.imm & (ir_width_bits(insn->width) - 1));
  else
    emit_rr(e, insn->width, OP0F(0x83 | digit << 3), in_register(be, b, RCX).reg, d);
  be->flags = FLAGS_HOST;
  if (insn->op != IR_BTF)
    be_def_done(be, insn->d, d);
}

static void op_bit_scan(Backend *be, const IrInsn *insn)
{
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  prepare_flags(be);
  unsigned d = be_def(be, insn->d, false);
  if ((same_reg(b, d) && !same_reg(a, d)) || b.kind != LOC_REG) {
    be_load(be, RCX, b);
    b = (Loc){ .kind = LOC_REG, .reg = RCX };
  }
  load_narrow(be, d, insn->width, a);
  emit_rr(&be->e, insn->width, OP0F(insn->op == IR_BSFF ? 0xbc : 0xbd), d, b.reg);
  /* A source of 0 leaves the destination alone, and with it the upper half, on some processors. */
  if (insn->width == D)
    emit_mov_rr(&be->e, D, d, d);
  be->flags = FLAGS_HOST;
  be_def_done(be, insn->d, d);
}

static void op_count_bits(Backend *be, const IrInsn *insn)
{
  unsigned op = insn->op == IR_POPCNTF ? 0xb8 : insn->op == IR_LZCNTF ? 0xbd : 0xbc;
  bool here = insn->op == IR_POPCNTF ? be->has.popcnt : insn->op == IR_LZCNTF ? be->has.lzcnt : be->has.bmi1;
  if (!here) {
    be_bmi_fallback(be, insn);
    return;
  }
  Loc a = be_loc(be, insn->a);
  prepare_flags(be);
  unsigned d = be_def(be, insn->d, false);
  a = in_register(be, a, RCX);
  if (insn->width == W)
    emit_u8(&be->e, 0x66); /* before F3, which has to be the last prefix in front of REX */
  emit_opcode(&be->e, insn->width == Q ? Q : D, PREFIX(0xf3, OP0F(op)), d, 0, a.reg, false);
  emit_modrm_reg(&be->e, d, a.reg);
  be->flags = FLAGS_HOST;
  be_def_done(be, insn->d, d);
}

static void op_crc32(Backend *be, const IrInsn *insn)
{
  if (!be->has.sse42) {
    be_bmi_fallback(be, insn);
    return;
  }
  Loc a = be_loc(be, insn->a), b = be_loc(be, insn->b);
  unsigned d = be_def(be, insn->d, false);
  if ((same_reg(b, d) && !same_reg(a, d)) || b.kind != LOC_REG) {
    be_load(be, RCX, b);
    b = (Loc){ .kind = LOC_REG, .reg = RCX };
  }
  load_narrow(be, d, D, a);
  if (insn->width == W)
    emit_u8(&be->e, 0x66);
  unsigned op = PREFIX(0xf2, OP0F38(insn->width == B ? 0xf0 : 0xf1));
  emit_opcode(&be->e, insn->width == Q ? Q : D, op, d, 0, b.reg, insn->width == B && b.reg >= 4);
  emit_modrm_reg(&be->e, d, b.reg);
  be_def_done(be, insn->d, d);
}

static void op_gather_bits(Backend *be, const IrInsn *insn)
{
  if (!be->has.bmi2) {
    be_bmi_fallback(be, insn);
    return;
  }
  Loc a = in_register(be, be_loc(be, insn->a), RAX), b = in_register(be, be_loc(be, insn->b), RCX);
  unsigned d = be_def(be, insn->d, false);
  emit_vex(&be->e, 2, insn->op == IR_PEXT ? 2 : 3, insn->width, 0xf5, d, a.reg, b.reg);
  be_def_done(be, insn->d, d);
}

/* ---- dispatch ---------------------------------------------------------------------------------------------------------------- */

void be_op_compute(Backend *be, const IrInsn *insn)
{
  switch (insn->op) {
  case IR_MOV:
    op_mov(be, insn);
    break;
  case IR_ZX8:
  case IR_ZX16:
  case IR_ZX32:
  case IR_SX8:
  case IR_SX16:
  case IR_SX32:
    op_extend(be, insn);
    break;
  case IR_XH8:
    op_extract_high(be, insn);
    break;
  case IR_DEP8:
  case IR_DEP8H:
  case IR_DEP16:
    op_deposit(be, insn);
    break;
  case IR_LEA:
    op_lea(be, insn);
    break;
  case IR_NOT:
  case IR_NEG:
  case IR_NEGF:
  case IR_INCF:
  case IR_DECF:
    op_unary(be, insn);
    break;
  case IR_MUL:
  case IR_IMULF:
    op_multiply(be, insn);
    break;
  case IR_UMULWF:
  case IR_SMULWF:
    op_multiply_wide(be, insn);
    break;
  case IR_SHL:
  case IR_SHR:
  case IR_SAR:
  case IR_ROL:
  case IR_ROR:
  case IR_SHLF:
  case IR_SHRF:
  case IR_SARF:
  case IR_ROLF:
  case IR_RORF:
  case IR_RCLF:
  case IR_RCRF:
    op_shift(be, insn);
    break;
  case IR_SHLDF:
  case IR_SHRDF:
    op_shift_double(be, insn);
    break;
  case IR_BSWAP:
    op_bswap(be, insn);
    break;
  case IR_CRC32:
    op_crc32(be, insn);
    break;
  case IR_PEXT:
  case IR_PDEP:
    op_gather_bits(be, insn);
    break;
  case IR_CMPF:
  case IR_TESTF:
    op_compare(be, insn);
    break;
  case IR_BTF:
  case IR_BTSF:
  case IR_BTRF:
  case IR_BTCF:
    op_bit_test(be, insn);
    break;
  case IR_BSFF:
  case IR_BSRF:
    op_bit_scan(be, insn);
    break;
  case IR_POPCNTF:
  case IR_LZCNTF:
  case IR_TZCNTF:
    op_count_bits(be, insn);
    break;
  default:
    op_binary(be, insn);
    break;
  }
}

/* `t = op R, x` at 8 or 16 bits, then `R = R with its low bits from t`: the host's partial write does both. */
bool be_fuse_partial(Backend *be, const IrInsn *insn)
{
  if (be->index + 1 >= ir_count(be->ir) || insn->width > IR_W16 || !ir_is_temp(insn->d) || !ir_is_reg(insn->a))
    return false;
  const IrInsn *deposit = ir_get(be->ir, be->index + 1);
  if (deposit->op != (insn->width == IR_W8 ? IR_DEP8 : IR_DEP16) || deposit->b != insn->d || deposit->a != insn->a ||
      deposit->d != insn->a || be->temps[insn->d - IR_TEMP_BASE].last_use != be->index + 1)
    return false;
  bool two = insn->op == IR_ADD || (insn->op >= IR_SUB && insn->op <= IR_XOR) ||
             (insn->op >= IR_ADDF && insn->op <= IR_SBBF) || (insn->op >= IR_ANDF && insn->op <= IR_XORF);
  bool one = insn->op == IR_NOT || insn->op == IR_NEG || (insn->op >= IR_INCF && insn->op <= IR_NEGF);
  bool shift = (insn->op >= IR_SHL && insn->op <= IR_ROR) || (insn->op >= IR_SHLF && insn->op <= IR_RCRF);
  if ((!two && !one && !shift) || be_pinned(ir_reg_index(insn->a)) == NO_REG)
    return false;
  IrInsn whole = *insn;
  whole.d = insn->a;
  be_op_compute(be, &whole);
  be_op_done(be);
  return true;
}

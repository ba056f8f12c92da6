/* Registers, memory operands and their addresses; small builders that the families use. */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

/* ---- registers ------------------------------------------------------------------------------------------------------- */

static bool is_high_byte(const X86Decoded *d, unsigned reg, IrWidth w)
{
  return w == IR_W8 && !d->has_rex && !d->vex && reg >= 4 && reg < 8;
}

IrRef x86_get_gpr(X86Translator *t, const X86Decoded *d, unsigned reg, IrWidth w)
{
  if (is_high_byte(d, reg, w))
    return ir_op1(t->ir, IR_XH8, IR_W64, ir_reg(reg - 4));
  return ir_reg(reg);
}

void x86_set_reg(X86Translator *t, unsigned reg, IrWidth w, IrRef value)
{
  IrRef r = ir_reg(reg);
  switch (w) {
  case IR_W8:
    ir_emit(t->ir, IR_DEP8, IR_W64, r, r, value);
    break;
  case IR_W16:
    ir_emit(t->ir, IR_DEP16, IR_W64, r, r, value);
    break;
  case IR_W32:
  case IR_W64:
    ir_emit(t->ir, IR_MOV, w, r, value, IR_NONE);
    break;
  }
}

void x86_set_gpr(X86Translator *t, const X86Decoded *d, unsigned reg, IrWidth w, IrRef value)
{
  if (is_high_byte(d, reg, w))
    ir_emit(t->ir, IR_DEP8H, IR_W64, ir_reg(reg - 4), ir_reg(reg - 4), value);
  else
    x86_set_reg(t, reg, w, value);
}

/* ---- small builders ---------------------------------------------------------------------------------------------------- */

IrRef x86_zero_extend(X86Translator *t, IrWidth w, IrRef value)
{
  static const IrOpcode ops[4] = { IR_ZX8, IR_ZX16, IR_ZX32, IR_MOV };
  return ir_op1(t->ir, ops[w], IR_W64, value);
}

IrRef x86_sign_extend(X86Translator *t, IrWidth w, IrRef value)
{
  static const IrOpcode ops[4] = { IR_SX8, IR_SX16, IR_SX32, IR_MOV };
  return ir_op1(t->ir, ops[w], IR_W64, value);
}

IrRef x86_cmovcc(X86Translator *t, IrWidth w, unsigned cc, IrRef yes, IrRef no)
{
  IrRef result = ir_temp(t->ir);
  ir_emit(t->ir, IR_CMOVCC, w, result, yes, no)->aux = (uint8_t)cc;
  return result;
}

IrRef x86_get_flags(X86Translator *t)
{
  IrRef result = ir_temp(t->ir);
  ir_emit(t->ir, IR_GETFLAGS, IR_W64, result, IR_NONE, IR_NONE);
  return result;
}

void x86_set_flags(X86Translator *t, IrRef value, uint32_t mask)
{
  ir_emit(t->ir, IR_SETFLAGS, IR_W64, IR_NONE, value, IR_NONE)->imm = mask;
}

void x86_probe_write(X86Translator *t, IrWidth w, IrRef linear)
{
  ir_emit(t->ir, IR_PROBEW, w, IR_NONE, linear, IR_NONE)->aux = w;
}

IrRef x86_call(X86Translator *t, TcgHelperId helper, IrRef a, IrRef b, IrRef c)
{
  IrRef result = ir_temp(t->ir);
  ir_call(t->ir, helper, result, a, b, c);
  return result;
}

void x86_call_void(X86Translator *t, TcgHelperId helper, IrRef a, IrRef b, IrRef c)
{
  ir_call(t->ir, helper, IR_NONE, a, b, c);
}

/* ---- addresses ------------------------------------------------------------------------------------------------------------ */

static uint64_t wrap_address(unsigned addr_size, uint64_t value)
{
  return addr_size == 1 ? (uint16_t)value : addr_size == 2 ? (uint32_t)value : value;
}

static IrRef reg_or_none(unsigned reg)
{
  return reg == X86_NO_REG ? IR_NONE : ir_reg(reg);
}

static bool has_no_registers(const X86Decoded *d)
{
  return d->base == X86_NO_REG && d->index == X86_NO_REG;
}

static uint64_t constant_offset(const X86Translator *t, const X86Decoded *d)
{
  uint64_t offset = (uint64_t)d->disp + (d->rip_relative ? t->next_rip : 0);
  return wrap_address(d->addr_size, offset);
}

IrRef x86_effective_offset(X86Translator *t, const X86Decoded *d)
{
  if (has_no_registers(d))
    return x86_const(t, (int64_t)constant_offset(t, d));
  return ir_lea(t->ir, (IrWidth)d->addr_size, reg_or_none(d->base), reg_or_none(d->index), d->scale, d->disp);
}

void x86_load_segment_base(X86Translator *t, unsigned seg, IrRef *base)
{
  *base = ir_lde(t->ir, IR_W64,
                 X86_STATE(x86.seg) + seg * (uint32_t)sizeof(X86Segment) + (uint32_t)offsetof(X86Segment, base));
}

/* No base to add and no limit to check. */
static bool is_flat(const X86Translator *t, unsigned seg, X86Access access)
{
  if (seg == X86_FS || seg == X86_GS)
    return false;
  if (x86_t_64bit(t))
    return true;
  return (t->hflags & TCG_HF_FLAT) && !(seg == X86_CS && access == X86_WRITE);
}

X86Mem x86_segment_address(X86Translator *t, unsigned seg, IrRef offset, unsigned bytes, X86Access access)
{
  if (is_flat(t, seg, access))
    return (X86Mem){ offset, 0 };
  if (x86_t_64bit(t)) {
    IrRef base;
    x86_load_segment_base(t, seg, &base);
    return (X86Mem){ ir_lea(t->ir, IR_W64, base, offset, 0, 0), 0 };
  }
  IrRef what = x86_const(t, bytes | (access == X86_WRITE ? 0x100 : 0));
  return (X86Mem){ x86_call(t, HELPER_seg_check, x86_const(t, seg), offset, what), 0 };
}

/* 64-bit addresses need no wrapping, so the displacement can go into the access. */
static X86Mem address_64(X86Translator *t, const X86Decoded *d)
{
  X86Mem m = { IR_NONE, d->disp };
  if (has_no_registers(d)) {
    m = (X86Mem){ x86_const(t, (int64_t)constant_offset(t, d)), 0 };
    if (is_flat(t, d->seg, X86_READ))
      return m;
    IrRef base;
    x86_load_segment_base(t, d->seg, &base);
    return (X86Mem){ base, ir_const_value(t->ir, m.base) };
  }
  if (d->index == X86_NO_REG)
    m.base = ir_reg(d->base);
  else
    m.base = ir_lea(t->ir, IR_W64, reg_or_none(d->base), ir_reg(d->index), d->scale, 0);
  if (!is_flat(t, d->seg, X86_READ)) {
    IrRef base;
    x86_load_segment_base(t, d->seg, &base);
    m.base = ir_lea(t->ir, IR_W64, base, m.base, 0, 0);
  }
  return m;
}

X86Mem x86_operand_address(X86Translator *t, const X86Decoded *d, unsigned bytes, X86Access access)
{
  if (x86_t_64bit(t) && d->addr_size == 3)
    return address_64(t, d);
  return x86_segment_address(t, d->seg, x86_effective_offset(t, d), bytes, access);
}

IrRef x86_mem_linear(X86Translator *t, X86Mem m)
{
  if (m.disp == 0)
    return m.base;
  if (ir_is_const(m.base))
    return x86_const(t, ir_const_value(t->ir, m.base) + m.disp);
  return ir_lea(t->ir, IR_W64, m.base, IR_NONE, 0, m.disp);
}

IrRef x86_operand_linear(X86Translator *t, const X86Decoded *d, unsigned bytes, X86Access access)
{
  return x86_mem_linear(t, x86_operand_address(t, d, bytes, access));
}

X86Mem x86_mem_plus(X86Translator *t, X86Mem m, int64_t bytes)
{
  if (x86_t_64bit(t))
    return (X86Mem){ m.base, m.disp + bytes };
  return (X86Mem){ ir_lea(t->ir, IR_W32, m.base, IR_NONE, 0, m.disp + bytes), 0 };
}

IrRef x86_load(X86Translator *t, IrWidth w, X86Mem m)
{
  return ir_ld(t->ir, w, m.base, m.disp);
}
void x86_store(X86Translator *t, IrWidth w, X86Mem m, IrRef value)
{
  ir_st(t->ir, w, m.base, m.disp, value);
}

/* ---- operands ---------------------------------------------------------------------------------------------------------------- */

IrRef x86_load_rm(X86Translator *t, const X86Decoded *d, IrWidth w)
{
  if (d->mod == 3)
    return x86_get_gpr(t, d, d->rm, w);
  return x86_load(t, w, x86_operand_address(t, d, 1u << w, X86_READ));
}

void x86_store_rm(X86Translator *t, const X86Decoded *d, IrWidth w, IrRef value)
{
  if (d->mod == 3)
    x86_set_gpr(t, d, d->rm, w, value);
  else
    x86_store(t, w, x86_operand_address(t, d, 1u << w, X86_WRITE), value);
}

static unsigned fixed_register(X86Operand kind)
{
  return kind == X86_OPD_CL ? X86_RCX : kind == X86_OPD_DX ? X86_RDX : X86_RAX;
}

/* Whether operand i is a register, and which by number. AH … BH are told by x86_get_gpr(). */
static bool operand_register(const X86Decoded *d, unsigned i, unsigned *reg)
{
  X86Operand kind = (X86Operand)d->row.operands[i];
  switch (x86_operand_class(kind)) {
  case X86_OPC_G:
    *reg = d->reg;
    return true;
  case X86_OPC_Z:
    *reg = d->opcode_reg;
    return true;
  case X86_OPC_B:
    *reg = d->vex_v;
    return true;
  case X86_OPC_REG:
    *reg = fixed_register(kind);
    return true;
  default:
    *reg = d->rm;
    return !x86_decoded_is_memory(d) && d->has_modrm;
  }
}

IrRef x86_load_operand(X86Translator *t, const X86Decoded *d, unsigned i)
{
  IrWidth w = x86_width(d, i);
  unsigned reg;
  switch (x86_operand_class((X86Operand)d->row.operands[i])) {
  case X86_OPC_U:
    /* The second immediate, where there are two, is read from the decoder's record directly. */
  case X86_OPC_SX:
    return x86_const(t, d->imm);
  case X86_OPC_ONE:
    return x86_const(t, 1);
  case X86_OPC_O:
    return x86_load(t, w, x86_operand_address(t, d, 1u << w, X86_READ));
  default:
    break;
  }
  if (operand_register(d, i, &reg))
    return x86_get_gpr(t, d, reg, w);
  return x86_load(t, w, x86_operand_address(t, d, 1u << w, X86_READ));
}

X86Dest x86_open_dest(X86Translator *t, const X86Decoded *d, unsigned i)
{
  X86Dest dest = { .w = x86_width(d, i), .d = d };
  unsigned reg = 0;
  if (x86_operand_class((X86Operand)d->row.operands[i]) != X86_OPC_O && operand_register(d, i, &reg)) {
    dest.reg = (uint8_t)reg;
    return dest;
  }
  dest.memory = true;
  dest.mem = x86_operand_address(t, d, 1u << dest.w, X86_WRITE);
  return dest;
}

IrRef x86_dest_load(X86Translator *t, X86Dest *dest)
{
  if (!dest->memory)
    return x86_get_gpr(t, dest->d, dest->reg, dest->w);
  dest->mem = (X86Mem){ x86_dest_linear(t, dest), 0 }; /* one address for the three, so that the back end can see it */
  x86_probe_write(t, dest->w, dest->mem.base);
  return x86_load(t, dest->w, dest->mem);
}

IrRef x86_dest_output(X86Translator *t, const X86Dest *dest)
{
  return !dest->memory && dest->w >= IR_W32 ? ir_reg(dest->reg) : ir_temp(t->ir);
}

void x86_dest_store(X86Translator *t, const X86Dest *dest, IrRef value)
{
  if (dest->memory)
    x86_store(t, dest->w, dest->mem, value);
  else
    x86_set_gpr(t, dest->d, dest->reg, dest->w, value);
}

void x86_dest_finish(X86Translator *t, const X86Dest *dest, IrRef output)
{
  if (dest->memory || dest->w < IR_W32)
    x86_dest_store(t, dest, output);
}

IrRef x86_dest_linear(X86Translator *t, const X86Dest *dest)
{
  return x86_mem_linear(t, dest->mem);
}

/* ---- stack ------------------------------------------------------------------------------------------------------------------- */

X86Mem x86_stack_address(X86Translator *t, int64_t offset, unsigned bytes, X86Access access)
{
  if (x86_t_64bit(t))
    return (X86Mem){ ir_reg(X86_RSP), offset };
  IrRef sp = ir_lea(t->ir, (IrWidth)t->stack_size, ir_reg(X86_RSP), IR_NONE, 0, offset);
  return x86_segment_address(t, X86_SS, sp, bytes, access);
}

void x86_adjust_sp(X86Translator *t, int64_t bytes)
{
  IrRef sp = ir_reg(X86_RSP);
  if (t->stack_size == 1)
    x86_set_reg(t, X86_RSP, IR_W16, ir_lea(t->ir, IR_W16, sp, IR_NONE, 0, bytes));
  else
    ir_emit(t->ir, IR_LEA, (IrWidth)t->stack_size, sp, sp, IR_NONE)->imm = bytes;
}

void x86_push(X86Translator *t, IrWidth w, IrRef value)
{
  int64_t bytes = 1 << w;
  x86_store(t, w, x86_stack_address(t, -bytes, (unsigned)bytes, X86_WRITE), value);
  x86_adjust_sp(t, -bytes);
}

/*
 * Blocks of IR: the op table as data, and the builder that front ends call.
 *
 * A block's arrays keep their memory between translations, so that building one allocates nothing.
 */
#include "vm-engine/accel/tcg/ir/ir.h"

#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"

#define KIND(k) IR_OPERAND_##k
const IrOpInfo ir_ops[IR_N_OPS] = {
#define OP(name, text, d, a, b, c, def, use, props) { text, KIND(d), KIND(a), KIND(b), KIND(c), def, use, props },
#include "vm-engine/accel/tcg/ir/ops.def"
#undef OP
};
#undef KIND

G_STATIC_ASSERT(IR_N_OPS < 256);
G_STATIC_ASSERT(sizeof(IrInsn) == 24);

IrBlock *ir_block_new(void)
{
  IrBlock *b = g_new0(IrBlock, 1);
  b->insns = g_array_sized_new(FALSE, FALSE, sizeof(IrInsn), 256);
  b->consts = g_array_sized_new(FALSE, FALSE, sizeof(int64_t), 64);
  b->natives = g_array_sized_new(FALSE, FALSE, sizeof(IrNative), 16);
  for (unsigned i = 0; i < G_N_ELEMENTS(b->scratch); i++)
    b->scratch[i] = g_array_new(FALSE, FALSE, 1);
  b->guest_regs = x86_guest_regs;
  b->n_guest_regs = X86_N_GUEST_REGS;
  return b;
}

void ir_block_free(IrBlock *b)
{
  if (b == NULL)
    return;
  g_array_free(b->insns, TRUE);
  g_array_free(b->consts, TRUE);
  g_array_free(b->natives, TRUE);
  for (unsigned i = 0; i < G_N_ELEMENTS(b->scratch); i++)
    g_array_free(b->scratch[i], TRUE);
  g_free(b);
}

void ir_block_clear(IrBlock *b)
{
  g_array_set_size(b->insns, 0);
  g_array_set_size(b->consts, 0);
  g_array_set_size(b->natives, 0);
  b->n_temps = b->n_guest_insns = 0;
  b->pc = b->rip = 0;
  b->hflags = b->guest_bytes = 0;
  b->flags_in = IR_FL_ALL;
}

IrRef ir_temp(IrBlock *b)
{
  g_assert(b->n_temps < IR_REG_BASE - IR_TEMP_BASE);
  return (IrRef)(IR_TEMP_BASE + b->n_temps++);
}

IrRef ir_const(IrBlock *b, int64_t value)
{
  /* The same few values come again and again within an instruction or two. */
  unsigned n = b->consts->len;
  for (unsigned i = n; i > 0 && i + 8 > n; i--) {
    if (g_array_index(b->consts, int64_t, i - 1) == value)
      return (IrRef)(IR_CONST_BASE + i - 1);
  }
  g_assert(n < 0x10000 - IR_CONST_BASE);
  g_array_append_val(b->consts, value);
  return (IrRef)(IR_CONST_BASE + n);
}

int64_t ir_const_value(const IrBlock *b, IrRef ref)
{
  g_assert(ir_is_const(ref) && (unsigned)(ref - IR_CONST_BASE) < b->consts->len);
  return g_array_index(b->consts, int64_t, ref - IR_CONST_BASE);
}

IrInsn *ir_emit(IrBlock *b, IrOpcode op, IrWidth w, IrRef d, IrRef x, IrRef y)
{
  IrInsn insn = { .op = (uint8_t)op, .width = (uint8_t)w, .flags_live = IR_FL_ALL, .d = d, .a = x, .b = y };
  g_array_append_val(b->insns, insn);
  return ir_at(b, b->insns->len - 1);
}

IrRef ir_op1(IrBlock *b, IrOpcode op, IrWidth w, IrRef x)
{
  return ir_op2(b, op, w, x, IR_NONE);
}

IrRef ir_op2(IrBlock *b, IrOpcode op, IrWidth w, IrRef x, IrRef y)
{
  IrRef d = ir_temp(b);
  ir_emit(b, op, w, d, x, y);
  return d;
}

void ir_mov(IrBlock *b, IrRef d, IrRef x)
{
  ir_emit(b, IR_MOV, IR_W64, d, x, IR_NONE);
}

IrRef ir_lea(IrBlock *b, IrWidth w, IrRef base, IrRef index, unsigned shift, int64_t disp)
{
  IrRef d = ir_temp(b);
  IrInsn *insn = ir_emit(b, IR_LEA, w, d, base, index);
  insn->aux = (uint8_t)shift;
  insn->imm = disp;
  return d;
}

IrRef ir_ld(IrBlock *b, unsigned memop, IrRef address, int64_t disp)
{
  IrRef d = ir_temp(b);
  IrInsn *insn = ir_emit(b, IR_LD, memop & IR_MEM_SIZE, d, address, IR_NONE);
  insn->aux = (uint8_t)memop;
  insn->imm = disp;
  return d;
}

void ir_st(IrBlock *b, unsigned memop, IrRef address, int64_t disp, IrRef value)
{
  IrInsn *insn = ir_emit(b, IR_ST, memop & IR_MEM_SIZE, IR_NONE, address, value);
  insn->aux = (uint8_t)memop;
  insn->imm = disp;
}

void ir_ldv(IrBlock *b, unsigned memop, IrRef address, uint32_t state_offset)
{
  IrInsn *insn = ir_emit(b, IR_LDV, IR_W64, IR_NONE, address, IR_NONE);
  insn->aux = (uint8_t)memop;
  insn->imm = state_offset;
}

void ir_stv(IrBlock *b, unsigned memop, IrRef address, uint32_t state_offset)
{
  IrInsn *insn = ir_emit(b, IR_STV, IR_W64, IR_NONE, address, IR_NONE);
  insn->aux = (uint8_t)memop;
  insn->imm = state_offset;
}

IrRef ir_lde(IrBlock *b, IrWidth w, uint32_t state_offset)
{
  IrRef d = ir_temp(b);
  ir_emit(b, IR_LDE, w, d, IR_NONE, IR_NONE)->imm = state_offset;
  return d;
}

void ir_ste(IrBlock *b, IrWidth w, uint32_t state_offset, IrRef value)
{
  ir_emit(b, IR_STE, w, IR_NONE, value, IR_NONE)->imm = state_offset;
}

IrRef ir_setcc(IrBlock *b, unsigned cc)
{
  IrRef d = ir_temp(b);
  ir_emit(b, IR_SETCC, IR_W64, d, IR_NONE, IR_NONE)->aux = cc & 15;
  return d;
}

void ir_call(IrBlock *b, unsigned helper, IrRef d, IrRef x, IrRef y, IrRef z)
{
  IrInsn *insn = ir_emit(b, IR_CALL, IR_W64, d, x, y);
  insn->c = z;
  insn->imm = helper;
}

void ir_native(IrBlock *b, const IrNative *native, IrRef gpr)
{
  g_array_append_vals(b->natives, native, 1);
  bool gpr_written =
      (native->reg.kind == IR_NAT_GPR && native->reg.writes) || (native->rm.kind == IR_NAT_GPR && native->rm.writes);
  IrInsn *insn = ir_emit(b, IR_NAT, native->rex_w ? IR_W64 : IR_W32, gpr_written ? gpr : IR_NONE,
                         gpr_written ? IR_NONE : gpr, IR_NONE);
  insn->imm = b->natives->len - 1;
}

void ir_insn_start(IrBlock *b, uint64_t rip)
{
  ir_emit(b, IR_INSN, IR_W64, IR_NONE, IR_NONE, IR_NONE)->imm = (int64_t)rip;
  b->n_guest_insns++;
}

void ir_exit(IrBlock *b, uint64_t rip)
{
  ir_emit(b, IR_EXIT, IR_W64, IR_NONE, IR_NONE, IR_NONE)->imm = (int64_t)rip;
}

void ir_exit_cc(IrBlock *b, unsigned cc, uint64_t rip)
{
  IrInsn *insn = ir_emit(b, IR_EXITCC, IR_W64, IR_NONE, IR_NONE, IR_NONE);
  insn->aux = cc & 15;
  insn->imm = (int64_t)rip;
}

void ir_exit_nz(IrBlock *b, IrWidth w, IrRef x, uint64_t rip)
{
  ir_emit(b, IR_EXITNZ, w, IR_NONE, x, IR_NONE)->imm = (int64_t)rip;
}

void ir_exit_indirect(IrBlock *b, IrRef rip)
{
  ir_emit(b, IR_EXITIND, IR_W64, IR_NONE, rip, IR_NONE);
}

void ir_exit_loop(IrBlock *b, IrRef rip)
{
  ir_emit(b, IR_EXITLOOP, IR_W64, IR_NONE, rip, IR_NONE);
}

/* ---- flag effects --------------------------------------------------------------------------------------------------- */

uint16_t ir_cc_flags(unsigned cc)
{
  static const uint16_t flags[8] = { 0x800, 0x001, 0x040, 0x041, 0x080, 0x004, 0x880, 0x8c0 };
  return flags[cc >> 1 & 7];
}

/* Shifts by CL or an immediate: no flag changes where the masked count is 0. */
static IrFlagEffect shift_effect(const IrBlock *b, const IrInsn *insn, IrRef count, uint16_t row, uint16_t live_after)
{
  if (!ir_is_const(count))
    return (IrFlagEffect){ row, row & live_after };
  unsigned masked = (unsigned)ir_const_value(b, count) & (insn->width == IR_W64 ? 63 : 31);
  if (masked == 0)
    return (IrFlagEffect){ 0, 0 };
  return (IrFlagEffect){ row, 0 };
}

static IrFlagEffect call_effect(const IrInsn *insn)
{
  uint32_t effects = tcg_helpers[insn->imm].effects;
  bool uses = (effects & (HELPER_FLAGS_USE | HELPER_FAULTS | HELPER_EXITS)) != 0;
  return (IrFlagEffect){ (effects & HELPER_FLAGS_DEF) != 0 ? IR_FL_ALL : 0, uses ? IR_FL_ALL : 0 };
}

IrFlagEffect ir_flag_effect(const IrBlock *b, const IrInsn *insn, uint16_t live_after)
{
  const IrOpInfo *info = &ir_ops[insn->op];
  switch (insn->op) {
  case IR_SHLF:
  case IR_SHRF:
  case IR_SARF:
  case IR_ROLF:
  case IR_RORF:
    return shift_effect(b, insn, insn->b, info->flags_def, live_after);
  case IR_RCLF:
  case IR_RCRF: {
    IrFlagEffect e = shift_effect(b, insn, insn->b, info->flags_def, live_after);
    e.use |= IR_FL_CF; /* also shifted into the result */
    return e;
  }
  case IR_SHLDF:
  case IR_SHRDF:
    return shift_effect(b, insn, insn->c, info->flags_def, live_after);
  case IR_BTF:
  case IR_BTSF:
  case IR_BTRF:
  case IR_BTCF:
    return (IrFlagEffect){ IR_FL_ALL, live_after & IR_FL_NOT_CF };
  case IR_BSFF:
  case IR_BSRF:
    return (IrFlagEffect){ IR_FL_ALL, live_after & (IR_FL_ALL & ~IR_FL_ZF) };
  case IR_LZCNTF:
  case IR_TZCNTF:
    return (IrFlagEffect){ IR_FL_ALL, live_after & (IR_FL_ALL & ~(IR_FL_ZF | IR_FL_CF)) };
  case IR_SETFLAGS:
    return (IrFlagEffect){ (uint16_t)(insn->imm & IR_FL_ALL), 0 };
  case IR_SETCC:
  case IR_CMOVCC:
    return (IrFlagEffect){ 0, ir_cc_flags(insn->aux) };
  case IR_CALL:
    return call_effect(insn);
  case IR_NAT:
    return (IrFlagEffect){ g_array_index(b->natives, IrNative, insn->imm).flags_def, 0 };
  case IR_LD:
  case IR_ST:
  case IR_LDV:
  case IR_STV:
  case IR_PROBEW:
    return (IrFlagEffect){ 0, (insn->aux & IR_MEM_PROBED) != 0 ? 0 : IR_FL_ALL };
  case IR_EXITCC:
  case IR_EXITNZ:
  case IR_EXIT:
  case IR_EXITIND:
  case IR_EXITLOOP:
    return (IrFlagEffect){ 0, IR_FL_ALL }; /* the next block may want them */
  default:
    return (IrFlagEffect){ info->flags_def, info->flags_use };
  }
}

/*
 * One backward walk: which flags, temps and guest registers are used later? Ops that only make what nobody uses go, ops
 * whose flags are dead take their flagless form, and every op learns the flags live after it.
 *
 *  1. An op that may fault, and every exit, uses all flags and all guest registers: the guest sees them then.
 *  2. The block may also be left in front of a guest instruction, if a store or helper of the instruction before asked
 *     for it (self-modified code). So a boundary behind such an instruction counts as an exit. Not behind a probed store:
 *     PROBEW itself leaves the block, before anything happened, where that could come to pass. Likewise in front of an
 *     instruction that jumps back, where host code looks whether somebody wants the CPU out.
 *  3. Flags that an op does not define pass through it (ir_flag_effect).
 */
#include "vm-engine/accel/tcg/ir/passes.h"

typedef struct Live {
  IrBlock *block;
  uint8_t *temps; /* 1 where used later */
  uint64_t regs;  /* a bit a guest register */
  uint64_t all_regs;
  uint16_t flags;
} Live;

void ir_compact(IrBlock *block)
{
  unsigned n = 0;
  for (unsigned i = 0; i < ir_count(block); i++) {
    if (ir_get(block, i)->op != IR_N_OPS)
      *ir_at(block, n++) = *ir_get(block, i);
  }
  g_array_set_size(block->insns, n);
}

static bool is_memory(const IrInsn *insn)
{
  return (ir_ops[insn->op].props & IR_MEM) != 0;
}

/* May the op leave the block, or show the guest's state to someone? */
static bool observes(const IrInsn *insn)
{
  if (is_memory(insn))
    return (insn->aux & IR_MEM_PROBED) == 0;
  if (insn->op == IR_CALL)
    return (tcg_helpers[insn->imm].effects & (HELPER_READS | HELPER_FAULTS | HELPER_EXITS)) != 0;
  return insn->op >= IR_EXITCC && insn->op <= IR_EXITLOOP;
}

/* Rule 2: is insn `boundary` behind an instruction that may ask to leave? */
static bool may_leave_before(const IrBlock *block, unsigned boundary)
{
  for (unsigned i = boundary; i-- > 0 && ir_get(block, i)->op != IR_INSN;) {
    const IrInsn *insn = ir_get(block, i);
    bool stores = (insn->op == IR_ST || insn->op == IR_STV) && (insn->aux & IR_MEM_PROBED) == 0;
    if (stores || (insn->op == IR_CALL && (tcg_helpers[insn->imm].effects & (HELPER_FAULTS | HELPER_EXITS)) != 0))
      return true;
  }
  return false;
}

static bool jumps_back(const IrBlock *block, unsigned boundary)
{
  uint64_t rip = (uint64_t)ir_get(block, boundary)->imm;
  for (unsigned i = boundary + 1; i < ir_count(block) && ir_get(block, i)->op != IR_INSN; i++) {
    const IrInsn *insn = ir_get(block, i);
    if ((insn->op == IR_EXIT || insn->op == IR_EXITCC || insn->op == IR_EXITNZ) && (uint64_t)insn->imm <= rip)
      return true;
  }
  return false;
}

static bool is_boundary_observed(const IrBlock *block, unsigned boundary)
{
  return may_leave_before(block, boundary) || jumps_back(block, boundary);
}

static bool is_live(const Live *l, IrRef ref)
{
  if (ir_is_temp(ref))
    return l->temps[ref - IR_TEMP_BASE] != 0;
  return ir_is_reg(ref) && (l->regs >> ir_reg_index(ref) & 1) != 0;
}

static void set_dead(Live *l, IrRef ref)
{
  if (ir_is_temp(ref))
    l->temps[ref - IR_TEMP_BASE] = 0;
  else if (ir_is_reg(ref))
    l->regs &= ~(1ull << ir_reg_index(ref));
}

static void set_live(Live *l, IrRef ref)
{
  if (ir_is_temp(ref))
    l->temps[ref - IR_TEMP_BASE] = 1;
  else if (ir_is_reg(ref))
    l->regs |= 1ull << ir_reg_index(ref);
}

/* Does the op do nothing but make its results and flags? */
static bool is_pure(const IrInsn *insn)
{
  if (insn->op == IR_CALL)
    return (tcg_helpers[insn->imm].effects & HELPER_PURE) != 0;
  return (ir_ops[insn->op].props & IR_PURE) != 0 || insn->op == IR_LDE ||
         (insn->op >= IR_SETFLAGS && insn->op <= IR_CMC);
}

/* The form without flags of an op whose flags are dead; IR_N_OPS: there is none. */
static IrOpcode plain_form(const IrInsn *insn)
{
  switch (insn->op) {
  case IR_ADDF:
    return IR_ADD;
  case IR_SUBF:
    return IR_SUB;
  case IR_ANDF:
    return IR_AND;
  case IR_ORF:
    return IR_OR;
  case IR_XORF:
    return IR_XOR;
  case IR_NEGF:
    return IR_NEG;
  case IR_SHLF:
    return IR_SHL;
  case IR_SHRF:
    return IR_SHR;
  case IR_SARF:
    return IR_SAR;
  case IR_ROLF:
    return IR_ROL;
  case IR_RORF:
    return IR_ROR;
  case IR_IMULF:
    return insn->width >= IR_W32 ? IR_MUL : IR_N_OPS;
  default:
    return IR_N_OPS;
  }
}

static void drop_flags(Live *l, IrInsn *insn)
{
  if (insn->op == IR_INCF || insn->op == IR_DECF) {
    insn->b = ir_const(l->block, insn->op == IR_INCF ? 1 : -1);
    insn->op = IR_ADD;
    return;
  }
  IrOpcode plain = plain_form(insn);
  if (plain != IR_N_OPS)
    insn->op = (uint8_t)plain;
}

static void step(Live *l, unsigned i)
{
  IrInsn *insn = ir_at(l->block, i);
  bool o2 = ir_ops[insn->op].c == IR_OPERAND_O2;
  IrFlagEffect effect = ir_flag_effect(l->block, insn, l->flags);
  bool flags_dead = (effect.def & l->flags) == 0;
  if (is_pure(insn) && flags_dead && !is_live(l, insn->d) && !(o2 && is_live(l, insn->c))) {
    insn->op = IR_N_OPS;
    return;
  }
  if (flags_dead && effect.def != 0)
    drop_flags(l, insn);
  if (ir_ops[insn->op].flags_def == 0 && effect.def != 0 && insn->op != IR_CALL && insn->op != IR_NAT)
    effect = (IrFlagEffect){ 0, 0 }; /* it has just become plain */
  insn->flags_live = l->flags;
  l->flags = (uint16_t)((l->flags & ~effect.def) | effect.use);
  set_dead(l, insn->d);
  if (o2)
    set_dead(l, insn->c);
  if (observes(insn) || (insn->op == IR_INSN && is_boundary_observed(l->block, i))) {
    l->regs = l->all_regs;
    if (insn->op == IR_INSN)
      l->flags = IR_FL_ALL;
  }
  set_live(l, insn->a);
  set_live(l, insn->b);
  if (!o2)
    set_live(l, insn->c);
}

void ir_pass_live(IrBlock *block)
{
  g_array_set_size(block->scratch[0], block->n_temps + 1);
  Live l = { .block = block, .temps = (uint8_t *)block->scratch[0]->data, .flags = IR_FL_ALL };
  memset(l.temps, 0, block->n_temps + 1);
  g_assert(block->n_guest_regs <= 64);
  l.all_regs = block->n_guest_regs == 64 ? ~0ull : (1ull << block->n_guest_regs) - 1;
  l.regs = l.all_regs;
  for (unsigned i = ir_count(block); i-- > 0;)
    step(&l, i);
  block->flags_in = l.flags;
  ir_compact(block);
}

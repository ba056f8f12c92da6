/*
 * Which host register holds what.
 *
 * Temps are assigned once and live within one block, so allocation is one forward walk: a result gets a free register;
 * where there is none, the temp whose last use is furthest goes to memory, once.
 *
 * A guest register that is not pinned lives in memory. What was written to it last is also kept in a free register until
 * that is wanted for something else, so that a chain of operations on it does not go through memory; the write to memory
 * happens all the same, and the copy can be forgotten at any time.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"

/* Guest registers in the IR's order. Those that C leaves alone (rbx, r12–r15) are for the ones that matter most across
 * calls; the rest of the guest's registers are memory operands. */
const uint8_t host_pinned[] = { R8, R9, R10, RBX, R12, R13, R14, R15, R11 };
const unsigned host_n_pinned = G_N_ELEMENTS(host_pinned);

static const uint8_t temp_registers[] = { RSI, RDI, RDX };

unsigned be_pinned(unsigned guest_register)
{
  return guest_register < host_n_pinned ? host_pinned[guest_register] : NO_REG;
}

/* In Alloc.owner: a guest register's copy. */
#define COPY_OF(guest) (0x8000u | (guest))
static bool is_copy(unsigned owner)
{
  return (owner & 0x8000) != 0;
}

static unsigned copy_of(const Backend *be, unsigned guest)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(temp_registers); i++) {
    if (be->alloc.owner[temp_registers[i]] == COPY_OF(guest))
      return temp_registers[i];
  }
  return NO_REG;
}

static Temp *temp_of(Backend *be, IrRef ref)
{
  return &be->temps[ref - IR_TEMP_BASE];
}

static void note_use(Backend *be, IrRef ref, unsigned index)
{
  if (ir_is_temp(ref))
    temp_of(be, ref)->last_use = (uint16_t)index;
}

void be_alloc_start(Backend *be)
{
  g_array_set_size(be->temps_array, be->ir->n_temps + 1);
  be->temps = (Temp *)(void *)be->temps_array->data;
  for (unsigned i = 0; i < be->ir->n_temps; i++)
    be->temps[i] = (Temp){ 0, NO_REG, NO_SLOT, NO_SLOT };
  memset(&be->alloc, 0, sizeof be->alloc);
  for (unsigned i = 0; i < ir_count(be->ir); i++) {
    const IrInsn *insn = ir_get(be->ir, i);
    note_use(be, insn->d, i);
    note_use(be, insn->a, i);
    note_use(be, insn->b, i);
    note_use(be, insn->c, i);
  }
}

bool be_is_last_use(const Backend *be, IrRef ref)
{
  return ir_is_temp(ref) && be->temps[ref - IR_TEMP_BASE].last_use == be->index;
}

static Loc temp_loc(Backend *be, Temp *t)
{
  if (t->host != NO_REG) {
    be->locked |= 1u << t->host;
    return (Loc){ .kind = LOC_REG, .reg = t->host };
  }
  return (Loc){ .kind = LOC_MEM, .offset = CPU(spill) + 8 * (int32_t)t->slot };
}

Loc be_loc(Backend *be, IrRef ref)
{
  if (ref == IR_NONE)
    return (Loc){ .kind = LOC_NONE };
  if (ir_is_const(ref))
    return (Loc){ .kind = LOC_IMM, .imm = g_array_index(be->ir->consts, int64_t, ref - IR_CONST_BASE) };
  if (ir_is_temp(ref))
    return temp_loc(be, temp_of(be, ref));
  unsigned r = ir_reg_index(ref), pinned = be_pinned(r);
  unsigned copy = pinned != NO_REG ? (unsigned)NO_REG : copy_of(be, r);
  if (pinned != NO_REG)
    return (Loc){ .kind = LOC_REG, .reg = (uint8_t)pinned };
  if (copy == NO_REG)
    return (Loc){ .kind = LOC_MEM, .offset = (int32_t)be->ir->guest_regs[r].offset };
  be->locked |= 1u << copy;
  return (Loc){ .kind = LOC_REG, .reg = (uint8_t)copy };
}

void be_load(Backend *be, unsigned reg, Loc loc)
{
  if (loc.kind == LOC_IMM)
    emit_mov_ri(&be->e, reg, (uint64_t)loc.imm);
  else if (loc.kind == LOC_MEM)
    emit_mov_rm(&be->e, Q, reg, cpu_mem(loc.offset));
  else if (loc.kind == LOC_REG && loc.reg != reg)
    emit_mov_rr(&be->e, Q, reg, loc.reg);
}

unsigned be_reg(Backend *be, IrRef ref, unsigned width, unsigned scratch)
{
  Loc loc = be_loc(be, ref);
  if (loc.kind == LOC_REG)
    return loc.reg;
  if (loc.kind == LOC_IMM && width < Q)
    loc.imm = (uint32_t)loc.imm;
  be_load(be, scratch, loc);
  return scratch;
}

/* ---- spilling ------------------------------------------------------------------------------------------------------- */

static void give_slot(Backend *be, Temp *t)
{
  if (t->slot != NO_SLOT)
    return;
  if (be->alloc.slots == UINT64_MAX) {
    be->failed = true;
    t->slot = 0;
    return;
  }
  t->slot = (uint8_t)__builtin_ctzll(~be->alloc.slots);
  be->alloc.slots |= 1ull << t->slot;
  if (!be->in_tail)
    t->hot_slot = t->slot;
}

static void spill(Backend *be, unsigned reg)
{
  Temp *t = &be->temps[be->alloc.owner[reg] - 1];
  if (t->slot == NO_SLOT) { /* assigned once: a slot given before holds it already */
    give_slot(be, t);
    emit_mov_mr(&be->e, Q, cpu_mem(CPU(spill) + 8 * (int32_t)t->slot), reg);
  }
  t->host = NO_REG;
  be->alloc.owner[reg] = 0;
}

/* A register that nothing is in, or a copy that can be forgotten. */
static unsigned idle_register(Backend *be)
{
  unsigned found = NO_REG;
  for (unsigned i = 0; i < G_N_ELEMENTS(temp_registers); i++) {
    unsigned r = temp_registers[i];
    if ((be->locked >> r & 1) != 0)
      continue;
    if (be->alloc.owner[r] == 0)
      return r;
    if (is_copy(be->alloc.owner[r]))
      found = r;
  }
  if (found != NO_REG)
    be->alloc.owner[found] = 0;
  return found;
}

/* As above, or one whose temp is spilled for it. */
static unsigned free_register(Backend *be)
{
  unsigned worst = idle_register(be);
  if (worst != NO_REG)
    return worst;
  for (unsigned i = 0; i < G_N_ELEMENTS(temp_registers); i++) {
    unsigned r = temp_registers[i];
    if ((be->locked >> r & 1) != 0)
      continue;
    if (worst == NO_REG || be->temps[be->alloc.owner[r] - 1].last_use > be->temps[be->alloc.owner[worst] - 1].last_use)
      worst = r;
  }
  if (worst != NO_REG)
    spill(be, worst);
  return worst;
}

static void release_register(Backend *be, IrRef ref)
{
  if (!be_is_last_use(be, ref))
    return;
  Temp *t = temp_of(be, ref);
  if (t->host != NO_REG && be->alloc.owner[t->host] == ref - IR_TEMP_BASE + 1u) {
    be->alloc.owner[t->host] = 0;
    be->locked &= ~(1u << t->host);
  }
}

static void release(Backend *be, IrRef ref)
{
  release_register(be, ref);
  if (be_is_last_use(be, ref) && temp_of(be, ref)->slot != NO_SLOT)
    be->alloc.slots &= ~(1ull << temp_of(be, ref)->slot);
}

/* The op's result may take the registers of what dies here, but not yet the slots: a spill that makes room for the result
 * comes before the inputs are read. */
static void release_input_registers(Backend *be)
{
  const IrInsn *insn = ir_get(be->ir, be->index);
  release_register(be, insn->a);
  release_register(be, insn->b);
  if (ir_ops[insn->op].c != IR_OPERAND_O2)
    release_register(be, insn->c);
}

/* Where the new value of a guest register is computed: as a rule where it then stays. */
static unsigned def_guest(Backend *be, unsigned guest, bool early)
{
  unsigned r = be_pinned(guest);
  if (r == NO_REG)
    r = copy_of(be, guest);
  if (r != NO_REG)
    return r;
  if (!early)
    release_input_registers(be);
  r = idle_register(be);
  if (r == NO_REG)
    return RAX;
  be->alloc.owner[r] = (uint16_t)COPY_OF(guest);
  be->locked |= 1u << r;
  return r;
}

unsigned be_def(Backend *be, IrRef ref, bool early)
{
  if (ir_is_reg(ref))
    return def_guest(be, ir_reg_index(ref), early);
  if (!ir_is_temp(ref))
    return RAX;
  const IrInsn *insn = ir_get(be->ir, be->index);
  Temp *t = temp_of(be, ref);
  unsigned r = NO_REG;
  if (!early) {
    /* The first operand's register is the best there is: the move to the result falls away. */
    unsigned hint = be_is_last_use(be, insn->a) ? temp_of(be, insn->a)->host : NO_REG;
    release_input_registers(be);
    if (hint != NO_REG && be->alloc.owner[hint] == 0 && (be->locked >> hint & 1) == 0)
      r = hint;
  }
  if (r == NO_REG)
    r = free_register(be);
  if (r == NO_REG) { /* all are locked: compute in rax, live in memory */
    give_slot(be, t);
    return RAX;
  }
  be->alloc.owner[r] = (uint16_t)(ref - IR_TEMP_BASE + 1u);
  be->locked |= 1u << r;
  t->host = (uint8_t)r;
  return r;
}

void be_def_done(Backend *be, IrRef ref, unsigned reg)
{
  if (ref == IR_NONE)
    return;
  Loc loc = be_loc(be, ref);
  if (ir_is_reg(ref) && be_pinned(ir_reg_index(ref)) == NO_REG) /* a copy or none: memory has it in any case */
    emit_mov_mr(&be->e, Q, cpu_mem((int32_t)be->ir->guest_regs[ir_reg_index(ref)].offset), reg);
  else if (loc.kind == LOC_MEM)
    emit_mov_mr(&be->e, Q, cpu_mem(loc.offset), reg);
  if (loc.kind == LOC_REG && loc.reg != reg)
    emit_mov_rr(&be->e, Q, loc.reg, reg);
}

void be_take(Backend *be, unsigned reg)
{
  unsigned owner = be->alloc.owner[reg];
  if (is_copy(owner))
    be->alloc.owner[reg] = 0;
  else if (owner != 0 && be->temps[owner - 1].last_use > be->index)
    spill(be, reg);
  be->locked |= 1u << reg;
}

void be_evict(Backend *be, unsigned reg)
{
  unsigned owner = be->alloc.owner[reg];
  if (is_copy(owner))
    be->alloc.owner[reg] = 0;
  else if (owner != 0)
    spill(be, reg);
  be->locked |= 1u << reg;
}

void be_spill_live(Backend *be)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(temp_registers); i++) {
    unsigned r = temp_registers[i], owner = be->alloc.owner[r];
    if (is_copy(owner))
      be->alloc.owner[r] = 0;
    else if (owner != 0 && be->temps[owner - 1].last_use > be->index)
      spill(be, r);
  }
}

void be_op_done(Backend *be)
{
  const IrInsn *insn = ir_get(be->ir, be->index);
  release(be, insn->a);
  release(be, insn->b);
  release(be, insn->c);
  release(be, insn->d); /* a result that nobody uses */
  be->locked = 0;
}

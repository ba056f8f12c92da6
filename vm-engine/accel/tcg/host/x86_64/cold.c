/*
 * The rare paths behind a block's last instruction: TLB misses, exceptions, leaving for the main loop, exits that are not
 * chained yet.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"

#define COND_E  4u
#define COND_NE 5u

Cold *be_cold(Backend *be, ColdKind kind)
{
  Cold cold = { .kind = (uint8_t)kind,
                .flags = be->flags,
                .mmx_used = be->mmx_used,
                .slot = NO_SLOT,
                .in_tail = be->in_tail,
                .index = (uint16_t)be->index,
                .rip = be->rip,
                .alloc = be->alloc };
  g_array_append_val(be->colds, cold);
  return &g_array_index(be->colds, Cold, be->colds->len - 1);
}

void be_cold_jump(Cold *cold, uint8_t *at)
{
  g_assert(cold->n_jumps < G_N_ELEMENTS(cold->jumps));
  cold->jumps[cold->n_jumps++] = at;
}

static void store_imm64(Backend *be, int32_t offset, uint64_t v)
{
  if ((int64_t)v == (int32_t)v) {
    emit_mov_mi(&be->e, Q, cpu_mem(offset), (uint32_t)v);
    return;
  }
  emit_mov_mi(&be->e, D, cpu_mem(offset), (uint32_t)v);
  emit_mov_mi(&be->e, D, cpu_mem(offset + 4), (uint32_t)(v >> 32));
}

void be_store_rip(Backend *be, uint64_t rip)
{
  store_imm64(be, CPU(x86.rip), rip);
}

void be_leave(Backend *be, IrLeave how)
{
  be_emms(be);
  emit_mov_ri(&be->e, RAX, how);
  emit_jmp_to(&be->e, be->stubs->leave);
}

/* ---- slow paths ------------------------------------------------------------------------------------------------------ */

static void pass_address(Backend *be, const Cold *cold, const IrInsn *insn)
{
  Emit *e = &be->e;
  bool has_disp = insn->op == IR_LD || insn->op == IR_ST;
  int32_t disp = has_disp && insn->imm == (int32_t)insn->imm ? (int32_t)insn->imm : 0; /* else it is in the address */
  Loc a = cold->address;
  if (a.kind == LOC_IMM) {
    store_imm64(be, CPU(slow_address), (uint64_t)a.imm + (uint64_t)disp);
    return;
  }
  if (a.kind == LOC_MEM) {
    be_load(be, RCX, a);
    a.reg = RCX;
  }
  if (disp != 0) {
    emit_lea(e, Q, RCX, mem_at(a.reg, disp));
    a.reg = RCX;
  }
  emit_mov_mr(e, Q, cpu_mem(CPU(slow_address)), a.reg);
}

static void pass_value(Backend *be, Loc value)
{
  if (value.kind == LOC_IMM) {
    store_imm64(be, CPU(slow_value), (uint64_t)value.imm);
    return;
  }
  if (value.kind == LOC_MEM) {
    be_load(be, RCX, value);
    value.reg = RCX;
  }
  emit_mov_mr(&be->e, Q, cpu_mem(CPU(slow_value)), value.reg);
}

static void go_back(Backend *be, const Cold *cold)
{
  emit_jmp_to(&be->e, cold->back + be->e.to_executable);
}

/* Behind a store or helper: did it ask to leave after this instruction? */
static void leave_if_asked(Backend *be, const Cold *cold)
{
  emit_alu_mi(&be->e, B, ALU_CMP, cpu_mem(CPU(exit_block)), 0);
  uint8_t *stay = emit_jcc32(&be->e, COND_E);
  emit_patch32(stay, cold->back);
  be_emit_tail(be, cold);
}

static unsigned stub_for(const IrInsn *insn)
{
  switch (insn->op) {
  case IR_LD:
    return 0;
  case IR_ST:
    return 1;
  case IR_LDV:
    return 2;
  case IR_STV:
    return 3;
  default:
    return 4;
  }
}

static void cold_access(Backend *be, const Cold *cold)
{
  Emit *e = &be->e;
  const IrInsn *insn = ir_get(be->ir, cold->index);
  be->mmx_used = cold->mmx_used;
  be_emms(be);
  pass_address(be, cold, insn);
  if (cold->kind == COLD_STORE)
    pass_value(be, cold->value);
  if (cold->kind == COLD_VECTOR)
    emit_mov_mi(e, D, cpu_mem(CPU(slow_state)), (uint32_t)insn->imm);
  emit_mov_mi(e, D, cpu_mem(CPU(slow_memop)), insn->aux);
  be_store_rip(be, cold->rip);
  emit_call_to(e, be->stubs->slow[stub_for(insn)]);
  if (cold->kind == COLD_LOAD)
    emit_mov_rm(e, Q, cold->value.reg, cpu_mem(CPU(slow_value)));
  if (cold->kind == COLD_PROBE && (be->mode & TCG_MODE_SINGLE) == 0 && be->ir->n_guest_insns > 1) {
    emit_test_rr(e, D, RAX, RAX);
    emit_patch32(emit_jcc32(e, COND_E), cold->back);
    emit_mov_mi(e, B, cpu_mem(CPU(single_next)), 1);
    be_leave(be, IR_LEAVE_LOOP);
  } else if ((insn->op == IR_ST || insn->op == IR_STV) && !cold->in_tail && (insn->aux & IR_MEM_PROBED) == 0) {
    leave_if_asked(be, cold);
  } else {
    go_back(be, cold);
  }
}

/* Behind a call: an exception, or a wish to leave. */
static void cold_call(Backend *be, const Cold *cold)
{
  Emit *e = &be->e;
  emit_alu_mi(e, B, ALU_CMP, cpu_mem(CPU(exc_pending)), 0);
  uint8_t *no_exception = emit_jcc32(e, COND_E);
  emit_jmp_to(e, be->stubs->leave_exception);
  emit_patch32(no_exception, e->p);
  IrRef d = ir_get(be->ir, cold->index)->d;
  if (ir_is_reg(d))
    be_def_done(be, d, RAX);
  else if (cold->value.kind == LOC_MEM)
    emit_mov_mr(e, Q, cpu_mem(cold->value.offset), RAX);
  else if (cold->value.kind == LOC_REG && cold->value.reg != RAX)
    emit_mov_rr(e, Q, cold->value.reg, RAX);
  if (cold->in_tail)
    go_back(be, cold);
  else
    be_emit_tail(be, cold);
}

/* ---- exits ------------------------------------------------------------------------------------------------------------- */

static void cold_exit(Backend *be, const Cold *cold)
{
  const uint8_t *here = emit_here(&be->e);
  if (cold->slot != NO_SLOT)
    be->out->exits[cold->slot].stub = here;
  if (cold->flags == FLAGS_HOST)
    be_save_flags(be);
  be->mmx_used = cold->mmx_used;
  be_store_rip(be, cold->rip);
  uint64_t site = cold->slot == NO_SLOT || be->mode != 0 ? 0 : (uint64_t)be->block_id * 2 + cold->slot + 2;
  store_imm64(be, CPU(link_site), site);
  be_leave(be, cold->kind == COLD_POLL ? IR_LEAVE_LOOP : cold->slot == 1 ? IR_LEAVE_SLOT1 : IR_LEAVE_SLOT0);
}

static void cold_lookup_miss(Backend *be, const Cold *cold)
{
  be->mmx_used = cold->mmx_used;
  if (cold->address.kind == LOC_NONE) /* an indirect exit left its rip in rdx */
    emit_mov_mr(&be->e, Q, cpu_mem(CPU(x86.rip)), RDX);
  else
    be_store_rip(be, cold->rip);
  store_imm64(be, CPU(link_site), 0);
  be_leave(be, IR_LEAVE_INDIRECT);
}

void be_emit_cold(Backend *be, const Cold *cold)
{
  for (unsigned i = 0; i < cold->n_jumps; i++)
    emit_patch32(cold->jumps[i], be->e.p);
  be->index = cold->index;
  be->rip = cold->rip;
  be->alloc = cold->alloc;
  be->flags = cold->flags;
  switch (cold->kind) {
  case COLD_LOAD:
  case COLD_STORE:
  case COLD_VECTOR:
  case COLD_PROBE:
    cold_access(be, cold);
    break;
  case COLD_CALL:
    cold_call(be, cold);
    break;
  case COLD_LOOKUP:
    cold_lookup_miss(be, cold);
    break;
  default:
    cold_exit(be, cold);
    break;
  }
}

/* ---- the rest of an instruction ------------------------------------------------------------------------------------------ */

/* An input's place at the cold path's time follows from who owned its register then; else it is in the slot that the hot
 * code gave it. */
static void place_input(Backend *be, IrRef ref)
{
  if (!ir_is_temp(ref))
    return;
  Temp *t = &be->temps[ref - IR_TEMP_BASE];
  t->host = NO_REG;
  t->slot = t->hot_slot;
  for (unsigned r = 0; r < N_HOST_REGS; r++) {
    if (be->alloc.owner[r] == ref - IR_TEMP_BASE + 1u) {
      t->host = (uint8_t)r;
      t->slot = NO_SLOT;
    }
  }
}

/* A result has no place yet. */
static void place_output(Backend *be, IrRef ref)
{
  if (!ir_is_temp(ref))
    return;
  Temp *t = &be->temps[ref - IR_TEMP_BASE];
  t->host = NO_REG;
  t->slot = NO_SLOT;
}

static void place_temps(Backend *be, unsigned first, unsigned end)
{
  for (unsigned i = first; i < end; i++) {
    place_input(be, ir_get(be->ir, i)->a);
    place_input(be, ir_get(be->ir, i)->b);
    place_input(be, ir_get(be->ir, i)->c);
  }
  for (unsigned i = first; i < end; i++) {
    place_output(be, ir_get(be->ir, i)->d);
    if (ir_ops[ir_get(be->ir, i)->op].c == IR_OPERAND_O2)
      place_output(be, ir_get(be->ir, i)->c);
  }
}

static unsigned tail_end(const IrBlock *ir, unsigned index)
{
  unsigned i = index + 1;
  while (i < ir_count(ir) && ir_get(ir, i)->op != IR_INSN)
    i++;
  return i;
}

void be_emit_tail(Backend *be, const Cold *cold)
{
  unsigned end = tail_end(be->ir, cold->index);
  bool is_last = end == ir_count(be->ir);
  be->in_tail = true;
  be->alloc = cold->alloc;
  be->flags = cold->flags;
  be->mmx_used = cold->mmx_used;
  place_temps(be, cold->index + 1, end);
  for (unsigned i = cold->index + 1; i < end;)
    i = be_op(be, i);
  if (!is_last) {
    be_store_rip(be, (uint64_t)ir_get(be->ir, end)->imm);
    store_imm64(be, CPU(link_site), 0);
    if (be->flags == FLAGS_HOST)
      be_save_flags(be);
    be_leave(be, IR_LEAVE_LOOP);
  }
  be->in_tail = false;
}

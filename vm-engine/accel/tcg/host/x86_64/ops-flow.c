/*
 * Calls, the boundaries of guest instructions, and exits.
 *
 * A direct exit within the guest page is a jump that is patched to lead to the next block. One that crosses the page looks
 * its constant PC up in the jump cache, whose flush follows the guest's mappings; an indirect one does so with a computed
 * place. The look-up compares hflags and generation as one quadword, so it also sees a request to leave.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"
#include "vm-engine/accel/tcg/ir/alu.h"

#define COND_E  4u
#define COND_NE 5u

/* ---- calls ------------------------------------------------------------------------------------------------------------- */

/* rsi, rdx, rcx = a, b, c; each may be in a register that another wants. */
static void pass_arguments(Backend *be, Loc a, Loc b, Loc c)
{
  Emit *e = &be->e;
  if (c.kind != LOC_NONE)
    be_load(be, RCX, c);
  if (b.kind == LOC_REG && b.reg == RSI) {
    emit_mov_rr(e, Q, RAX, RSI);
    b.reg = RAX;
  }
  if (a.kind != LOC_NONE)
    be_load(be, RSI, a);
  if (b.kind != LOC_NONE)
    be_load(be, RDX, b);
}

static void emit_c_call(Backend *be, uint32_t effects, const void *function)
{
  unsigned stub = ((effects & HELPER_READS) != 0 ? 1 : 0) | ((effects & HELPER_WRITES) != 0 ? 2 : 0);
  emit_mov_ri(&be->e, RAX, (uint64_t)(uintptr_t)function);
  emit_call_to(&be->e, be->stubs->call[stub]);
}

void be_op_call(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  const TcgHelper *helper = &tcg_helpers[insn->imm];
  bool checked = (helper->effects & (HELPER_FAULTS | HELPER_EXITS)) != 0;
  be_clobber_flags(be);
  be_emms(be);
  be_spill_live(be);
  if ((helper->effects & (HELPER_FAULTS | HELPER_EXITS | HELPER_RIP)) != 0)
    be_store_rip(be, be->rip);
  pass_arguments(be, be_loc(be, insn->a), be_loc(be, insn->b), be_loc(be, insn->c));
  emit_c_call(be, helper->effects, (const void *)(uintptr_t)helper->func);
  uint8_t *jump = NULL;
  if (checked) {
    emit_alu_mi(e, W, ALU_CMP, cpu_mem(CPU(exc_pending)), 0);
    jump = emit_jcc32(e, COND_NE);
  }
  if (insn->d != IR_NONE)
    be_def(be, insn->d, false); /* every temp is in memory: this emits nothing */
  if (checked) {
    Cold *cold = be_cold(be, COLD_CALL);
    be_cold_jump(cold, jump);
    cold->value = be_loc(be, insn->d);
    be_def_done(be, insn->d, RAX);
    cold->back = e->p;
  } else {
    be_def_done(be, insn->d, RAX);
  }
}

/* An op that this host lacks, by C. */
static uint64_t compute_in_c(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t op_and_width)
{
  IrOpcode op = (IrOpcode)(op_and_width >> 8);
  IrWidth w = (IrWidth)(op_and_width & 0xff);
  uint64_t second;
  if (ir_ops[op].flags_def != 0)
    return ir_alu_flags(op, w, a, b, 0, &cpu->flags, &second);
  return ir_alu(op, w, a, b, 0, 0);
}

void be_bmi_fallback(Backend *be, const IrInsn *insn)
{
  if (be->flags == FLAGS_HOST && be_flags_needed(be) != 0)
    be_save_flags(be);
  be->flags = FLAGS_MEM;
  be_emms(be);
  be_spill_live(be);
  Loc c = { .kind = LOC_IMM, .imm = insn->op << 8 | insn->width };
  pass_arguments(be, be_loc(be, insn->a), be_loc(be, insn->b), c);
  emit_c_call(be, 0, (const void *)(uintptr_t)compute_in_c);
  be_def(be, insn->d, false);
  be_def_done(be, insn->d, RAX);
}

/* ---- polling -------------------------------------------------------------------------------------------------------------- */

static uint64_t linear_of(const Backend *be, uint64_t rip)
{
  uint64_t pc = be->cs_base + rip;
  return (be->ir->hflags & TCG_HF_CS64) != 0 ? pc : (uint32_t)pc;
}

static bool crosses_page(const Backend *be, uint64_t rip)
{
  return ((linear_of(be, rip) ^ be->ir->pc) >> VM_PAGE_SHIFT) != 0;
}

static bool is_direct_exit(const IrInsn *insn)
{
  return insn->op == IR_EXITCC || insn->op == IR_EXITNZ || insn->op == IR_EXIT;
}

/* Does the guest instruction that begins at op `index` jump back, itself included? `*simple`: it is but such exits. */
static bool jumps_back(const Backend *be, unsigned index, bool *simple)
{
  const IrBlock *ir = be->ir;
  uint64_t rip = (uint64_t)ir_get(ir, index)->imm;
  bool back = false;
  unsigned crossing = 0; /* look-ups are long: a jrcxz reaches over one */
  *simple = true;
  unsigned i = index + 1;
  for (; i < ir_count(ir) && ir_get(ir, i)->op != IR_INSN; i++) {
    const IrInsn *insn = ir_get(ir, i);
    if (is_direct_exit(insn) && (uint64_t)insn->imm <= rip)
      back = true;
    if (is_direct_exit(insn) && crosses_page(be, (uint64_t)insn->imm))
      crossing++;
    if (insn->op != IR_EXITCC && insn->op != IR_EXIT)
      *simple = false;
  }
  *simple = *simple && i == ir_count(ir) && i - index <= 3 && crossing <= 1;
  return back;
}

/* Leaves in front of an instruction that jumps back if somebody asked. jrcxz does not touch the flags; it reaches its cold
 * path by a jump that stands behind the block's end where that is near. */
static void emit_poll(Backend *be, bool simple)
{
  Emit *e = &be->e;
  Cold *cold = be_cold(be, COLD_POLL);
  emit_mov_rm(e, D, RCX, cpu_mem(CPU(jump_generation)));
  uint8_t *zero = emit_jrcxz(e);
  if (simple) {
    be->poll_jump = zero;
    be->poll_cold = be->colds->len - 1;
    return;
  }
  uint8_t *over = emit_jmp8(e);
  emit_patch8(zero, e->p);
  be_cold_jump(cold, emit_jmp32(e));
  emit_patch8(over, e->p);
}

void be_op_insn(Backend *be, const IrInsn *insn)
{
  bool simple;
  be->rip = (uint64_t)insn->imm;
  if (!be->in_tail && be->mode == 0 && jumps_back(be, be->index, &simple))
    emit_poll(be, simple);
}

static void finish_poll(Backend *be)
{
  if (be->poll_jump == NULL)
    return;
  Cold *cold = &g_array_index(be->colds, Cold, be->poll_cold);
  emit_patch8(be->poll_jump, be->e.p);
  be_cold_jump(cold, emit_jmp32(&be->e));
  be->poll_jump = NULL;
}

/* ---- exits ----------------------------------------------------------------------------------------------------------------- */

/* The jump cache's key for a rip, and where its entry is. */
static uint64_t jump_key(const Backend *be, uint64_t rip)
{
  return (be->ir->hflags & TCG_HF_CS64) != 0 ? rip : (uint32_t)rip | be->cs_base << 32;
}

static void emit_key_check(Backend *be, Cold *cold, Mem hflags_of_entry)
{
  Emit *e = &be->e;
  emit_mov_rm(e, Q, RAX, cpu_mem(CPU(hflags)));
  emit_alu_rm(e, Q, ALU_CMP, RAX, hflags_of_entry);
  be_cold_jump(cold, emit_jcc32(e, COND_NE));
}

/* The flags are in memory. */
static void emit_constant_lookup(Backend *be, uint64_t rip)
{
  Emit *e = &be->e;
  uint64_t key = jump_key(be, rip);
  int32_t entry = CPU(jump_cache) + (int32_t)(tcg_jump_index(key) * sizeof(TcgJumpEntry));
  Cold *cold = be_cold(be, COLD_LOOKUP);
  cold->address = (Loc){ .kind = LOC_IMM };
  cold->rip = rip;
  if ((int64_t)key == (int32_t)key) {
    emit_alu_mi(e, Q, ALU_CMP, cpu_mem(entry + (int32_t)offsetof(TcgJumpEntry, pc)), (int32_t)key);
  } else {
    emit_mov_ri(e, RCX, key);
    emit_alu_rm(e, Q, ALU_CMP, RCX, cpu_mem(entry + (int32_t)offsetof(TcgJumpEntry, pc)));
  }
  be_cold_jump(cold, emit_jcc32(e, COND_NE));
  emit_key_check(be, cold, cpu_mem(entry + (int32_t)offsetof(TcgJumpEntry, hflags)));
  emit_jmp_mem(e, cpu_mem(entry + (int32_t)offsetof(TcgJumpEntry, code)));
}

static void align_displacement(Backend *be, unsigned opcode_bytes)
{
  unsigned at = (unsigned)((uintptr_t)be->e.p + opcode_bytes) & 3;
  emit_nops(&be->e, (4 - at) & 3);
}

static uint8_t take_slot(Backend *be, bool conditional)
{
  if (!conditional)
    return 0;
  if (be->slot1_taken)
    return NO_SLOT;
  be->slot1_taken = true;
  return 1;
}

/* A jump (host condition `cc`, or 16: always) that can be chained. */
static void emit_exit_jump(Backend *be, unsigned cc, uint64_t rip)
{
  Emit *e = &be->e;
  bool conditional = cc < 16;
  uint8_t slot = take_slot(be, conditional);
  align_displacement(be, conditional ? 2 : 1);
  uint8_t *at = conditional ? emit_jcc32(e, cc) : emit_jmp32(e);
  Cold *cold = be_cold(be, COLD_EXIT);
  cold->slot = slot;
  cold->rip = rip;
  be_cold_jump(cold, at);
  if (slot != NO_SLOT)
    be->out->exits[slot] = (HostExit){ .site = at + e->to_executable, .flags_in_host = be->flags == FLAGS_HOST };
}

static void save_flags_for_exit(Backend *be)
{
  if (be->flags == FLAGS_HOST)
    be_save_flags(be);
}

/* In an instruction's rest, or where nothing is chained. */
static void emit_plain_exit(Backend *be, uint64_t rip, IrLeave how)
{
  save_flags_for_exit(be);
  be_store_rip(be, rip);
  emit_mov_mi(&be->e, Q, cpu_mem(CPU(link_site)), 0);
  be_leave(be, how);
}

static void emit_direct_exit(Backend *be, unsigned cc, uint64_t rip)
{
  Emit *e = &be->e;
  bool conditional = cc < 16;
  be_emms(be);
  if (!be->in_tail && be->mode == 0 && !crosses_page(be, rip)) {
    emit_exit_jump(be, cc, rip);
    return;
  }
  uint8_t *over = conditional ? emit_jcc32(e, cc ^ 1) : NULL;
  uint8_t flags = be->flags;
  if (be->in_tail || be->mode != 0) {
    emit_plain_exit(be, rip, conditional ? IR_LEAVE_SLOT1 : IR_LEAVE_SLOT0);
  } else {
    save_flags_for_exit(be);
    emit_constant_lookup(be, rip);
  }
  if (over != NULL) {
    emit_patch32(over, e->p);
    be->flags = flags; /* the other way did not save them */
  }
}

static void op_exit_nz(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  be_clobber_flags(be);
  Loc a = be_loc(be, insn->a);
  if (a.kind == LOC_IMM) {
    be_load(be, RAX, a);
    a = (Loc){ .kind = LOC_REG, .reg = RAX };
  }
  if (a.kind == LOC_REG)
    emit_test_rr(e, insn->width, a.reg, a.reg);
  else
    emit_alu_mi(e, insn->width, ALU_CMP, cpu_mem(a.offset), 0);
  emit_direct_exit(be, COND_NE, (uint64_t)insn->imm);
}

static void op_exit_indirect(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  int32_t cache = CPU(jump_cache);
  be_clobber_flags(be);
  be_emms(be);
  be_load(be, RDX, be_loc(be, insn->a));
  if (be->in_tail || be->mode != 0) {
    emit_mov_mr(e, Q, cpu_mem(CPU(x86.rip)), RDX);
    emit_mov_mi(e, Q, cpu_mem(CPU(link_site)), 0);
    be_leave(be, IR_LEAVE_INDIRECT);
    return;
  }
  unsigned key = RDX;
  if ((be->ir->hflags & TCG_HF_CS64) == 0 && be->cs_base != 0) {
    emit_mov_ri(e, RSI, be->cs_base << 32);
    emit_alu_rr(e, Q, ALU_OR, RSI, RDX);
    key = RSI;
  }
  G_STATIC_ASSERT(sizeof(TcgJumpEntry) == 32);
  emit_rr(e, D, 0x69, RCX, RDX); /* imul: the hash, as tcg_jump_index() */
  emit_u32(e, 0x9e3779b1u);
  emit_shift_ri(e, D, 5, RCX, 32 - TCG_JUMP_CACHE_BITS - 5);
  emit_alu_ri(e, D, ALU_AND, RCX, (int32_t)((TCG_JUMP_CACHE_SIZE - 1) << 5));
  Cold *cold = be_cold(be, COLD_LOOKUP);
  emit_alu_rm(e, Q, ALU_CMP, key, mem_index(RBP, RCX, 0, cache + (int32_t)offsetof(TcgJumpEntry, pc)));
  be_cold_jump(cold, emit_jcc32(e, COND_NE));
  emit_key_check(be, cold, mem_index(RBP, RCX, 0, cache + (int32_t)offsetof(TcgJumpEntry, hflags)));
  emit_jmp_mem(e, mem_index(RBP, RCX, 0, cache + (int32_t)offsetof(TcgJumpEntry, code)));
}

static void op_exit_loop(Backend *be, const IrInsn *insn)
{
  save_flags_for_exit(be);
  if (insn->a != IR_NONE) {
    Loc a = be_loc(be, insn->a);
    if (a.kind == LOC_IMM) {
      be_store_rip(be, (uint64_t)a.imm);
    } else {
      be_load(be, RCX, a);
      emit_mov_mr(&be->e, Q, cpu_mem(CPU(x86.rip)), a.kind == LOC_REG ? a.reg : (unsigned)RCX);
    }
  }
  emit_mov_mi(&be->e, Q, cpu_mem(CPU(link_site)), 0);
  be_leave(be, IR_LEAVE_LOOP);
}

void be_op_exit(Backend *be, const IrInsn *insn)
{
  switch (insn->op) {
  case IR_EXITCC:
    emit_direct_exit(be, be_condition(be, insn->aux), (uint64_t)insn->imm);
    return;
  case IR_EXITNZ:
    op_exit_nz(be, insn);
    return;
  case IR_EXIT:
    emit_direct_exit(be, 16, (uint64_t)insn->imm);
    break;
  case IR_EXITIND:
    op_exit_indirect(be, insn);
    break;
  default:
    op_exit_loop(be, insn);
    break;
  }
  finish_poll(be);
}

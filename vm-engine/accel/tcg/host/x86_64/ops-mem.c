/*
 * Guest memory and CPU state. A guest access looks the page up in the software TLB in line:
 *
 *   rorx  eax, address, 12 ; and eax, 2047     the entry
 *   xor   rcx(address), [rbp + 8*rax + tag]    below 4096 - size + 1: the same page, and not across its end
 *   cmp   rcx, 4096 - size ; ja cold
 *   mov   rax, [rbp + 8*rax + addend]
 *   mov   value, [address + rax]
 *
 * so that the tag's check is off the address's path. The cold path calls C by a stub that keeps every register.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"

#define COND_A  7u
#define COND_NZ 5u

typedef struct Access {
  Loc address; /* as an operand: without the displacement */
  int32_t disp;
  unsigned size; /* log2 */
  unsigned memop;
  bool write;
} Access;

static uint32_t tlb_offset(const Backend *be)
{
  unsigned mmu = (be->ir->hflags & TCG_HF_MMU) >> TCG_HF_MMU_SHIFT;
  return (uint32_t)(offsetof(TcgCpu, tlb) + mmu * sizeof(TcgTlb));
}

static bool must_align(const Backend *be, unsigned memop)
{
  return (memop & IR_MEM_SIZE) != 0 && ((memop & IR_MEM_ALIGNED) != 0 || (be->ir->hflags & TCG_HF_ALIGN_CHECK) != 0);
}

/* rcx = the whole address. */
static void load_address(Backend *be, const Access *a)
{
  Emit *e = &be->e;
  if (a->address.kind == LOC_REG && a->disp != 0) {
    emit_lea(e, Q, RCX, mem_at(a->address.reg, a->disp));
    return;
  }
  Loc whole = a->address;
  if (whole.kind == LOC_IMM)
    whole.imm += a->disp;
  be_load(be, RCX, whole);
  if (whole.kind == LOC_MEM && a->disp != 0)
    emit_lea(e, Q, RCX, mem_at(RCX, a->disp));
}

/* Leaves the addend in rax; jumps to the cold path where the TLB does not match. */
static void look_up(Backend *be, const Access *a, Cold *cold)
{
  Emit *e = &be->e;
  uint32_t tlb = tlb_offset(be);
  uint32_t tags = tlb + (uint32_t)(a->write ? offsetof(TcgTlb, write_tag) : offsetof(TcgTlb, read_tag));
  if ((a->memop & IR_MEM_SYSTEM) != 0) {
    be_cold_jump(cold, emit_jmp32(e));
    return;
  }
  load_address(be, a);
  if (be->has.bmi2) {
    emit_rorx(e, D, RAX, RCX, 12);
  } else {
    emit_mov_rr(e, D, RAX, RCX);
    emit_shift_ri(e, D, 5, RAX, 12);
  }
  emit_alu_ri(e, D, ALU_AND, RAX, TCG_TLB_SIZE - 1);
  emit_alu_rm(e, Q, ALU_XOR, RCX, mem_index(RBP, RAX, 3, (int32_t)tags));
  if (must_align(be, a->memop)) {
    emit_test_ri(e, B, RCX, (1u << a->size) - 1);
    be_cold_jump(cold, emit_jcc32(e, COND_NZ));
  }
  emit_alu_ri(e, Q, ALU_CMP, RCX, 4096 - (1 << a->size));
  be_cold_jump(cold, emit_jcc32(e, COND_A));
  if (cold->kind != COLD_PROBE)
    emit_mov_rm(e, Q, RAX, mem_index(RBP, RAX, 3, (int32_t)(tlb + offsetof(TcgTlb, addend))));
}

/* The host's operand behind rax = addend. May load rcx, unless `keep_rcx`: then rax takes the whole sum. */
static Mem host_mem(Backend *be, const Access *a, bool keep_rcx)
{
  Emit *e = &be->e;
  if (a->address.kind == LOC_REG)
    return mem_index(a->address.reg, RAX, 0, a->disp);
  if (a->address.kind == LOC_MEM && keep_rcx) { /* the flags are gone anyway */
    emit_alu_rm(e, Q, ALU_ADD, RAX, cpu_mem(a->address.offset));
    return mem_at(RAX, a->disp);
  }
  if (a->address.kind == LOC_IMM && keep_rcx) {
    int64_t v = (int64_t)((uint64_t)a->address.imm + (uint64_t)a->disp);
    if (v == (int32_t)v)
      return mem_at(RAX, (int32_t)v);
    emit_mov_ri(e, RCX, (uint64_t)v);
    emit_alu_rr(e, Q, ALU_ADD, RAX, RCX);
    return mem_at(RAX, 0);
  }
  be_load(be, RCX, a->address);
  return mem_index(RCX, RAX, 0, a->disp);
}

static Access access_of(Backend *be, const IrInsn *insn, bool write)
{
  Access a = { .address = be_loc(be, insn->a), .size = insn->aux & IR_MEM_SIZE, .memop = insn->aux, .write = write };
  if (insn->op == IR_LD || insn->op == IR_ST) {
    if (insn->imm == (int32_t)insn->imm) {
      a.disp = (int32_t)insn->imm;
    } else { /* rare: make it part of the address, in a register of its own */
      be_evict(be, RDX);
      be_load(be, RDX, a.address);
      emit_mov_ri(&be->e, RAX, (uint64_t)insn->imm);
      emit_lea(&be->e, Q, RDX, mem_index(RDX, RAX, 0, 0));
      a.address = (Loc){ .kind = LOC_REG, .reg = RDX };
    }
  }
  return a;
}

static Cold *begin(Backend *be, ColdKind kind, const Access *a)
{
  Cold *cold = be_cold(be, kind);
  cold->address = a->address;
  return cold;
}

static void emit_load_value(Backend *be, const IrInsn *insn, unsigned d, Mem m)
{
  Emit *e = &be->e;
  bool is_signed = (insn->aux & IR_MEM_SIGNED) != 0;
  switch (insn->aux & 3) {
  case 0:
    emit_rm(e, is_signed ? Q : D, is_signed ? OP0F(0xbe) : OP0F(0xb6), d, m);
    break;
  case 1:
    emit_rm(e, is_signed ? Q : D, is_signed ? OP0F(0xbf) : OP0F(0xb7), d, m);
    break;
  case 2:
    emit_rm(e, is_signed ? Q : D, is_signed ? 0x63 : 0x8b, d, m);
    break;
  default:
    emit_mov_rm(e, Q, d, m);
    break;
  }
}

static void op_load(Backend *be, const IrInsn *insn)
{
  be_clobber_flags(be);
  Access a = access_of(be, insn, false);
  /* Before the look-up: it may have to spill, which the cold path must not miss. The result may share the address's
   * register, which is written last. */
  unsigned d = be_def(be, insn->d, false);
  Cold *cold = begin(be, COLD_LOAD, &a);
  cold->value = (Loc){ .kind = LOC_REG, .reg = (uint8_t)d };
  look_up(be, &a, cold);
  emit_load_value(be, insn, d, host_mem(be, &a, false));
  cold->back = be->e.p;
  be_def_done(be, insn->d, d);
}

static void op_store(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  be_clobber_flags(be);
  Access a = access_of(be, insn, true);
  Loc value = be_loc(be, insn->b);
  Cold *cold = begin(be, COLD_STORE, &a);
  cold->value = value;
  look_up(be, &a, cold);
  bool imm = value.kind == LOC_IMM && (a.size < 3 || value.imm == (int32_t)value.imm);
  bool through_rcx = value.kind == LOC_MEM || (value.kind == LOC_IMM && !imm);
  Mem m = host_mem(be, &a, through_rcx);
  if (imm) {
    emit_mov_mi(e, a.size, m, (uint32_t)value.imm);
  } else {
    if (through_rcx)
      be_load(be, RCX, value);
    emit_mov_mr(e, a.size, m, through_rcx ? (unsigned)RCX : value.reg);
  }
  cold->back = e->p;
}

/* Moves `bytes` between a state slot and guest memory, 16 at a time through xmm0. */
static void copy_vector(Backend *be, Mem guest, int32_t state, unsigned bytes, bool write)
{
  Emit *e = &be->e;
  for (unsigned at = 0; at < bytes; at += 16, guest.disp += 16, state += 16) {
    Mem from = write ? cpu_mem(state) : guest, to = write ? guest : cpu_mem(state);
    if (bytes == 8 || bytes == 4) {
      unsigned width = bytes == 8 ? Q : D;
      emit_mov_rm(e, width, RCX, from);
      emit_mov_mr(e, width, to, RCX);
      return;
    }
    emit_rm(e, D, OP0F(0x10), 0, from); /* movups */
    emit_rm(e, D, OP0F(0x11), 0, to);
  }
}

static void op_vector(Backend *be, const IrInsn *insn)
{
  be_clobber_flags(be);
  Access a = access_of(be, insn, insn->op == IR_STV);
  Cold *cold = begin(be, COLD_VECTOR, &a);
  look_up(be, &a, cold);
  Mem m = host_mem(be, &a, true);
  copy_vector(be, m, (int32_t)insn->imm, 1u << a.size, a.write);
  cold->back = be->e.p;
}

static void op_probe(Backend *be, const IrInsn *insn)
{
  be_clobber_flags(be);
  Access a = access_of(be, insn, true);
  Cold *cold = begin(be, COLD_PROBE, &a);
  look_up(be, &a, cold);
  cold->back = be->e.p;
}

void be_op_memory(Backend *be, const IrInsn *insn)
{
  switch (insn->op) {
  case IR_LD:
    op_load(be, insn);
    break;
  case IR_ST:
    op_store(be, insn);
    break;
  case IR_PROBEW:
    op_probe(be, insn);
    break;
  default:
    op_vector(be, insn);
    break;
  }
}

/* ---- CPU state ------------------------------------------------------------------------------------------------------ */

static void load_state(Backend *be, const IrInsn *insn)
{
  Emit *e = &be->e;
  Mem m = cpu_mem((int32_t)insn->imm);
  unsigned d = be_def(be, insn->d, false);
  if (insn->width == B)
    emit_rm(e, D, OP0F(0xb6), d, m);
  else if (insn->width == W)
    emit_rm(e, D, OP0F(0xb7), d, m);
  else
    emit_mov_rm(e, insn->width, d, m);
  be_def_done(be, insn->d, d);
}

void be_op_state(Backend *be, const IrInsn *insn)
{
  if (insn->op == IR_LDE) {
    load_state(be, insn);
    return;
  }
  Loc a = be_loc(be, insn->a);
  Mem m = cpu_mem((int32_t)insn->imm);
  if (a.kind == LOC_IMM && (insn->width < Q || a.imm == (int32_t)a.imm)) {
    emit_mov_mi(&be->e, insn->width, m, (uint32_t)a.imm);
    return;
  }
  if (a.kind != LOC_REG) {
    be_load(be, RCX, a);
    a.reg = RCX;
  }
  emit_mov_mr(&be->e, insn->width, m, a.reg);
}

/*
 * The interpreting back end: runs a block's IR op by op. Slow and plain, it is the oracle of the host back ends, so it
 * shares nothing with them but the slow paths and (for NAT) the host's instructions themselves.
 */
#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"
#include "vm-engine/accel/tcg/ir/alu.h"
#include "vm-engine/accel/tcg/tcg-impl.h"

typedef struct Interp {
  const IrBlock *block;
  TcgCpu *cpu;
  uint64_t *temps;
  uint64_t rip; /* of the current guest instruction */
  IrLeave leave;
} Interp;

/* What an op asks for. */
typedef enum Step { STEP_NEXT, STEP_LEAVE } Step;

#define RUBBISH 0xa5c3f00d5a3c0ff1ull

static uint64_t get(const Interp *in, IrRef ref)
{
  if (ref == IR_NONE)
    return 0;
  if (ir_is_temp(ref))
    return in->temps[ref - IR_TEMP_BASE];
  if (ir_is_const(ref))
    return (uint64_t)g_array_index(in->block->consts, int64_t, ref - IR_CONST_BASE);
  return *(uint64_t *)((char *)in->cpu + in->block->guest_regs[ir_reg_index(ref)].offset);
}

static void set(const Interp *in, IrRef ref, uint64_t value)
{
  if (ir_is_temp(ref))
    in->temps[ref - IR_TEMP_BASE] = value;
  else if (ir_is_reg(ref))
    *(uint64_t *)((char *)in->cpu + in->block->guest_regs[ir_reg_index(ref)].offset) = value;
}

/* A computing op's result: narrow ones leave the upper bits unspecified, which tests make visible. */
static void set_result(const Interp *in, IrRef ref, unsigned width, uint64_t value)
{
  if (in->block->poison && width < IR_W32) {
    uint64_t mask = (1ull << ir_width_bits(width)) - 1;
    value = (value & mask) | ((RUBBISH ^ in->rip) & ~mask);
  }
  set(in, ref, value);
}

static Step leave(Interp *in, IrLeave how, uint64_t rip)
{
  in->cpu->x86.rip = rip;
  in->leave = how;
  return STEP_LEAVE;
}

static Step after_fault_check(Interp *in)
{
  if (in->cpu->exc_pending == 0)
    return STEP_NEXT;
  in->leave = IR_LEAVE_EXCEPTION;
  return STEP_LEAVE;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* The host address where the inline look-up of host code would hit, else NULL. */
static void *tlb_look_up(const Interp *in, uint64_t linear, unsigned memop, bool write)
{
  unsigned size = 1u << (memop & IR_MEM_SIZE);
  TcgTlb *tlb = &in->cpu->tlb[(in->block->hflags & TCG_HF_MMU) >> TCG_HF_MMU_SHIFT];
  unsigned i = linear >> 12 & (TCG_TLB_SIZE - 1);
  if ((memop & IR_MEM_SYSTEM) != 0)
    return NULL;
  if (((memop & IR_MEM_ALIGNED) != 0 || (in->block->hflags & TCG_HF_ALIGN_CHECK) != 0) && (linear & (size - 1)) != 0)
    return NULL;
  if ((linear ^ (write ? tlb->write_tag[i] : tlb->read_tag[i])) > 4096 - size)
    return NULL;
  return (void *)(uintptr_t)(linear + tlb->addend[i]);
}

static uint64_t load_host(const void *from, unsigned memop)
{
  union {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
  } v = { .u64 = 0 };
  memcpy(&v, from, 1u << (memop & 3));
  return v.u64;
}

static uint64_t sign_extend(uint64_t value, unsigned memop)
{
  unsigned unused = 64 - ir_width_bits(memop & 3);
  if ((memop & IR_MEM_SIGNED) == 0)
    return value << unused >> unused;
  return (uint64_t)((int64_t)(value << unused) >> unused);
}

static Step do_load(Interp *in, const IrInsn *insn)
{
  uint64_t linear = get(in, insn->a) + (uint64_t)insn->imm;
  const void *host = tlb_look_up(in, linear, insn->aux, false);
  uint64_t value = host != NULL ? load_host(host, insn->aux) : tcg_slow_load(in->cpu, linear, insn->aux);
  if (host == NULL && in->cpu->exc_pending != 0)
    return after_fault_check(in);
  set(in, insn->d, sign_extend(value, insn->aux));
  return STEP_NEXT;
}

static Step do_store(Interp *in, const IrInsn *insn)
{
  uint64_t linear = get(in, insn->a) + (uint64_t)insn->imm, value = get(in, insn->b);
  void *host = tlb_look_up(in, linear, insn->aux, true);
  if (host != NULL)
    memcpy(host, &value, 1u << (insn->aux & 3));
  else
    tcg_slow_store(in->cpu, linear, value, insn->aux);
  return after_fault_check(in);
}

static Step do_vector(Interp *in, const IrInsn *insn)
{
  uint64_t linear = get(in, insn->a);
  bool write = insn->op == IR_STV;
  void *host = tlb_look_up(in, linear, insn->aux, write), *state = (char *)in->cpu + insn->imm;
  unsigned size = 1u << (insn->aux & IR_MEM_SIZE);
  if (host != NULL)
    memcpy(write ? host : state, write ? state : host, size);
  else if (write)
    tcg_slow_store_vector(in->cpu, linear, insn->aux, (uint32_t)insn->imm);
  else
    tcg_slow_load_vector(in->cpu, linear, insn->aux, (uint32_t)insn->imm);
  return after_fault_check(in);
}

static Step do_probe(Interp *in, const IrInsn *insn)
{
  uint64_t linear = get(in, insn->a);
  if (tlb_look_up(in, linear, insn->aux, true) != NULL)
    return STEP_NEXT;
  tcg_slow_probe_write(in->cpu, linear, insn->aux);
  /* Not plain memory: the instruction gets a block of its own, see opt-live.c. */
  if (in->cpu->exc_pending == 0 && in->block->n_guest_insns > 1 && tlb_look_up(in, linear, insn->aux, true) == NULL) {
    in->cpu->single_next = 1;
    return leave(in, IR_LEAVE_LOOP, in->rip);
  }
  return after_fault_check(in);
}

/* ---- the rest ------------------------------------------------------------------------------------------------------------ */

static Step do_state(Interp *in, const IrInsn *insn)
{
  void *state = (char *)in->cpu + insn->imm;
  if (insn->op == IR_LDE) {
    set(in, insn->d, load_host(state, insn->width));
  } else {
    uint64_t value = get(in, insn->a);
    memcpy(state, &value, 1u << insn->width);
  }
  return STEP_NEXT;
}

static Step do_call(Interp *in, const IrInsn *insn)
{
  const TcgHelper *helper = &tcg_helpers[insn->imm];
  uint64_t d = helper->func(in->cpu, get(in, insn->a), get(in, insn->b), get(in, insn->c));
  if ((helper->effects & HELPER_FAULTS) != 0 && in->cpu->exc_pending != 0)
    return after_fault_check(in);
  set(in, insn->d, d);
  return STEP_NEXT;
}

static Step do_native(Interp *in, const IrInsn *insn)
{
  const IrNative *native = &g_array_index(in->block->natives, IrNative, insn->imm);
  set(in, insn->d, tcg_run_native(in->cpu, native, get(in, insn->a)));
  return STEP_NEXT;
}

static void do_flags(Interp *in, const IrInsn *insn)
{
  TcgCpu *cpu = in->cpu;
  uint64_t mask = (uint64_t)insn->imm;
  switch (insn->op) {
  case IR_SETCC:
    set(in, insn->d, ir_condition(insn->aux, cpu->flags));
    break;
  case IR_CMOVCC: {
    uint64_t value = get(in, ir_condition(insn->aux, cpu->flags) ? insn->a : insn->b);
    set_result(in, insn->d, insn->width, ir_alu(IR_MOV, insn->width, value, 0, 0, 0));
    break;
  }
  case IR_GETFLAGS:
    set(in, insn->d, tcg_unpack_flags(cpu->flags));
    break;
  case IR_SETFLAGS:
    cpu->flags = tcg_pack_flags((tcg_unpack_flags(cpu->flags) & ~mask) | (get(in, insn->a) & mask));
    break;
  case IR_CLC:
    cpu->flags &= (uint16_t)~0x100;
    break;
  case IR_STC:
    cpu->flags |= 0x100;
    break;
  default:
    cpu->flags ^= 0x100;
    break;
  }
}

static Step do_exit(Interp *in, const IrInsn *insn)
{
  switch (insn->op) {
  case IR_EXITCC:
    return ir_condition(insn->aux, in->cpu->flags) ? leave(in, IR_LEAVE_SLOT1, (uint64_t)insn->imm) : STEP_NEXT;
  case IR_EXITNZ: {
    uint64_t value = ir_alu(IR_MOV, insn->width, get(in, insn->a), 0, 0, 0);
    return value != 0 ? leave(in, IR_LEAVE_SLOT1, (uint64_t)insn->imm) : STEP_NEXT;
  }
  case IR_EXIT:
    return leave(in, IR_LEAVE_SLOT0, (uint64_t)insn->imm);
  case IR_EXITIND:
    return leave(in, IR_LEAVE_INDIRECT, get(in, insn->a));
  default:
    return leave(in, IR_LEAVE_LOOP, insn->a != IR_NONE ? get(in, insn->a) : in->cpu->x86.rip);
  }
}

static void do_compute(Interp *in, const IrInsn *insn)
{
  uint64_t a = get(in, insn->a), b = get(in, insn->b);
  unsigned width = insn->op >= IR_ZX8 && insn->op <= IR_DEP16 ? IR_W64 : insn->width;
  if (insn->op == IR_CRC32 || insn->op == IR_LEA)
    width = IR_W32; /* zero-extended whatever the width */
  if (ir_ops[insn->op].flags_def == 0) {
    set_result(in, insn->d, width, ir_alu(insn->op, insn->width, a, b, insn->aux, insn->imm));
    return;
  }
  uint64_t second = 0;
  bool wide = insn->op == IR_UMULWF || insn->op == IR_SMULWF;
  uint64_t c = wide ? 0 : get(in, insn->c);
  uint64_t d = ir_alu_flags(insn->op, insn->width, a, b, c, &in->cpu->flags, &second);
  set_result(in, insn->d, wide && width == IR_W8 ? (unsigned)IR_W16 : width, d);
  if (wide && insn->c != IR_NONE)
    set_result(in, insn->c, width, second);
}

static Step step(Interp *in, const IrInsn *insn)
{
  switch (insn->op) {
  case IR_INSN:
    if (in->cpu->exit_block != 0)
      return leave(in, IR_LEAVE_LOOP, (uint64_t)insn->imm);
    in->rip = in->cpu->x86.rip = (uint64_t)insn->imm;
    return STEP_NEXT;
  case IR_LD:
    return do_load(in, insn);
  case IR_ST:
    return do_store(in, insn);
  case IR_LDV:
  case IR_STV:
    return do_vector(in, insn);
  case IR_PROBEW:
    return do_probe(in, insn);
  case IR_LDE:
  case IR_STE:
    return do_state(in, insn);
  case IR_CALL:
    return do_call(in, insn);
  case IR_NAT:
    return do_native(in, insn);
  case IR_SETCC:
  case IR_CMOVCC:
  case IR_GETFLAGS:
  case IR_SETFLAGS:
  case IR_CLC:
  case IR_STC:
  case IR_CMC:
    do_flags(in, insn);
    return STEP_NEXT;
  case IR_EXITCC:
  case IR_EXITNZ:
  case IR_EXIT:
  case IR_EXITIND:
  case IR_EXITLOOP:
    return do_exit(in, insn);
  default:
    do_compute(in, insn);
    return STEP_NEXT;
  }
}

IrLeave ir_interpret(const IrBlock *block, TcgCpu *cpu)
{
  uint64_t on_stack[256];
  g_autofree uint64_t *on_heap = block->n_temps > G_N_ELEMENTS(on_stack) ? g_new(uint64_t, block->n_temps) : NULL;
  Interp in = { .block = block, .cpu = cpu, .temps = on_heap != NULL ? on_heap : on_stack, .rip = block->rip };
  for (unsigned i = 0; step(&in, ir_get(block, i)) == STEP_NEXT; i++)
    ;
  return in.leave;
}

/*
 * The host code that every block shares: entering and leaving translated code, and calls to C.
 *
 * In translated code rsp is a multiple of 16, so that a stub, which is called, has to move it by 8 before it calls C.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"
#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"

#define COND_NE 5u

static const uint8_t callee_saved[] = { RBX, RBP, R12, R13, R14, R15 };

static bool survives_c(unsigned reg)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(callee_saved); i++) {
    if (callee_saved[i] == reg)
      return true;
  }
  return false;
}

/* Guest registers between the host's and x86.gpr; `all`, or those that a C function destroys. */
static void move_guest_registers(Emit *e, bool store, bool all)
{
  for (unsigned i = 0; i < host_n_pinned; i++) {
    Mem m = cpu_mem((int32_t)x86_guest_regs[i].offset);
    if (!all && survives_c(host_pinned[i]))
      continue;
    if (store)
      emit_mov_mr(e, Q, m, host_pinned[i]);
    else
      emit_mov_rm(e, Q, host_pinned[i], m);
  }
}

static void emit_push(Emit *e, unsigned reg)
{
  emit_opcode(e, D, 0x50 | (reg & 7), 0, 0, reg, false);
}
static void emit_pop(Emit *e, unsigned reg)
{
  emit_opcode(e, D, 0x58 | (reg & 7), 0, 0, reg, false);
}
static void emit_call_reg(Emit *e, unsigned reg)
{
  emit_opcode(e, D, 0xff, 0, 0, reg, false);
  emit_modrm_reg(e, 2, reg);
}
static void emit_jmp_reg(Emit *e, unsigned reg)
{
  emit_opcode(e, D, 0xff, 0, 0, reg, false);
  emit_modrm_reg(e, 4, reg);
}
static void emit_mxcsr(Emit *e, unsigned digit, int32_t offset)
{
  emit_rm(e, D, OP0F(0xae), digit, cpu_mem(offset));
}

/* uint64_t enter(TcgCpu *rdi, const void *rsi) */
static const uint8_t *make_enter(Emit *e)
{
  const uint8_t *entry = emit_here(e);
  for (unsigned i = 0; i < G_N_ELEMENTS(callee_saved); i++)
    emit_push(e, callee_saved[i]);
  emit_alu_ri(e, Q, ALU_SUB, RSP, 8); /* 6 pushes and the return address: now a multiple of 16 */
  emit_mov_rr(e, Q, RBP, RDI);
  emit_mxcsr(e, 3, CPU(host_mxcsr));         /* stmxcsr */
  emit_mxcsr(e, 2, CPU(guest_mxcsr_masked)); /* ldmxcsr */
  move_guest_registers(e, false, true);
  emit_jmp_reg(e, RSI);
  return entry;
}

static const uint8_t *make_leave(Emit *e)
{
  const uint8_t *entry = emit_here(e);
  move_guest_registers(e, true, true);
  emit_mxcsr(e, 3, CPU(guest_mxcsr_masked)); /* with the exception flags gathered so far */
  emit_mxcsr(e, 2, CPU(host_mxcsr));
  emit_alu_ri(e, Q, ALU_ADD, RSP, 8);
  for (unsigned i = G_N_ELEMENTS(callee_saved); i-- > 0;)
    emit_pop(e, callee_saved[i]);
  emit_u8(e, 0xc3);
  return entry;
}

static const uint8_t *make_leave_exception(Emit *e, const uint8_t *leave)
{
  const uint8_t *entry = emit_here(e);
  emit_mov_mi(e, Q, cpu_mem(CPU(link_site)), 0);
  emit_mov_ri(e, RAX, IR_LEAVE_EXCEPTION);
  emit_jmp_to(e, leave);
  return entry;
}

/* Keeps all registers but rax and rcx; rax is the function's result. An exception does not come back. */
static const uint8_t *make_slow(Emit *e, const void *function, const uint8_t *leave_exception)
{
  static const uint8_t saved[] = { RDX, RSI, RDI };
  const uint8_t *entry = emit_here(e);
  for (unsigned i = 0; i < G_N_ELEMENTS(saved); i++)
    emit_mov_mr(e, Q, cpu_mem(CPU(saved) + 8 * (int32_t)i), saved[i]);
  move_guest_registers(e, true, false);
  emit_mov_rr(e, Q, RDI, RBP);
  emit_alu_ri(e, Q, ALU_SUB, RSP, 8);
  emit_mov_ri(e, RAX, (uint64_t)(uintptr_t)function);
  emit_call_reg(e, RAX);
  emit_alu_ri(e, Q, ALU_ADD, RSP, 8);
  move_guest_registers(e, false, false);
  emit_alu_mi(e, B, ALU_CMP, cpu_mem(CPU(exc_pending)), 0);
  uint8_t *exception = emit_jcc32(e, COND_NE);
  for (unsigned i = 0; i < G_N_ELEMENTS(saved); i++)
    emit_mov_rm(e, Q, saved[i], cpu_mem(CPU(saved) + 8 * (int32_t)i));
  emit_u8(e, 0xc3);
  emit_patch32(exception, e->p);
  emit_alu_ri(e, Q, ALU_ADD, RSP, 8); /* the return address */
  emit_jmp_to(e, leave_exception);
  return entry;
}

/* rax: the function; rsi, rdx, rcx: its arguments behind the CPU. */
static const uint8_t *make_call(Emit *e, bool store_all, bool load_all)
{
  const uint8_t *entry = emit_here(e);
  move_guest_registers(e, true, store_all);
  emit_mov_rr(e, Q, RDI, RBP);
  emit_alu_ri(e, Q, ALU_SUB, RSP, 8);
  emit_call_reg(e, RAX);
  emit_alu_ri(e, Q, ALU_ADD, RSP, 8);
  move_guest_registers(e, false, load_all);
  emit_u8(e, 0xc3);
  return entry;
}

HostStubs *host_stubs_new(TcgCache *cache, GError **error)
{
  uint64_t (*const slow[])(TcgCpu *) = { tcg_do_slow_load, tcg_do_slow_store, tcg_do_slow_load_vector,
                                         tcg_do_slow_store_vector, tcg_do_slow_probe };
  HostStubs *s = g_new0(HostStubs, 1);
  Emit e = { .p = cache->rw, .start = cache->rw, .to_executable = cache->rx - cache->rw };
  (void)error; /* every x86-64 processor has what the stubs need */
  s->enter = (uint64_t(*)(TcgCpu *, const void *))(uintptr_t)make_enter(&e);
  s->leave = make_leave(&e);
  s->leave_exception = make_leave_exception(&e, s->leave);
  G_STATIC_ASSERT(G_N_ELEMENTS(slow) == G_N_ELEMENTS(s->slow));
  for (unsigned i = 0; i < G_N_ELEMENTS(slow); i++)
    s->slow[i] = make_slow(&e, (const void *)(uintptr_t)slow[i], s->leave_exception);
  for (unsigned i = 0; i < G_N_ELEMENTS(s->call); i++)
    s->call[i] = make_call(&e, (i & 1) != 0, (i & 2) != 0);
  cache->used = cache->fixed = (size_t)(e.p - e.start + 63) & ~(size_t)63;
  return s;
}

void host_stubs_free(HostStubs *stubs)
{
  g_free(stubs);
}

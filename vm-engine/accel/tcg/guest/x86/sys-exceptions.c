/*
 * Exceptions and interrupts: how they are raised, and which way they are delivered.
 * Sources: Intel SDM volume 3, chapter 6 (double faults: table 6-5) and 17 (debug); AMD64 APM volume 2, chapter 8.
 *
 * Raising only notes the exception in the CPU; the execution loop delivers it. Delivery changes nothing before all its
 * checks passed, so an exception on the way finds the state of the interrupted instruction and is combined with the
 * first one here.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

/* ---- raising -------------------------------------------------------------------------------------------------------- */

void x86_raise(TcgCpu *cpu, unsigned vector)
{
  cpu->exc_pending = 1;
  cpu->exc_vector = (uint8_t)vector;
  cpu->exc_has_error = 0;
  cpu->exc_error = 0;
  cpu->exc_is_trap = 0;
  cpu->exc_software = 0;
  cpu->exc_dr6 = 0;
}

void x86_raise_error(TcgCpu *cpu, unsigned vector, uint32_t error)
{
  x86_raise(cpu, vector);
  cpu->exc_has_error = 1;
  cpu->exc_error = error | (vector >= X86_EXC_TS && vector <= X86_EXC_GP ? cpu->event_ext : 0);
}

void x86_raise_page_fault(TcgCpu *cpu, uint64_t linear, uint32_t error)
{
  x86_raise_error(cpu, X86_EXC_PF, error);
  cpu->exc_cr2 = linear;
}

void sys_raise_debug_trap(TcgCpu *cpu, uint64_t next_rip, uint64_t dr6)
{
  x86_raise(cpu, X86_EXC_DB);
  cpu->exc_is_trap = 1;
  cpu->exc_next_rip = next_rip;
  cpu->exc_dr6 = dr6;
}

void sys_end_transfer(TcgCpu *cpu, bool tf)
{
  if (tf && !cpu->exc_pending)
    sys_raise_debug_trap(cpu, cpu->x86.rip, SYS_DR6_BS);
}

static void raise_software(TcgCpu *cpu, unsigned vector, uint64_t next_rip, uint8_t kind)
{
  x86_raise(cpu, vector);
  cpu->exc_is_trap = 1;
  cpu->exc_software = kind;
  cpu->exc_next_rip = next_rip;
}

uint64_t helper_raise(TcgCpu *cpu, uint64_t vector, uint64_t b, uint64_t c)
{
  x86_raise(cpu, (unsigned)vector);
  return 0;
}

uint64_t helper_raise_error(TcgCpu *cpu, uint64_t vector, uint64_t error, uint64_t c)
{
  x86_raise_error(cpu, (unsigned)vector, (uint32_t)error);
  return 0;
}

uint64_t helper_bound(TcgCpu *cpu, uint64_t index, uint64_t lower, uint64_t upper)
{
  if ((int64_t)index < (int64_t)lower || (int64_t)index > (int64_t)upper)
    x86_raise(cpu, X86_EXC_BR);
  return 0;
}

/* ---- debugging ---------------------------------------------------------------------------------------------------------- */

/* Behind MOV SS the trap waits until SS:SP are both loaded. */
uint64_t helper_single_step(TcgCpu *cpu, uint64_t next_rip, uint64_t b, uint64_t c)
{
  if (cpu->x86.interrupt_shadow != 2)
    sys_raise_debug_trap(cpu, next_rip, SYS_DR6_BS | cpu->watch_hit);
  return 0;
}

/* Execution breakpoints of DR7 at `linear`. */
static uint8_t code_breakpoints(const TcgCpu *cpu, uint64_t linear)
{
  uint64_t dr7 = cpu->x86.dr[7];
  uint8_t hits = 0;

  for (unsigned i = 0; i < 4; i++)
    if (dr7 >> (2 * i) & 3 && !(dr7 >> (16 + 4 * i) & 3) && cpu->x86.dr[i] == linear)
      hits |= (uint8_t)(1u << i);
  return hits;
}

uint64_t helper_check_breakpoint(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  uint64_t linear = cpu->x86.rip + (sys_is_64bit(cpu) ? 0 : cpu->x86.seg[X86_CS].base);
  uint8_t watched = cpu->watch_hit;

  if (watched) {
    sys_raise_debug_trap(cpu, cpu->x86.rip, watched);
    return 0;
  }
  if (cpu->x86.rflags & X86_F_RF) {
    cpu->x86.rflags &= ~(uint64_t)X86_F_RF;
    return 0;
  }
  uint8_t hits = code_breakpoints(cpu, sys_is_64bit(cpu) ? linear : linear & 0xffffffff);
  if (hits) {
    x86_raise(cpu, X86_EXC_DB);
    cpu->exc_dr6 = hits;
  }
  return 0;
}

uint64_t helper_clear_shadow(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  cpu->x86.interrupt_shadow = 0;
  cpu->hflags &= ~(uint32_t)TCG_HF_SHADOW;
  return 0;
}

/* ---- software interrupts ---------------------------------------------------------------------------------------------------- */

/* Does VME send INT `vector` of VM86 mode to the task's own interrupt table? Its bitmap stands in front of the TSS's
 * I/O bitmap. False with a page fault pending where the TSS is not there. */
static bool vme_redirects(TcgCpu *cpu, uint8_t vector)
{
  const X86Segment *tr = &cpu->x86.seg[X86_TR];
  uint16_t io_base;
  uint8_t byte;

  if (!(cpu->x86.cr4 & X86_CR4_VME) || (tr->attr >> 8 & 15) < SYS_TSS32 || tr->limit < 103)
    return false;
  if (!x86_read_u16(cpu, tr->base + 102, &io_base, TCG_MMU_KERNEL) || io_base < 32)
    return false;
  uint32_t offset = io_base - 32u + vector / 8;
  if (offset > tr->limit || !x86_read(cpu, tr->base + offset, &byte, 1, TCG_MMU_KERNEL))
    return false;
  return !(byte >> (vector & 7) & 1);
}

/* The 8086's own way, inside of the VM86 task. Below IOPL 3, IF is virtual. */
static bool redirect_interrupt(TcgCpu *cpu, uint8_t vector, uint64_t next_rip)
{
  uint64_t flags = tcg_get_rflags(cpu), cleared = X86_F_TF | X86_F_IF;

  if (sys_iopl(cpu) < 3) {
    flags = (flags & ~(uint64_t)X86_F_IF) | X86_F_IOPL | (flags & X86_F_VIF ? X86_F_IF : 0);
    cleared = X86_F_TF | X86_F_VIF;
  }
  return sys_deliver_real(cpu, 0, vector, next_rip, flags, cleared);
}

uint64_t helper_int_n(TcgCpu *cpu, uint64_t vector, uint64_t next_rip, uint64_t c)
{
  if (sys_is_vm86(cpu)) {
    if (vme_redirects(cpu, (uint8_t)vector)) {
      if (!redirect_interrupt(cpu, (uint8_t)vector, next_rip))
        return 0;
      x86_update_hflags(cpu);
      return 0;
    }
    if (cpu->exc_pending)
      return 0;
    if (sys_iopl(cpu) < 3) {
      x86_raise_error(cpu, X86_EXC_GP, 0);
      return 0;
    }
  }
  raise_software(cpu, (uint8_t)vector, next_rip, 1);
  return 0;
}

uint64_t helper_int3(TcgCpu *cpu, uint64_t next_rip, uint64_t b, uint64_t c)
{
  raise_software(cpu, X86_EXC_BP, next_rip, 1);
  return 0;
}

uint64_t helper_int1(TcgCpu *cpu, uint64_t next_rip, uint64_t b, uint64_t c)
{
  raise_software(cpu, X86_EXC_DB, next_rip, 2);
  return 0;
}

uint64_t helper_into(TcgCpu *cpu, uint64_t next_rip, uint64_t b, uint64_t c)
{
  if (cpu->flags & 1)
    raise_software(cpu, X86_EXC_OF, next_rip, 1);
  return 0;
}

/* ---- delivery -------------------------------------------------------------------------------------------------------------------- */

bool sys_deliver_real(TcgCpu *cpu, uint64_t table, uint8_t vector, uint64_t return_rip, uint64_t pushed_flags,
                      uint64_t cleared_flags)
{
  TcgMmu mmu = sys_mmu_for(sys_cpl(cpu));
  uint32_t entry;
  SysStack s;

  if (!x86_read_u32(cpu, table + vector * 4u, &entry, mmu))
    return false;
  sys_stack_current(cpu, &s);
  if (!sys_push(cpu, &s, pushed_flags & 0xffff, 2) || !sys_push(cpu, &s, cpu->x86.seg[X86_CS].selector, 2) ||
      !sys_push(cpu, &s, return_rip & 0xffff, 2))
    return false;
  sys_stack_commit(cpu, &s);
  cpu->x86.rflags &= ~cleared_flags;
  if (sys_is_vm86(cpu))
    sys_set_vm86(cpu, X86_CS, (uint16_t)(entry >> 16));
  else
    sys_set_real(cpu, X86_CS, (uint16_t)(entry >> 16));
  cpu->x86.rip = entry & 0xffff;
  return true;
}

static bool deliver_real_mode(TcgCpu *cpu, const SysEvent *ev)
{
  if (ev->vector * 4u + 3 > cpu->x86.idt.limit)
    return sys_fail(cpu, X86_EXC_GP, (uint16_t)(ev->vector * 8u + 2));
  return sys_deliver_real(cpu, cpu->x86.idt.base, ev->vector, ev->return_rip, tcg_get_rflags(cpu),
                          X86_F_IF | X86_F_TF | X86_F_AC | X86_F_RF);
}

static bool deliver(TcgCpu *cpu, const SysEvent *ev)
{
  bool ok;

  cpu->event_ext = ev->external;
  if (!(cpu->x86.cr0 & X86_CR0_PE))
    ok = deliver_real_mode(cpu, ev);
  else if (sys_is_long(cpu))
    ok = sys_deliver_long(cpu, ev);
  else
    ok = sys_deliver_protected(cpu, ev);
  cpu->event_ext = 0;
  if (ok) {
    cpu->x86.interrupt_shadow = 0;
    cpu->x86.halted = 0;
    cpu->watch_hit = 0;
    x86_update_hflags(cpu);
  }
  return ok;
}

/* The pending exception, out of the CPU. What it leaves in CR2, DR6 and DR7 is there even if its delivery fails. */
static SysEvent take_pending(TcgCpu *cpu)
{
  bool real = !(cpu->x86.cr0 & X86_CR0_PE);
  SysEvent ev = {
    .vector = cpu->exc_vector,
    .has_error = cpu->exc_has_error && !real,
    .error = cpu->exc_error,
    .software = cpu->exc_software == 1,
    .external = cpu->exc_software != 1,
    .exception = !cpu->exc_software,
  };

  cpu->exc_pending = 0;
  if (cpu->exc_software) {
    ev.return_rip = cpu->exc_next_rip;
    return ev;
  }
  if (cpu->exc_is_trap)
    cpu->x86.rip = cpu->exc_next_rip; /* the instruction is done, whatever becomes of its trap */
  ev.return_rip = cpu->x86.rip;
  ev.set_rf = !cpu->exc_is_trap && ev.vector != X86_EXC_DB;
  if (ev.vector == X86_EXC_PF)
    cpu->x86.cr2 = cpu->exc_cr2;
  if (ev.vector == X86_EXC_DB) {
    cpu->x86.dr[6] |= cpu->exc_dr6;
    cpu->x86.dr[7] &= ~(uint64_t)SYS_DR7_GD;
  }
  return ev;
}

typedef enum EventClass { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT } EventClass;

static EventClass event_class(const SysEvent *ev)
{
  if (!ev->exception)
    return CLASS_BENIGN;
  switch (ev->vector) {
  case X86_EXC_DF:
    return CLASS_DOUBLE_FAULT;
  case X86_EXC_PF:
    return CLASS_PAGE_FAULT;
  case X86_EXC_DE:
  case X86_EXC_TS:
  case X86_EXC_NP:
  case X86_EXC_SS:
  case X86_EXC_GP:
    return CLASS_CONTRIBUTORY;
  default:
    return CLASS_BENIGN;
  }
}

/* What delivering `second`, met while `first` was delivered, comes to. False: shutdown. */
static bool combine(const TcgCpu *cpu, const SysEvent *first, SysEvent *second)
{
  EventClass a = event_class(first), b = event_class(second);

  if (a == CLASS_DOUBLE_FAULT)
    return false;
  bool is_double = (a == CLASS_CONTRIBUTORY && b == CLASS_CONTRIBUTORY) ||
                   (a == CLASS_PAGE_FAULT && (b == CLASS_CONTRIBUTORY || b == CLASS_PAGE_FAULT));
  if (is_double)
    *second = (SysEvent){ .vector = X86_EXC_DF,
                          .has_error = cpu->x86.cr0 & X86_CR0_PE,
                          .external = true,
                          .exception = true,
                          .return_rip = cpu->x86.rip,
                          .set_rf = true };
  return true;
}

/* Delivers `ev` and whatever comes up on the way. A task switch may also succeed and leave a debug trap pending. */
static bool deliver_all(TcgCpu *cpu, SysEvent ev)
{
  for (;;) {
    if (deliver(cpu, &ev)) {
      if (!cpu->exc_pending)
        return true;
      ev = take_pending(cpu);
      continue;
    }
    SysEvent next = take_pending(cpu);
    if (!combine(cpu, &ev, &next))
      return false;
    ev = next;
  }
}

bool x86_deliver_exception(TcgCpu *cpu)
{
  if (cpu->exc_vector == X86_EXC_RETRY) {
    cpu->exc_pending = 0;
    return true;
  }
  return deliver_all(cpu, take_pending(cpu));
}

bool x86_deliver_interrupt(TcgCpu *cpu, uint8_t vector, bool nmi)
{
  SysEvent ev = {
    .vector = nmi ? X86_EXC_NMI : vector,
    .external = true,
    .return_rip = cpu->x86.rip,
    /* RF lives until the next instruction completes, which only HF_BREAKPOINTS watches. */
    .set_rf = cpu->hflags & TCG_HF_BREAKPOINTS && cpu->x86.rflags & X86_F_RF,
  };

  if (nmi)
    cpu->x86.nmi_masked = 1;
  return deliver_all(cpu, ev);
}

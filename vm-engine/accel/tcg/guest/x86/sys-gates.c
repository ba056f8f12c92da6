/*
 * Delivery through the gates of the IDT: interrupt, trap and task gates of legacy protected mode, and long mode's.
 * Sources: Intel SDM volume 2, INT n; AMD64 APM volume 2, 8.7 and 8.9.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

static uint64_t pushed_flags(const TcgCpu *cpu, const SysEvent *ev)
{
  uint64_t flags = tcg_get_rflags(cpu) & ~(uint64_t)X86_F_RF;
  return ev->set_rf ? flags | X86_F_RF : flags;
}

/* Flags as the handler finds them. */
static void enter_flags(TcgCpu *cpu, bool interrupt_gate)
{
  cpu->x86.rflags &= ~(uint64_t)(X86_F_TF | X86_F_NT | X86_F_RF | X86_F_VM);
  if (interrupt_gate)
    cpu->x86.rflags &= ~(uint64_t)X86_F_IF;
}

static uint16_t idt_error(const SysEvent *ev)
{
  return (uint16_t)(ev->vector * 8u + 2);
}

static bool fail_idt(TcgCpu *cpu, const SysEvent *ev, unsigned vector)
{
  x86_raise_error(cpu, vector, idt_error(ev));
  return false;
}

/* ---- legacy protected mode ------------------------------------------------------------------------------------------- */

static bool deliver_task(TcgCpu *cpu, const SysEvent *ev, const SysDescriptor *gate)
{
  uint16_t selector = (uint16_t)(gate->lo >> 16);
  SysDescriptor tss;

  return sys_read_task(cpu, selector, &tss) &&
         sys_switch_task(cpu, selector, &tss, SYS_TASK_CALL, ev->return_rip, ev->has_error ? &ev->error : NULL);
}

/* The handler's frame. Coming out of VM86, the data segments lie above it. */
static bool push_frame(TcgCpu *cpu, SysStack *s, const SysEvent *ev, unsigned bytes)
{
  const X86Segment *seg = cpu->x86.seg;

  if (s->replaces) {
    if (sys_is_vm86(cpu) &&
        (!sys_push(cpu, s, seg[X86_GS].selector, bytes) || !sys_push(cpu, s, seg[X86_FS].selector, bytes) ||
         !sys_push(cpu, s, seg[X86_DS].selector, bytes) || !sys_push(cpu, s, seg[X86_ES].selector, bytes)))
      return false;
    if (!sys_push(cpu, s, seg[X86_SS].selector, bytes) || !sys_push(cpu, s, cpu->x86.gpr[X86_RSP], bytes))
      return false;
  }
  return sys_push(cpu, s, pushed_flags(cpu, ev), bytes) && sys_push(cpu, s, seg[X86_CS].selector, bytes) &&
         sys_push(cpu, s, ev->return_rip, bytes) && (!ev->has_error || sys_push(cpu, s, ev->error, bytes));
}

/* The stack that a handler at `cpl` runs on, its segment in `ss`. */
static bool find_inner_stack(TcgCpu *cpu, unsigned cpl, SysStack *s, SysDescriptor *ss)
{
  uint16_t selector;
  uint32_t esp;

  if (!sys_read_tss_stack(cpu, cpl, &selector, &esp) || !sys_read_stack(cpu, selector, cpl, X86_EXC_TS, ss))
    return false;
  sys_stack_new(cpu, s, selector, ss, esp, cpl);
  return true;
}

static bool deliver_interrupt_gate(TcgCpu *cpu, const SysEvent *ev, const SysDescriptor *gate)
{
  uint16_t selector = (uint16_t)(gate->lo >> 16);
  unsigned type = sys_desc_type(gate), cpl = sys_cpl(cpu);
  bool wide = type >= SYS_INT_GATE32;
  uint32_t rip = (gate->lo & 0xffff) | (wide ? gate->hi & 0xffff0000 : 0);
  SysDescriptor code, ss;
  SysStack s;

  if (!sys_read_code(cpu, selector, SYS_TARGET_GATE, &code))
    return false;
  bool inner = !sys_is_conforming(code.hi) && sys_desc_dpl(&code) < cpl;
  if (sys_is_vm86(cpu) && (!inner || sys_desc_dpl(&code) != 0))
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (inner) {
    cpl = sys_desc_dpl(&code);
    if (!find_inner_stack(cpu, cpl, &s, &ss))
      return false;
  } else {
    sys_stack_current(cpu, &s);
  }
  if (!push_frame(cpu, &s, ev, wide ? 4 : 2) || !sys_check_rip(cpu, &code, rip))
    return false;

  if (sys_is_vm86(cpu))
    for (unsigned sreg = 0; sreg < X86_N_SEG; sreg++)
      if (sreg != X86_CS && sreg != X86_SS)
        sys_set_null(cpu, sreg, 0);
  if (inner)
    sys_set_segment(cpu, X86_SS, s.error, &ss);
  sys_stack_commit(cpu, &s);
  sys_set_segment(cpu, X86_CS, (uint16_t)((selector & 0xfffc) | cpl), &code);
  cpu->x86.rip = rip;
  enter_flags(cpu, type == SYS_INT_GATE16 || type == SYS_INT_GATE32);
  return true;
}

bool sys_deliver_protected(TcgCpu *cpu, const SysEvent *ev)
{
  SysDescriptor gate;
  uint64_t raw;

  if (ev->vector * 8u + 7 > cpu->x86.idt.limit)
    return fail_idt(cpu, ev, X86_EXC_GP);
  if (!x86_read_u64(cpu, cpu->x86.idt.base + ev->vector * 8u, &raw, TCG_MMU_KERNEL))
    return false;
  gate = (SysDescriptor){ .lo = (uint32_t)raw, .hi = (uint32_t)(raw >> 32) };

  unsigned type = sys_desc_type(&gate);
  bool known = type == SYS_TASK_GATE || type == SYS_INT_GATE16 || type == SYS_TRAP_GATE16 || type == SYS_INT_GATE32 ||
               type == SYS_TRAP_GATE32;
  if (gate.hi & X86_ATTR_S || !known || (ev->software && sys_desc_dpl(&gate) < sys_cpl(cpu)))
    return fail_idt(cpu, ev, X86_EXC_GP);
  if (!(gate.hi & X86_ATTR_P))
    return fail_idt(cpu, ev, X86_EXC_NP);
  return type == SYS_TASK_GATE ? deliver_task(cpu, ev, &gate) : deliver_interrupt_gate(cpu, ev, &gate);
}

/* ---- long mode ----------------------------------------------------------------------------------------------------------- */

/* The stack by IST, by the TSS for a change of level, or the current one; always aligned to 16. */
static bool find_long_stack(TcgCpu *cpu, unsigned ist, bool inner, unsigned cpl, SysStack *s)
{
  uint64_t rsp = cpu->x86.gpr[X86_RSP];

  if (ist && !sys_read_tss_rsp(cpu, 2 + ist, &rsp))
    return false;
  if (!ist && inner && !sys_read_tss_rsp(cpu, cpl, &rsp))
    return false;
  sys_stack_long(s, rsp & ~UINT64_C(15), cpl);
  return true;
}

static bool push_long_frame(TcgCpu *cpu, SysStack *s, const SysEvent *ev)
{
  const X86Segment *seg = cpu->x86.seg;

  return sys_push(cpu, s, seg[X86_SS].selector, 8) && sys_push(cpu, s, cpu->x86.gpr[X86_RSP], 8) &&
         sys_push(cpu, s, pushed_flags(cpu, ev), 8) && sys_push(cpu, s, seg[X86_CS].selector, 8) &&
         sys_push(cpu, s, ev->return_rip, 8) && (!ev->has_error || sys_push(cpu, s, ev->error, 8));
}

/* A gate whose kind and privilege were judged: to 64-bit code, which is all that long mode's handlers may be. */
static bool deliver_long_gate(TcgCpu *cpu, const SysEvent *ev, const SysDescriptor *gate, uint64_t rip)
{
  uint16_t selector = (uint16_t)(gate->lo >> 16);
  unsigned cpl = sys_cpl(cpu);
  SysDescriptor code;
  SysStack s;

  if (!sys_read_code(cpu, selector, SYS_TARGET_GATE, &code))
    return false;
  if (!(code.hi & X86_ATTR_L))
    return sys_fail(cpu, X86_EXC_GP, selector);
  bool inner = !sys_is_conforming(code.hi) && sys_desc_dpl(&code) < cpl;
  if (inner)
    cpl = sys_desc_dpl(&code);
  if (!find_long_stack(cpu, gate->hi & 7, inner, cpl, &s) || !push_long_frame(cpu, &s, ev) ||
      !sys_check_rip(cpu, &code, rip))
    return false;

  if (inner)
    sys_set_null_ss(cpu, (uint16_t)cpl, cpl);
  sys_stack_commit(cpu, &s);
  sys_set_segment(cpu, X86_CS, (uint16_t)((selector & 0xfffc) | cpl), &code);
  cpu->x86.rip = rip;
  enter_flags(cpu, sys_desc_type(gate) == SYS_INT_GATE32);
  return true;
}

bool sys_deliver_long(TcgCpu *cpu, const SysEvent *ev)
{
  uint64_t raw[2];

  if (ev->vector * 16u + 15 > cpu->x86.idt.limit)
    return fail_idt(cpu, ev, X86_EXC_GP);
  if (!x86_read(cpu, cpu->x86.idt.base + ev->vector * 16u, raw, sizeof raw, TCG_MMU_KERNEL))
    return false;
  /* The IST number is in the low bits of the second dword, where legacy call gates have their count. */
  SysDescriptor gate = { .lo = (uint32_t)raw[0], .hi = (uint32_t)(raw[0] >> 32) };
  unsigned type = sys_desc_type(&gate);
  if (gate.hi & X86_ATTR_S || (type != SYS_INT_GATE32 && type != SYS_TRAP_GATE32) ||
      (ev->software && sys_desc_dpl(&gate) < sys_cpl(cpu)))
    return fail_idt(cpu, ev, X86_EXC_GP);
  if (!(gate.hi & X86_ATTR_P))
    return fail_idt(cpu, ev, X86_EXC_NP);
  return deliver_long_gate(cpu, ev, &gate, (gate.lo & 0xffff) | (gate.hi & 0xffff0000) | raw[1] << 32);
}

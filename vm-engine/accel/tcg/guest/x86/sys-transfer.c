/*
 * Far transfers of control: JMP, CALL and RET between segments, through gates and to tasks, and IRET of every kind.
 * Sources: Intel SDM volume 2 (JMP, CALL, RET, IRET); AMD64 APM volume 3.
 *
 * Each works on a SysStack of its own and commits at the end, so that a fault leaves the instruction undone.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

static uint64_t truncate_rip(uint64_t value, unsigned bytes)
{
  return bytes == 2 ? value & 0xffff : bytes == 4 ? value & 0xffffffff : value;
}

static void set_code(TcgCpu *cpu, uint16_t selector, unsigned cpl, const SysDescriptor *code, uint64_t rip)
{
  sys_set_segment(cpu, X86_CS, (uint16_t)((selector & 0xfffc) | cpl), code);
  cpu->x86.rip = rip;
}

/* Real and VM86 mode's CS:IP. */
static bool set_code_8086(TcgCpu *cpu, uint16_t selector, uint64_t rip)
{
  uint32_t limit = sys_is_vm86(cpu) ? 0xffff : cpu->x86.seg[X86_CS].limit;

  if (rip > limit)
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (sys_is_vm86(cpu))
    sys_set_vm86(cpu, X86_CS, selector);
  else
    sys_set_real(cpu, X86_CS, selector);
  cpu->x86.rip = rip;
  return true;
}

/* ---- gates and tasks as targets of JMP and CALL ------------------------------------------------------------------------ */

typedef struct CallGate {
  uint16_t selector;
  uint64_t rip;
  unsigned bytes; /* of each pushed value */
  unsigned n_args;
} CallGate;

static bool read_call_gate(TcgCpu *cpu, uint16_t selector, const SysDescriptor *d, CallGate *gate)
{
  bool wide = sys_desc_type(d) == SYS_CALL_GATE32;
  uint64_t high;

  if (!(d->hi & X86_ATTR_P))
    return sys_fail(cpu, X86_EXC_NP, selector);
  *gate = (CallGate){ .selector = (uint16_t)(d->lo >> 16),
                      .rip = (d->lo & 0xffff) | (wide ? d->hi & 0xffff0000 : 0),
                      .bytes = wide ? 4 : 2,
                      .n_args = d->hi & 31 };
  if (!sys_is_long(cpu))
    return true;
  if (((selector & 0xfff8u) + 15) > (selector & 4 ? cpu->x86.seg[X86_LDTR].limit : cpu->x86.gdt.limit))
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (!x86_read_u64(cpu, d->address + 8, &high, TCG_MMU_KERNEL))
    return false;
  if (high >> 40 & 0x1f)
    return sys_fail(cpu, X86_EXC_GP, selector);
  gate->rip |= high << 32;
  gate->bytes = 8;
  gate->n_args = 0;
  return true;
}

/* The gate's code segment. Long mode has gates to 64-bit code only. */
static bool read_gate_code(TcgCpu *cpu, const CallGate *gate, SysDescriptor *code)
{
  if (!sys_read_code(cpu, gate->selector, SYS_TARGET_GATE, code))
    return false;
  if (sys_is_long(cpu) && !(code->hi & X86_ATTR_L))
    return sys_fail(cpu, X86_EXC_GP, gate->selector);
  return sys_check_rip(cpu, code, gate->rip);
}

static bool jump_through_gate(TcgCpu *cpu, uint16_t selector, const SysDescriptor *d)
{
  unsigned cpl = sys_cpl(cpu);
  SysDescriptor code;
  CallGate gate;

  if (!read_call_gate(cpu, selector, d, &gate) || !read_gate_code(cpu, &gate, &code))
    return false;
  if (!sys_is_conforming(code.hi) && sys_desc_dpl(&code) != cpl)
    return sys_fail(cpu, X86_EXC_GP, gate.selector);
  set_code(cpu, gate.selector, cpl, &code, gate.rip);
  return true;
}

/* The stack of level `cpl` out of the TSS; in long mode its selector is null. */
static bool open_inner_stack(TcgCpu *cpu, unsigned cpl, SysStack *s, SysDescriptor *ss)
{
  uint16_t selector;
  uint32_t esp;
  uint64_t rsp;

  if (sys_is_long(cpu)) {
    if (!sys_read_tss_rsp(cpu, cpl, &rsp))
      return false;
    sys_stack_long(s, rsp, cpl);
    return true;
  }
  if (!sys_read_tss_stack(cpu, cpl, &selector, &esp) || !sys_read_stack(cpu, selector, cpl, X86_EXC_TS, ss))
    return false;
  sys_stack_new(cpu, s, selector, ss, esp, cpl);
  return true;
}

/* Copies the gate's arguments from the caller's stack, the last one first, so that they keep their order. */
static bool copy_arguments(TcgCpu *cpu, SysStack *to, const CallGate *gate)
{
  uint64_t args[31];
  SysStack from;

  sys_stack_current(cpu, &from);
  for (unsigned i = 0; i < gate->n_args; i++)
    if (!sys_pop(cpu, &from, &args[i], gate->bytes))
      return false;
  for (unsigned i = gate->n_args; i-- > 0;)
    if (!sys_push(cpu, to, args[i], gate->bytes))
      return false;
  return true;
}

static bool call_inner(TcgCpu *cpu, const CallGate *gate, const SysDescriptor *code, uint64_t next_rip)
{
  unsigned cpl = sys_desc_dpl(code);
  SysDescriptor ss;
  SysStack s;

  if (!open_inner_stack(cpu, cpl, &s, &ss) || !sys_push(cpu, &s, cpu->x86.seg[X86_SS].selector, gate->bytes) ||
      !sys_push(cpu, &s, cpu->x86.gpr[X86_RSP], gate->bytes) || !copy_arguments(cpu, &s, gate) ||
      !sys_push(cpu, &s, cpu->x86.seg[X86_CS].selector, gate->bytes) || !sys_push(cpu, &s, next_rip, gate->bytes))
    return false;
  if (s.flat)
    sys_set_null_ss(cpu, (uint16_t)cpl, cpl);
  else
    sys_set_segment(cpu, X86_SS, s.error, &ss);
  sys_stack_commit(cpu, &s);
  set_code(cpu, gate->selector, cpl, code, gate->rip);
  return true;
}

static bool call_through_gate(TcgCpu *cpu, uint16_t selector, const SysDescriptor *d, uint64_t next_rip)
{
  unsigned cpl = sys_cpl(cpu);
  SysDescriptor code;
  CallGate gate;
  SysStack s;

  if (!read_call_gate(cpu, selector, d, &gate) || !read_gate_code(cpu, &gate, &code))
    return false;
  if (!sys_is_conforming(code.hi) && sys_desc_dpl(&code) < cpl)
    return call_inner(cpu, &gate, &code, next_rip);
  sys_stack_current(cpu, &s);
  if (!sys_push(cpu, &s, cpu->x86.seg[X86_CS].selector, gate.bytes) || !sys_push(cpu, &s, next_rip, gate.bytes))
    return false;
  sys_stack_commit(cpu, &s);
  set_code(cpu, gate.selector, cpl, &code, gate.rip);
  return true;
}

/* A JMP or CALL to a system descriptor. */
static bool go_through_system(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, bool call, uint64_t next_rip)
{
  SysTaskReason reason = call ? SYS_TASK_CALL : SYS_TASK_JUMP;
  unsigned type = sys_desc_type(d);
  bool legacy = !sys_is_long(cpu);

  if (sys_desc_dpl(d) < MAX(sys_cpl(cpu), selector & 3u))
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (type == SYS_CALL_GATE32 || (type == SYS_CALL_GATE16 && legacy))
    return call ? call_through_gate(cpu, selector, d, next_rip) : jump_through_gate(cpu, selector, d);
  if (type == SYS_TASK_GATE && legacy) {
    uint16_t task = (uint16_t)(d->lo >> 16);
    SysDescriptor tss;
    if (!(d->hi & X86_ATTR_P))
      return sys_fail(cpu, X86_EXC_NP, selector);
    return sys_read_task(cpu, task, &tss) && sys_switch_task(cpu, task, &tss, reason, next_rip, NULL);
  }
  if ((type == SYS_TSS16 || type == SYS_TSS32) && legacy)
    return sys_switch_task(cpu, selector, d, reason, next_rip, NULL);
  return sys_fail(cpu, X86_EXC_GP, selector);
}

/* Reads the target's descriptor; `is_system` if it is none of a segment. */
static bool read_target(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, bool *is_system)
{
  if (sys_is_null(selector))
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (!sys_read_descriptor(cpu, selector, d, X86_EXC_GP))
    return false;
  *is_system = !(d->hi & X86_ATTR_S);
  return *is_system || sys_read_code(cpu, selector, SYS_TARGET_JUMP, d);
}

static bool far_jump(TcgCpu *cpu, uint16_t selector, uint64_t offset, uint64_t next_rip)
{
  SysDescriptor d;
  bool is_system;

  if (!sys_is_protected(cpu))
    return set_code_8086(cpu, selector, offset);
  if (!read_target(cpu, selector, &d, &is_system))
    return false;
  if (is_system)
    return go_through_system(cpu, selector, &d, false, next_rip);
  if (!sys_check_rip(cpu, &d, offset))
    return false;
  set_code(cpu, selector, sys_cpl(cpu), &d, offset);
  return true;
}

static bool far_call(TcgCpu *cpu, uint16_t selector, uint64_t offset, uint64_t next_rip, unsigned bytes)
{
  bool is_protected = sys_is_protected(cpu), is_system = false;
  SysDescriptor d;
  SysStack s;

  if (is_protected && !read_target(cpu, selector, &d, &is_system))
    return false;
  if (is_system)
    return go_through_system(cpu, selector, &d, true, next_rip);
  if (is_protected && !sys_check_rip(cpu, &d, offset))
    return false;
  sys_stack_current(cpu, &s);
  if (!sys_push(cpu, &s, cpu->x86.seg[X86_CS].selector, bytes) || !sys_push(cpu, &s, next_rip, bytes))
    return false;
  if (is_protected)
    set_code(cpu, selector, sys_cpl(cpu), &d, offset);
  else if (!set_code_8086(cpu, selector, offset))
    return false;
  sys_stack_commit(cpu, &s);
  return true;
}

/* ---- returns -------------------------------------------------------------------------------------------------------------- */

/* The rest of RET and IRET in protected mode: CS:RIP are popped off `s`, SS:RSP may follow. */
static bool return_to(TcgCpu *cpu, SysStack *s, uint16_t cs, uint64_t rip, unsigned bytes, uint16_t discard,
                      bool always_stack)
{
  unsigned cpl = cs & 3, old_cpl = sys_cpl(cpu);
  uint64_t new_sp, new_ss;
  SysDescriptor code, ss;

  if (!sys_read_code(cpu, cs, SYS_TARGET_RETURN, &code) || !sys_check_rip(cpu, &code, rip))
    return false;
  s->sp = (s->sp & ~s->mask) | ((s->sp + discard) & s->mask);
  if (cpl == old_cpl && !always_stack) {
    sys_stack_commit(cpu, s);
    set_code(cpu, cs, cpl, &code, rip);
    return true;
  }

  if (!sys_pop(cpu, s, &new_sp, bytes) || !sys_pop(cpu, s, &new_ss, bytes))
    return false;
  bool null = sys_is_null((uint16_t)new_ss);
  if (null && !(sys_is_long(cpu) && code.hi & X86_ATTR_L && cpl != 3))
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (!null && !sys_read_stack(cpu, (uint16_t)new_ss, cpl, X86_EXC_GP, &ss))
    return false;

  if (null)
    sys_set_null_ss(cpu, (uint16_t)new_ss, cpl);
  else
    sys_set_segment(cpu, X86_SS, (uint16_t)new_ss, &ss);
  uint64_t *rsp = &cpu->x86.gpr[X86_RSP];
  set_code(cpu, cs, cpl, &code, rip);
  if (sys_is_64bit(cpu))
    *rsp = new_sp + discard;
  else if (cpu->x86.seg[X86_SS].attr & X86_ATTR_DB)
    *rsp = (uint32_t)(new_sp + discard);
  else
    *rsp = (*rsp & ~UINT64_C(0xffff)) | ((new_sp + discard) & 0xffff);
  if (cpl > old_cpl)
    sys_drop_privileged_segments(cpu, cpl);
  return true;
}

static bool far_return(TcgCpu *cpu, unsigned bytes, uint16_t discard)
{
  uint64_t rip, cs;
  SysStack s;

  sys_stack_current(cpu, &s);
  if (!sys_pop(cpu, &s, &rip, bytes) || !sys_pop(cpu, &s, &cs, bytes))
    return false;
  if (sys_is_protected(cpu)) {
    if ((cs & 3) < sys_cpl(cpu))
      return sys_fail(cpu, X86_EXC_GP, (uint16_t)cs);
    return return_to(cpu, &s, (uint16_t)cs, rip, bytes, discard, false);
  }
  if (!set_code_8086(cpu, (uint16_t)cs, rip))
    return false;
  s.sp = (s.sp & ~s.mask) | ((s.sp + discard) & s.mask);
  sys_stack_commit(cpu, &s);
  return true;
}

/* ---- IRET --------------------------------------------------------------------------------------------------------------------- */

uint64_t sys_writable_flags(const TcgCpu *cpu, unsigned bytes)
{
  unsigned cpl = sys_cpl(cpu);
  uint64_t mask = X86_F_ARITH | X86_F_TF | X86_F_DF | X86_F_NT;

  if (cpl <= sys_iopl(cpu))
    mask |= X86_F_IF;
  if (cpl == 0)
    mask |= X86_F_IOPL;
  return bytes == 2 ? mask : mask | X86_F_AC | X86_F_ID;
}

static void set_flags(TcgCpu *cpu, uint64_t value, uint64_t mask)
{
  tcg_set_rflags(cpu, (tcg_get_rflags(cpu) & ~mask) | (value & mask));
}

/* IRET below IOPL 3 in VM86, under VME: IF is virtual. */
static bool check_virtual_if(TcgCpu *cpu, uint64_t flags)
{
  bool trouble = flags & X86_F_TF || (flags & X86_F_IF && cpu->x86.rflags & X86_F_VIP);
  return !trouble || sys_fail(cpu, X86_EXC_GP, 0);
}

static bool iret_8086(TcgCpu *cpu, unsigned bytes)
{
  bool virtual_if = sys_is_vm86(cpu) && sys_iopl(cpu) < 3;
  uint64_t rip, cs, flags, mask;
  SysStack s;

  if (virtual_if && !(cpu->x86.cr4 & X86_CR4_VME && bytes == 2))
    return sys_fail(cpu, X86_EXC_GP, 0);
  sys_stack_current(cpu, &s);
  if (!sys_pop(cpu, &s, &rip, bytes) || !sys_pop(cpu, &s, &cs, bytes) || !sys_pop(cpu, &s, &flags, bytes))
    return false;
  mask = sys_writable_flags(cpu, bytes) | (bytes == 4 ? X86_F_RF : 0);
  if (virtual_if) {
    if (!check_virtual_if(cpu, flags))
      return false;
    flags = flags & X86_F_IF ? flags | X86_F_VIF : flags & ~(uint64_t)X86_F_VIF;
    mask |= X86_F_VIF;
  }
  if (!set_code_8086(cpu, (uint16_t)cs, rip))
    return false;
  sys_stack_commit(cpu, &s);
  set_flags(cpu, flags, mask);
  return true;
}

/* NT: back to the task that called. */
static bool iret_task(TcgCpu *cpu, uint64_t next_rip)
{
  SysDescriptor d;
  uint16_t link;

  if (sys_is_long(cpu))
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (!x86_read_u16(cpu, cpu->x86.seg[X86_TR].base, &link, TCG_MMU_KERNEL))
    return false;
  if (sys_is_null(link) || link & 4)
    return sys_fail(cpu, X86_EXC_TS, link);
  if (!sys_read_descriptor(cpu, link, &d, X86_EXC_TS))
    return false;
  unsigned type = sys_desc_type(&d);
  if (d.hi & X86_ATTR_S || (type != SYS_TSS16_BUSY && type != SYS_TSS32_BUSY))
    return sys_fail(cpu, X86_EXC_TS, link);
  return sys_switch_task(cpu, link, &d, SYS_TASK_IRET, next_rip, NULL);
}

static bool iret_to_vm86(TcgCpu *cpu, SysStack *s, uint16_t cs, uint64_t rip, uint64_t flags)
{
  enum { SP, SS, ES, DS, FS, GS, N };
  uint64_t v[N];

  for (unsigned i = 0; i < N; i++)
    if (!sys_pop(cpu, s, &v[i], 4))
      return false;
  tcg_set_rflags(cpu, (flags & 0x3f7fd5) | X86_F_FIXED);
  sys_set_vm86(cpu, X86_CS, cs);
  sys_set_vm86(cpu, X86_SS, (uint16_t)v[SS]);
  sys_set_vm86(cpu, X86_ES, (uint16_t)v[ES]);
  sys_set_vm86(cpu, X86_DS, (uint16_t)v[DS]);
  sys_set_vm86(cpu, X86_FS, (uint16_t)v[FS]);
  sys_set_vm86(cpu, X86_GS, (uint16_t)v[GS]);
  cpu->x86.gpr[X86_RSP] = v[SP] & 0xffffffff;
  cpu->x86.rip = rip & 0xffff;
  return true;
}

static bool iret_protected(TcgCpu *cpu, unsigned bytes, uint64_t next_rip)
{
  uint64_t rip, cs, flags, mask;
  SysStack s;

  if (cpu->x86.rflags & X86_F_NT)
    return iret_task(cpu, next_rip);
  sys_stack_current(cpu, &s);
  if (!sys_pop(cpu, &s, &rip, bytes) || !sys_pop(cpu, &s, &cs, bytes) || !sys_pop(cpu, &s, &flags, bytes))
    return false;
  if (flags & X86_F_VM && bytes == 4 && sys_cpl(cpu) == 0 && !sys_is_long(cpu))
    return iret_to_vm86(cpu, &s, (uint16_t)cs, rip, flags);
  if ((cs & 3) < sys_cpl(cpu))
    return sys_fail(cpu, X86_EXC_GP, (uint16_t)cs);
  mask = sys_writable_flags(cpu, bytes) | (bytes > 2 ? X86_F_RF : 0);
  if (sys_cpl(cpu) == 0 && bytes > 2)
    mask |= X86_F_VIF | X86_F_VIP;
  if (!return_to(cpu, &s, (uint16_t)cs, rip, bytes, 0, sys_is_64bit(cpu)))
    return false;
  set_flags(cpu, flags, mask);
  return true;
}

/* ---- instructions ---------------------------------------------------------------------------------------------------------------- */

static void end_transfer(TcgCpu *cpu, bool ok, bool tf)
{
  x86_update_hflags(cpu);
  if (ok)
    sys_end_transfer(cpu, tf);
}

uint64_t helper_far_jmp(TcgCpu *cpu, uint64_t selector, uint64_t offset, uint64_t next_rip)
{
  bool tf = cpu->x86.rflags & X86_F_TF;

  end_transfer(cpu, far_jump(cpu, (uint16_t)selector, offset, next_rip), tf);
  return 0;
}

uint64_t helper_far_call(TcgCpu *cpu, uint64_t target, uint64_t offset, uint64_t next_rip)
{
  bool tf = cpu->x86.rflags & X86_F_TF;
  unsigned bytes = target >> 16 & 15;

  end_transfer(cpu, far_call(cpu, (uint16_t)target, truncate_rip(offset, bytes), next_rip, bytes), tf);
  return 0;
}

uint64_t helper_far_ret(TcgCpu *cpu, uint64_t bytes, uint64_t discard, uint64_t c)
{
  bool tf = cpu->x86.rflags & X86_F_TF;

  end_transfer(cpu, far_return(cpu, bytes & 15, (uint16_t)discard), tf);
  return 0;
}

uint64_t helper_iret(TcgCpu *cpu, uint64_t bytes, uint64_t next_rip, uint64_t c)
{
  bool tf = cpu->x86.rflags & X86_F_TF;
  bool ok = sys_is_protected(cpu) ? iret_protected(cpu, bytes & 15, next_rip) : iret_8086(cpu, bytes & 15);

  if (ok)
    cpu->x86.nmi_masked = 0;
  end_transfer(cpu, ok, tf);
  return 0;
}

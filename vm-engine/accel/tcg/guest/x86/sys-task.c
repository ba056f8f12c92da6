/*
 * Task switches by hardware, of 16- and 32-bit tasks, in legacy protected mode. Source: Intel SDM volume 3, chapter 7.
 *
 * The switch has a point of no return: before it, faults belong to the old task; from then on (LDT, segments, the error
 * code's push) to the new one, whose registers are loaded by then.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

#define TSS32_LIMIT   103
#define TSS16_LIMIT   43
#define TSS_BACK_LINK 0

/* A task's registers as the TSS holds them, whatever its width. */
typedef struct TaskState {
  uint64_t base;
  bool wide;
  uint32_t cr3, eip, eflags;
  uint32_t gpr[8];
  uint16_t seg[X86_N_SEG];
  uint16_t ldt;
  bool debug_trap;
} TaskState;

/* ---- TSS images ------------------------------------------------------------------------------------------------------- */

static bool read_wide(TcgCpu *cpu, TaskState *t)
{
  uint32_t raw[TSS32_LIMIT / 4 + 1];

  if (!x86_read(cpu, t->base, raw, sizeof raw, TCG_MMU_KERNEL))
    return false;
  t->cr3 = raw[7];
  t->eip = raw[8];
  t->eflags = raw[9];
  for (unsigned i = 0; i < 8; i++)
    t->gpr[i] = raw[10 + i];
  for (unsigned i = 0; i < X86_N_SEG; i++)
    t->seg[i] = (uint16_t)raw[18 + i];
  t->ldt = (uint16_t)raw[24];
  t->debug_trap = raw[25] & 1;
  return true;
}

static bool read_narrow(TcgCpu *cpu, TaskState *t)
{
  uint16_t raw[(TSS16_LIMIT + 1) / 2];

  if (!x86_read(cpu, t->base, raw, sizeof raw, TCG_MMU_KERNEL))
    return false;
  t->eip = raw[7];
  t->eflags = raw[8];
  for (unsigned i = 0; i < 8; i++)
    t->gpr[i] = raw[9 + i] | 0xffff0000;
  for (unsigned i = 0; i < 4; i++)
    t->seg[i] = raw[17 + i];
  t->ldt = raw[21];
  return true;
}

static bool save_wide(TcgCpu *cpu, uint64_t base, uint32_t eip, uint32_t eflags)
{
  uint32_t raw[16];

  raw[0] = eip;
  raw[1] = eflags;
  for (unsigned i = 0; i < 8; i++)
    raw[2 + i] = (uint32_t)cpu->x86.gpr[i];
  for (unsigned i = 0; i < X86_N_SEG; i++)
    raw[10 + i] = cpu->x86.seg[i].selector;
  return x86_write(cpu, base + 32, raw, sizeof raw, TCG_MMU_KERNEL);
}

static bool save_narrow(TcgCpu *cpu, uint64_t base, uint32_t eip, uint32_t eflags)
{
  uint16_t raw[14];

  raw[0] = (uint16_t)eip;
  raw[1] = (uint16_t)eflags;
  for (unsigned i = 0; i < 8; i++)
    raw[2 + i] = (uint16_t)cpu->x86.gpr[i];
  for (unsigned i = 0; i < 4; i++)
    raw[10 + i] = cpu->x86.seg[i].selector;
  return x86_write(cpu, base + 14, raw, sizeof raw, TCG_MMU_KERNEL);
}

/* ---- the switch ----------------------------------------------------------------------------------------------------------- */

bool sys_read_task(TcgCpu *cpu, uint16_t selector, SysDescriptor *d)
{
  if (sys_is_null(selector) || selector & 4)
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (!sys_read_descriptor(cpu, selector, d, X86_EXC_GP))
    return false;
  unsigned type = sys_desc_type(d);
  if (d->hi & X86_ATTR_S || (type != SYS_TSS16 && type != SYS_TSS32))
    return sys_fail(cpu, X86_EXC_GP, selector);
  return d->hi & X86_ATTR_P || sys_fail(cpu, X86_EXC_NP, selector);
}

/* The old task's registers to its TSS, busy bits and the back link: the last that can fault in the old task. */
static bool leave_task(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, SysTaskReason reason, const TaskState *t,
                       uint64_t next_rip)
{
  const X86Segment *tr = &cpu->x86.seg[X86_TR];
  uint32_t eflags = (uint32_t)tcg_get_rflags(cpu);
  bool old_wide = (tr->attr >> 8 & 15) >= SYS_TSS32;

  if (reason == SYS_TASK_IRET)
    eflags &= ~X86_F_NT;
  if (!(old_wide ? save_wide : save_narrow)(cpu, tr->base, (uint32_t)next_rip, eflags))
    return false;
  if (reason == SYS_TASK_CALL && !x86_write_u16(cpu, t->base + TSS_BACK_LINK, tr->selector, TCG_MMU_KERNEL))
    return false;
  if (reason != SYS_TASK_CALL) {
    SysDescriptor old;
    if (!sys_read_descriptor(cpu, tr->selector, &old, X86_EXC_TS) || !sys_set_busy(cpu, &old, false))
      return false;
  }
  return reason == SYS_TASK_IRET || sys_set_busy(cpu, d, true);
}

/* The register part that cannot fault. Segments get their selectors, but are unusable until they are loaded. */
static void enter_task(TcgCpu *cpu, uint16_t selector, const SysDescriptor *d, SysTaskReason reason, const TaskState *t)
{
  X86Cpu *x86 = &cpu->x86;
  uint64_t flags = t->wide ? t->eflags : t->eflags & 0xffff;

  sys_set_segment(cpu, X86_TR, selector, d);
  x86->seg[X86_TR].attr |= 1u << 9; /* busy */
  x86->cr0 |= X86_CR0_TS;
  if (t->wide && x86->cr0 & X86_CR0_PG && x86->cr3 != t->cr3) {
    x86->cr3 = t->cr3;
    x86_tlb_flush_nonglobal(cpu);
  }
  x86->rip = t->eip;
  for (unsigned i = 0; i < 8; i++)
    x86->gpr[i] = t->gpr[i];
  for (unsigned i = 0; i < X86_N_SEG; i++)
    sys_set_null(cpu, i, t->seg[i]);
  x86->seg[X86_LDTR] = (X86Segment){ .selector = t->ldt };
  if (reason == SYS_TASK_CALL)
    flags |= X86_F_NT;
  /* Until SS is loaded, its DPL says the level that the task's CS will give it. */
  x86->seg[X86_SS].attr = (uint32_t)(t->seg[X86_CS] & 3) << X86_ATTR_DPL_SHIFT;
  x86->dr[7] &= ~UINT64_C(0x155);
  tcg_set_rflags(cpu, (flags & 0x3f7fd5) | X86_F_FIXED);
}

static bool load_task_code(TcgCpu *cpu, uint16_t selector)
{
  unsigned cpl = selector & 3;
  SysDescriptor d;

  if (sys_is_null(selector))
    return sys_fail(cpu, X86_EXC_TS, 0);
  if (!sys_read_descriptor(cpu, selector, &d, X86_EXC_TS))
    return false;
  bool fits = sys_is_conforming(d.hi) ? sys_desc_dpl(&d) <= cpl : sys_desc_dpl(&d) == cpl;
  if (!sys_is_code(d.hi) || !fits)
    return sys_fail(cpu, X86_EXC_TS, selector);
  if (!(d.hi & X86_ATTR_P))
    return sys_fail(cpu, X86_EXC_NP, selector);
  if (!sys_mark_accessed(cpu, &d))
    return false;
  sys_set_segment(cpu, X86_CS, selector, &d);
  return true;
}

/* A load in the new task reports as #TS what a MOV would report as #GP. */
static bool load_task_data(TcgCpu *cpu, unsigned sreg, uint16_t selector)
{
  if (sys_load_segment(cpu, sreg, selector))
    return true;
  if (cpu->exc_vector == X86_EXC_GP)
    cpu->exc_vector = X86_EXC_TS;
  return false;
}

static bool load_task_segments(TcgCpu *cpu, const TaskState *t)
{
  static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };
  SysDescriptor ss;

  if (sys_is_vm86(cpu)) {
    for (unsigned i = 0; i < X86_N_SEG; i++)
      sys_set_vm86(cpu, i, t->seg[i]);
    return true;
  }
  if (!load_task_code(cpu, t->seg[X86_CS]) || !sys_read_stack(cpu, t->seg[X86_SS], t->seg[X86_CS] & 3, X86_EXC_TS, &ss))
    return false;
  sys_set_segment(cpu, X86_SS, t->seg[X86_SS], &ss);
  for (unsigned i = 0; i < G_N_ELEMENTS(data); i++)
    if (!load_task_data(cpu, data[i], t->seg[data[i]]))
      return false;
  return true;
}

static bool push_task_error(TcgCpu *cpu, const TaskState *t, uint32_t error)
{
  SysStack s;

  sys_stack_current(cpu, &s);
  if (!sys_push(cpu, &s, error, t->wide ? 4 : 2))
    return false;
  sys_stack_commit(cpu, &s);
  return true;
}

/* Everything after the point of no return. */
static bool settle_in_task(TcgCpu *cpu, const TaskState *t, const uint32_t *error)
{
  const X86Cpu *x86 = &cpu->x86;

  if (t->wide && x86->cr0 & X86_CR0_PG && x86->cr4 & X86_CR4_PAE && !x86_load_pdptes(cpu, x86->cr3))
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (!sys_load_ldt(cpu, t->ldt, X86_EXC_TS) || !load_task_segments(cpu, t))
    return false;
  if (error && !push_task_error(cpu, t, *error))
    return false;
  if (x86->rip > x86->seg[X86_CS].limit)
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (t->debug_trap)
    sys_raise_debug_trap(cpu, x86->rip, SYS_DR6_BT);
  return true;
}

bool sys_switch_task(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, SysTaskReason reason, uint64_t next_rip,
                     const uint32_t *error)
{
  TaskState t = { .base = sys_desc_base(d), .wide = sys_desc_type(d) >= SYS_TSS32 };

  if (!(d->hi & X86_ATTR_P))
    return sys_fail(cpu, X86_EXC_NP, selector);
  if (sys_desc_limit(d) < (t.wide ? TSS32_LIMIT : TSS16_LIMIT))
    return sys_fail(cpu, X86_EXC_TS, selector);
  if (!(t.wide ? read_wide : read_narrow)(cpu, &t) || !leave_task(cpu, selector, d, reason, &t, next_rip))
    return false;
  enter_task(cpu, selector, d, reason, &t);
  bool ok = settle_in_task(cpu, &t, error);
  x86_update_hflags(cpu);
  return ok;
}

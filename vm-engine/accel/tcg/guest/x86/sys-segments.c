/*
 * Segments: descriptors, the loads with their checks, and the instructions that ask about selectors.
 * Sources: Intel SDM volume 3, chapters 3 and 5; AMD64 APM volume 2, chapter 4.
 *
 * Descriptor tables and the TSS are read at supervisor level, whatever the CPL.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

/* ---- descriptors --------------------------------------------------------------------------------------------------- */

bool sys_fail(TcgCpu *cpu, unsigned vector, uint16_t selector)
{
  x86_raise_error(cpu, vector, selector & 0xfffc);
  return false;
}

bool sys_require_cpl0(TcgCpu *cpu)
{
  return sys_cpl(cpu) == 0 || sys_fail(cpu, X86_EXC_GP, 0);
}

uint64_t sys_desc_base(const SysDescriptor *d)
{
  return d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000);
}

uint32_t sys_desc_limit(const SysDescriptor *d)
{
  uint32_t limit = (d->lo & 0xffff) | (d->hi & 0xf0000);
  return d->hi & X86_ATTR_G ? limit << 12 | 0xfff : limit;
}

bool sys_find_descriptor(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, bool *found)
{
  const X86Segment *ldt = &cpu->x86.seg[X86_LDTR];
  bool local = selector & 4;
  uint64_t base = local ? ldt->base : cpu->x86.gdt.base;
  uint32_t limit = local ? ldt->limit : cpu->x86.gdt.limit;
  uint64_t raw;

  *found = (!local || ldt->attr & X86_ATTR_P) && (selector | 7u) <= limit;
  if (!*found)
    return true;
  d->address = base + (selector & 0xfff8);
  if (!x86_read_u64(cpu, d->address, &raw, TCG_MMU_KERNEL))
    return false;
  d->lo = (uint32_t)raw;
  d->hi = (uint32_t)(raw >> 32);
  return true;
}

bool sys_read_descriptor(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, unsigned vector)
{
  bool found;

  return sys_find_descriptor(cpu, selector, d, &found) && (found || sys_fail(cpu, vector, selector));
}

bool sys_read_base_high(TcgCpu *cpu, uint16_t selector, const SysDescriptor *d, uint64_t *base)
{
  uint32_t limit = selector & 4 ? cpu->x86.seg[X86_LDTR].limit : cpu->x86.gdt.limit;
  uint64_t raw;

  if ((selector & 0xfff8u) + 15 > limit)
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (!x86_read_u64(cpu, d->address + 8, &raw, TCG_MMU_KERNEL))
    return false;
  *base = sys_desc_base(d) | (raw & 0xffffffff) << 32;
  if (raw >> 40 & 0x1f || !x86_is_canonical(*base))
    return sys_fail(cpu, X86_EXC_GP, selector);
  return true;
}

bool sys_mark_accessed(TcgCpu *cpu, SysDescriptor *d)
{
  if (d->hi & X86_ATTR_ACCESSED)
    return true;
  d->hi |= X86_ATTR_ACCESSED;
  return x86_write_u32(cpu, d->address + 4, d->hi, TCG_MMU_KERNEL);
}

bool sys_set_busy(TcgCpu *cpu, SysDescriptor *d, bool busy)
{
  uint32_t hi;

  if (!x86_read_u32(cpu, d->address + 4, &hi, TCG_MMU_KERNEL))
    return false;
  d->hi = busy ? hi | 1u << 9 : hi & ~(1u << 9);
  return x86_write_u32(cpu, d->address + 4, d->hi, TCG_MMU_KERNEL);
}

/* ---- hidden parts ---------------------------------------------------------------------------------------------------- */

void sys_set_segment(TcgCpu *cpu, unsigned sreg, uint16_t selector, const SysDescriptor *d)
{
  cpu->x86.seg[sreg] = (X86Segment){
    .selector = selector, .base = sys_desc_base(d), .limit = sys_desc_limit(d), .attr = sys_desc_attr(d)
  };
}

/* In 64-bit mode the base of FS and GS goes to 0 with a null selector; nothing else is used there. */
void sys_set_null(TcgCpu *cpu, unsigned sreg, uint16_t selector)
{
  cpu->x86.seg[sreg] = (X86Segment){ .selector = selector };
}

void sys_set_null_ss(TcgCpu *cpu, uint16_t selector, unsigned cpl)
{
  cpu->x86.seg[X86_SS] = (X86Segment){ .selector = selector, .attr = cpl << X86_ATTR_DPL_SHIFT };
}

/* Limit and size stay as protected mode left them ("unreal mode"), unless the segment was unusable. */
void sys_set_real(TcgCpu *cpu, unsigned sreg, uint16_t selector)
{
  X86Segment *seg = &cpu->x86.seg[sreg];

  if (!(seg->attr & X86_ATTR_P)) {
    seg->limit = 0xffff;
    seg->attr = 0;
  }
  seg->selector = selector;
  seg->base = (uint64_t)selector << 4;
  seg->attr = (seg->attr & (X86_ATTR_G | X86_ATTR_DB)) | X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED |
              (sreg == X86_CS ? X86_ATTR_CODE : 0);
}

void sys_set_vm86(TcgCpu *cpu, unsigned sreg, uint16_t selector)
{
  cpu->x86.seg[sreg] = (X86Segment){ .selector = selector,
                                     .base = (uint64_t)selector << 4,
                                     .limit = 0xffff,
                                     .attr = X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED | X86_ATTR_DPL };
}

bool sys_segment_holds(const X86Segment *seg, uint64_t offset, unsigned size)
{
  uint64_t last = offset + size - 1;

  if ((seg->attr & (X86_ATTR_S | X86_ATTR_CODE | X86_ATTR_DC)) == (X86_ATTR_S | X86_ATTR_DC))
    return offset > seg->limit && last <= (seg->attr & X86_ATTR_DB ? 0xffffffff : 0xffff);
  return last <= seg->limit;
}

void sys_drop_privileged_segments(TcgCpu *cpu, unsigned cpl)
{
  static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

  for (unsigned i = 0; i < G_N_ELEMENTS(data); i++) {
    uint32_t attr = cpu->x86.seg[data[i]].attr;
    bool conforming = sys_is_code(attr) && sys_is_conforming(attr);
    if (attr & X86_ATTR_P && !conforming && sys_attr_dpl(attr) < cpl)
      sys_set_null(cpu, data[i], 0);
  }
}

/* ---- loads ---------------------------------------------------------------------------------------------------------------- */

static bool load_stack_segment(TcgCpu *cpu, uint16_t selector)
{
  unsigned cpl = sys_cpl(cpu);
  SysDescriptor d;

  if (sys_is_null(selector)) {
    if (!sys_is_64bit(cpu) || cpl == 3 || (selector & 3) != cpl)
      return sys_fail(cpu, X86_EXC_GP, 0);
    sys_set_null_ss(cpu, selector, cpl);
    return true;
  }
  if (!sys_read_stack(cpu, selector, cpl, X86_EXC_GP, &d))
    return false;
  sys_set_segment(cpu, X86_SS, selector, &d);
  return true;
}

static bool load_data_segment(TcgCpu *cpu, unsigned sreg, uint16_t selector)
{
  SysDescriptor d;

  if (sys_is_null(selector)) {
    sys_set_null(cpu, sreg, selector);
    return true;
  }
  if (!sys_read_descriptor(cpu, selector, &d, X86_EXC_GP))
    return false;
  bool code = d.hi & X86_ATTR_CODE;
  if (!(d.hi & X86_ATTR_S) || (code && !(d.hi & X86_ATTR_RW)))
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (!(code && sys_is_conforming(d.hi)) && MAX(sys_cpl(cpu), selector & 3u) > sys_desc_dpl(&d))
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (!(d.hi & X86_ATTR_P))
    return sys_fail(cpu, X86_EXC_NP, selector);
  if (!sys_mark_accessed(cpu, &d))
    return false;
  sys_set_segment(cpu, sreg, selector, &d);
  return true;
}

bool sys_load_segment(TcgCpu *cpu, unsigned sreg, uint16_t selector)
{
  if (!(cpu->x86.cr0 & X86_CR0_PE)) {
    sys_set_real(cpu, sreg, selector);
    return true;
  }
  if (sys_is_vm86(cpu)) {
    sys_set_vm86(cpu, sreg, selector);
    return true;
  }
  return sreg == X86_SS ? load_stack_segment(cpu, selector) : load_data_segment(cpu, sreg, selector);
}

bool sys_load_ldt(TcgCpu *cpu, uint16_t selector, unsigned vector)
{
  SysDescriptor d;
  uint64_t base;

  if (sys_is_null(selector)) {
    cpu->x86.seg[X86_LDTR] = (X86Segment){ .selector = selector };
    return true;
  }
  if (selector & 4)
    return sys_fail(cpu, vector, selector);
  if (!sys_read_descriptor(cpu, selector, &d, vector))
    return false;
  if (d.hi & X86_ATTR_S || sys_desc_type(&d) != SYS_LDT)
    return sys_fail(cpu, vector, selector);
  if (!(d.hi & X86_ATTR_P))
    return sys_fail(cpu, vector == X86_EXC_TS ? X86_EXC_TS : X86_EXC_NP, selector);
  base = sys_desc_base(&d);
  if (sys_is_long(cpu) && !sys_read_base_high(cpu, selector, &d, &base))
    return false;
  sys_set_segment(cpu, X86_LDTR, selector, &d);
  cpu->x86.seg[X86_LDTR].base = base;
  return true;
}

/* ---- targets and stacks ------------------------------------------------------------------------------------------------------- */

static bool code_is_allowed(const TcgCpu *cpu, uint16_t selector, SysTarget kind, const SysDescriptor *d)
{
  unsigned cpl = sys_cpl(cpu), rpl = selector & 3, dpl = sys_desc_dpl(d);
  bool conforming = sys_is_conforming(d->hi);

  switch (kind) {
  case SYS_TARGET_JUMP:
    return conforming ? dpl <= cpl : rpl <= cpl && dpl == cpl;
  case SYS_TARGET_GATE:
    return dpl <= cpl;
  case SYS_TARGET_RETURN:
    return rpl >= cpl && (conforming ? dpl <= rpl : dpl == rpl);
  }
  return false;
}

bool sys_read_code(TcgCpu *cpu, uint16_t selector, SysTarget kind, SysDescriptor *d)
{
  if (sys_is_null(selector))
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (!sys_read_descriptor(cpu, selector, d, X86_EXC_GP))
    return false;
  if (!sys_is_code(d->hi) || !code_is_allowed(cpu, selector, kind, d))
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (sys_is_long(cpu) && d->hi & X86_ATTR_L && d->hi & X86_ATTR_DB)
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (!(d->hi & X86_ATTR_P))
    return sys_fail(cpu, X86_EXC_NP, selector);
  return sys_mark_accessed(cpu, d);
}

bool sys_check_rip(TcgCpu *cpu, const SysDescriptor *code, uint64_t rip)
{
  bool inside = sys_is_long(cpu) && code->hi & X86_ATTR_L ? x86_is_canonical(rip) : rip <= sys_desc_limit(code);
  return inside || sys_fail(cpu, X86_EXC_GP, 0);
}

bool sys_read_stack(TcgCpu *cpu, uint16_t selector, unsigned cpl, unsigned vector, SysDescriptor *d)
{
  if (sys_is_null(selector))
    return sys_fail(cpu, vector, 0);
  if (!sys_read_descriptor(cpu, selector, d, vector))
    return false;
  if ((selector & 3u) != cpl || !sys_is_writable_data(d->hi) || sys_desc_dpl(d) != cpl)
    return sys_fail(cpu, vector, selector);
  if (!(d->hi & X86_ATTR_P))
    return sys_fail(cpu, X86_EXC_SS, selector);
  return sys_mark_accessed(cpu, d);
}

bool sys_read_tss_stack(TcgCpu *cpu, unsigned cpl, uint16_t *ss, uint32_t *esp)
{
  const X86Segment *tr = &cpu->x86.seg[X86_TR];
  bool wide = (tr->attr >> 8 & 15) >= SYS_TSS32;
  unsigned offset = wide ? 4 + 8 * cpl : 2 + 4 * cpl;

  if (!(tr->attr & X86_ATTR_P) || offset + (wide ? 5 : 3) > tr->limit)
    return sys_fail(cpu, X86_EXC_TS, tr->selector);
  if (wide)
    return x86_read_u32(cpu, tr->base + offset, esp, TCG_MMU_KERNEL) &&
           x86_read_u16(cpu, tr->base + offset + 4, ss, TCG_MMU_KERNEL);
  uint16_t sp;
  if (!x86_read_u16(cpu, tr->base + offset, &sp, TCG_MMU_KERNEL) ||
      !x86_read_u16(cpu, tr->base + offset + 2, ss, TCG_MMU_KERNEL))
    return false;
  *esp = sp;
  return true;
}

/* RSP0–2 stand at 4, 12, 20; IST1–7 at 36 and on. */
bool sys_read_tss_rsp(TcgCpu *cpu, unsigned slot, uint64_t *rsp)
{
  const X86Segment *tr = &cpu->x86.seg[X86_TR];
  unsigned offset = slot < 3 ? 4 + 8 * slot : 36 + 8 * (slot - 3);

  if (!(tr->attr & X86_ATTR_P) || offset + 7 > tr->limit)
    return sys_fail(cpu, X86_EXC_TS, tr->selector);
  if (!x86_read_u64(cpu, tr->base + offset, rsp, TCG_MMU_KERNEL))
    return false;
  return x86_is_canonical(*rsp) || sys_fail(cpu, X86_EXC_SS, 0);
}

/* ---- instructions ------------------------------------------------------------------------------------------------------------------ */

uint64_t helper_load_seg(TcgCpu *cpu, uint64_t sreg, uint64_t selector, uint64_t shadow)
{
  if (!sys_load_segment(cpu, sreg & 7, (uint16_t)selector))
    return 0;
  if (shadow)
    cpu->x86.interrupt_shadow = 2;
  x86_update_hflags(cpu);
  return 0;
}

/* Real mode reads, writes and runs whatever is within the limit. */
static bool seg_allows(const TcgCpu *cpu, const X86Segment *seg, bool write)
{
  if (!(seg->attr & X86_ATTR_P))
    return false;
  if (!sys_is_protected(cpu))
    return true;
  if (seg->attr & X86_ATTR_CODE)
    return !write && seg->attr & X86_ATTR_RW;
  return !write || seg->attr & X86_ATTR_RW;
}

uint64_t helper_seg_check(TcgCpu *cpu, uint64_t sreg, uint64_t offset, uint64_t how)
{
  const X86Segment *seg = &cpu->x86.seg[sreg & 7];
  unsigned size = MAX((unsigned)how & ~0x100u, 1u); /* up to FXSAVE's 512 and XSAVE's 576 bytes, which lack that bit */
  unsigned vector = sreg == X86_SS ? X86_EXC_SS : X86_EXC_GP;

  if (sys_is_64bit(cpu))
    return offset + (sreg == X86_FS || sreg == X86_GS ? seg->base : 0);
  if (!seg_allows(cpu, seg, how & 0x100) || !sys_segment_holds(seg, offset, size)) {
    x86_raise_error(cpu, vector, 0);
    return 0;
  }
  return (uint32_t)(seg->base + offset);
}

static bool check_fsgsbase(TcgCpu *cpu)
{
  if (sys_is_64bit(cpu) && cpu->x86.cr4 & X86_CR4_FSGSBASE)
    return true;
  x86_raise(cpu, X86_EXC_UD);
  return false;
}

uint64_t helper_read_seg_base(TcgCpu *cpu, uint64_t sreg, uint64_t b, uint64_t c)
{
  return check_fsgsbase(cpu) ? cpu->x86.seg[sreg & 7].base : 0;
}

uint64_t helper_write_seg_base(TcgCpu *cpu, uint64_t sreg, uint64_t value, uint64_t c)
{
  if (!check_fsgsbase(cpu))
    return 0;
  if (!x86_is_canonical(value))
    x86_raise_error(cpu, X86_EXC_GP, 0);
  else
    cpu->x86.seg[sreg & 7].base = value;
  return 0;
}

/* LLDT and LTR do not exist in real and VM86 mode. */
static bool begin_table_load(TcgCpu *cpu)
{
  if (!sys_is_protected(cpu)) {
    x86_raise(cpu, X86_EXC_UD);
    return false;
  }
  return sys_require_cpl0(cpu);
}

uint64_t helper_lldt(TcgCpu *cpu, uint64_t selector, uint64_t b, uint64_t c)
{
  if (begin_table_load(cpu) && !sys_load_ldt(cpu, (uint16_t)selector, X86_EXC_GP))
    return 0; /* the fault is pending */
  return 0;
}

static bool load_task_register(TcgCpu *cpu, uint16_t selector)
{
  SysDescriptor d;
  uint64_t base;

  if (sys_is_null(selector))
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (selector & 4)
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (!sys_read_descriptor(cpu, selector, &d, X86_EXC_GP))
    return false;
  unsigned type = sys_desc_type(&d);
  if (d.hi & X86_ATTR_S || !(type == SYS_TSS32 || (type == SYS_TSS16 && !sys_is_long(cpu))))
    return sys_fail(cpu, X86_EXC_GP, selector);
  if (!(d.hi & X86_ATTR_P))
    return sys_fail(cpu, X86_EXC_NP, selector);
  base = sys_desc_base(&d);
  if (sys_is_long(cpu) && !sys_read_base_high(cpu, selector, &d, &base))
    return false;
  if (!sys_set_busy(cpu, &d, true))
    return false;
  sys_set_segment(cpu, X86_TR, selector, &d);
  cpu->x86.seg[X86_TR].base = base;
  return true;
}

uint64_t helper_ltr(TcgCpu *cpu, uint64_t selector, uint64_t b, uint64_t c)
{
  if (begin_table_load(cpu) && !load_task_register(cpu, (uint16_t)selector))
    return 0; /* the fault is pending */
  return 0;
}

static uint64_t load_table(TcgCpu *cpu, X86Table *table, uint64_t limit, uint64_t base)
{
  if (!sys_require_cpl0(cpu))
    return 0;
  if (sys_is_64bit(cpu) && !x86_is_canonical(base)) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  table->limit = limit & 0xffff;
  table->base = sys_is_64bit(cpu) ? base : base & 0xffffffff;
  return 0;
}

uint64_t helper_lgdt(TcgCpu *cpu, uint64_t limit, uint64_t base, uint64_t c)
{
  return load_table(cpu, &cpu->x86.gdt, limit, base);
}

uint64_t helper_lidt(TcgCpu *cpu, uint64_t limit, uint64_t base, uint64_t c)
{
  return load_table(cpu, &cpu->x86.idt, limit, base);
}

/* ---- questions about selectors --------------------------------------------------------------------------------------------------------- */

static void set_zf(TcgCpu *cpu, bool on)
{
  cpu->flags = (uint16_t)(on ? cpu->flags | X86_F_ZF << 8 : cpu->flags & ~(X86_F_ZF << 8));
}

/* The common part: does the selector name a descriptor that CPL and RPL may see? `visible` tells. False: a fault is
 * pending (#UD outside of protected mode, or a page fault). */
static bool look_at_selector(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, bool *visible)
{
  *visible = false;
  if (!sys_is_protected(cpu)) {
    x86_raise(cpu, X86_EXC_UD);
    return false;
  }
  if (sys_is_null(selector))
    return true;
  if (!sys_find_descriptor(cpu, selector, d, visible))
    return false;
  if (*visible && !(sys_is_code(d->hi) && sys_is_conforming(d->hi)))
    *visible = sys_desc_dpl(d) >= MAX(sys_cpl(cpu), selector & 3u);
  return true;
}

uint64_t helper_verr(TcgCpu *cpu, uint64_t selector, uint64_t b, uint64_t c)
{
  SysDescriptor d = { 0 };
  bool ok;

  if (look_at_selector(cpu, (uint16_t)selector, &d, &ok))
    set_zf(cpu, ok && d.hi & X86_ATTR_S && (!(d.hi & X86_ATTR_CODE) || d.hi & X86_ATTR_RW));
  return 0;
}

uint64_t helper_verw(TcgCpu *cpu, uint64_t selector, uint64_t b, uint64_t c)
{
  SysDescriptor d = { 0 };
  bool ok;

  if (look_at_selector(cpu, (uint16_t)selector, &d, &ok))
    set_zf(cpu, ok && sys_is_writable_data(d.hi));
  return 0;
}

/* Bit n: LAR (LSL) knows system type n. */
static bool type_is_known(const TcgCpu *cpu, const SysDescriptor *d, bool limit)
{
  unsigned legacy = limit ? 1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11
                          : 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 9 | 1u << 11 | 1u << 12;
  unsigned long_mode = limit ? 1u << 2 | 1u << 9 | 1u << 11 : 1u << 2 | 1u << 9 | 1u << 11 | 1u << 12;

  return d->hi & X86_ATTR_S || (sys_is_long(cpu) ? long_mode : legacy) >> sys_desc_type(d) & 1;
}

uint64_t helper_lar(TcgCpu *cpu, uint64_t selector, uint64_t old, uint64_t c)
{
  SysDescriptor d = { 0 };
  bool ok;

  if (!look_at_selector(cpu, (uint16_t)selector, &d, &ok))
    return old;
  ok = ok && type_is_known(cpu, &d, false);
  set_zf(cpu, ok);
  return ok ? sys_desc_attr(&d) | (d.hi & 0xf0000) : old;
}

uint64_t helper_lsl(TcgCpu *cpu, uint64_t selector, uint64_t old, uint64_t c)
{
  SysDescriptor d = { 0 };
  bool ok;

  if (!look_at_selector(cpu, (uint16_t)selector, &d, &ok))
    return old;
  ok = ok && type_is_known(cpu, &d, true);
  set_zf(cpu, ok);
  return ok ? sys_desc_limit(&d) : old;
}

uint64_t helper_arpl(TcgCpu *cpu, uint64_t destination, uint64_t source, uint64_t c)
{
  bool raise;

  if (!sys_is_protected(cpu)) {
    x86_raise(cpu, X86_EXC_UD);
    return destination;
  }
  raise = (destination & 3) < (source & 3);
  set_zf(cpu, raise);
  return raise ? (destination & ~UINT64_C(3)) | (source & 3) : destination;
}

/*
 * Control and debug registers, and the small privileged instructions around them.
 * Sources: Intel SDM volume 3, chapters 2, 4.10 (what flushes translations) and 17; AMD64 APM volume 2, chapter 3.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"
#include "vm-engine/x86/tsc.h"

#define CR0_KNOWN                                                                                                      \
  (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM |             \
   X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
/* What CPUID offers; anything else is reserved. */
#define CR4_KNOWN                                                                                                      \
  (X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE |      \
   X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_FSGSBASE | X86_CR4_SMEP | X86_CR4_SMAP)
#define CR4_FLUSHES (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP)

static bool fail_gp(TcgCpu *cpu)
{
  x86_raise_error(cpu, X86_EXC_GP, 0);
  return false;
}

static bool fail_ud(TcgCpu *cpu)
{
  x86_raise(cpu, X86_EXC_UD);
  return false;
}

/* ---- control registers -------------------------------------------------------------------------------------------- */

/* Are PAE's four pointers in use under these values? */
static bool uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
  return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(efer & X86_EFER_LMA);
}

static bool cr0_is_valid(const TcgCpu *cpu, uint64_t value)
{
  const X86Cpu *x86 = &cpu->x86;
  bool pg = value & X86_CR0_PG, pg_before = x86->cr0 & X86_CR0_PG;

  if (value >> 32 || (pg && !(value & X86_CR0_PE)) || (value & X86_CR0_NW && !(value & X86_CR0_CD)))
    return false;
  if (pg && !pg_before && x86->efer & X86_EFER_LME)
    return x86->cr4 & X86_CR4_PAE && !(x86->seg[X86_CS].attr & X86_ATTR_L);
  return !(!pg && pg_before && sys_is_64bit(cpu));
}

static bool write_cr0(TcgCpu *cpu, uint64_t value)
{
  X86Cpu *x86 = &cpu->x86;
  uint64_t efer = x86->efer & ~(uint64_t)X86_EFER_LMA, changed;

  if (!cr0_is_valid(cpu, value))
    return fail_gp(cpu);
  value = (value & CR0_KNOWN) | X86_CR0_ET;
  changed = value ^ x86->cr0;
  if (value & X86_CR0_PG && efer & X86_EFER_LME)
    efer |= X86_EFER_LMA;
  if (changed & X86_CR0_PG && uses_pdptes(value, x86->cr4, efer) && !x86_load_pdptes(cpu, x86->cr3))
    return fail_gp(cpu);
  x86->cr0 = value;
  x86->efer = efer;
  if (changed & (X86_CR0_PG | X86_CR0_PE | X86_CR0_WP))
    x86_tlb_flush(cpu);
  return true;
}

static bool write_cr3(TcgCpu *cpu, uint64_t value)
{
  X86Cpu *x86 = &cpu->x86;

  if (sys_is_long(cpu) && value & ~X86_PHYS_MASK)
    return fail_gp(cpu);
  if (uses_pdptes(x86->cr0, x86->cr4, x86->efer) && !x86_load_pdptes(cpu, value))
    return fail_gp(cpu);
  x86->cr3 = value;
  x86_tlb_flush_nonglobal(cpu);
  return true;
}

static bool write_cr4(TcgCpu *cpu, uint64_t value)
{
  X86Cpu *x86 = &cpu->x86;
  uint64_t changed = value ^ x86->cr4;

  if (value & ~(uint64_t)CR4_KNOWN || (sys_is_long(cpu) && !(value & X86_CR4_PAE)))
    return fail_gp(cpu);
  if (changed & CR4_FLUSHES && uses_pdptes(x86->cr0, value, x86->efer) && !x86_load_pdptes(cpu, x86->cr3))
    return fail_gp(cpu);
  x86->cr4 = value;
  if (changed & CR4_FLUSHES)
    x86_tlb_flush(cpu);
  return true;
}

static bool write_cr8(TcgCpu *cpu, uint64_t value)
{
  const VmCpu *vcpu = cpu->vcpu;

  if (value & ~UINT64_C(15))
    return fail_gp(cpu);
  if (vcpu && vcpu->intc_ops)
    vcpu->intc_ops->set_tpr(vcpu->intc, (uint8_t)value);
  return true;
}

uint64_t helper_write_cr(TcgCpu *cpu, uint64_t number, uint64_t value, uint64_t c)
{
  if (!sys_require_cpl0(cpu))
    return 0;
  switch (number) {
  case 0:
    write_cr0(cpu, value);
    break;
  case 2:
    cpu->x86.cr2 = value;
    break;
  case 3:
    write_cr3(cpu, value);
    break;
  case 4:
    write_cr4(cpu, value);
    break;
  case 8:
    write_cr8(cpu, value);
    break;
  default:
    fail_ud(cpu);
  }
  x86_update_hflags(cpu);
  return 0;
}

uint64_t helper_read_cr(TcgCpu *cpu, uint64_t number, uint64_t b, uint64_t c)
{
  const VmCpu *vcpu = cpu->vcpu;

  if (!sys_require_cpl0(cpu))
    return 0;
  switch (number) {
  case 0:
    return cpu->x86.cr0;
  case 2:
    return cpu->x86.cr2;
  case 3:
    return cpu->x86.cr3;
  case 4:
    return cpu->x86.cr4;
  case 8:
    return vcpu && vcpu->intc_ops ? vcpu->intc_ops->get_tpr(vcpu->intc) : 0;
  default:
    fail_ud(cpu);
    return 0;
  }
}

uint64_t helper_clts(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!sys_require_cpl0(cpu))
    return 0;
  cpu->x86.cr0 &= ~(uint64_t)X86_CR0_TS;
  x86_update_hflags(cpu);
  return 0;
}

/* The low four bits of CR0; PE can be set by it, but not cleared. */
uint64_t helper_lmsw(TcgCpu *cpu, uint64_t value, uint64_t b, uint64_t c)
{
  uint64_t cr0 = cpu->x86.cr0;

  if (!sys_require_cpl0(cpu))
    return 0;
  write_cr0(cpu, (cr0 & ~UINT64_C(0xe)) | (value & 0xf));
  x86_update_hflags(cpu);
  return 0;
}

/* ---- debug registers ------------------------------------------------------------------------------------------------ */

/* Which register `number` means; raises what MOV DR raises before it moves. */
static bool begin_debug_access(TcgCpu *cpu, uint64_t number, unsigned *reg)
{
  *reg = number & 15;
  if (*reg > 7 || ((*reg == 4 || *reg == 5) && cpu->x86.cr4 & X86_CR4_DE))
    return fail_ud(cpu);
  if (*reg == 4 || *reg == 5)
    *reg += 2;
  if (!sys_require_cpl0(cpu))
    return false;
  if (cpu->x86.dr[7] & SYS_DR7_GD) {
    x86_raise(cpu, X86_EXC_DB);
    cpu->exc_dr6 = SYS_DR6_BD;
    return false;
  }
  return true;
}

uint64_t helper_read_dr(TcgCpu *cpu, uint64_t number, uint64_t b, uint64_t c)
{
  unsigned reg;

  return begin_debug_access(cpu, number, &reg) ? cpu->x86.dr[reg] : 0;
}

uint64_t helper_write_dr(TcgCpu *cpu, uint64_t number, uint64_t value, uint64_t c)
{
  bool watched = cpu->x86.dr[7] & 0xff;
  unsigned reg;

  if (!begin_debug_access(cpu, number, &reg))
    return 0;
  if (reg >= 6 && value >> 32) {
    fail_gp(cpu);
    return 0;
  }
  if (reg == 6)
    value = (value & 0xe00f) | SYS_DR6_FIXED;
  if (reg == 7)
    value = (value & 0xffff27ff) | 0x400;
  cpu->x86.dr[reg] = value;
  cpu->x86.rflags &= ~(uint64_t)X86_F_RF; /* it is watched from now on only: see helper_check_breakpoint() */
  if (watched || cpu->x86.dr[7] & 0xff)
    x86_tlb_flush(cpu);
  x86_update_hflags(cpu);
  return 0;
}

/* ---- extended state --------------------------------------------------------------------------------------------------- */

static bool check_xcr(TcgCpu *cpu, uint64_t index)
{
  if (!(cpu->x86.cr4 & X86_CR4_OSXSAVE))
    return fail_ud(cpu);
  return index == 0 || fail_gp(cpu);
}

uint64_t helper_xgetbv(TcgCpu *cpu, uint64_t index, uint64_t b, uint64_t c)
{
  return check_xcr(cpu, index) ? cpu->x86.xcr0 : 0;
}

/* x87 always, SSE on top of it. */
uint64_t helper_xsetbv(TcgCpu *cpu, uint64_t index, uint64_t value, uint64_t c)
{
  if (!check_xcr(cpu, index) || !sys_require_cpl0(cpu))
    return 0;
  if (value != 1 && value != 3)
    fail_gp(cpu);
  else
    cpu->x86.xcr0 = value;
  return 0;
}

/* ---- the rest ------------------------------------------------------------------------------------------------------------ */

uint64_t helper_hlt(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (sys_require_cpl0(cpu))
    cpu->x86.halted = 1;
  return 0;
}

uint64_t helper_invlpg(TcgCpu *cpu, uint64_t linear, uint64_t b, uint64_t c)
{
  if (sys_require_cpl0(cpu))
    x86_tlb_flush_page(cpu, linear);
  return 0;
}

/* Guest caches are the host's: nothing to write back. */
uint64_t helper_wbinvd(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!sys_require_cpl0(cpu))
    return 0; /* the fault is pending */
  return 0;
}

uint64_t sys_read_tsc(const TcgCpu *cpu)
{
  uint64_t machine = cpu->vcpu ? vm_tsc_now(vm_get_clock(cpu->vcpu->vm))
                               : vm_tsc_from_ns(g_get_monotonic_time() * (VM_NS_PER_SEC / G_USEC_PER_SEC));
  return machine + cpu->x86.tsc_offset;
}

uint64_t helper_rdtsc(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (cpu->x86.cr4 & X86_CR4_TSD && sys_cpl(cpu) != 0) {
    fail_gp(cpu);
    return 0;
  }
  return sys_read_tsc(cpu);
}

/* No counters are advertised; guests that read them all the same do so to see whether they move. */
uint64_t helper_rdpmc(TcgCpu *cpu, uint64_t index, uint64_t b, uint64_t c)
{
  if (!(cpu->x86.cr4 & X86_CR4_PCE) && sys_cpl(cpu) != 0)
    fail_gp(cpu);
  return 0;
}

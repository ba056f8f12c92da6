/*
 * The CPU's state as the translator keeps it beside the architectural one: flags, hflags, import and export.
 * The rules are in tcg-cpu.h.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

#define MXCSR_MASKS 0x1f80u

uint64_t tcg_get_rflags(const TcgCpu *cpu)
{
  return (cpu->x86.rflags & ~(uint64_t)X86_F_ARITH) | tcg_unpack_flags(cpu->flags) | X86_F_FIXED;
}

void tcg_set_rflags(TcgCpu *cpu, uint64_t rflags)
{
  cpu->x86.rflags = rflags | X86_F_FIXED;
  cpu->flags = tcg_pack_flags(rflags);
  x86_update_hflags(cpu);
}

/* ---- hflags ------------------------------------------------------------------------------------------------------------ */

/* Usable, base 0, the whole 4 GiB, growing upwards, and readable or writable as asked. */
static bool is_flat(const X86Segment *seg, bool code)
{
  const uint32_t need = X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW;

  if (seg->base != 0 || seg->limit != 0xffffffff || (seg->attr & need) != need)
    return false;
  return code || !(seg->attr & (X86_ATTR_CODE | X86_ATTR_DC));
}

static uint32_t segment_hflags(const TcgCpu *cpu)
{
  const X86Segment *seg = cpu->x86.seg;
  uint32_t h = 0;

  if (sys_is_64bit(cpu))
    return TCG_HF_CS64 | TCG_HF_CS32 | TCG_HF_SS32 | TCG_HF_FLAT | TCG_HF_CS_BASE0;
  if (seg[X86_CS].attr & X86_ATTR_DB)
    h |= TCG_HF_CS32;
  if (seg[X86_SS].attr & X86_ATTR_DB)
    h |= TCG_HF_SS32;
  if (seg[X86_CS].base == 0)
    h |= TCG_HF_CS_BASE0;
  if (!is_flat(&seg[X86_SS], false))
    return h | TCG_HF_STACK_LIMITED;
  if (is_flat(&seg[X86_CS], true) && is_flat(&seg[X86_DS], false) && is_flat(&seg[X86_ES], false))
    h |= TCG_HF_FLAT;
  return h;
}

static uint32_t mode_hflags(const TcgCpu *cpu, unsigned cpl)
{
  const X86Cpu *x86 = &cpu->x86;
  bool smap = x86->cr4 & X86_CR4_SMAP;
  TcgMmu mmu = cpl == 3 ? TCG_MMU_USER : smap && x86->rflags & X86_F_AC ? TCG_MMU_KERNEL_AC : TCG_MMU_KERNEL;
  uint32_t h = cpl | (uint32_t)mmu << TCG_HF_MMU_SHIFT;

  h |= x86->cr0 & X86_CR0_PE ? TCG_HF_PE : 0;
  h |= x86->rflags & X86_F_VM ? TCG_HF_VM : 0;
  h |= x86->efer & X86_EFER_LMA ? TCG_HF_LMA : 0;
  h |= cpl <= sys_iopl(cpu) ? TCG_HF_IOPL_OK : 0;
  h |= x86->in_smm ? TCG_HF_SMM : 0;
  h |= x86->cr4 & X86_CR4_UMIP && cpl == 3 ? TCG_HF_UMIP : 0;
  h |= x86->rflags & X86_F_TF ? TCG_HF_TF : 0;
  h |= x86->interrupt_shadow ? TCG_HF_SHADOW : 0;
  h |= x86->dr[7] & 0xff ? TCG_HF_BREAKPOINTS : 0;
  h |= x86->cr0 & X86_CR0_AM && x86->rflags & X86_F_AC && cpl == 3 ? TCG_HF_ALIGN_CHECK : 0;
  return h;
}

static uint32_t fpu_hflags(const TcgCpu *cpu)
{
  const X86Cpu *x86 = &cpu->x86;
  uint32_t h = 0;

  h |= x86->cr0 & X86_CR0_TS ? TCG_HF_TS : 0;
  h |= x86->cr0 & X86_CR0_EM ? TCG_HF_EM : 0;
  h |= x86->cr0 & X86_CR0_MP ? TCG_HF_MP : 0;
  h |= x86->cr4 & X86_CR4_OSFXSR ? TCG_HF_OSFXSR : 0;
  h |= x86->cr4 & X86_CR4_OSXSAVE ? TCG_HF_OSXSAVE : 0;
  h |= (x86->fpu.mxcsr & MXCSR_MASKS) != MXCSR_MASKS ? TCG_HF_SSE_UNMASKED : 0;
  return h;
}

void x86_update_hflags(TcgCpu *cpu)
{
  uint32_t old = cpu->hflags;

  cpu->hflags = segment_hflags(cpu) | mode_hflags(cpu, sys_cpl(cpu)) | fpu_hflags(cpu);
  if ((old ^ cpu->hflags) & TCG_HF_ALIGN_CHECK)
    x86_tlb_flush_user(cpu);
}

/* ---- import and export --------------------------------------------------------------------------------------------------- */

/* KVM keeps PAE's pointers to itself: a state that comes from there has to have them read again. */
static void import_pdptes(TcgCpu *cpu)
{
  static const uint64_t none[4];
  const X86Cpu *x86 = &cpu->x86;

  if (!(x86->cr0 & X86_CR0_PG) || !(x86->cr4 & X86_CR4_PAE) || x86->efer & X86_EFER_LMA)
    return;
  if (memcmp(x86->pae_pdpte, none, sizeof none) == 0 && !x86_load_pdptes(cpu, x86->cr3))
    return; /* reserved bits: the pointers stay absent, and every access faults */
}

void x86_tcg_import(TcgCpu *cpu)
{
  X86Cpu *x86 = &cpu->x86;

  x86_tlb_init(cpu);
  x86->rflags |= X86_F_FIXED;
  cpu->flags = tcg_pack_flags(x86->rflags);
  cpu->exc_pending = cpu->exit_block = 0;
  cpu->watch_hit = cpu->event_ext = 0;
  cpu->hflags = 0;
  x86_fpu_import(cpu);
  import_pdptes(cpu);
  if (x86->pending_exception_valid) {
    if (x86->pending_has_error)
      x86_raise_error(cpu, x86->pending_exception, x86->pending_error);
    else
      x86_raise(cpu, x86->pending_exception);
    cpu->exc_cr2 = x86->cr2;
    x86->pending_exception_valid = 0;
  }
  x86_update_hflags(cpu);
}

/* A pending trap's instruction is done: it is exported as a fault of the next one. A pending software interrupt is not
 * exported: its instruction is executed again after the import. */
static void export_pending(TcgCpu *cpu)
{
  X86Cpu *x86 = &cpu->x86;

  x86->pending_exception_valid = cpu->exc_pending && !cpu->exc_software;
  if (!x86->pending_exception_valid)
    return;
  x86->pending_exception = cpu->exc_vector;
  x86->pending_has_error = cpu->exc_has_error;
  x86->pending_error = cpu->exc_error;
  if (cpu->exc_is_trap)
    x86->rip = cpu->exc_next_rip;
  if (cpu->exc_vector == X86_EXC_PF)
    x86->cr2 = cpu->exc_cr2;
  if (cpu->exc_vector == X86_EXC_DB)
    x86->dr[6] |= cpu->exc_dr6;
}

void x86_tcg_export(TcgCpu *cpu)
{
  cpu->x86.rflags = tcg_get_rflags(cpu);
  x86_fpu_export(cpu);
  export_pending(cpu);
}

/*
 * The state of an x86 CPU after power-on, INIT and SIPI: AMD64 Architecture Programmer's Manual volume 2, 14.1
 * "Initialization" (table 14-1), and 14.1.3 for what INIT leaves alone.
 */
#include <string.h>

#include "vm-engine/x86/cpu.h"

#define PAT_DEFAULT              UINT64_C(0x0007040600070406)
#define MISC_ENABLE_FAST_STRINGS 1u
#define SMBASE_DEFAULT           0x30000u

static X86Segment real_mode_segment(uint16_t selector, uint32_t attr)
{
  return (X86Segment){ .selector = selector, .base = (uint64_t)selector << 4, .limit = 0xffff, .attr = attr };
}

static void reset_segments(X86Cpu *cpu)
{
  const uint32_t data = X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED;
  for (unsigned i = 0; i < X86_N_SEG; i++)
    cpu->seg[i] = real_mode_segment(0, data);
  cpu->seg[X86_CS] = real_mode_segment(0xf000, data | X86_ATTR_CODE);
  cpu->seg[X86_CS].base = 0xffff0000;
  cpu->seg[X86_LDTR] = real_mode_segment(0, X86_ATTR_P | 2 << 8);
  cpu->seg[X86_TR] = real_mode_segment(0, X86_ATTR_P | 11 << 8); /* busy: what KVM and VM entry want to see */
  cpu->gdt = cpu->idt = (X86Table){ .base = 0, .limit = 0xffff };
}

static void reset_fpu(X86Fpu *fpu)
{
  memset(fpu, 0, sizeof(*fpu));
  fpu->fcw = 0x37f; /* as FINIT leaves it, which firmware that never runs FINIT is content with */
  fpu->mxcsr = 0x1f80;
  fpu->mxcsr_mask = 0xffff;
}

/* What power-on clears and INIT keeps. */
static void reset_power_on(X86Cpu *cpu)
{
  *cpu = (X86Cpu){ 0 };
  cpu->pat = PAT_DEFAULT;
  cpu->misc_enable = MISC_ENABLE_FAST_STRINGS;
  cpu->mtrr_def_type = 0;
  cpu->smbase = SMBASE_DEFAULT;
  cpu->xcr0 = 1;
  reset_fpu(&cpu->fpu);
}

/* What both set. */
static void reset_common(X86Cpu *cpu, uint64_t cache_bits)
{
  memset(cpu->gpr, 0, sizeof(cpu->gpr));
  cpu->gpr[X86_RDX] = X86_SIGNATURE;
  cpu->rip = 0xfff0;
  cpu->rflags = X86_F_FIXED;
  reset_segments(cpu);
  cpu->cr0 = X86_CR0_ET | cache_bits;
  cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
  cpu->efer = 0;
  memset(cpu->dr, 0, sizeof(cpu->dr));
  cpu->dr[6] = 0xffff0ff0;
  cpu->dr[7] = 0x400;
  memset(cpu->pae_pdpte, 0, sizeof(cpu->pae_pdpte));
  cpu->interrupt_shadow = cpu->halted = 0;
  cpu->pending_exception_valid = cpu->pending_exception = cpu->pending_has_error = 0;
  cpu->pending_error = 0;
  cpu->pending_interrupt_valid = cpu->pending_interrupt = 0;
  cpu->nmi_masked = 0;
}

void x86_cpu_reset(X86Cpu *cpu, bool bsp, bool init)
{
  uint64_t cache_bits = X86_CR0_CD | X86_CR0_NW;
  if (init)
    cache_bits &= cpu->cr0;
  else
    reset_power_on(cpu);
  reset_common(cpu, cache_bits);
  cpu->in_smm = 0;
  cpu->wait_for_sipi = !bsp;
}

void x86_cpu_start_ap(X86Cpu *cpu, uint8_t vector)
{
  cpu->wait_for_sipi = 0;
  cpu->halted = 0;
  cpu->rip = 0;
  cpu->seg[X86_CS].selector = (uint16_t)(vector << 8);
  cpu->seg[X86_CS].base = (uint64_t)vector << 12;
}

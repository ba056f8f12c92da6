/*
 * Instructions on the flags beyond arithmetic: CLI, STI, PUSHF, POPF, STAC, CLAC, with what virtual-8086 mode and its
 * extensions (VME, PVI) make of them. Source: Intel SDM volume 3, chapter 20 (VM86) and volume 2.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

/* May this CPL only change the virtual interrupt flag? */
static bool has_virtual_if(const TcgCpu *cpu)
{
  if (sys_is_vm86(cpu))
    return cpu->x86.cr4 & X86_CR4_VME;
  return cpu->x86.cr4 & X86_CR4_PVI && sys_cpl(cpu) == 3;
}

uint64_t helper_cli(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (sys_cpl(cpu) <= sys_iopl(cpu))
    cpu->x86.rflags &= ~(uint64_t)X86_F_IF;
  else if (has_virtual_if(cpu))
    cpu->x86.rflags &= ~(uint64_t)X86_F_VIF;
  else
    x86_raise_error(cpu, X86_EXC_GP, 0);
  return 0;
}

uint64_t helper_sti(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (sys_cpl(cpu) <= sys_iopl(cpu)) {
    if (!(cpu->x86.rflags & X86_F_IF))
      cpu->x86.interrupt_shadow = 1;
    cpu->x86.rflags |= X86_F_IF;
    x86_update_hflags(cpu);
  } else if (has_virtual_if(cpu) && !(cpu->x86.rflags & X86_F_VIP)) {
    cpu->x86.rflags |= X86_F_VIF;
  } else {
    x86_raise_error(cpu, X86_EXC_GP, 0);
  }
  return 0;
}

/* Below IOPL 3, VM86 has PUSHF and POPF by VME only, of 16 bits. */
static bool check_vm86_flags(TcgCpu *cpu, unsigned bytes)
{
  if (!sys_is_vm86(cpu) || sys_iopl(cpu) == 3 || (cpu->x86.cr4 & X86_CR4_VME && bytes == 2))
    return true;
  x86_raise_error(cpu, X86_EXC_GP, 0);
  return false;
}

uint64_t helper_pushf(TcgCpu *cpu, uint64_t bytes, uint64_t b, uint64_t c)
{
  uint64_t flags = tcg_get_rflags(cpu) & ~(uint64_t)(X86_F_VM | X86_F_RF);

  if (!check_vm86_flags(cpu, (unsigned)bytes))
    return 0;
  if (sys_is_vm86(cpu) && sys_iopl(cpu) < 3)
    flags = (flags & ~(uint64_t)X86_F_IF) | X86_F_IOPL | (flags & X86_F_VIF ? X86_F_IF : 0);
  return flags;
}

uint64_t helper_check_popf(TcgCpu *cpu, uint64_t bytes, uint64_t b, uint64_t c)
{
  if (!check_vm86_flags(cpu, (unsigned)bytes))
    return 0; /* the fault is pending */
  return 0;
}

uint64_t helper_popf(TcgCpu *cpu, uint64_t image, uint64_t bytes, uint64_t c)
{
  uint64_t mask = sys_writable_flags(cpu, (unsigned)bytes);

  if (!check_vm86_flags(cpu, (unsigned)bytes))
    return 0;
  if (sys_is_vm86(cpu) && sys_iopl(cpu) < 3) {
    if (image & X86_F_TF || (image & X86_F_IF && cpu->x86.rflags & X86_F_VIP)) {
      x86_raise_error(cpu, X86_EXC_GP, 0);
      return 0;
    }
    image = image & X86_F_IF ? image | X86_F_VIF : image & ~(uint64_t)X86_F_VIF;
    mask |= X86_F_VIF;
  }
  /* RF goes whatever the image says. */
  tcg_set_rflags(cpu, (tcg_get_rflags(cpu) & ~(mask | X86_F_RF)) | (image & mask));
  return 0;
}

static uint64_t set_ac(TcgCpu *cpu, bool on)
{
  if (sys_cpl(cpu) != 0) {
    x86_raise(cpu, X86_EXC_UD);
    return 0;
  }
  cpu->x86.rflags = on ? cpu->x86.rflags | X86_F_AC : cpu->x86.rflags & ~(uint64_t)X86_F_AC;
  x86_update_hflags(cpu);
  return 0;
}

uint64_t helper_stac(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  return set_ac(cpu, true);
}

uint64_t helper_clac(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  return set_ac(cpu, false);
}

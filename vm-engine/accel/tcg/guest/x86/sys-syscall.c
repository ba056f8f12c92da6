/*
 * The fast system calls: SYSCALL and SYSRET, SYSENTER and SYSEXIT, SWAPGS.
 * Sources: AMD64 APM volume 3, Intel SDM volume 2. Where the two makers differ in which modes have an instruction, it
 * works here in all that either gives it.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

#define FLAT_CODE (X86_ATTR_P | X86_ATTR_S | X86_ATTR_CODE | X86_ATTR_RW | X86_ATTR_ACCESSED | X86_ATTR_G)
#define FLAT_DATA (X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED | X86_ATTR_G | X86_ATTR_DB)

static void set_flat_code(TcgCpu *cpu, uint16_t selector, unsigned cpl, bool code64)
{
  cpu->x86.seg[X86_CS] = (X86Segment){
    .selector = selector,
    .limit = 0xffffffff,
    .attr = FLAT_CODE | cpl << X86_ATTR_DPL_SHIFT | (code64 ? X86_ATTR_L : X86_ATTR_DB),
  };
}

static void set_flat_stack(TcgCpu *cpu, uint16_t selector, unsigned cpl)
{
  cpu->x86.seg[X86_SS] =
      (X86Segment){ .selector = selector, .limit = 0xffffffff, .attr = FLAT_DATA | cpl << X86_ATTR_DPL_SHIFT };
}

static bool begin_syscall(TcgCpu *cpu)
{
  if (cpu->x86.efer & X86_EFER_SCE && sys_is_protected(cpu))
    return true;
  x86_raise(cpu, X86_EXC_UD);
  return false;
}

uint64_t helper_syscall(TcgCpu *cpu, uint64_t next_rip, uint64_t b, uint64_t c)
{
  X86Cpu *x86 = &cpu->x86;
  uint16_t selector = (uint16_t)(x86->star >> 32 & 0xfffc);
  bool is_long = sys_is_long(cpu), from64 = sys_is_64bit(cpu);

  if (!begin_syscall(cpu))
    return 0;
  x86->gpr[X86_RCX] = is_long ? next_rip : next_rip & 0xffffffff;
  if (is_long) {
    uint64_t flags = tcg_get_rflags(cpu) & ~(uint64_t)X86_F_RF;
    x86->gpr[X86_R11] = flags;
    tcg_set_rflags(cpu, (flags & ~x86->sfmask) | X86_F_FIXED);
    x86->rip = from64 ? x86->lstar : x86->cstar;
  } else {
    tcg_set_rflags(cpu, tcg_get_rflags(cpu) & ~(uint64_t)(X86_F_IF | X86_F_VM | X86_F_RF));
    x86->rip = x86->star & 0xffffffff;
  }
  set_flat_code(cpu, selector, 0, is_long);
  set_flat_stack(cpu, (uint16_t)(selector + 8), 0);
  x86_update_hflags(cpu);
  sys_end_transfer(cpu, x86->rflags & X86_F_TF);
  return 0;
}

uint64_t helper_sysret(TcgCpu *cpu, uint64_t bytes, uint64_t b, uint64_t c)
{
  X86Cpu *x86 = &cpu->x86;
  bool to64 = bytes == 8, is_long = sys_is_long(cpu);
  uint16_t base = (uint16_t)(x86->star >> 48);

  if (!begin_syscall(cpu) || !sys_require_cpl0(cpu))
    return 0;
  if (to64 && !x86_is_canonical(x86->gpr[X86_RCX])) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  x86->rip = to64 ? x86->gpr[X86_RCX] : x86->gpr[X86_RCX] & 0xffffffff;
  if (is_long)
    tcg_set_rflags(cpu, (x86->gpr[X86_R11] & 0x3c7fd5) | X86_F_FIXED);
  else
    x86->rflags |= X86_F_IF;
  set_flat_code(cpu, (uint16_t)((base + (to64 ? 16 : 0)) | 3), 3, to64);
  set_flat_stack(cpu, (uint16_t)((base + 8) | 3), 3);
  x86_update_hflags(cpu);
  sys_end_transfer(cpu, x86->rflags & X86_F_TF);
  return 0;
}

uint64_t helper_sysenter(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  X86Cpu *x86 = &cpu->x86;
  uint16_t selector = (uint16_t)(x86->sysenter_cs & 0xfffc);
  bool is_long = sys_is_long(cpu);

  if (!(x86->cr0 & X86_CR0_PE) || !selector) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  x86->rflags &= ~(uint64_t)(X86_F_VM | X86_F_IF | X86_F_RF);
  x86->gpr[X86_RSP] = is_long ? x86->sysenter_esp : x86->sysenter_esp & 0xffffffff;
  x86->rip = is_long ? x86->sysenter_eip : x86->sysenter_eip & 0xffffffff;
  set_flat_code(cpu, selector, 0, is_long);
  set_flat_stack(cpu, (uint16_t)(selector + 8), 0);
  x86_update_hflags(cpu);
  sys_end_transfer(cpu, x86->rflags & X86_F_TF);
  return 0;
}

uint64_t helper_sysexit(TcgCpu *cpu, uint64_t bytes, uint64_t b, uint64_t c)
{
  X86Cpu *x86 = &cpu->x86;
  uint16_t base = (uint16_t)(x86->sysenter_cs & 0xfffc);
  bool to64 = bytes == 8;
  uint64_t rip = x86->gpr[X86_RDX], rsp = x86->gpr[X86_RCX];

  if (!sys_is_protected(cpu) || sys_cpl(cpu) != 0 || !base ||
      (to64 && (!x86_is_canonical(rip) || !x86_is_canonical(rsp)))) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  x86->rip = to64 ? rip : rip & 0xffffffff;
  x86->gpr[X86_RSP] = to64 ? rsp : rsp & 0xffffffff;
  set_flat_code(cpu, (uint16_t)((base + (to64 ? 32 : 16)) | 3), 3, to64);
  set_flat_stack(cpu, (uint16_t)((base + (to64 ? 40 : 24)) | 3), 3);
  x86_update_hflags(cpu);
  sys_end_transfer(cpu, x86->rflags & X86_F_TF);
  return 0;
}

uint64_t helper_swapgs(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  X86Cpu *x86 = &cpu->x86;
  uint64_t base = x86->seg[X86_GS].base;

  if (!sys_is_64bit(cpu)) {
    x86_raise(cpu, X86_EXC_UD);
    return 0;
  }
  if (!sys_require_cpl0(cpu))
    return 0;
  x86->seg[X86_GS].base = x86->kernel_gs_base;
  x86->kernel_gs_base = base;
  return 0;
}

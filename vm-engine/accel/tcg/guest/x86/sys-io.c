/*
 * Port I/O: the right to it (IOPL, then the TSS's bitmap), the access, and I/O breakpoints.
 * Source: Intel SDM volume 1, chapter 19.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"
#include "vm-engine/vcpu.h"

/* The bitmap's two bytes around the port are read together, as the processor does: the last one must have an end byte. */
static bool bitmap_allows(TcgCpu *cpu, unsigned port, unsigned size)
{
  const X86Segment *tr = &cpu->x86.seg[X86_TR];
  uint16_t io_base, bits;

  if (!(tr->attr & X86_ATTR_P) || (tr->attr >> 8 & 15) < SYS_TSS32 || tr->limit < 103)
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (!x86_read_u16(cpu, tr->base + 102, &io_base, TCG_MMU_KERNEL))
    return false;
  uint32_t offset = io_base + port / 8;
  if (offset + 1 > tr->limit)
    return sys_fail(cpu, X86_EXC_GP, 0);
  if (!x86_read_u16(cpu, tr->base + offset, &bits, TCG_MMU_KERNEL))
    return false;
  unsigned mask = (1u << size) - 1;
  return !(bits >> (port & 7) & mask) || sys_fail(cpu, X86_EXC_GP, 0);
}

static bool check_port(TcgCpu *cpu, unsigned port, unsigned size)
{
  if (!(cpu->x86.cr0 & X86_CR0_PE) || (!sys_is_vm86(cpu) && sys_cpl(cpu) <= sys_iopl(cpu)))
    return true;
  return bitmap_allows(cpu, port, size);
}

/* Breakpoints of DR7's type 2, under CR4.DE. */
static void note_io_breakpoint(TcgCpu *cpu, unsigned port, unsigned size)
{
  static const uint8_t lengths[4] = { 1, 2, 8, 4 };
  uint64_t dr7 = cpu->x86.dr[7];

  if (!(dr7 & 0xff) || !(cpu->x86.cr4 & X86_CR4_DE))
    return;
  for (unsigned i = 0; i < 4; i++) {
    unsigned length = lengths[dr7 >> (18 + 4 * i) & 3];
    uint64_t start = cpu->x86.dr[i] & ~(uint64_t)(length - 1);
    if (dr7 >> (2 * i) & 3 && (dr7 >> (16 + 4 * i) & 3) == 2 && port < start + length && start < port + size)
      cpu->watch_hit |= (uint8_t)(1u << i);
  }
}

/* What a device did may be an interrupt, a new map or a reset: the main loop has to see it before the next instruction
 * counts on it. */
static void end_access(TcgCpu *cpu, unsigned port, unsigned size)
{
  note_io_breakpoint(cpu, port, size);
  if (cpu->vcpu && vm_cpu_requests(cpu->vcpu))
    cpu->exit_block = 1;
}

uint64_t helper_check_io(TcgCpu *cpu, uint64_t port, uint64_t size, uint64_t c)
{
  if (!check_port(cpu, port & 0xffff, size & 7))
    return 0; /* the fault is pending */
  return 0;
}

uint64_t helper_in(TcgCpu *cpu, uint64_t port, uint64_t size, uint64_t c)
{
  if (!check_port(cpu, port & 0xffff, size & 7))
    return 0;
  uint32_t fp = x86_host_fp_begin();
  uint32_t value = vm_port_read(cpu->memory, (uint16_t)port, size & 7);
  x86_host_fp_end(fp);
  end_access(cpu, port & 0xffff, size & 7);
  return value;
}

uint64_t helper_out(TcgCpu *cpu, uint64_t port, uint64_t size, uint64_t value)
{
  if (!check_port(cpu, port & 0xffff, size & 7))
    return 0;
  uint32_t fp = x86_host_fp_begin();
  vm_port_write(cpu->memory, (uint16_t)port, (uint32_t)value, size & 7);
  x86_host_fp_end(fp);
  end_access(cpu, port & 0xffff, size & 7);
  return 0;
}

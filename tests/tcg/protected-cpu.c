#include "tests/tcg/protected-cpu.h"

#define ATTR(type, flags) ((uint32_t)(type) << 8 | (uint32_t)(flags) << 20)
#define FLAT32            0xcu /* G, D */
#define LONG64            0xau /* G, L */

void set_descriptor(BareCpu *b, uint16_t selector, uint32_t base, uint32_t limit, uint32_t attr)
{
  uint32_t raw_limit = attr & X86_ATTR_G ? limit >> 12 : limit;

  bare_poke(b, GDT + (selector & 0xfff8u), base << 16 | (raw_limit & 0xffff), 4);
  bare_poke(b, GDT + (selector & 0xfff8u) + 4, (base >> 16 & 0xff) | attr | (raw_limit & 0xf0000) | (base & 0xff000000),
            4);
}

static void set_call_gate(BareCpu *b, uint16_t selector, uint16_t target, uint32_t offset, unsigned n_args,
                          unsigned type)
{
  bare_poke(b, GDT + (selector & 0xfff8u), (uint32_t)target << 16 | (offset & 0xffff), 4);
  bare_poke(b, GDT + (selector & 0xfff8u) + 4, (offset & 0xffff0000) | type << 8 | n_args, 4);
}

static void set_tables(BareCpu *b, unsigned code_flags)
{
  set_descriptor(b, CODE0, 0, 0xffffffff, ATTR(0x9a, code_flags));
  set_descriptor(b, DATA0, 0, 0xffffffff, ATTR(0x92, FLAT32));
  set_descriptor(b, CODE3, 0, 0xffffffff, ATTR(0xfa, code_flags));
  set_descriptor(b, DATA3, 0, 0xffffffff, ATTR(0xf2, FLAT32));
  set_descriptor(b, TASK_A, TSS_A, 0x7ff, ATTR(0x89, 0));
  set_descriptor(b, CONFORMING, 0, 0xffffffff, ATTR(0x9e, code_flags));
  set_descriptor(b, ABSENT, 0, 0xffffffff, ATTR(0x12, FLAT32));
  set_descriptor(b, TABLE_LOCAL, LDT, 0x1f, ATTR(0x82, 0));
  set_descriptor(b, READ_ONLY3, 0, 0xffffffff, ATTR(0xf0, FLAT32));
  set_descriptor(b, EXECUTE_ONLY3, 0, 0xffffffff, ATTR(0xf8, FLAT32));
  set_descriptor(b, STACK16, 0, 0xffff, ATTR(0x92, 0));
  set_descriptor(b, EXPAND_DOWN, 0, 0x0fff, ATTR(0x96, 4));
  set_descriptor(b, CODE3_COMPAT, 0, 0xffffffff, ATTR(0xfa, FLAT32));
  b->cpu->x86.gdt = (X86Table){ .base = GDT, .limit = GDT_END - 1 };
  b->cpu->x86.idt = (X86Table){ .base = IDT, .limit = 0xfff };
}

static void load_initial_segments(BareCpu *b)
{
  static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

  set_ring(b, 0, 0x6000, 0xa000);
  for (unsigned i = 0; i < G_N_ELEMENTS(data); i++)
    helper_load_seg(b->cpu, data[i], DATA0, 0);
  helper_ltr(b->cpu, TASK_A, 0, 0);
  bare_expect_none(b);
}

BareCpu *protected_cpu_new(void)
{
  BareCpu *b = bare_cpu_new();

  set_tables(b, FLAT32);
  set_descriptor(b, TASK_B, TSS_B, 0x67, ATTR(0x89, 0));
  set_call_gate(b, GATE_CALL, CODE0, 0x5000, 2, 0xec);
  set_call_gate(b, GATE_TASK, TASK_B, 0, 0, 0xe5);
  bare_poke(b, TSS_A + 4, STACK0, 4);
  bare_poke(b, TSS_A + 8, DATA0, 4);
  b->cpu->x86.cr0 |= X86_CR0_PE;
  load_initial_segments(b);
  return b;
}

BareCpu *long_cpu_new(void)
{
  BareCpu *b = bare_cpu_new();

  set_tables(b, LONG64);
  set_call_gate(b, GATE_LONG, CODE0, 0x5000, 0, 0xec);
  bare_poke(b, TSS_A + 4, STACK0, 8);
  bare_poke(b, TSS_A + 36, STACK_IST, 8);
  bare_poke(b, 0x10000, 0x11007, 8);
  bare_poke(b, 0x11000, 0x12007, 8);
  for (unsigned i = 0; i < 8; i++)
    bare_poke(b, 0x12000 + 8 * i, i * 0x200000u | 0x87, 8);
  b->cpu->x86.cr0 |= X86_CR0_PE;
  b->cpu->x86.efer = X86_EFER_LME;
  b->cpu->x86.cr4 = X86_CR4_PAE;
  b->cpu->x86.cr3 = 0x10000;
  helper_write_cr(b->cpu, 0, b->cpu->x86.cr0 | X86_CR0_PG, 0);
  load_initial_segments(b);
  return b;
}

void set_ring(BareCpu *b, unsigned cpl, uint64_t rip, uint64_t rsp)
{
  TcgCpu *cpu = b->cpu;
  uint16_t cs = cpl ? CODE3 : CODE0, ss = cpl ? DATA3 : DATA0;
  SysDescriptor d;

  g_assert_true(sys_read_descriptor(cpu, cs, &d, X86_EXC_GP));
  sys_set_segment(cpu, X86_CS, cs, &d);
  g_assert_true(sys_read_descriptor(cpu, ss, &d, X86_EXC_GP));
  sys_set_segment(cpu, X86_SS, ss, &d);
  cpu->x86.rip = rip;
  cpu->x86.gpr[X86_RSP] = rsp;
  x86_update_hflags(cpu);
  g_assert_cmpuint(cpu->hflags & TCG_HF_CPL, ==, cpl);
}

void set_gate(BareCpu *b, unsigned vector, uint16_t selector, uint32_t offset, unsigned type)
{
  bare_poke(b, IDT + vector * 8, (uint32_t)selector << 16 | (offset & 0xffff), 4);
  bare_poke(b, IDT + vector * 8 + 4, (offset & 0xffff0000) | type << 8, 4);
}

void set_long_gate(BareCpu *b, unsigned vector, uint16_t selector, uint64_t offset, unsigned type, unsigned ist)
{
  bare_poke(b, IDT + vector * 16, (uint32_t)selector << 16 | (offset & 0xffff), 4);
  bare_poke(b, IDT + vector * 16 + 4, (offset & 0xffff0000) | type << 8 | ist, 4);
  bare_poke(b, IDT + vector * 16 + 8, offset >> 32, 8);
}

bool deliver_fault(BareCpu *b, unsigned vector, int64_t error)
{
  if (error < 0)
    x86_raise(b->cpu, vector);
  else
    x86_raise_error(b->cpu, vector, (uint32_t)error);
  return x86_deliver_exception(b->cpu);
}

uint64_t stack_at(BareCpu *b, unsigned n, unsigned bytes)
{
  return bare_peek(b, b->cpu->x86.gpr[X86_RSP] + n * bytes, bytes);
}

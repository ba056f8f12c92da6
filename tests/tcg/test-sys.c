/*
 * Exceptions, interrupts, segments, far transfers and tasks of the x86 guest.
 */
#include "tests/tcg/protected-cpu.h"

#define INT32      0x8eu /* interrupt gate, DPL 0 */
#define INT32_USER 0xeeu
#define TRAP32     0x8fu
#define INT16      0x86u
#define TASKGATE   0x85u

/* ---- real mode ------------------------------------------------------------------------------------------------------ */

static void test_real_interrupt(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  bare_poke(b, 0x21 * 4, 0x12345678, 4);
  sys_set_real(b->cpu, X86_CS, 0x100);
  x86->rip = 0x50;
  x86->gpr[X86_RSP] = 0xabcd0002; /* wraps below 0 within 64 KiB */
  tcg_set_rflags(b->cpu, X86_F_IF | X86_F_CF | X86_F_AC);
  helper_int_n(b->cpu, 0x21, 0x52, 0);
  g_assert_true(x86_deliver_exception(b->cpu));
  g_assert_cmphex(x86->seg[X86_CS].selector, ==, 0x1234);
  g_assert_cmphex(x86->seg[X86_CS].base, ==, 0x12340);
  g_assert_cmphex(x86->rip, ==, 0x5678);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, 0xabcdfffc);
  g_assert_cmphex(bare_peek(b, 0xfffc, 2), ==, 0x52);
  g_assert_cmphex(bare_peek(b, 0xfffe, 2), ==, 0x100);
  g_assert_cmphex(bare_peek(b, 0, 2), ==, X86_F_IF | X86_F_CF | 2);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_CF | 2);

  helper_iret(b->cpu, 2, 0, 0);
  bare_expect_none(b);
  g_assert_cmphex(x86->rip, ==, 0x52);
  g_assert_cmphex(x86->seg[X86_CS].base, ==, 0x1000);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, 0xabcd0002);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_IF | X86_F_CF | 2);
}

/* A fault's return address is the instruction itself; hardware interrupts end a HLT. */
static void test_real_fault(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  bare_poke(b, 6 * 4, 0x00007000, 4);
  bare_poke(b, 8 * 4, 0x00007100, 4);
  x86->rip = 0x1234;
  x86->gpr[X86_RSP] = 0x8000;
  g_assert_true(deliver_fault(b, X86_EXC_UD, -1));
  g_assert_cmphex(bare_peek(b, 0x7ffa, 2), ==, 0x1234);
  x86->halted = 1;
  g_assert_true(x86_deliver_interrupt(b->cpu, 8, false));
  g_assert_cmphex(x86->rip, ==, 0x7100);
  g_assert_false(x86->halted);
}

static void test_real_table_limit(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();

  b->cpu->x86.idt.limit = 8 * 4 + 3; /* #DF is there, #GP is not */
  bare_poke(b, 8 * 4, 0x00007000, 4);
  b->cpu->x86.gpr[X86_RSP] = 0x8000;
  g_assert_true(deliver_fault(b, X86_EXC_BR, -1));
  b->cpu->x86.idt.limit = 3;
  g_assert_false(deliver_fault(b, X86_EXC_UD, -1));
}

/* ---- protected mode --------------------------------------------------------------------------------------------------- */

static void test_same_level(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  set_gate(b, X86_EXC_GP, CODE0, HANDLER, INT32);
  tcg_set_rflags(b->cpu, X86_F_IF | X86_F_TF | X86_F_NT | X86_F_ZF);
  g_assert_true(deliver_fault(b, X86_EXC_GP, 0x1234));
  g_assert_cmphex(x86->rip, ==, HANDLER);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, 0xa000 - 16);
  g_assert_cmphex(stack_at(b, 0, 4), ==, 0x1234);
  g_assert_cmphex(stack_at(b, 1, 4), ==, 0x6000);
  g_assert_cmphex(stack_at(b, 2, 4), ==, CODE0);
  g_assert_cmphex(stack_at(b, 3, 4), ==, X86_F_IF | X86_F_TF | X86_F_NT | X86_F_ZF | X86_F_RF | 2);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_ZF | 2);
  g_assert_true(bare_peek(b, GDT + CODE0 + 5, 1) & 1); /* accessed */
}

static void test_trap_gate(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  set_gate(b, 0x40, CODE0, HANDLER, TRAP32);
  tcg_set_rflags(b->cpu, X86_F_IF);
  g_assert_true(x86_deliver_interrupt(b->cpu, 0x40, false));
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_IF | 2);
  g_assert_cmphex(stack_at(b, 2, 4), ==, X86_F_IF | 2); /* no RF for interrupts */
}

static void test_inner_level(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  set_gate(b, 0x80, CODE0, HANDLER, INT32_USER);
  set_ring(b, 3, 0x6000, STACK3);
  tcg_set_rflags(b->cpu, X86_F_IF);
  helper_int_n(b->cpu, 0x80, 0x6002, 0);
  g_assert_true(x86_deliver_exception(b->cpu));
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  g_assert_cmphex(x86->seg[X86_SS].selector, ==, DATA0);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK0 - 20);
  g_assert_cmphex(stack_at(b, 0, 4), ==, 0x6002);
  g_assert_cmphex(stack_at(b, 1, 4), ==, CODE3);
  g_assert_cmphex(stack_at(b, 2, 4), ==, X86_F_IF | 2);
  g_assert_cmphex(stack_at(b, 3, 4), ==, STACK3);
  g_assert_cmphex(stack_at(b, 4, 4), ==, DATA3);

  helper_iret(b->cpu, 4, 0, 0);
  bare_expect_none(b);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
  g_assert_cmphex(x86->rip, ==, 0x6002);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK3);
  g_assert_cmphex(x86->seg[X86_DS].selector, ==, 0); /* ring 0's data is not for ring 3 */
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_IF | 2);
}

static void test_narrow_gate(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  set_gate(b, X86_EXC_NP, CODE0, 0xffff7000, INT16);
  g_assert_true(deliver_fault(b, X86_EXC_NP, 0x18));
  g_assert_cmphex(b->cpu->x86.rip, ==, 0x7000);
  g_assert_cmphex(b->cpu->x86.gpr[X86_RSP], ==, 0xa000 - 8);
  g_assert_cmphex(stack_at(b, 0, 2), ==, 0x18);
  g_assert_cmphex(stack_at(b, 1, 2), ==, 0x6000);
}

/* What is wrong with a gate shows in the error code of the fault that is delivered instead. */
static void test_gate_errors(void)
{
  static const struct {
    unsigned type, cpl, vector, error;
    uint16_t selector;
    bool software;
  } rows[] = {
    { INT32, 3, X86_EXC_GP, 0x30 * 8 + 2, CODE0, true },      /* DPL 0 for INT n in ring 3 */
    { 0x0e, 0, X86_EXC_NP, 0x30 * 8 + 2, CODE0, true },       /* not present */
    { 0x0e, 0, X86_EXC_NP, 0x30 * 8 + 3, CODE0, false },      /* the same, external */
    { 0x8c, 0, X86_EXC_GP, 0x30 * 8 + 3, CODE0, false },      /* a call gate */
    { INT32, 0, X86_EXC_GP, 1, 0, false },                    /* null selector */
    { INT32, 0, X86_EXC_GP, DATA0 | 1, DATA0, false },        /* no code */
    { INT32, 0, X86_EXC_GP, (CODE3 & ~3) | 1, CODE3, false }, /* outwards */
    { INT32, 0, X86_EXC_GP, 0x7f9, 0x7f8, false },            /* beyond the table */
  };

  for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(BareCpu) b = protected_cpu_new();
    set_gate(b, 0x30, rows[i].selector, HANDLER, rows[i].type);
    set_gate(b, rows[i].vector, CODE0, HANDLER + 0x100, INT32);
    set_ring(b, rows[i].cpl, 0x6000, STACK3);
    if (rows[i].software) {
      helper_int_n(b->cpu, 0x30, 0x6002, 0);
      g_assert_true(x86_deliver_exception(b->cpu));
    } else {
      g_assert_true(x86_deliver_interrupt(b->cpu, 0x30, false));
    }
    g_assert_cmphex(b->cpu->x86.rip, ==, HANDLER + 0x100);
    g_assert_cmphex(stack_at(b, 0, 4), ==, rows[i].error);
    g_assert_cmphex(stack_at(b, 1, 4), ==, 0x6000);
  }
}

static void test_inner_stack_errors(void)
{
  static const struct {
    uint16_t ss;
    unsigned vector, error;
  } rows[] = {
    { 0, X86_EXC_TS, 1 },
    { DATA3, X86_EXC_TS, (DATA3 & ~3) | 1 },
    { CODE0, X86_EXC_TS, CODE0 | 1 },
    { ABSENT, X86_EXC_SS, ABSENT | 1 },
    { 0x7f0, X86_EXC_TS, 0x7f1 },
  };

  for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(BareCpu) b = protected_cpu_new();
    set_gate(b, 0x30, CODE0, HANDLER, INT32);
    set_gate(b, rows[i].vector, CONFORMING, HANDLER, INT32); /* stays in ring 3 */
    bare_poke(b, TSS_A + 8, rows[i].ss, 2);
    set_ring(b, 3, 0x6000, STACK3);
    g_assert_true(x86_deliver_interrupt(b->cpu, 0x30, false));
    g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
    g_assert_cmphex(stack_at(b, 0, 4), ==, rows[i].error);
  }
}

static void test_double_fault(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  set_gate(b, X86_EXC_DF, CODE0, HANDLER, INT32);
  g_assert_true(deliver_fault(b, X86_EXC_GP, 0x10)); /* #GP's gate is empty: #GP again */
  g_assert_cmphex(b->cpu->x86.rip, ==, HANDLER);
  g_assert_cmphex(stack_at(b, 0, 4), ==, 0);
  g_assert_cmphex(stack_at(b, 1, 4), ==, 0x6000);

  set_gate(b, X86_EXC_DF, 0, 0, 0);
  g_assert_false(deliver_fault(b, X86_EXC_GP, 0x10));
}

/* A benign exception whose delivery fails is followed by that failure, no double fault. */
static void test_benign_then_fault(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  set_gate(b, X86_EXC_GP, CODE0, HANDLER, INT32);
  g_assert_true(deliver_fault(b, X86_EXC_UD, -1));
  g_assert_cmphex(b->cpu->x86.rip, ==, HANDLER);
  g_assert_cmphex(stack_at(b, 0, 4), ==, X86_EXC_UD * 8 + 3);
}

/* #GP, then #PF: the second is delivered. #PF, then #PF: double. CR2 holds the last one's address. */
static void test_page_fault_chain(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  bare_poke(b, 0x10000, 0x0 | 0x83, 4); /* 4 MiB: the low ones are there */
  helper_write_cr(b->cpu, 4, X86_CR4_PSE, 0);
  helper_write_cr(b->cpu, 3, 0x10000, 0);
  helper_write_cr(b->cpu, 0, x86->cr0 | X86_CR0_PG, 0);
  set_gate(b, X86_EXC_PF, CODE0, HANDLER, INT32);
  set_gate(b, X86_EXC_DF, TASK_B, 0, TASKGATE);
  for (unsigned i = 0; i < 0x68; i += 4)
    bare_poke(b, TSS_B + i, 0, 4);
  bare_poke(b, TSS_B + 0x1c, 0x10000, 4);
  bare_poke(b, TSS_B + 0x20, HANDLER + 0x80, 4);
  bare_poke(b, TSS_B + 0x38, STACK0, 4);
  bare_poke(b, TSS_B + 0x4c, CODE0, 4);
  bare_poke(b, TSS_B + 0x50, DATA0, 4);

  x86_raise_page_fault(b->cpu, 0x12345678, 2);
  g_assert_true(x86_deliver_exception(b->cpu));
  g_assert_cmphex(x86->cr2, ==, 0x12345678);
  g_assert_cmphex(stack_at(b, 0, 4), ==, 2);

  x86->gpr[X86_RSP] = 0x800000; /* no stack: #PF on the way, then #DF through its task */
  x86_raise_page_fault(b->cpu, 0x87654321, 0);
  g_assert_true(x86_deliver_exception(b->cpu));
  g_assert_cmphex(x86->seg[X86_TR].selector, ==, TASK_B);
  g_assert_cmphex(x86->rip, ==, HANDLER + 0x80);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK0 - 4);
  g_assert_cmphex(stack_at(b, 0, 4), ==, 0);
  g_assert_cmphex(x86->cr2, ==, 0x7ffffc);
  g_assert_true(x86->rflags & X86_F_NT);
}

/* ---- VM86 ------------------------------------------------------------------------------------------------------------------ */

static void enter_vm86(BareCpu *b, unsigned iopl)
{
  uint64_t *sp = &b->cpu->x86.gpr[X86_RSP];
  static const uint16_t segments[] = { 0x500, 0x400, 0x300, 0x200 }; /* GS FS DS ES */

  for (unsigned i = 0; i < 4; i++)
    bare_poke(b, *sp -= 4, segments[i], 4);
  bare_poke(b, *sp -= 4, 0x900, 4); /* SS */
  bare_poke(b, *sp -= 4, 0x100, 4); /* SP */
  bare_poke(b, *sp -= 4, X86_F_VM | X86_F_IF | iopl << 12, 4);
  bare_poke(b, *sp -= 4, 0x1000, 4); /* CS */
  bare_poke(b, *sp -= 4, 0x22, 4);
  helper_iret(b->cpu, 4, 0, 0);
  bare_expect_none(b);
}

static void test_vm86(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  enter_vm86(b, 0);
  g_assert_true(b->cpu->hflags & TCG_HF_VM);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
  g_assert_cmphex(x86->seg[X86_CS].base, ==, 0x10000);
  g_assert_cmphex(x86->seg[X86_GS].base, ==, 0x5000);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, 0x100);

  helper_int_n(b->cpu, 0x21, 0x24, 0); /* IOPL 0: not its own */
  bare_expect(b, X86_EXC_GP, 0);
  set_gate(b, X86_EXC_GP, CODE0, HANDLER, INT32);
  g_assert_true(deliver_fault(b, X86_EXC_GP, 0));
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  g_assert_false(b->cpu->hflags & TCG_HF_VM);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK0 - 40);
  g_assert_cmphex(stack_at(b, 1, 4), ==, 0x22);
  g_assert_cmphex(stack_at(b, 2, 4), ==, 0x1000);
  g_assert_cmphex(stack_at(b, 3, 4), ==, X86_F_VM | X86_F_IF | X86_F_RF | 2);
  g_assert_cmphex(stack_at(b, 5, 4), ==, 0x900);
  g_assert_cmphex(stack_at(b, 6, 4), ==, 0x200);
  g_assert_cmphex(stack_at(b, 9, 4), ==, 0x500);
  g_assert_cmphex(x86->seg[X86_DS].attr, ==, 0);
}

static void test_vme(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  x86->cr4 |= X86_CR4_VME;
  bare_poke(b, TSS_A + 102, 0x100, 2);           /* I/O bitmap; the redirection bitmap is in front of it */
  bare_poke(b, TSS_A + 0x100 - 32 + 2, 0xff, 1); /* INT 10–17: to the monitor */
  bare_poke(b, 0x21 * 4, 0x20000042, 4);
  enter_vm86(b, 0);
  helper_sti(b->cpu, 0, 0, 0);
  g_assert_true(x86->rflags & X86_F_VIF);
  helper_int_n(b->cpu, 0x21, 0x24, 0);
  bare_expect_none(b);
  g_assert_cmphex(x86->seg[X86_CS].base, ==, 0x20000);
  g_assert_cmphex(x86->rip, ==, 0x42);
  g_assert_cmphex(bare_peek(b, 0x9000 + 0xfe, 2), ==, X86_F_IF | X86_F_IOPL | 2);
  g_assert_false(x86->rflags & X86_F_VIF);
  g_assert_true(x86->rflags & X86_F_IF);
  helper_iret(b->cpu, 2, 0, 0);
  bare_expect_none(b);
  g_assert_true(x86->rflags & X86_F_VIF);
  g_assert_cmphex(x86->rip, ==, 0x24);

  helper_int_n(b->cpu, 0x10, 0x24, 0);
  bare_expect(b, X86_EXC_GP, 0);
  helper_iret(b->cpu, 4, 0, 0); /* the 32-bit form is not virtual */
  bare_expect(b, X86_EXC_GP, 0);
}

/* ---- long mode ----------------------------------------------------------------------------------------------------------------- */

static void test_long_interrupt(void)
{
  g_autoptr(BareCpu) b = long_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  g_assert_true(b->cpu->hflags & TCG_HF_CS64);
  set_long_gate(b, 0x80, CODE0, HANDLER, INT32_USER, 0);
  set_ring(b, 3, 0x6000, 0xb003);
  helper_int_n(b->cpu, 0x80, 0x6002, 0);
  g_assert_true(x86_deliver_exception(b->cpu));
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  g_assert_cmphex(x86->seg[X86_SS].selector, ==, 0);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK0 - 40);
  g_assert_cmphex(stack_at(b, 0, 8), ==, 0x6002);
  g_assert_cmphex(stack_at(b, 1, 8), ==, CODE3);
  g_assert_cmphex(stack_at(b, 3, 8), ==, 0xb003);
  g_assert_cmphex(stack_at(b, 4, 8), ==, DATA3);
  helper_iret(b->cpu, 8, 0, 0);
  bare_expect_none(b);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, 0xb003);
  g_assert_cmphex(x86->seg[X86_SS].selector, ==, DATA3);
}

static void test_long_ist(void)
{
  g_autoptr(BareCpu) b = long_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  set_long_gate(b, X86_EXC_DF, CODE0, HANDLER, INT32, 1);
  set_long_gate(b, X86_EXC_GP, CODE0, HANDLER, INT32, 0);
  x86->gpr[X86_RSP] = 0xa008;
  g_assert_true(deliver_fault(b, X86_EXC_GP, 0x18)); /* same level: its own stack, aligned */
  g_assert_cmphex(x86->gpr[X86_RSP], ==, 0xa000 - 48);
  g_assert_cmphex(stack_at(b, 4, 8), ==, 0xa008);

  x86->gpr[X86_RSP] = UINT64_C(0x900000000000); /* #GP, #SS for the stack: #DF, on its own */
  g_assert_true(deliver_fault(b, X86_EXC_GP, 0));
  g_assert_cmphex(x86->gpr[X86_RSP], ==, (STACK_IST & ~15u) - 48);
  g_assert_cmphex(stack_at(b, 0, 8), ==, 0);
  g_assert_cmphex(stack_at(b, 4, 8), ==, UINT64_C(0x900000000000));
  g_assert_cmphex(stack_at(b, 5, 8), ==, DATA0);

  helper_iret(b->cpu, 8, 0, 0); /* to the error code for an address: not code, but where it says */
  bare_expect(b, X86_EXC_GP, HANDLER & 0xfffc);
}

static void test_long_iret_compat(void)
{
  g_autoptr(BareCpu) b = long_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;
  const uint64_t frame[] = { 0x6543, CODE3_COMPAT, X86_F_IF, 0xffffffff0000b000, DATA3 };

  x86->gpr[X86_RSP] = 0x8000;
  for (unsigned i = 0; i < G_N_ELEMENTS(frame); i++)
    bare_poke(b, 0x8000 + 8 * i, frame[i], 8);
  helper_iret(b->cpu, 8, 0, 0);
  bare_expect_none(b);
  g_assert_false(b->cpu->hflags & TCG_HF_CS64);
  g_assert_true(b->cpu->hflags & TCG_HF_CS32);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, 0xb000);
  g_assert_cmphex(x86->rip, ==, 0x6543);
}

/* Ring 0 may return to 64-bit code with a null SS; a task gate or NT does not exist. */
static void test_long_iret_null(void)
{
  g_autoptr(BareCpu) b = long_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;
  const uint64_t frame[] = { 0x6000, CODE0, 0, 0xa000, 0 };

  x86->gpr[X86_RSP] = 0x8000;
  for (unsigned i = 0; i < G_N_ELEMENTS(frame); i++)
    bare_poke(b, 0x8000 + 8 * i, frame[i], 8);
  helper_iret(b->cpu, 8, 0, 0);
  bare_expect_none(b);
  g_assert_cmphex(x86->seg[X86_SS].selector, ==, 0);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  x86->rflags |= X86_F_NT;
  helper_iret(b->cpu, 8, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
}

static void test_long_call_gate(void)
{
  g_autoptr(BareCpu) b = long_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  set_ring(b, 3, 0x6000, STACK3);
  helper_far_call(b->cpu, GATE_LONG | 8 << 16, 0, 0x6007);
  bare_expect_none(b);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  g_assert_cmphex(x86->rip, ==, 0x5000);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK0 - 32);
  g_assert_cmphex(stack_at(b, 0, 8), ==, 0x6007);
  g_assert_cmphex(stack_at(b, 2, 8), ==, STACK3);
  helper_far_ret(b->cpu, 8, 0, 0);
  bare_expect_none(b);
  g_assert_cmphex(x86->rip, ==, 0x6007);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK3);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
}

/* ---- segments -------------------------------------------------------------------------------------------------------------------- */

static void test_load_checks(void)
{
  static const struct {
    unsigned cpl, sreg;
    uint16_t selector;
    int vector; /* -1: loads */
    int64_t error;
  } rows[] = {
    { 0, X86_DS, DATA0, -1, 0 },
    { 0, X86_DS, 0, -1, 0 },
    { 0, X86_DS, 3, -1, 0 },
    { 0, X86_SS, 0, X86_EXC_GP, 0 },
    { 0, X86_SS, DATA3, X86_EXC_GP, DATA3 & ~3 },
    { 0, X86_SS, CODE0, X86_EXC_GP, CODE0 },
    { 0, X86_SS, ABSENT, X86_EXC_SS, ABSENT },
    { 0, X86_DS, ABSENT, X86_EXC_NP, ABSENT },
    { 3, X86_DS, DATA0, X86_EXC_GP, DATA0 },
    { 3, X86_DS, DATA3, -1, 0 },
    { 3, X86_DS, DATA3 & ~3, -1, 0 },
    { 0, X86_DS, DATA0 | 3, X86_EXC_GP, DATA0 }, /* RPL counts */
    { 3, X86_SS, READ_ONLY3, X86_EXC_GP, READ_ONLY3 & ~3 },
    { 3, X86_DS, READ_ONLY3, -1, 0 },
    { 3, X86_DS, EXECUTE_ONLY3, X86_EXC_GP, EXECUTE_ONLY3 & ~3 },
    { 3, X86_DS, CONFORMING, -1, 0 },
    { 3, X86_ES, CODE0, X86_EXC_GP, CODE0 },
    { 0, X86_FS, TASK_A, X86_EXC_GP, TASK_A },
    { 0, X86_GS, 0x7f8, X86_EXC_GP, 0x7f8 },
    { 0, X86_DS, 0x0c, X86_EXC_GP, 0x0c }, /* no LDT */
  };

  for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(BareCpu) b = protected_cpu_new();
    set_ring(b, rows[i].cpl, 0x6000, STACK3);
    helper_load_seg(b->cpu, rows[i].sreg, rows[i].selector, 0);
    if (rows[i].vector < 0) {
      bare_expect_none(b);
      g_assert_cmphex(b->cpu->x86.seg[rows[i].sreg].selector, ==, rows[i].selector);
    } else {
      bare_expect(b, (unsigned)rows[i].vector, rows[i].error);
    }
  }
}

static void test_load_effects(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  TcgCpu *cpu = b->cpu;

  g_assert_true(cpu->hflags & TCG_HF_FLAT);
  helper_load_seg(cpu, X86_DS, 0, 0);
  g_assert_false(cpu->hflags & TCG_HF_FLAT);
  helper_seg_check(cpu, X86_DS, 0, 4);
  bare_expect(b, X86_EXC_GP, 0);
  helper_load_seg(cpu, X86_DS, DATA0, 0);
  g_assert_true(cpu->hflags & TCG_HF_FLAT);
  helper_load_seg(cpu, X86_SS, STACK16, 1);
  g_assert_true(cpu->hflags & TCG_HF_SHADOW);
  g_assert_false(cpu->hflags & TCG_HF_SS32);
  helper_clear_shadow(cpu, 0, 0, 0);
  g_assert_false(cpu->hflags & TCG_HF_SHADOW);
  helper_seg_check(cpu, X86_SS, 0xffff, 1);
  bare_expect_none(b);
  helper_seg_check(cpu, X86_SS, 0xffff, 2);
  bare_expect(b, X86_EXC_SS, 0);

  helper_load_seg(cpu, X86_FS, EXPAND_DOWN, 0);
  g_assert_cmphex(helper_seg_check(cpu, X86_FS, 0x1000, 4 | 0x100), ==, 0x1000);
  bare_expect_none(b);
  helper_seg_check(cpu, X86_FS, 0xfff, 4);
  bare_expect(b, X86_EXC_GP, 0);
  helper_seg_check(cpu, X86_CS, 0, 4 | 0x100); /* code cannot be written */
  bare_expect(b, X86_EXC_GP, 0);
}

static void test_local_table(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  bare_poke(b, LDT + 8, bare_peek(b, GDT + DATA0, 8), 8);
  helper_lldt(b->cpu, TABLE_LOCAL, 0, 0);
  bare_expect_none(b);
  helper_load_seg(b->cpu, X86_ES, 0x0c, 0);
  bare_expect_none(b);
  helper_load_seg(b->cpu, X86_ES, 0x24, 0); /* beyond its limit */
  bare_expect(b, X86_EXC_GP, 0x24);
  helper_lldt(b->cpu, TASK_B, 0, 0);
  bare_expect(b, X86_EXC_GP, TASK_B);
  helper_ltr(b->cpu, TASK_A, 0, 0); /* busy */
  bare_expect(b, X86_EXC_GP, TASK_A);
}

static bool zf(const BareCpu *b)
{
  return tcg_get_rflags(b->cpu) & X86_F_ZF;
}

static void test_questions(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  TcgCpu *cpu = b->cpu;

  set_ring(b, 3, 0x6000, STACK3);
  helper_verr(cpu, DATA0, 0, 0);
  g_assert_false(zf(b));
  helper_verr(cpu, CONFORMING, 0, 0);
  g_assert_true(zf(b));
  helper_verw(cpu, READ_ONLY3, 0, 0);
  g_assert_false(zf(b));
  helper_verw(cpu, DATA3, 0, 0);
  g_assert_true(zf(b));
  g_assert_cmphex(helper_lsl(cpu, DATA3, 7, 0), ==, 0xffffffff);
  g_assert_cmphex(helper_lsl(cpu, DATA0, 7, 0), ==, 7);
  g_assert_false(zf(b));
  g_assert_cmphex(helper_lar(cpu, GATE_CALL, 7, 0) & 0xff00, ==, 0xec00);
  g_assert_true(zf(b));
  g_assert_cmphex(helper_lsl(cpu, GATE_CALL, 7, 0), ==, 7);
  g_assert_cmphex(helper_arpl(cpu, 0x10, 0x23, 0), ==, 0x13);
  g_assert_true(zf(b));
  g_assert_cmphex(helper_arpl(cpu, 0x13, 0x21, 0), ==, 0x13);
  g_assert_false(zf(b));
}

/* Real mode keeps the limits that protected mode loaded. */
static void test_unreal_mode(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  helper_write_cr(b->cpu, 0, b->cpu->x86.cr0 & ~(uint64_t)X86_CR0_PE, 0);
  helper_load_seg(b->cpu, X86_DS, 0x123, 0);
  g_assert_cmphex(b->cpu->x86.seg[X86_DS].base, ==, 0x1230);
  g_assert_cmphex(helper_seg_check(b->cpu, X86_DS, 0x500000, 4), ==, 0x501230);
  bare_expect_none(b);
}

/* ---- far transfers --------------------------------------------------------------------------------------------------------------------- */

static void test_far_jump(void)
{
  static const struct {
    unsigned cpl;
    uint16_t selector;
    int vector;
    int64_t error;
  } rows[] = {
    { 0, CODE0, -1, 0 },
    { 3, CODE3, -1, 0 },
    { 3, CONFORMING, -1, 0 },
    { 0, 0, X86_EXC_GP, 0 },
    { 0, DATA0, X86_EXC_GP, DATA0 },
    { 0, CODE3, X86_EXC_GP, CODE3 & ~3 },
    { 3, CODE0, X86_EXC_GP, CODE0 },
    { 3, GATE_CALL, X86_EXC_GP, CODE0 }, /* a jump does not gain privilege */
    { 3, TASK_B, X86_EXC_GP, TASK_B },
    { 0, TABLE_LOCAL, X86_EXC_GP, TABLE_LOCAL },
  };

  for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(BareCpu) b = protected_cpu_new();
    set_ring(b, rows[i].cpl, 0x6000, STACK3);
    helper_far_jmp(b->cpu, rows[i].selector, 0x6789, 0x6007);
    if (rows[i].vector < 0) {
      bare_expect_none(b);
      g_assert_cmphex(b->cpu->x86.rip, ==, 0x6789);
      g_assert_cmphex(b->cpu->x86.seg[X86_CS].selector & 3, ==, rows[i].cpl);
    } else {
      bare_expect(b, (unsigned)rows[i].vector, rows[i].error);
      g_assert_cmphex(b->cpu->x86.rip, ==, 0x6000);
    }
  }
}

static void test_call_gate(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  set_ring(b, 3, 0x6000, STACK3);
  bare_poke(b, STACK3, 0x11111111, 4);
  bare_poke(b, STACK3 + 4, 0x22222222, 4);
  helper_far_call(b->cpu, GATE_CALL | 4 << 16, 0xdeadbeef, 0x6007);
  bare_expect_none(b);
  g_assert_cmphex(x86->rip, ==, 0x5000);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK0 - 24);
  g_assert_cmphex(stack_at(b, 0, 4), ==, 0x6007);
  g_assert_cmphex(stack_at(b, 1, 4), ==, CODE3);
  g_assert_cmphex(stack_at(b, 2, 4), ==, 0x11111111);
  g_assert_cmphex(stack_at(b, 3, 4), ==, 0x22222222);
  g_assert_cmphex(stack_at(b, 4, 4), ==, STACK3);
  g_assert_cmphex(stack_at(b, 5, 4), ==, DATA3);

  helper_far_ret(b->cpu, 4, 8, 0);
  bare_expect_none(b);
  g_assert_cmphex(x86->rip, ==, 0x6007);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK3 + 8);
  g_assert_cmphex(x86->seg[X86_DS].attr, ==, 0);
}

static void test_far_call_real(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  sys_set_real(b->cpu, X86_CS, 0x200);
  x86->gpr[X86_RSP] = 0x1000;
  helper_far_call(b->cpu, 0x300 | 2 << 16, 0x10, 0x55);
  g_assert_cmphex(x86->seg[X86_CS].base + x86->rip, ==, 0x3010);
  helper_far_ret(b->cpu, 2, 6, 0);
  g_assert_cmphex(x86->seg[X86_CS].base + x86->rip, ==, 0x2055);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, 0x1006);
  helper_far_jmp(b->cpu, 0x300, 0x10000, 0x55); /* beyond 64 KiB */
  bare_expect(b, X86_EXC_GP, 0);
}

/* ---- tasks --------------------------------------------------------------------------------------------------------------------------------- */

static void make_task_b(BareCpu *b)
{
  bare_poke(b, TSS_B + 0x20, 0x7777, 4); /* EIP */
  bare_poke(b, TSS_B + 0x24, X86_F_IF | X86_F_CF, 4);
  bare_poke(b, TSS_B + 0x28, 0xaaaaaaaa, 4); /* EAX */
  bare_poke(b, TSS_B + 0x38, STACK3, 4);     /* ESP */
  bare_poke(b, TSS_B + 0x48, DATA3, 4);      /* ES */
  bare_poke(b, TSS_B + 0x4c, CODE3, 4);
  bare_poke(b, TSS_B + 0x50, DATA3, 4);
  bare_poke(b, TSS_B + 0x54, DATA3, 4);
}

static unsigned tss_type(BareCpu *b, uint16_t selector)
{
  return bare_peek(b, GDT + (selector & ~7u) + 5, 1) & 15;
}

static void test_task_call(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  make_task_b(b);
  x86->gpr[X86_RAX] = 0x12345678;
  tcg_set_rflags(b->cpu, X86_F_ZF);
  helper_far_call(b->cpu, TASK_B | 4 << 16, 0, 0x6007);
  bare_expect_none(b);
  g_assert_cmphex(x86->seg[X86_TR].selector, ==, TASK_B);
  g_assert_cmphex(x86->rip, ==, 0x7777);
  g_assert_cmphex(x86->gpr[X86_RAX], ==, 0xaaaaaaaa);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_IF | X86_F_CF | X86_F_NT | 2);
  g_assert_true(x86->cr0 & X86_CR0_TS);
  g_assert_cmpuint(tss_type(b, TASK_A), ==, SYS_TSS32_BUSY);
  g_assert_cmpuint(tss_type(b, TASK_B), ==, SYS_TSS32_BUSY);
  g_assert_cmphex(bare_peek(b, TSS_B, 2), ==, TASK_A);
  g_assert_cmphex(bare_peek(b, TSS_A + 0x20, 4), ==, 0x6007);
  g_assert_cmphex(bare_peek(b, TSS_A + 0x28, 4), ==, 0x12345678);
  g_assert_cmphex(bare_peek(b, TSS_A + 0x24, 4), ==, X86_F_ZF | 2);

  helper_iret(b->cpu, 4, 0x7778, 0); /* NT: back */
  bare_expect_none(b);
  g_assert_cmphex(x86->seg[X86_TR].selector, ==, TASK_A);
  g_assert_cmphex(x86->rip, ==, 0x6007);
  g_assert_cmphex(x86->gpr[X86_RAX], ==, 0x12345678);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_ZF | 2);
  g_assert_cmpuint(tss_type(b, TASK_B), ==, SYS_TSS32);
  g_assert_cmphex(bare_peek(b, TSS_B + 0x20, 4), ==, 0x7778);
  g_assert_false(bare_peek(b, TSS_B + 0x24, 4) & X86_F_NT);
}

static void test_task_jump(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  make_task_b(b);
  set_ring(b, 3, 0x6000, STACK3);
  helper_far_jmp(b->cpu, GATE_TASK, 0, 0x6007);
  bare_expect_none(b);
  g_assert_cmphex(b->cpu->x86.seg[X86_TR].selector, ==, TASK_B);
  g_assert_cmpuint(tss_type(b, TASK_A), ==, SYS_TSS32);
  g_assert_false(b->cpu->x86.rflags & X86_F_NT);
}

static void test_task_errors(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  make_task_b(b);
  helper_far_jmp(b->cpu, TASK_A, 0, 0x6007); /* busy */
  bare_expect(b, X86_EXC_GP, TASK_A);
  set_descriptor(b, TASK_B, TSS_B, 0x66, 0x89 << 8); /* too short */
  helper_far_jmp(b->cpu, TASK_B, 0, 0x6007);
  bare_expect(b, X86_EXC_TS, TASK_B);
  g_assert_cmphex(x86->seg[X86_TR].selector, ==, TASK_A);

  set_descriptor(b, TASK_B, TSS_B, 0x67, 0x89 << 8);
  bare_poke(b, TSS_B + 0x54, DATA0, 4); /* a bad DS: the new task's own fault */
  helper_far_jmp(b->cpu, TASK_B, 0, 0x6007);
  bare_expect(b, X86_EXC_TS, DATA0);
  g_assert_cmphex(x86->seg[X86_TR].selector, ==, TASK_B);
  g_assert_cmphex(x86->rip, ==, 0x7777);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
}

static void test_task_16(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  set_descriptor(b, TASK_B, TSS_B, 0x2b, 0x81 << 8);
  bare_poke(b, TSS_B + 14, 0x7777, 2);
  bare_poke(b, TSS_B + 16, X86_F_IF, 2);
  bare_poke(b, TSS_B + 18, 0xaaaa, 2);
  bare_poke(b, TSS_B + 26, 0x8000, 2);
  bare_poke(b, TSS_B + 34, DATA0, 2);
  bare_poke(b, TSS_B + 36, CODE0, 2);
  bare_poke(b, TSS_B + 38, STACK16, 2);
  bare_poke(b, TSS_B + 40, DATA0, 2);
  helper_far_jmp(b->cpu, TASK_B, 0, 0x6007);
  bare_expect_none(b);
  g_assert_cmphex(x86->rip, ==, 0x7777);
  g_assert_cmphex(x86->gpr[X86_RAX] & 0xffff, ==, 0xaaaa);
  g_assert_cmphex(x86->seg[X86_FS].attr, ==, 0);
  helper_far_jmp(b->cpu, TASK_A, 0, 0x7778); /* its own registers were saved in the 32-bit form */
  bare_expect_none(b);
  g_assert_cmphex(x86->rip, ==, 0x6007);
  g_assert_cmphex(bare_peek(b, TSS_B + 14, 2), ==, 0x7778);
}

/* The trap bit: #DB before the new task's first instruction. */
static void test_task_trap(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  make_task_b(b);
  bare_poke(b, TSS_B + 100, 1, 2);
  helper_far_jmp(b->cpu, TASK_B, 0, 0x6007);
  g_assert_cmphex(b->cpu->exc_dr6, ==, SYS_DR6_BT);
  g_assert_cmphex(b->cpu->exc_next_rip, ==, 0x7777);
  bare_expect(b, X86_EXC_DB, -1);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/sys/real/interrupt", test_real_interrupt);
  g_test_add_func("/sys/real/fault", test_real_fault);
  g_test_add_func("/sys/real/table-limit", test_real_table_limit);
  g_test_add_func("/sys/protected/same-level", test_same_level);
  g_test_add_func("/sys/protected/trap-gate", test_trap_gate);
  g_test_add_func("/sys/protected/inner-level", test_inner_level);
  g_test_add_func("/sys/protected/narrow-gate", test_narrow_gate);
  g_test_add_func("/sys/protected/gate-errors", test_gate_errors);
  g_test_add_func("/sys/protected/inner-stack-errors", test_inner_stack_errors);
  g_test_add_func("/sys/protected/double-fault", test_double_fault);
  g_test_add_func("/sys/protected/benign-then-fault", test_benign_then_fault);
  g_test_add_func("/sys/protected/page-fault-chain", test_page_fault_chain);
  g_test_add_func("/sys/vm86/monitor", test_vm86);
  g_test_add_func("/sys/vm86/vme", test_vme);
  g_test_add_func("/sys/long/interrupt", test_long_interrupt);
  g_test_add_func("/sys/long/ist", test_long_ist);
  g_test_add_func("/sys/long/iret-compat", test_long_iret_compat);
  g_test_add_func("/sys/long/iret-null", test_long_iret_null);
  g_test_add_func("/sys/long/call-gate", test_long_call_gate);
  g_test_add_func("/sys/segments/load-checks", test_load_checks);
  g_test_add_func("/sys/segments/load-effects", test_load_effects);
  g_test_add_func("/sys/segments/local-table", test_local_table);
  g_test_add_func("/sys/segments/questions", test_questions);
  g_test_add_func("/sys/segments/unreal-mode", test_unreal_mode);
  g_test_add_func("/sys/transfer/jump", test_far_jump);
  g_test_add_func("/sys/transfer/call-gate", test_call_gate);
  g_test_add_func("/sys/transfer/real-call", test_far_call_real);
  g_test_add_func("/sys/task/call", test_task_call);
  g_test_add_func("/sys/task/jump", test_task_jump);
  g_test_add_func("/sys/task/errors", test_task_errors);
  g_test_add_func("/sys/task/16-bit", test_task_16);
  g_test_add_func("/sys/task/trap", test_task_trap);
  return g_test_run();
}

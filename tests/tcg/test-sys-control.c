/*
 * Control, debug and model-specific registers, flags, ports, fast system calls and system-management mode.
 */
#include "tests/tcg/protected-cpu.h"

/* ---- control registers ------------------------------------------------------------------------------------------------ */

static void test_cr0(void)
{
  static const struct {
    uint64_t value;
    bool ok;
  } rows[] = {
    { X86_CR0_PG, false }, /* paging without protection */
    { X86_CR0_NW, false }, /* not write-through with the cache on */
    { X86_CR0_NW | X86_CR0_CD, true },
    { UINT64_C(1) << 32, false },
    { X86_CR0_PE | X86_CR0_TS | 1u << 7, true }, /* reserved low bits are dropped */
  };

  for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(BareCpu) b = bare_cpu_new();
    uint64_t before = b->cpu->x86.cr0;
    helper_write_cr(b->cpu, 0, rows[i].value, 0);
    if (!rows[i].ok) {
      bare_expect(b, X86_EXC_GP, 0);
      g_assert_cmphex(b->cpu->x86.cr0, ==, before);
    } else {
      bare_expect_none(b);
      g_assert_cmphex(b->cpu->x86.cr0, ==, (rows[i].value & ~UINT64_C(0x80)) | X86_CR0_ET);
    }
  }
}

static void test_cr_rights(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  helper_write_cr(b->cpu, 1, 0, 0);
  bare_expect(b, X86_EXC_UD, -1);
  helper_write_cr(b->cpu, 4, X86_CR4_LA57, 0); /* not offered */
  bare_expect(b, X86_EXC_GP, 0);
  helper_lmsw(b->cpu, X86_CR0_TS, 0, 0); /* cannot clear PE */
  g_assert_cmphex(b->cpu->x86.cr0 & 0xf, ==, X86_CR0_PE | X86_CR0_TS);
  g_assert_true(b->cpu->hflags & TCG_HF_TS);
  helper_clts(b->cpu, 0, 0, 0);
  g_assert_false(b->cpu->hflags & TCG_HF_TS);
  helper_hlt(b->cpu, 0, 0, 0);
  g_assert_true(b->cpu->x86.halted);

  set_ring(b, 3, 0x6000, STACK3);
  helper_read_cr(b->cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
  helper_hlt(b->cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
  helper_invlpg(b->cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
}

static void test_long_mode_switch(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  helper_wrmsr(b->cpu, 0xc0000080, X86_EFER_LME, 0);
  helper_write_cr(b->cpu, 0, x86->cr0 | X86_CR0_PG, 0); /* without PAE */
  bare_expect(b, X86_EXC_GP, 0);
  helper_write_cr(b->cpu, 4, X86_CR4_PAE, 0);
  helper_write_cr(b->cpu, 0, x86->cr0 | X86_CR0_PG, 0);
  bare_expect_none(b);
  g_assert_true(x86->efer & X86_EFER_LMA);
  g_assert_true(b->cpu->hflags & TCG_HF_LMA);
  g_assert_false(b->cpu->hflags & TCG_HF_CS64);
  helper_wrmsr(b->cpu, 0xc0000080, 0, 0); /* LME stays while paging is on */
  bare_expect(b, X86_EXC_GP, 0);
  helper_write_cr(b->cpu, 4, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
  helper_write_cr(b->cpu, 0, x86->cr0 & ~(uint64_t)X86_CR0_PG, 0);
  g_assert_false(x86->efer & X86_EFER_LMA);
}

/* ---- debugging ---------------------------------------------------------------------------------------------------------- */

static void test_debug_registers(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  helper_write_dr(b->cpu, 6, 0, 0);
  g_assert_cmphex(helper_read_dr(b->cpu, 4, 0, 0), ==, 0xffff0ff0); /* an alias without CR4.DE */
  helper_write_cr(b->cpu, 4, X86_CR4_DE, 0);
  helper_read_dr(b->cpu, 4, 0, 0);
  bare_expect(b, X86_EXC_UD, -1);
  helper_write_dr(b->cpu, 7, 0xffffffff, 0);
  g_assert_cmphex(x86->dr[7], ==, 0xffff27ff);
  helper_read_dr(b->cpu, 0, 0, 0); /* GD is set now */
  g_assert_cmphex(b->cpu->exc_dr6, ==, SYS_DR6_BD);
  set_gate(b, X86_EXC_DB, CODE0, HANDLER, 0x8e);
  g_assert_true(x86_deliver_exception(b->cpu));
  g_assert_true(x86->dr[6] & SYS_DR6_BD);
  g_assert_false(x86->dr[7] & SYS_DR7_GD);
  helper_write_dr(b->cpu, 7, UINT64_C(1) << 32, 0);
  bare_expect(b, X86_EXC_GP, 0);
}

static void test_code_breakpoint(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  helper_write_dr(b->cpu, 2, 0x6000, 0);
  helper_write_dr(b->cpu, 7, 1u << 4, 0);
  g_assert_true(b->cpu->hflags & TCG_HF_BREAKPOINTS);
  helper_check_breakpoint(b->cpu, 0, 0, 0);
  g_assert_cmphex(b->cpu->exc_dr6, ==, 4);
  g_assert_false(b->cpu->exc_is_trap);
  bare_expect(b, X86_EXC_DB, -1);
  x86->rflags |= X86_F_RF; /* once past it */
  helper_check_breakpoint(b->cpu, 0, 0, 0);
  bare_expect_none(b);
  helper_check_breakpoint(b->cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_DB, -1);
  x86->rip = 0x6001;
  helper_check_breakpoint(b->cpu, 0, 0, 0);
  bare_expect_none(b);
}

static void test_single_step(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  set_gate(b, X86_EXC_DB, CODE0, HANDLER, 0x8e);
  tcg_set_rflags(b->cpu, X86_F_TF);
  g_assert_true(b->cpu->hflags & TCG_HF_TF);
  helper_load_seg(b->cpu, X86_SS, DATA0, 1);
  helper_single_step(b->cpu, 0x6002, 0, 0); /* MOV SS holds it back */
  bare_expect_none(b);
  helper_clear_shadow(b->cpu, 0, 0, 0);
  helper_single_step(b->cpu, 0x6003, 0, 0);
  g_assert_true(x86_deliver_exception(b->cpu));
  g_assert_cmphex(stack_at(b, 0, 4), ==, 0x6003);
  g_assert_cmphex(stack_at(b, 2, 4), ==, X86_F_TF | 2); /* a trap has no RF */
  g_assert_true(x86->dr[6] & SYS_DR6_BS);
  g_assert_false(b->cpu->hflags & TCG_HF_TF);

  helper_iret(b->cpu, 4, 0, 0); /* sets TF: that begins behind the next instruction */
  bare_expect_none(b);
  g_assert_true(x86->rflags & X86_F_TF);
  helper_far_jmp(b->cpu, CODE0, 0x6100, 0x6007);
  g_assert_cmphex(b->cpu->exc_next_rip, ==, 0x6100);
  bare_expect(b, X86_EXC_DB, -1);
}

/* ---- flags ------------------------------------------------------------------------------------------------------------------ */

static void test_flags_by_level(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  TcgCpu *cpu = b->cpu;

  helper_popf(cpu, 0xffffffff, 4, 0);
  g_assert_cmphex(tcg_get_rflags(cpu), ==, 0x247fd7);
  g_assert_cmphex(helper_pushf(cpu, 4, 0, 0), ==, 0x247fd7);
  helper_popf(cpu, 0, 2, 0);
  g_assert_cmphex(tcg_get_rflags(cpu), ==, 0x240002); /* the 16-bit form leaves the upper half */
  tcg_set_rflags(cpu, 0);
  set_ring(b, 3, 0x6000, STACK3);
  helper_popf(cpu, 0xffffffff, 4, 0);
  g_assert_cmphex(tcg_get_rflags(cpu), ==, 0x244dd7); /* neither IF nor IOPL */
  helper_cli(cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
  tcg_set_rflags(cpu, X86_F_IOPL);
  helper_sti(cpu, 0, 0, 0);
  bare_expect_none(b);
  g_assert_true(cpu->hflags & TCG_HF_SHADOW);
  helper_clear_shadow(cpu, 0, 0, 0);
  helper_sti(cpu, 0, 0, 0); /* already on: no shadow */
  g_assert_false(cpu->hflags & TCG_HF_SHADOW);
  helper_stac(cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_UD, -1);
}

static void test_pvi(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  TcgCpu *cpu = b->cpu;

  helper_write_cr(cpu, 4, X86_CR4_PVI, 0);
  tcg_set_rflags(cpu, X86_F_IF);
  set_ring(b, 3, 0x6000, STACK3);
  helper_sti(cpu, 0, 0, 0);
  g_assert_true(cpu->x86.rflags & X86_F_VIF);
  helper_cli(cpu, 0, 0, 0);
  g_assert_false(cpu->x86.rflags & X86_F_VIF);
  g_assert_true(cpu->x86.rflags & X86_F_IF);
  cpu->x86.rflags |= X86_F_VIP;
  helper_sti(cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
}

/* ---- ports --------------------------------------------------------------------------------------------------------------------- */

static void test_io_rights(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  TcgCpu *cpu = b->cpu;

  g_assert_cmphex(helper_in(cpu, 0x300, 4, 0), ==, 0xffffffff); /* nothing is there */
  bare_poke(b, TSS_A + 102, 0x100, 2);
  for (unsigned i = 0; i < 0x80; i++)
    bare_poke(b, TSS_A + 0x100 + i, 0xff, 1);
  bare_poke(b, TSS_A + 0x100 + 0x60, 0x0f, 1); /* ports 304–307 */
  set_ring(b, 3, 0x6000, STACK3);
  helper_check_io(cpu, 0x304, 4, 0);
  bare_expect_none(b);
  helper_check_io(cpu, 0x303, 2, 0);
  bare_expect(b, X86_EXC_GP, 0);
  helper_out(cpu, 0x306, 4, 0); /* two bytes too far */
  bare_expect(b, X86_EXC_GP, 0);
  helper_check_io(cpu, 0xffff, 1, 0); /* beyond the TSS */
  bare_expect(b, X86_EXC_GP, 0);
  tcg_set_rflags(cpu, X86_F_IOPL);
  helper_check_io(cpu, 0xffff, 1, 0);
  bare_expect_none(b);
}

/* ---- model-specific registers ---------------------------------------------------------------------------------------------------- */

static void test_msrs(void)
{
  static const struct {
    uint32_t index;
    uint64_t value;
    bool ok;
  } rows[] = {
    { 0x277, UINT64_C(0x0007040600070406), true },
    { 0x277, 2, false },
    { 0xc0000080, X86_EFER_SCE | X86_EFER_NXE, true },
    { 0xc0000080, X86_EFER_SVME, false },
    { 0xc0000100, UINT64_C(0xffff800000000000), true },
    { 0xc0000100, UINT64_C(0x800000000000), false },
    { 0xc0000082, UINT64_C(0x800000000000), false },
    { 0x174, 0x10, true },
    { 0x20f, 0x800, true },
    { 0x26f, UINT64_C(0x0606060606060606), true },
    { 0x2ff, 0xc06, true },
    { 0xc0000103, 5, true },
    { 0x12345678, 0, false },
    { 0x4b564d00, 1, false },
    { 0xfe, 0, false },
  };
  g_autoptr(BareCpu) b = protected_cpu_new();

  for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
    helper_wrmsr(b->cpu, rows[i].index, rows[i].value, 0);
    if (rows[i].ok) {
      bare_expect_none(b);
      g_assert_cmphex(helper_rdmsr(b->cpu, rows[i].index, 0, 0), ==, rows[i].value);
    } else {
      bare_expect(b, X86_EXC_GP, 0);
    }
  }
  g_assert_cmphex(b->cpu->x86.mtrr_fixed[10], ==, UINT64_C(0x0606060606060606));
  g_assert_cmphex(b->cpu->x86.mtrr_var[7][1], ==, 0x800);
  helper_wrmsr(b->cpu, 0x401, 1, 0); /* machine-check banks: quiet */
  g_assert_cmphex(helper_rdmsr(b->cpu, 0x401, 0, 0), ==, 0);
  bare_expect_none(b);
  set_ring(b, 3, 0x6000, STACK3);
  helper_rdmsr(b->cpu, 0x277, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
}

static void test_tsc(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  uint64_t first;

  helper_wrmsr(b->cpu, 0x10, 1000, 0);
  first = helper_rdtsc(b->cpu, 0, 0, 0);
  g_assert_cmpuint(first, >=, 1000);
  g_assert_cmpuint(first, <, 1000 + UINT64_C(20000000000)); /* seconds */
  g_assert_cmpuint(helper_rdtsc(b->cpu, 0, 0, 0), >=, first);
  g_assert_cmphex(helper_rdmsr(b->cpu, 0x3b, 0, 0), ==, b->cpu->x86.tsc_offset);
  helper_write_cr(b->cpu, 4, X86_CR4_TSD, 0);
  set_ring(b, 3, 0x6000, STACK3);
  helper_rdtsc(b->cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
}

/* ---- fast system calls -------------------------------------------------------------------------------------------------------------- */

static void test_syscall(void)
{
  g_autoptr(BareCpu) b = long_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  set_ring(b, 3, 0x6000, STACK3);
  helper_syscall(b->cpu, 0x6002, 0, 0); /* SCE is off */
  bare_expect(b, X86_EXC_UD, -1);
  x86->efer |= X86_EFER_SCE;
  x86->star = UINT64_C(0x0013000800000000);
  x86->lstar = UINT64_C(0xffff800000001000);
  x86->sfmask = X86_F_IF | X86_F_DF;
  tcg_set_rflags(b->cpu, X86_F_IF | X86_F_DF | X86_F_CF);
  helper_syscall(b->cpu, 0x6002, 0, 0);
  bare_expect_none(b);
  g_assert_cmphex(x86->rip, ==, x86->lstar);
  g_assert_cmphex(x86->gpr[X86_RCX], ==, 0x6002);
  g_assert_cmphex(x86->gpr[X86_R11], ==, X86_F_IF | X86_F_DF | X86_F_CF | 2);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_CF | 2);
  g_assert_cmphex(x86->seg[X86_CS].selector, ==, 8);
  g_assert_cmphex(x86->seg[X86_SS].selector, ==, 0x10);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK3);

  helper_sysret(b->cpu, 8, 0, 0);
  bare_expect_none(b);
  g_assert_cmphex(x86->rip, ==, 0x6002);
  g_assert_cmphex(x86->seg[X86_CS].selector, ==, 0x23);
  g_assert_cmphex(x86->seg[X86_SS].selector, ==, 0x1b);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
  g_assert_true(b->cpu->hflags & TCG_HF_CS64);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_IF | X86_F_DF | X86_F_CF | 2);
  helper_sysret(b->cpu, 8, 0, 0);
  bare_expect(b, X86_EXC_GP, 0);
}

static void test_sysenter(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  helper_sysenter(b->cpu, 0, 0, 0); /* no CS set */
  bare_expect(b, X86_EXC_GP, 0);
  x86->sysenter_cs = CODE0;
  x86->sysenter_esp = STACK0;
  x86->sysenter_eip = HANDLER;
  set_ring(b, 3, 0x6000, STACK3);
  tcg_set_rflags(b->cpu, X86_F_IF);
  helper_sysenter(b->cpu, 0, 0, 0);
  bare_expect_none(b);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 0);
  g_assert_cmphex(x86->rip, ==, HANDLER);
  g_assert_cmphex(x86->gpr[X86_RSP], ==, STACK0);
  g_assert_false(x86->rflags & X86_F_IF);
  x86->gpr[X86_RDX] = 0x6002;
  x86->gpr[X86_RCX] = STACK3;
  helper_sysexit(b->cpu, 4, 0, 0);
  bare_expect_none(b);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
  g_assert_cmphex(x86->seg[X86_CS].selector, ==, CODE3);
  g_assert_cmphex(x86->seg[X86_SS].selector, ==, DATA3);
  g_assert_true(b->cpu->hflags & TCG_HF_CS32);
}

static void test_bases(void)
{
  g_autoptr(BareCpu) b = long_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  x86->kernel_gs_base = 0x1234;
  x86->seg[X86_GS].base = 0x5678;
  helper_swapgs(b->cpu, 0, 0, 0);
  g_assert_cmphex(x86->seg[X86_GS].base, ==, 0x1234);
  g_assert_cmphex(x86->kernel_gs_base, ==, 0x5678);
  helper_read_seg_base(b->cpu, X86_GS, 0, 0);
  bare_expect(b, X86_EXC_UD, -1);
  helper_write_cr(b->cpu, 4, x86->cr4 | X86_CR4_FSGSBASE, 0);
  helper_write_seg_base(b->cpu, X86_FS, UINT64_C(0xffff900000000000), 0);
  g_assert_cmphex(helper_read_seg_base(b->cpu, X86_FS, 0, 0), ==, UINT64_C(0xffff900000000000));
  helper_write_seg_base(b->cpu, X86_FS, UINT64_C(0x900000000000), 0);
  bare_expect(b, X86_EXC_GP, 0);
}

/* ---- system-management mode ------------------------------------------------------------------------------------------------------------- */

static void test_smm(void)
{
  g_autoptr(BareCpu) b = long_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;
  const X86Segment ss = x86->seg[X86_SS];

  helper_rsm(b->cpu, 0, 0, 0);
  bare_expect(b, X86_EXC_UD, -1);
  set_ring(b, 3, UINT64_C(0xffff800012345678), STACK3);
  x86->gpr[X86_R15] = UINT64_C(0x1122334455667788);
  x86->halted = 1;
  tcg_set_rflags(b->cpu, X86_F_IF | X86_F_CF);
  uint64_t cr0 = x86->cr0, cr4 = x86->cr4, efer = x86->efer;
  x86_enter_smm(b->cpu);
  g_assert_cmphex(x86->rip, ==, 0x8000);
  g_assert_cmphex(x86->seg[X86_CS].base, ==, 0x30000);
  g_assert_cmphex(x86->cr0 & (X86_CR0_PE | X86_CR0_PG), ==, 0);
  g_assert_false(x86->halted);
  g_assert_true(x86->nmi_masked);
  g_assert_true(b->cpu->hflags & TCG_HF_SMM);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, 2);
  g_assert_cmphex(bare_peek(b, 0x30000 + 0xfefc, 4), ==, 0x20064);
  g_assert_cmphex(bare_peek(b, 0x30000 + 0xff80, 8), ==, UINT64_C(0x1122334455667788)); /* R15 */
  g_assert_cmphex(bare_peek(b, 0x30000 + 0xff78, 8), ==, UINT64_C(0xffff800012345678)); /* RIP */

  bare_poke(b, 0x30000 + 0xff00, 0xa0000, 4); /* a new SMBASE */
  x86->gpr[X86_R15] = 0;
  helper_rsm(b->cpu, 0, 0, 0);
  bare_expect_none(b);
  g_assert_cmphex(x86->smbase, ==, 0xa0000);
  g_assert_cmphex(x86->gpr[X86_R15], ==, UINT64_C(0x1122334455667788));
  g_assert_cmphex(x86->rip, ==, UINT64_C(0xffff800012345678));
  g_assert_cmphex(x86->cr0, ==, cr0);
  g_assert_cmphex(x86->cr4, ==, cr4);
  g_assert_cmphex(x86->efer, ==, efer);
  g_assert_true(x86->halted);
  g_assert_false(x86->nmi_masked);
  g_assert_cmpuint(sys_cpl(b->cpu), ==, 3);
  g_assert_cmphex(x86->seg[X86_SS].limit, ==, ss.limit);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_IF | X86_F_CF | 2);
}

static void test_nmi_mask(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();

  set_gate(b, X86_EXC_NMI, CODE0, HANDLER, 0x8e);
  g_assert_true(x86_deliver_interrupt(b->cpu, 0, true));
  g_assert_cmphex(b->cpu->x86.rip, ==, HANDLER);
  g_assert_true(b->cpu->x86.nmi_masked);
  helper_iret(b->cpu, 4, 0, 0);
  g_assert_false(b->cpu->x86.nmi_masked);
}

/* ---- import and export ---------------------------------------------------------------------------------------------------------------------- */

static void test_import_export(void)
{
  g_autoptr(BareCpu) b = protected_cpu_new();
  X86Cpu *x86 = &b->cpu->x86;

  tcg_set_rflags(b->cpu, X86_F_IF);
  b->cpu->flags = tcg_pack_flags(X86_F_CF | X86_F_OF);
  x86_raise_page_fault(b->cpu, 0x4321, 6);
  x86_tcg_export(b->cpu);
  g_assert_cmphex(x86->rflags, ==, X86_F_IF | X86_F_CF | X86_F_OF | 2);
  g_assert_true(x86->pending_exception_valid);
  b->cpu->flags = 0;
  b->cpu->exc_pending = 0;
  x86_tcg_import(b->cpu);
  g_assert_cmphex(tcg_get_rflags(b->cpu), ==, X86_F_IF | X86_F_CF | X86_F_OF | 2);
  g_assert_cmphex(b->cpu->exc_cr2, ==, 0x4321);
  bare_expect(b, X86_EXC_PF, 6);

  sys_raise_debug_trap(b->cpu, 0x6003, SYS_DR6_BS);
  x86_tcg_export(b->cpu);
  g_assert_cmphex(x86->rip, ==, 0x6003);
  g_assert_true(x86->dr[6] & SYS_DR6_BS);
  x86_tcg_import(b->cpu);
  bare_expect(b, X86_EXC_DB, -1);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/sys/control/cr0", test_cr0);
  g_test_add_func("/sys/control/rights", test_cr_rights);
  g_test_add_func("/sys/control/long-mode", test_long_mode_switch);
  g_test_add_func("/sys/debug/registers", test_debug_registers);
  g_test_add_func("/sys/debug/code-breakpoint", test_code_breakpoint);
  g_test_add_func("/sys/debug/single-step", test_single_step);
  g_test_add_func("/sys/flags/levels", test_flags_by_level);
  g_test_add_func("/sys/flags/pvi", test_pvi);
  g_test_add_func("/sys/io/rights", test_io_rights);
  g_test_add_func("/sys/msr/values", test_msrs);
  g_test_add_func("/sys/msr/tsc", test_tsc);
  g_test_add_func("/sys/syscall/syscall", test_syscall);
  g_test_add_func("/sys/syscall/sysenter", test_sysenter);
  g_test_add_func("/sys/syscall/bases", test_bases);
  g_test_add_func("/sys/smm/enter-rsm", test_smm);
  g_test_add_func("/sys/smm/nmi-mask", test_nmi_mask);
  g_test_add_func("/sys/state/import-export", test_import_export);
  return g_test_run();
}

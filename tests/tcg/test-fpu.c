/*
 * The translator's x87 and SSE where the differential tester does not reach: CR0 and CR4 checks, reporting of x87 errors by
 * #MF and by FERR#, environments of 16-bit and real mode, state images.
 */
#include "vm-engine/accel/tcg/guest/x86/fpu-x87.h"
#include "vm-engine/accel/tcg/tcg.h"
#include "vm-engine/memory.h"
#include "vm-engine/vcpu.h"

#define CODE 0x1000u
#define DATA 0x2000u

typedef struct Fixture {
  VmMemory *memory;
  TcgCpu *cpu;
  VmCpu vcpu;
  unsigned n_errors; /* calls of fpu_error with `active` */
  bool ignne;
} Fixture;

static void set_segments(X86Cpu *x86, bool is32)
{
  for (unsigned i = 0; i < X86_N_SEG; i++) {
    uint32_t attr = X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED | (i == X86_CS ? X86_ATTR_CODE : 0);
    x86->seg[i] =
        (X86Segment){ .limit = is32 ? 0xffffffff : 0xffff, .attr = attr | (is32 ? X86_ATTR_DB | X86_ATTR_G : 0) };
  }
}

/* Flat 32-bit protected mode without paging, FPU and SSE on. */
static void set_up(Fixture *f, gconstpointer data)
{
  GError *error = NULL;
  f->memory = vm_memory_new(&error);
  g_assert_no_error(error);
  VmRam *ram = vm_ram_new(f->memory, "ram", 0x10000, &error);
  g_assert_no_error(error);
  vm_region_new_ram(f->memory, "ram", 0, 0x10000, 0, ram, 0, VM_ACCESS_RW);
  f->cpu = tcg_cpu_new_bare(f->memory, GPOINTER_TO_INT(data) ? TCG_BACKEND_INTERP : TCG_BACKEND_JIT);
  X86Cpu *x86 = &f->cpu->x86;
  set_segments(x86, true);
  x86->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_MP;
  x86->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
  x86->efer = 0;
  x86->rflags = X86_F_FIXED;
  x86->gpr[X86_RSP] = 0x8000;
  x86->gpr[X86_RBX] = DATA;
  memset(&x86->fpu, 0, sizeof x86->fpu);
  x86->fpu.fcw = X87_CW_DEFAULT;
  x86->fpu.mxcsr = 0x1f80;
}

static void tear_down(Fixture *f, gconstpointer data)
{
  f->cpu->vcpu = NULL;
  tcg_cpu_free_bare(f->cpu);
  vm_memory_free(f->memory);
}

/* Runs `code`, behind which stands INT3, from the state in cpu->x86. Returns the vector of the exception that ended it. */
static unsigned run(Fixture *f, const char *code, unsigned bytes)
{
  bool written = vm_memory_write(f->memory, CODE, code, bytes) && vm_memory_write(f->memory, CODE + bytes, "\xcc", 1);
  g_assert_true(written);
  f->cpu->x86.rip = CODE;
  f->cpu->exc_pending = 0;
  x86_tcg_import(f->cpu);
  TcgStop stop = tcg_cpu_run_bare(f->cpu, 1000, false, true);
  g_assert_cmpint(stop, ==, TCG_STOP_EXCEPTION);
  unsigned vector = f->cpu->exc_vector;
  f->cpu->exc_pending = 0;
  x86_tcg_export(f->cpu);
  return vector;
}
#define RUN(f, code) run(f, code, sizeof(code) - 1)

/* ---- tests --------------------------------------------------------------------------------------------------------- */

static void test_image_round_trip(Fixture *f, gconstpointer data)
{
  X86Fpu before;
  memset(&before, 0, sizeof before);
  before.fcw = 0x27f;
  before.fsw = 0x3920;
  before.ftw = 0xa5;
  before.fop = 0x123;
  before.fip = 0x123456789abc;
  before.fdp = 0xdef012345678;
  before.mxcsr = 0x9fa1;
  before.mxcsr_mask = 0xffff;
  for (unsigned i = 0; i < 8; i++) {
    memset(before.st[i], (int)(0x11 * (i + 1)), 10);
  }
  f->cpu->x86.fpu = before;
  x86_fpu_import(f->cpu);
  g_assert_cmpuint(f->cpu->fpu_top, ==, 7);
  g_assert_cmpuint(f->cpu->fpr[7][0], ==, 0x11); /* ST(0) */
  g_assert_cmpuint(f->cpu->fpr[0][0], ==, 0x22);
  memset(f->cpu->x86.fpu.st, 0xee, sizeof before.st);
  x86_fpu_export(f->cpu);
  g_assert_cmpmem(&f->cpu->x86.fpu, sizeof before, &before, sizeof before);
}

typedef struct CheckRow {
  const char *code;
  unsigned bytes;
  uint32_t cr0_set, cr4_clear;
  unsigned vector;
} CheckRow;
#define ROW(code, cr0_set, cr4_clear, vector)                                                                          \
  {                                                                                                                    \
    code, sizeof(code) - 1, cr0_set, cr4_clear, vector                                                                 \
  }

static void test_availability(Fixture *f, gconstpointer data)
{
  static const CheckRow rows[] = {
    ROW("\xd9\xe8", 0, 0, X86_EXC_BP), /* FLD1 */
    ROW("\xd9\xe8", X86_CR0_TS, 0, X86_EXC_NM),
    ROW("\xd9\xe8", X86_CR0_EM, 0, X86_EXC_NM),
    ROW("\x9b", X86_CR0_TS, 0, X86_EXC_NM), /* FWAIT, with MP set */
    ROW("\x9b", X86_CR0_EM, 0, X86_EXC_BP),
    ROW("\x0f\xfc\xc1", X86_CR0_TS, 0, X86_EXC_NM), /* PADDB MM0, MM1 */
    ROW("\x0f\xfc\xc1", X86_CR0_EM, 0, X86_EXC_UD),
    ROW("\x0f\xfc\xc1", 0, X86_CR4_OSFXSR, X86_EXC_BP),
    ROW("\x0f\x58\xc1", 0, 0, X86_EXC_BP), /* ADDPS XMM0, XMM1 */
    ROW("\x0f\x58\xc1", X86_CR0_TS, 0, X86_EXC_NM),
    ROW("\x0f\x58\xc1", X86_CR0_EM | X86_CR0_TS, 0, X86_EXC_UD),
    ROW("\x0f\x58\xc1", X86_CR0_TS, X86_CR4_OSFXSR, X86_EXC_UD),
    ROW("\x0f\x77", X86_CR0_TS, 0, X86_EXC_NM),     /* EMMS */
    ROW("\x0f\xae\x03", X86_CR0_TS, 0, X86_EXC_NM), /* FXSAVE [EBX] */
    ROW("\x0f\xae\x03", 0, X86_CR4_OSFXSR, X86_EXC_BP),
    ROW("\x0f\xae\x43\x08", 0, 0, X86_EXC_GP),              /* not aligned */
    ROW("\x0f\xae\x5b\x04", 0, X86_CR4_OSFXSR, X86_EXC_UD), /* STMXCSR */
    ROW("\x0f\xae\x23", 0, 0, X86_EXC_UD),                  /* XSAVE without CR4.OSXSAVE */
    ROW("\xd9\xd1", 0, 0, X86_EXC_UD),                      /* no such instructions */
    ROW("\xdb\x23", 0, 0, X86_EXC_UD),
    ROW("\xf3\x0f\xfc\xc1", 0, 0, X86_EXC_UD),
    ROW("\x0f\x12\x03", 0, 0, X86_EXC_BP),
    ROW("\x66\x0f\x12\xc3", 0, 0, X86_EXC_UD), /* MOVLPD has no register form */
    ROW("\x0f\x28\x43\x04", 0, 0, X86_EXC_GP), /* MOVAPS, not aligned */
    ROW("\x0f\x10\x43\x04", 0, 0, X86_EXC_BP), /* MOVUPS */
  };
  uint64_t cr0 = f->cpu->x86.cr0, cr4 = f->cpu->x86.cr4;
  for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
    f->cpu->x86.cr0 = cr0 | rows[i].cr0_set;
    f->cpu->x86.cr4 = cr4 & ~(uint64_t)rows[i].cr4_clear;
    unsigned vector = run(f, rows[i].code, rows[i].bytes);
    if (vector != rows[i].vector) {
      g_test_message("row %u: vector %u", i, vector);
    }
    g_assert_cmpuint(vector, ==, rows[i].vector);
  }
}

static bool on_fpu_error(VmCpu *vcpu, bool active, void *opaque)
{
  Fixture *f = opaque;
  f->n_errors += active;
  return f->ignne;
}

/* FLDCW with zero-divide unmasked; FLD1; FLDZ; FDIVP; then what waits. */
#define DIVIDE "\xd9\x2b\xd9\xe8\xd9\xee\xde\xf9"

static void write_control_word(Fixture *f)
{
  uint16_t control = X87_CW_DEFAULT & ~X87_ZE;
  bool written = vm_memory_write(f->memory, DATA, &control, 2);
  g_assert_true(written);
}

static void test_error_by_exception(Fixture *f, gconstpointer data)
{
  write_control_word(f);
  g_assert_cmpuint(RUN(f, DIVIDE "\x90\x9b\x90"), ==, X86_EXC_MF);
  g_assert_cmphex(f->cpu->x86.rip, ==, CODE + sizeof(DIVIDE "\x90") - 1);
  g_assert_cmphex(f->cpu->x86.fpu.fsw & (X87_ES | X87_ZE), ==, X87_ES | X87_ZE);
  /* Operands are as they were; instructions that do not wait go on. */
  g_assert_cmphex(f->cpu->x86.fpu.fsw & X87_TOP, ==, 6 << 11);
  g_assert_cmpuint(RUN(f, "\xdf\xe0\xdb\xe2\x9b"), ==, X86_EXC_BP); /* FNSTSW AX; FNCLEX; FWAIT */
  g_assert_cmphex(f->cpu->x86.gpr[X86_RAX] & X87_ES, ==, X87_ES);
  g_assert_cmphex(f->cpu->x86.fpu.fsw & X87_ES, ==, 0);
  g_assert_cmphex(f->cpu->x86.fpu.fop, ==, 0x6f9); /* DE F9 */
}

static void test_error_by_interrupt(Fixture *f, gconstpointer data)
{
  write_control_word(f);
  f->vcpu.fpu_error = on_fpu_error;
  f->vcpu.fpu_error_opaque = f;
  f->cpu->vcpu = &f->vcpu;
  f->cpu->x86.cr0 &= ~(uint64_t)X86_CR0_NE;
  /* FERR# is raised, and the instruction put off. */
  g_assert_cmpuint(RUN(f, DIVIDE "\x9b"), ==, X86_EXC_RETRY);
  g_assert_cmpuint(f->n_errors, ==, 1);
  g_assert_cmphex(f->cpu->x86.rip, ==, CODE + sizeof(DIVIDE) - 1);
  f->cpu->exc_pending = 1;
  f->cpu->exc_vector = X86_EXC_RETRY;
  g_assert_true(x86_deliver_exception(f->cpu));
  g_assert_cmpuint(f->cpu->exc_pending, ==, 0);
  /* Under IGNNE# it goes on. */
  f->ignne = true;
  g_assert_cmpuint(RUN(f, "\x9b\xd9\xe8"), ==, X86_EXC_BP);
}

static uint16_t word_at(Fixture *f, uint32_t address)
{
  return (uint16_t)vm_memory_load(f->memory, VM_VIEW_NORMAL, address, 2);
}

static void test_environment_protected16(Fixture *f, gconstpointer data)
{
  X86Cpu *x86 = &f->cpu->x86;
  x86->seg[X86_CS].selector = 0x1234;
  x86->seg[X86_DS].selector = 0x5678;
  g_assert_cmpuint(RUN(f, "\xd9\x03\x66\xd9\x73\x40"), ==, X86_EXC_BP); /* FLD m32; FNSTENV, 16-bit */
  g_assert_cmphex(word_at(f, DATA + 0x40), ==, X87_CW_DEFAULT);
  g_assert_cmphex(word_at(f, DATA + 0x42), ==, 7 << 11);
  g_assert_cmphex(word_at(f, DATA + 0x44), ==, 0x7fff); /* register 7 holds a zero */
  g_assert_cmphex(word_at(f, DATA + 0x46), ==, CODE);
  g_assert_cmphex(word_at(f, DATA + 0x48), ==, 0x1234);
  g_assert_cmphex(word_at(f, DATA + 0x4a), ==, DATA);
  g_assert_cmphex(word_at(f, DATA + 0x4c), ==, 0x5678);
}

static void test_environment_real(Fixture *f, gconstpointer data)
{
  X86Cpu *x86 = &f->cpu->x86;
  set_segments(x86, false);
  x86->cr0 &= ~(uint64_t)X86_CR0_PE;
  x86->seg[X86_CS].selector = 0x100;
  x86->seg[X86_CS].base = 0x1000;
  x86->seg[X86_DS].selector = 0x200;
  x86->seg[X86_DS].base = 0x2000;
  x86->gpr[X86_RBX] = 0;
  bool written = vm_memory_write(f->memory, 0x1000, "\xd9\x07\xd9\x77\x40\xcc", 6); /* FLD [BX]; FNSTENV [BX + 64] */
  g_assert_true(written);
  x86->rip = 0;
  x86_tcg_import(f->cpu);
  g_assert_cmpint(tcg_cpu_run_bare(f->cpu, 1000, false, true), ==, TCG_STOP_EXCEPTION);
  g_assert_cmpuint(f->cpu->exc_vector, ==, X86_EXC_BP);
  f->cpu->exc_pending = 0;
  x86_tcg_export(f->cpu);
  g_assert_cmphex(word_at(f, 0x2046), ==, 0x1000);         /* linear, bits 15–0 */
  g_assert_cmphex(word_at(f, 0x2048), ==, 0x0000 | 0x107); /* bits 19–16, FOP */
  g_assert_cmphex(word_at(f, 0x204a), ==, 0x2000);
  g_assert_cmphex(word_at(f, 0x204c), ==, 0);
}

/* DIVSS XMM0, XMM1 by zero with the exception unmasked. */
static void test_simd_exception(Fixture *f, gconstpointer data)
{
  X86Fpu *fpu = &f->cpu->x86.fpu;
  const float one = 1;
  fpu->mxcsr = 0x1f80 & ~0x200u;
  memcpy(fpu->xmm[0], &one, 4);
  g_assert_cmpuint(RUN(f, "\x90\xf3\x0f\x5e\xc1"), ==, X86_EXC_XM);
  g_assert_cmphex(f->cpu->x86.rip, ==, CODE + 1);
  g_assert_cmphex(fpu->mxcsr & 0x3f, ==, 4);
  g_assert_cmpmem(fpu->xmm[0], 4, &one, 4);
  f->cpu->x86.cr4 &= ~(uint64_t)X86_CR4_OSXMMEXCPT;
  g_assert_cmpuint(RUN(f, "\x90\xf3\x0f\x5e\xc1"), ==, X86_EXC_UD);
  /* Unmasked within a block: LDMXCSR takes effect at once. */
  uint32_t mxcsr = 0x1f80;
  bool written = vm_memory_write(f->memory, DATA, &mxcsr, 4);
  g_assert_true(written);
  g_assert_cmpuint(RUN(f, "\x0f\xae\x13\xf3\x0f\x5e\xc1"), ==, X86_EXC_BP);
  g_assert_cmphex(fpu->mxcsr, ==, 0x1f84);
  mxcsr = 0x1d80;
  written = vm_memory_write(f->memory, DATA, &mxcsr, 4);
  g_assert_true(written);
  memcpy(fpu->xmm[0], &one, 4);
  f->cpu->x86.cr4 |= X86_CR4_OSXMMEXCPT;
  g_assert_cmpuint(RUN(f, "\x0f\xae\x13\xf3\x0f\x5e\xc1"), ==, X86_EXC_XM);
}

/* XSAVE [EBX] of x87 and SSE; new contents; XRSTOR [EBX]. What XSTATE_BV does not name is initialised. */
static void test_xsave(Fixture *f, gconstpointer data)
{
  X86Cpu *x86 = &f->cpu->x86;
  x86->cr4 |= X86_CR4_OSXSAVE;
  x86->xcr0 = 3;
  x86->gpr[X86_RAX] = 3;
  x86->gpr[X86_RDX] = 0;
  x86->fpu.fcw = 0x27f;
  memset(x86->fpu.xmm[3], 0x77, 16);
  g_assert_cmpuint(RUN(f, "\xd9\xeb\x0f\xae\x23"), ==, X86_EXC_BP); /* FLDPI; XSAVE */
  g_assert_cmphex(vm_memory_load(f->memory, VM_VIEW_NORMAL, DATA + 512, 8), ==, 3);
  g_assert_cmpuint(RUN(f, "\xdb\xe3\x0f\x57\xdb\x0f\xae\x2b"), ==, X86_EXC_BP); /* FNINIT; XORPS XMM3, XMM3; XRSTOR */
  g_assert_cmphex(x86->fpu.fcw, ==, 0x27f);
  g_assert_cmphex(x86->fpu.ftw, ==, 0x80);
  g_assert_cmphex(x86->fpu.xmm[3][15], ==, 0x77);
  vm_memory_store(f->memory, VM_VIEW_NORMAL, DATA + 512, 2, 8);
  g_assert_cmpuint(RUN(f, "\x0f\xae\x2b"), ==, X86_EXC_BP);
  g_assert_cmphex(x86->fpu.fcw, ==, X87_CW_DEFAULT);
  g_assert_cmphex(x86->fpu.ftw, ==, 0);
  g_assert_cmphex(x86->fpu.xmm[3][15], ==, 0x77);
  vm_memory_store(f->memory, VM_VIEW_NORMAL, DATA + 512, 4, 8); /* a component that XCR0 has not */
  g_assert_cmpuint(RUN(f, "\x0f\xae\x2b"), ==, X86_EXC_GP);
}

/* The host's own control state is what it was, whatever the guest's is. */
static void test_host_state(Fixture *f, gconstpointer data)
{
  uint16_t control;
  f->cpu->x86.fpu.mxcsr = 0x7f80; /* round to zero */
  f->cpu->x86.fpu.fcw = 0xf7f;
  uint32_t mxcsr = __builtin_ia32_stmxcsr();
  g_assert_cmpuint(RUN(f, "\xd9\xe8\xd9\xeb\xde\xf9\x0f\x58\xc1"), ==, X86_EXC_BP); /* FLD1; FLDPI; FDIVP; ADDPS */
  g_assert_cmphex(__builtin_ia32_stmxcsr() & ~0x3fu, ==, mxcsr & ~0x3fu);
  __asm__ volatile("fnstcw %0" : "=m"(control));
  g_assert_cmphex(control, ==, X87_CW_DEFAULT);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "image-round-trip", test_image_round_trip },
    { "availability", test_availability },
    { "error-by-exception", test_error_by_exception },
    { "error-by-interrupt", test_error_by_interrupt },
    { "environment-protected-16", test_environment_protected16 },
    { "environment-real", test_environment_real },
    { "simd-exception", test_simd_exception },
    { "xsave", test_xsave },
    { "host-state", test_host_state },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
    for (int interp = 0; interp < 2; interp++) {
      g_autofree char *path = g_strdup_printf("/tcg/fpu/%s/%s", interp ? "interp" : "jit", tests[i].name);
      g_test_add(path, Fixture, GINT_TO_POINTER(interp), set_up, tests[i].func, tear_down);
    }
  }
  return g_test_run();
}

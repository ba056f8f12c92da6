/*
 * The x86 front end by what its code does: short programs in real mode and 64-bit mode, run by each back end. The
 * differential tester covers user-mode instructions against the processor; here is what it cannot reach: 16-bit code and
 * stacks, segment limits, repeated strings that fault half-way, single-step, interrupt shadows, software interrupts.
 */
#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"
#include "vm-engine/memory.h"

#define RAM_BYTES 0x200000u
#define CODE      0x10000u /* CS, DS = ES and SS: bases */
#define DATA      0x20000u
#define STACK     0x40000u

typedef struct Fixture {
  VmMemory *memory;
  uint8_t *ram;
  TcgCpu *cpu;
} Fixture;

static void set_segment(TcgCpu *cpu, unsigned seg, uint32_t base, uint32_t limit)
{
  uint32_t attr = X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED | (seg == X86_CS ? X86_ATTR_CODE : 0);
  cpu->x86.seg[seg] = (X86Segment){ .base = base, .limit = limit, .attr = attr, .selector = (uint16_t)(base >> 4) };
}

static void set_up(Fixture *f, gconstpointer backend)
{
  GError *error = NULL;
  f->memory = vm_memory_new(&error);
  g_assert_no_error(error);
  VmRam *ram = vm_ram_new(f->memory, "ram", RAM_BYTES, &error);
  g_assert_no_error(error);
  vm_region_new_ram(f->memory, "ram", 0, RAM_BYTES, 0, ram, 0, VM_ACCESS_RW);
  f->ram = vm_ram_get_hva(ram);
  f->cpu = tcg_cpu_new_bare(f->memory, (TcgBackend)GPOINTER_TO_INT(backend));
  X86Cpu *x86 = &f->cpu->x86;
  set_segment(f->cpu, X86_CS, CODE, 0xffff);
  set_segment(f->cpu, X86_DS, DATA, 0xffff);
  set_segment(f->cpu, X86_ES, DATA, 0xffff);
  set_segment(f->cpu, X86_SS, STACK, 0xffff);
  x86->rip = 0;
  memset(x86->gpr, 0, sizeof x86->gpr);
  x86->gpr[X86_RSP] = 0x1000;
  x86->rflags = X86_F_FIXED;
  x86_tcg_import(f->cpu);
}

static void tear_down(Fixture *f, gconstpointer backend)
{
  tcg_cpu_free_bare(f->cpu);
  vm_memory_free(f->memory);
}

#define LOAD(f, ...)                                                                                                   \
  do {                                                                                                                 \
    static const uint8_t code_bytes[] = { __VA_ARGS__ };                                                               \
    g_assert_true(vm_memory_write((f)->memory, CODE, code_bytes, sizeof code_bytes));                                  \
  } while (0)

static uint64_t *gpr(Fixture *f)
{
  return f->cpu->x86.gpr;
}

static void run_to_halt(Fixture *f)
{
  TcgStop stop = tcg_cpu_run_bare(f->cpu, 100000, false, true);
  if (stop != TCG_STOP_HALT)
    g_error("stopped by %d, vector %u, at %" G_GINT64_MODIFIER "x", stop, f->cpu->exc_vector, f->cpu->x86.rip);
}

static void run_to_exception(Fixture *f, unsigned vector, uint64_t rip)
{
  g_assert_cmpint(tcg_cpu_run_bare(f->cpu, 100000, false, true), ==, TCG_STOP_EXCEPTION);
  g_assert_cmpuint(f->cpu->exc_vector, ==, vector);
  g_assert_cmphex(f->cpu->x86.rip, ==, rip);
}

/* ---- 16-bit addresses and stacks ---------------------------------------------------------------------------------- */

static void test_stack_wraps(Fixture *f, gconstpointer backend)
{
  /* mov sp, 2; push ax; push bx; push sp; pop cx; pusha; popa; pop dx; hlt */
  LOAD(f, 0xbc, 0x02, 0x00, 0x50, 0x53, 0x54, 0x59, 0x60, 0x61, 0x5a, 0xf4);
  gpr(f)[X86_RAX] = 0x1234;
  gpr(f)[X86_RBX] = 0xffff5678;
  gpr(f)[X86_RSP] = 0xabcd0000;
  run_to_halt(f);
  g_assert_cmphex(gpr(f)[X86_RSP], ==, 0xabcd0000);
  g_assert_cmphex(gpr(f)[X86_RCX], ==, 0xfffe);
  g_assert_cmphex(gpr(f)[X86_RDX], ==, 0x5678);
  g_assert_cmphex(gpr(f)[X86_RBX], ==, 0xffff5678);
  g_assert_cmphex(f->ram[STACK + 1] << 8 | f->ram[STACK], ==, 0x1234);
}

static void test_address_wraps(Fixture *f, gconstpointer backend)
{
  /* mov bx, fff0; mov si, 20; mov al, [bx+si]; mov cx, 2; xor dx, dx; l: inc dx; loop l; jcxz e; hlt; e: mov dh, 77; hlt */
  LOAD(f, 0xbb, 0xf0, 0xff, 0xbe, 0x20, 0x00, 0x8a, 0x00, 0xb9, 0x02, 0x00, 0x31, 0xd2, 0x42, 0xe2, 0xfd, 0xe3, 0x01,
       0xf4, 0xb6, 0x77, 0xf4);
  f->ram[DATA + 0x10] = 0x5a;
  gpr(f)[X86_RCX] = 0x99990000;
  run_to_halt(f);
  g_assert_cmphex(gpr(f)[X86_RAX], ==, 0x5a);
  g_assert_cmphex(gpr(f)[X86_RCX], ==, 0x99990000);
  g_assert_cmphex(gpr(f)[X86_RDX], ==, 0x7702);
}

/* A word at offset FFFF does not wrap: it is beyond the limit. */
static void test_limit(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xbb, 0xff, 0xff, 0x8b, 0x07, 0xf4); /* mov bx, ffff; mov ax, [bx] */
  run_to_exception(f, X86_EXC_GP, 3);
}

static void test_enter(Fixture *f, gconstpointer backend)
{
  /* mov bp, 3000; mov word [bp-2], 1111; mov sp, 2000; enter 8, 2; mov ax, sp; leave; hlt */
  LOAD(f, 0xbd, 0x00, 0x30, 0xc7, 0x46, 0xfe, 0x11, 0x11, 0xbc, 0x00, 0x20, 0xc8, 0x08, 0x00, 0x02, 0x89, 0xe0, 0xc9,
       0xf4);
  run_to_halt(f);
  uint16_t *stack = (uint16_t *)(void *)(f->ram + STACK);
  g_assert_cmphex(stack[0x1ffe / 2], ==, 0x3000);
  g_assert_cmphex(stack[0x1ffc / 2], ==, 0x1111);
  g_assert_cmphex(stack[0x1ffa / 2], ==, 0x1ffe);
  g_assert_cmphex(gpr(f)[X86_RAX], ==, 0x1ff2);
  g_assert_cmphex(gpr(f)[X86_RSP], ==, 0x2000);
  g_assert_cmphex(gpr(f)[X86_RBP], ==, 0x3000);
}

/* ---- strings -------------------------------------------------------------------------------------------------------- */

static void set_string(Fixture *f, uint64_t rcx, uint64_t rsi, uint64_t rdi)
{
  gpr(f)[X86_RCX] = rcx;
  gpr(f)[X86_RSI] = rsi;
  gpr(f)[X86_RDI] = rdi;
}

static void fill_data(Fixture *f)
{
  for (unsigned i = 0; i < 0x10000; i++)
    f->ram[DATA + i] = (uint8_t)(i * 7 + (i >> 8));
}

static void test_movs_faults_half_way(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xf3, 0xa5, 0xf4); /* rep movsw */
  fill_data(f);
  set_segment(f->cpu, X86_ES, DATA + 0x10000, 0x1806);
  set_string(f, 0x1000, 0x100, 0x800);
  run_to_exception(f, X86_EXC_GP, 0);
  g_assert_cmphex(gpr(f)[X86_RDI], ==, 0x1806);
  g_assert_cmphex(gpr(f)[X86_RSI], ==, 0x1106);
  g_assert_cmphex(gpr(f)[X86_RCX], ==, 0x1000 - 0x803);
  g_assert_cmpmem(f->ram + DATA + 0x10800, 0x1006, f->ram + DATA + 0x100, 0x1006);
  g_assert_cmphex(f->ram[DATA + 0x11806], ==, 0);
}

static void test_movs_downwards(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xfd, 0xf3, 0xa5, 0xfc, 0xf4); /* std; rep movsw; cld */
  fill_data(f);
  g_autofree uint8_t *expected = g_memdup2(f->ram + DATA, 0x10000);
  memmove(expected + 0x1102, expected + 0x1002, 0x1000);
  set_string(f, 0x800, 0x2000, 0x2100);
  run_to_halt(f);
  g_assert_cmphex(gpr(f)[X86_RSI], ==, 0x1000);
  g_assert_cmphex(gpr(f)[X86_RDI], ==, 0x1100);
  g_assert_cmphex(gpr(f)[X86_RCX], ==, 0);
  g_assert_cmpmem(f->ram + DATA, 0x10000, expected, 0x10000);
  g_assert_false(f->cpu->x86.rflags & X86_F_DF);
}

/* A destination just above the source repeats the first bytes. */
static void test_movs_pattern(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xf3, 0xa4, 0xf4);
  memcpy(f->ram + DATA + 0xff0, "abc", 3);
  set_string(f, 0x1000, 0xff0, 0xff3);
  run_to_halt(f);
  for (unsigned i = 0; i < 0x1003; i++)
    g_assert_cmphex(f->ram[DATA + 0xff0 + i], ==, (uint8_t) "abc"[i % 3]);
  g_assert_cmphex(f->ram[DATA + 0xff0 + 0x1003], ==, 0);
}

static void test_stos(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xf3, 0x66, 0xab, 0xf4); /* rep stosd */
  gpr(f)[X86_RAX] = 0x11223344;
  set_string(f, 0x3000, 0, 0xffd);
  run_to_halt(f);
  for (unsigned i = 0; i < 0x3000; i++) {
    uint32_t value;
    memcpy(&value, f->ram + DATA + 0xffd + 4 * i, 4);
    g_assert_cmphex(value, ==, 0x11223344);
  }
  g_assert_cmphex(gpr(f)[X86_RDI], ==, 0xcffd);
}

static void test_scas_and_cmps(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xf2, 0xae, 0x0f, 0x94, 0xc2, 0x0f, 0x92, 0xc6, 0xf4); /* repne scasb; sete dl; setb dh */
  f->ram[DATA + 0x1805] = 0x42;
  gpr(f)[X86_RAX] = 0x42;
  set_string(f, 0xf000, 0, 0x10);
  run_to_halt(f);
  g_assert_cmphex(gpr(f)[X86_RDI], ==, 0x1806);
  g_assert_cmphex(gpr(f)[X86_RCX], ==, 0xf000 - (0x1806 - 0x10));
  g_assert_cmphex(gpr(f)[X86_RDX], ==, 0x0001);

  LOAD(f, 0xf3, 0xa6, 0x0f, 0x94, 0xc2, 0x0f, 0x92, 0xc6, 0xf4); /* repe cmpsb; sete dl; setb dh */
  f->cpu->x86.rip = 0;
  f->cpu->x86.halted = 0;
  f->ram[DATA + 0x8000 + 0x1805] = 0x43;
  set_string(f, 0x7000, 0, 0x8000);
  run_to_halt(f);
  g_assert_cmphex(gpr(f)[X86_RSI], ==, 0x1806);
  g_assert_cmphex(gpr(f)[X86_RDI], ==, 0x9806);
  g_assert_cmphex(gpr(f)[X86_RDX], ==, 0x0100);
}

/* ---- locked operations ------------------------------------------------------------------------------------------------ */

static void test_locked(Fixture *f, gconstpointer backend)
{
  /* mov eax, 5; mov ebx, 7; lock xadd [600], eax; lock cmpxchg [604], ebx; lock cmpxchg8b [608]; lock neg byte [610];
   * lock bts dword [614], 33; xchg [618], bx; hlt */
  LOAD(f, 0x66, 0xb8, 0x05, 0x00, 0x00, 0x00, 0x66, 0xbb, 0x07, 0x00, 0x00, 0x00, 0xf0, 0x66, 0x0f, 0xc1, 0x06, 0x00,
       0x06, 0xf0, 0x66, 0x0f, 0xb1, 0x1e, 0x04, 0x06, 0xf0, 0x0f, 0xc7, 0x0e, 0x08, 0x06, 0xf0, 0xf6, 0x1e, 0x10, 0x06,
       0xf0, 0x66, 0x0f, 0xba, 0x2e, 0x14, 0x06, 0x21, 0x87, 0x1e, 0x18, 0x06, 0xf4);
  uint32_t *at = (uint32_t *)(void *)(f->ram + DATA + 0x600);
  at[0] = 100;
  at[1] = 100; /* what XADD leaves in EAX */
  at[2] = 100;
  at[3] = 0xd0;
  at[4] = 1;
  at[6] = 0xbeef;
  gpr(f)[X86_RDX] = 0xd0;
  gpr(f)[X86_RCX] = 0xc0;
  run_to_halt(f);
  g_assert_cmpuint(at[0], ==, 105);
  g_assert_cmpuint(at[1], ==, 7);
  g_assert_cmpuint(at[2], ==, 7);
  g_assert_cmpuint(at[3], ==, 0xc0);
  g_assert_cmphex(at[4], ==, 0xff);
  g_assert_cmphex(at[5], ==, 2);
  g_assert_cmphex(at[6], ==, 7);
  g_assert_cmphex(gpr(f)[X86_RBX], ==, 0xbeef);
}

/* Across a page there is no host atomic; the result is the same. */
static void test_locked_across_pages(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xf0, 0x66, 0x01, 0x06, 0xfe, 0x0f, 0xf4); /* lock add [0ffe], eax */
  gpr(f)[X86_RAX] = 0x00010001;
  memset(f->ram + DATA + 0xffe, 0xff, 4);
  run_to_halt(f);
  uint32_t value;
  memcpy(&value, f->ram + DATA + 0xffe, 4);
  g_assert_cmphex(value, ==, 0x00010000);
}

/* ---- exceptions, single-step, shadows ------------------------------------------------------------------------------------ */

static void test_faults(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0x90, 0xf6, 0xf3); /* nop; div bl */
  run_to_exception(f, X86_EXC_DE, 1);
  f->cpu->exc_pending = 0;
  f->cpu->x86.rip = 0x100;
  static const uint8_t code[] = { 0x62, 0x06, 0x00, 0x06 }; /* bound ax, [600] */
  memcpy(f->ram + CODE + 0x100, code, sizeof code);
  memcpy(f->ram + DATA + 0x600, "\xfe\xff\x02\x00", 4);
  gpr(f)[X86_RAX] = 3;
  run_to_exception(f, X86_EXC_BR, 0x100);
  f->cpu->exc_pending = 0;
  f->cpu->x86.rip = 0x200;
  memcpy(f->ram + CODE + 0x200, "\x0f\x0b", 2);
  run_to_exception(f, X86_EXC_UD, 0x200);
  f->cpu->exc_pending = 0;
  f->cpu->x86.rip = 0x300;
  memset(f->ram + CODE + 0x300, 0x66, 16);
  run_to_exception(f, X86_EXC_GP, 0x300);
}

/* INT pushes flags, CS and the next IP, and goes where the vector table says. */
static void test_software_interrupt(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xcd, 0x21, 0xb3, 0x55, 0xf4);                 /* int 21; mov bl, 55; hlt */
  static const uint8_t handler[] = { 0xb0, 0x77, 0xcf }; /* mov al, 77; iret */
  memcpy(f->ram + CODE + 0x500, handler, sizeof handler);
  memcpy(f->ram + 0x21 * 4, "\x00\x05\x00\x10", 4);
  g_assert_cmpint(tcg_cpu_run_bare(f->cpu, 1000, false, false), ==, TCG_STOP_HALT);
  g_assert_cmphex(gpr(f)[X86_RAX] & 0xff, ==, 0x77);
  g_assert_cmphex(gpr(f)[X86_RBX] & 0xff, ==, 0x55);
  g_assert_cmphex(gpr(f)[X86_RSP], ==, 0x1000);
  g_assert_cmphex(f->ram[STACK + 0xffa], ==, 2);
}

static void step_once(Fixture *f, uint64_t next)
{
  g_assert_cmpint(tcg_cpu_run_bare(f->cpu, 1000, false, true), ==, TCG_STOP_EXCEPTION);
  g_assert_cmpuint(f->cpu->exc_vector, ==, X86_EXC_DB);
  g_assert_true(f->cpu->exc_is_trap);
  g_assert_cmphex(f->cpu->exc_next_rip, ==, next);
  f->cpu->exc_pending = 0;
  f->cpu->x86.rip = f->cpu->exc_next_rip;
}

/* One trap behind each instruction, taken branches and single string iterations included. */
static void test_single_step(Fixture *f, gconstpointer backend)
{
  /* 0: inc ax; 1: jmp 4; 4: loop 4; 6: rep stosb; 8: mov ss, ax; a: nop; b: nop */
  LOAD(f, 0x40, 0xeb, 0x01, 0xf4, 0xe2, 0xfe, 0xf3, 0xaa, 0x8e, 0xd0, 0x90, 0x90);
  tcg_set_rflags(f->cpu, tcg_get_rflags(f->cpu) | X86_F_TF);
  gpr(f)[X86_RCX] = 2;
  step_once(f, 1);
  g_assert_cmphex(gpr(f)[X86_RAX], ==, 1);
  step_once(f, 4);
  step_once(f, 4);
  step_once(f, 6);
  gpr(f)[X86_RCX] = 2;
  step_once(f, 6);
  g_assert_cmphex(gpr(f)[X86_RCX], ==, 1);
  step_once(f, 8);
  step_once(f, 0xb); /* none behind MOV SS */
}

static void test_shadow(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0xfb, 0x90, 0x90, 0xf4); /* sti; nop; nop */
  tcg_cpu_run_bare(f->cpu, 1, true, true);
  g_assert_cmphex(f->cpu->x86.rip, ==, 1);
  g_assert_cmpuint(f->cpu->x86.interrupt_shadow, ==, 1);
  tcg_cpu_run_bare(f->cpu, 1, true, true);
  g_assert_cmphex(f->cpu->x86.rip, ==, 2);
  g_assert_cmpuint(f->cpu->x86.interrupt_shadow, ==, 0);
}

/* A store into the instruction that follows is seen by it. */
static void test_self_modification(Fixture *f, gconstpointer backend)
{
  LOAD(f, 0x2e, 0xc6, 0x06, 0x07, 0x00, 0x55, 0xb0, 0x11, 0xf4); /* mov byte [cs:7], 55; mov al, 11; hlt */
  run_to_halt(f);
  g_assert_cmphex(gpr(f)[X86_RAX], ==, 0x55);
}

/* An instruction across two pages, and a block that ends with it. */
static void test_across_pages(Fixture *f, gconstpointer backend)
{
  static const uint8_t code[] = { 0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4 }; /* mov eax, 12345678; hlt */
  memcpy(f->ram + CODE + 0xffd, code, sizeof code);
  f->cpu->x86.rip = 0xffd;
  run_to_halt(f);
  g_assert_cmphex(gpr(f)[X86_RAX], ==, 0x12345678);
}

typedef void (*TestFunc)(Fixture *f, gconstpointer backend);

static void add(const char *name, TestFunc func)
{
  static const struct {
    const char *name;
    TcgBackend backend;
  } backends[] = { { "interp", TCG_BACKEND_INTERP }, { "jit", TCG_BACKEND_JIT } };
  for (unsigned i = 0; i < G_N_ELEMENTS(backends); i++) {
    g_autofree char *path = g_strdup_printf("/frontend/%s/%s", backends[i].name, name);
    g_test_add(path, Fixture, GINT_TO_POINTER(backends[i].backend), set_up, func, tear_down);
  }
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  add("stack-wraps", test_stack_wraps);
  add("address-wraps", test_address_wraps);
  add("limit", test_limit);
  add("enter", test_enter);
  add("movs-faults-half-way", test_movs_faults_half_way);
  add("movs-downwards", test_movs_downwards);
  add("movs-pattern", test_movs_pattern);
  add("stos", test_stos);
  add("scas-and-cmps", test_scas_and_cmps);
  add("locked", test_locked);
  add("locked-across-pages", test_locked_across_pages);
  add("faults", test_faults);
  add("software-interrupt", test_software_interrupt);
  add("single-step", test_single_step);
  add("shadow", test_shadow);
  add("self-modification", test_self_modification);
  add("across-pages", test_across_pages);
  return g_test_run();
}

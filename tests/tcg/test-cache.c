/*
 * The execution loop and its tables: chained blocks, code that changes, pages that are remapped, a full cache, requests to
 * leave. Small programs of machine code, 32-bit protected mode, flat segments, with both back ends.
 */
#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"
#include "vm-engine/accel/tcg/tcg-impl.h"
#include "vm-engine/memory.h"

enum { RAM_BYTES = 4 << 20, CODE = 0x10000, DATA = 0x80000, STACK = 0x90000 };

typedef struct Fixture {
  VmMemory *memory;
  uint8_t *ram;
  TcgCpu *cpu;
} Fixture;

static void set_segment(TcgCpu *cpu, unsigned seg, uint32_t type)
{
  uint32_t attr = X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED | X86_ATTR_DB | X86_ATTR_G | type;
  cpu->x86.seg[seg] = (X86Segment){ .limit = 0xffffffff, .attr = attr, .selector = (uint16_t)(8 * (seg + 1)) };
}

static void start_at(Fixture *f, uint32_t rip)
{
  X86Cpu *x86 = &f->cpu->x86;
  x86->rip = rip;
  memset(x86->gpr, 0, sizeof x86->gpr);
  x86->gpr[X86_RSP] = STACK;
  x86->rflags = X86_F_FIXED;
  x86->halted = 0;
  x86_tcg_import(f->cpu);
}

static void set_up(Fixture *f, gconstpointer backend)
{
  g_autoptr(GError) error = NULL;
  f->memory = vm_memory_new(&error);
  g_assert_no_error(error);
  VmRam *ram = vm_ram_new(f->memory, "ram", RAM_BYTES, &error);
  g_assert_no_error(error);
  vm_region_new_ram(f->memory, "ram", 0, RAM_BYTES, 0, ram, 0, VM_ACCESS_RW);
  f->ram = vm_ram_get_hva(ram);
  f->cpu = tcg_cpu_new_bare(f->memory, (TcgBackend)GPOINTER_TO_INT(backend));
  for (unsigned seg = 0; seg < X86_N_SEG; seg++)
    set_segment(f->cpu, seg, seg == X86_CS ? X86_ATTR_CODE : 0);
  f->cpu->x86.cr0 |= X86_CR0_PE;
  start_at(f, CODE);
}

static void tear_down(Fixture *f, gconstpointer backend)
{
  tcg_cpu_free_bare(f->cpu);
  vm_memory_free(f->memory);
}

static void load(Fixture *f, uint32_t at, const void *bytes, size_t n)
{
  g_assert_true(vm_memory_write(f->memory, at, bytes, n));
}
#define LOAD(f, at, ...)                                                                                               \
  do {                                                                                                                 \
    static const uint8_t b_[] = { __VA_ARGS__ };                                                                       \
    load(f, at, b_, sizeof b_);                                                                                        \
  } while (0)

static uint32_t reg(const Fixture *f, unsigned r)
{
  return (uint32_t)f->cpu->x86.gpr[r];
}

/* Chained, without counting. */
static void run(Fixture *f)
{
  TcgStop stop = tcg_cpu_run_bare(f->cpu, UINT64_MAX, false, true);
  if (stop != TCG_STOP_HALT)
    g_error("stopped by %d, vector %u, at %" G_GINT64_MODIFIER "x", stop, f->cpu->exc_vector, f->cpu->x86.rip);
}

static TcgCounters *counters(Fixture *f)
{
  return &f->cpu->tcg->counters;
}

static bool is_jit(Fixture *f)
{
  return f->cpu->tcg->backend == TCG_BACKEND_JIT;
}

/* ---- chaining ---------------------------------------------------------------------------------------------------------- */

static void test_loop(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0xb9, 0x10, 0x27, 0, 0, /* mov ecx, 10000 */
       0x01, 0xc8, 0x49, 0x75, 0xfb,    /* L: add eax, ecx; dec ecx; jnz L */
       0x0f, 0x94, 0xc3, 0xf4);         /* setz bl; hlt */
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 50005000);
  g_assert_cmpuint(reg(f, X86_RBX), ==, 1);
  if (is_jit(f)) {
    g_assert_cmpuint(counters(f)->links, >, 0);
    g_assert_cmpuint(counters(f)->tables_misses, <, 20); /* the loop did not come back each time */
  }
}

static void test_calls_across_pages(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0xb9, 0x88, 0x13, 0, 0,                 /* mov ecx, 5000 */
       0xe8, 0xf6, 0x0f, 0, 0, 0x49, 0x75, 0xf8, 0xf4); /* L: call CODE + 0x1000; dec ecx; jnz L; hlt */
  LOAD(f, CODE + 0x1000, 0x83, 0xc0, 0x03, 0xc3);       /* add eax, 3; ret */
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 15000);
  if (is_jit(f))
    g_assert_cmpuint(counters(f)->tables_misses, <, 30);
}

static void test_exact_count(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0x40, 0x40, 0x40, 0xeb, 0xfb); /* inc eax three times; jmp back */
  g_assert_cmpint(tcg_cpu_run_bare(f->cpu, 10, true, true), ==, TCG_STOP_BUDGET);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 8);
  g_assert_cmphex(f->cpu->x86.rip, ==, CODE + 2);
  g_assert_cmpint(tcg_cpu_run_bare(f->cpu, 400, false, true), ==, TCG_STOP_BUDGET);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 308);
}

/* ---- code that changes --------------------------------------------------------------------------------------------------- */

static void test_data_beside_code(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0xb9, 0xe8, 3, 0, 0,                          /* mov ecx, 1000 */
       0x01, 0x0d, 0, 0x08, 0x01, 0, 0x49, 0x75, 0xf7, 0xf4); /* L: add [CODE + 0x800], ecx; dec ecx; jnz L */
  run(f);
  uint32_t sum;
  memcpy(&sum, f->ram + CODE + 0x800, 4);
  g_assert_cmpuint(sum, ==, 500500);
  g_assert_cmpuint(counters(f)->code_writes, >, 0);
  g_assert_cmpuint(counters(f)->dropped, ==, 0);
}

static void test_patched_ahead(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0xb9, 0x64, 0, 0, 0, /* mov ecx, 100 */
       0xfe, 0x05, 0x0c, 0, 1, 0,    /* L: inc byte [P + 1] */
       0x05, 0x00, 0, 0, 0,          /* P: add eax, 0 */
       0x49, 0x75, 0xf2, 0xf4);      /* dec ecx; jnz L; hlt */
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 5050);
  g_assert_cmpuint(counters(f)->dropped, >=, 100);
}

/* A plain store, whose instruction goes on behind it (the stack pointer), into the instruction that follows. */
static void test_push_into_next(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0xbc, 0x0e, 0, 1, 0,  /* mov esp, P + 4 */
       0x68, 0x40, 0x40, 0x40, 0xf4,  /* push: inc eax, inc eax, inc eax, hlt */
       0x90, 0x90, 0x90, 0x90, 0xf4); /* P */
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 3);
  g_assert_cmphex(reg(f, X86_RSP), ==, CODE + 10);
}

static void test_store_into_next(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0xc6, 0x05, 0x07, 0, 1, 0, 0x43, 0x40, 0xf4); /* mov byte [next], 0x43; inc eax → inc ebx; hlt */
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 0);
  g_assert_cmpuint(reg(f, X86_RBX), ==, 1);
}

static void test_string_store_into_next(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0xbf, 0x11, 0, 1, 0, 0xb0, 0x43, 0xb9, 4, 0, 0, 0,  /* mov edi, P; mov al, 0x43; mov ecx, 4 */
       0xf3, 0xaa, 0x31, 0xc0, 0x90, 0x40, 0x40, 0x40, 0x40, 0xf4); /* rep stosb; xor eax, eax; P: inc eax … ; hlt */
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 0);
  g_assert_cmpuint(reg(f, X86_RBX), ==, 4);
}

/* A device's write. */
static void test_written_from_outside(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0x40, 0xf4);
  run(f);
  LOAD(f, CODE, 0x43, 0xf4);
  start_at(f, CODE);
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 0);
  g_assert_cmpuint(reg(f, X86_RBX), ==, 1);
}

/* A chained jump must not lead into what was dropped. */
static void test_unchained(Fixture *f, gconstpointer data)
{
  LOAD(f, CODE, 0xeb, 0x3e);              /* jmp +0x40 */
  LOAD(f, CODE + 0x40, 0x40, 0xeb, 0x3d); /* inc eax; jmp +0x80 */
  LOAD(f, CODE + 0x80, 0xf4);
  for (int i = 0; i < 3; i++) {
    start_at(f, CODE);
    run(f);
    g_assert_cmpuint(reg(f, X86_RAX), ==, 1);
  }
  LOAD(f, CODE + 0x40, 0x43);
  start_at(f, CODE);
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 0);
  g_assert_cmpuint(reg(f, X86_RBX), ==, 1);
}

/* ---- pages ----------------------------------------------------------------------------------------------------------------- */

static void map(Fixture *f, uint32_t linear, uint32_t physical)
{
  uint32_t entry = physical | 7;
  g_assert_true(vm_memory_write(f->memory, 0x201000 + (linear >> 12 & 0x3ff) * 4, &entry, 4));
}

static void enable_paging(Fixture *f)
{
  uint32_t entry = 0x201000 | 7;
  g_assert_true(vm_memory_write(f->memory, 0x200000, &entry, 4));
  for (uint32_t page = 0; page < 0x400000; page += 0x1000)
    map(f, page, page);
  f->cpu->x86.cr3 = 0x200000;
  f->cpu->x86.cr0 |= X86_CR0_PG;
  x86_tcg_import(f->cpu);
}

/* A block that begins in a page that stays and ends in one that changes. */
static void test_second_page_remapped(Fixture *f, gconstpointer data)
{
  enable_paging(f);
  LOAD(f, CODE + 0xffe, 0x40, 0xb8); /* inc eax; mov eax, imm … */
  LOAD(f, CODE + 0x1000, 1, 0, 0, 0, 0xf4);
  LOAD(f, CODE + 0x5000, 2, 0, 0, 0, 0xf4);
  for (uint32_t want = 1; want <= 2; want++) {
    start_at(f, CODE + 0xffe);
    run(f);
    g_assert_cmpuint(reg(f, X86_RAX), ==, want);
    map(f, CODE + 0x1000, CODE + 0x5000);
    x86_tlb_flush_page(f->cpu, CODE + 0x1000);
  }
}

static void test_called_page_remapped(Fixture *f, gconstpointer data)
{
  enable_paging(f);
  LOAD(f, CODE, 0xe8, 0xfb, 0x0f, 0, 0, 0xf4); /* call CODE + 0x1000; hlt */
  LOAD(f, CODE + 0x1000, 0xb8, 1, 0, 0, 0, 0xc3);
  LOAD(f, CODE + 0x5000, 0xb8, 2, 0, 0, 0, 0xc3);
  for (uint32_t i = 0; i < 4; i++) {
    start_at(f, CODE);
    run(f);
    g_assert_cmpuint(reg(f, X86_RAX), ==, i < 2 ? 1 : 2);
    if (i == 1) {
      map(f, CODE + 0x1000, CODE + 0x5000);
      x86_tlb_flush_page(f->cpu, CODE + 0x1000);
    }
  }
}

/* Written through another linear address. */
static void test_written_through_alias(Fixture *f, gconstpointer data)
{
  enable_paging(f);
  map(f, 0x300000, CODE);
  LOAD(f, CODE, 0xc6, 0x05, 0x07, 0, 0x30, 0, 0x43, 0x40, 0xf4); /* mov byte [alias of next], 0x43; inc eax; hlt */
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 0);
  g_assert_cmpuint(reg(f, X86_RBX), ==, 1);
}

/* ---- the cache --------------------------------------------------------------------------------------------------------------- */

static void test_two_mappings(Fixture *f, gconstpointer data)
{
  g_autofree char *maps = NULL;
  g_assert_true(g_file_get_contents("/proc/self/maps", &maps, NULL, NULL));
  g_assert_null(strstr(maps, "rwx"));
  g_assert_true(f->cpu->tcg->cache->rw != f->cpu->tcg->cache->rx);
}

static void test_full_cache(Fixture *f, gconstpointer data)
{
  enum { N = 3000 };
  TcgCache *cache = f->cpu->tcg->cache;
  if (!is_jit(f))
    return;
  cache->size = cache->used + TCG_CACHE_RESERVE + (100u << 10);
  uint8_t *code = f->ram + CODE;
  for (unsigned i = 0; i < N; i++)
    memcpy(code + 3 * i, "\x40\xeb", 3);   /* inc eax; jmp to the next */
  memcpy(code + 3 * N, "\x49\x0f\x85", 3); /* dec ecx; jnz to the start */
  int32_t back = -(3 * N + 7);
  memcpy(code + 3 * N + 3, &back, 4);
  code[3 * N + 7] = 0xf4;
  f->cpu->x86.gpr[X86_RCX] = 3;
  run(f);
  g_assert_cmpuint(reg(f, X86_RAX), ==, 3 * N);
  g_assert_cmpuint(counters(f)->flushes, >, 1);
}

/* ---- requests ------------------------------------------------------------------------------------------------------------------ */

static void *kick_later(void *cpu)
{
  g_usleep(5000);
  tcg_kick(cpu);
  return NULL;
}

/* Endless code of any shape is left when somebody asks, with the state whole. */
static void leave_endless(Fixture *f, const uint8_t *code, size_t n)
{
  memset(f->ram + CODE, 0x90, 0x2000);
  load(f, CODE, code, n);
  start_at(f, CODE);
  f->cpu->x86.gpr[X86_RAX] = CODE;
  GThread *thread = g_thread_new("kick", kick_later, f->cpu);
  tcg_exec_begin(f->cpu);
  atomic_store(&f->cpu->jump_generation, f->cpu->exec->generation);
  while (atomic_load(&f->cpu->jump_generation) != 0) {
    unsigned n_insns;
    IrLeave how = tcg_step(f->cpu, &n_insns);
    g_assert_cmpint(how, !=, IR_LEAVE_EXCEPTION);
  }
  tcg_exec_end(f->cpu);
  g_thread_join(thread);
  g_assert_cmphex(f->cpu->x86.rip, >=, CODE);
  g_assert_cmphex(f->cpu->x86.rip, <, CODE + 0x2000);
}

static void test_kick(Fixture *f, gconstpointer data)
{
  static const uint8_t self[] = { 0xeb, 0xfe };                         /* jmp to itself */
  static const uint8_t loop[] = { 0x90, 0x43, 0x75, 0xfc, 0xeb, 0xfa }; /* nop; inc ebx; jnz; jmp */
  static const uint8_t loop_insn[] = { 0xe2, 0xfe, 0xeb, 0xfc };        /* loop to itself; jmp */
  static const uint8_t indirect[] = { 0xff, 0xe0 };                     /* jmp eax */
  static const uint8_t far_apart[] = { 0xe9, 0xfb, 0x0f, 0, 0 };        /* jmp to the next page … */
  static const uint8_t forward_and_back[] = { 0xeb, 0x00, 0x40, 0xeb, 0xfb };
  leave_endless(f, self, sizeof self);
  leave_endless(f, loop, sizeof loop);
  leave_endless(f, loop_insn, sizeof loop_insn);
  leave_endless(f, indirect, sizeof indirect);
  leave_endless(f, forward_and_back, sizeof forward_and_back);
  LOAD(f, CODE + 0x1000, 0xe9, 0xfb, 0xef, 0xff, 0xff); /* … and back */
  memcpy(f->ram + CODE, far_apart, sizeof far_apart);
  start_at(f, CODE);
  GThread *thread = g_thread_new("kick", kick_later, f->cpu);
  tcg_exec_begin(f->cpu);
  atomic_store(&f->cpu->jump_generation, f->cpu->exec->generation);
  while (atomic_load(&f->cpu->jump_generation) != 0) {
    unsigned n_insns;
    tcg_step(f->cpu, &n_insns);
  }
  tcg_exec_end(f->cpu);
  g_thread_join(thread);
}

/* ---- random programs --------------------------------------------------------------------------------------------------------------- */

static uint8_t *random_insn(GRand *rand, uint8_t *p)
{
  static const uint8_t alu[] = { 0x01, 0x11, 0x19, 0x29, 0x31, 0x39, 0x85, 0x00, 0x28, 0x38 };
  unsigned r = (unsigned)g_rand_int_range(rand, 0, 4), s = (unsigned)g_rand_int_range(rand, 0, 4);
  unsigned modrm = 0xc0 | s << 3 | (r == 1 ? 0 : r); /* not ecx, which counts */
  uint32_t address = DATA + (uint32_t)g_rand_int_range(rand, 0, 64);
  switch (g_rand_int_range(rand, 0, 9)) {
  case 0: /* inc, dec */
    *p++ = (uint8_t)((g_rand_int_range(rand, 0, 2) ? 0x40 : 0x48) + (r == 1 ? 0 : r));
    return p;
  case 1: /* setcc */
    *p++ = 0x0f, *p++ = (uint8_t)(0x90 + g_rand_int_range(rand, 0, 16)), *p++ = (uint8_t)(0xc0 | (r == 1 ? 0 : r));
    return p;
  case 2: /* cmovcc */
    *p++ = 0x0f, *p++ = (uint8_t)(0x40 + g_rand_int_range(rand, 0, 16)),
    *p++ = (uint8_t)(0xc0 | (r == 1 ? 0 : r) << 3 | s);
    return p;
  case 3: /* shl, shr, sar, rol by cl or 1 */
    *p++ = g_rand_int_range(rand, 0, 2) ? 0xd3 : 0xd1;
    *p++ = (uint8_t)(0xc0 | (unsigned)g_rand_int_range(rand, 0, 6) << 3 | (r == 1 ? 0 : r));
    return p;
  case 4:
  case 5: /* alu [memory], reg, or the other way */
    *p++ = (uint8_t)(alu[g_rand_int_range(rand, 0, 6)] | (s == 1 || g_rand_int_range(rand, 0, 2) ? 0 : 2));
    *p++ = (uint8_t)(0x05 | s << 3);
    memcpy(p, &address, 4);
    return p + 4;
  case 6: /* push and pop */
    *p++ = (uint8_t)(0x50 + s), *p++ = (uint8_t)(0x58 + (r == 1 ? 0 : r));
    return p;
  default:
    *p++ = alu[g_rand_int_range(rand, 0, G_N_ELEMENTS(alu))], *p++ = (uint8_t)modrm;
    return p;
  }
}

/* A loop of ALU instructions with jumps forward over some of them. */
static size_t random_program(GRand *rand, uint8_t *code)
{
  uint8_t *p = code;
  for (int i = g_rand_int_range(rand, 5, 60); i > 0; i--) {
    if (g_rand_int_range(rand, 0, 4) != 0) {
      p = random_insn(rand, p);
      continue;
    }
    uint8_t *jump = p;
    p += 2;
    for (int k = g_rand_int_range(rand, 0, 4); k > 0; k--)
      p = random_insn(rand, p);
    jump[0] = g_rand_int_range(rand, 0, 6) == 0 ? 0xeb : (uint8_t)(0x70 + g_rand_int_range(rand, 0, 16));
    jump[1] = (uint8_t)(p - jump - 2);
  }
  *p++ = 0x8d, *p++ = 0x49, *p++ = 0xff; /* lea ecx, [ecx - 1]: no flags */
  *p++ = 0xe3, *p++ = 0x05;              /* jecxz out */
  *p++ = 0xe9;
  int32_t back = (int32_t)(code - (p + 4));
  memcpy(p, &back, 4);
  p += 4;
  *p++ = 0x9c, *p++ = 0x5e, *p++ = 0xf4; /* pushf; pop esi; hlt */
  return (size_t)(p - code);
}

static void run_program(Fixture *f, const uint8_t *code, size_t n, uint32_t at, unsigned seed, uint64_t budget)
{
  memset(f->ram + DATA, 0x5a, 0x1000);
  memset(f->ram + STACK - 0x100, 0, 0x100);
  load(f, at, code, n);
  start_at(f, at);
  for (unsigned r = 0; r < 4; r++)
    f->cpu->x86.gpr[r] = (seed + 1) * 0x9e3779b1u * (r + 1) & 0xffffffff;
  f->cpu->x86.gpr[X86_RCX] = 12;
  g_assert_cmpint(tcg_cpu_run_bare(f->cpu, budget, false, true), ==, TCG_STOP_HALT);
}

/* Chained host code against interpreted single blocks: flags and registers pass from block to block. */
static void test_random_programs(Fixture *f, gconstpointer data)
{
  Fixture other;
  set_up(&other, GINT_TO_POINTER(TCG_BACKEND_INTERP));
  for (unsigned seed = 0; seed < 300; seed++) {
    GRand *rand = g_rand_new_with_seed(seed);
    uint8_t code[4096];
    size_t n = random_program(rand, code);
    uint32_t at = CODE + (uint32_t)g_rand_int_range(rand, 0, 0x1000);
    run_program(f, code, n, at, seed, UINT64_MAX);
    run_program(&other, code, n, at, seed, 1000000);
    for (unsigned r = 0; r < 8; r++) {
      if (f->cpu->x86.gpr[r] != other.cpu->x86.gpr[r])
        g_error("program %u: register %u is %" G_GINT64_MODIFIER "x, not %" G_GINT64_MODIFIER "x", seed, r,
                f->cpu->x86.gpr[r], other.cpu->x86.gpr[r]);
    }
    g_assert_cmpmem(f->ram + DATA, 0x1000, other.ram + DATA, 0x1000);
    g_rand_free(rand);
  }
  tear_down(&other, NULL);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "loop", test_loop },
    { "calls-across-pages", test_calls_across_pages },
    { "exact-count", test_exact_count },
    { "data-beside-code", test_data_beside_code },
    { "patched-ahead", test_patched_ahead },
    { "push-into-next", test_push_into_next },
    { "store-into-next", test_store_into_next },
    { "string-store-into-next", test_string_store_into_next },
    { "written-from-outside", test_written_from_outside },
    { "unchained", test_unchained },
    { "second-page-remapped", test_second_page_remapped },
    { "called-page-remapped", test_called_page_remapped },
    { "written-through-alias", test_written_through_alias },
    { "two-mappings", test_two_mappings },
    { "full-cache", test_full_cache },
    { "kick", test_kick },
    { "random-programs", test_random_programs },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
    for (int interp = 0; interp < 2; interp++) {
      g_autofree char *path = g_strdup_printf("/tcg/cache/%s/%s", interp ? "interp" : "jit", tests[i].name);
      g_test_add(path, Fixture, GINT_TO_POINTER(interp), set_up, tests[i].func, tear_down);
    }
  }
  return g_test_run();
}

/*
 * The translator's side: a bare CPU in long mode at privilege level 3, with the tester's pages at the tester's addresses.
 */
#include "tests/tcg/difftest/difftest.h"

#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"
#include "vm-engine/memory.h"

#define TABLES_BYTES (16 * DIFF_PAGE)
#define RAM_BASE     DIFF_CODE
#define RAM_BYTES    0x400000u
/* Page table entries. */
#define PTE_P  1u
#define PTE_RW 2u
#define PTE_US 4u
#define PTE_A  0x20u
#define PTE_D  0x40u

struct DiffEngine {
  VmMemory *memory;
  VmRam *tables, *ram;
  TcgCpu *cpu;
};

static void map_pages(uint64_t *tables, uint32_t address, unsigned n, uint64_t flags)
{
  uint64_t *pml4 = tables, *pdpt = tables + 512, *pd = tables + 1024, *pt;
  const uint64_t inner = PTE_P | PTE_RW | PTE_US | PTE_A;
  pml4[0] = 1 * DIFF_PAGE | inner;
  pdpt[address >> 30] = 2 * DIFF_PAGE | inner;
  for (unsigned i = 0; i < n; i++, address += DIFF_PAGE) {
    unsigned table = 3 + (address >> 21 & 7);
    pd[address >> 21 & 511] = (uint64_t)table * DIFF_PAGE | inner;
    pt = tables + 512 * table;
    pt[address >> 12 & 511] = address | PTE_P | PTE_US | PTE_A | PTE_D | flags;
  }
}

static void set_segment(X86Segment *s, uint16_t selector, uint32_t attr, uint64_t base)
{
  bool big = attr & X86_ATTR_G;
  *s = (X86Segment){ .base = base, .limit = big ? 0xffffffff : 0xffff, .attr = attr, .selector = selector };
}

static void set_mode(X86Cpu *x86, DiffMode mode)
{
  static const uint16_t code_selectors[DIFF_N_MODES] = { DIFF_CS16, 0x23, 0x33 };
  static const uint32_t code_attr[DIFF_N_MODES] = { 0, X86_ATTR_DB | X86_ATTR_G, X86_ATTR_L | X86_ATTR_G };
  const uint32_t user = X86_ATTR_P | X86_ATTR_S | X86_ATTR_DPL | X86_ATTR_RW | X86_ATTR_ACCESSED;
  uint32_t data = mode == DIFF_16 ? user : user | X86_ATTR_DB | X86_ATTR_G;
  uint16_t ds = mode == DIFF_16 ? DIFF_DS16 : 0x2b, ss = mode == DIFF_16 ? DIFF_SS16 : 0x2b;
  set_segment(&x86->seg[X86_CS], code_selectors[mode], user | X86_ATTR_CODE | code_attr[mode], diff_cs_base(mode));
  set_segment(&x86->seg[X86_ES], ds, data, diff_ds_base(mode));
  set_segment(&x86->seg[X86_DS], ds, data, diff_ds_base(mode));
  set_segment(&x86->seg[X86_SS], ss, data, diff_ss_base(mode));
  set_segment(&x86->seg[X86_FS], 0, 0, 0);
  set_segment(&x86->seg[X86_GS], 0, 0, DIFF_DATA);
  x86->seg[X86_TR] = (X86Segment){ .limit = 0x65, .attr = X86_ATTR_P | 0xb00, .selector = 0x40 };
  x86->seg[X86_LDTR] = (X86Segment){ 0 };
  x86->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
  x86->cr3 = 0;
  x86->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_PGE | X86_CR4_FSGSBASE;
  x86->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
}

DiffEngine *diff_engine_new(TcgBackend backend)
{
  DiffEngine *e = g_new0(DiffEngine, 1);
  GError *error = NULL;
  e->memory = vm_memory_new(&error);
  g_assert_no_error(error);
  e->tables = vm_ram_new(e->memory, "tables", TABLES_BYTES, &error);
  g_assert_no_error(error);
  e->ram = vm_ram_new(e->memory, "ram", RAM_BYTES, &error);
  g_assert_no_error(error);
  vm_region_new_ram(e->memory, "tables", 0, TABLES_BYTES, 0, e->tables, 0, VM_ACCESS_RW);
  vm_region_new_ram(e->memory, "ram", RAM_BASE, RAM_BYTES, 0, e->ram, 0, VM_ACCESS_RW);
  uint64_t *tables = (uint64_t *)vm_ram_get_hva(e->tables);
  map_pages(tables, DIFF_CODE, DIFF_CODE_PAGES, PTE_RW);
  map_pages(tables, DIFF_DATA, DIFF_DATA_PAGES, PTE_RW);
  map_pages(tables, DIFF_DATA + DIFF_DATA_BYTES, 1, 0);
  map_pages(tables, DIFF_STACK, DIFF_STACK_PAGES, PTE_RW);
  e->cpu = tcg_cpu_new_bare(e->memory, backend);
  return e;
}

void diff_engine_free(DiffEngine *e)
{
  tcg_cpu_free_bare(e->cpu);
  vm_memory_free(e->memory);
  g_free(e);
}

static uint8_t *host(DiffEngine *e, uint32_t address)
{
  return vm_ram_get_hva(e->ram) + (address - RAM_BASE);
}

static void load_state(DiffEngine *e, const DiffCase *c)
{
  TcgCpu *cpu = e->cpu;
  const DiffState *s = &c->before;
  memcpy(cpu->x86.gpr, s->gpr, sizeof cpu->x86.gpr);
  cpu->x86.rip = c->code_address - diff_cs_base(c->mode);
  cpu->x86.rflags = (s->rflags & (X86_F_ARITH | X86_F_DF)) | X86_F_FIXED | X86_F_IF;
  memcpy(&cpu->x86.fpu, s->fx, 416);
  cpu->x86.interrupt_shadow = 0;
  cpu->exc_pending = 0;
  set_mode(&cpu->x86, c->mode);
  x86_tcg_import(cpu);
}

void diff_engine_run(DiffEngine *e, const DiffCase *c, DiffState *after, bool load_code)
{
  TcgCpu *cpu = e->cpu;
  if (load_code) {
    bool written = vm_memory_write(e->memory, c->code_address, c->code, c->code_length);
    g_assert(written);
  }
  memcpy(host(e, DIFF_DATA), c->before.data, DIFF_DATA_BYTES);
  memcpy(host(e, DIFF_STACK), c->before.stack, DIFF_STACK_BYTES);
  load_state(e, c);
  TcgStop stop = tcg_cpu_run_bare(cpu, 100000, false, true);
  after->rip = cpu->x86.rip;
  after->vector = 0xff;
  after->error = 0;
  after->cr2 = 0;
  if (stop == TCG_STOP_EXCEPTION) {
    after->rip = cpu->exc_is_trap ? cpu->exc_next_rip : cpu->x86.rip;
    after->vector = cpu->exc_vector;
    after->error = cpu->exc_has_error ? cpu->exc_error : 0;
    after->cr2 = cpu->exc_cr2;
  }
  cpu->exc_pending = 0; /* or the export would keep it for the next case */
  x86_tcg_export(cpu);
  memcpy(after->gpr, cpu->x86.gpr, sizeof after->gpr);
  after->rflags = cpu->x86.rflags;
  memcpy(after->fx, &cpu->x86.fpu, 512);
  memcpy(after->data, host(e, DIFF_DATA), DIFF_DATA_BYTES);
  memcpy(after->stack, host(e, DIFF_STACK), DIFF_STACK_BYTES);
}

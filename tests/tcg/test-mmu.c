/*
 * Page walks of every mode, the software TLB and the accesses behind it.
 */
#include "tests/tcg/bare-cpu.h"

#define P  1u
#define RW 2u
#define US 4u
#define A  0x20u
#define D  0x40u
#define PS 0x80u
#define G  0x100u
#define NX (UINT64_C(1) << 63)

#define ROOT   0x10000u
#define LEVEL3 0x11000u
#define LEVEL2 0x12000u
#define TABLE  0x13000u
#define DATA   0x200000u /* the page that most tests map */

/* ---- set-up: linear page 0x400000 (of each format) is mapped by the entry at TABLE ------------------------------------ */

#define LINEAR UINT64_C(0x400000)

static void enable_paging(BareCpu *b, uint64_t cr4, uint64_t efer)
{
  TcgCpu *cpu = b->cpu;

  cpu->x86.cr0 |= X86_CR0_PE;
  cpu->x86.seg[X86_CS].attr &= ~(uint32_t)X86_ATTR_L;
  x86_update_hflags(cpu);
  helper_write_cr(cpu, 4, cr4, 0);
  cpu->x86.efer = efer;
  helper_write_cr(cpu, 3, ROOT, 0);
  helper_write_cr(cpu, 0, cpu->x86.cr0 | X86_CR0_PG, 0);
  bare_expect_none(b);
}

static BareCpu *new_legacy(uint64_t cr4)
{
  BareCpu *b = bare_cpu_new();

  bare_poke(b, ROOT + 4, TABLE | P | RW | US, 4);
  bare_poke(b, TABLE, DATA | P | RW | US, 4);
  enable_paging(b, cr4, 0);
  return b;
}

static BareCpu *new_pae(uint64_t efer)
{
  BareCpu *b = bare_cpu_new();

  bare_poke(b, ROOT, LEVEL2 | P, 8);
  bare_poke(b, LEVEL2 + 2 * 8, TABLE | P | RW | US, 8);
  bare_poke(b, TABLE, DATA | P | RW | US, 8);
  enable_paging(b, X86_CR4_PAE, efer);
  return b;
}

static BareCpu *new_long(uint64_t cr4)
{
  BareCpu *b = bare_cpu_new();

  bare_poke(b, ROOT, LEVEL3 | P | RW | US, 8);
  bare_poke(b, LEVEL3, LEVEL2 | P | RW | US, 8);
  bare_poke(b, LEVEL2 + 2 * 8, TABLE | P | RW | US, 8);
  bare_poke(b, TABLE, DATA | P | RW | US, 8);
  enable_paging(b, X86_CR4_PAE | cr4, X86_EFER_LME | X86_EFER_NXE);
  g_assert_true(b->cpu->x86.efer & X86_EFER_LMA);
  b->cpu->x86.seg[X86_CS].attr |= X86_ATTR_L;
  x86_update_hflags(b->cpu);
  return b;
}

static bool try_read(BareCpu *b, uint64_t linear, TcgMmu mmu, uint32_t *value)
{
  return x86_read_u32(b->cpu, linear, value, mmu);
}

static void assert_reads(BareCpu *b, uint64_t linear, TcgMmu mmu, uint32_t expected)
{
  uint32_t value = 0;

  g_assert_true(try_read(b, linear, mmu, &value));
  g_assert_cmphex(value, ==, expected);
}

static void assert_read_faults(BareCpu *b, uint64_t linear, TcgMmu mmu, uint32_t error)
{
  uint32_t value;

  g_assert_false(try_read(b, linear, mmu, &value));
  bare_expect(b, X86_EXC_PF, error);
  g_assert_cmphex(b->cpu->exc_cr2, ==, linear);
}

static void assert_write_faults(BareCpu *b, uint64_t linear, TcgMmu mmu, uint32_t error)
{
  g_assert_false(x86_write_u32(b->cpu, linear, 0, mmu));
  bare_expect(b, X86_EXC_PF, error);
  g_assert_cmphex(b->cpu->exc_cr2, ==, linear);
}

static void assert_fetch_faults(BareCpu *b, uint64_t linear, uint32_t error)
{
  X86Code code;

  g_assert_false(x86_resolve_code(b->cpu, linear, &code));
  bare_expect(b, X86_EXC_PF, error);
  g_assert_cmphex(b->cpu->exc_cr2, ==, linear);
}

/* Makes x86_resolve_code() fetch as CPL 3 / 0. */
static void set_cpl(BareCpu *b, unsigned cpl)
{
  b->cpu->x86.seg[X86_SS].attr = (b->cpu->x86.seg[X86_SS].attr & ~(uint32_t)X86_ATTR_DPL) | cpl << X86_ATTR_DPL_SHIFT;
  x86_update_hflags(b->cpu);
}

static const uint8_t *tag_host(const BareCpu *b, TcgMmu mmu, uint64_t linear, bool write)
{
  const TcgTlb *tlb = &b->cpu->tlb[mmu];
  uint32_t i = linear >> 12 & (TCG_TLB_SIZE - 1);
  uint64_t tag = write ? tlb->write_tag[i] : tlb->read_tag[i];

  return (linear ^ tag) <= 4096 - 4 ? (const uint8_t *)(uintptr_t)(tlb->addend[i] + linear) : NULL;
}

/* ---- walks --------------------------------------------------------------------------------------------------------------- */

static void test_no_paging(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();

  bare_poke(b, 0x1234, 0xcafef00d, 4);
  assert_reads(b, 0x1234, TCG_MMU_KERNEL, 0xcafef00d);
  assert_reads(b, UINT64_C(0x100001234), TCG_MMU_KERNEL, 0xcafef00d);
  g_assert_true(x86_write_u32(b->cpu, 0xfffffffe, 0x11223344, TCG_MMU_KERNEL)); /* wraps at 4 GiB */
  g_assert_cmphex(bare_peek(b, 0, 2), ==, 0x1122);
}

static void test_a20(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();

  bare_poke(b, 0x1234, 1, 4);
  bare_poke(b, 0x101234, 2, 4);
  assert_reads(b, 0x101234, TCG_MMU_KERNEL, 2);
  b->cpu->a20_mask = ~(UINT64_C(1) << 20);
  x86_tlb_flush(b->cpu);
  assert_reads(b, 0x101234, TCG_MMU_KERNEL, 1);
}

static void test_legacy_errors(void)
{
  g_autoptr(BareCpu) b = new_legacy(0);

  bare_poke(b, DATA, 0x5555aaaa, 4);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0x5555aaaa);
  assert_reads(b, LINEAR, TCG_MMU_USER, 0x5555aaaa);
  assert_read_faults(b, 0x800000, TCG_MMU_KERNEL, 0); /* no table */
  assert_read_faults(b, LINEAR + 0x1000, TCG_MMU_USER, X86_PF_USER);
  assert_write_faults(b, LINEAR + 0x1000, TCG_MMU_KERNEL, X86_PF_WRITE);

  bare_poke(b, TABLE, DATA | P | US, 4); /* read-only */
  helper_invlpg(b->cpu, LINEAR, 0, 0);
  g_assert_true(x86_write_u32(b->cpu, LINEAR, 1, TCG_MMU_KERNEL));
  assert_write_faults(b, LINEAR, TCG_MMU_USER, X86_PF_PRESENT | X86_PF_WRITE | X86_PF_USER);
  helper_write_cr(b->cpu, 0, b->cpu->x86.cr0 | X86_CR0_WP, 0);
  assert_write_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_WRITE);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 1);

  bare_poke(b, TABLE, DATA | P | RW, 4); /* supervisor */
  helper_invlpg(b->cpu, LINEAR, 0, 0);
  assert_read_faults(b, LINEAR, TCG_MMU_USER, X86_PF_PRESENT | X86_PF_USER);
  set_cpl(b, 3);
  assert_fetch_faults(b, LINEAR, X86_PF_PRESENT | X86_PF_USER); /* no I/D bit without NX or SMEP */
}

static void test_legacy_large(void)
{
  g_autoptr(BareCpu) b = new_legacy(X86_CR4_PSE);

  bare_poke(b, 0x0c01234, 0x77, 4);
  bare_poke(b, ROOT + 4, 0x00c00000 | P | RW | US | PS, 4);
  assert_reads(b, LINEAR + 0x1234, TCG_MMU_KERNEL, 0x77);
  g_assert_cmphex(bare_peek(b, ROOT + 4, 4), ==, 0x00c00000 | P | RW | US | PS | A);
  g_assert_true(x86_write_u32(b->cpu, LINEAR + 0x1234, 0x78, TCG_MMU_KERNEL));
  g_assert_cmphex(bare_peek(b, ROOT + 4, 4), ==, 0x00c00000 | P | RW | US | PS | A | D);

  bare_poke(b, ROOT + 4, 0x00c00000 | P | RW | US | PS | 1u << 21, 4);
  x86_tlb_flush(b->cpu);
  assert_read_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_RESERVED);

  bare_poke(b, ROOT + 4, 0x00c00000 | P | RW | US | PS | 1u << 13, 4); /* PSE-36: physical bit 32 */
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0xffffffff);
  g_assert_cmphex(b->cpu->tlb[TCG_MMU_KERNEL].physical[0x400] >> 12, ==, UINT64_C(0x100c00000) >> 12);
}

static void test_pse_off(void)
{
  g_autoptr(BareCpu) b = new_legacy(0);

  bare_poke(b, ROOT + 4, TABLE | P | RW | US | PS, 4); /* the bit means nothing */
  bare_poke(b, DATA + 8, 0x99, 4);
  assert_reads(b, LINEAR + 8, TCG_MMU_USER, 0x99);
}

static void test_pae(void)
{
  g_autoptr(BareCpu) b = new_pae(X86_EFER_NXE);

  bare_poke(b, DATA, 0x1111, 4);
  assert_reads(b, LINEAR, TCG_MMU_USER, 0x1111);
  assert_read_faults(b, 0x40000000, TCG_MMU_KERNEL, 0); /* the second pointer is absent */

  bare_poke(b, TABLE, DATA | P | RW | US | NX, 8);
  x86_tlb_flush(b->cpu);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0x1111);
  assert_fetch_faults(b, LINEAR, X86_PF_PRESENT | X86_PF_FETCH);

  bare_poke(b, TABLE, DATA | P | RW | US | UINT64_C(1) << 52, 8);
  x86_tlb_flush(b->cpu);
  assert_read_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_RESERVED);

  bare_poke(b, LEVEL2 + 2 * 8, 0x600000 | P | RW | PS, 8);
  bare_poke(b, 0x601000, 0x2222, 4);
  assert_reads(b, LINEAR + 0x1000, TCG_MMU_KERNEL, 0x2222);
  bare_poke(b, LEVEL2 + 2 * 8, 0x600000 | P | RW | PS | 0x2000, 8);
  x86_tlb_flush(b->cpu);
  assert_write_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_RESERVED | X86_PF_WRITE);
}

static void test_pae_without_nx(void)
{
  g_autoptr(BareCpu) b = new_pae(0);

  bare_poke(b, TABLE, DATA | P | RW | US | NX, 8);
  assert_read_faults(b, LINEAR, TCG_MMU_USER, X86_PF_PRESENT | X86_PF_RESERVED | X86_PF_USER);
}

/* The pointers are read when CR3 is written, not when they are used; reserved bits in them refuse the write. */
static void test_pae_pointers(void)
{
  g_autoptr(BareCpu) b = new_pae(0);
  uint64_t cr3 = b->cpu->x86.cr3;

  bare_poke(b, ROOT, 0, 8);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0);
  bare_poke(b, ROOT, LEVEL2 | P | RW, 8);
  helper_write_cr(b->cpu, 3, ROOT + 0x18, 0); /* bits 4–3 are PWT and PCD */
  bare_expect(b, X86_EXC_GP, 0);
  g_assert_cmphex(b->cpu->x86.cr3, ==, cr3);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0);
}

static void test_long_sizes(void)
{
  g_autoptr(BareCpu) b = new_long(0);

  bare_poke(b, DATA + 4, 0xabcd, 4);
  assert_reads(b, LINEAR + 4, TCG_MMU_USER, 0xabcd);
  g_assert_cmphex(bare_peek(b, ROOT, 8) & 0xfff, ==, P | RW | US | A);
  g_assert_cmphex(bare_peek(b, TABLE, 8) & 0xfff, ==, P | RW | US | A);

  bare_poke(b, LEVEL2 + 3 * 8, 0x400000 | P | RW | US | PS, 8);
  bare_poke(b, 0x5fff00, 0x2222, 4);
  assert_reads(b, 0x7fff00, TCG_MMU_KERNEL, 0x2222);

  bare_poke(b, LEVEL3 + 8, 0 | P | RW | US | PS, 8); /* 1 GiB */
  bare_poke(b, 0x800000, 0x3333, 4);
  assert_reads(b, 0x40800000, TCG_MMU_KERNEL, 0x3333);
  bare_poke(b, LEVEL3 + 8, 0x2000 | P | RW | US | PS, 8);
  x86_tlb_flush(b->cpu);
  assert_read_faults(b, 0x40800000, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_RESERVED);
}

static void test_long_reserved(void)
{
  g_autoptr(BareCpu) b = new_long(0);

  bare_poke(b, ROOT, LEVEL3 | P | RW | US | PS, 8);
  assert_read_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_RESERVED);
  bare_poke(b, ROOT, LEVEL3 | P | RW | US | UINT64_C(1) << X86_PHYS_BITS, 8);
  assert_read_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_RESERVED);
  bare_poke(b, ROOT, LEVEL3 | P | RW | US | UINT64_C(0x7ff) << 52, 8); /* ignored bits */
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0);
}

static void test_canonical(void)
{
  g_autoptr(BareCpu) b = new_long(0);
  uint32_t value;

  g_assert_false(try_read(b, UINT64_C(0x800000000000), TCG_MMU_KERNEL, &value));
  bare_expect(b, X86_EXC_GP, 0);
  g_assert_false(try_read(b, UINT64_C(0x7ffffffffffe), TCG_MMU_KERNEL, &value));
  bare_expect(b, X86_EXC_GP, 0);
  tcg_slow_load(b->cpu, UINT64_C(0x800000000000), IR_W64 | IR_MEM_STACK);
  bare_expect(b, X86_EXC_SS, 0);
  assert_read_faults(b, UINT64_C(0xffff800000000000), TCG_MMU_KERNEL, 0);
}

static void test_smep_smap(void)
{
  g_autoptr(BareCpu) b = new_long(X86_CR4_SMEP | X86_CR4_SMAP);

  assert_read_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT);
  assert_write_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_WRITE);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL_AC, 0);
  assert_reads(b, LINEAR, TCG_MMU_USER, 0);
  assert_fetch_faults(b, LINEAR, X86_PF_PRESENT | X86_PF_FETCH);
  g_assert_cmpint(x86_mmu(b->cpu), ==, TCG_MMU_KERNEL);
  helper_stac(b->cpu, 0, 0, 0);
  g_assert_cmpint(x86_mmu(b->cpu), ==, TCG_MMU_KERNEL_AC);
  helper_clac(b->cpu, 0, 0, 0);
  g_assert_cmpint(x86_mmu(b->cpu), ==, TCG_MMU_KERNEL);

  bare_poke(b, TABLE, DATA | P | RW, 8);
  x86_tlb_flush(b->cpu);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0);
}

static void test_accessed_dirty(void)
{
  g_autoptr(BareCpu) b = new_legacy(0);

  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0);
  g_assert_cmphex(bare_peek(b, ROOT + 4, 4) & 0xfff, ==, P | RW | US | A);
  g_assert_cmphex(bare_peek(b, TABLE, 4) & 0xfff, ==, P | RW | US | A);
  g_assert_nonnull(tag_host(b, TCG_MMU_KERNEL, LINEAR, false));
  g_assert_null(tag_host(b, TCG_MMU_KERNEL, LINEAR, true)); /* the first write has to set D */
  g_assert_true(x86_write_u32(b->cpu, LINEAR, 5, TCG_MMU_KERNEL));
  g_assert_cmphex(bare_peek(b, TABLE, 4) & 0xfff, ==, P | RW | US | A | D);
  g_assert_true(tag_host(b, TCG_MMU_KERNEL, LINEAR, true) == vm_ram_get_hva(b->ram) + DATA);

  bare_poke(b, TABLE + 4, DATA | P | US, 4); /* a refused write marks nothing */
  assert_write_faults(b, LINEAR + 0x1000, TCG_MMU_USER, X86_PF_PRESENT | X86_PF_WRITE | X86_PF_USER);
  g_assert_cmphex(bare_peek(b, TABLE + 4, 4) & 0xfff, ==, P | US);
}

/* Tables in the middle of nowhere, in registers and in ROM: the walk ends, whatever it reads there. */
static void test_absurd_tables(void)
{
  g_autoptr(BareCpu) b = new_long(0);
  uint64_t value;

  helper_write_cr(b->cpu, 3, UINT64_C(0x8000000000), 0); /* all ones: PS in the top level */
  assert_read_faults(b, LINEAR, TCG_MMU_KERNEL, X86_PF_PRESENT | X86_PF_RESERVED);
  helper_write_cr(b->cpu, 3, BARE_ROM_BASE, 0); /* zeroes */
  assert_read_faults(b, LINEAR, TCG_MMU_KERNEL, 0);

  value = LEVEL3 | P | RW | US;
  memcpy(b->mmio, &value, 8);
  helper_write_cr(b->cpu, 3, BARE_MMIO_BASE, 0);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 0);
  g_assert_cmphex(b->mmio[0], ==, P | RW | US | A);

  bare_poke(b, ROOT, ROOT | P | RW | US, 8); /* a table that is its own: every level the same entry */
  helper_write_cr(b->cpu, 3, ROOT, 0);
  g_assert_true(x86_read_u64(b->cpu, 0, &value, TCG_MMU_KERNEL));
  g_assert_cmphex(value, ==, ROOT | P | RW | US | A);
}

/* ---- the TLB ------------------------------------------------------------------------------------------------------------------- */

static void test_invlpg(void)
{
  g_autoptr(BareCpu) b = new_legacy(X86_CR4_PSE);

  bare_poke(b, DATA, 1, 4);
  bare_poke(b, DATA + 0x1000, 2, 4);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 1);
  bare_poke(b, TABLE, (DATA + 0x1000) | P | RW | US, 4);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 1); /* cached */
  helper_invlpg(b->cpu, LINEAR + 0x123, 0, 0);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 2);

  bare_poke(b, ROOT + 8, 0x00800000 | P | RW | PS, 4);
  assert_reads(b, 0x800000, TCG_MMU_KERNEL, 0);
  assert_reads(b, 0x801000, TCG_MMU_KERNEL, 0);
  bare_poke(b, 0xc00000, 3, 4);
  bare_poke(b, 0xc01000, 4, 4);
  bare_poke(b, ROOT + 8, 0x00c00000 | P | RW | PS, 4);
  helper_invlpg(b->cpu, 0x805000, 0, 0); /* any address of the large page drops all of it */
  assert_reads(b, 0x800000, TCG_MMU_KERNEL, 3);
  assert_reads(b, 0x801000, TCG_MMU_KERNEL, 4);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 2);
}

static void test_global_pages(void)
{
  g_autoptr(BareCpu) b = new_legacy(X86_CR4_PGE);

  bare_poke(b, TABLE, DATA | P | RW | US | G, 4);
  bare_poke(b, TABLE + 4, DATA | P | RW | US, 4);
  bare_poke(b, DATA, 1, 4);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 1);
  assert_reads(b, LINEAR + 0x1000, TCG_MMU_KERNEL, 1);
  g_assert_cmpuint(b->cpu->tlb[TCG_MMU_KERNEL].n_used, ==, 2);
  bare_poke(b, TABLE, 0, 4);
  bare_poke(b, TABLE + 4, 0, 4);
  helper_write_cr(b->cpu, 3, ROOT, 0);
  g_assert_cmpuint(b->cpu->tlb[TCG_MMU_KERNEL].n_used, ==, 1);
  assert_reads(b, LINEAR, TCG_MMU_KERNEL, 1);
  assert_read_faults(b, LINEAR + 0x1000, TCG_MMU_KERNEL, 0);
  helper_write_cr(b->cpu, 4, 0, 0);
  assert_read_faults(b, LINEAR, TCG_MMU_KERNEL, 0);
}

/* Filling, dropping and refilling the same entry keeps the used list within bounds. */
static void test_used_list(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  const TcgTlb *tlb = &b->cpu->tlb[TCG_MMU_KERNEL];

  for (unsigned round = 0; round < 3; round++)
    for (uint64_t page = 0; page < 2 * TCG_TLB_SIZE; page++) {
      assert_reads(b, page << 12 & (BARE_RAM_SIZE - 1), TCG_MMU_KERNEL, 0);
      helper_invlpg(b->cpu, page << 12 & (BARE_RAM_SIZE - 1), 0, 0);
      assert_reads(b, (page << 12) & (BARE_RAM_SIZE - 1), TCG_MMU_KERNEL, 0);
    }
  g_assert_cmpuint(tlb->n_used, ==, TCG_TLB_SIZE);
  x86_tlb_flush(b->cpu);
  g_assert_cmpuint(tlb->n_used, ==, 0);
  for (uint32_t i = 0; i < TCG_TLB_SIZE; i++) {
    g_assert_cmphex(tlb->read_tag[i], ==, tcg_tlb_invalid_tag(i));
    g_assert_cmphex(tlb->write_tag[i], ==, tcg_tlb_invalid_tag(i));
  }
}

typedef struct Written {
  unsigned count;
  uint64_t offset, size;
} Written;

static void on_code_written(void *opaque, VmRam *ram, uint64_t offset, uint64_t size)
{
  Written *w = opaque;

  w->count++;
  w->offset = offset;
  w->size = size;
}

static void test_code_pages(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  Written w = { 0 };
  VmMemoryListener listener = { .code_written = on_code_written, .opaque = &w };

  vm_memory_set_listener(b->memory, &listener);
  g_assert_true(x86_write_u32(b->cpu, 0x5000, 1, TCG_MMU_KERNEL));
  g_assert_nonnull(tag_host(b, TCG_MMU_KERNEL, 0x5000, true));
  atomic_fetch_or(&b->ram->page_flags[5], VM_PAGE_CODE);
  x86_tlb_protect_writes(b->cpu, b->ram, 0x5000, 0x1000);
  g_assert_null(tag_host(b, TCG_MMU_KERNEL, 0x5000, true));
  g_assert_nonnull(tag_host(b, TCG_MMU_KERNEL, 0x5000, false));

  tcg_slow_store(b->cpu, 0x5010, 0xdead, IR_W32);
  g_assert_cmpuint(w.count, ==, 1);
  g_assert_cmphex(w.offset, ==, 0x5010);
  g_assert_cmpuint(w.size, ==, 4);
  g_assert_cmphex(bare_peek(b, 0x5010, 4), ==, 0xdead);
  g_assert_null(tag_host(b, TCG_MMU_KERNEL, 0x5000, true));
  g_assert_null(x86_host_pointer(b->cpu, 0x5000, 4, X86_WRITE, TCG_MMU_KERNEL));
  g_assert_nonnull(x86_host_pointer(b->cpu, 0x5000, 4, X86_READ, TCG_MMU_KERNEL));

  atomic_fetch_and(&b->ram->page_flags[5], (uint8_t)~VM_PAGE_CODE);
  tcg_slow_store(b->cpu, 0x5010, 0xbeef, IR_W32); /* the flag is gone: the tag comes back */
  g_assert_cmpuint(w.count, ==, 1);
  g_assert_nonnull(tag_host(b, TCG_MMU_KERNEL, 0x5000, true));
  vm_memory_set_listener(b->memory, NULL);
}

static void test_dirty_tracking(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  VmIoContext *ctx = vm_get_io_context(b->vm);
  unsigned long bitmap = 0;

  vm_io_context_lock(ctx);
  vm_ram_track_dirty(b->ram, true);
  vm_ram_collect_dirty(b->ram, 0, 16, &bitmap);
  vm_io_context_unlock(ctx);
  assert_reads(b, 0x3000, TCG_MMU_KERNEL, 0);
  g_assert_null(tag_host(b, TCG_MMU_KERNEL, 0x3000, true));
  g_assert_true(x86_write_u32(b->cpu, 0x3000, 9, TCG_MMU_KERNEL));
  g_assert_nonnull(tag_host(b, TCG_MMU_KERNEL, 0x3000, true)); /* dirty by now: writes need not be seen */
  bitmap = 0;
  vm_io_context_lock(ctx);
  g_assert_true(vm_ram_collect_dirty(b->ram, 0, 16, &bitmap));
  vm_io_context_unlock(ctx);
  g_assert_cmphex(bitmap, ==, 1u << 3);
}

/* ---- accesses ---------------------------------------------------------------------------------------------------------------------- */

static void test_page_crossing(void)
{
  g_autoptr(BareCpu) b = new_legacy(0);

  bare_poke(b, DATA + 0xffe, 0x1111, 2);
  tcg_slow_store(b->cpu, LINEAR + 0xffe, 0x22223333, IR_W32);
  bare_expect(b, X86_EXC_PF, X86_PF_WRITE);
  g_assert_cmphex(b->cpu->exc_cr2, ==, LINEAR + 0x1000);
  g_assert_cmphex(bare_peek(b, DATA + 0xffe, 2), ==, 0x1111);

  bare_poke(b, TABLE + 4, 0x300000 | P | RW | US, 4);
  tcg_slow_store(b->cpu, LINEAR + 0xffe, 0x22223333, IR_W32);
  bare_expect_none(b);
  g_assert_cmphex(bare_peek(b, DATA + 0xffe, 2), ==, 0x3333);
  g_assert_cmphex(bare_peek(b, 0x300000, 2), ==, 0x2222);
  g_assert_cmphex(tcg_slow_load(b->cpu, LINEAR + 0xffe, IR_W32), ==, 0x22223333);
  tcg_slow_probe_write(b->cpu, LINEAR + 0x1ffe, IR_W32);
  bare_expect(b, X86_EXC_PF, X86_PF_WRITE);
}

static void test_sign_extension(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();

  bare_poke(b, 0x100, 0x80, 1);
  g_assert_cmphex(tcg_slow_load(b->cpu, 0x100, IR_W8), ==, 0x80);
  g_assert_cmphex(tcg_slow_load(b->cpu, 0x100, IR_W8 | IR_MEM_SIGNED), ==, UINT64_C(0xffffffffffffff80));
  bare_poke(b, 0x100, 0xfffffffe, 4);
  g_assert_cmphex(tcg_slow_load(b->cpu, 0x100, IR_W32 | IR_MEM_SIGNED), ==, UINT64_C(0xfffffffffffffffe));
}

static void test_mmio(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();

  tcg_slow_store(b->cpu, BARE_MMIO_BASE + 8, 0x12345678, IR_W32);
  g_assert_cmpuint(b->n_mmio_writes, ==, 1);
  g_assert_cmpuint(b->last_mmio_size, ==, 4);
  g_assert_cmphex(tcg_slow_load(b->cpu, BARE_MMIO_BASE + 9, IR_W8), ==, 0x56);
  g_assert_cmpuint(b->n_mmio_reads, ==, 1);
  g_assert_null(tag_host(b, TCG_MMU_KERNEL, BARE_MMIO_BASE, false));
  g_assert_null(x86_host_pointer(b->cpu, BARE_MMIO_BASE, 4, X86_READ, TCG_MMU_KERNEL));
  bare_expect_none(b);

  uint8_t *state = b->cpu->vtmp[0];
  memset(state, 0x5a, 16);
  tcg_slow_store_vector(b->cpu, BARE_MMIO_BASE + 0x100, 4, (uint32_t)offsetof(TcgCpu, vtmp));
  g_assert_cmpuint(b->mmio[0x10f], ==, 0x5a);
  memset(state, 0, 16);
  tcg_slow_load_vector(b->cpu, BARE_MMIO_BASE + 0x100, 4, (uint32_t)offsetof(TcgCpu, vtmp));
  g_assert_cmpuint(state[15], ==, 0x5a);
}

static void test_rom(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  X86Code code;

  assert_reads(b, BARE_ROM_BASE, TCG_MMU_KERNEL, 0);
  g_assert_nonnull(tag_host(b, TCG_MMU_KERNEL, BARE_ROM_BASE, false));
  g_assert_true(x86_write_u32(b->cpu, BARE_ROM_BASE, 1, TCG_MMU_KERNEL));
  g_assert_null(tag_host(b, TCG_MMU_KERNEL, BARE_ROM_BASE, true));
  assert_reads(b, BARE_ROM_BASE, TCG_MMU_KERNEL, 0);
  g_assert_true(x86_resolve_code(b->cpu, BARE_ROM_BASE + 0x123, &code));
  g_assert_cmpstr(vm_ram_get_name(code.ram), ==, "rom");
  g_assert_cmphex(code.ram_offset, ==, 0x123);
  g_assert_true(code.hva == vm_ram_get_hva(code.ram) + 0x123);
  g_assert_true(x86_resolve_code(b->cpu, BARE_MMIO_BASE, &code));
  g_assert_null(code.ram);
}

static void test_alignment(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  TcgCpu *cpu = b->cpu;

  tcg_slow_load_vector(cpu, 0x1008, 4 | IR_MEM_ALIGNED, (uint32_t)offsetof(TcgCpu, vtmp));
  bare_expect(b, X86_EXC_GP, 0);
  tcg_slow_load_vector(cpu, 0x1010, 4 | IR_MEM_ALIGNED, (uint32_t)offsetof(TcgCpu, vtmp));
  bare_expect_none(b);

  cpu->x86.cr0 |= X86_CR0_PE | X86_CR0_AM;
  cpu->x86.rflags |= X86_F_AC;
  set_cpl(b, 3);
  g_assert_true(cpu->hflags & TCG_HF_ALIGN_CHECK);
  tcg_slow_load(cpu, 0x1002, IR_W32);
  bare_expect(b, X86_EXC_AC, 0);
  tcg_slow_load(cpu, 0x1004, IR_W32);
  bare_expect_none(b);
  g_assert_null(tag_host(b, TCG_MMU_USER, 0x1004, false)); /* each access has to be looked at */
  cpu->x86.rflags &= ~(uint64_t)X86_F_AC;
  x86_update_hflags(cpu);
  tcg_slow_load(cpu, 0x1002, IR_W32);
  bare_expect_none(b);
  g_assert_nonnull(tag_host(b, TCG_MMU_USER, 0x1004, false));
}

static void test_data_breakpoints(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  TcgCpu *cpu = b->cpu;

  g_assert_true(x86_write_u32(cpu, 0x1000, 0, TCG_MMU_KERNEL));
  helper_write_dr(cpu, 0, 0x1004, 0);
  helper_write_dr(cpu, 1, 0x1010, 0);
  helper_write_dr(cpu, 7, 1 | 4 | 0xdu << 16 | 3u << 20, 0); /* 0: writes, 4 bytes; 1: both, 1 byte */
  g_assert_true(cpu->hflags & TCG_HF_BREAKPOINTS);
  g_assert_null(tag_host(b, TCG_MMU_KERNEL, 0x1000, true));
  tcg_slow_load(cpu, 0x1004, IR_W32);
  tcg_slow_store(cpu, 0x1008, 0, IR_W32);
  g_assert_cmphex(cpu->watch_hit, ==, 0);
  tcg_slow_store(cpu, 0x1007, 0, IR_W8);
  g_assert_cmphex(cpu->watch_hit, ==, 1);
  tcg_slow_load(cpu, 0x100d, IR_W32);
  g_assert_cmphex(cpu->watch_hit, ==, 3);
  cpu->x86.rip = 0x77;
  helper_check_breakpoint(cpu, 0, 0, 0);
  g_assert_cmphex(cpu->exc_dr6, ==, 3);
  g_assert_true(cpu->exc_is_trap);
  g_assert_cmphex(cpu->exc_next_rip, ==, 0x77);
  bare_expect(b, X86_EXC_DB, -1);
  helper_write_dr(cpu, 7, 0, 0);
  tcg_slow_load(cpu, 0x1004, IR_W32);
  g_assert_nonnull(tag_host(b, TCG_MMU_KERNEL, 0x1000, false));
}

/* The two views differ: RAM that only SMM sees. */
static void test_smm_view(void)
{
  g_autoptr(BareCpu) b = bare_cpu_new();
  VmIoContext *ctx = vm_get_io_context(b->vm);
  g_autoptr(GError) error = NULL;

  vm_io_context_lock(ctx);
  VmRam *smram = vm_ram_new(b->memory, "smram", 0x20000, &error);
  g_assert_no_error(error);
  VmRegion *region = vm_region_new_ram(b->memory, "smram", 0xa0000, 0x20000, 1, smram, 0, VM_ACCESS_RW);
  vm_region_set_smm_only(region, true);
  vm_io_context_unlock(ctx);
  memset(vm_ram_get_hva(smram), 0x77, 4);
  bare_poke(b, 0xa0000, 0x11111111, 4);
  assert_reads(b, 0xa0000, TCG_MMU_KERNEL, 0x11111111);
  b->cpu->x86.smbase = 0xa0000;
  x86_enter_smm(b->cpu);
  assert_reads(b, 0xa0000, TCG_MMU_KERNEL, 0x77777777);
  helper_rsm(b->cpu, 0, 0, 0);
  assert_reads(b, 0xa0000, TCG_MMU_KERNEL, 0x11111111);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/mmu/no-paging", test_no_paging);
  g_test_add_func("/mmu/a20", test_a20);
  g_test_add_func("/mmu/legacy/errors", test_legacy_errors);
  g_test_add_func("/mmu/legacy/large", test_legacy_large);
  g_test_add_func("/mmu/legacy/pse-off", test_pse_off);
  g_test_add_func("/mmu/pae", test_pae);
  g_test_add_func("/mmu/pae/without-nx", test_pae_without_nx);
  g_test_add_func("/mmu/pae/pointers", test_pae_pointers);
  g_test_add_func("/mmu/long/sizes", test_long_sizes);
  g_test_add_func("/mmu/long/reserved", test_long_reserved);
  g_test_add_func("/mmu/long/canonical", test_canonical);
  g_test_add_func("/mmu/long/smep-smap", test_smep_smap);
  g_test_add_func("/mmu/accessed-dirty", test_accessed_dirty);
  g_test_add_func("/mmu/absurd-tables", test_absurd_tables);
  g_test_add_func("/mmu/tlb/invlpg", test_invlpg);
  g_test_add_func("/mmu/tlb/global", test_global_pages);
  g_test_add_func("/mmu/tlb/used-list", test_used_list);
  g_test_add_func("/mmu/tlb/code-pages", test_code_pages);
  g_test_add_func("/mmu/tlb/dirty-tracking", test_dirty_tracking);
  g_test_add_func("/mmu/access/page-crossing", test_page_crossing);
  g_test_add_func("/mmu/access/sign-extension", test_sign_extension);
  g_test_add_func("/mmu/access/mmio", test_mmio);
  g_test_add_func("/mmu/access/rom", test_rom);
  g_test_add_func("/mmu/access/alignment", test_alignment);
  g_test_add_func("/mmu/access/data-breakpoints", test_data_breakpoints);
  g_test_add_func("/mmu/access/smm-view", test_smm_view);
  return g_test_run();
}

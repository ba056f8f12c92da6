/*
 * Page walks: 32-bit tables (4 KiB and 4 MiB pages, with PSE-36), PAE, and the four levels of long mode.
 * Sources: Intel SDM volume 3, chapter 4; AMD64 APM volume 2, chapter 5.
 *
 * One loop serves all formats, since they differ in entry size, index width and reserved bits only. Accessed and dirty
 * bits are set after the whole walk succeeded, each by compare-and-exchange against the value that was judged: if
 * another CPU changed an entry meanwhile, the walk starts again. So no bit is ever set in an entry that the guest has
 * unmapped. Tables outside of plain RAM (ROM, registers, nothing) are read and written as a CPU would, once, without
 * the retry: they cannot hold the walk up.
 */
#include "vm-engine/accel/tcg/guest/x86/mmu.h"

#define ENTRY_P    (1u << 0)
#define ENTRY_RW   (1u << 1)
#define ENTRY_US   (1u << 2)
#define ENTRY_A    (1u << 5)
#define ENTRY_D    (1u << 6)
#define ENTRY_PS   (1u << 7)
#define ENTRY_G    (1u << 8)
#define ENTRY_NX   (UINT64_C(1) << 63)
#define MAX_LEVELS 4

typedef enum WalkStatus { WALK_DONE, WALK_FAULT, WALK_AGAIN } WalkStatus;

typedef struct Walk {
  TcgCpu *cpu;
  uint64_t linear;
  X86Access access;
  TcgMmu mmu;
  unsigned entry_bytes; /* 4 or 8 */
  unsigned index_bits;  /* 10 or 9 */
  struct {
    uint64_t gpa, value;
  } entries[MAX_LEVELS];
  unsigned n_entries;
  unsigned shift; /* of the level that the walk is at */
  bool user, writable, no_execute;
} Walk;

/* ---- table entries ---------------------------------------------------------------------------------------------- */

static uint64_t read_entry(const Walk *w, uint64_t gpa)
{
  TcgCpu *cpu = w->cpu;
  uint64_t offset;
  VmRam *ram = x86_plain_ram(cpu, gpa & cpu->a20_mask, w->entry_bytes, &offset);

  if (!ram)
    return vm_memory_load(cpu->memory, x86_view(cpu), gpa & cpu->a20_mask, w->entry_bytes);
  if (w->entry_bytes == 4)
    return __atomic_load_n((uint32_t *)(ram->hva + offset), __ATOMIC_ACQUIRE);
  return __atomic_load_n((uint64_t *)(ram->hva + offset), __ATOMIC_ACQUIRE);
}

static bool exchange_entry(uint8_t *hva, unsigned bytes, uint64_t old, uint64_t new)
{
  if (bytes == 4) {
    uint32_t expected = (uint32_t)old;
    return __atomic_compare_exchange_n((uint32_t *)hva, &expected, (uint32_t) new, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
  }
  return __atomic_compare_exchange_n((uint64_t *)hva, &old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Sets `bits` in entry `n`. False: it is no longer what the walk saw. */
static bool mark_entry(const Walk *w, unsigned n, uint64_t bits)
{
  TcgCpu *cpu = w->cpu;
  uint64_t gpa = w->entries[n].gpa & cpu->a20_mask, old = w->entries[n].value, offset;

  if ((old & bits) == bits)
    return true;
  VmRam *ram = x86_plain_ram(cpu, gpa, w->entry_bytes, &offset);
  if (!ram) {
    vm_memory_store(cpu->memory, x86_view(cpu), gpa, old | bits, w->entry_bytes);
    return true;
  }
  if (!exchange_entry(ram->hva + offset, w->entry_bytes, old, old | bits))
    return false;
  if (atomic_load_explicit(&ram->page_flags[offset >> VM_PAGE_SHIFT], memory_order_acquire))
    vm_ram_note_write(ram, offset, w->entry_bytes);
  return true;
}

/* ---- judging ------------------------------------------------------------------------------------------------------ */

static bool has_nx(const TcgCpu *cpu)
{
  return cpu->x86.efer & X86_EFER_NXE && cpu->x86.cr4 & X86_CR4_PAE;
}

static void raise_fault(const Walk *w, uint32_t error)
{
  const X86Cpu *x86 = &w->cpu->x86;

  if (w->access == X86_WRITE)
    error |= X86_PF_WRITE;
  if (w->mmu == TCG_MMU_USER)
    error |= X86_PF_USER;
  if (w->access == X86_FETCH && (has_nx(w->cpu) || x86->cr4 & X86_CR4_SMEP))
    error |= X86_PF_FETCH;
  x86_raise_page_fault(w->cpu, w->linear, error);
}

static bool is_large(const Walk *w, uint64_t entry)
{
  if (!(entry & ENTRY_PS))
    return false;
  if (w->entry_bytes == 4)
    return w->shift == 22 && w->cpu->x86.cr4 & X86_CR4_PSE;
  return w->shift == 21 || w->shift == 30;
}

/* Bits that must be 0 in a present entry of the level that the walk is at. */
static uint64_t reserved_bits(const Walk *w, uint64_t entry)
{
  bool large = is_large(w, entry);

  if (w->entry_bytes == 4) /* PSE-36 takes bits 20–13 for physical bits 39–32 */
    return large ? UINT64_C(1) << 21 : 0;

  uint64_t reserved = UINT64_C(0x000fffffffffffff) & ~X86_PHYS_MASK;
  if (!has_nx(w->cpu))
    reserved |= ENTRY_NX;
  if (!(w->cpu->x86.efer & X86_EFER_LMA))
    reserved |= UINT64_C(0x7ff0000000000000);
  if (w->shift == 39)
    reserved |= ENTRY_PS;
  if (large)
    reserved |= ((UINT64_C(1) << w->shift) - 1) & ~UINT64_C(0x1fff);
  return reserved;
}

/* What the tables allow at the walk's privilege. */
static uint32_t rights_of(const Walk *w)
{
  const X86Cpu *x86 = &w->cpu->x86;
  uint32_t rights = TCG_TLB_READ | (w->no_execute ? 0 : TCG_TLB_EXEC);

  if (w->mmu == TCG_MMU_USER)
    return w->user ? rights | (w->writable ? TCG_TLB_WRITE : 0) : 0;
  if (w->writable || !(x86->cr0 & X86_CR0_WP))
    rights |= TCG_TLB_WRITE;
  if (w->user && x86->cr4 & X86_CR4_SMEP)
    rights &= ~(uint32_t)TCG_TLB_EXEC;
  if (w->user && x86->cr4 & X86_CR4_SMAP && w->mmu == TCG_MMU_KERNEL)
    rights &= ~(uint32_t)(TCG_TLB_READ | TCG_TLB_WRITE);
  return rights;
}

static uint32_t right_for(X86Access access)
{
  return access == X86_WRITE ? TCG_TLB_WRITE : access == X86_FETCH ? TCG_TLB_EXEC : TCG_TLB_READ;
}

/* ---- the walk --------------------------------------------------------------------------------------------------------- */

static uint64_t leaf_gpa(const Walk *w, uint64_t leaf)
{
  uint64_t page_mask = (UINT64_C(1) << w->shift) - 1, base;

  if (w->entry_bytes == 4)
    base = w->shift == 22 ? (leaf & 0xffc00000) | (leaf >> 13 & 0xff) << 32 : leaf & 0xfffff000;
  else
    base = leaf & X86_PHYS_MASK & ~page_mask;
  return (base | (w->linear & page_mask)) & ~UINT64_C(0xfff);
}

/* Follows the tables from `table` to a leaf, collecting entries and rights. */
static WalkStatus descend(Walk *w, uint64_t table)
{
  for (;;) {
    uint64_t index = w->linear >> w->shift & ((1u << w->index_bits) - 1);
    uint64_t gpa = table + index * w->entry_bytes;
    uint64_t entry = read_entry(w, gpa);

    if (!(entry & ENTRY_P)) {
      raise_fault(w, 0);
      return WALK_FAULT;
    }
    if (entry & reserved_bits(w, entry)) {
      raise_fault(w, X86_PF_PRESENT | X86_PF_RESERVED);
      return WALK_FAULT;
    }
    w->entries[w->n_entries].gpa = gpa;
    w->entries[w->n_entries++].value = entry;
    w->writable &= (entry & ENTRY_RW) != 0;
    w->user &= (entry & ENTRY_US) != 0;
    w->no_execute |= w->entry_bytes == 8 && entry & ENTRY_NX;
    if (w->shift == 12 || is_large(w, entry))
      return WALK_DONE;
    table = w->entry_bytes == 4 ? entry & 0xfffff000 : entry & X86_PHYS_MASK & ~UINT64_C(0xfff);
    w->shift -= w->index_bits;
  }
}

/* Sets up `w` for the paging mode and goes down to the leaf. */
static WalkStatus walk_tables(Walk *w)
{
  const X86Cpu *x86 = &w->cpu->x86;

  w->n_entries = 0;
  w->user = w->writable = true;
  w->no_execute = false;
  if (!(x86->cr4 & X86_CR4_PAE)) {
    w->entry_bytes = 4;
    w->index_bits = 10;
    w->shift = 22;
    return descend(w, x86->cr3 & 0xfffff000);
  }
  w->entry_bytes = 8;
  w->index_bits = 9;
  if (x86->efer & X86_EFER_LMA) {
    w->shift = 39;
    return descend(w, x86->cr3 & X86_PHYS_MASK & ~UINT64_C(0xfff));
  }
  uint64_t pdpte = x86->pae_pdpte[w->linear >> 30 & 3];
  if (!(pdpte & ENTRY_P)) {
    raise_fault(w, 0);
    return WALK_FAULT;
  }
  w->shift = 21;
  return descend(w, pdpte & X86_PHYS_MASK & ~UINT64_C(0xfff));
}

static WalkStatus mark_entries(const Walk *w)
{
  for (unsigned n = 0; n < w->n_entries; n++) {
    bool leaf = n == w->n_entries - 1;
    if (!mark_entry(w, n, leaf && w->access == X86_WRITE ? ENTRY_A | ENTRY_D : ENTRY_A))
      return WALK_AGAIN;
  }
  return WALK_DONE;
}

static WalkStatus walk_once(Walk *w, X86Translation *out)
{
  WalkStatus status = walk_tables(w);
  if (status != WALK_DONE)
    return status;

  uint32_t rights = rights_of(w);
  if (!(rights & right_for(w->access))) {
    raise_fault(w, X86_PF_PRESENT);
    return WALK_FAULT;
  }
  status = mark_entries(w);
  if (status != WALK_DONE)
    return status;

  uint64_t leaf = w->entries[w->n_entries - 1].value;
  if (w->access != X86_WRITE && !(leaf & ENTRY_D))
    rights &= ~(uint32_t)TCG_TLB_WRITE;
  if (leaf & ENTRY_G && w->cpu->x86.cr4 & X86_CR4_PGE)
    rights |= TCG_TLB_GLOBAL;
  out->gpa = leaf_gpa(w, leaf);
  out->rights = rights;
  out->page_shift = (uint8_t)w->shift;
  return WALK_DONE;
}

bool x86_walk(TcgCpu *cpu, uint64_t linear, X86Access access, TcgMmu mmu, X86Translation *out)
{
  if (!(cpu->x86.cr0 & X86_CR0_PG)) {
    *out =
        (X86Translation){ (linear & 0xffffffff) & ~UINT64_C(0xfff), TCG_TLB_READ | TCG_TLB_WRITE | TCG_TLB_EXEC, 12 };
    return true;
  }
  Walk w = { .cpu = cpu, .linear = linear, .access = access, .mmu = mmu };
  WalkStatus status;
  do
    status = walk_once(&w, out);
  while (status == WALK_AGAIN);
  return status == WALK_DONE;
}

bool x86_load_pdptes(TcgCpu *cpu, uint64_t cr3)
{
  Walk w = { .cpu = cpu, .entry_bytes = 8 };
  uint64_t pdpte[4];

  for (unsigned i = 0; i < 4; i++) {
    pdpte[i] = read_entry(&w, (cr3 & 0xffffffe0) + i * 8);
    if (pdpte[i] & ENTRY_P && pdpte[i] & (~X86_PHYS_MASK | 0x1e6))
      return false;
  }
  memcpy(cpu->x86.pae_pdpte, pdpte, sizeof pdpte);
  return true;
}

/*
 * The software TLB of the x86 guest: filling, flushing, and where code comes from.
 *
 * An entry remembers what the page tables allow (`page`, `physical`), and separately whether translated code may go
 * straight to host memory (the tags). Tags are given only where nothing else has to happen: the page is plain RAM as a
 * whole, has no data breakpoint in it, alignment checks are off, and for writes, it is dirty in the guest's tables and
 * has no VM_PAGE_* flag. Everything else takes the slow path, which finds the translation here all the same.
 *
 * Write tags race with other threads that set VM_PAGE_CODE or VM_PAGE_CLEAN on a page: they set the flag, then ask this
 * CPU to drop its write tags. This CPU sets the tag, then looks at the flag once more. So either it sees the flag and
 * takes the tag back, or the request comes after and does so.
 */
#include "vm-engine/accel/tcg/guest/x86/mmu.h"

#define PAGE_MASK (~UINT64_C(0xfff))
/* In TcgTlb.page, no page being at such an address: not in the used list / in it, but empty. */
#define PAGE_UNLISTED UINT64_C(1)
#define PAGE_EMPTY    UINT64_C(2)

static inline uint32_t tlb_index(uint64_t linear)
{
  return linear >> 12 & (TCG_TLB_SIZE - 1);
}

static void drop_tags(TcgTlb *tlb, uint32_t i)
{
  tlb->read_tag[i] = tlb->write_tag[i] = tcg_tlb_invalid_tag(i);
}

/* ---- RAM look-up ------------------------------------------------------------------------------------------------------- */

VmRam *x86_plain_ram(TcgCpu *cpu, uint64_t gpa, unsigned size, uint64_t *ram_offset)
{
  if (gpa < cpu->ram_range.start || gpa >= cpu->ram_range.end || cpu->ram_range.end - gpa < size) {
    VmResolved r;
    vm_memory_resolve(cpu->memory, x86_view(cpu), gpa, &r);
    if (!r.read_ram || r.read_ram != r.write_ram || r.read_offset != r.write_offset || r.end - gpa < size)
      return NULL;
    cpu->ram_range.start = r.start;
    cpu->ram_range.end = r.end;
    cpu->ram_range.ram = r.read_ram;
    cpu->ram_range.ram_offset = r.read_offset - (gpa - r.start);
  }
  *ram_offset = cpu->ram_range.ram_offset + (gpa - cpu->ram_range.start);
  return cpu->ram_range.ram;
}

/* ---- data breakpoints ------------------------------------------------------------------------------------------------------ */

uint8_t x86_watch_hits(const TcgCpu *cpu, uint64_t linear, unsigned size, bool write)
{
  static const uint8_t lengths[4] = { 1, 2, 8, 4 };
  uint64_t dr7 = cpu->x86.dr[7];
  uint8_t hits = 0;

  if (!(dr7 & 0xff))
    return 0;
  for (unsigned i = 0; i < 4; i++) {
    unsigned type = dr7 >> (16 + 4 * i) & 3, length = lengths[dr7 >> (18 + 4 * i) & 3];
    uint64_t start = cpu->x86.dr[i] & ~(uint64_t)(length - 1);
    if (!(dr7 >> (2 * i) & 3) || !(type == 3 || (type == 1 && write)))
      continue;
    if (linear < start + length && start < linear + size)
      hits |= (uint8_t)(1u << i);
  }
  return hits;
}

/* ---- filling ------------------------------------------------------------------------------------------------------------------ */

static bool page_is_flagged(VmRam *ram, uint64_t offset)
{
  return atomic_load(&ram->page_flags[offset >> VM_PAGE_SHIFT]) != 0;
}

static void set_write_tag(TcgTlb *tlb, uint32_t i, VmRam *ram, uint64_t offset)
{
  if (page_is_flagged(ram, offset))
    return;
  tlb->write_tag[i] = tlb->page[i];
  atomic_thread_fence(memory_order_seq_cst);
  if (page_is_flagged(ram, offset))
    tlb->write_tag[i] = tcg_tlb_invalid_tag(i);
}

/* Gives entry `i` the tags that its page may have. */
static void set_tags(TcgCpu *cpu, TcgTlb *tlb, uint32_t i)
{
  uint64_t linear = tlb->page[i], gpa = tlb->physical[i] & PAGE_MASK, offset;

  if (x86_watch_hits(cpu, linear, VM_PAGE_SIZE, true))
    return;
  if (cpu->hflags & TCG_HF_ALIGN_CHECK && tlb == &cpu->tlb[TCG_MMU_USER])
    return;
  VmRam *ram = x86_plain_ram(cpu, gpa, VM_PAGE_SIZE, &offset);
  if (ram) {
    tlb->addend[i] = (uint64_t)(uintptr_t)(ram->hva + offset) - linear;
    if (tlb->physical[i] & TCG_TLB_READ)
      tlb->read_tag[i] = linear;
    if (tlb->physical[i] & TCG_TLB_WRITE)
      set_write_tag(tlb, i, ram, offset);
    return;
  }
  /* ROM, or RAM that reads and writes at different places: reads may go straight. */
  VmResolved r;
  vm_memory_resolve(cpu->memory, x86_view(cpu), gpa, &r);
  if (r.read_ram && r.start <= gpa && r.end - gpa >= VM_PAGE_SIZE && tlb->physical[i] & TCG_TLB_READ) {
    tlb->addend[i] = (uint64_t)(uintptr_t)(r.read_ram->hva + r.read_offset) - linear;
    tlb->read_tag[i] = linear;
  }
}

static void note_large_page(TcgTlb *tlb, uint64_t linear, unsigned shift)
{
  uint64_t first = linear >> shift << shift, last = first + (UINT64_C(1) << shift) - 1;

  if (tlb->large_first > tlb->large_last) {
    tlb->large_first = first;
    tlb->large_last = last;
    return;
  }
  tlb->large_first = MIN(tlb->large_first, first);
  tlb->large_last = MAX(tlb->large_last, last);
}

static void install(TcgCpu *cpu, TcgTlb *tlb, uint32_t i, uint64_t linear_page, const X86Translation *t)
{
  uint32_t large = t->page_shift > 12 ? t->page_shift : 0;

  if (tlb->page[i] == PAGE_UNLISTED)
    tlb->used[tlb->n_used++] = (uint16_t)i;
  if (large)
    note_large_page(tlb, linear_page, large);
  tlb->page[i] = linear_page;
  tlb->physical[i] = (t->gpa & cpu->a20_mask) | t->rights | large << TCG_TLB_LARGE_SHIFT;
  drop_tags(tlb, i);
  set_tags(cpu, tlb, i);
}

bool x86_tlb_ensure(TcgCpu *cpu, uint64_t linear, X86Access access, TcgMmu mmu, uint32_t *index)
{
  TcgTlb *tlb = &cpu->tlb[mmu];
  uint32_t i = tlb_index(linear);
  uint32_t right = access == X86_WRITE ? TCG_TLB_WRITE : access == X86_FETCH ? TCG_TLB_EXEC : TCG_TLB_READ;

  *index = i;
  if (tlb->page[i] == (linear & PAGE_MASK) && tlb->physical[i] & right)
    return true;
  X86Translation t;
  if (!x86_walk(cpu, linear, access, mmu, &t))
    return false;
  install(cpu, tlb, i, linear & PAGE_MASK, &t);
  return true;
}

void x86_tlb_retry_write_tag(TcgCpu *cpu, TcgMmu mmu, uint32_t index)
{
  TcgTlb *tlb = &cpu->tlb[mmu];
  uint64_t offset;

  if (tlb->read_tag[index] != tlb->page[index] || !(tlb->physical[index] & TCG_TLB_WRITE))
    return;
  VmRam *ram = x86_plain_ram(cpu, tlb->physical[index] & PAGE_MASK, VM_PAGE_SIZE, &offset);
  if (ram)
    set_write_tag(tlb, index, ram, offset);
}

/* ---- flushing -------------------------------------------------------------------------------------------------------------------- */

void x86_tlb_init(TcgCpu *cpu)
{
  for (unsigned m = 0; m < TCG_N_MMU; m++) {
    TcgTlb *tlb = &cpu->tlb[m];
    tlb->n_used = 0;
    tlb->large_first = 1;
    tlb->large_last = 0;
    for (uint32_t i = 0; i < TCG_TLB_SIZE; i++) {
      tlb->page[i] = PAGE_UNLISTED;
      drop_tags(tlb, i);
    }
  }
  memset(&cpu->ram_range, 0, sizeof cpu->ram_range);
  tcg_flush_jump_cache(cpu);
}

/* Empties the entries of `tlb` that do not have all bits of `keep` (0: keeps none) in `physical`. */
static void flush_tlb(TcgTlb *tlb, uint32_t keep)
{
  uint32_t kept = 0;

  for (uint32_t n = 0; n < tlb->n_used; n++) {
    uint32_t i = tlb->used[n];
    if (keep && tlb->page[i] != PAGE_EMPTY && (tlb->physical[i] & keep) == keep) {
      tlb->used[kept++] = (uint16_t)i;
      continue;
    }
    tlb->page[i] = PAGE_UNLISTED;
    drop_tags(tlb, i);
  }
  tlb->n_used = kept;
  if (!kept) {
    tlb->large_first = 1;
    tlb->large_last = 0;
  }
}

void x86_tlb_flush(TcgCpu *cpu)
{
  for (unsigned m = 0; m < TCG_N_MMU; m++)
    flush_tlb(&cpu->tlb[m], 0);
  memset(&cpu->ram_range, 0, sizeof cpu->ram_range);
  tcg_flush_jump_cache(cpu);
}

void x86_tlb_flush_user(TcgCpu *cpu)
{
  flush_tlb(&cpu->tlb[TCG_MMU_USER], 0);
}

void x86_tlb_flush_nonglobal(TcgCpu *cpu)
{
  for (unsigned m = 0; m < TCG_N_MMU; m++)
    flush_tlb(&cpu->tlb[m], TCG_TLB_GLOBAL);
  tcg_flush_jump_cache(cpu);
}

static void empty_entry(TcgTlb *tlb, uint32_t i)
{
  tlb->page[i] = PAGE_EMPTY;
  drop_tags(tlb, i);
}

/* Empties all entries that come from the same large page as `linear`. Returns whether there were any. */
static bool flush_large_page(TcgTlb *tlb, uint64_t linear)
{
  bool any = false;

  if (linear < tlb->large_first || linear > tlb->large_last)
    return false;
  for (uint32_t n = 0; n < tlb->n_used; n++) {
    uint32_t i = tlb->used[n], shift = tlb->physical[i] >> TCG_TLB_LARGE_SHIFT & 31;
    if (tlb->page[i] == PAGE_EMPTY || !shift || tlb->page[i] >> shift != linear >> shift)
      continue;
    empty_entry(tlb, i);
    any = true;
  }
  return any;
}

void x86_tlb_flush_page(TcgCpu *cpu, uint64_t linear)
{
  bool large = false;

  if (!(cpu->x86.efer & X86_EFER_LMA))
    linear &= 0xffffffff;
  for (unsigned m = 0; m < TCG_N_MMU; m++) {
    TcgTlb *tlb = &cpu->tlb[m];
    uint32_t i = tlb_index(linear);
    large |= flush_large_page(tlb, linear);
    if (tlb->page[i] == (linear & PAGE_MASK))
      empty_entry(tlb, i);
  }
  if (large)
    tcg_flush_jump_cache(cpu);
  else
    tcg_flush_jump_cache_page(cpu, linear & PAGE_MASK);
}

void x86_tlb_protect_writes(TcgCpu *cpu, VmRam *ram, uint64_t offset, uint64_t size)
{
  uint64_t start = (uint64_t)(uintptr_t)ram->hva + (offset & PAGE_MASK),
           end = (uint64_t)(uintptr_t)ram->hva + offset + size;

  for (unsigned m = 0; m < TCG_N_MMU; m++) {
    TcgTlb *tlb = &cpu->tlb[m];
    for (uint32_t n = 0; n < tlb->n_used; n++) {
      uint32_t i = tlb->used[n];
      uint64_t host = tlb->addend[i] + tlb->page[i];
      if (tlb->write_tag[i] == tlb->page[i] && host >= start && host < end)
        tlb->write_tag[i] = tcg_tlb_invalid_tag(i);
    }
  }
}

/* ---- code --------------------------------------------------------------------------------------------------------------------------- */

bool x86_resolve_code(TcgCpu *cpu, uint64_t linear, X86Code *code)
{
  TcgMmu mmu = x86_mmu(cpu);
  uint32_t i;

  if (!(cpu->x86.efer & X86_EFER_LMA))
    linear &= 0xffffffff;
  if (!x86_check_canonical(cpu, linear, 1, X86_EXC_GP) || !x86_tlb_ensure(cpu, linear, X86_FETCH, mmu, &i))
    return false;

  uint64_t page = cpu->tlb[mmu].physical[i] & PAGE_MASK;
  unsigned in_page = linear & 0xfff;
  VmResolved r;
  *code = (X86Code){ .gpa = page | in_page };
  vm_memory_resolve(cpu->memory, x86_view(cpu), page, &r);
  if (r.read_ram && r.start <= page && r.end - page >= VM_PAGE_SIZE) {
    code->ram = r.read_ram;
    code->ram_offset = r.read_offset + in_page;
    code->hva = r.read_ram->hva + code->ram_offset;
  }
  return true;
}

/*
 * Accesses to guest memory by linear address that do not go straight through the TLB's tags: the slow paths of
 * translated code, and the helpers' own reads and writes.
 *
 * An access is cut into pieces at page boundaries (at most two). All pieces are translated before any byte moves, so a
 * fault leaves memory as it was.
 */
#include "vm-engine/accel/tcg/guest/x86/mmu.h"
#include "vm-engine/vcpu.h"

typedef struct Piece {
  uint64_t linear;
  unsigned size;
  uint32_t index; /* of the TLB entry */
} Piece;

typedef struct Access {
  TcgCpu *cpu;
  TcgTlb *tlb;
  TcgMmu mmu;
  Piece pieces[2];
  unsigned n_pieces;
} Access;

/* ---- host copies -------------------------------------------------------------------------------------------------- */

/* Copies in one move where the size is a power of two up to 16, so that other CPUs never see half of an aligned store. */
static inline void copy_whole(void *to, const void *from, unsigned size)
{
  switch (size) {
  case 1:
    memcpy(to, from, 1);
    break;
  case 2:
    memcpy(to, from, 2);
    break;
  case 4:
    memcpy(to, from, 4);
    break;
  case 8:
    memcpy(to, from, 8);
    break;
  case 16:
    memcpy(to, from, 16);
    break;
  default:
    memcpy(to, from, size);
  }
}

static unsigned chunk_size(unsigned left)
{
  return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* ---- physical memory ---------------------------------------------------------------------------------------------------- */

static void read_physical(TcgCpu *cpu, uint64_t gpa, uint8_t *buffer, unsigned size)
{
  VmResolved r;

  vm_memory_resolve(cpu->memory, x86_view(cpu), gpa, &r);
  if (r.read_ram && r.end - gpa >= size) {
    copy_whole(buffer, r.read_ram->hva + r.read_offset, size);
    return;
  }
  while (size) {
    unsigned n = chunk_size(size);
    uint32_t fp = x86_host_fp_begin();
    uint64_t value = vm_memory_load(cpu->memory, x86_view(cpu), gpa, n);
    x86_host_fp_end(fp);
    memcpy(buffer, &value, n);
    buffer += n;
    gpa += n;
    size -= n;
  }
}

/* Registers: what was written may have raised an interrupt or changed the map, which the main loop should see soon. */
static void write_registers(TcgCpu *cpu, uint64_t gpa, const uint8_t *buffer, unsigned size)
{
  while (size) {
    unsigned n = chunk_size(size);
    uint64_t value = 0;
    memcpy(&value, buffer, n);
    uint32_t fp = x86_host_fp_begin();
    vm_memory_store(cpu->memory, x86_view(cpu), gpa, value, n);
    x86_host_fp_end(fp);
    buffer += n;
    gpa += n;
    size -= n;
  }
  if (cpu->vcpu && vm_cpu_requests(cpu->vcpu))
    cpu->exit_block = 1;
}

/* The note comes after the store: a dirty mark set before could be collected before the bytes are there, and code
 * dropped before could be translated again from the old bytes. */
static void write_ram(TcgCpu *cpu, VmRam *ram, uint64_t offset, const uint8_t *buffer, unsigned size)
{
  uint8_t flags = atomic_load_explicit(&ram->page_flags[offset >> VM_PAGE_SHIFT], memory_order_acquire);

  copy_whole(ram->hva + offset, buffer, size);
  if (flags & VM_PAGE_CODE && cpu->tcg)
    tcg_invalidate(cpu->tcg, cpu, ram, offset, size);
  if (flags)
    vm_ram_note_write(ram, offset, size);
}

static void write_physical(TcgCpu *cpu, uint64_t gpa, const uint8_t *buffer, unsigned size)
{
  VmResolved r;

  vm_memory_resolve(cpu->memory, x86_view(cpu), gpa, &r);
  if (r.write_ram && r.end - gpa >= size)
    write_ram(cpu, r.write_ram, r.write_offset, buffer, size);
  else
    write_registers(cpu, gpa, buffer, size);
}

/* ---- pieces ------------------------------------------------------------------------------------------------------------------ */

bool x86_check_canonical(TcgCpu *cpu, uint64_t linear, unsigned size, unsigned vector)
{
  if (!(cpu->x86.efer & X86_EFER_LMA) || (x86_is_canonical(linear) && x86_is_canonical(linear + size - 1)))
    return true;
  x86_raise_error(cpu, vector, 0);
  return false;
}

static bool begin_access(Access *a, TcgCpu *cpu, uint64_t linear, unsigned size, X86Access access, TcgMmu mmu)
{
  bool wide = cpu->x86.efer & X86_EFER_LMA;
  unsigned first = MIN(size, 0x1000 - (unsigned)(linear & 0xfff));

  a->cpu = cpu;
  a->mmu = mmu;
  a->tlb = &cpu->tlb[mmu];
  a->n_pieces = first < size ? 2 : 1;
  a->pieces[0] = (Piece){ wide ? linear : linear & 0xffffffff, first, 0 };
  a->pieces[1] = (Piece){ wide ? linear + first : (linear + first) & 0xffffffff, size - first, 0 };
  for (unsigned i = 0; i < a->n_pieces; i++)
    if (!x86_tlb_ensure(cpu, a->pieces[i].linear, access, mmu, &a->pieces[i].index))
      return false;
  return true;
}

static uint64_t piece_gpa(const Access *a, const Piece *p)
{
  return (a->tlb->physical[p->index] & ~UINT64_C(0xfff)) | (p->linear & 0xfff);
}

static inline uint8_t *piece_host(const Access *a, const Piece *p)
{
  return (uint8_t *)(uintptr_t)(a->tlb->addend[p->index] + p->linear);
}

static void read_pieces(const Access *a, uint8_t *buffer)
{
  for (unsigned i = 0; i < a->n_pieces; i++) {
    const Piece *p = &a->pieces[i];
    if (a->tlb->read_tag[p->index] == (p->linear & ~UINT64_C(0xfff)))
      copy_whole(buffer, piece_host(a, p), p->size);
    else
      read_physical(a->cpu, piece_gpa(a, p), buffer, p->size);
    a->cpu->watch_hit |= x86_watch_hits(a->cpu, p->linear, p->size, false);
    buffer += p->size;
  }
}

static void write_pieces(const Access *a, const uint8_t *buffer)
{
  for (unsigned i = 0; i < a->n_pieces; i++) {
    const Piece *p = &a->pieces[i];
    if (a->tlb->write_tag[p->index] == (p->linear & ~UINT64_C(0xfff))) {
      copy_whole(piece_host(a, p), buffer, p->size);
    } else {
      write_physical(a->cpu, piece_gpa(a, p), buffer, p->size);
      x86_tlb_retry_write_tag(a->cpu, a->mmu, p->index);
    }
    a->cpu->watch_hit |= x86_watch_hits(a->cpu, p->linear, p->size, true);
    buffer += p->size;
  }
}

/* ---- for helpers ----------------------------------------------------------------------------------------------------------------- */

/* The host address where the tag `tag` lets [linear, linear + size) through as translated code would go, else NULL. */
static inline uint8_t *tagged_host(const TcgTlb *tlb, uint64_t tag, uint64_t linear, unsigned size)
{
  if ((linear ^ tag) > 4096 - size)
    return NULL;
  return (uint8_t *)(uintptr_t)(tlb->addend[linear >> 12 & (TCG_TLB_SIZE - 1)] + linear);
}

static bool load(TcgCpu *cpu, uint64_t linear, void *buffer, unsigned size, TcgMmu mmu, unsigned vector)
{
  const TcgTlb *tlb = &cpu->tlb[mmu];
  const uint8_t *host = tagged_host(tlb, tlb->read_tag[linear >> 12 & (TCG_TLB_SIZE - 1)], linear, size);
  Access a;

  if (host) {
    copy_whole(buffer, host, size);
    return true;
  }
  if (!x86_check_canonical(cpu, linear, size, vector) || !begin_access(&a, cpu, linear, size, X86_READ, mmu))
    return false;
  read_pieces(&a, buffer);
  return true;
}

static bool store(TcgCpu *cpu, uint64_t linear, const void *buffer, unsigned size, TcgMmu mmu, unsigned vector)
{
  const TcgTlb *tlb = &cpu->tlb[mmu];
  uint8_t *host = tagged_host(tlb, tlb->write_tag[linear >> 12 & (TCG_TLB_SIZE - 1)], linear, size);
  Access a;

  if (host) {
    copy_whole(host, buffer, size);
    return true;
  }
  if (!x86_check_canonical(cpu, linear, size, vector) || !begin_access(&a, cpu, linear, size, X86_WRITE, mmu))
    return false;
  write_pieces(&a, buffer);
  return true;
}

bool x86_read(TcgCpu *cpu, uint64_t linear, void *buffer, unsigned size, TcgMmu mmu)
{
  g_return_val_if_fail(size >= 1 && size <= 4096, false);
  return load(cpu, linear, buffer, size, mmu, X86_EXC_GP);
}

bool x86_write(TcgCpu *cpu, uint64_t linear, const void *buffer, unsigned size, TcgMmu mmu)
{
  g_return_val_if_fail(size >= 1 && size <= 4096, false);
  return store(cpu, linear, buffer, size, mmu, X86_EXC_GP);
}

bool x86_read_u16(TcgCpu *cpu, uint64_t linear, uint16_t *value, TcgMmu mmu)
{
  return load(cpu, linear, value, sizeof *value, mmu, X86_EXC_GP);
}

bool x86_read_u32(TcgCpu *cpu, uint64_t linear, uint32_t *value, TcgMmu mmu)
{
  return load(cpu, linear, value, sizeof *value, mmu, X86_EXC_GP);
}

bool x86_read_u64(TcgCpu *cpu, uint64_t linear, uint64_t *value, TcgMmu mmu)
{
  return load(cpu, linear, value, sizeof *value, mmu, X86_EXC_GP);
}

bool x86_write_u16(TcgCpu *cpu, uint64_t linear, uint16_t value, TcgMmu mmu)
{
  return store(cpu, linear, &value, sizeof value, mmu, X86_EXC_GP);
}

bool x86_write_u32(TcgCpu *cpu, uint64_t linear, uint32_t value, TcgMmu mmu)
{
  return store(cpu, linear, &value, sizeof value, mmu, X86_EXC_GP);
}

bool x86_write_u64(TcgCpu *cpu, uint64_t linear, uint64_t value, TcgMmu mmu)
{
  return store(cpu, linear, &value, sizeof value, mmu, X86_EXC_GP);
}

uint8_t *x86_host_pointer(TcgCpu *cpu, uint64_t linear, unsigned size, X86Access access, TcgMmu mmu)
{
  const TcgTlb *tlb = &cpu->tlb[mmu];
  uint32_t i;

  if (!(cpu->x86.efer & X86_EFER_LMA))
    linear &= 0xffffffff;
  g_return_val_if_fail((linear & 0xfff) + size <= 0x1000, NULL);
  if (!x86_check_canonical(cpu, linear, size, X86_EXC_GP) || !x86_tlb_ensure(cpu, linear, access, mmu, &i))
    return NULL;
  uint64_t tag = access == X86_WRITE ? tlb->write_tag[i] : tlb->read_tag[i];
  return tag == (linear & ~UINT64_C(0xfff)) ? (uint8_t *)(uintptr_t)(tlb->addend[i] + linear) : NULL;
}

/* ---- for translated code ------------------------------------------------------------------------------------------------------------ */

/* What an access with `memop` needs before its page is looked at. */
typedef struct SlowAccess {
  unsigned size, vector;
  TcgMmu mmu;
} SlowAccess;

static bool begin_slow(TcgCpu *cpu, uint64_t linear, uint32_t memop, SlowAccess *s)
{
  s->size = 1u << MIN(memop & IR_MEM_SIZE, 5u);
  s->vector = memop & IR_MEM_STACK ? X86_EXC_SS : X86_EXC_GP;
  s->mmu = memop & IR_MEM_SYSTEM ? TCG_MMU_KERNEL : x86_mmu(cpu);
  if (memop & IR_MEM_ALIGNED && linear & (s->size - 1)) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return false;
  }
  if (cpu->hflags & TCG_HF_ALIGN_CHECK && s->mmu == TCG_MMU_USER && linear & (MIN(s->size, 8u) - 1)) {
    x86_raise_error(cpu, X86_EXC_AC, 0);
    return false;
  }
  return true;
}

uint64_t tcg_slow_load(TcgCpu *cpu, uint64_t linear, uint32_t memop)
{
  uint64_t value = 0;
  SlowAccess s;

  if (!begin_slow(cpu, linear, memop, &s) || s.size > 8 || !load(cpu, linear, &value, s.size, s.mmu, s.vector))
    return 0;
  if (memop & IR_MEM_SIGNED && s.size < 8) {
    unsigned unused = 64 - 8 * s.size;
    value = (uint64_t)((int64_t)(value << unused) >> unused);
  }
  return value;
}

void tcg_slow_store(TcgCpu *cpu, uint64_t linear, uint64_t value, uint32_t memop)
{
  SlowAccess s;

  if (begin_slow(cpu, linear, memop, &s) && s.size <= 8 && !store(cpu, linear, &value, s.size, s.mmu, s.vector))
    return; /* the fault is pending */
}

void tcg_slow_load_vector(TcgCpu *cpu, uint64_t linear, uint32_t memop, uint32_t state_offset)
{
  uint8_t bytes[32];
  SlowAccess s;

  if (begin_slow(cpu, linear, memop, &s) && load(cpu, linear, bytes, s.size, s.mmu, s.vector))
    memcpy((uint8_t *)cpu + state_offset, bytes, s.size);
}

void tcg_slow_store_vector(TcgCpu *cpu, uint64_t linear, uint32_t memop, uint32_t state_offset)
{
  SlowAccess s;

  if (begin_slow(cpu, linear, memop, &s) &&
      !store(cpu, linear, (const uint8_t *)cpu + state_offset, s.size, s.mmu, s.vector))
    return; /* the fault is pending */
}

void tcg_slow_probe_write(TcgCpu *cpu, uint64_t linear, uint32_t memop)
{
  SlowAccess s;
  Access a;

  if (begin_slow(cpu, linear, memop, &s) && x86_check_canonical(cpu, linear, s.size, s.vector) &&
      !begin_access(&a, cpu, linear, s.size, X86_WRITE, s.mmu))
    return; /* the fault is pending */
}

/*
 * Memory management of the x86 guest, shared by its parts: page walks (mmu-walk.c), the software TLB (mmu.c) and the
 * accesses behind it (mmu-access.c).
 *
 * Linear addresses are 64 bits in long mode, else 32: what is above is cut off here. Physical addresses have
 * X86_PHYS_BITS bits, as CPUID says; every physical access goes through the A20 mask and, in SMM, that mode's view.
 */
#ifndef X86_MMU_H
#define X86_MMU_H

#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"
#include "vm-engine/memory-impl.h"

#define X86_PHYS_BITS 40
#define X86_PHYS_MASK ((UINT64_C(1) << X86_PHYS_BITS) - 1)

/* Error code bits of #PF. */
enum { X86_PF_PRESENT = 1, X86_PF_WRITE = 2, X86_PF_USER = 4, X86_PF_RESERVED = 8, X86_PF_FETCH = 16 };

/* Where a linear page stands. `rights`: TCG_TLB_READ/WRITE/EXEC/GLOBAL at the walk's privilege. */
typedef struct X86Translation {
  uint64_t gpa; /* of the 4 KiB page; the A20 mask not applied */
  uint32_t rights;
  uint8_t page_shift; /* 12, 21, 22 or 30 */
} X86Translation;

/* Walks the guest's page tables for `access`, setting accessed and dirty bits. False: #PF is pending. */
bool x86_walk(TcgCpu *cpu, uint64_t linear, X86Access access, TcgMmu mmu, X86Translation *out) G_GNUC_WARN_UNUSED_RESULT;
/* Reads the four PAE pointers from `cr3` into x86.pae_pdpte. False, with nothing changed: reserved bits are set. */
bool x86_load_pdptes(TcgCpu *cpu, uint64_t cr3) G_GNUC_WARN_UNUSED_RESULT;

/* Makes every tag invalid, whatever is in the arrays: for a CPU whose memory is fresh. */
void x86_tlb_init(TcgCpu *cpu);
/* Drops CPL 3's translations, when alignment checks begin or end (see set_tags()). */
void x86_tlb_flush_user(TcgCpu *cpu);
/* The TLB entry of `linear`, filled so that it allows `access`. False: a fault is pending. */
bool x86_tlb_ensure(TcgCpu *cpu, uint64_t linear, X86Access access, TcgMmu mmu, uint32_t *index) G_GNUC_WARN_UNUSED_RESULT;
/* After a slow write through entry `index`: gives it a write tag if the page's flags allow one by now. */
void x86_tlb_retry_write_tag(TcgCpu *cpu, TcgMmu mmu, uint32_t index);

/* The RAM (readable and writable at the same place) behind `gpa`, and the offset in it; NULL: something else. `size`
 * bytes are within it. */
VmRam *x86_plain_ram(TcgCpu *cpu, uint64_t gpa, unsigned size, uint64_t *ram_offset);

static inline VmView x86_view(const TcgCpu *cpu) { return cpu->x86.in_smm ? VM_VIEW_SMM : VM_VIEW_NORMAL; }
static inline bool x86_is_canonical(uint64_t address) { return (uint64_t)((int64_t)(address << 16) >> 16) == address; }
/* Are all of [linear, linear + size) canonical, where that matters? Else `vector` (#GP or #SS) with error 0 is pending. */
bool x86_check_canonical(TcgCpu *cpu, uint64_t linear, unsigned size, unsigned vector) G_GNUC_WARN_UNUSED_RESULT;

/* Does an enabled data breakpoint stand in [linear, linear + size)? `write`: of those that such an access triggers. */
uint8_t x86_watch_hits(const TcgCpu *cpu, uint64_t linear, unsigned size, bool write);

#endif

/*
 * The x86 guest of the translator: what its parts (front end, system helpers, memory management, FPU) offer each other
 * and the execution loop.
 *
 * Faults: a function that may raise a guest exception returns false (or 0 with exc_pending set) right after x86_raise*;
 * its caller returns at once, leaving the architectural state as it was before the instruction. No setjmp.
 */
#ifndef X86_TCG_H
#define X86_TCG_H

#include <stdbool.h>
#include <stdint.h>

#include "vm-engine/accel/tcg/ir/ir.h"
#include "vm-engine/accel/tcg/tcg.h"

/* ---- front end (translate.c and its families) --------------------------------------------------------------------------- */

extern const IrGuestReg x86_guest_regs[]; /* RAX … R15 in encoding order: ir_reg(n) is GPR n */
#define X86_N_GUEST_REGS 16

/* Translates from linear `pc` under cpu->hflags into `ir`, up to `max_insns` instructions, a jump, or the page's end
 * (an instruction may cross into the next page). Instruction bytes that cannot be fetched: if they belong to the first
 * instruction, returns false with the fault pending; else the block ends before it. */
bool x86_translate(TcgCpu *cpu, IrBlock *ir, uint64_t pc, unsigned max_insns);

/* ---- exceptions and mode (sys-*.c) ------------------------------------------------------------------------------------------- */

/* Not a vector: the instruction is put off. x86_deliver_exception() delivers nothing, and it runs again when the main loop
 * has looked at interrupts (an x87 error that waits for IRQ 13). */
#define X86_EXC_RETRY 0xff

void x86_raise(TcgCpu *cpu, unsigned vector);
void x86_raise_error(TcgCpu *cpu, unsigned vector, uint32_t error);
void x86_raise_page_fault(TcgCpu *cpu, uint64_t linear, uint32_t error);
/* Delivers the pending exception through the IDT (real, protected, long mode; double and triple faults). Returns false
 * on a triple fault. */
bool x86_deliver_exception(TcgCpu *cpu);
/* Delivers a hardware interrupt or NMI / enters SMM. False: triple fault. */
bool x86_deliver_interrupt(TcgCpu *cpu, uint8_t vector, bool nmi);
void x86_enter_smm(TcgCpu *cpu);
/* Recomputes cpu->hflags from the architectural state. */
void x86_update_hflags(TcgCpu *cpu);
/* After cpu->x86 was filled from outside (reset, load) / before it is read: see the truth rules in tcg-cpu.h. */
void x86_tcg_import(TcgCpu *cpu);
void x86_tcg_export(TcgCpu *cpu);
/* What the translator can run, for CPUID. */
extern const X86CpuidFeatures x86_tcg_features;

/* ---- memory (mmu.c) ------------------------------------------------------------------------------------------------------------ */

typedef enum X86Access { X86_READ, X86_WRITE, X86_FETCH } X86Access;
/* Guest-virtual accesses by helpers, at `mmu`'s privilege. Any alignment; a fault leaves nothing half-written within one
 * call. `size` at most 4096. */
bool x86_read(TcgCpu *cpu, uint64_t linear, void *buffer, unsigned size, TcgMmu mmu) G_GNUC_WARN_UNUSED_RESULT;
bool x86_write(TcgCpu *cpu, uint64_t linear, const void *buffer, unsigned size, TcgMmu mmu) G_GNUC_WARN_UNUSED_RESULT;
bool x86_read_u16(TcgCpu *cpu, uint64_t linear, uint16_t *value, TcgMmu mmu) G_GNUC_WARN_UNUSED_RESULT;
bool x86_read_u32(TcgCpu *cpu, uint64_t linear, uint32_t *value, TcgMmu mmu) G_GNUC_WARN_UNUSED_RESULT;
bool x86_read_u64(TcgCpu *cpu, uint64_t linear, uint64_t *value, TcgMmu mmu) G_GNUC_WARN_UNUSED_RESULT;
bool x86_write_u16(TcgCpu *cpu, uint64_t linear, uint16_t value, TcgMmu mmu) G_GNUC_WARN_UNUSED_RESULT;
bool x86_write_u32(TcgCpu *cpu, uint64_t linear, uint32_t value, TcgMmu mmu) G_GNUC_WARN_UNUSED_RESULT;
bool x86_write_u64(TcgCpu *cpu, uint64_t linear, uint64_t value, TcgMmu mmu) G_GNUC_WARN_UNUSED_RESULT;
/* Host memory behind [linear, linear + size), within one page, for `access`; NULL without a fault pending: not plain
 * RAM (use x86_read/x86_write); NULL with one: it faulted. Writing through it to a page with code or dirty tracking:
 * never handed out for X86_WRITE in that case. */
uint8_t *x86_host_pointer(TcgCpu *cpu, uint64_t linear, unsigned size, X86Access access, TcgMmu mmu);
static inline TcgMmu x86_mmu(const TcgCpu *cpu) { return (TcgMmu)((cpu->hflags & TCG_HF_MMU) >> TCG_HF_MMU_SHIFT); }

/* The slow paths behind LD, ST, LDV, STV, PROBEW: TLB miss, registers, page crossing, code pages, alignment. `memop` is the
 * op's aux. Faults pend. */
uint64_t tcg_slow_load(TcgCpu *cpu, uint64_t linear, uint32_t memop);
void tcg_slow_store(TcgCpu *cpu, uint64_t linear, uint64_t value, uint32_t memop);
void tcg_slow_load_vector(TcgCpu *cpu, uint64_t linear, uint32_t memop, uint32_t state_offset);
void tcg_slow_store_vector(TcgCpu *cpu, uint64_t linear, uint32_t memop, uint32_t state_offset);
void tcg_slow_probe_write(TcgCpu *cpu, uint64_t linear, uint32_t memop);

/* Where code bytes at `linear` come from: up to the page's end. False with a fault pending. `ram` NULL: not RAM (fetch
 * by x86_read-like accesses; such blocks are not cached). */
typedef struct X86Code { VmRam *ram; uint64_t ram_offset; const uint8_t *hva; uint64_t gpa; } X86Code;
bool x86_resolve_code(TcgCpu *cpu, uint64_t linear, X86Code *code) G_GNUC_WARN_UNUSED_RESULT;

/* Drops cached translations: all / all but global pages / one page. Jump cache included. */
void x86_tlb_flush(TcgCpu *cpu);
void x86_tlb_flush_nonglobal(TcgCpu *cpu);
void x86_tlb_flush_page(TcgCpu *cpu, uint64_t linear);
/* The guest page behind `ram`/`offset` got or lost translated code or dirty tracking: write tags for it must go. */
void x86_tlb_protect_writes(TcgCpu *cpu, VmRam *ram, uint64_t offset, uint64_t size);

/* Helpers run with the guest's MXCSR: its rounding, and flags that gather for it. Code outside of the translator (devices)
 * that a helper calls goes between these two, so that floating-point arithmetic there neither sees nor touches them. */
static inline uint32_t x86_host_fp_begin(void)
{
  uint32_t guest = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(0x1f80);
  return guest;
}
static inline void x86_host_fp_end(uint32_t guest) { __builtin_ia32_ldmxcsr(guest); }

/* ---- FPU (fpu-*.c) ------------------------------------------------------------------------------------------------------------------ */

/* The decoder's hook for x87 (D8–DF), MMX, SSE … SSE4.2, FXSAVE and kin: `X86Decoded` is decode.h's. */
typedef struct X86Decoded X86Decoded;
typedef struct X86Translator X86Translator;
/* False: not one of its opcodes (the caller raises #UD). */
bool x86_translate_fpu(X86Translator *t, const X86Decoded *d);
/* Between cpu->fpr/… and x86.fpu's image. */
void x86_fpu_import(TcgCpu *cpu);
void x86_fpu_export(TcgCpu *cpu);

#endif

/*
 * A vCPU as the translator holds it: the architectural state at offset 0, then what translated code and the helpers
 * need beside it. Translated code reaches all of it by a base register plus a constant offset.
 *
 * Ownership of truth while translated code or a helper runs:
 *   - arithmetic flags (CF PF AF ZF SF OF) are in `flags`, packed as LAHF/SETO leave them; x86.rflags holds all other
 *     bits. x86.rflags' arithmetic bits are stale except between cpu_store and cpu_load (tcg_get_rflags() merges).
 *   - the x87 stack is in `fpr`, by physical number, with `fpu_top` and `fpu_tags`; x86.fpu.st/fsw.TOP/ftw are stale.
 *   - x86.rip is the start of the current instruction whenever a helper that may fault or reads it is called.
 *   - guest GPRs that the host back end pins are in x86.gpr whenever a helper that reads CPU state is called.
 */
#ifndef TCG_CPU_H
#define TCG_CPU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vm-engine/x86/cpu.h"

typedef struct Tcg Tcg;         /* the accelerator: code cache, block tables; see tcg.h */
typedef struct TcgBlock TcgBlock;
typedef struct VmCpu VmCpu;
typedef struct VmMemory VmMemory;

/* Which set of translations an access uses. */
typedef enum TcgMmu {
  TCG_MMU_KERNEL,    /* CPL 0–2; SMAP, where on, forbids user pages */
  TCG_MMU_KERNEL_AC, /* CPL 0–2 while SMAP is on and EFLAGS.AC set */
  TCG_MMU_USER,      /* CPL 3 */
  TCG_N_MMU,
} TcgMmu;

/* The software TLB, direct-mapped by page number. An entry matches address `a` of `size` bytes when
 * (a ^ tag) <= 4096 - size; then the host address is a + addend. Tags of pages that need the slow path for that access
 * (registers, ROM writes, pages with translated code, dirty tracking, watchpoints) stay invalid. */
#define TCG_TLB_BITS 11
#define TCG_TLB_SIZE (1u << TCG_TLB_BITS)
typedef struct TcgTlb {
  uint64_t read_tag[TCG_TLB_SIZE];
  uint64_t write_tag[TCG_TLB_SIZE];
  uint64_t addend[TCG_TLB_SIZE];
  uint64_t physical[TCG_TLB_SIZE]; /* guest-physical page and TCG_TLB_* bits, for the slow path */
  uint64_t page[TCG_TLB_SIZE];     /* linear page that `physical` belongs to, whether or not a tag is valid */
  uint16_t used[TCG_TLB_SIZE];     /* entries filled since the last flush: what a flush has to clear */
  uint32_t n_used;
  uint64_t large_first, large_last; /* linear range that entries out of large pages stand in; first > last: none */
} TcgTlb;
/* In `physical`: what the guest's page tables allow at this privilege (WRITE: and the dirty bit is set). */
enum {
  TCG_TLB_READ = 1 << 0,
  TCG_TLB_WRITE = 1 << 1,
  TCG_TLB_EXEC = 1 << 2,
  TCG_TLB_GLOBAL = 1 << 3,
  TCG_TLB_LARGE_SHIFT = 4, /* five bits: log2 of the guest's page size where that is not 4096, else 0 */
};
/* An invalid tag for entry i: the tag of a page that never maps to it. */
static inline uint64_t tcg_tlb_invalid_tag(uint32_t i)
{
  return (uint64_t)((i + 1) & (TCG_TLB_SIZE - 1)) << 12;
}

/* Direct-mapped cache from guest PC to block, for indirect jumps; looked up inline. */
#define TCG_JUMP_CACHE_BITS 12
#define TCG_JUMP_CACHE_SIZE (1u << TCG_JUMP_CACHE_BITS)
typedef struct TcgJumpEntry {
  uint64_t pc;      /* rip; outside of 64-bit mode with the CS base in the upper half */
  const void *code; /* entry point of a block translated for `hflags` */
  uint32_t hflags;
  uint32_t generation; /* TcgCpu.jump_generation when it was filled; 0: empty */
  TcgBlock *block;
} TcgJumpEntry;
static inline uint32_t tcg_jump_index(uint64_t pc)
{
  return ((uint32_t)pc * 0x9e3779b1u) >> (32 - TCG_JUMP_CACHE_BITS);
}

/* hflags: everything besides the PC that translated code depends on. Kept current by x86_update_hflags(), which
 * whoever changes CR0, CR4, EFER, RFLAGS.VM/TF/AC, a segment, CPL, MXCSR masks or the FPU mode calls. */
enum {
  TCG_HF_CPL = 3 << 0,
  TCG_HF_CS32 = 1 << 2,       /* CS.D: 32-bit default */
  TCG_HF_CS64 = 1 << 3,       /* 64-bit mode (LMA and CS.L) */
  TCG_HF_SS32 = 1 << 4,       /* SS.B: ESP, not SP (in 64-bit mode: set, meaningless) */
  TCG_HF_PE = 1 << 5,
  TCG_HF_VM = 1 << 6,
  TCG_HF_LMA = 1 << 7,
  TCG_HF_FLAT = 1 << 8,       /* DS, ES, SS (and CS) are usable, base 0, limit 4 GiB − 1, writable where it matters: no
                                 base to add, no limit to check. FS and GS are never assumed flat. Always set in 64-bit mode. */
  TCG_HF_CS_BASE0 = 1 << 9,   /* CS base is 0 */
  TCG_HF_TF = 1 << 10,        /* single-step: blocks of one instruction, #DB after each */
  TCG_HF_SHADOW = 1 << 11,    /* interrupts are shadowed by STI/MOV SS: the block is one instruction and clears it */
  TCG_HF_TS = 1 << 12,        /* CR0.TS */
  TCG_HF_EM = 1 << 13,
  TCG_HF_MP = 1 << 14,
  TCG_HF_OSFXSR = 1 << 15,
  TCG_HF_SSE_UNMASKED = 1 << 16, /* MXCSR unmasks an exception: vector FP takes the checking path */
  TCG_HF_MMU_SHIFT = 17,      /* TcgMmu, two bits */
  TCG_HF_MMU = 3 << 17,
  TCG_HF_IOPL_OK = 1 << 19,   /* CPL <= IOPL */
  TCG_HF_OSXSAVE = 1 << 20,
  TCG_HF_SMM = 1 << 21,
  TCG_HF_UMIP = 1 << 22,      /* CR4.UMIP and CPL 3 */
  TCG_HF_BREAKPOINTS = 1 << 23, /* DR7 enables an instruction breakpoint: check at each instruction */
  TCG_HF_ALIGN_CHECK = 1 << 24, /* CR0.AM, EFLAGS.AC, CPL 3 */
  TCG_HF_STACK_LIMITED = 1 << 25, /* SS is not 4 GiB flat although HF_FLAT might hold otherwise; implies !FLAT */
};

/* Packed flags: bits 15–8 as LAHF leaves them in AH (SF ZF 0 AF 0 PF 1 CF), bit 0 OF. */
static inline uint16_t tcg_pack_flags(uint64_t rflags)
{
  return (uint16_t)((rflags & 0xd5) << 8 | 0x200 | (rflags >> 11 & 1));
}
static inline uint64_t tcg_unpack_flags(uint16_t packed)
{
  return (uint64_t)(packed >> 8 & 0xd5) | (uint64_t)(packed & 1) << 11;
}

typedef struct TcgCpu {
  X86Cpu x86; /* first: its fields have small offsets */

  uint16_t flags;        /* see above */
  uint8_t exc_pending;   /* an exception waits for delivery: translated code leaves the block */
  uint8_t exit_block;    /* a helper asks to leave for the main loop after this instruction (rip is then the next one);
                            translated code looks at both bytes at once */
  uint8_t exc_vector;
  uint8_t exc_has_error;
  uint8_t exc_is_trap;   /* deliver with rip already advanced (software INT, #DB traps) */
  uint8_t exc_software;  /* 1: INT n / INT3 / INTO (gate DPL is checked), 2: INT1 */
  /* hflags and jump_generation are compared as one with a TcgJumpEntry's. The generation is 0 while somebody wants the
   * CPU out of translated code (any thread may clear it); else it counts the flushes of the jump cache. */
  uint32_t hflags __attribute__((aligned(8)));
  _Atomic uint32_t jump_generation;
  uint32_t exc_error;
  uint64_t exc_cr2;
  uint64_t exc_dr6;
  uint64_t exc_next_rip; /* return address for traps and software interrupts */

  /* x87 and MMX, by physical register number; 80 bits used of each 16 bytes. */
  uint8_t fpr[8][16] __attribute__((aligned(16)));
  uint8_t fpu_top;
  uint8_t fpu_tags; /* bit i: physical register i is not empty */
  /* Room for 256-bit operands from guest memory and for intermediate results. */
  uint8_t vtmp[4][32] __attribute__((aligned(32)));
  uint32_t host_mxcsr; /* to restore on leaving translated code */
  uint32_t guest_mxcsr_masked; /* x86.fpu.mxcsr with all exceptions masked: what translated code runs with */

  uint64_t spill[64];        /* the back end's frame */
  uint64_t saved[6];         /* scratch registers across a slow path */
  uint64_t slow_address, slow_value; /* a slow path's arguments and result */
  uint32_t slow_memop;
  uint32_t slow_state;
  uint64_t link_site;        /* the exit that was taken, for chaining: block number * 2 + slot + 2; 0: none to chain */

  VmCpu *vcpu;
  Tcg *tcg;
  VmMemory *memory;
  uint64_t a20_mask;         /* ~0, or ~(1 << 20) */
  TcgBlock *running;         /* the block entered last: to find out about self-modification */
  int64_t insn_budget;       /* tests only: instructions to run before leaving, or INT64_MAX */
  uint8_t single_next;       /* the next instruction runs as a block of its own: see ir/opt-live.c, rule 2 */
  struct TcgExec *exec;      /* the execution loop's own */
  struct { uint64_t start, end, ram_offset; struct VmRam *ram; } ram_range; /* guest/x86's own: the RAM last looked up */
  uint8_t watch_hit;         /* guest/x86's own: DR6 bits of data breakpoints that the current instruction met */
  uint8_t event_ext;         /* guest/x86's own: an external event is being delivered (EXT in error codes) */
  void *frontend;            /* guest/x86's own scratch for translation */

  TcgJumpEntry jump_cache[TCG_JUMP_CACHE_SIZE];
  TcgTlb tlb[TCG_N_MMU];
} TcgCpu;

/* The complete RFLAGS / replaces all of it (no checks; updates hflags). */
uint64_t tcg_get_rflags(const TcgCpu *cpu);
void tcg_set_rflags(TcgCpu *cpu, uint64_t rflags);

#endif

/*
 * The guest's x87 as fpu-*.c hold it, and the two ways of running its instructions on the host's x87.
 *
 * Between helpers the host's x87 is empty, with the default control word (0x37f). Its sticky exception flags may be set;
 * they are a subset of the guest's, or x87_host_begin() clears them.
 */
#ifndef X86_FPU_X87_H
#define X86_FPU_X87_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"

/* Bits of the status word. */
#define X87_IE         0x01u
#define X87_DE         0x02u
#define X87_ZE         0x04u
#define X87_OE         0x08u
#define X87_UE         0x10u
#define X87_PE         0x20u
#define X87_SF         0x40u
#define X87_ES         0x80u
#define X87_C0         0x100u
#define X87_C1         0x200u
#define X87_C2         0x400u
#define X87_C3         0x4000u
#define X87_C          (X87_C0 | X87_C1 | X87_C2 | X87_C3)
#define X87_BUSY       0x8000u
#define X87_TOP        0x3800u
#define X87_EXCEPTIONS 0x3fu
#define X87_CW_DEFAULT 0x37fu

/* Argument a of the x87 helpers: FOP (opcode's low 3 bits, modrm) in bits 0–10, then what the instruction cannot tell
 * by itself. */
enum {
  X87_WORD_FOP = 0x7ff,
  X87_WORD_SEG_SHIFT = 12, /* the memory operand's segment: three bits */
  X87_WORD_MEMORY = 1 << 15,
  X87_WORD_OP16 = 1 << 16,   /* operand size 16: FLDENV and kin */
  X87_WORD_BYTES_SHIFT = 20, /* of the memory operand, five bits; 0: none */
};
static inline unsigned x87_word_opcode(uint64_t word)
{
  return 0xd8 | (word >> 8 & 7);
}
static inline unsigned x87_word_modrm(uint64_t word)
{
  return word & 0xff;
}
static inline unsigned x87_word_reg(uint64_t word)
{
  return word >> 3 & 7;
}
static inline unsigned x87_word_rm(uint64_t word)
{
  return word & 7;
}

/* Stack access. `i` is relative to the top. */
static inline unsigned x87_phys(const TcgCpu *cpu, unsigned i)
{
  return (cpu->fpu_top + i) & 7;
}
static inline uint8_t *x87_st(TcgCpu *cpu, unsigned i)
{
  return cpu->fpr[x87_phys(cpu, i)];
}
static inline bool x87_full(const TcgCpu *cpu, unsigned i)
{
  return cpu->fpu_tags >> x87_phys(cpu, i) & 1;
}
static inline void x87_pop(TcgCpu *cpu)
{
  cpu->fpu_tags &= (uint8_t) ~(1u << cpu->fpu_top);
  cpu->fpu_top = (cpu->fpu_top + 1) & 7;
}
/* Makes room for a value, which the caller stores to ST(0). The register was empty. */
static inline void x87_push(TcgCpu *cpu)
{
  cpu->fpu_top = (cpu->fpu_top - 1) & 7;
  cpu->fpu_tags |= (uint8_t)(1u << cpu->fpu_top);
}

/* The status word with TOP / sets status and TOP from one. */
uint16_t x87_get_fsw(const TcgCpu *cpu);
void x87_set_fsw(TcgCpu *cpu, uint16_t fsw);
/* Sets the control word (reserved bits forced) and ES, B by what it leaves unmasked. */
void x87_set_fcw(TcgCpu *cpu, uint16_t fcw);
/* FNINIT. */
void x87_init(TcgCpu *cpu);
/* The full tag word, two bits a register. */
uint16_t x87_get_tag_word(const TcgCpu *cpu);

/* False with #MF pending (or the instruction put off, see VmCpu.fpu_error): waiting instructions begin with it. */
bool x87_check_pending(TcgCpu *cpu);

/* Runs any register-form or arithmetic memory-form instruction with the whole guest state on the host's x87, unmasked
 * exceptions, stack faults and all. `memory` is the operand in memory (at least 16 bytes), read or written. EFLAGS come
 * from and go to cpu->flags. */
void x87_run_exact(TcgCpu *cpu, uint64_t word, void *memory);
/* Is there such an instruction? */
bool x87_is_valid(unsigned opcode, unsigned modrm);

/* The environment: control, status, tags, pointers; in the format of the mode. False with a fault pending. */
bool x87_store_environment(TcgCpu *cpu, uint64_t linear, bool op16, bool with_registers);
bool x87_load_environment(TcgCpu *cpu, uint64_t linear, bool op16, bool with_registers);

/* MXCSR as the guest reads it, with flags that are still in the host's register / a new value (no check). */
uint32_t x86_mxcsr_read(TcgCpu *cpu);
void x86_mxcsr_write(TcgCpu *cpu, uint32_t mxcsr);
/* Which bits LDMXCSR and FXRSTOR take. */
uint32_t x86_mxcsr_valid_bits(void);

#endif

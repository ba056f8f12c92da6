/*
 * What the families of the x86 front end share: the state of one translation, operand access, and ways to leave a block.
 *
 * Rules for a family's code:
 *   - Whatever may fault (loads, stores, limit checks, helpers) comes before the first write to guest registers or flags.
 *   - An operand got as a register is the register itself, not a copy: read it before it is written.
 *   - A family that ends the block sets `ended` by one of the x86_end_*() or x86_emit_raise*() calls; afterwards it emits
 *     nothing.
 */
#ifndef X86_TRANSLATE_H
#define X86_TRANSLATE_H

#include <stddef.h>

#include "vm-engine/accel/tcg/guest/x86/decode.h"
#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"

#define X86_STATE(field) ((uint32_t)offsetof(TcgCpu, field))

struct X86Translator {
  IrBlock *ir;
  TcgCpu *cpu; /* for hflags and fetching only: its registers are not known at translation */
  uint32_t hflags;
  uint8_t code_size;  /* log2 of bytes: 1, 2, 3 for 16-, 32-, 64-bit code */
  uint8_t stack_size; /* of the stack pointer, likewise */
  uint64_t cs_base;
  uint64_t rip;      /* of the current instruction (offset in CS) */
  uint64_t next_rip; /* of the one behind it, wrapped as the mode wraps */
  bool ended;
  uint8_t fpu_done; /* fpu-*.c's: what the block has done already */
};

static inline bool x86_t_64bit(const X86Translator *t)
{
  return t->code_size == 3;
}
static inline bool x86_t_protected(const X86Translator *t)
{
  return (t->hflags & (TCG_HF_PE | TCG_HF_VM)) == TCG_HF_PE;
}
static inline unsigned x86_t_cpl(const X86Translator *t)
{
  return t->hflags & TCG_HF_CPL;
}

/* ---- registers -------------------------------------------------------------------------------------------------- */

/* A GPR of `w`, as modrm or the opcode names it: without REX, byte registers 4–7 are AH CH DH BH. Only the low bits of
 * the result are defined. */
IrRef x86_get_gpr(X86Translator *t, const X86Decoded *d, unsigned reg, IrWidth w);
/* Writes the low bits of `value`, merging as x86 does: 8 and 16 bits leave the rest, 32 bits clear the upper half. */
void x86_set_gpr(X86Translator *t, const X86Decoded *d, unsigned reg, IrWidth w, IrRef value);
/* The same for a register by number, never AH … BH (implicit operands). */
void x86_set_reg(X86Translator *t, unsigned reg, IrWidth w, IrRef value);

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* A linear address: base + disp, to be folded into LD and ST. `base` may be a constant. */
typedef struct X86Mem {
  IrRef base;
  int64_t disp;
} X86Mem;

/* The offset of the memory operand, of the address size, without the segment (LEA). */
IrRef x86_effective_offset(X86Translator *t, const X86Decoded *d);
/* The linear address of the memory operand; emits the limit and rights check for `bytes` (#GP/#SS) where the segment is not
 * known flat. `access` X86_WRITE also for read-modify-write. */
X86Mem x86_operand_address(X86Translator *t, const X86Decoded *d, unsigned bytes, X86Access access);
/* The same as one value, for LDV, STV, PROBEW and helpers. */
IrRef x86_operand_linear(X86Translator *t, const X86Decoded *d, unsigned bytes, X86Access access);
/* The linear address of seg:offset; `offset` is zero-extended from its size. */
X86Mem x86_segment_address(X86Translator *t, unsigned seg, IrRef offset, unsigned bytes, X86Access access);
IrRef x86_mem_linear(X86Translator *t, X86Mem m);
X86Mem x86_mem_plus(X86Translator *t, X86Mem m, int64_t bytes); /* wraps at 4 GiB outside 64-bit mode */

IrRef x86_load(X86Translator *t, IrWidth w, X86Mem m);
void x86_store(X86Translator *t, IrWidth w, X86Mem m, IrRef value);

/* The modrm.rm operand of width `w`, register or memory. */
IrRef x86_load_rm(X86Translator *t, const X86Decoded *d, IrWidth w);
void x86_store_rm(X86Translator *t, const X86Decoded *d, IrWidth w, IrRef value);

/* ---- calls, exceptions, ends ----------------------------------------------------------------------------------------- */

IrRef x86_call(X86Translator *t, TcgHelperId helper, IrRef a, IrRef b, IrRef c); /* result in a fresh temp */
void x86_call_void(X86Translator *t, TcgHelperId helper, IrRef a, IrRef b, IrRef c);
static inline IrRef x86_const(X86Translator *t, int64_t value)
{
  return ir_const(t->ir, value);
}

/* Raise at this instruction, unconditionally, and end the block. _error: with error code 0 (#GP, #SS). */
void x86_emit_raise(X86Translator *t, unsigned vector);
void x86_emit_raise_error(X86Translator *t, unsigned vector, uint32_t error);
static inline void x86_emit_ud(X86Translator *t)
{
  x86_emit_raise(t, X86_EXC_UD);
}
static inline void x86_emit_nm(X86Translator *t)
{
  x86_emit_raise(t, X86_EXC_NM);
}
static inline void x86_emit_gp0(X86Translator *t)
{
  x86_emit_raise_error(t, X86_EXC_GP, 0);
}

/* Ends the block: to `rip` (chainable; wrapped by the caller) / to a rip computed at run time / to the next instruction by way
 * of the main loop, for what changed hflags or should let interrupts in / the same, where a helper stored x86.rip. */
void x86_end_direct(X86Translator *t, uint64_t rip);
void x86_end_indirect(X86Translator *t, IrRef rip);
void x86_end_loop(X86Translator *t);
void x86_end_loop_stored(X86Translator *t);

#endif

/* What the integer families share among themselves; translate.h has what the FPU part uses too. */
#ifndef X86_TRANSLATE_INT_H
#define X86_TRANSLATE_INT_H

#include "vm-engine/accel/tcg/guest/x86/translate.h"

/* Condition codes as the encoding has them. */
enum { X86_CC_O, X86_CC_NO, X86_CC_C, X86_CC_NC, X86_CC_Z, X86_CC_NZ, X86_CC_BE, X86_CC_A, X86_CC_S, X86_CC_NS };

/* One function a family of decode-insns.def. */
#define X86_FAMILIES(FAMILY)                                                                                           \
  FAMILY(invalid)                                                                                                      \
  FAMILY(fpu)                                                                                                          \
  FAMILY(arith) FAMILY(unary) FAMILY(mul_wide) FAMILY(imul) FAMILY(div) FAMILY(adx) FAMILY(bcd) FAMILY(convert)        \
      FAMILY(flags) FAMILY(shift) FAMILY(shift_double) FAMILY(bit_test) FAMILY(bit_scan) FAMILY(bswap) FAMILY(crc32)   \
          FAMILY(bmi_logic) FAMILY(bmi_field) FAMILY(bmi_move) FAMILY(mov) FAMILY(mov_extend) FAMILY(lea) FAMILY(xchg) \
              FAMILY(xadd) FAMILY(cmpxchg) FAMILY(cmpxchg8b) FAMILY(movbe) FAMILY(xlat) FAMILY(cmovcc) FAMILY(setcc)   \
                  FAMILY(nop) FAMILY(push) FAMILY(pop) FAMILY(push_seg) FAMILY(pop_seg) FAMILY(pusha) FAMILY(popa)     \
                      FAMILY(pushf) FAMILY(popf) FAMILY(enter) FAMILY(leave) FAMILY(jcc) FAMILY(jmp) FAMILY(call)      \
                          FAMILY(ret) FAMILY(loop) FAMILY(far) FAMILY(far_return) FAMILY(interrupt) FAMILY(bound)      \
                              FAMILY(movs) FAMILY(cmps) FAMILY(stos) FAMILY(lods) FAMILY(scas) FAMILY(ins)             \
                                  FAMILY(outs) FAMILY(mov_to_seg) FAMILY(mov_from_seg) FAMILY(load_far)                \
                                      FAMILY(store_system) FAMILY(load_system) FAMILY(verify) FAMILY(arpl)             \
                                          FAMILY(store_table) FAMILY(load_table) FAMILY(fsgsbase) FAMILY(swapgs)       \
                                              FAMILY(in) FAMILY(out) FAMILY(hlt) FAMILY(cli_sti) FAMILY(clts)          \
                                                  FAMILY(wbinvd) FAMILY(invlpg) FAMILY(mov_control) FAMILY(msr)        \
                                                      FAMILY(counter) FAMILY(cpuid) FAMILY(fast_system) FAMILY(xcr)    \
                                                          FAMILY(smap) FAMILY(random) FAMILY(fence) FAMILY(clflush)
#define FAMILY(name) void x86_tr_##name(X86Translator *t, const X86Decoded *d);
X86_FAMILIES(FAMILY)
#undef FAMILY

/* ---- operands by their place in the row ------------------------------------------------------------------------------ */

static inline IrWidth x86_width(const X86Decoded *d, unsigned i)
{
  return (IrWidth)x86_operand_width(d, (X86Operand)d->row.operands[i]);
}
/* The operand's value. Registers: see x86_get_gpr(). Immediates: constants. */
IrRef x86_load_operand(X86Translator *t, const X86Decoded *d, unsigned i);

/* An operand that is written, perhaps after being read: its address is computed and checked once. */
typedef struct X86Dest {
  IrWidth w;
  bool memory;
  uint8_t reg;
  const X86Decoded *d;
  X86Mem mem;
} X86Dest;
X86Dest x86_open_dest(X86Translator *t, const X86Decoded *d, unsigned i);
/* For read-modify-write: a fault is one of writing, and the store that follows cannot fault any more. */
IrRef x86_dest_load(X86Translator *t, X86Dest *dest);
void x86_dest_store(X86Translator *t, const X86Dest *dest, IrRef value);
/* What an op of the destination's width may have as its output: the register itself where that needs no merging, else a
 * fresh temp. x86_dest_finish() then stores it, unless it was the register. */
IrRef x86_dest_output(X86Translator *t, const X86Dest *dest);
void x86_dest_finish(X86Translator *t, const X86Dest *dest, IrRef output);
IrRef x86_dest_linear(X86Translator *t, const X86Dest *dest);

/* ---- small builders ---------------------------------------------------------------------------------------------------- */

IrRef x86_zero_extend(X86Translator *t, IrWidth w, IrRef value); /* a fresh temp, also for 64 bits: a copy */
IrRef x86_sign_extend(X86Translator *t, IrWidth w, IrRef value);
IrRef x86_cmovcc(X86Translator *t, IrWidth w, unsigned cc, IrRef yes, IrRef no);
IrRef x86_get_flags(X86Translator *t);                            /* arithmetic flags in EFLAGS positions */
void x86_set_flags(X86Translator *t, IrRef value, uint32_t mask); /* those in mask */
/* Faults now if a write would. */
void x86_probe_write(X86Translator *t, IrWidth w, IrRef linear);
void x86_load_segment_base(X86Translator *t, unsigned seg, IrRef *base);

/* ---- stack ------------------------------------------------------------------------------------------------------------------ */

/* SS:[SP + offset]. */
X86Mem x86_stack_address(X86Translator *t, int64_t offset, unsigned bytes, X86Access access);
void x86_adjust_sp(X86Translator *t, int64_t bytes);
void x86_push(X86Translator *t, IrWidth w, IrRef value);

/* ---- ends by condition --------------------------------------------------------------------------------------------------------- */

void x86_end_cc(X86Translator *t, unsigned cc, uint64_t taken_rip);
/* To `if_nonzero` or `if_zero` by the low W bits of `value`. */
void x86_end_nonzero(X86Translator *t, IrWidth w, IrRef value, uint64_t if_nonzero, uint64_t if_zero);
void x86_end_loop_to(X86Translator *t, IrRef rip);
/* After a segment register was loaded: what translated code depends on may have changed, and SS casts a shadow. */
void x86_end_after_segment(X86Translator *t, unsigned seg);
/* A branch target: relative to the next instruction, wrapped by the operand size. */
uint64_t x86_relative_target(const X86Translator *t, const X86Decoded *d);

/* Raises #GP(0) and returns true if the CPU is not at privilege level 0 / under UMIP. */
bool x86_refuse_user(X86Translator *t);
bool x86_refuse_umip(X86Translator *t);

/* What a REP helper is told, in its first argument. */
enum {
  X86_REP_WIDTH = 3,            /* log2 of the element's bytes */
  X86_REP_ADDRESS_SHIFT = 2,    /* log2 of the address's bytes, two bits */
  X86_REP_SEG_SHIFT = 4,        /* of the source, three bits */
  X86_REP_WHILE_EQUAL = 1 << 7, /* REPE; else REPNE */
  X86_REP_ONCE = 1 << 8,        /* one iteration only: single-step */
};

#endif

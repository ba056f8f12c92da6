/*
 * What the FPU's and vectors' translation (fpu-*.c) share among themselves.
 */
#ifndef X86_FPU_INTERNAL_H
#define X86_FPU_INTERNAL_H

#include "vm-engine/accel/tcg/guest/x86/fpu-vector.h"
#include "vm-engine/accel/tcg/guest/x86/translate.h"

/* X86Translator.fpu_done: what this block has done already, so that runs of MMX instructions need not do it again. */
enum { FPU_DONE_WAIT = 1 << 0, FPU_DONE_MMX = 1 << 1 };

/* State slots. */
static inline uint32_t fpu_xmm_offset(unsigned i)
{
  return X86_STATE(x86.fpu.xmm) + (i & 15) * 16;
}
static inline uint32_t fpu_mm_offset(unsigned i)
{
  return X86_STATE(fpr) + (i & 7) * 16;
}
static inline uint32_t fpu_vtmp_offset(unsigned i)
{
  return X86_STATE(vtmp) + (i & 3) * 32;
}

/* Each false: not one of its opcodes, or a form that does not exist (#UD). */
bool fpu_translate_x87(X86Translator *t, const X86Decoded *d);
bool fpu_translate_wait(X86Translator *t);
bool fpu_translate_state(X86Translator *t, const X86Decoded *d); /* 0F AE: FXSAVE, LDMXCSR, XSAVE … */
bool fpu_translate_emms(X86Translator *t);
bool fpu_translate_vector(X86Translator *t, const X86Decoded *d);

/* #UD or #NM by CR0 and CR4: true if one was emitted. */
bool fpu_emit_sse_checks(X86Translator *t);
bool fpu_emit_mmx_checks(X86Translator *t);
/* #MF for a pending x87 exception, before an MMX instruction does anything / TOP 0 and all registers full, after its
 * memory operand was loaded. */
void fpu_emit_mmx_wait(X86Translator *t);
void fpu_emit_mmx_enter(X86Translator *t);

#endif

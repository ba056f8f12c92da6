/*
 * x87 instructions on the host's x87, 80 bits exact. Each common operation runs by itself with its operands from guest
 * state; what that cannot decide (a stack fault, an exception that the guest does not mask) goes to x87_run_exact().
 *
 * A fast path runs with all exceptions masked. If it then raises one that the guest unmasks, nothing is committed and the
 * exact path runs it again. Unmasked underflow is not seen so (tiny exact results raise it only when unmasked), so with
 * that the exact path is taken at once.
 *
 * The inline assembly leaves the host's x87 stack as it found it: empty.
 */
#include "vm-engine/accel/tcg/guest/x86/fpu-x87.h"

#include "vm-engine/vcpu.h"

/* A register's 80 bits, as an operand for assembly. */
typedef struct X87Value {
  uint8_t bytes[10];
} X87Value;

static inline X87Value *x87_value(TcgCpu *cpu, unsigned i)
{
  return (X87Value *)x87_st(cpu, i);
}

/* ---- the host's x87 ------------------------------------------------------------------------------------------------ */

static inline void x87_host_begin(const TcgCpu *cpu)
{
  uint16_t status;
  __asm__ volatile("fnstsw %0" : "=a"(status));
  if (status & X87_EXCEPTIONS & ~(unsigned)cpu->x86.fpu.fsw) {
    __asm__ volatile("fnclex");
  }
  if (cpu->x86.fpu.fcw != X87_CW_DEFAULT) {
    uint16_t control = cpu->x86.fpu.fcw | X87_EXCEPTIONS;
    __asm__ volatile("fldcw %0" : : "m"(control));
  }
}

/* Takes the status after a trial run; `conditions`: which condition bits the instruction defines. False: it raised an
 * exception that the guest wants, nothing is changed. */
static inline bool x87_host_end(TcgCpu *cpu, uint16_t status, unsigned conditions)
{
  if (cpu->x86.fpu.fcw != X87_CW_DEFAULT) {
    uint16_t control = X87_CW_DEFAULT;
    __asm__ volatile("fldcw %0" : : "m"(control));
    if (status & X87_EXCEPTIONS & ~(unsigned)cpu->x86.fpu.fcw) {
      return false;
    }
  }
  cpu->x86.fpu.fsw = (uint16_t)((cpu->x86.fpu.fsw & ~conditions) | (status & (conditions | X87_EXCEPTIONS)));
  return true;
}

static inline bool x87_may_try(const TcgCpu *cpu)
{
  return cpu->x86.fpu.fcw & X87_UE;
}
static inline void x87_clear_c1(TcgCpu *cpu)
{
  cpu->x86.fpu.fsw &= (uint16_t)~X87_C1;
}

/* ---- pending exceptions ----------------------------------------------------------------------------------------------- */

static bool x87_report_pending(TcgCpu *cpu)
{
  VmCpu *vcpu = cpu->vcpu;
  if ((cpu->x86.cr0 & X86_CR0_NE) || !vcpu || !vcpu->fpu_error) {
    x86_raise(cpu, X86_EXC_MF);
    return false;
  }
  if (vcpu->fpu_error(vcpu, true, vcpu->fpu_error_opaque)) {
    return true; /* IGNNE#: the handler's own instructions go on */
  }
  x86_raise(cpu, X86_EXC_RETRY);
  return false;
}

bool x87_check_pending(TcgCpu *cpu)
{
  return G_LIKELY(!(cpu->x86.fpu.fsw & X87_ES)) || x87_report_pending(cpu);
}

/* What waiting instructions begin with: false with #MF pending (or the instruction put off). Then FIP, FDP and FOP by the
 * instruction. `linear` is of its memory operand. */
static inline bool x87_begin(TcgCpu *cpu, uint64_t word, uint64_t linear)
{
  X86Fpu *fpu = &cpu->x86.fpu;
  if (G_UNLIKELY(fpu->fsw & X87_ES) && !x87_report_pending(cpu)) {
    return false;
  }
  bool long_mode = cpu->hflags & TCG_HF_CS64;
  fpu->fop = word & X87_WORD_FOP;
  fpu->fip = long_mode ? cpu->x86.rip : (uint32_t)cpu->x86.rip | (uint64_t)cpu->x86.seg[X86_CS].selector << 32;
  if (word & X87_WORD_MEMORY) {
    unsigned seg = MIN((unsigned)(word >> X87_WORD_SEG_SHIFT & 7), (unsigned)X86_GS);
    if (!long_mode) {
      fpu->fdp = (uint32_t)(linear - cpu->x86.seg[seg].base) | (uint64_t)cpu->x86.seg[seg].selector << 32;
    } else {
      fpu->fdp = seg < X86_FS ? linear : linear - cpu->x86.seg[seg].base;
    }
  }
  return true;
}

uint64_t helper_x87_wait(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  x87_check_pending(cpu);
  return 0;
}

/* ---- exact forms ----------------------------------------------------------------------------------------------------------- */

static void x87_exact_value(TcgCpu *cpu, uint64_t word, uint64_t value)
{
  uint64_t memory[2] = { value, 0 };
  x87_run_exact(cpu, word, memory);
}

uint64_t helper_x87_exact(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (x87_begin(cpu, a, c)) {
    x87_run_exact(cpu, a, NULL);
  }
  return 0;
}

uint64_t helper_x87_load_wide(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  uint8_t memory[16] = { 0 };
  if (!x87_check_pending(cpu) || !x86_read(cpu, c, memory, 10, x86_mmu(cpu)) || !x87_begin(cpu, a, c)) {
    return 0;
  }
  bool is_fld = x87_word_opcode(a) == 0xdb;
  if (is_fld && !x87_full(cpu, 7)) {
    x87_push(cpu);
    memcpy(x87_st(cpu, 0), memory, 10);
    x87_clear_c1(cpu);
  } else {
    x87_run_exact(cpu, a, memory);
  }
  return 0;
}

/* The write may fault, which leaves the state as it was. */
uint64_t helper_x87_store_wide(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  uint8_t memory[16] = { 0 };
  X86Fpu *fpu = &cpu->x86.fpu;
  uint16_t old_fsw = fpu->fsw, old_fop = fpu->fop;
  uint64_t old_fip = fpu->fip, old_fdp = fpu->fdp;
  uint8_t old_top = cpu->fpu_top, old_tags = cpu->fpu_tags;
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  if (x87_word_opcode(a) == 0xdb && x87_full(cpu, 0)) {
    memcpy(memory, x87_st(cpu, 0), 10);
    x87_pop(cpu);
    x87_clear_c1(cpu);
  } else {
    x87_run_exact(cpu, a, memory);
  }
  /* An invalid operation that is not masked stores nothing. */
  bool stores = !(fpu->fsw & ~(unsigned)fpu->fcw & X87_IE);
  if (stores && !x86_write(cpu, c, memory, 10, x86_mmu(cpu))) {
    fpu->fsw = old_fsw;
    fpu->fop = old_fop;
    fpu->fip = old_fip;
    fpu->fdp = old_fdp;
    cpu->fpu_top = old_top;
    cpu->fpu_tags = old_tags;
  }
  return 0;
}

/* ---- loads and stores --------------------------------------------------------------------------------------------------------- */

/* Pushes what `insn` loads from `value`. */
#define X87_LOAD_HELPER(name, type, insn, conditions)                                                                  \
  uint64_t helper_x87_##name(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)                                          \
  {                                                                                                                    \
    type value = (type)b;                                                                                              \
    uint16_t status;                                                                                                   \
    if (!x87_begin(cpu, a, c)) {                                                                                       \
      return 0;                                                                                                        \
    }                                                                                                                  \
    if (!x87_full(cpu, 7) && x87_may_try(cpu)) {                                                                       \
      x87_host_begin(cpu);                                                                                             \
      X87Value *slot = x87_value(cpu, 7), old = *slot;                                                                 \
      __asm__ volatile(insn " %[value]\n\tfnstsw %%ax\n\tfstpt %[slot]"                                                \
                       : [slot] "=m"(*slot), "=&a"(status)                                                             \
                       : [value] "m"(value));                                                                          \
      if (x87_host_end(cpu, status, conditions)) {                                                                     \
        x87_push(cpu);                                                                                                 \
        return 0;                                                                                                      \
      }                                                                                                                \
      *slot = old;                                                                                                     \
    }                                                                                                                  \
    x87_exact_value(cpu, a, b);                                                                                        \
    return 0;                                                                                                          \
  }
X87_LOAD_HELPER(fld_m32, uint32_t, "flds", X87_C1)
X87_LOAD_HELPER(fld_m64, uint64_t, "fldl", X87_C1)
X87_LOAD_HELPER(fild, uint64_t, "fildll", X87_C1)

uint64_t helper_x87_fld_st(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  unsigned i = x87_word_rm(a);
  if (x87_full(cpu, 7) || !x87_full(cpu, i)) {
    x87_run_exact(cpu, a, NULL);
    return 0;
  }
  X87Value value = *x87_value(cpu, i);
  x87_push(cpu);
  *x87_value(cpu, 0) = value;
  x87_clear_c1(cpu);
  return 0;
}

#define X87_CONST(insn) __asm__ volatile(insn "\n\tfstpt %0" : "=m"(value))
/* FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: rounded as the control word says. */
uint64_t helper_x87_fld_const(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  if (x87_full(cpu, 7)) {
    x87_run_exact(cpu, a, NULL);
    return 0;
  }
  X87Value value;
  x87_host_begin(cpu);
  switch (x87_word_rm(a)) {
  case 0:
    X87_CONST("fld1");
    break;
  case 1:
    X87_CONST("fldl2t");
    break;
  case 2:
    X87_CONST("fldl2e");
    break;
  case 3:
    X87_CONST("fldpi");
    break;
  case 4:
    X87_CONST("fldlg2");
    break;
  case 5:
    X87_CONST("fldln2");
    break;
  default:
    X87_CONST("fldz");
    break;
  }
  (void)!x87_host_end(cpu, 0, X87_C1);
  x87_push(cpu);
  *x87_value(cpu, 0) = value;
  return 0;
}

uint64_t helper_x87_fxch(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  unsigned i = x87_word_rm(a);
  if (!x87_full(cpu, 0) || !x87_full(cpu, i)) {
    x87_run_exact(cpu, a, NULL);
    return 0;
  }
  X87Value value = *x87_value(cpu, 0);
  *x87_value(cpu, 0) = *x87_value(cpu, i);
  *x87_value(cpu, i) = value;
  x87_clear_c1(cpu);
  return 0;
}

uint64_t helper_x87_fst_st(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  unsigned i = x87_word_rm(a);
  if (!x87_full(cpu, 0)) {
    x87_run_exact(cpu, a, NULL);
    return 0;
  }
  *x87_value(cpu, i) = *x87_value(cpu, 0);
  cpu->fpu_tags |= (uint8_t)(1u << x87_phys(cpu, i));
  x87_clear_c1(cpu);
  if (x87_word_reg(a) == 3) {
    x87_pop(cpu);
  }
  return 0;
}

#define X87_STORE(insn)                                                                                                \
  __asm__ volatile("fldt %[x]\n\t" insn " %[value]\n\tfnstsw %%ax"                                                     \
                   : [value] "+m"(value), "=a"(status)                                                                 \
                   : [x] "m"(*x87_value(cpu, 0)))

/* Runs the integer store that opcode and modrm.reg name; `*out` is its image in memory. */
static uint16_t x87_store_integer(TcgCpu *cpu, uint64_t word, uint64_t *out)
{
  uint64_t value = 0;
  uint16_t status;
  switch (x87_word_opcode(word) << 8 | x87_word_reg(word)) {
  case 0xdb02:
  case 0xdb03:
    X87_STORE("fistpl");
    break;
  case 0xdf02:
  case 0xdf03:
    X87_STORE("fistps");
    break;
  case 0xdf07:
    X87_STORE("fistpll");
    break;
  case 0xdf01:
    X87_STORE("fisttps");
    break;
  case 0xdb01:
    X87_STORE("fisttpl");
    break;
  default:
    X87_STORE("fisttpll");
    break;
  }
  *out = value;
  return status;
}

/* Runs the store exactly. Where it stores nothing (an unmasked exception), the value is what is there already. */
static uint64_t x87_store_exact(TcgCpu *cpu, uint64_t word, uint64_t linear)
{
  uint64_t memory[2] = { 0, 0 };
  if (x86_read(cpu, linear, memory, MIN((unsigned)(word >> X87_WORD_BYTES_SHIFT & 31), 8u), x86_mmu(cpu))) {
    x87_run_exact(cpu, word, memory);
  }
  return memory[0];
}

/* The translated code has probed that the write will succeed, and stores what these return. `run` puts the image of ST(0)
 * in memory into `value` and yields the status. */
#define X87_STORE_HELPER(name, run)                                                                                    \
  uint64_t helper_x87_##name(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)                                          \
  {                                                                                                                    \
    uint64_t value = 0;                                                                                                \
    uint16_t status;                                                                                                   \
    if (!x87_begin(cpu, a, c)) {                                                                                       \
      return 0;                                                                                                        \
    }                                                                                                                  \
    if (x87_full(cpu, 0) && x87_may_try(cpu)) {                                                                        \
      x87_host_begin(cpu);                                                                                             \
      run;                                                                                                             \
      if (x87_host_end(cpu, status, X87_C1)) {                                                                         \
        if (x87_word_reg(a) != 2) {                                                                                    \
          x87_pop(cpu);                                                                                                \
        }                                                                                                              \
        return value;                                                                                                  \
      }                                                                                                                \
    }                                                                                                                  \
    return x87_store_exact(cpu, a, c);                                                                                 \
  }
X87_STORE_HELPER(fst_m32, X87_STORE("fstps"))
X87_STORE_HELPER(fst_m64, X87_STORE("fstpl"))
X87_STORE_HELPER(fist_m, status = x87_store_integer(cpu, a, &value))

/* ---- arithmetic and comparisons -------------------------------------------------------------------------------------------------- */

/* x: ST(0), y: the other. modrm.reg says which: x + y, x * y, compare, compare, x - y, y - x, x / y, y / x. The popping
 * DE forms leave the result on top of the host's stack. */
#define X87_ARITH_ST(r, modrm)                                                                                         \
  case r:                                                                                                              \
    __asm__ volatile("fldt %[y]\n\tfldt %[x]\n\t.byte 0xde, " #modrm "\n\tfnstsw %%ax\n\tfstpt %[result]"              \
                     : [result] "=m"(*result), "=&a"(status)                                                           \
                     : [x] "m"(*x), [y] "m"(*y));                                                                      \
    break;

static uint16_t x87_arith_st(unsigned r, const X87Value *x, const X87Value *y, X87Value *result)
{
  uint16_t status;
  switch (r) {
    X87_ARITH_ST(0, 0xc1)
    X87_ARITH_ST(1, 0xc9)
    X87_ARITH_ST(4, 0xe1)
    X87_ARITH_ST(5, 0xe9)
    X87_ARITH_ST(6, 0xf1)
    X87_ARITH_ST(7, 0xf9)
  default:
    __asm__ volatile("fldt %[y]\n\tfldt %[x]\n\tfcompp\n\tfnstsw %%ax" : "=a"(status) : [x] "m"(*x), [y] "m"(*y));
    break;
  }
  return status;
}

static inline bool x87_is_compare(unsigned r)
{
  return (r & 6) == 2;
}

uint64_t helper_x87_arith_st(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  unsigned r = x87_word_reg(a), i = x87_word_rm(a), opcode = x87_word_opcode(a);
  if (x87_full(cpu, 0) && x87_full(cpu, i) && x87_may_try(cpu)) {
    x87_host_begin(cpu);
    X87Value *result = x87_value(cpu, opcode == 0xd8 ? 0 : i), old = *result;
    uint16_t status = x87_arith_st(r, x87_value(cpu, 0), x87_value(cpu, i), result);
    if (x87_host_end(cpu, status, x87_is_compare(r) ? X87_C : X87_C1)) {
      if (opcode == 0xde || r == 3) {
        x87_pop(cpu);
      }
      return 0;
    }
    *result = old;
  }
  x87_run_exact(cpu, a, NULL);
  return 0;
}

#define X87_ARITH_M(r, insn)                                                                                           \
  case r:                                                                                                              \
    __asm__ volatile("fldt %[x]\n\t" insn " %[y]\n\tfnstsw %%ax\n\tfstpt %[x]"                                         \
                     : [x] "+m"(*x), "=&a"(status)                                                                     \
                     : [y] "m"(y));                                                                                    \
    break;

/* One helper for a kind of memory operand: s and i are the suffixes of its mnemonics. */
#define X87_ARITH_M_HELPER(name, type, p, s)                                                                           \
  static uint16_t x87_##name(unsigned r, X87Value *x, type y)                                                          \
  {                                                                                                                    \
    uint16_t status;                                                                                                   \
    switch (r) {                                                                                                       \
      X87_ARITH_M(0, "f" p "add" s)                                                                                    \
      X87_ARITH_M(1, "f" p "mul" s)                                                                                    \
      X87_ARITH_M(4, "f" p "sub" s)                                                                                    \
      X87_ARITH_M(5, "f" p "subr" s)                                                                                   \
      X87_ARITH_M(6, "f" p "div" s)                                                                                    \
      X87_ARITH_M(7, "f" p "divr" s)                                                                                   \
    default:                                                                                                           \
      __asm__ volatile("fldt %[x]\n\tf" p "comp" s " %[y]\n\tfnstsw %%ax" : "=a"(status) : [x] "m"(*x), [y] "m"(y));   \
      break;                                                                                                           \
    }                                                                                                                  \
    return status;                                                                                                     \
  }                                                                                                                    \
  uint64_t helper_x87_##name(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)                                          \
  {                                                                                                                    \
    if (!x87_begin(cpu, a, c)) {                                                                                       \
      return 0;                                                                                                        \
    }                                                                                                                  \
    unsigned r = x87_word_reg(a);                                                                                      \
    if (x87_full(cpu, 0) && x87_may_try(cpu)) {                                                                        \
      x87_host_begin(cpu);                                                                                             \
      X87Value *x = x87_value(cpu, 0), old = *x;                                                                       \
      uint16_t status = x87_##name(r, x, (type)b);                                                                     \
      if (x87_host_end(cpu, status, x87_is_compare(r) ? X87_C : X87_C1)) {                                             \
        if (r == 3) {                                                                                                  \
          x87_pop(cpu);                                                                                                \
        }                                                                                                              \
        return 0;                                                                                                      \
      }                                                                                                                \
      *x = old;                                                                                                        \
    }                                                                                                                  \
    x87_exact_value(cpu, a, b);                                                                                        \
    return 0;                                                                                                          \
  }
X87_ARITH_M_HELPER(arith_m32, uint32_t, "", "s")
X87_ARITH_M_HELPER(arith_m64, uint64_t, "", "l")
X87_ARITH_M_HELPER(arith_i32, uint32_t, "i", "l")
X87_ARITH_M_HELPER(arith_i16, uint16_t, "i", "s")

/* FUCOM DD E0, FUCOMP DD E8, FUCOMPP DA E9, FCOMPP DE D9. */
uint64_t helper_x87_fucom(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  unsigned i = x87_word_rm(a), opcode = x87_word_opcode(a);
  if (x87_full(cpu, 0) && x87_full(cpu, i) && x87_may_try(cpu)) {
    uint16_t status;
    x87_host_begin(cpu);
    if (opcode == 0xde) {
      __asm__ volatile("fldt %[y]\n\tfldt %[x]\n\tfcompp\n\tfnstsw %%ax"
                       : "=a"(status)
                       : [x] "m"(*x87_value(cpu, 0)), [y] "m"(*x87_value(cpu, i)));
    } else {
      __asm__ volatile("fldt %[y]\n\tfldt %[x]\n\tfucompp\n\tfnstsw %%ax"
                       : "=a"(status)
                       : [x] "m"(*x87_value(cpu, 0)), [y] "m"(*x87_value(cpu, i)));
    }
    if (x87_host_end(cpu, status, X87_C)) {
      unsigned pops = opcode != 0xdd ? 2 : x87_word_reg(a) == 5;
      while (pops--) {
        x87_pop(cpu);
      }
      return 0;
    }
  }
  x87_run_exact(cpu, a, NULL);
  return 0;
}

#define X87_COMI(insn)                                                                                                 \
  __asm__ volatile("fldt %[y]\n\tfldt %[x]\n\t" insn " %%st(1), %%st\n\tfnstsw %%ax\n\tfstp %%st(0)"                   \
                   : "=a"(status), "=@ccz"(z), "=@ccp"(p), "=@ccc"(cy)                                                 \
                   : [x] "m"(*x87_value(cpu, 0)), [y] "m"(*x87_value(cpu, i)))

/* FCOMI DB F0, FUCOMI DB E8, FCOMIP DF F0, FUCOMIP DF E8. */
uint64_t helper_x87_fcomi(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  unsigned i = x87_word_rm(a);
  if (x87_full(cpu, 0) && x87_full(cpu, i) && x87_may_try(cpu)) {
    uint16_t status;
    bool z, p, cy;
    x87_host_begin(cpu);
    if (x87_word_reg(a) == 6) {
      X87_COMI("fcomip");
    } else {
      X87_COMI("fucomip");
    }
    if (x87_host_end(cpu, status, 0)) {
      cpu->flags = tcg_pack_flags((z ? X86_F_ZF : 0) | (p ? X86_F_PF : 0) | (cy ? X86_F_CF : 0));
      if (x87_word_opcode(a) == 0xdf) {
        x87_pop(cpu);
      }
      return 0;
    }
  }
  x87_run_exact(cpu, a, NULL);
  return 0;
}

/* DA, DB C0–DF: on CF, ZF, CF|ZF, PF, and their opposites. */
uint64_t helper_x87_fcmov(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  static const uint16_t masks[4] = { X86_F_CF, X86_F_ZF, X86_F_CF | X86_F_ZF, X86_F_PF };
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  unsigned i = x87_word_rm(a);
  if (!x87_full(cpu, 0) || !x87_full(cpu, i)) {
    x87_run_exact(cpu, a, NULL);
    return 0;
  }
  bool holds = tcg_unpack_flags(cpu->flags) & masks[x87_word_reg(a) & 3];
  if (holds == (x87_word_opcode(a) == 0xda)) {
    *x87_value(cpu, 0) = *x87_value(cpu, i);
  }
  return 0;
}

/* ---- functions ----------------------------------------------------------------------------------------------------------------------- */

#define X87_UNARY(insn)                                                                                                \
  __asm__ volatile("fldt %[x]\n\t" insn "\n\tfnstsw %%ax\n\tfstpt %[x]" : [x] "+m"(*x), "=&a"(status))

/* D9 E0 … FF of one operand. */
uint64_t helper_x87_unary(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  if (!x87_full(cpu, 0) || !x87_may_try(cpu)) {
    x87_run_exact(cpu, a, NULL);
    return 0;
  }
  uint16_t status;
  unsigned conditions = X87_C1;
  X87Value *x = x87_value(cpu, 0), old = *x;
  x87_host_begin(cpu);
  switch (x87_word_modrm(a)) {
  case 0xe0:
    X87_UNARY("fchs");
    break;
  case 0xe1:
    X87_UNARY("fabs");
    break;
  case 0xe4:
    X87_UNARY("ftst");
    conditions = X87_C;
    break;
  case 0xe5:
    X87_UNARY("fxam");
    conditions = X87_C;
    break;
  case 0xf0:
    X87_UNARY("f2xm1");
    break;
  case 0xfa:
    X87_UNARY("fsqrt");
    break;
  case 0xfc:
    X87_UNARY("frndint");
    break;
  case 0xfe:
    X87_UNARY("fsin");
    conditions = X87_C1 | X87_C2;
    break;
  default:
    X87_UNARY("fcos");
    conditions = X87_C1 | X87_C2;
    break;
  }
  if (!x87_host_end(cpu, status, conditions)) {
    *x = old;
    x87_run_exact(cpu, a, NULL);
  }
  return 0;
}

#define X87_BINARY_KEEP(insn)                                                                                          \
  __asm__ volatile("fldt %[y]\n\tfldt %[x]\n\t" insn "\n\tfnstsw %%ax\n\tfstpt %[x]\n\tfstp %%st(0)"                   \
                   : [x] "+m"(*x), "=&a"(status)                                                                       \
                   : [y] "m"(*y))
#define X87_BINARY_POP(insn)                                                                                           \
  __asm__ volatile("fldt %[y]\n\tfldt %[x]\n\t" insn "\n\tfnstsw %%ax\n\tfstpt %[y]"                                   \
                   : [y] "+m"(*y), "=&a"(status)                                                                       \
                   : [x] "m"(*x))

static bool x87_is_normal(const X87Value *value)
{
  uint16_t exponent;
  memcpy(&exponent, value->bytes + 8, 2);
  exponent &= 0x7fff;
  return exponent != 0 && exponent != 0x7fff && value->bytes[7] >> 7;
}

/* D9 F1 FYL2X, F3 FPATAN, F5 FPREM1, F8 FPREM, F9 FYL2XP1, FD FSCALE; of normal numbers here. */
uint64_t helper_x87_binary(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (!x87_begin(cpu, a, c)) {
    return 0;
  }
  if (!x87_full(cpu, 0) || !x87_full(cpu, 1) || !x87_may_try(cpu) || !x87_is_normal(x87_value(cpu, 0)) ||
      !x87_is_normal(x87_value(cpu, 1))) {
    x87_run_exact(cpu, a, NULL);
    return 0;
  }
  uint16_t status;
  bool pops = false, is_remainder = false;
  unsigned conditions = X87_C1;
  X87Value *x = x87_value(cpu, 0), *y = x87_value(cpu, 1), old_x = *x, old_y = *y;
  x87_host_begin(cpu);
  switch (x87_word_modrm(a)) {
  case 0xf1:
    X87_BINARY_POP("fyl2x");
    pops = true;
    break;
  case 0xf3:
    X87_BINARY_POP("fpatan");
    pops = true;
    break;
  case 0xf9:
    X87_BINARY_POP("fyl2xp1");
    pops = true;
    break;
  case 0xf5:
    X87_BINARY_KEEP("fprem1");
    is_remainder = true;
    break;
  case 0xf8:
    X87_BINARY_KEEP("fprem");
    is_remainder = true;
    break;
  default:
    X87_BINARY_KEEP("fscale");
    break;
  }
  if (is_remainder) {
    conditions = X87_C;
  }
  /* An unfinished remainder leaves some conditions as they were, which the host did not know. */
  bool defined = !is_remainder || !(status & X87_C2);
  if (!x87_host_end(cpu, status, defined ? conditions : 0) || !defined) {
    *x = old_x;
    *y = old_y;
    x87_run_exact(cpu, a, NULL);
  } else if (pops) {
    x87_pop(cpu);
  }
  return 0;
}

/*
 * Values with flags, by the host's own instructions, so that the flags that the manuals call undefined agree with the
 * processor underneath. Flags go in and out as TcgCpu.flags packs them: LAHF's AH, and OF in AL, which `add al, 127`
 * turns back into OF.
 */
#include "vm-engine/accel/tcg/ir/alu.h"

#if !defined(__x86_64__)
#error "a host of another kind needs its own computation of x86 flags here"
#endif

#define IN  "addb $127, %%al\n\tsahf\n\t"
#define OUT "\n\tlahf\n\tseto %%al"

/* One function an instruction and width; `x` is the operand in place. */
#define BINARY(name, s, type)                                                                                          \
  static uint64_t name##_##s(uint64_t a, uint64_t b, uint16_t *flags)                                                  \
  {                                                                                                                    \
    type x = (type)a, y = (type)b;                                                                                     \
    uint16_t f = *flags;                                                                                               \
    __asm__(IN #name #s " %2, %1" OUT : "+a"(f), "+q"(x) : "q"(y) : "cc");                                             \
    *flags = f;                                                                                                        \
    return (uint64_t)x;                                                                                                \
  }
#define UNARY(name, s, type)                                                                                           \
  static uint64_t name##_##s(uint64_t a, uint16_t *flags)                                                              \
  {                                                                                                                    \
    type x = (type)a;                                                                                                  \
    uint16_t f = *flags;                                                                                               \
    __asm__(IN #name #s " %1" OUT : "+a"(f), "+q"(x) : : "cc");                                                        \
    *flags = f;                                                                                                        \
    return (uint64_t)x;                                                                                                \
  }
#define SHIFT(name, s, type)                                                                                           \
  static uint64_t name##_##s(uint64_t a, uint64_t b, uint16_t *flags)                                                  \
  {                                                                                                                    \
    type x = (type)a;                                                                                                  \
    uint16_t f = *flags;                                                                                               \
    __asm__(IN #name #s " %%cl, %1" OUT : "+a"(f), "+q"(x) : "c"((uint8_t)b) : "cc");                                  \
    *flags = f;                                                                                                        \
    return (uint64_t)x;                                                                                                \
  }
#define DOUBLE_SHIFT(name, s, type)                                                                                    \
  static uint64_t name##_##s(uint64_t a, uint64_t b, uint64_t c, uint16_t *flags)                                      \
  {                                                                                                                    \
    type x = (type)a, y = (type)b;                                                                                     \
    uint16_t f = *flags;                                                                                               \
    __asm__(IN #name #s " %%cl, %2, %1" OUT : "+a"(f), "+r"(x) : "r"(y), "c"((uint8_t)c) : "cc");                      \
    *flags = f;                                                                                                        \
    return (uint64_t)x;                                                                                                \
  }
#define ALL_WIDTHS(kind, name)                                                                                         \
  kind(name, b, uint8_t) kind(name, w, uint16_t) kind(name, l, uint32_t) kind(name, q, uint64_t)
#define WIDE_WIDTHS(kind, name) kind(name, w, uint16_t) kind(name, l, uint32_t) kind(name, q, uint64_t)

ALL_WIDTHS(BINARY, add)
ALL_WIDTHS(BINARY, adc)
ALL_WIDTHS(BINARY, sub)
ALL_WIDTHS(BINARY, sbb)
ALL_WIDTHS(BINARY, and)
ALL_WIDTHS(BINARY, or)
ALL_WIDTHS(BINARY, xor)
ALL_WIDTHS(UNARY, inc)
ALL_WIDTHS(UNARY, dec)
ALL_WIDTHS(UNARY, neg)
ALL_WIDTHS(SHIFT, shl)
ALL_WIDTHS(SHIFT, shr)
ALL_WIDTHS(SHIFT, sar)
ALL_WIDTHS(SHIFT, rol)
ALL_WIDTHS(SHIFT, ror)
ALL_WIDTHS(SHIFT, rcl)
ALL_WIDTHS(SHIFT, rcr)
WIDE_WIDTHS(DOUBLE_SHIFT, shld)
WIDE_WIDTHS(DOUBLE_SHIFT, shrd)
WIDE_WIDTHS(BINARY, imul)
WIDE_WIDTHS(BINARY, bt)
WIDE_WIDTHS(BINARY, bts)
WIDE_WIDTHS(BINARY, btr)
WIDE_WIDTHS(BINARY, btc)
WIDE_WIDTHS(BINARY, bsf)
WIDE_WIDTHS(BINARY, bsr)
WIDE_WIDTHS(BINARY, popcnt)
WIDE_WIDTHS(BINARY, lzcnt)
WIDE_WIDTHS(BINARY, tzcnt)

/* The one-operand multiplications: low half in rax (8 bits: the product in ax), high half in rdx. */
#define WIDE(name, s, type)                                                                                            \
  static uint64_t name##_wide_##s(uint64_t a, uint64_t b, uint16_t *flags, uint64_t *second)                           \
  {                                                                                                                    \
    uint64_t lo, hi = 0, ax = a;                                                                                       \
    type y = (type)b;                                                                                                  \
    __asm__(#name #s " %3\n\tmovq %%rax, %2\n\tmovl $0, %%eax\n\tlahf\n\tseto %%al"                                    \
            : "+a"(ax), "+d"(hi), "=&r"(lo)                                                                            \
            : "r"(y)                                                                                                   \
            : "cc");                                                                                                   \
    *flags = (uint16_t)ax;                                                                                             \
    *second = (type)hi;                                                                                                \
    return sizeof(type) == 1 ? (uint16_t)lo : (type)lo;                                                                \
  }
ALL_WIDTHS(WIDE, mul)
ALL_WIDTHS(WIDE, imul)

#define PICK4(w, name, ...)                                                                                            \
  (w == IR_W8    ? name##_b(__VA_ARGS__)                                                                               \
   : w == IR_W16 ? name##_w(__VA_ARGS__)                                                                               \
   : w == IR_W32 ? name##_l(__VA_ARGS__)                                                                               \
                 : name##_q(__VA_ARGS__))
#define PICK3(w, name, ...)                                                                                            \
  (w == IR_W16 ? name##_w(__VA_ARGS__) : w == IR_W32 ? name##_l(__VA_ARGS__) : name##_q(__VA_ARGS__))

/* POPCNT, LZCNT and TZCNT where the host lacks them (LZCNT and TZCNT would run as BSR and BSF there). */
static uint64_t count_ones_plainly(IrWidth w, uint64_t a, uint16_t *flags)
{
  a = a << (64 - ir_width_bits(w)) >> (64 - ir_width_bits(w));
  *flags = tcg_pack_flags(a == 0 ? 0x40 : 0);
  return (uint64_t)__builtin_popcountll(a);
}

/* Sets CF and ZF; the other flags stay. */
static uint64_t count_zeros_plainly(IrOpcode op, IrWidth w, uint64_t a, uint16_t *flags)
{
  unsigned n_bits = ir_width_bits(w);
  uint64_t d = n_bits;
  a = a << (64 - n_bits) >> (64 - n_bits);
  if (a != 0)
    d = op == IR_TZCNTF ? (uint64_t)__builtin_ctzll(a) : (uint64_t)__builtin_clzll(a) - (64 - n_bits);
  *flags = (uint16_t)((*flags & ~0x4100u) | (a == 0 ? 0x100u : 0) | (d == 0 ? 0x4000u : 0));
  return d;
}

static uint64_t count_bits(IrOpcode op, IrWidth w, uint64_t a, uint16_t *flags)
{
  if (op == IR_POPCNTF)
    return __builtin_cpu_supports("popcnt") ? PICK3(w, popcnt, 0, a, flags) : count_ones_plainly(w, a, flags);
  if (op == IR_TZCNTF ? !__builtin_cpu_supports("bmi") : !__builtin_cpu_supports("lzcnt"))
    return count_zeros_plainly(op, w, a, flags);
  if (op == IR_TZCNTF)
    return PICK3(w, tzcnt, 0, a, flags);
  return PICK3(w, lzcnt, 0, a, flags);
}

static uint64_t shifts(IrOpcode op, IrWidth w, uint64_t a, uint64_t b, uint64_t c, uint16_t *flags)
{
  switch (op) {
  case IR_SHLF:
    return PICK4(w, shl, a, b, flags);
  case IR_SHRF:
    return PICK4(w, shr, a, b, flags);
  case IR_SARF:
    return PICK4(w, sar, a, b, flags);
  case IR_ROLF:
    return PICK4(w, rol, a, b, flags);
  case IR_RORF:
    return PICK4(w, ror, a, b, flags);
  case IR_RCLF:
    return PICK4(w, rcl, a, b, flags);
  case IR_RCRF:
    return PICK4(w, rcr, a, b, flags);
  case IR_SHLDF:
    return PICK3(w, shld, a, b, c, flags);
  default:
    return PICK3(w, shrd, a, b, c, flags);
  }
}

static uint64_t bits(IrOpcode op, IrWidth w, uint64_t a, uint64_t b, uint16_t *flags)
{
  b = op == IR_BSFF || op == IR_BSRF ? b : b & (ir_width_bits(w) - 1);
  switch (op) {
  case IR_BTF:
    return PICK3(w, bt, a, b, flags);
  case IR_BTSF:
    return PICK3(w, bts, a, b, flags);
  case IR_BTRF:
    return PICK3(w, btr, a, b, flags);
  case IR_BTCF:
    return PICK3(w, btc, a, b, flags);
  case IR_BSFF:
    return PICK3(w, bsf, a, b, flags);
  default:
    return PICK3(w, bsr, a, b, flags);
  }
}

uint64_t ir_alu_flags(IrOpcode op, IrWidth w, uint64_t a, uint64_t b, uint64_t c, uint16_t *flags, uint64_t *second)
{
  switch (op) {
  case IR_ADDF:
    return PICK4(w, add, a, b, flags);
  case IR_ADCF:
    return PICK4(w, adc, a, b, flags);
  case IR_SUBF:
  case IR_CMPF:
    return PICK4(w, sub, a, b, flags);
  case IR_SBBF:
    return PICK4(w, sbb, a, b, flags);
  case IR_ANDF:
  case IR_TESTF:
    return PICK4(w, and, a, b, flags);
  case IR_ORF:
    return PICK4(w, or, a, b, flags);
  case IR_XORF:
    return PICK4(w, xor, a, b, flags);
  case IR_INCF:
    return PICK4(w, inc, a, flags);
  case IR_DECF:
    return PICK4(w, dec, a, flags);
  case IR_NEGF:
    return PICK4(w, neg, a, flags);
  case IR_IMULF:
    return PICK3(w, imul, a, b, flags);
  case IR_UMULWF:
    return PICK4(w, mul_wide, a, b, flags, second);
  case IR_SMULWF:
    return PICK4(w, imul_wide, a, b, flags, second);
  case IR_BTF:
  case IR_BTSF:
  case IR_BTRF:
  case IR_BTCF:
  case IR_BSFF:
  case IR_BSRF:
    return bits(op, w, a, b, flags);
  case IR_POPCNTF:
  case IR_LZCNTF:
  case IR_TZCNTF:
    return count_bits(op, w, a, flags);
  default:
    return shifts(op, w, a, b, c, flags);
  }
}

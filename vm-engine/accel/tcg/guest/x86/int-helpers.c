/*
 * C behind integer instructions: locked operations, division, decimal arithmetic, and a few pure functions.
 *
 * A locked operation on RAM is the host's own atomic on the same bytes, so it is atomic among vCPUs and with devices.
 * Where there is no host pointer (registers, pages with translated code) or the operand crosses a page, it is a read and a
 * write: what a bus without locks would do.
 */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

/* ---- locked read-modify-write ----------------------------------------------------------------------------------------- */

typedef enum AtomicOp { ATOMIC_ADD, ATOMIC_AND, ATOMIC_OR, ATOMIC_XOR, ATOMIC_XCHG, ATOMIC_NEG } AtomicOp;

static uint64_t apply(AtomicOp op, uint64_t old, uint64_t value)
{
  switch (op) {
  case ATOMIC_ADD:
    return old + value;
  case ATOMIC_AND:
    return old & value;
  case ATOMIC_OR:
    return old | value;
  case ATOMIC_XOR:
    return old ^ value;
  case ATOMIC_XCHG:
    return value;
  default:
    return 0 - old;
  }
}

#define DEFINE_ATOMIC(bits)                                                                                            \
  static uint64_t atomic_##bits(AtomicOp op, uint8_t *at, uint64_t value)                                              \
  {                                                                                                                    \
    uint##bits##_t *p = (uint##bits##_t *)(void *)at, v = (uint##bits##_t)value, old;                                  \
    switch (op) {                                                                                                      \
    case ATOMIC_ADD:                                                                                                   \
      return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                                               \
    case ATOMIC_AND:                                                                                                   \
      return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                                               \
    case ATOMIC_OR:                                                                                                    \
      return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                                                \
    case ATOMIC_XOR:                                                                                                   \
      return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                                                               \
    case ATOMIC_XCHG:                                                                                                  \
      return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                                              \
    default:                                                                                                           \
      old = __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                      \
      while (                                                                                                          \
          !__atomic_compare_exchange_n(p, &old, (uint##bits##_t)(0 - old), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) \
        ;                                                                                                              \
      return old;                                                                                                      \
    }                                                                                                                  \
  }                                                                                                                    \
  static uint64_t exchange_if_equal_##bits(uint8_t *at, uint64_t expected, uint64_t value)                             \
  {                                                                                                                    \
    uint##bits##_t *p = (uint##bits##_t *)(void *)at, old = (uint##bits##_t)expected;                                  \
    __atomic_compare_exchange_n(p, &old, (uint##bits##_t)value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);            \
    return old;                                                                                                        \
  }
DEFINE_ATOMIC(8)
DEFINE_ATOMIC(16)
DEFINE_ATOMIC(32)
DEFINE_ATOMIC(64)

static bool crosses_page(uint64_t linear, unsigned bytes)
{
  return (linear & 4095) + bytes > 4096;
}

/* RAM to operate on in place; NULL: not that simple, or a fault pends (of writing, in any case). */
static uint8_t *atomic_pointer(TcgCpu *cpu, uint64_t linear, unsigned width)
{
  if (!crosses_page(linear, 1u << width))
    return x86_host_pointer(cpu, linear, 1u << width, X86_WRITE, x86_mmu(cpu));
  tcg_slow_probe_write(cpu, linear, width);
  return NULL;
}

static uint64_t mask_of(unsigned width)
{
  return width == 3 ? ~0ull : (1ull << (8 << width)) - 1;
}

static uint64_t atomic(TcgCpu *cpu, AtomicOp op, uint64_t linear, uint64_t value, unsigned width)
{
  static uint64_t (*const by_width[4])(AtomicOp, uint8_t *, uint64_t) = { atomic_8, atomic_16, atomic_32, atomic_64 };
  unsigned bytes = 1u << (width & 3);
  uint8_t *at = atomic_pointer(cpu, linear, width & 3);
  if (at)
    return by_width[width & 3](op, at, value);
  uint64_t old = 0;
  if (cpu->exc_pending || !x86_read(cpu, linear, &old, bytes, x86_mmu(cpu)))
    return 0;
  uint64_t result = apply(op, old, value);
  return x86_write(cpu, linear, &result, bytes, x86_mmu(cpu)) ? old : 0;
}

uint64_t helper_atomic_add(TcgCpu *cpu, uint64_t linear, uint64_t value, uint64_t width)
{
  return atomic(cpu, ATOMIC_ADD, linear, value, (unsigned)width);
}
uint64_t helper_atomic_and(TcgCpu *cpu, uint64_t linear, uint64_t value, uint64_t width)
{
  return atomic(cpu, ATOMIC_AND, linear, value, (unsigned)width);
}
uint64_t helper_atomic_or(TcgCpu *cpu, uint64_t linear, uint64_t value, uint64_t width)
{
  return atomic(cpu, ATOMIC_OR, linear, value, (unsigned)width);
}
uint64_t helper_atomic_xor(TcgCpu *cpu, uint64_t linear, uint64_t value, uint64_t width)
{
  return atomic(cpu, ATOMIC_XOR, linear, value, (unsigned)width);
}
uint64_t helper_atomic_xchg(TcgCpu *cpu, uint64_t linear, uint64_t value, uint64_t width)
{
  return atomic(cpu, ATOMIC_XCHG, linear, value, (unsigned)width);
}
uint64_t helper_atomic_neg(TcgCpu *cpu, uint64_t linear, uint64_t value, uint64_t width)
{
  return atomic(cpu, ATOMIC_NEG, linear, value, (unsigned)width);
}

static uint64_t compare_exchange(TcgCpu *cpu, uint64_t linear, uint64_t expected, uint64_t value, unsigned width)
{
  static uint64_t (*const by_width[4])(uint8_t *, uint64_t, uint64_t) = { exchange_if_equal_8, exchange_if_equal_16,
                                                                          exchange_if_equal_32, exchange_if_equal_64 };
  unsigned bytes = 1u << (width & 3);
  uint8_t *at = atomic_pointer(cpu, linear, width & 3);
  if (at)
    return by_width[width & 3](at, expected, value);
  uint64_t old = 0;
  if (cpu->exc_pending || !x86_read(cpu, linear, &old, bytes, x86_mmu(cpu)))
    return 0;
  /* Memory is written in either case, so the right to write is checked in either. */
  uint64_t result = old == (expected & mask_of(width)) ? value : old;
  return x86_write(cpu, linear, &result, bytes, x86_mmu(cpu)) ? old : 0;
}

uint64_t helper_atomic_cmpxchg(TcgCpu *cpu, uint64_t linear, uint64_t value, uint64_t width)
{
  return compare_exchange(cpu, linear, cpu->x86.gpr[X86_RAX], value, (unsigned)width & 3);
}

static uint64_t join32(uint64_t high, uint64_t low)
{
  return high << 32 | (uint32_t)low;
}

static void set_zf(TcgCpu *cpu, bool on)
{
  uint64_t flags = tcg_unpack_flags(cpu->flags) & ~(uint64_t)X86_F_ZF;
  cpu->flags = tcg_pack_flags(flags | (on ? X86_F_ZF : 0));
}

uint64_t helper_cmpxchg8b(TcgCpu *cpu, uint64_t linear, uint64_t b, uint64_t c)
{
  uint64_t *r = cpu->x86.gpr;
  uint64_t expected = join32(r[X86_RDX], r[X86_RAX]);
  uint64_t old = compare_exchange(cpu, linear, expected, join32(r[X86_RCX], r[X86_RBX]), 3);
  if (cpu->exc_pending)
    return 0;
  set_zf(cpu, old == expected);
  if (old != expected) {
    r[X86_RAX] = (uint32_t)old;
    r[X86_RDX] = old >> 32;
  }
  return 0;
}

typedef unsigned __int128 Uint128;
static Uint128 join64(uint64_t high, uint64_t low)
{
  return (Uint128)high << 64 | low;
}

#ifdef __x86_64__
__attribute__((target("cx16")))
#endif
static Uint128
exchange_if_equal_128(uint8_t *at, Uint128 expected, Uint128 value)
{
  return __sync_val_compare_and_swap((Uint128 *)(void *)at, expected, value);
}

/* As compare_exchange(). Returns false with a fault pending. */
static bool compare_exchange_16(TcgCpu *cpu, uint64_t linear, Uint128 *expected, Uint128 value)
{
  uint8_t *at = atomic_pointer(cpu, linear, 4);
  if (at) {
    *expected = exchange_if_equal_128(at, *expected, value);
    return true;
  }
  Uint128 old = 0;
  if (cpu->exc_pending || !x86_read(cpu, linear, &old, 16, x86_mmu(cpu)))
    return false;
  Uint128 result = old == *expected ? value : old;
  *expected = old;
  return x86_write(cpu, linear, &result, 16, x86_mmu(cpu));
}

uint64_t helper_cmpxchg16b(TcgCpu *cpu, uint64_t linear, uint64_t b, uint64_t c)
{
  uint64_t *r = cpu->x86.gpr;
  if (linear & 15) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  Uint128 expected = join64(r[X86_RDX], r[X86_RAX]), old = expected;
  if (!compare_exchange_16(cpu, linear, &old, join64(r[X86_RCX], r[X86_RBX])))
    return 0;
  set_zf(cpu, old == expected);
  r[X86_RAX] = (uint64_t)old;
  r[X86_RDX] = (uint64_t)(old >> 64);
  return 0;
}

uint64_t helper_full_fence(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return 0;
}

/* ---- division ------------------------------------------------------------------------------------------------------------ */

static void set_low(uint64_t *r, unsigned width, uint64_t value)
{
  uint64_t mask = width == 2 ? ~0ull : mask_of(width); /* 32 bits clear the rest */
  *r = (*r & ~mask) | (value & mask_of(width));
}

/* Quotient and remainder to where the width has them. */
static void set_division(TcgCpu *cpu, unsigned width, uint64_t quotient, uint64_t remainder)
{
  uint64_t *r = cpu->x86.gpr;
  if (width == 0) {
    set_low(&r[X86_RAX], 1, (quotient & 0xff) | (remainder & 0xff) << 8);
    return;
  }
  set_low(&r[X86_RAX], width, quotient);
  set_low(&r[X86_RDX], width, remainder);
}

/* The dividend of widths below 64 bits: AX, DX:AX, EDX:EAX. */
static uint64_t narrow_dividend(const TcgCpu *cpu, unsigned width)
{
  const uint64_t *r = cpu->x86.gpr;
  if (width == 0)
    return r[X86_RAX] & 0xffff;
  unsigned bits = 8u << width;
  return (r[X86_RDX] & mask_of(width)) << bits | (r[X86_RAX] & mask_of(width));
}

static uint64_t divide_error(TcgCpu *cpu)
{
  x86_raise(cpu, X86_EXC_DE);
  return 0;
}

static uint64_t divide_unsigned_64(TcgCpu *cpu, uint64_t divisor)
{
  const uint64_t *r = cpu->x86.gpr;
  if (r[X86_RDX] >= divisor)
    return divide_error(cpu);
  if (r[X86_RDX] == 0) {
    set_division(cpu, 3, r[X86_RAX] / divisor, r[X86_RAX] % divisor);
    return 0;
  }
  Uint128 dividend = join64(r[X86_RDX], r[X86_RAX]);
  set_division(cpu, 3, (uint64_t)(dividend / divisor), (uint64_t)(dividend % divisor));
  return 0;
}

uint64_t helper_div(TcgCpu *cpu, uint64_t divisor, uint64_t width, uint64_t c)
{
  unsigned w = (unsigned)width & 3;
  if (divisor == 0)
    return divide_error(cpu);
  if (w == 3)
    return divide_unsigned_64(cpu, divisor);
  uint64_t dividend = narrow_dividend(cpu, w);
  uint64_t quotient = dividend / divisor;
  if (quotient > mask_of(w))
    return divide_error(cpu);
  set_division(cpu, w, quotient, dividend % divisor);
  return 0;
}

/* Signed division by magnitudes: quotients that do not fit are found before any overflow in C could happen. */
static uint64_t divide_signed_64(TcgCpu *cpu, uint64_t divisor)
{
  const uint64_t *r = cpu->x86.gpr;
  bool negative_dividend = r[X86_RDX] >> 63, negative_divisor = divisor >> 63;
  Uint128 dividend = join64(r[X86_RDX], r[X86_RAX]);
  Uint128 magnitude = negative_dividend ? -dividend : dividend;
  uint64_t by = negative_divisor ? 0 - divisor : divisor;
  Uint128 quotient = magnitude / by;
  uint64_t remainder = (uint64_t)(magnitude % by);
  bool negative = negative_dividend != negative_divisor;
  if (quotient > (Uint128)INT64_MAX + negative)
    return divide_error(cpu);
  uint64_t low = (uint64_t)quotient;
  set_division(cpu, 3, negative ? 0 - low : low, negative_dividend ? 0 - remainder : remainder);
  return 0;
}

static int64_t sign_extend(uint64_t value, unsigned bits)
{
  unsigned unused = 64 - bits;
  return (int64_t)(value << unused) >> unused;
}

uint64_t helper_idiv(TcgCpu *cpu, uint64_t divisor, uint64_t width, uint64_t c)
{
  unsigned w = (unsigned)width & 3;
  if (divisor == 0)
    return divide_error(cpu);
  if (w == 3)
    return divide_signed_64(cpu, divisor);
  unsigned bits = 8u << w;
  int64_t dividend = sign_extend(narrow_dividend(cpu, w), 2 * bits), by = sign_extend(divisor, bits);
  if (dividend == INT64_MIN && by == -1)
    return divide_error(cpu);
  int64_t quotient = dividend / by;
  if (quotient != sign_extend((uint64_t)quotient, bits))
    return divide_error(cpu);
  set_division(cpu, w, (uint64_t)quotient, (uint64_t)(dividend % by));
  return 0;
}

/* ---- decimal arithmetic (SDM volume 2: the operations' pseudo-code) ---------------------------------------------------------- */

static uint32_t flags_of_result(uint8_t result)
{
  return (result == 0 ? X86_F_ZF : 0) | (result & 0x80 ? X86_F_SF : 0) | (__builtin_parity(result) ? 0 : X86_F_PF);
}

static void set_al(TcgCpu *cpu, uint8_t value)
{
  set_low(&cpu->x86.gpr[X86_RAX], 0, value);
}
static void set_ax(TcgCpu *cpu, uint16_t value)
{
  set_low(&cpu->x86.gpr[X86_RAX], 1, value);
}

/* DAA and DAS: `sign` is +1 or -1. */
static void decimal_adjust(TcgCpu *cpu, int sign)
{
  uint64_t flags = tcg_unpack_flags(cpu->flags);
  uint8_t old = (uint8_t)cpu->x86.gpr[X86_RAX], al = old;
  bool carry = flags & X86_F_CF, af = (old & 15) > 9 || (flags & X86_F_AF), cf = false;
  if (af) {
    cf = carry || (sign < 0 && old < 6);
    al = (uint8_t)(al + 6 * sign);
  }
  if (old > 0x99 || carry) {
    al = (uint8_t)(al + 0x60 * sign);
    cf = true;
  }
  set_al(cpu, al);
  cpu->flags = tcg_pack_flags(flags_of_result(al) | (af ? X86_F_AF : 0) | (cf ? X86_F_CF : 0));
}

uint64_t helper_daa(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  decimal_adjust(cpu, 1);
  return 0;
}

uint64_t helper_das(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  decimal_adjust(cpu, -1);
  return 0;
}

/* AAA and AAS. Flags besides AF and CF are undefined; processors take them from the adjusted AL. */
static void ascii_adjust(TcgCpu *cpu, int sign)
{
  uint64_t flags = tcg_unpack_flags(cpu->flags);
  uint16_t ax = (uint16_t)cpu->x86.gpr[X86_RAX];
  bool adjust = (ax & 15) > 9 || (flags & X86_F_AF);
  if (adjust)
    ax = (uint16_t)(ax + 0x106 * sign);
  ax &= 0xff0f;
  set_ax(cpu, ax);
  cpu->flags = tcg_pack_flags(flags_of_result((uint8_t)ax) | (adjust ? X86_F_AF | X86_F_CF : 0));
}

uint64_t helper_aaa(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  ascii_adjust(cpu, 1);
  return 0;
}

uint64_t helper_aas(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  ascii_adjust(cpu, -1);
  return 0;
}

uint64_t helper_aam(TcgCpu *cpu, uint64_t base, uint64_t b, uint64_t c)
{
  uint8_t al = (uint8_t)cpu->x86.gpr[X86_RAX], by = (uint8_t)base;
  if (by == 0)
    return divide_error(cpu);
  set_ax(cpu, (uint16_t)((al / by) << 8 | al % by));
  cpu->flags = tcg_pack_flags(flags_of_result(al % by));
  return 0;
}

uint64_t helper_aad(TcgCpu *cpu, uint64_t base, uint64_t b, uint64_t c)
{
  uint16_t ax = (uint16_t)cpu->x86.gpr[X86_RAX];
  uint8_t al = (uint8_t)ax, addend = (uint8_t)((ax >> 8) * (uint8_t)base), result = (uint8_t)(al + addend);
  set_ax(cpu, result);
  /* CF, AF and OF are undefined; processors have the addition's. */
  uint32_t flags = flags_of_result(result) | ((al ^ addend ^ result) & X86_F_AF);
  flags |= result < al ? X86_F_CF : 0;
  flags |= ~(al ^ addend) & (al ^ result) & 0x80 ? X86_F_OF : 0;
  cpu->flags = tcg_pack_flags(flags);
  return 0;
}

/* ---- pure functions ------------------------------------------------------------------------------------------------------------- */

uint64_t helper_multiply_high(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  return (uint64_t)((Uint128)a * b >> 64);
}

uint64_t helper_zero_high_bits(TcgCpu *cpu, uint64_t value, uint64_t count, uint64_t width)
{
  unsigned bits = 8u << (width & 3);
  return count >= bits ? value : value & ((1ull << count) - 1);
}

uint64_t helper_extract_bits(TcgCpu *cpu, uint64_t value, uint64_t control, uint64_t c)
{
  unsigned start = control & 0xff, length = control >> 8 & 0xff;
  if (start >= 64)
    return 0;
  value >>= start;
  return length >= 64 ? value : value & ((1ull << length) - 1);
}

uint64_t helper_select(TcgCpu *cpu, uint64_t condition, uint64_t yes, uint64_t no)
{
  return condition ? yes : no;
}

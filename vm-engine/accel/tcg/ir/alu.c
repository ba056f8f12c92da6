/*
 * Values without flags, in portable C.
 */
#include "vm-engine/accel/tcg/ir/alu.h"

static uint64_t width_mask(IrWidth w)
{
  return w == IR_W64 ? ~0ull : (1ull << ir_width_bits(w)) - 1;
}

static uint64_t rotate(uint64_t a, unsigned left, unsigned bits)
{
  left %= bits;
  if (left == 0)
    return a;
  return a << left | a >> (bits - left);
}

static uint64_t shift(IrOpcode op, IrWidth w, uint64_t a, uint64_t b)
{
  unsigned bits = ir_width_bits(w), count = (unsigned)b & (w == IR_W64 ? 63 : 31);
  switch (op) {
  case IR_SHL:
    return a << count;
  case IR_SHR:
    return a >> count;
  case IR_ROL:
    return rotate(a, count, bits);
  case IR_ROR:
    return rotate(a, bits - count % bits, bits);
  default: {
    int64_t s = (int64_t)(a << (64 - bits)) >> (64 - bits);
    return (uint64_t)(s >> count);
  }
  }
}

/* CRC-32C, reflected, polynomial 0x1EDC6F41: the SSE4.2 instruction. */
static uint64_t crc32c(uint32_t crc, uint64_t data, unsigned bits)
{
  for (unsigned i = 0; i < bits; i++) {
    unsigned low = (crc ^ (unsigned)(data >> i)) & 1;
    crc = crc >> 1 ^ (low ? 0x82f63b78u : 0);
  }
  return crc;
}

static uint64_t extract(uint64_t a, uint64_t mask)
{
  uint64_t d = 0;
  for (unsigned out = 0; mask != 0; mask &= mask - 1, out++)
    d |= (a >> __builtin_ctzll(mask) & 1) << out;
  return d;
}

static uint64_t deposit(uint64_t a, uint64_t mask)
{
  uint64_t d = 0;
  for (; mask != 0; mask &= mask - 1, a >>= 1)
    d |= (a & 1) << __builtin_ctzll(mask);
  return d;
}

static uint64_t field(IrOpcode op, uint64_t a, uint64_t b)
{
  switch (op) {
  case IR_ZX8:
    return (uint8_t)a;
  case IR_ZX16:
    return (uint16_t)a;
  case IR_ZX32:
    return (uint32_t)a;
  case IR_SX8:
    return (uint64_t)(int8_t)a;
  case IR_SX16:
    return (uint64_t)(int16_t)a;
  case IR_SX32:
    return (uint64_t)(int32_t)a;
  case IR_XH8:
    return (uint8_t)(a >> 8);
  case IR_DEP8:
    return (a & ~0xffull) | (b & 0xff);
  case IR_DEP8H:
    return (a & ~0xff00ull) | (b & 0xff) << 8;
  default:
    return (a & ~0xffffull) | (b & 0xffff);
  }
}

uint64_t ir_alu(IrOpcode op, IrWidth w, uint64_t a, uint64_t b, unsigned aux, int64_t imm)
{
  uint64_t mask = width_mask(w);
  if (op >= IR_ZX8 && op <= IR_DEP16)
    return field(op, a, b);
  if (op == IR_LEA)
    return (a + (b << (aux & 3)) + (uint64_t)imm) & mask;
  if (op == IR_CRC32) /* the width is of the data */
    return crc32c((uint32_t)a, b, ir_width_bits(w));
  a &= mask;
  switch (op) {
  case IR_MOV:
    return a;
  case IR_ADD:
    return (a + b) & mask;
  case IR_SUB:
    return (a - b) & mask;
  case IR_AND:
    return a & b & mask;
  case IR_OR:
    return (a | b) & mask;
  case IR_XOR:
    return (a ^ b) & mask;
  case IR_NOT:
    return ~a & mask;
  case IR_NEG:
    return -a & mask;
  case IR_MUL:
    return (a * b) & mask;
  case IR_SHL:
  case IR_SHR:
  case IR_SAR:
  case IR_ROL:
  case IR_ROR:
    return shift(op, w, a, b) & mask;
  case IR_BSWAP:
    return w == IR_W64 ? __builtin_bswap64(a) : __builtin_bswap32((uint32_t)a);
  case IR_PEXT:
    return extract(a, b & mask);
  case IR_PDEP:
    return deposit(a, b & mask);
  default:
    g_assert_not_reached();
  }
}

bool ir_condition(unsigned cc, uint16_t flags)
{
  bool o = flags & 1, s = flags & 0x8000, z = flags & 0x4000, p = flags & 0x400, c = flags & 0x100;
  const bool holds[8] = { o, c, z, c || z, s, p, s != o, z || s != o };
  return holds[cc >> 1 & 7] != (cc & 1);
}

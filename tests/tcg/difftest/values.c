/* Values and states to begin with: random, with the corners where instructions go wrong drawn often. */
#include "tests/tcg/difftest/difftest.h"

uint64_t diff_random_integer(DiffRandom *r)
{
  static const uint64_t corners[] = { 0,          1,           2,         ~0ull,      ~1ull,
                                      0x7f,       0x80,        0xff,      0x100,      0x7fff,
                                      0x8000,     0xffff,      0x10000,   0x7fffffff, 0x80000000,
                                      0xffffffff, 0x100000000, INT64_MAX, 1ull << 63, 0xaaaaaaaaaaaaaaaa };
  uint64_t value = diff_random(r);
  switch (diff_below(r, 8)) {
  case 0:
  case 1:
  case 2:
    return value;
  case 3:
  case 4:
    return corners[value % G_N_ELEMENTS(corners)];
  case 5:
    return value & ((2ull << diff_below(r, 63)) - 1);
  case 6:
    return corners[value % G_N_ELEMENTS(corners)] + diff_below(r, 5) - 2;
  default:
    return (uint64_t)((int64_t)value >> diff_below(r, 64));
  }
}

static uint32_t random_single(DiffRandom *r)
{
  static const uint32_t corners[] = { 0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
                                      0x7fc00000, 0x7f800001, 0xffc12345, 0xffa00000, 0x00000001, 0x807fffff,
                                      0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000,
                                      0x3f000000, 0x3fc00000, 0x4b7fffff };
  uint32_t value = (uint32_t)diff_random(r);
  switch (diff_below(r, 4)) {
  case 0:
    return value;
  case 1: /* near 1, where sums cancel and products stay */
    return (value & 0x807fffff) | (0x78u + (value >> 23 & 15)) << 23;
  default:
    return corners[value % G_N_ELEMENTS(corners)];
  }
}

static uint64_t random_double(DiffRandom *r)
{
  static const uint64_t corners[] = { 0,
                                      1ull << 63,
                                      0x3ff0000000000000,
                                      0xbff0000000000000,
                                      0x7ff0000000000000,
                                      0xfff0000000000000,
                                      0x7ff8000000000000,
                                      0x7ff0000000000001,
                                      0xfff8123456789abc,
                                      0xfff4000000000000,
                                      1,
                                      0x800fffffffffffff,
                                      0x0010000000000000,
                                      0x7fefffffffffffff,
                                      0x41e0000000000000,
                                      0xc1e0000000000000,
                                      0x41dfffffffc00000,
                                      0x43e0000000000000,
                                      0xc3e0000000000000,
                                      0x3fe0000000000000,
                                      0x36a0000000000000,
                                      0x380fffffffffffff,
                                      0x47efffffe0000000 };
  uint64_t value = diff_random(r);
  switch (diff_below(r, 4)) {
  case 0:
    return value;
  case 1:
    return (value & 0x800fffffffffffff) | (0x3f8ull + (value >> 52 & 15)) << 52;
  default:
    return corners[value % G_N_ELEMENTS(corners)];
  }
}

static void random_extended(DiffRandom *r, uint8_t out[10])
{
  uint64_t significand = diff_random(r);
  uint16_t exponent = (uint16_t)diff_random(r);
  switch (diff_below(r, 12)) {
  case 0:
    significand = 0;
    exponent &= 0x8000;
    break; /* zero */
  case 1:
    significand = 1ull << 63;
    exponent = (exponent & 0x8000) | 0x3fff;
    break; /* one */
  case 2:
    significand = 1ull << 63;
    exponent |= 0x7fff;
    break; /* infinity */
  case 3:
    significand |= 3ull << 62;
    exponent |= 0x7fff;
    break; /* quiet NaN */
  case 4:
    significand = (significand & ~(1ull << 62)) | 1ull << 63 | 1;
    exponent |= 0x7fff;
    break; /* signalling */
  case 5:
    significand &= ~(1ull << 63);
    exponent &= 0x8000;
    break; /* denormal */
  case 6:
    break;  /* anything: mostly unsupported or huge */
  case 7: { /* a small integer */
    uint64_t n = significand >> diff_below(r, 64) | 1;
    unsigned shift = (unsigned)__builtin_clzll(n);
    significand = n << shift;
    exponent = (uint16_t)((exponent & 0x8000) | (0x3fff + 63 - shift));
    break;
  }
  case 8: /* near the ends of the range */
    significand |= 1ull << 63;
    exponent = (uint16_t)((exponent & 0x8000) | (exponent & 0x4000 ? 0x7ffe - (exponent & 3) : 1 + (exponent & 3)));
    break;
  default: /* ordinary */
    significand |= 1ull << 63;
    exponent = (uint16_t)((exponent & 0x8000) | (0x3fff - 16 + (exponent & 31)));
    break;
  }
  memcpy(out, &significand, 8);
  memcpy(out + 8, &exponent, 2);
}

/* 16 bytes, as lanes of one kind. */
static void random_vector(DiffRandom *r, uint8_t out[16])
{
  unsigned kind = diff_below(r, 4);
  for (unsigned i = 0; i < 16; i += 8) {
    uint64_t lane = diff_random_integer(r);
    if (kind == 1) {
      lane = random_single(r) | (uint64_t)random_single(r) << 32;
    } else if (kind == 2) {
      lane = random_double(r);
    }
    memcpy(out + i, &lane, 8);
  }
}

static void random_memory(DiffRandom *r, uint8_t *out, unsigned bytes)
{
  for (unsigned i = 0; i < bytes; i += 16) {
    random_vector(r, out + i);
    if (diff_percent(r, 10) && i + 16 < bytes) {
      random_extended(r, out + i);
    }
  }
}

/* Memory is filled around the places that operands are put to (see generate.c); the rest is a pattern. */
static void fill_memory(DiffRandom *r, DiffState *s)
{
  memset(s->data, 0x5a, sizeof s->data);
  memset(s->stack, 0xa5, sizeof s->stack);
  random_memory(r, s->data, 64);
  random_memory(r, s->data + DIFF_PAGE - 64, 128);
  random_memory(r, s->data + 2 * DIFF_PAGE - 64, 1024);
  random_memory(r, s->data + DIFF_DATA_BYTES - 64, 64);
  random_memory(r, s->stack + DIFF_STACK_BYTES / 2 - 128, 512);
}

static void random_x87(DiffRandom *r, DiffState *s)
{
  uint16_t control = 0x37f, status = 0;
  if (diff_percent(r, 35)) {
    control = (uint16_t)((diff_random(r) & 0x0f00) | 0x7f);
  }
  if (diff_percent(r, 15)) {
    control = (uint16_t)((diff_random(r) & 0x1f3f) | 0x40);
  }
  if (diff_percent(r, 50)) {
    status = (uint16_t)diff_random(r) & 0x7f00;
  }
  if (diff_percent(r, 30)) {
    status |= (uint16_t)(diff_random(r) & (diff_percent(r, 20) ? 0x7f : control & 0x3f));
  }
  if (status & ~control & 0x3f) {
    status |= 0x8080;
  }
  uint8_t tags = diff_percent(r, 70) ? 0xff : (uint8_t)diff_random(r);
  if (diff_percent(r, 30)) { /* room for a push */
    tags &= (uint8_t) ~(1u << (((status >> 11) - 1) & 7));
  }
  memcpy(s->fx, &control, 2);
  memcpy(s->fx + 2, &status, 2);
  s->fx[4] = tags;
  for (unsigned i = 0; i < 8; i++) {
    random_extended(r, s->fx + 32 + i * 16);
  }
}

static uint32_t random_mxcsr(DiffRandom *r)
{
  uint32_t mxcsr = 0x1f80;
  if (diff_percent(r, 40)) {
    mxcsr |= diff_random(r) & 0xe040;
  }
  if (diff_percent(r, 25)) {
    mxcsr |= diff_random(r) & 0x3f;
  }
  if (diff_percent(r, 15)) {
    mxcsr &= ~0x1f80u | (uint32_t)diff_random(r);
  }
  return mxcsr;
}

void diff_random_state(DiffRandom *r, DiffState *s)
{
  memset(s->fx, 0, sizeof s->fx);
  for (unsigned i = 0; i < 16; i++) {
    s->gpr[i] = diff_random_integer(r);
    random_vector(r, s->fx + 160 + i * 16);
  }
  s->rflags = diff_random(r) & (X86_F_ARITH | X86_F_DF);
  random_x87(r, s);
  uint32_t mxcsr = random_mxcsr(r);
  memcpy(s->fx + 24, &mxcsr, 4);
  fill_memory(r, s);
}

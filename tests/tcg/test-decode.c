/*
 * The x86 decoder: chosen encodings with what they must decode to, and (where Zydis is installed) lengths of a large
 * pseudo-random corpus compared with Zydis, an independent decoder.
 */
#include "vm-engine/accel/tcg/guest/x86/decode.h"

#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

enum { CODE16 = 1, CODE32 = 2, CODE64 = 3 };

typedef struct Case {
  const char *name;
  unsigned code_size;
  uint8_t bytes[16];
  unsigned n_bytes;
  X86DecodeStatus status;
  X86Insn insn;
} Case;

#define OK(size, insn, ...)                                                                                            \
  {                                                                                                                    \
#insn " " #__VA_ARGS__, size, { __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }), X86_DECODE_OK, X86_I_##insn     \
  }
#define UD(size, ...)                                                                                                  \
  {                                                                                                                    \
    "UD " #__VA_ARGS__, size, { __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }), X86_DECODE_INVALID, X86_I_INVALID   \
  }

static const Case cases[] = {
  OK(CODE64, ADD, 0x00, 0xc8),
  OK(CODE64, ADD, 0xf0, 0x48, 0x83, 0x00, 0x7f),
  OK(CODE64, MOV, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8),
  OK(CODE64, MOV, 0x66, 0xb8, 1, 2),
  OK(CODE32, MOV, 0xb8, 1, 2, 3, 4),
  OK(CODE16, MOV, 0xb8, 1, 2),
  OK(CODE64, MOV, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8),
  OK(CODE64, MOV, 0x67, 0xa1, 1, 2, 3, 4),
  OK(CODE16, MOV, 0xa1, 1, 2),
  OK(CODE64, MOVSXD, 0x48, 0x63, 0xc1),
  OK(CODE32, ARPL, 0x63, 0xc1),
  OK(CODE64, TEST, 0xf6, 0x08, 0x55),
  OK(CODE64, NOT, 0xf6, 0x10),
  OK(CODE64, SAL, 0xc0, 0xf0, 0x01),
  OK(CODE32, ADD, 0x82, 0xc0, 0x01),
  OK(CODE32, SALC, 0xd6),
  OK(CODE64, INT1, 0xf1),
  OK(CODE32, AAM, 0xd4, 0x0a),
  OK(CODE64, NOP, 0xf3, 0x0f, 0x1e, 0xfa),
  OK(CODE64, NOP, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0),
  OK(CODE64, JCC, 0x66, 0x0f, 0x84, 1, 2, 3, 4),
  OK(CODE32, JCC, 0x66, 0x0f, 0x84, 1, 2),
  OK(CODE64, CALL, 0xe8, 1, 2, 3, 4),
  OK(CODE16, CALL_FAR, 0x9a, 1, 2, 3, 4),
  OK(CODE32, CALL_FAR, 0x9a, 1, 2, 3, 4, 5, 6),
  OK(CODE64, ENTER, 0xc8, 1, 2, 3),
  OK(CODE64, POPCNT, 0xf3, 0x0f, 0xb8, 0xc1),
  OK(CODE64, TZCNT, 0xf3, 0x0f, 0xbc, 0xc1),
  OK(CODE64, BSF, 0xf2, 0x0f, 0xbc, 0xc1),
  OK(CODE64, CRC32, 0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1),
  OK(CODE64, MOVBE, 0x0f, 0x38, 0xf0, 0x00),
  OK(CODE64, ANDN, 0xc4, 0xe2, 0x70, 0xf2, 0xc2),
  OK(CODE64, BLSI, 0xc4, 0xe2, 0x78, 0xf3, 0xd8),
  OK(CODE64, RORX, 0xc4, 0xe3, 0x7b, 0xf0, 0xc1, 0x05),
  OK(CODE32, LOAD_FAR, 0xc4, 0x00),
  OK(CODE64, SWAPGS, 0x0f, 0x01, 0xf8),
  OK(CODE64, RDTSCP, 0x0f, 0x01, 0xf9),
  OK(CODE64, SMSW, 0x0f, 0x01, 0xe0),
  OK(CODE64, INVLPG, 0x0f, 0x01, 0x38),
  OK(CODE64, MOV_FROM_CR, 0x0f, 0x20, 0x00), /* mod does not matter */
  OK(CODE64, CMPXCHG8B, 0xf0, 0x48, 0x0f, 0xc7, 0x08),
  OK(CODE64, FPU, 0x66, 0x0f, 0x3a, 0x0f, 0xc1, 0x04),
  OK(CODE64, FPU, 0xd9, 0x45, 0x08),
  /* modrm and SIB in all shapes */
  OK(CODE16, MOV, 0x8b, 0x46, 0x10),
  OK(CODE16, MOV, 0x8b, 0x06, 0x10, 0x20),
  OK(CODE32, MOV, 0x8b, 0x04, 0x25, 1, 2, 3, 4),
  OK(CODE32, MOV, 0x8b, 0x84, 0x24, 1, 2, 3, 4),
  OK(CODE64, MOV, 0x4b, 0x8b, 0x44, 0xec, 0x08),
  OK(CODE64, MOV, 0x8b, 0x05, 1, 2, 3, 4),
  /* refused */
  UD(CODE64, 0x06),
  UD(CODE64, 0x0f, 0x0b),
  UD(CODE64, 0xf0, 0x01, 0xc8),                   /* LOCK on a register */
  UD(CODE64, 0xf0, 0x39, 0x08),                   /* LOCK on CMP */
  UD(CODE64, 0xf0, 0x8b, 0x00),                   /* LOCK on MOV */
  UD(CODE64, 0xfe, 0x10),                         /* group 4, /2 */
  UD(CODE64, 0xff, 0x38),                         /* group 5, /7 */
  UD(CODE64, 0xff, 0xd8),                         /* far call by register */
  UD(CODE64, 0x8d, 0xc0),                         /* LEA of a register */
  UD(CODE64, 0x48, 0xc4, 0xe2, 0x70, 0xf2, 0xc2), /* REX before VEX */
  UD(CODE64, 0xc5, 0xf8, 0x77),                   /* AVX */
  UD(CODE32, 0x0f, 0x01, 0xf8),                   /* SWAPGS */
  UD(CODE64, 0x8f, 0xc8),
};

static void test_cases(void)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
    const Case *c = &cases[i];
    X86Decoded d;
    X86DecodeStatus status = x86_decode(&d, c->bytes, sizeof c->bytes, c->code_size, true);
    if (status != c->status || (status == X86_DECODE_OK && (d.insn != c->insn || d.length != c->n_bytes)))
      g_error("%s: status %d, %s, %u bytes", c->name, status, x86_insn_name((X86Insn)d.insn), d.length);
    if (status != X86_DECODE_OK)
      continue;
    for (unsigned n = 0; n < c->n_bytes; n++)
      g_assert_cmpint(x86_decode(&d, c->bytes, n, c->code_size, true), ==, X86_DECODE_SHORT);
  }
}

static void test_fields(void)
{
  X86Decoded d;
  /* lock add [gs:r13 + r12 * 4 - 8], r9b */
  static const uint8_t full[] = { 0xf0, 0x65, 0x47, 0x00, 0x4c, 0xa5, 0xf8 };
  g_assert_cmpint(x86_decode(&d, full, sizeof full, CODE64, true), ==, X86_DECODE_OK);
  g_assert_true(d.lock && d.has_rex && x86_decoded_is_memory(&d));
  g_assert_cmpuint(d.seg, ==, X86_GS);
  g_assert_cmpuint(d.base, ==, X86_R13);
  g_assert_cmpuint(d.index, ==, X86_R12);
  g_assert_cmpuint(d.scale, ==, 2);
  g_assert_cmpint(d.disp, ==, -8);
  g_assert_cmpuint(d.reg, ==, X86_R9);

  /* mov ax, [bp + si]: SS by default; cs: overrides */
  static const uint8_t by_bp[] = { 0x2e, 0x8b, 0x02 };
  g_assert_cmpint(x86_decode(&d, by_bp + 1, 2, CODE16, false), ==, X86_DECODE_OK);
  g_assert_cmpuint(d.seg, ==, X86_SS);
  g_assert_cmpuint(d.base, ==, X86_RBP);
  g_assert_cmpuint(d.index, ==, X86_RSI);
  g_assert_cmpint(x86_decode(&d, by_bp, 3, CODE16, false), ==, X86_DECODE_OK);
  g_assert_cmpuint(d.seg, ==, X86_CS);
  /* and is ignored in 64-bit mode */
  g_assert_cmpint(x86_decode(&d, by_bp, 3, CODE64, true), ==, X86_DECODE_OK);
  g_assert_cmpuint(d.seg, ==, X86_DS);

  /* RIP-relative with an immediate behind it */
  static const uint8_t relative[] = { 0x48, 0xc7, 0x05, 0xfc, 0xff, 0xff, 0xff, 0x80, 0xff, 0xff, 0xff };
  g_assert_cmpint(x86_decode(&d, relative, sizeof relative, CODE64, true), ==, X86_DECODE_OK);
  g_assert_true(d.rip_relative);
  g_assert_cmpint(d.disp, ==, -4);
  g_assert_cmpint(d.imm, ==, -128);
  g_assert_cmpuint(d.op_size, ==, 3);

  /* a REX that is not last does not count */
  static const uint8_t stale_rex[] = { 0x48, 0x66, 0x89, 0xc8 };
  g_assert_cmpint(x86_decode(&d, stale_rex, sizeof stale_rex, CODE64, true), ==, X86_DECODE_OK);
  g_assert_cmpuint(d.op_size, ==, 1);
  g_assert_false(d.has_rex);
}

/* VEX needs protected mode; there C4 with a register operand is nothing else. */
static void test_vex_modes(void)
{
  static const uint8_t andn[] = { 0xc4, 0xe2, 0x70, 0xf2, 0xc2 };
  X86Decoded d;
  g_assert_cmpint(x86_decode(&d, andn, sizeof andn, CODE32, true), ==, X86_DECODE_OK);
  g_assert_cmpint(d.insn, ==, X86_I_ANDN);
  g_assert_cmpint(x86_decode(&d, andn, sizeof andn, CODE16, false), ==, X86_DECODE_INVALID);
}

static void test_length_limit(void)
{
  uint8_t bytes[20];
  X86Decoded d;
  memset(bytes, 0x66, sizeof bytes);
  bytes[14] = 0x90;
  g_assert_cmpint(x86_decode(&d, bytes, sizeof bytes, CODE32, true), ==, X86_DECODE_OK);
  g_assert_cmpuint(d.length, ==, 15);
  bytes[14] = 0x66;
  bytes[15] = 0x90;
  g_assert_cmpint(x86_decode(&d, bytes, sizeof bytes, CODE32, true), ==, X86_DECODE_TOO_LONG);
}

#ifdef HAVE_ZYDIS
/* Instructions that Zydis knows and this decoder refuses on purpose, or the other way round, say nothing about lengths. */
static void compare_with_zydis(const ZydisDecoder *zydis, const uint8_t *bytes, unsigned code_size,
                               unsigned *n_compared)
{
  X86Decoded d;
  if (x86_decode(&d, bytes, X86_MAX_INSN_BYTES, code_size, true) != X86_DECODE_OK)
    return;
  ZydisDecodedInstruction theirs;
  bool known = ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(zydis, NULL, bytes, X86_MAX_INSN_BYTES, &theirs));
  if (!known)
    return;
  ++*n_compared;
  if (theirs.length == d.length)
    return;
  g_autoptr(GString) text = g_string_new(NULL);
  for (unsigned i = 0; i < X86_MAX_INSN_BYTES; i++)
    g_string_append_printf(text, " %02x", bytes[i]);
  g_error("%u-bit:%s: %s, %u bytes; Zydis: %s, %u bytes", 8u << code_size, text->str, x86_insn_name((X86Insn)d.insn),
          d.length, ZydisMnemonicGetString(theirs.mnemonic), theirs.length);
}

/* Random bytes behind a random choice of prefixes, so that every opcode map is seen often. */
static void random_encoding(GRand *rand, uint8_t *bytes)
{
  static const uint8_t prefixes[] = { 0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x64, 0x48, 0x41, 0x4f, 0xf0 };
  static const uint8_t escapes[] = { 0x0f, 0x0f, 0x0f, 0x38, 0x3a, 0xc4, 0xc5 };
  unsigned n = 0;
  for (unsigned i = 0; i < X86_MAX_INSN_BYTES; i++)
    bytes[i] = (uint8_t)g_rand_int(rand);
  while (g_rand_boolean(rand) && n < 4)
    bytes[n++] = prefixes[g_rand_int_range(rand, 0, G_N_ELEMENTS(prefixes))];
  if (g_rand_boolean(rand)) {
    uint8_t escape = escapes[g_rand_int_range(rand, 0, G_N_ELEMENTS(escapes))];
    if (escape == 0x38 || escape == 0x3a)
      bytes[n++] = 0x0f;
    bytes[n] = escape;
  }
}

static void test_zydis(void)
{
  static const struct {
    unsigned code_size;
    ZydisMachineMode mode;
    ZydisStackWidth width;
  } modes[] = { { CODE16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
                { CODE32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
                { CODE64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 } };
  GRand *rand = g_rand_new_with_seed(20240607);
  for (unsigned m = 0; m < G_N_ELEMENTS(modes); m++) {
    ZydisDecoder decoder;
    g_assert_true(ZYAN_SUCCESS(ZydisDecoderInit(&decoder, modes[m].mode, modes[m].width)));
    unsigned n_compared = 0;
    for (unsigned i = 0; i < 150000; i++) {
      uint8_t bytes[X86_MAX_INSN_BYTES];
      random_encoding(rand, bytes);
      compare_with_zydis(&decoder, bytes, modes[m].code_size, &n_compared);
    }
    g_assert_cmpuint(n_compared, >, 50000);
  }
  g_rand_free(rand);
}
#endif

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/decode/cases", test_cases);
  g_test_add_func("/decode/fields", test_fields);
  g_test_add_func("/decode/vex-modes", test_vex_modes);
  g_test_add_func("/decode/length-limit", test_length_limit);
#ifdef HAVE_ZYDIS
  g_test_add_func("/decode/zydis-lengths", test_zydis);
#endif
  return g_test_run();
}

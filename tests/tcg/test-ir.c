/*
 * The IR's text form, verifier and passes. Each FILE.ir in tests/tcg/ir is a block as a front end would make it;
 * FILE.expected is what the passes make of it. After a change that means to alter them:
 *   ORIEL_TEST_UPDATE=1 build/tests/tcg/test-ir
 */
#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"
#include "vm-engine/accel/tcg/ir/alu.h"

static char *read_file(const char *name, const char *suffix)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *file = g_strconcat(name, suffix, NULL);
  g_autofree char *path = g_build_filename(TEST_IR_DIR, file, NULL);
  char *text = NULL;
  g_file_get_contents(path, &text, NULL, &error);
  g_assert_no_error(error);
  return text;
}

static char *dump(const IrBlock *b)
{
  GString *s = g_string_new(NULL);
  ir_dump(b, s);
  return g_string_free(s, FALSE);
}

static IrBlock *parse(const char *text)
{
  g_autoptr(GError) error = NULL;
  IrBlock *b = ir_parse(text, &error);
  g_assert_no_error(error);
  g_assert_true(ir_verify(b, &error));
  g_assert_no_error(error);
  return b;
}

static void test_passes(gconstpointer data)
{
  const char *name = data;
  g_autofree char *input = read_file(name, ".ir");
  IrBlock *b = parse(input);
  ir_optimise(b, NULL);
  g_autoptr(GError) error = NULL;
  g_assert_true(ir_verify(b, &error));
  g_autofree char *got = dump(b);
  if (g_getenv("ORIEL_TEST_UPDATE") != NULL) {
    g_autofree char *path = g_strdup_printf("%s/%s.expected", TEST_IR_DIR, name);
    g_assert_true(g_file_set_contents(path, got, -1, NULL));
  }
  g_autofree char *expected = read_file(name, ".expected");
  g_assert_cmpstr(got, ==, expected);
  ir_block_free(b);
}

/* Every op, through the text and back. */
static void test_round_trip(void)
{
  IrBlock *b = ir_block_new();
  ir_block_clear(b);
  b->pc = b->rip = 0xffffffff81000000;
  b->guest_bytes = 7;
  ir_insn_start(b, b->rip);
  IrRef value = ir_ld(b, IR_W64 | IR_MEM_SIGNED, ir_reg(3), -8);
  for (unsigned op = 0; op <= IR_CMC; op++) {
    const IrOpInfo *info = &ir_ops[op];
    IrInsn *insn = ir_emit(b, (IrOpcode)op, IR_W64, info->d == IR_OPERAND_O ? ir_temp(b) : IR_NONE,
                           info->a == IR_OPERAND_N ? IR_NONE : value, info->b == IR_OPERAND_N ? IR_NONE : ir_reg(5));
    insn->c = info->c == IR_OPERAND_R ? ir_reg(6) : info->c == IR_OPERAND_O2 ? ir_temp(b) : IR_NONE;
    insn->aux = op == IR_SETCC || op == IR_CMOVCC ? 7 : op == IR_LEA ? 2 : 0;
    insn->imm = op == IR_LEA || op == IR_SETFLAGS ? 0x41 : 0;
  }
  ir_st(b, IR_W16, value, 0x1234, ir_const(b, -1));
  ir_ldv(b, 4 | IR_MEM_ALIGNED, value, (uint32_t)offsetof(TcgCpu, vtmp));
  ir_stv(b, 5, value, (uint32_t)offsetof(TcgCpu, vtmp));
  ir_emit(b, IR_PROBEW, IR_W32, IR_NONE, value, IR_NONE)->aux = IR_W32;
  ir_ste(b, IR_W8, (uint32_t)offsetof(TcgCpu, vtmp), ir_lde(b, IR_W8, (uint32_t)offsetof(TcgCpu, vtmp)));
  ir_call(b, HELPER_select, ir_temp(b), value, value, ir_reg(0));
  const IrNative n = { .prefix = 0x66,
                       .map = 3,
                       .opcode = 0x0f,
                       .imm = 9,
                       .has_imm = true,
                       .reg = { .kind = IR_NAT_XMM, .bytes = 16, .reads = true, .writes = true, .offset = 0x400 },
                       .rm = { .kind = IR_NAT_MMX, .bytes = 8, .reads = true, .offset = 0x500 } };
  ir_native(b, &n, IR_NONE);
  ir_exit_cc(b, 15, 0x5000);
  ir_exit_nz(b, IR_W8, value, 0x6000);
  ir_exit_indirect(b, value);
  g_autofree char *text = dump(b);
  IrBlock *again = parse(text);
  g_autofree char *second = dump(again);
  g_assert_cmpstr(text, ==, second);
  ir_block_free(again);
  ir_block_free(b);
}

static void test_verifier(void)
{
  static const struct {
    const char *text, *complaint;
  } cases[] = {
    { "rax = mov.w64, t1\nexit.w64, rip=0", "before it is assigned" },
    { "t1 = mov.w64, rax\nt1 = mov.w64, rbx\nexit.w64, rip=0", "assigned twice" },
    { "exit.w64, rip=0\nexit.w64, rip=0", "an end in the middle" },
    { "rax = mov.w64, rbx", "has no end" },
    { "rax = add.w64, rbx\nexit.w64, rip=0", "a missing operand" },
    { "rax = bswap.w16, rbx\nexit.w64, rip=0", "bad width" },
    { "rax = ld.w32, rbx, mem=0x3, disp=0x0\nexit.w64, rip=0", "width differ" },
    { "rax = lde.w64, state=0xffffffff\nexit.w64, rip=0", "outside" },
  };
  for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    IrBlock *b = ir_parse(cases[i].text, &error);
    g_assert_no_error(error);
    g_assert_false(ir_verify(b, &error));
    g_assert_nonnull(strstr(error->message, cases[i].complaint));
    ir_block_free(b);
  }
}

static void test_bad_text(void)
{
  static const char *const texts[] = { "rax = nonsense.w64, rbx",
                                       "rax = add.w7, rbx, rcx",
                                       "rax = add.w64, rbx, rcx, rdx",
                                       "rax = setcc.w64, cc=maybe",
                                       "call.w64, helper=nobody",
                                       "rax = mov.w64, 0x5g",
                                       "block pc" };
  for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(ir_parse(texts[i], &error));
    g_assert_nonnull(error);
  }
}

/* The ops without flags mean the same as those with, whose flags come from the processor. */
static void test_plain_forms(void)
{
  static const IrOpcode pairs[][2] = { { IR_ADD, IR_ADDF }, { IR_SUB, IR_SUBF }, { IR_AND, IR_ANDF },
                                       { IR_OR, IR_ORF },   { IR_XOR, IR_XORF }, { IR_NEG, IR_NEGF },
                                       { IR_SHL, IR_SHLF }, { IR_SHR, IR_SHRF }, { IR_SAR, IR_SARF },
                                       { IR_ROL, IR_ROLF }, { IR_ROR, IR_RORF } };
  g_autoptr(GRand) rand = g_rand_new_with_seed(7);
  for (unsigned i = 0; i < 20000; i++) {
    unsigned k = (unsigned)g_rand_int_range(rand, 0, G_N_ELEMENTS(pairs)), w = (unsigned)g_rand_int_range(rand, 0, 4);
    uint64_t a = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand),
             b = (uint64_t)g_rand_int(rand) << 31 | g_rand_int(rand);
    uint64_t second = 0;
    uint16_t flags = 0x200;
    g_assert_cmphex(ir_alu(pairs[k][0], w, a, b, 0, 0), ==, ir_alu_flags(pairs[k][1], w, a, b, 0, &flags, &second));
  }
}

int main(int argc, char **argv)
{
  static const char *const passes[] = { "dead-flags",        "constants", "address",
                                        "read-modify-write", "boundary",  "jump-back" };
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/tcg/ir/round-trip", test_round_trip);
  g_test_add_func("/tcg/ir/verifier", test_verifier);
  g_test_add_func("/tcg/ir/bad-text", test_bad_text);
  g_test_add_func("/tcg/ir/plain-forms", test_plain_forms);
  for (unsigned i = 0; i < G_N_ELEMENTS(passes); i++) {
    g_autofree char *path = g_strconcat("/tcg/ir/passes/", passes[i], NULL);
    g_test_add_data_func(path, passes[i], test_passes);
  }
  return g_test_run();
}

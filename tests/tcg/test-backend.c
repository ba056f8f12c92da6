/*
 * The host back end and the optimiser against the interpreter: random blocks of IR over all ops, widths and operand
 * places must leave the same registers, flags, memory and exit, translated or interpreted, optimised or not.
 *
 * Blocks never look at bits that the IR leaves unspecified: a narrow result is extended or deposited at once. The
 * interpreter fills those bits with rubbish, so a generator that broke the rule would be found, too.
 */
#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"
#include "vm-engine/accel/tcg/host/host.h"
#include "vm-engine/memory.h"

enum { RAM_BYTES = 1 << 16, DATA = 0x4000, DATA_BYTES = 0x3000, N_BLOCKS = 4000, CODE_RIP = 0x1000 };

/* One machine for each way to run. */
typedef struct Rig {
  VmMemory *memory;
  uint8_t *ram;
  TcgCpu *cpu;
} Rig;

static void rig_init(Rig *r, TcgBackend backend)
{
  g_autoptr(GError) error = NULL;
  r->memory = vm_memory_new(&error);
  g_assert_no_error(error);
  VmRam *ram = vm_ram_new(r->memory, "ram", RAM_BYTES, &error);
  g_assert_no_error(error);
  vm_region_new_ram(r->memory, "ram", 0, RAM_BYTES, 0, ram, 0, VM_ACCESS_RW);
  r->ram = vm_ram_get_hva(ram);
  r->cpu = tcg_cpu_new_bare(r->memory, backend);
}

static void rig_finish(Rig *r)
{
  tcg_cpu_free_bare(r->cpu);
  vm_memory_free(r->memory);
}

/* ---- state ------------------------------------------------------------------------------------------------------------ */

typedef struct State {
  uint64_t gpr[16];
  uint16_t flags;
  uint8_t xmm[16][16];
  uint8_t fpr[8][16];
  uint8_t ram[RAM_BYTES];
} State;

static uint64_t random_value(GRand *rand)
{
  static const uint64_t special[] = { 0,
                                      1,
                                      2,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x7fff,
                                      0x8000,
                                      0xffff,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      ~0ull,
                                      63,
                                      32,
                                      31 };
  if (g_rand_int_range(rand, 0, 3) == 0)
    return special[g_rand_int_range(rand, 0, G_N_ELEMENTS(special))];
  return (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
}

static void random_state(GRand *rand, State *s)
{
  for (unsigned i = 0; i < 16; i++)
    s->gpr[i] = random_value(rand);
  s->flags = tcg_pack_flags(g_rand_int(rand));
  for (unsigned i = 0; i < 16 * 16; i++)
    s->xmm[i / 16][i % 16] = (uint8_t)g_rand_int(rand);
  for (unsigned i = 0; i < 8 * 16; i++)
    s->fpr[i / 16][i % 16] = (uint8_t)g_rand_int(rand);
  for (size_t i = 0; i < RAM_BYTES; i += 4) {
    uint32_t v = g_rand_int(rand);
    memcpy(s->ram + i, &v, 4);
  }
}

static void put_state(Rig *r, const State *s)
{
  memcpy(r->cpu->x86.gpr, s->gpr, sizeof s->gpr);
  memcpy(r->cpu->x86.fpu.xmm, s->xmm, sizeof s->xmm);
  memcpy(r->cpu->fpr, s->fpr, sizeof s->fpr);
  memcpy(r->ram, s->ram, RAM_BYTES);
  r->cpu->flags = s->flags;
  r->cpu->x86.rip = CODE_RIP;
  r->cpu->exc_pending = r->cpu->exit_block = 0;
  r->cpu->single_next = 0;
}

static void get_state(const Rig *r, State *s)
{
  memcpy(s->gpr, r->cpu->x86.gpr, sizeof s->gpr);
  memcpy(s->xmm, r->cpu->x86.fpu.xmm, sizeof s->xmm);
  memcpy(s->fpr, r->cpu->fpr, sizeof s->fpr);
  memcpy(s->ram, r->ram, RAM_BYTES);
  s->flags = r->cpu->flags & 0xd501;
}

/* ---- making blocks ------------------------------------------------------------------------------------------------------- */

typedef struct Maker {
  GRand *rand;
  IrBlock *b;
  GArray *values; /* temps whose 64 bits are all defined */
  uint64_t rip;
} Maker;

static int pick(Maker *m, int n)
{
  return g_rand_int_range(m->rand, 0, n);
}

static IrRef any_reg(Maker *m)
{
  return ir_reg((unsigned)pick(m, 16));
}

static IrRef any_value(Maker *m)
{
  int kind = pick(m, 4);
  if (kind == 0)
    return ir_const(m->b, (int64_t)random_value(m->rand));
  if (kind == 1 && m->values->len > 0) /* mostly young ones, some old: they have to be spilled */
    return g_array_index(m->values, IrRef, pick(m, (int)m->values->len));
  return any_reg(m);
}

static void keep(Maker *m, IrRef temp)
{
  g_array_append_val(m->values, temp);
}

/* Where a result of width `w` goes: a register or a temp if it is wide, else a temp that is made whole right after. */
static IrRef result_place(Maker *m, unsigned w)
{
  if (w >= IR_W32 && pick(m, 2) == 0)
    return any_reg(m);
  return ir_temp(m->b);
}

static void finish_result(Maker *m, IrRef d, unsigned w, IrRef first)
{
  if (ir_is_reg(d))
    return;
  if (w >= IR_W32) {
    keep(m, d);
    if (pick(m, 3) == 0)
      ir_mov(m->b, any_reg(m), d);
    return;
  }
  IrOpcode deposit = w == IR_W8 ? IR_DEP8 : IR_DEP16;
  IrRef reg = ir_is_reg(first) && pick(m, 2) == 0 ? first : any_reg(m);
  if (pick(m, 2) == 0)
    ir_emit(m->b, deposit, IR_W64, reg, reg, d);
  else
    keep(m, ir_op1(m->b, w == IR_W8 ? IR_ZX8 : IR_ZX16, IR_W64, d));
}

static unsigned widths_from(IrOpcode op)
{
  switch (op) {
  case IR_MUL:
  case IR_BSWAP:
  case IR_PEXT:
  case IR_PDEP:
  case IR_MOV:
  case IR_CMOVCC:
    return IR_W32;
  case IR_SHLDF:
  case IR_SHRDF:
  case IR_IMULF:
  case IR_BTF:
  case IR_BTSF:
  case IR_BTRF:
  case IR_BTCF:
  case IR_BSFF:
  case IR_BSRF:
  case IR_POPCNTF:
  case IR_LZCNTF:
  case IR_TZCNTF:
  case IR_LEA:
    return IR_W16;
  default:
    return IR_W8;
  }
}

static void make_compute(Maker *m, IrOpcode op)
{
  unsigned from = widths_from(op), w = from + (unsigned)pick(m, IR_W64 - (int)from + 1);
  const IrOpInfo *info = &ir_ops[op];
  if (op >= IR_ZX8 && op <= IR_DEP16)
    w = IR_W64;
  IrRef a = info->a == IR_OPERAND_N ? IR_NONE : any_value(m), b = info->b == IR_OPERAND_N ? IR_NONE : any_value(m);
  IrRef c = info->c == IR_OPERAND_R ? any_value(m) : IR_NONE;
  bool counted = op == IR_SHLDF || op == IR_SHRDF;
  if (counted && w == IR_W16) /* more than 16 gives nothing that is defined */
    c = ir_const(m->b, pick(m, 17));
  if (op == IR_LEA && pick(m, 4) == 0)
    *(pick(m, 2) ? &a : &b) = IR_NONE;
  unsigned out = op == IR_CRC32 ? (unsigned)IR_W32 : op == IR_LEA ? (unsigned)IR_W64 : w;
  IrRef d = info->d == IR_OPERAND_N ? IR_NONE : result_place(m, out), c_out = IR_NONE;
  if (info->c == IR_OPERAND_O2 && w != IR_W8)
    c_out = ir_temp(m->b);
  IrInsn *insn = ir_emit(m->b, op, w, d, a, b);
  insn->c = info->c == IR_OPERAND_O2 ? c_out : c;
  if (op == IR_LEA) {
    insn->aux = (uint8_t)pick(m, 4);
    insn->imm = pick(m, 8) == 0 ? (int64_t)random_value(m->rand) : (int64_t)(int8_t)g_rand_int(m->rand);
  }
  if (op == IR_SETCC || op == IR_CMOVCC)
    insn->aux = (uint8_t)pick(m, 16);
  if (op == IR_SETFLAGS)
    insn->imm = (int64_t)(g_rand_int(m->rand) & IR_FL_ALL);
  bool product8 = info->c == IR_OPERAND_O2 && w == IR_W8;
  if (d != IR_NONE)
    finish_result(m, d, op == IR_SETCC ? (unsigned)IR_W64 : product8 ? (unsigned)IR_W16 : out, a);
  if (c_out != IR_NONE)
    finish_result(m, c_out, w, IR_NONE);
}

/* An address in the data, sometimes across a page's end. */
static IrRef make_address(Maker *m)
{
  if (pick(m, 4) == 0)
    return ir_const(m->b, DATA + pick(m, DATA_BYTES));
  IrRef t = ir_op2(m->b, IR_AND, IR_W64, any_value(m), ir_const(m->b, DATA_BYTES - 1));
  t = ir_op2(m->b, IR_ADD, IR_W64, t, ir_const(m->b, DATA));
  if (pick(m, 4) != 0)
    return t;
  IrRef r = any_reg(m);
  ir_mov(m->b, r, t);
  return r;
}

static void make_memory(Maker *m)
{
  unsigned w = (unsigned)pick(m, 4), vector = IR_W64 + (unsigned)pick(m, 2);
  IrRef a = make_address(m), d;
  int64_t disp = pick(m, 2) ? pick(m, 256) : 0;
  if (pick(m, 8) == 0) { /* a displacement too long for an instruction */
    disp = INT64_C(0x123456789ab0);
    a = ir_op2(m->b, IR_SUB, IR_W64, a, ir_const(m->b, disp));
  }
  uint32_t slot = (uint32_t)offsetof(TcgCpu, x86.fpu.xmm) + 16 * (uint32_t)pick(m, 16);
  switch (pick(m, 6)) {
  case 0:
    ir_st(m->b, w, a, disp, any_value(m));
    break;
  case 1:
    ir_ldv(m->b, vector, a, slot);
    break;
  case 2:
    ir_stv(m->b, vector, a, slot);
    break;
  case 3: /* read, modify, write */
    ir_emit(m->b, IR_PROBEW, w, IR_NONE, a, IR_NONE)->aux = (uint8_t)w;
    d = ir_ld(m->b, w, a, 0);
    d = ir_op2(m->b, IR_ADDF, w, d, any_value(m));
    ir_st(m->b, w, a, 0, d);
    break;
  default:
    d = ir_ld(m->b, w | (pick(m, 2) ? IR_MEM_SIGNED : 0), a, disp);
    keep(m, d);
    if (pick(m, 2))
      ir_mov(m->b, any_reg(m), d);
    break;
  }
}

static void make_state(Maker *m)
{
  uint32_t offset = (uint32_t)offsetof(TcgCpu, x86.fpu.xmm) + (uint32_t)pick(m, 248);
  unsigned w = (unsigned)pick(m, 4);
  if (pick(m, 2))
    keep(m, ir_lde(m->b, w, offset));
  else
    ir_ste(m->b, w, offset, any_value(m));
}

static IrNativeOperand xmm(Maker *m, unsigned bytes, bool reads, bool writes)
{
  return (IrNativeOperand){ .kind = IR_NAT_XMM,
                            .bytes = (uint8_t)bytes,
                            .reads = reads,
                            .writes = writes,
                            .offset = (uint32_t)offsetof(TcgCpu, x86.fpu.xmm) + 16 * (uint32_t)pick(m, 16) };
}

static IrNativeOperand mmx(Maker *m, bool reads, bool writes)
{
  return (IrNativeOperand){ .kind = IR_NAT_MMX,
                            .bytes = 8,
                            .reads = reads,
                            .writes = writes,
                            .offset = (uint32_t)offsetof(TcgCpu, fpr) + 16 * (uint32_t)pick(m, 8) };
}

static void make_native(Maker *m)
{
  IrNative n = { .map = 1 };
  IrRef gpr = IR_NONE;
  switch (pick(m, 6)) {
  case 0: /* PADDD */
    n.prefix = 0x66, n.opcode = 0xfe, n.reg = xmm(m, 16, true, true), n.rm = xmm(m, 16, true, false);
    break;
  case 1: /* PMOVMSKB */
    n.prefix = 0x66, n.opcode = 0xd7, n.rm = xmm(m, 16, true, false);
    n.reg = (IrNativeOperand){ .kind = IR_NAT_GPR, .bytes = 4, .writes = true };
    gpr = pick(m, 2) ? any_reg(m) : ir_temp(m->b);
    break;
  case 2: /* MOVQ xmm, r64 */
    n.prefix = 0x66, n.opcode = 0x6e, n.rex_w = true, n.reg = xmm(m, 16, false, true);
    n.rm = (IrNativeOperand){ .kind = IR_NAT_GPR, .bytes = 8, .reads = true };
    gpr = any_value(m);
    break;
  case 3: /* PSLLQ xmm, imm8 */
    n.prefix = 0x66, n.opcode = 0x73, n.group = true, n.group_reg = 6, n.has_imm = true, n.imm = (uint8_t)pick(m, 70);
    n.rm = xmm(m, 16, true, true);
    break;
  case 4: /* PTEST */
    n.prefix = 0x66, n.map = 2, n.opcode = 0x17, n.flags_def = IR_FL_ALL;
    n.reg = xmm(m, 16, true, false), n.rm = xmm(m, 16, true, false);
    break;
  default: /* PADDB mm, mm */
    n.opcode = 0xfc, n.reg = mmx(m, true, true), n.rm = mmx(m, true, false);
    break;
  }
  ir_native(m->b, &n, gpr);
  if (ir_is_temp(gpr) && n.reg.kind == IR_NAT_GPR)
    keep(m, gpr);
}

static void make_call(Maker *m)
{
  IrRef d = pick(m, 2) ? any_reg(m) : ir_temp(m->b);
  switch (pick(m, 4)) {
  case 0:
    ir_call(m->b, HELPER_multiply_high, d, any_value(m), any_value(m), IR_NONE);
    break;
  case 1:
    ir_call(m->b, HELPER_select, d, any_value(m), any_value(m), any_value(m));
    break;
  case 2: /* reads and writes registers, may fault */
    ir_call(m->b, HELPER_div, IR_NONE, ir_const(m->b, pick(m, 3)), ir_const(m->b, pick(m, 4)), IR_NONE);
    return;
  default: /* and flags */
    ir_call(m->b, pick(m, 2) ? HELPER_daa : HELPER_aas, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    return;
  }
  if (ir_is_temp(d))
    keep(m, d);
}

static void make_middle_exit(Maker *m)
{
  uint64_t rip = (uint64_t)(CODE_RIP + pick(m, 0x2000)) + 1;
  if (pick(m, 2))
    ir_exit_cc(m->b, (unsigned)pick(m, 16), rip);
  else
    ir_exit_nz(m->b, (unsigned)pick(m, 4), ir_op2(m->b, IR_AND, IR_W64, any_value(m), ir_const(m->b, 7)), rip);
}

static void make_end(Maker *m)
{
  switch (pick(m, 4)) {
  case 0:
    ir_exit_indirect(m->b, any_value(m));
    break;
  case 1:
    ir_exit_loop(m->b, any_value(m)); /* without an operand it follows a helper that stores rip */
    break;
  case 2:
    ir_exit_cc(m->b, (unsigned)pick(m, 16), CODE_RIP + (uint64_t)pick(m, 0x2000));
    ir_exit(m->b, CODE_RIP + (uint64_t)pick(m, 0x2000));
    break;
  default:
    ir_exit(m->b, random_value(m->rand));
    break;
  }
}

static void next_insn(Maker *m)
{
  ir_insn_start(m->b, m->rip);
  m->rip += 1 + (uint64_t)pick(m, 8);
}

static void make_op(Maker *m)
{
  int kind = pick(m, 40);
  if (kind < 4)
    make_memory(m);
  else if (kind == 4)
    make_state(m);
  else if (kind == 5)
    make_native(m);
  else if (kind == 6)
    make_call(m);
  else if (kind == 7 && pick(m, 4) == 0)
    make_middle_exit(m);
  else
    make_compute(m, (IrOpcode)pick(m, IR_CMC + 1));
  if (pick(m, 3) == 0)
    next_insn(m);
}

static void make_block(Maker *m, const Rig *r)
{
  ir_block_clear(m->b);
  g_array_set_size(m->values, 0);
  m->b->pc = m->b->rip = m->rip = CODE_RIP;
  m->b->hflags = r->cpu->hflags;
  m->b->poison = true;
  next_insn(m);
  for (int n = 1 + pick(m, 30); n > 0; n--)
    make_op(m);
  make_end(m);
}

/* ---- running ----------------------------------------------------------------------------------------------------------------- */

static IrLeave run_host(Rig *r, const IrBlock *ir, uint32_t mode)
{
  HostCode code;
  TcgCpu *cpu = r->cpu;
  Tcg *tcg = cpu->tcg;
  if (!tcg_cache_has_room(tcg->cache))
    tcg_cache_reset(tcg->cache);
  g_assert_true(host_translate(cpu->exec->host, tcg, ir, 0, 0, mode, &code));
  atomic_store(&cpu->jump_generation, cpu->exec->generation);
  /* The flags are in memory at first, as from the main loop. */
  return (IrLeave)tcg->stubs->enter(cpu, code.entry_mem);
}

static void compare(const char *what, const State *want, const State *got, IrLeave want_leave, IrLeave got_leave,
                    const Rig *want_rig, const Rig *got_rig, const IrBlock *ir, unsigned seed)
{
  bool same = memcmp(want, got, sizeof *want) == 0 && want_leave == got_leave &&
              want_rig->cpu->x86.rip == got_rig->cpu->x86.rip;
  if (same)
    return;
  g_autoptr(GString) text = g_string_new(NULL);
  g_string_append_printf(text, "%s differs, block %u\n", what, seed);
  ir_dump(ir, text);
  for (unsigned i = 0; i < 16; i++) {
    if (want->gpr[i] != got->gpr[i])
      g_string_append_printf(text, "%s: %" G_GINT64_MODIFIER "x, not %" G_GINT64_MODIFIER "x\n", x86_guest_regs[i].name,
                             got->gpr[i], want->gpr[i]);
  }
  for (unsigned i = 0; i < 16; i++) {
    if (memcmp(want->xmm[i], got->xmm[i], 16) != 0)
      g_string_append_printf(text, "xmm%u\n", i);
  }
  g_string_append_printf(text,
                         "flags %04x, not %04x; left by %d at %" G_GINT64_MODIFIER "x, not by %d at %" G_GINT64_MODIFIER
                         "x; memory %s\n",
                         got->flags, want->flags, got_leave, got_rig->cpu->x86.rip, want_leave, want_rig->cpu->x86.rip,
                         memcmp(want->ram, got->ram, RAM_BYTES) == 0 ? "same" : "differs");
  g_error("%s", text->str);
}

typedef struct Bench {
  Rig interp, jit;
  Maker maker;
  State *start, *want, *got;
} Bench;

static void bench_init(Bench *t)
{
  rig_init(&t->interp, TCG_BACKEND_INTERP);
  rig_init(&t->jit, TCG_BACKEND_JIT);
  t->maker = (Maker){ .b = ir_block_new(), .values = g_array_new(FALSE, FALSE, sizeof(IrRef)) };
  t->start = g_new0(State, 1);
  t->want = g_new0(State, 1);
  t->got = g_new0(State, 1);
}

static void bench_finish(Bench *t)
{
  rig_finish(&t->interp);
  rig_finish(&t->jit);
  ir_block_free(t->maker.b);
  g_array_free(t->maker.values, TRUE);
  g_free(t->start);
  g_free(t->want);
  g_free(t->got);
}

static IrLeave interpret(Rig *r, const State *start, State *end, const IrBlock *ir)
{
  put_state(r, start);
  IrLeave how = ir_interpret(ir, r->cpu);
  get_state(r, end);
  return how;
}

static void verify(const IrBlock *ir, unsigned seed)
{
  g_autoptr(GError) error = NULL;
  if (!ir_verify(ir, &error)) {
    g_autoptr(GString) text = g_string_new(NULL);
    ir_dump(ir, text);
    g_error("block %u: %s\n%s", seed, error->message, text->str);
  }
}

static void run_one(Bench *t, unsigned seed)
{
  t->maker.rand = g_rand_new_with_seed(seed);
  IrBlock *ir = t->maker.b;
  make_block(&t->maker, &t->jit);
  random_state(t->maker.rand, t->start);
  verify(ir, seed);
  IrLeave want = interpret(&t->interp, t->start, t->want, ir);
  /* An unoptimised block claims to need all flags everywhere, which is right if slow. */
  put_state(&t->jit, t->start);
  IrLeave got = run_host(&t->jit, ir, TCG_MODE_NOCHAIN);
  get_state(&t->jit, t->got);
  compare("translated", t->want, t->got, want, got, &t->interp, &t->jit, ir, seed);

  g_autoptr(GString) dump = g_string_new(NULL);
  uint64_t want_rip = t->interp.cpu->x86.rip;
  ir_optimise(ir, dump);
  verify(ir, seed);
  put_state(&t->jit, t->start);
  got = run_host(&t->jit, ir, TCG_MODE_NOCHAIN);
  get_state(&t->jit, t->got);
  t->interp.cpu->x86.rip = want_rip;
  if (memcmp(t->want, t->got, sizeof *t->want) != 0)
    g_test_message("%s", dump->str);
  compare("translated and optimised", t->want, t->got, want, got, &t->interp, &t->jit, ir, seed);

  State *again = g_new0(State, 1);
  got = interpret(&t->interp, t->start, again, ir);
  compare("interpreted and optimised", again, t->got, want, got, &t->interp, &t->jit, ir, seed);
  g_free(again);
  g_rand_free(t->maker.rand);
}

static void test_random(void)
{
  const char *only = g_getenv("ORIEL_TEST_SEED"), *more = g_getenv("ORIEL_TEST_BLOCKS");
  unsigned n = more != NULL ? (unsigned)g_ascii_strtoull(more, NULL, 0) : N_BLOCKS;
  Bench t;
  bench_init(&t);
  for (unsigned seed = 0; seed < n; seed++) {
    if (only == NULL || (unsigned)g_ascii_strtoull(only, NULL, 0) == seed)
      run_one(&t, seed);
  }
  bench_finish(&t);
}

/* Every computing op alone, at every width, with every kind of operand: what random blocks reach too seldom. */
static void test_each_op(void)
{
  Bench t;
  bench_init(&t);
  unsigned seed = 1u << 20;
  for (unsigned op = 0; op <= IR_CMC; op++) {
    for (unsigned i = 0; i < 60; i++, seed++) {
      Maker *m = &t.maker;
      m->rand = g_rand_new_with_seed(seed);
      ir_block_clear(m->b);
      g_array_set_size(m->values, 0);
      m->b->pc = m->b->rip = m->rip = CODE_RIP;
      m->b->hflags = t.jit.cpu->hflags;
      m->b->poison = true;
      next_insn(m);
      keep(m, ir_lde(m->b, IR_W64, (uint32_t)offsetof(TcgCpu, x86.fpu.xmm)));
      make_compute(m, (IrOpcode)op);
      ir_exit(m->b, 0x1100);
      random_state(m->rand, t.start);
      verify(m->b, seed);
      IrLeave want = interpret(&t.interp, t.start, t.want, m->b);
      for (unsigned optimised = 0; optimised < 2; optimised++) {
        if (optimised)
          ir_optimise(m->b, NULL);
        put_state(&t.jit, t.start);
        IrLeave got = run_host(&t.jit, m->b, TCG_MODE_NOCHAIN);
        get_state(&t.jit, t.got);
        compare(ir_ops[op].text, t.want, t.got, want, got, &t.interp, &t.jit, m->b, seed);
      }
      g_rand_free(m->rand);
    }
  }
  bench_finish(&t);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/tcg/backend/each-op", test_each_op);
  g_test_add_func("/tcg/backend/random-blocks", test_random);
  return g_test_run();
}

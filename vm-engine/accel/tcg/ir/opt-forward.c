/*
 * One forward walk that knows what each temp and guest register holds:
 *
 *  1. A temp that copies a constant, a temp, or a guest register not written since, is replaced by what it copies.
 *  2. A guest register that holds a known constant is replaced by it where the constant is short.
 *  3. Ops on constants are evaluated; additions of nothing, and extensions of what is extended already, become copies.
 *  4. Additions of constants move into the address of the load, store or LEA that uses them.
 *     Where such a sum goes to a register, it is computed there (PUSH, CALL).
 *  5. An op whose result goes to a guest register by a copy right behind it writes the register itself.
 *  6. Loads and stores of an address that PROBEW looked at in the same instruction cannot fault (see opt-live.c).
 */
#include "vm-engine/accel/tcg/ir/alu.h"
#include "vm-engine/accel/tcg/ir/passes.h"

typedef struct TempFact {
  IrRef same_as;    /* rule 1, or the temp itself */
  uint16_t version; /* of the register in same_as, or in `base` */
  uint16_t uses;
  uint16_t def; /* index of the defining op, + 1 */
  uint8_t bits; /* those above are zero */
  bool dropped; /* a copy that is gone: its uses were counted for what it copied */
  IrRef base;   /* rule 4: the temp is base + disp, 64 bits; IR_NONE: not known */
  int64_t disp;
} TempFact;

enum { MAX_REGS = 64, FORWARD_WINDOW = 4 };

typedef struct Forward {
  IrBlock *block;
  TempFact *temps;
  uint16_t versions[MAX_REGS];
  IrRef constants[MAX_REGS]; /* what a register holds, or IR_NONE */
  IrRef probed;              /* by the current instruction */
  uint8_t probed_size;
} Forward;

static TempFact *fact(Forward *f, IrRef ref)
{
  return &f->temps[ref - IR_TEMP_BASE];
}

static bool is_short(int64_t value)
{
  return value == (int32_t)value;
}

static void count_uses(Forward *f)
{
  IrBlock *b = f->block;
  for (unsigned i = 0; i < ir_count(b); i++) {
    const IrInsn *insn = ir_get(b, i);
    const IrRef refs[3] = { insn->a, insn->b, ir_ops[insn->op].c == IR_OPERAND_O2 ? IR_NONE : insn->c };
    for (unsigned k = 0; k < 3; k++) {
      if (ir_is_temp(refs[k]))
        fact(f, refs[k])->uses++;
    }
  }
}

/* ---- rules 1 and 2 ----------------------------------------------------------------------------------------------------- */

static IrRef resolve(Forward *f, IrRef ref)
{
  if (ir_is_temp(ref)) {
    const TempFact *t = fact(f, ref);
    if (!ir_is_reg(t->same_as) || f->versions[ir_reg_index(t->same_as)] == t->version)
      return t->same_as;
    return ref;
  }
  if (ir_is_reg(ref) && f->constants[ir_reg_index(ref)] != IR_NONE)
    return f->constants[ir_reg_index(ref)];
  return ref;
}

static void replace(Forward *f, IrRef *ref)
{
  IrRef better = resolve(f, *ref);
  if (better == *ref)
    return;
  if (ir_is_reg(*ref) && !is_short(ir_const_value(f->block, better)))
    return;
  bool counted = ir_is_temp(*ref) && fact(f, *ref)->dropped;
  if (ir_is_temp(*ref) && !counted)
    fact(f, *ref)->uses--;
  if (ir_is_temp(better) && !counted)
    fact(f, better)->uses++;
  *ref = better;
}

static void forget_registers(Forward *f)
{
  for (unsigned i = 0; i < f->block->n_guest_regs; i++) {
    f->versions[i]++;
    f->constants[i] = IR_NONE;
  }
}

/* ---- rule 3 ---------------------------------------------------------------------------------------------------------------- */

static void become_copy(Forward *f, IrInsn *insn, IrRef of)
{
  const IrRef olds[2] = { insn->a, insn->b };
  for (unsigned k = 0; k < 2; k++) {
    if (ir_is_temp(olds[k]))
      fact(f, olds[k])->uses--;
  }
  if (ir_is_temp(of))
    fact(f, of)->uses++;
  insn->op = IR_MOV;
  insn->width = IR_W64;
  insn->aux = 0;
  insn->imm = 0;
  insn->a = of;
  insn->b = insn->c = IR_NONE;
}

static bool known(Forward *f, IrRef ref, uint64_t *value)
{
  *value = 0;
  if (ref == IR_NONE)
    return true;
  ref = resolve(f, ref);
  if (!ir_is_const(ref))
    return false;
  *value = (uint64_t)ir_const_value(f->block, ref);
  return true;
}

static bool evaluate(Forward *f, IrInsn *insn)
{
  uint64_t a, b;
  if ((ir_ops[insn->op].props & IR_FOLD) == 0 && !(insn->op == IR_MOV && insn->width == IR_W32))
    return false;
  if (!known(f, insn->a, &a) || !known(f, insn->b, &b))
    return false;
  int64_t value = (int64_t)ir_alu(insn->op, insn->width, a, b, insn->aux, insn->imm);
  become_copy(f, insn, ir_const(f->block, value));
  return true;
}

/* How many low bits of the result may be set. */
static unsigned result_bits(Forward *f, const IrInsn *insn)
{
  switch (insn->op) {
  case IR_LD:
    return (insn->aux & IR_MEM_SIGNED) != 0 ? 64 : ir_width_bits(insn->width);
  case IR_LDE:
    return ir_width_bits(insn->width);
  case IR_SETCC:
  case IR_ZX8:
  case IR_XH8:
    return 8;
  case IR_ZX16:
    return 16;
  case IR_MOV:
    if (insn->width == IR_W64)
      return ir_is_temp(insn->a) ? fact(f, insn->a)->bits : 64;
    return 32;
  case IR_ZX32:
  case IR_CRC32:
    return 32;
  case IR_SX8:
  case IR_SX16:
  case IR_SX32:
  case IR_DEP8:
  case IR_DEP8H:
  case IR_DEP16:
  case IR_CALL:
  case IR_NAT:
    return 64;
  case IR_LEA:
    return insn->width == IR_W8 ? 64 : ir_width_bits(insn->width);
  default:
    return insn->width == IR_W32 ? 32 : 64;
  }
}

static bool is_zero_extension(Forward *f, const IrInsn *insn)
{
  unsigned bits = insn->op == IR_ZX8 ? 8 : insn->op == IR_ZX16 ? 16 : 32;
  bool extends =
      insn->op == IR_ZX8 || insn->op == IR_ZX16 || insn->op == IR_ZX32 || (insn->op == IR_MOV && insn->width == IR_W32);
  return extends && ir_is_temp(insn->a) && fact(f, insn->a)->bits <= bits;
}

static void simplify(Forward *f, IrInsn *insn)
{
  uint64_t b;
  if (evaluate(f, insn))
    return;
  if (is_zero_extension(f, insn)) {
    become_copy(f, insn, insn->a);
    return;
  }
  if (insn->op == IR_LEA && insn->width == IR_W64 && insn->imm == 0 && insn->a != IR_NONE && insn->b == IR_NONE) {
    become_copy(f, insn, insn->a);
    return;
  }
  bool neutral_zero = insn->op == IR_ADD || insn->op == IR_SUB || insn->op == IR_OR || insn->op == IR_XOR ||
                      (insn->op >= IR_SHL && insn->op <= IR_ROR);
  if (neutral_zero && insn->width == IR_W64 && known(f, insn->b, &b) && b == 0)
    become_copy(f, insn, insn->a);
}

/* ---- rule 4 ---------------------------------------------------------------------------------------------------------------- */

/* *ref + *disp → base + a bigger displacement, if *ref is known to be such a sum. */
static void fold_address(Forward *f, IrRef *ref, int64_t *disp)
{
  if (!ir_is_temp(*ref))
    return;
  TempFact *t = fact(f, *ref);
  if (t->base == IR_NONE || !is_short(t->disp) || !is_short(*disp) || !is_short(t->disp + *disp))
    return;
  if (ir_is_reg(t->base) && f->versions[ir_reg_index(t->base)] != t->version)
    return;
  t->uses--;
  if (ir_is_temp(t->base))
    fact(f, t->base)->uses++;
  *disp += t->disp;
  *ref = t->base;
}

static void note_sum(Forward *f, TempFact *d, const IrInsn *insn)
{
  uint64_t value;
  if (insn->width != IR_W64)
    return;
  if (insn->op == IR_LEA && insn->b == IR_NONE && insn->a != IR_NONE && !ir_is_const(insn->a)) {
    d->base = insn->a;
    d->disp = insn->imm;
  } else if ((insn->op == IR_ADD || insn->op == IR_SUB) && !ir_is_const(insn->a) && ir_is_const(insn->b)) {
    value = (uint64_t)ir_const_value(f->block, insn->b);
    d->base = insn->a;
    d->disp = (int64_t)(insn->op == IR_ADD ? value : -value);
  }
  if (ir_is_reg(d->base))
    d->version = f->versions[ir_reg_index(d->base)];
}

/* ---- rule 5 ---------------------------------------------------------------------------------------------------------------- */

static bool touches(const IrInsn *insn, IrRef reg)
{
  return insn->d == reg || insn->a == reg || insn->b == reg || insn->c == reg;
}

/* May a register's write move up over this op? */
static bool is_transparent(const IrInsn *insn)
{
  return insn->op == IR_N_OPS || (insn->op != IR_INSN && (ir_ops[insn->op].props & IR_PURE) != 0);
}

/* `insn` (op i) is `reg = temp`: makes the temp's op write the register, if it stands close and nothing between minds. */
static bool forward_result(Forward *f, unsigned i, IrInsn *insn)
{
  if (insn->op != IR_MOV || !ir_is_reg(insn->d) || !ir_is_temp(insn->a))
    return false;
  const TempFact *t = fact(f, insn->a);
  if (t->uses != 1 || t->def == 0 || i - (t->def - 1u) > FORWARD_WINDOW)
    return false;
  if (insn->width != IR_W64 && !(insn->width == IR_W32 && t->bits <= 32))
    return false;
  IrInsn *def = ir_at(f->block, t->def - 1u);
  bool o2 = ir_ops[def->op].c == IR_OPERAND_O2;
  if (def->op == IR_N_OPS || (def->d != insn->a && !(o2 && def->c == insn->a)) ||
      (o2 && (def->d == insn->d || def->c == insn->d)))
    return false;
  for (unsigned k = t->def; k < i; k++) {
    const IrInsn *between = ir_get(f->block, k);
    if (!is_transparent(between) || (between->op != IR_N_OPS && touches(between, insn->d)))
      return false;
  }
  if (def->d == insn->a)
    def->d = insn->d;
  else
    def->c = insn->d;
  insn->op = IR_N_OPS;
  return true;
}

/* A copy to a register of what the register's neighbour plus a constant is: computed anew, it needs no temp (PUSH, CALL). */
static void recompute_sum(Forward *f, IrInsn *insn)
{
  if (insn->op != IR_MOV || insn->width != IR_W64 || !ir_is_reg(insn->d) || !ir_is_temp(insn->a))
    return;
  TempFact *t = fact(f, insn->a);
  if (!ir_is_reg(t->base) || !is_short(t->disp) || f->versions[ir_reg_index(t->base)] != t->version)
    return;
  t->uses--;
  insn->op = IR_LEA;
  insn->a = t->base;
  insn->imm = t->disp;
}

/* A temp that copies a temp or constant for good: every use of it will be replaced. */
static void drop_copy(Forward *f, IrInsn *insn)
{
  if (insn->op != IR_MOV || insn->width != IR_W64 || !ir_is_temp(insn->d) || ir_is_reg(insn->a))
    return;
  if (ir_is_temp(insn->a))
    fact(f, insn->a)->uses += fact(f, insn->d)->uses - 1;
  fact(f, insn->d)->dropped = true;
  insn->op = IR_N_OPS;
}

/* ---- the walk ------------------------------------------------------------------------------------------------------------------- */

static void note_result(Forward *f, unsigned i, IrRef d, const IrInsn *insn)
{
  if (ir_is_reg(d)) {
    unsigned r = ir_reg_index(d);
    if (d == f->probed)
      f->probed = IR_NONE;
    f->versions[r]++;
    f->constants[r] = insn->op == IR_MOV && insn->width == IR_W64 && ir_is_const(insn->a) ? insn->a : IR_NONE;
    return;
  }
  if (!ir_is_temp(d))
    return;
  TempFact *t = fact(f, d);
  t->same_as = d;
  t->base = IR_NONE;
  t->def = i < UINT16_MAX ? (uint16_t)(i + 1) : 0;
  t->bits = (uint8_t)result_bits(f, insn);
  if (insn->op == IR_MOV && insn->width == IR_W64) {
    t->same_as = insn->a;
    t->version = ir_is_reg(insn->a) ? f->versions[ir_reg_index(insn->a)] : 0;
    if (ir_is_const(insn->a)) {
      uint64_t value = (uint64_t)ir_const_value(f->block, insn->a);
      t->bits = value == 0 ? 1 : (uint8_t)(64 - __builtin_clzll(value));
    }
    return;
  }
  note_sum(f, t, insn);
}

static void note_probe(Forward *f, IrInsn *insn)
{
  unsigned size = insn->aux & IR_MEM_SIZE;
  if (insn->op == IR_INSN) {
    f->probed = IR_NONE;
  } else if (insn->op == IR_PROBEW) {
    f->probed = insn->a;
    f->probed_size = (uint8_t)size;
  } else if ((insn->op == IR_LD || insn->op == IR_ST) && f->probed != IR_NONE && insn->a == f->probed &&
             insn->imm == 0 && size <= f->probed_size) {
    insn->aux |= IR_MEM_PROBED;
  }
}

static void rewrite_inputs(Forward *f, IrInsn *insn)
{
  bool address = insn->op == IR_LD || insn->op == IR_ST;
  if (!address || ir_is_temp(insn->a))
    replace(f, &insn->a);
  replace(f, &insn->b);
  if (ir_ops[insn->op].c != IR_OPERAND_O2)
    replace(f, &insn->c);
}

static void step(Forward *f, unsigned i)
{
  IrInsn *insn = ir_at(f->block, i);
  rewrite_inputs(f, insn);
  note_probe(f, insn);
  if (insn->op == IR_LD || insn->op == IR_ST || (insn->op == IR_LEA && insn->width == IR_W64))
    fold_address(f, &insn->a, &insn->imm);
  simplify(f, insn);
  if (insn->op == IR_CALL && (tcg_helpers[insn->imm].effects & HELPER_WRITES) != 0)
    forget_registers(f);
  IrRef d = insn->d;
  IrInsn copy = *insn;
  if (!forward_result(f, i, insn))
    recompute_sum(f, insn);
  note_result(f, i, d, &copy);
  drop_copy(f, insn);
  if (ir_ops[copy.op].c == IR_OPERAND_O2)
    note_result(f, i, copy.c, &copy);
}

void ir_pass_forward(IrBlock *block)
{
  g_array_set_size(block->scratch[0], (block->n_temps + 1) * sizeof(TempFact));
  Forward f = { .block = block, .temps = (TempFact *)(void *)block->scratch[0]->data };
  memset(f.temps, 0, (block->n_temps + 1) * sizeof(TempFact));
  g_assert(block->n_guest_regs <= MAX_REGS);
  count_uses(&f);
  for (unsigned i = 0; i < ir_count(block); i++)
    step(&f, i);
  ir_compact(block);
}

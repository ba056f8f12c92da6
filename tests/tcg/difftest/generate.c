/*
 * Makes an instruction of a form, and fits the state to it: what it addresses lies in the tester's pages (or just beyond
 * their ends), and where it jumps there is an INT3.
 *
 * The bytes behind the opcode are drawn at random and decoded by the decoder under test; the decoded operand then says
 * which registers to set. A wrong decoder shows as a wrong rip or result, as the processor decodes the same bytes.
 */
#include "tests/tcg/difftest/difftest.h"

#define LABEL_OFFSET 8u /* of the INT3 that indirect jumps go to, behind the instruction */

typedef struct Maker {
  DiffCase *c;
  DiffRandom *r;
  const DiffForm *form;
  bool sequence; /* one of several: absolute addresses only */
  uint8_t *bytes;
  unsigned n, modrm_at;
  X86Decoded d;
} Maker;

static void put(Maker *m, uint8_t byte)
{
  m->bytes[m->n++] = byte;
}

/* ---- encoding -------------------------------------------------------------------------------------------------------- */

static bool is_string(X86Insn insn)
{
  return insn >= X86_I_MOVS && insn <= X86_I_SCAS;
}

static void put_legacy_prefixes(Maker *m)
{
  const DiffForm *f = m->form;
  bool vector = f->kind == DIFF_VECTOR || f->kind == DIFF_FPU_STATE;
  static const uint8_t segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
  bool wide = m->c->mode == DIFF_64;
  if (!m->sequence && diff_percent(m->r, 6)) {
    put(m, wide ? 0x65 : segments[diff_below(m->r, sizeof segments)]);
  }
  if (m->c->mode != DIFF_32 && diff_percent(m->r, wide ? 4 : 25)) {
    put(m, 0x67);
  }
  if (!vector && f->prefix != 0x66 && !f->vex && diff_percent(m->r, 25)) {
    put(m, 0x66);
  }
  if ((f->row->attr & X86_ROW_LOCK) && f->memory && f->kind == DIFF_INTEGER && diff_percent(m->r, 10)) {
    put(m, 0xf0);
  }
  if (is_string((X86Insn)f->row->insn) && diff_percent(m->r, 60)) {
    put(m, diff_percent(m->r, 50) ? 0xf3 : 0xf2);
  }
  if (f->prefix && !f->vex) {
    put(m, f->prefix);
  }
}

static void put_vex(Maker *m)
{
  static const uint8_t maps[] = { 0, 1, 2, 3 };
  unsigned pp = m->form->prefix == 0x66 ? 1 : m->form->prefix == 0xf3 ? 2 : m->form->prefix == 0xf2 ? 3 : 0;
  uint8_t inverted = m->c->mode == DIFF_64 ? (uint8_t)(diff_random(m->r) & 0xe0) : 0xe0;
  put(m, 0xc4);
  put(m, inverted | maps[m->form->map]);
  uint8_t last = (uint8_t)((diff_random(m->r) & 0x78) | pp);
  if (m->c->mode != DIFF_64) {
    last |= 0x40;
  } else if (diff_percent(m->r, 50)) {
    last |= 0x80;
  }
  put(m, last);
}

static void put_opcode(Maker *m)
{
  const DiffForm *f = m->form;
  if (f->vex) {
    put_vex(m);
    put(m, f->opcode);
    return;
  }
  if (m->c->mode == DIFF_64 && diff_percent(m->r, 60)) {
    put(m, 0x40 | (diff_random(m->r) & 15));
  }
  if (f->map != X86_MAP_ONE) {
    put(m, 0x0f);
  }
  if (f->map == X86_MAP_0F38 || f->map == X86_MAP_0F3A) {
    put(m, f->map == X86_MAP_0F38 ? 0x38 : 0x3a);
  }
  put(m, f->opcode);
}

static void put_modrm(Maker *m)
{
  const DiffForm *f = m->form;
  if (!f->memory && !f->registers) {
    return;
  }
  m->modrm_at = m->n;
  bool memory = f->memory && (!f->registers || diff_percent(m->r, 45));
  uint8_t modrm = (uint8_t)diff_random(m->r);
  if (!memory) {
    modrm |= 0xc0;
  } else if (m->sequence) {
    bool has_67 = memchr(m->bytes, 0x67, m->n) != NULL;
    bool is_16 = m->c->mode == DIFF_16 && !has_67;
    modrm = (modrm & 0x38) | (is_16 ? 6 : 5); /* absolute or relative to rip */
  } else {
    while (modrm >= 0xc0) {
      modrm = (uint8_t)diff_random(m->r);
    }
  }
  if (f->modrm_reg >= 0) {
    modrm = (uint8_t)((modrm & 0xc7) | f->modrm_reg << 3);
  }
  if (f->modrm_rm >= 0) {
    modrm = (uint8_t)((modrm & 0xf8) | f->modrm_rm);
  }
  put(m, modrm);
}

/* ---- operands ------------------------------------------------------------------------------------------------------------ */

/* The linear base of a segment, as both sides have it. */
static uint64_t base_of(const Maker *m, unsigned seg)
{
  switch (seg) {
  case X86_CS:
    return diff_cs_base(m->c->mode);
  case X86_SS:
    return diff_ss_base(m->c->mode);
  case X86_GS:
    return m->c->mode == DIFF_64 ? DIFF_DATA : 0; /* elsewhere a null selector: #GP */
  case X86_FS:
    return 0;
  default:
    return diff_ds_base(m->c->mode);
  }
}

/* A linear address for an operand in `seg`: mostly aligned and inside of the data pages (of the stack's, where only these can
 * be reached), at times at an edge. */
static uint32_t pick_target(Maker *m, unsigned seg)
{
  unsigned choice = diff_below(m->r, 100);
  if (m->c->mode == DIFF_16 && seg == X86_SS) {
    return choice < 92 ? DIFF_STACK + DIFF_STACK_BYTES / 2 + 64 + diff_below(m->r, 128)
                       : DIFF_STACK + DIFF_STACK_BYTES - diff_below(m->r, 20);
  }
  if (choice < 75) {
    return DIFF_DATA + 2 * DIFF_PAGE + 16 * diff_below(m->r, 16);
  }
  if (choice < 88) {
    return DIFF_DATA + 2 * DIFF_PAGE + diff_below(m->r, 256);
  }
  if (choice < 94) {
    return DIFF_DATA + DIFF_PAGE - diff_below(m->r, 32); /* crosses pages */
  }
  if (choice < 96) {
    return DIFF_DATA - diff_below(m->r, 20); /* from the hole in; in 16-bit mode, at the segment's end */
  }
  if (choice < 98) {
    return DIFF_DATA + DIFF_DATA_BYTES - diff_below(m->r, 20); /* into the read-only page */
  }
  return DIFF_DATA + DIFF_DATA_BYTES + DIFF_PAGE - diff_below(m->r, 20); /* out of it */
}

static unsigned displacement_at(const Maker *m)
{
  return m->modrm_at + 1 + (m->d.addr_size != 1 && (m->bytes[m->modrm_at] & 7) == 4);
}

static void patch(Maker *m, unsigned at, uint64_t value, unsigned bytes)
{
  memcpy(m->bytes + at, &value, bytes);
}

/* Sets an address register; bits above the address size are anything. */
static void set_address(Maker *m, unsigned reg, uint64_t value)
{
  uint64_t *gpr = &m->c->before.gpr[reg];
  uint64_t mask = m->d.addr_size == 1 ? 0xffff : m->d.addr_size == 2 ? 0xffffffff : ~0ull;
  *gpr = (value & mask) | (*gpr & ~mask);
}

/* Sets base and index, or the displacement, so that the operand lies at `target`. */
static bool aim(Maker *m, uint32_t target)
{
  X86Decoded *d = &m->d;
  uint64_t *gpr = m->c->before.gpr;
  uint64_t wanted = (uint64_t)target - base_of(m, d->seg);
  if (d->rip_relative) {
    patch(m, displacement_at(m), wanted - (m->c->code_address + (uint64_t)(m->bytes - m->c->code) + d->length), 4);
    return true;
  }
  uint64_t index = 0;
  if (d->index != X86_NO_REG) {
    set_address(m, d->index, (gpr[d->index] & 0xfff) - 0x800);
    index = gpr[d->index] << d->scale;
  }
  if (d->base == X86_NO_REG) {
    patch(m, displacement_at(m), wanted - index, d->addr_size == 1 ? 2 : 4);
    return true;
  }
  if (d->base == d->index) {
    return false;
  }
  set_address(m, d->base, wanted - index - (uint64_t)d->disp);
  return true;
}

/* Where the case's memory has 16 bytes at a linear address, or NULL. */
static uint8_t *memory_at(Maker *m, uint64_t linear)
{
  if (linear >= DIFF_DATA && linear + 16 <= DIFF_DATA + DIFF_DATA_BYTES) {
    return m->c->before.data + (linear - DIFF_DATA);
  }
  if (linear >= DIFF_STACK && linear + 16 <= DIFF_STACK + DIFF_STACK_BYTES) {
    return m->c->before.stack + (linear - DIFF_STACK);
  }
  return NULL;
}

static uint64_t label(const Maker *m)
{
  return m->c->code_address - diff_cs_base(m->c->mode) + m->n + LABEL_OFFSET;
}

/* What an instruction looks at beside its operands, set to what makes it do something. `target` is its operand in memory. */
static bool fit_implicit(Maker *m, uint32_t target)
{
  uint64_t *gpr = m->c->before.gpr;
  bool addressed[16] = { false }; /* registers that the operand's address needs as they are */
  if (x86_decoded_is_memory(&m->d)) {
    addressed[m->d.base & 15] = addressed[m->d.index & 15] = true;
  }
  uint8_t *data = memory_at(m, target), *stack = memory_at(m, gpr[X86_RSP] + base_of(m, X86_SS));
  uint64_t to = label(m);
  switch (m->d.insn) {
  case X86_I_JMP_IND:
  case X86_I_CALL_IND:
    if (m->d.mod == 3) {
      gpr[m->d.rm] = to;
    } else if (data) {
      memcpy(data, &to, 8);
    } else {
      return false; /* a jump to anywhere */
    }
    break;
  case X86_I_RET:
    if (stack) {
      memcpy(stack, &to, 8);
    }
    break;
  case X86_I_POPF:
    if (stack) {
      uint64_t flags = (diff_random(m->r) & (X86_F_ARITH | X86_F_DF | X86_F_IF)) | X86_F_FIXED;
      memcpy(stack, &flags, 8);
    }
    break;
  case X86_I_DIV:
  case X86_I_IDIV: /* mostly without overflow */
    if (diff_percent(m->r, 70) && !addressed[X86_RDX]) {
      gpr[X86_RDX] = m->d.insn == X86_I_DIV || !(gpr[X86_RAX] >> (8 << m->d.op_size >> 1) & 1) ? 0 : ~0ull;
    }
    break;
  case X86_I_CMPXCHG:
    if (diff_percent(m->r, 40) && data && m->d.mod != 3 && !addressed[X86_RAX]) {
      memcpy(&gpr[X86_RAX], data, 8);
    }
    break;
  case X86_I_CMPXCHG8B:
    if (diff_percent(m->r, 50) && data && !addressed[X86_RAX] && !addressed[X86_RDX]) {
      uint64_t low, high;
      memcpy(&low, data, 8);
      memcpy(&high, data + 8, 8);
      gpr[X86_RAX] = m->d.rex_w ? low : (uint32_t)low;
      gpr[X86_RDX] = m->d.rex_w ? high : low >> 32;
    }
    break;
  default:
    break;
  }
  return true;
}

/* Registers that name memory without modrm. Strings: rSI in DS (overridable), rDI in ES. */
static void fit_strings(Maker *m)
{
  unsigned seg = m->d.seg_override == X86_NO_REG ? X86_DS : m->d.seg_override;
  bool string = is_string((X86Insn)m->d.insn);
  uint32_t source = pick_target(m, seg), destination = pick_target(m, string ? X86_ES : seg);
  if (diff_percent(m->r, 25) && base_of(m, seg) == base_of(m, X86_ES)) { /* equal or overlapping operands */
    source = destination + diff_below(m->r, 3) * 8;
  }
  set_address(m, X86_RSI, source - base_of(m, seg));
  set_address(m, X86_RDI, destination - base_of(m, string ? X86_ES : seg));
  if (string && m->d.rep) {
    set_address(m, X86_RCX, diff_below(m->r, 40));
  }
}

static void fit_implicit_addresses(Maker *m)
{
  const DiffForm *f = m->form;
  unsigned seg = m->d.seg_override == X86_NO_REG ? X86_DS : m->d.seg_override;
  switch (m->d.insn) {
  case X86_I_XLAT:
    set_address(m, X86_RBX, pick_target(m, seg) - base_of(m, seg));
    break;
  case X86_I_LEAVE:
  case X86_I_ENTER: /* outer frames lie above what ENTER pushes */
    m->c->before.gpr[X86_RBP] =
        DIFF_STACK + DIFF_STACK_BYTES / 2 + 0x180 + 8 * diff_below(m->r, 16) - diff_ss_base(m->c->mode);
    break;
  default:
    if (is_string((X86Insn)m->d.insn) ||
        (f->kind == DIFF_VECTOR && f->vector->flags & VEC_CUSTOM && f->map == X86_MAP_0F)) {
      fit_strings(m);
    }
    break;
  }
}

static bool has_operand(const X86Decoded *d, X86OperandClass class)
{
  for (unsigned i = 0; i < 3; i++) {
    if (x86_operand_class((X86Operand)d->row.operands[i]) == class) {
      return true;
    }
  }
  return false;
}

/* Immediates that are addresses. */
static void fit_immediates(Maker *m)
{
  X86Decoded *d = &m->d;
  if (has_operand(d, X86_OPC_J)) {
    unsigned bytes = x86_operand_width(d, X86_OPD_Jb) == 0 && d->row.operands[0] == X86_OPD_Jb ? 1
                     : d->op_size == 1                                                         ? 2
                                                                                               : 4;
    patch(m, d->length - bytes, diff_below(m->r, LABEL_OFFSET), bytes);
  } else if (has_operand(d, X86_OPC_O)) {
    unsigned bytes = 1u << d->addr_size;
    patch(m, d->length - bytes, pick_target(m, d->seg) - base_of(m, d->seg), bytes);
  }
}

/* BT and kin with a register reach beyond their operand: near is enough. False where that register is part of the
 * address too, which would lead out of the tester's pages. */
static bool fit_bit_offset(Maker *m)
{
  X86Decoded *d = &m->d;
  if (d->insn < X86_I_BT || d->insn > X86_I_BTC || !x86_decoded_is_memory(d) || !has_operand(d, X86_OPC_G)) {
    return true;
  }
  if (d->reg == d->base || d->reg == d->index) {
    return false;
  }
  m->c->before.gpr[d->reg] = (uint64_t)(int64_t)(int16_t)diff_random(m->r) & (diff_percent(m->r, 50) ? 0xff : ~0ull);
  return true;
}

/* FXRSTOR and LDMXCSR: mostly an MXCSR without reserved bits. */
static void fit_state_operand(Maker *m, uint32_t target)
{
  unsigned at = m->form->modrm_reg == 1 ? 24 : 0;
  uint8_t *data = memory_at(m, target + at);
  if (data && diff_percent(m->r, 85)) {
    uint32_t mxcsr = (diff_random(m->r) & 0xffff) | (diff_percent(m->r, 70) ? 0x1f80 : 0);
    memcpy(data, &mxcsr, 4);
  }
}

/* ---- what may stand in a sequence ---------------------------------------------------------------------------------------- */

static bool may_follow(const DiffForm *f)
{
  bool stores_pointers =
      f->memory && (f->kind == DIFF_X87 ? (f->opcode == 0xd9 || f->opcode == 0xdd) && f->modrm_reg == 6
                                        : f->kind == DIFF_FPU_STATE && f->modrm_reg == 0);
  if (stores_pointers) { /* FIP, FDP, FOP: see compare.c */
    return false;
  }
  if (f->kind != DIFF_INTEGER) {
    return f->kind != DIFF_VECTOR || !(f->vector->flags & VEC_CUSTOM) || f->map != X86_MAP_0F;
  }
  if (f->row->attr & X86_ROW_RING0) {
    return false;
  }
  switch (f->row->insn) {
  case X86_I_JMP:
  case X86_I_CALL:
  case X86_I_RET:
  case X86_I_JCC:
  case X86_I_JMP_IND:
  case X86_I_CALL_IND:
  case X86_I_LOOP:
  case X86_I_LOOPE:
  case X86_I_LOOPNE:
  case X86_I_JCXZ:
  case X86_I_PUSH:
  case X86_I_POP:
  case X86_I_PUSHA:
  case X86_I_POPA:
  case X86_I_PUSHF:
  case X86_I_POPF:
  case X86_I_ENTER:
  case X86_I_LEAVE:
  case X86_I_PUSH_SEG:
  case X86_I_XLAT:
  case X86_I_INT3:
  case X86_I_INTO:
  case X86_I_BOUND:
  case X86_I_INS:
  case X86_I_OUTS:
  case X86_I_IN:
  case X86_I_OUT:
  case X86_I_CLI:
  case X86_I_STI:
    return false;
  case X86_I_ROL:
  case X86_I_ROR:
  case X86_I_RCL:
  case X86_I_RCR: /* see compare.c */
    return f->opcode == 0xd0 || f->opcode == 0xd1;
  case X86_I_BT:
  case X86_I_BTS:
  case X86_I_BTR:
  case X86_I_BTC: /* with a register they reach anywhere */
    return f->modrm_reg >= 0;
  default:
    return !is_string((X86Insn)f->row->insn);
  }
}

/* ---- the case --------------------------------------------------------------------------------------------------------------- */

static bool uses_stack(const X86Decoded *d)
{
  return d->insn == X86_I_PUSH || d->insn == X86_I_POP || d->insn == X86_I_CALL_IND;
}

static bool make_insn(Maker *m)
{
  DiffCase *c = m->c;
  unsigned code_size = 1 + c->mode;
  put_legacy_prefixes(m);
  put_opcode(m);
  put_modrm(m);
  for (unsigned i = m->n; i < m->n + 16; i++) {
    m->bytes[i] = (uint8_t)diff_random(m->r);
  }
  if (x86_decode(&m->d, m->bytes, 16, code_size, true) != X86_DECODE_OK) {
    return false;
  }
  m->n = m->d.length;
  bool memory = x86_decoded_is_memory(&m->d);
  if (m->sequence && (memory ? m->d.base != X86_NO_REG || m->d.index != X86_NO_REG : has_operand(&m->d, X86_OPC_O))) {
    return false;
  }
  fit_implicit_addresses(m);
  uint32_t target = pick_target(m, m->d.seg);
  if (memory && uses_stack(&m->d) && (m->d.base == X86_RSP || m->d.index == X86_RSP)) {
    return false; /* the stack stays in its pages */
  }
  if (memory && !aim(m, target)) {
    return false;
  }
  if (!fit_bit_offset(m)) {
    return false;
  }
  fit_immediates(m);
  if (!m->sequence && !fit_implicit(m, memory ? target : 0)) {
    return false;
  }
  if (m->form->kind == DIFF_FPU_STATE && memory) {
    fit_state_operand(m, target);
  }
  return true;
}

static const DiffForm *pick_follower(DiffRandom *r, const GArray *forms, const DiffForm *first)
{
  for (;;) {
    const DiffForm *f = &g_array_index(forms, DiffForm, diff_below(r, forms->len));
    /* Half of them of the same kind, as runs of vector or x87 code are. */
    if (may_follow(f) && (f->kind == first->kind || diff_percent(r, 30))) {
      return f;
    }
  }
}

/* A conditional jump over the next instruction (or to it): blocks end here, with flags that live on. Returns where its
 * displacement is. */
static uint8_t *put_jump(DiffCase *c, DiffRandom *r)
{
  c->code[c->code_length++] = (uint8_t)(0x70 | diff_below(r, 16));
  c->code[c->code_length++] = 0;
  return c->code + c->code_length - 1;
}

static bool put_insn(DiffCase *c, DiffRandom *r, const DiffForm *form, bool sequence)
{
  Maker m = { .c = c, .r = r, .form = form, .sequence = sequence, .bytes = c->code + c->code_length };
  if (!(c->mode == DIFF_64 ? form->in64 : form->in32) || !make_insn(&m)) {
    return false;
  }
  c->code_length += m.n;
  return true;
}

bool diff_generate(DiffCase *c, DiffRandom *r, const GArray *forms, const DiffForm *form, DiffMode mode,
                   unsigned n_insns, uint32_t code_address)
{
  memset(c, 0, sizeof *c);
  c->mode = mode;
  c->code_address = code_address;
  diff_random_state(r, &c->before);
  c->before.gpr[X86_RSP] = DIFF_STACK + DIFF_STACK_BYTES / 2 +
                           (diff_percent(r, 70) ? 8 * diff_below(r, 8) : diff_below(r, 64)) - diff_ss_base(mode);
  bool sequence = n_insns > 1 && may_follow(form);
  if (!put_insn(c, r, form, sequence)) {
    return false;
  }
  for (unsigned i = 1; sequence && i < n_insns; i++) {
    uint8_t *skip = diff_percent(r, 20) ? put_jump(c, r) : NULL;
    unsigned start = c->code_length;
    put_insn(c, r, pick_follower(r, forms, form), true);
    if (skip && diff_percent(r, 50)) {
      *skip = (uint8_t)(c->code_length - start);
    }
  }
  memset(c->code + c->code_length, 0xcc, 16);
  c->code_length += 16;
  if (mode != DIFF_64) {
    for (unsigned i = 0; i < 16; i++) {
      c->before.gpr[i] = i < 8 ? (uint32_t)c->before.gpr[i] : 0;
    }
  }
  return true;
}

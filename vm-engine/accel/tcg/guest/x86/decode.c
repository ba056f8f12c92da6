/* See decode.h. The tables are decode-tables.c's view of decode-table-*.def. */
#include "vm-engine/accel/tcg/guest/x86/decode.h"

#include "vm-engine/accel/tcg/guest/x86/decode-tables.h"

/* The instruction's bytes, in order. Once something went wrong, all further bytes read as 0. */
typedef struct Reader {
  const uint8_t *bytes;
  unsigned n_bytes, position;
  X86DecodeStatus status;
} Reader;

static uint8_t next_byte(Reader *r)
{
  if (r->status != X86_DECODE_OK)
    return 0;
  if (r->position >= X86_MAX_INSN_BYTES) {
    r->status = X86_DECODE_TOO_LONG;
    return 0;
  }
  if (r->position >= r->n_bytes) {
    r->status = X86_DECODE_SHORT;
    return 0;
  }
  return r->bytes[r->position++];
}

static uint8_t peek_byte(Reader *r)
{
  uint8_t byte = next_byte(r);
  if (r->status == X86_DECODE_OK)
    r->position--;
  return byte;
}

static uint64_t next_value(Reader *r, unsigned n_bytes)
{
  uint64_t value = 0;
  for (unsigned i = 0; i < n_bytes; i++)
    value |= (uint64_t)next_byte(r) << (8 * i);
  return value;
}

static int64_t next_signed(Reader *r, unsigned n_bytes)
{
  unsigned unused = 64 - 8 * n_bytes;
  return (int64_t)(next_value(r, n_bytes) << unused) >> unused;
}

/* ---- prefixes and opcode ------------------------------------------------------------------------------------------ */

static void set_segment_override(X86Decoded *d, uint8_t seg)
{
  if (d->code_size != 3 || seg == X86_FS || seg == X86_GS)
    d->seg_override = seg;
}

static bool take_prefix(X86Decoded *d, uint8_t byte)
{
  switch (byte) {
  case 0x26:
    set_segment_override(d, X86_ES);
    return true;
  case 0x2e:
    set_segment_override(d, X86_CS);
    return true;
  case 0x36:
    set_segment_override(d, X86_SS);
    return true;
  case 0x3e:
    set_segment_override(d, X86_DS);
    return true;
  case 0x64:
    set_segment_override(d, X86_FS);
    return true;
  case 0x65:
    set_segment_override(d, X86_GS);
    return true;
  case 0x66:
    d->prefix_66 = true;
    return true;
  case 0x67:
    d->prefix_67 = true;
    return true;
  case 0xf0:
    d->lock = true;
    return true;
  case 0xf2:
  case 0xf3:
    d->rep = byte;
    return true;
  default:
    return false;
  }
}

static void set_rex(X86Decoded *d, uint8_t rex)
{
  d->has_rex = rex != 0;
  d->rex_w = rex >> 3 & 1;
  d->rex_r = rex >> 2 & 1;
  d->rex_x = rex >> 1 & 1;
  d->rex_b = rex & 1;
}

/* Reads prefixes; returns the byte behind them. A REX counts only right before the opcode. */
static uint8_t read_prefixes(Reader *r, X86Decoded *d)
{
  for (;;) {
    uint8_t byte = next_byte(r);
    if (r->status != X86_DECODE_OK)
      return 0;
    if (d->code_size == 3 && (byte & 0xf0) == 0x40) {
      set_rex(d, byte);
      continue;
    }
    if (!take_prefix(d, byte))
      return byte;
    set_rex(d, 0);
  }
}

/* C4 and C5 are VEX in 64-bit mode, and in other protected modes where LES and LDS would have a register operand. */
static bool is_vex(Reader *r, const X86Decoded *d, uint8_t byte, bool protected_mode)
{
  if (byte != 0xc4 && byte != 0xc5)
    return false;
  return d->code_size == 3 || (protected_mode && peek_byte(r) >= 0xc0);
}

static void read_vex(Reader *r, X86Decoded *d, uint8_t first)
{
  if (d->has_rex || d->prefix_66 || d->rep || d->lock)
    r->status = X86_DECODE_INVALID;
  bool wide = d->code_size == 3;
  uint8_t p1 = next_byte(r);
  uint8_t last = p1;
  d->vex = true;
  d->map = X86_MAP_0F;
  d->rex_r = wide && !(p1 & 0x80);
  if (first == 0xc4) {
    last = next_byte(r);
    d->rex_x = wide && !(p1 & 0x40);
    d->rex_b = wide && !(p1 & 0x20);
    d->rex_w = wide && (last & 0x80);
    d->map = p1 & 0x1f;
    if ((d->map < X86_MAP_0F || d->map > X86_MAP_0F3A) && r->status == X86_DECODE_OK)
      r->status = X86_DECODE_INVALID;
  }
  d->vex_v = (~last >> 3 & 15) & (wide ? 15 : 7);
  d->vex_l = last >> 2 & 1;
  d->vex_pp = last & 3;
  d->opcode = next_byte(r);
}

static void read_opcode(Reader *r, X86Decoded *d, bool protected_mode)
{
  uint8_t byte = read_prefixes(r, d);
  if (is_vex(r, d, byte, protected_mode)) {
    read_vex(r, d, byte);
    return;
  }
  d->map = X86_MAP_ONE;
  if (byte == 0x0f) {
    d->map = X86_MAP_0F;
    byte = next_byte(r);
    if (byte == 0x38 || byte == 0x3a) {
      d->map = byte == 0x38 ? X86_MAP_0F38 : X86_MAP_0F3A;
      byte = next_byte(r);
    }
  }
  d->opcode = byte;
}

/* ---- rows --------------------------------------------------------------------------------------------------------------- */

static uint8_t effective_prefix(const X86Decoded *d)
{
  static const uint8_t by_pp[4] = { 0, 0x66, 0xf3, 0xf2 };
  if (d->vex)
    return by_pp[d->vex_pp];
  return d->rep ? d->rep : d->prefix_66 ? 0x66 : 0;
}

static const X86Row *find_row(Reader *r, const X86Decoded *d)
{
  const X86Row *row = x86_table_row((X86Map)d->map, d->opcode, d->code_size == 3);
  if (d->vex || (row->attr & X86_ROW_PREFIXED)) {
    const X86Row *other = x86_table_prefixed((X86Map)d->map, d->opcode, effective_prefix(d), d->vex);
    if (other)
      return other;
    /* CRC32, TZCNT and kin lie under F2 or F3; the same opcode's other form may be there under 66 alone. */
    if (d->vex)
      r->status = X86_DECODE_INVALID;
  }
  return row;
}

/* The group member, with the operands of the opcode's own row where it has none. */
static void resolve_row(Reader *r, X86Decoded *d)
{
  const X86Row *row = find_row(r, d);
  d->row = *row;
  if (x86_insn_is_group((X86Insn)row->insn)) {
    const X86Row *member = x86_table_group((X86Insn)row->insn, peek_byte(r));
    d->row.insn = member->insn;
    if (member->operands[0] != X86_OPD___)
      memcpy(d->row.operands, member->operands, sizeof d->row.operands);
    d->row.attr |= member->attr | X86_ROW_MODRM;
  }
  d->insn = d->row.insn;
}

static void set_sizes(X86Decoded *d)
{
  uint16_t attr = d->row.attr;
  if (d->code_size == 3) {
    d->addr_size = d->prefix_67 ? 2 : 3;
    if (d->rex_w || (attr & X86_ROW_FORCE64))
      d->op_size = 3;
    else if (d->prefix_66)
      d->op_size = 1;
    else
      d->op_size = attr & X86_ROW_DEF64 ? 3 : 2;
  } else {
    d->addr_size = d->prefix_67 ? 3 - d->code_size : d->code_size;
    d->op_size = d->prefix_66 ? 3 - d->code_size : d->code_size;
  }
}

/* ---- modrm --------------------------------------------------------------------------------------------------------------- */

static void read_modrm_16(Reader *r, X86Decoded *d)
{
  static const uint8_t bases[8] = { X86_RBX, X86_RBX, X86_RBP, X86_RBP, X86_RSI, X86_RDI, X86_RBP, X86_RBX };
  static const uint8_t indices[8] = {
    X86_RSI, X86_RDI, X86_RSI, X86_RDI, X86_NO_REG, X86_NO_REG, X86_NO_REG, X86_NO_REG
  };
  unsigned rm = d->modrm & 7;
  if (d->mod == 0 && rm == 6) {
    d->disp = next_signed(r, 2);
    return;
  }
  d->base = bases[rm];
  d->index = indices[rm];
  if (d->mod)
    d->disp = next_signed(r, d->mod == 1 ? 1 : 2);
}

/* Returns whether a 32-bit displacement follows in place of a base. */
static bool read_sib(Reader *r, X86Decoded *d)
{
  uint8_t sib = next_byte(r);
  unsigned index = (sib >> 3 & 7) | d->rex_x << 3;
  d->scale = sib >> 6;
  d->index = index == 4 ? X86_NO_REG : (uint8_t)index;
  if ((sib & 7) == 5 && d->mod == 0)
    return true;
  d->base = (sib & 7) | d->rex_b << 3;
  return false;
}

static void read_modrm_32(Reader *r, X86Decoded *d)
{
  unsigned rm = d->modrm & 7;
  bool no_base = false;
  if (rm == 4) {
    no_base = read_sib(r, d);
  } else if (rm == 5 && d->mod == 0) {
    no_base = true;
    d->rip_relative = d->code_size == 3;
  } else {
    d->base = (uint8_t)(rm | d->rex_b << 3);
  }
  if (no_base || d->mod == 2)
    d->disp = next_signed(r, 4);
  else if (d->mod == 1)
    d->disp = next_signed(r, 1);
}

static bool has_operand_class(const X86Decoded *d, X86OperandClass class)
{
  for (unsigned i = 0; i < 3; i++)
    if (x86_operand_class((X86Operand)d->row.operands[i]) == class)
      return true;
  return false;
}

static bool needs_modrm(const X86Decoded *d)
{
  if (d->row.attr & X86_ROW_MODRM)
    return true;
  for (unsigned i = 0; i < 3; i++)
    if (x86_class_needs_modrm(x86_operand_class((X86Operand)d->row.operands[i])))
      return true;
  return false;
}

static void read_modrm(Reader *r, X86Decoded *d)
{
  d->has_modrm = true;
  d->modrm = next_byte(r);
  d->mod = has_operand_class(d, X86_OPC_RANY) ? 3 : d->modrm >> 6;
  d->reg = (d->modrm >> 3 & 7) | d->rex_r << 3;
  d->rm = (d->modrm & 7) | d->rex_b << 3;
  if (d->mod == 3)
    return;
  if (d->addr_size == 1)
    read_modrm_16(r, d);
  else
    read_modrm_32(r, d);
  if (d->base == X86_RBP || d->base == X86_RSP)
    d->seg = X86_SS;
}

/* ---- immediates ------------------------------------------------------------------------------------------------------------ */

static void read_immediates(Reader *r, X86Decoded *d)
{
  unsigned n_immediates = 0;
  for (unsigned i = 0; i < 3; i++) {
    X86Operand kind = (X86Operand)d->row.operands[i];
    unsigned bytes = 1u << x86_operand_width(d, kind);
    switch (x86_operand_class(kind)) {
    case X86_OPC_U:
      if (n_immediates++)
        d->imm2 = (uint16_t)next_value(r, bytes);
      else
        d->imm = (int64_t)next_value(r, bytes);
      break;
    case X86_OPC_SX:
    case X86_OPC_J:
      d->imm = next_signed(r, bytes);
      break;
    case X86_OPC_O:
      d->disp = (int64_t)next_value(r, 1u << d->addr_size);
      break;
    case X86_OPC_A:
      d->imm = (int64_t)next_value(r, bytes);
      d->imm2 = (uint16_t)next_value(r, 2);
      break;
    default:
      break;
    }
  }
}

/* ---- validity -------------------------------------------------------------------------------------------------------------- */

static bool lock_is_allowed(const X86Decoded *d)
{
  X86OperandClass class = x86_operand_class((X86Operand)d->row.operands[0]);
  return (d->row.attr & X86_ROW_LOCK) && x86_decoded_is_memory(d) && (class == X86_OPC_E || class == X86_OPC_M);
}

/* Control registers 0, 2, 3, 4 and 8 exist, and debug registers below 8 (DR4 and DR5 depend on CR4.DE). */
static bool is_valid_control_register(const X86Decoded *d)
{
  if (has_operand_class(d, X86_OPC_CR))
    return d->reg < 9 && (1u << d->reg & 0x11d);
  return !has_operand_class(d, X86_OPC_DR) || d->reg < 8;
}

static bool is_valid(const X86Decoded *d, bool protected_mode)
{
  uint16_t attr = d->row.attr;
  if (d->insn == X86_I_INVALID || (d->lock && !lock_is_allowed(d)))
    return false;
  if (d->code_size == 3 ? attr & X86_ROW_NO64 : attr & X86_ROW_ONLY64)
    return false;
  if ((attr & X86_ROW_PROTECTED) && !protected_mode)
    return false;
  if (d->vex && (!(attr & X86_ROW_VEX) || d->vex_l || (d->vex_v && !has_operand_class(d, X86_OPC_B))))
    return false;
  if (!is_valid_control_register(d))
    return false;
  if (x86_decoded_is_memory(d))
    return !has_operand_class(d, X86_OPC_R);
  return !has_operand_class(d, X86_OPC_M);
}

X86DecodeStatus x86_decode(X86Decoded *d, const uint8_t *bytes, unsigned n_bytes, unsigned code_size,
                           bool protected_mode)
{
  Reader r = { .bytes = bytes, .n_bytes = n_bytes, .status = X86_DECODE_OK };
  *d = (X86Decoded){
    .code_size = (uint8_t)code_size, .seg_override = X86_NO_REG, .base = X86_NO_REG, .index = X86_NO_REG, .seg = X86_DS
  };
  read_opcode(&r, d, protected_mode);
  if (r.status == X86_DECODE_OK)
    resolve_row(&r, d);
  d->length = (uint8_t)r.position;
  if (r.status != X86_DECODE_OK)
    return r.status;
  set_sizes(d);
  d->opcode_reg = (d->opcode & 7) | d->rex_b << 3;
  if (needs_modrm(d))
    read_modrm(&r, d);
  if (d->seg_override != X86_NO_REG)
    d->seg = d->seg_override;
  read_immediates(&r, d);
  d->length = (uint8_t)r.position;
  if (r.status != X86_DECODE_OK)
    return r.status;
  return is_valid(d, protected_mode) ? X86_DECODE_OK : X86_DECODE_INVALID;
}

/* Turns decode-*.def into arrays. The short attribute names exist here only. */
#include "vm-engine/accel/tcg/guest/x86/decode-tables.h"

#include <glib.h>

enum {
  LOCK = X86_ROW_LOCK,
  NO64 = X86_ROW_NO64,
  ONLY64 = X86_ROW_ONLY64,
  DEF64 = X86_ROW_DEF64,
  FORCE64 = X86_ROW_FORCE64,
  RING0 = X86_ROW_RING0,
  PROTECTED = X86_ROW_PROTECTED,
  PREFIXED = X86_ROW_PREFIXED,
  FPUOP = X86_ROW_FPU,
  MODRM = X86_ROW_MODRM,
  VEX = X86_ROW_VEX,
};
enum { NP = 0, P66 = 0x66, F2 = 0xf2, F3 = 0xf3 };

#define ROW_VALUE(insn, a, b, c, attr)                                                                                 \
  {                                                                                                                    \
    X86_I_##insn, { X86_OPD_##a, X86_OPD_##b, X86_OPD_##c }, (attr)                                                    \
  }
#define ROW(opcode, insn, a, b, c, attr) [opcode] = ROW_VALUE(insn, a, b, c, attr),

static const X86Row one_byte_map[256] = {
#include "vm-engine/accel/tcg/guest/x86/decode-table-one.def"
};
static const X86Row map_0f[256] = {
#include "vm-engine/accel/tcg/guest/x86/decode-table-0f.def"
};
/* Vectors but for the corner at F0–F7. */
static const X86Row map_0f38[256] = {
  [0x00 ... 0xef] = ROW_VALUE(FPU, __, __, __, FPUOP | MODRM),
  [0xf0] = ROW_VALUE(MOVBE, Gv, Mv, __, PREFIXED),
  [0xf1] = ROW_VALUE(MOVBE, Mv, Gv, __, PREFIXED),
  [0xf2 ... 0xf7] = ROW_VALUE(INVALID, __, __, __, PREFIXED),
};
static const X86Row map_0f3a[256] = {
  [0x00 ... 0xef] = ROW_VALUE(FPU, __, Ib, __, FPUOP | MODRM),
};
static const X86Row movsxd_row = ROW_VALUE(MOVSXD, Gv, Ed, __, 0);
#undef ROW

/* By group, mod == 3, modrm.reg. */
static const X86Row group_rows[X86_I_GROUP17 - X86_I_GROUP1 + 1][2][8] = {
#define GROUP_M(group, reg, ...)      [X86_I_##group - X86_I_GROUP1][0][reg] = ROW_VALUE(__VA_ARGS__),
#define GROUP_R(group, reg, ...)      [X86_I_##group - X86_I_GROUP1][1][reg] = ROW_VALUE(__VA_ARGS__),
#define GROUP_MR(group, reg, ...)     GROUP_M(group, reg, __VA_ARGS__) GROUP_R(group, reg, __VA_ARGS__)
#define GROUP(group, reg, forms, ...) GROUP_##forms(group, reg, __VA_ARGS__)
#define EXT01(modrm, insn, attr)
#define PREFIXED(map, opcode, prefix, insn, a, b, c, attr)
#include "vm-engine/accel/tcg/guest/x86/decode-table-groups.def"
#undef GROUP
#undef EXT01
#undef PREFIXED
};

typedef struct Ext01Row {
  uint8_t modrm;
  X86Row row;
} Ext01Row;
static const Ext01Row ext01_rows[] = {
#define GROUP(group, reg, forms, insn, a, b, c, attr)
#define EXT01(modrm, insn, attr) { modrm, ROW_VALUE(insn, __, __, __, attr) },
#define PREFIXED(map, opcode, prefix, insn, a, b, c, attr)
#include "vm-engine/accel/tcg/guest/x86/decode-table-groups.def"
#undef GROUP
#undef EXT01
#undef PREFIXED
};

typedef struct PrefixedRow {
  uint8_t map, opcode, prefix;
  X86Row row;
} PrefixedRow;
static const PrefixedRow prefixed_rows[] = {
#define GROUP(group, reg, forms, insn, a, b, c, attr)
#define EXT01(modrm, insn, attr)
#define PREFIXED(map, opcode, prefix, insn, a, b, c, attr) { map, opcode, prefix, ROW_VALUE(insn, a, b, c, attr) },
#include "vm-engine/accel/tcg/guest/x86/decode-table-groups.def"
#undef GROUP
#undef EXT01
#undef PREFIXED
};

const X86Row *x86_table_row(X86Map map, uint8_t opcode, bool in_64bit_mode)
{
  static const X86Row *const maps[4] = { one_byte_map, map_0f, map_0f38, map_0f3a };
  if (map == X86_MAP_ONE && opcode == 0x63 && in_64bit_mode)
    return &movsxd_row;
  return &maps[map & 3][opcode];
}

const X86Row *x86_table_prefixed(X86Map map, uint8_t opcode, uint8_t prefix, bool vex)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(prefixed_rows); i++) {
    const PrefixedRow *p = &prefixed_rows[i];
    if (p->map == map && p->opcode == opcode && p->prefix == prefix && !!(p->row.attr & X86_ROW_VEX) == vex)
      return &p->row;
  }
  return NULL;
}

bool x86_insn_is_group(X86Insn insn)
{
  return insn >= X86_I_GROUP1 && insn <= X86_I_GROUP17;
}

static const X86Row *find_ext01(uint8_t modrm)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(ext01_rows); i++)
    if (ext01_rows[i].modrm == modrm)
      return &ext01_rows[i].row;
  return NULL;
}

const X86Row *x86_table_group(X86Insn group, uint8_t modrm)
{
  const X86Row *ext = group == X86_I_GROUP7 && modrm >= 0xc0 ? find_ext01(modrm) : NULL;
  return ext ? ext : &group_rows[group - X86_I_GROUP1][modrm >= 0xc0][modrm >> 3 & 7];
}

/* ---- operand kinds ---------------------------------------------------------------------------------------------------- */

typedef enum Width { W_8, W_16, W_32, W_64, W_V, W_VZ, W_VY, W_VR, W_NO } Width;

static const struct {
  uint8_t class, width;
} operand_kinds[X86_N_OPERANDS] = {
#define OPERAND(name, class, width) [X86_OPD_##name] = { X86_OPC_##class, W_##width },
#include "vm-engine/accel/tcg/guest/x86/decode-operands.def"
#undef OPERAND
};

X86OperandClass x86_operand_class(X86Operand kind)
{
  return (X86OperandClass)operand_kinds[kind].class;
}

unsigned x86_operand_width(const X86Decoded *d, X86Operand kind)
{
  switch ((Width)operand_kinds[kind].width) {
  case W_8:
    return 0;
  case W_16:
    return 1;
  case W_32:
    return 2;
  case W_V:
    return d->op_size;
  case W_VZ:
    return d->op_size == 1 ? 1 : 2;
  case W_VY:
    return d->rex_w ? 3 : 2;
  case W_VR:
    return d->code_size == 3 ? 3 : 2;
  case W_64:
  case W_NO:
    break;
  }
  return 3;
}

bool x86_class_needs_modrm(X86OperandClass class)
{
  switch (class) {
  case X86_OPC_E:
  case X86_OPC_M:
  case X86_OPC_R:
  case X86_OPC_RANY:
  case X86_OPC_G:
  case X86_OPC_S:
  case X86_OPC_CR:
  case X86_OPC_DR:
    return true;
  default:
    return false;
  }
}

const char *x86_insn_name(X86Insn insn)
{
  static const char *const names[X86_N_INSNS] = {
#define INSN(name, family) #name,
#include "vm-engine/accel/tcg/guest/x86/decode-insns.def"
#undef INSN
  };
  return insn < X86_N_INSNS ? names[insn] : "?";
}

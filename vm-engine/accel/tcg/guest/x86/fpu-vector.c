/*
 * Translation of MMX and SSE. The guest's instruction goes into the IR as it is (ir_native) with its operands in CPU
 * state; memory operands are loaded beside them first; moves to and from memory need no instruction.
 *
 * While the guest unmasks SIMD exceptions (TCG_HF_SSE_UNMASKED), instructions that can raise them take a trial run: see
 * fpu_emit_trial().
 */
#include "vm-engine/accel/tcg/guest/x86/fpu-internal.h"

/* ---- the table --------------------------------------------------------------------------------------------------------- */

#define VEC(row_name, prefix, map, opcode, row_memory, row_reg, row_rm, row_flags, row_feature)                        \
  [(map)-1][opcode][VEC_##prefix] = { #row_name,    VEC_MEM_##row_memory, VEC_##row_reg,                               \
                                      VEC_##row_rm, VEC_##row_feature,    row_flags },
#define VECG(...)
enum {
  FP = VEC_FP,
  IMM = VEC_IMM,
  EFL = VEC_EFL,
  X0 = VEC_X0,
  RW = VEC_RW,
  MEMONLY = VEC_MEMONLY,
  CUSTOM = VEC_CUSTOM
};
static const X86VectorRow vector_rows[3][256][VEC_N_PREFIXES] = {
#include "vm-engine/accel/tcg/guest/x86/fpu-table-vector.def"
};
#undef VEC
#undef VECG

#define VEC(...)
#define VECG(row_name, prefix, map, opcode, group, row_rm, row_feature)                                                \
  [(opcode)-0x71][group][VEC_##prefix] = { #row_name,    VEC_MEM_NONE,      VEC_NO,                                    \
                                           VEC_##row_rm, VEC_##row_feature, VEC_IMM | VEC_GROUP },
static const X86VectorRow vector_group_rows[3][8][VEC_N_PREFIXES] = {
#include "vm-engine/accel/tcg/guest/x86/fpu-table-vector.def"
};
#undef VEC
#undef VECG

const X86VectorRow *x86_vector_row(unsigned prefix, unsigned map, uint8_t opcode, unsigned modrm_reg)
{
  if (map < 1 || map > 3 || prefix >= VEC_N_PREFIXES) {
    return NULL;
  }
  bool is_group = map == 1 && opcode >= 0x71 && opcode <= 0x73;
  const X86VectorRow *row =
      is_group ? &vector_group_rows[opcode - 0x71][modrm_reg & 7][prefix] : &vector_rows[map - 1][opcode][prefix];
  return row->name ? row : NULL;
}

static bool vec_has_feature(VecFeature feature)
{
  const X86CpuidFeatures *f = &x86_tcg_features;
  switch (feature) {
  case VEC_MMX:
    return f->leaf1_edx >> 23 & 1;
  case VEC_SSE:
    return f->leaf1_edx >> 25 & 1;
  case VEC_SSE2:
    return f->leaf1_edx >> 26 & 1;
  case VEC_SSE3:
    return f->leaf1_ecx & 1;
  case VEC_SSSE3:
    return f->leaf1_ecx >> 9 & 1;
  case VEC_SSE41:
    return f->leaf1_ecx >> 19 & 1;
  case VEC_SSE42:
    return f->leaf1_ecx >> 20 & 1;
  case VEC_AES:
    return f->leaf1_ecx >> 25 & 1;
  default:
    return f->leaf1_ecx >> 1 & 1;
  }
}

/* ---- operands ------------------------------------------------------------------------------------------------------------- */

static unsigned vec_slot(uint8_t operand, unsigned index)
{
  return vec_kind(operand) == IR_NAT_MMX ? fpu_mm_offset(index) : fpu_xmm_offset(index);
}

static IrNativeOperand vec_native_operand(uint8_t operand, uint32_t offset)
{
  return (IrNativeOperand){
    .kind = (uint8_t)vec_kind(operand),
    .bytes = (uint8_t)vec_bytes(operand),
    .reads = vec_reads(operand),
    .writes = vec_writes(operand),
    .offset = vec_kind(operand) == IR_NAT_GPR ? 0 : offset,
  };
}

static IrWidth vec_general_width(const X86VectorRow *row, const X86Decoded *d)
{
  return (row->flags & VEC_RW) && d->rex_w ? IR_W64 : IR_W32;
}

static unsigned vec_memory_bytes(const X86VectorRow *row, IrWidth y)
{
  switch (row->memory) {
  case VEC_MEM_GPR1:
  case VEC_MEM_STG1:
    return 1;
  case VEC_MEM_TMP2:
  case VEC_MEM_GPR2:
  case VEC_MEM_STG2:
    return 2;
  case VEC_MEM_TMP4:
  case VEC_MEM_LD4Z:
  case VEC_MEM_ST4:
  case VEC_MEM_STG4:
    return 4;
  case VEC_MEM_TMP8:
  case VEC_MEM_LD8Z:
  case VEC_MEM_LDLO:
  case VEC_MEM_LDHI:
  case VEC_MEM_LDM:
  case VEC_MEM_ST8LO:
  case VEC_MEM_ST8HI:
  case VEC_MEM_STM:
    return 8;
  case VEC_MEM_GPRY:
  case VEC_MEM_LDY:
  case VEC_MEM_STY:
  case VEC_MEM_STGY:
    return 1u << y;
  default:
    return 16;
  }
}

static IrWidth vec_width(unsigned bytes)
{
  return bytes == 1 ? IR_W8 : bytes == 2 ? IR_W16 : bytes == 4 ? IR_W32 : IR_W64;
}

/* Copies `bytes` (4, 8, 16) between slots. */
static void vec_copy(X86Translator *t, uint32_t to, uint32_t from, unsigned bytes)
{
  IrWidth w = bytes == 4 ? IR_W32 : IR_W64;
  for (unsigned i = 0; i < bytes; i += 8) {
    ir_ste(t->ir, w, to + i, ir_lde(t->ir, w, from + i));
  }
}

/* An MMX register's exponent after a write to it. */
static void vec_mark_mmx(X86Translator *t, unsigned index)
{
  ir_ste(t->ir, IR_W16, fpu_mm_offset(index) + 8, x86_const(t, 0xffff));
}

/* ---- native instructions ------------------------------------------------------------------------------------------------------ */

/* Fills what does not depend on where the operands are. */
static IrNative vec_native(const X86VectorRow *row, const X86Decoded *d, unsigned prefix)
{
  static const uint8_t prefixes[VEC_N_PREFIXES] = { 0, 0x66, 0xf3, 0xf2 };
  return (IrNative){
    .prefix = prefixes[prefix],
    .map = d->map,
    .opcode = d->opcode,
    .imm = (uint8_t)d->imm,
    .has_imm = row->flags & VEC_IMM,
    .rex_w = (row->flags & VEC_RW) && d->rex_w,
    .implicit_xmm0 = row->flags & VEC_X0,
    .xmm0_offset = fpu_xmm_offset(0),
    .group = row->flags & VEC_GROUP,
    .group_reg = d->modrm >> 3 & 7,
    .flags_def = row->flags & VEC_EFL ? X86_F_ARITH : 0,
    .reg = vec_native_operand(row->reg, vec_slot(row->reg, d->reg)),
    .rm = vec_native_operand(row->rm, vec_slot(row->rm, d->rm)),
  };
}

/* One run of a trial: the destination (if a slot) is `scratch`. */
static void vec_emit_trial_run(X86Translator *t, const IrNative *native, uint32_t scratch, IrRef general)
{
  IrNative run = *native;
  IrNativeOperand *to = run.rm.writes ? &run.rm : &run.reg;
  if (to->kind != IR_NAT_GPR) {
    if (to->reads) {
      vec_copy(t, scratch, to->offset, to->bytes);
    }
    to->offset = scratch;
  }
  ir_native(t->ir, &run, general);
}

/* Unmasked exceptions: the instruction runs masked into scratch room, twice. The first run gives result and flags; the
 * second, with flush-to-zero on, shows underflow as unmasked exceptions see it (tiny, if exact too). sse_check then faults,
 * with the destination as it was, or lets the result be committed. */
static void fpu_emit_trial(X86Translator *t, const IrNative *native, IrRef general)
{
  const IrNativeOperand *to = native->rm.writes ? &native->rm : &native->reg;
  bool to_general = to->kind == IR_NAT_GPR;
  x86_call_void(t, HELPER_sse_begin, IR_NONE, IR_NONE, IR_NONE);
  vec_emit_trial_run(t, native, fpu_vtmp_offset(1), general);
  x86_call_void(t, HELPER_sse_again, IR_NONE, IR_NONE, IR_NONE);
  vec_emit_trial_run(t, native, fpu_vtmp_offset(2), to_general ? ir_temp(t->ir) : general);
  x86_call_void(t, HELPER_sse_check, IR_NONE, IR_NONE, IR_NONE);
  if (!to_general) {
    vec_copy(t, to->offset, fpu_vtmp_offset(1), to->bytes);
  }
}

static void vec_emit_native(X86Translator *t, const X86VectorRow *row, const IrNative *native, IrRef general)
{
  if (!(row->flags & VEC_FP) || !(t->hflags & TCG_HF_SSE_UNMASKED)) {
    ir_native(t->ir, native, general);
  } else if (row->flags & VEC_EFL) {
    IrRef kind = x86_const(t, native->opcode | (native->prefix ? 0x100 : 0));
    x86_call_void(t, HELPER_sse_comis, kind, x86_const(t, native->reg.offset), x86_const(t, native->rm.offset));
  } else {
    fpu_emit_trial(t, native, general);
  }
}

/* Runs the instruction with what `native` names; a written general register gets the result. */
static void vec_emit_run(X86Translator *t, const X86Decoded *d, const X86VectorRow *row, const IrNative *native,
                         IrRef general)
{
  if (vec_kind(row->reg) == IR_NAT_GPR && vec_writes(row->reg)) {
    general = ir_temp(t->ir);
    vec_emit_native(t, row, native, general);
    x86_set_gpr(t, d, d->reg, vec_general_width(row, d), general);
    return;
  }
  vec_emit_native(t, row, native, general);
}

/* ---- forms with memory ------------------------------------------------------------------------------------------------------------ */

static bool vec_is_plain_load(unsigned memory)
{
  return memory >= VEC_MEM_LD4Z && memory <= VEC_MEM_LDY;
}
static bool vec_is_plain_store(unsigned memory)
{
  return memory >= VEC_MEM_ST4 && memory <= VEC_MEM_STY;
}

static void vec_emit_load(X86Translator *t, const X86Decoded *d, const X86VectorRow *row, unsigned bytes)
{
  uint32_t slot = vec_slot(row->reg, d->reg);
  if (bytes == 16) {
    unsigned memop = 4 | (row->memory == VEC_MEM_LD16A ? IR_MEM_ALIGNED : 0);
    ir_ldv(t->ir, memop, x86_operand_linear(t, d, 16, X86_READ), slot);
    return;
  }
  IrRef value = x86_load(t, vec_width(bytes), x86_operand_address(t, d, bytes, X86_READ));
  ir_ste(t->ir, IR_W64, row->memory == VEC_MEM_LDHI ? slot + 8 : slot, value);
  if (vec_kind(row->reg) == IR_NAT_XMM && row->memory != VEC_MEM_LDHI && row->memory != VEC_MEM_LDLO) {
    ir_ste(t->ir, IR_W64, slot + 8, x86_const(t, 0));
  }
}

static void vec_emit_store(X86Translator *t, const X86Decoded *d, const X86VectorRow *row, unsigned bytes)
{
  uint32_t slot = vec_slot(row->reg, d->reg);
  if (bytes == 16) {
    unsigned memop = 4 | (row->memory == VEC_MEM_ST16A ? IR_MEM_ALIGNED : 0);
    ir_stv(t->ir, memop, x86_operand_linear(t, d, 16, X86_WRITE), slot);
    return;
  }
  IrWidth w = vec_width(bytes);
  X86Mem m = x86_operand_address(t, d, bytes, X86_WRITE);
  x86_store(t, w, m, ir_lde(t->ir, w, row->memory == VEC_MEM_ST8HI ? slot + 8 : slot));
}

/* Loads the operand to vtmp[0]. */
static void vec_emit_operand(X86Translator *t, const X86Decoded *d, const X86VectorRow *row, unsigned bytes)
{
  if (bytes == 16) {
    unsigned memop = 4 | (row->memory == VEC_MEM_TMP16 ? IR_MEM_ALIGNED : 0);
    ir_ldv(t->ir, memop, x86_operand_linear(t, d, 16, X86_READ), fpu_vtmp_offset(0));
    return;
  }
  IrRef value = x86_load(t, vec_width(bytes), x86_operand_address(t, d, bytes, X86_READ));
  ir_ste(t->ir, IR_W64, fpu_vtmp_offset(0), value);
}

/* CVTPI2PD and CVTPI2PS from memory touch no MMX register, and leave the x87 alone. */
static bool vec_enters_mmx(const X86VectorRow *row, const X86Decoded *d)
{
  return vec_kind(row->reg) == IR_NAT_MMX || (vec_kind(row->rm) == IR_NAT_MMX && d->mod == 3);
}

/* When a memory operand has been loaded: #PF leaves the x87 alone, but #XM finds it entered. */
static void vec_emit_enter(X86Translator *t, const X86Decoded *d, const X86VectorRow *row)
{
  if (vec_enters_mmx(row, d)) {
    fpu_emit_mmx_enter(t);
  }
}

static void vec_translate_memory(X86Translator *t, const X86Decoded *d, const X86VectorRow *row, unsigned prefix)
{
  IrWidth y = vec_general_width(row, d);
  unsigned bytes = vec_memory_bytes(row, y);
  IrNative native = vec_native(row, d, prefix);
  IrRef general = IR_NONE;
  if (vec_is_plain_load(row->memory)) {
    vec_emit_load(t, d, row, bytes);
    vec_emit_enter(t, d, row);
  } else if (vec_is_plain_store(row->memory)) {
    if (vec_kind(row->reg) == IR_NAT_MMX) {
      ir_ste(t->ir, IR_W8, X86_STATE(fpu_top), x86_const(t, 0)); /* TOP, not the tags, is so even if the store faults */
    }
    vec_emit_store(t, d, row, bytes);
    vec_emit_enter(t, d, row);
  } else if (row->memory >= VEC_MEM_STG1) {
    X86Mem m = x86_operand_address(t, d, bytes, X86_WRITE);
    general = ir_temp(t->ir);
    vec_emit_native(t, row, &native, general);
    x86_store(t, vec_width(bytes), m, general);
  } else {
    if (vec_kind(row->rm) == IR_NAT_GPR) {
      general = x86_load(t, vec_width(bytes), x86_operand_address(t, d, bytes, X86_READ));
    } else {
      vec_emit_operand(t, d, row, bytes);
      native.rm.offset = fpu_vtmp_offset(0);
    }
    vec_emit_enter(t, d, row);
    if (d->map == X86_MAP_0F3A && d->opcode == 0x21) { /* INSERTPS: the operand is the one element */
      native.imm &= 0x3f;
    }
    vec_emit_run(t, d, row, &native, general);
  }
}

/* ---- forms with registers ----------------------------------------------------------------------------------------------------------- */

static void vec_translate_register(X86Translator *t, const X86Decoded *d, const X86VectorRow *row, unsigned prefix)
{
  IrWidth y = vec_general_width(row, d);
  IrNative native = vec_native(row, d, prefix);
  uint32_t slot = vec_slot(row->reg, d->reg);
  IrRef general = IR_NONE;
  vec_emit_enter(t, d, row);
  if (row->memory == VEC_MEM_LDY) {
    IrRef value = x86_get_gpr(t, d, d->rm, y);
    ir_ste(t->ir, IR_W64, slot, y == IR_W32 ? ir_op1(t->ir, IR_ZX32, IR_W64, value) : value);
    if (vec_kind(row->reg) == IR_NAT_XMM) {
      ir_ste(t->ir, IR_W64, slot + 8, x86_const(t, 0));
    }
    return;
  }
  if (row->memory == VEC_MEM_STY) {
    x86_set_gpr(t, d, d->rm, y, ir_lde(t->ir, y, slot));
    return;
  }
  if (vec_kind(row->rm) == IR_NAT_GPR && vec_writes(row->rm)) {
    general = ir_temp(t->ir);
    vec_emit_native(t, row, &native, general);
    x86_set_gpr(t, d, d->rm, y, general);
    return;
  }
  if (vec_kind(row->rm) == IR_NAT_GPR) {
    general = x86_get_gpr(t, d, d->rm, y);
  }
  vec_emit_run(t, d, row, &native, general);
}

/* ---- instructions by helpers ------------------------------------------------------------------------------------------------------------ */

/* MASKMOVQ, MASKMOVDQU: to DS:rDI (segment overridable). */
static void vec_translate_maskmov(X86Translator *t, const X86Decoded *d, const X86VectorRow *row)
{
  unsigned bytes = vec_bytes(row->reg);
  unsigned seg = d->seg_override == X86_NO_REG ? X86_DS : d->seg_override;
  IrRef offset = ir_reg(X86_RDI);
  if (d->addr_size != IR_W64) {
    offset = ir_op1(t->ir, d->addr_size == IR_W32 ? IR_ZX32 : IR_ZX16, IR_W64, offset);
  }
  IrRef linear = x86_mem_linear(t, x86_segment_address(t, seg, offset, bytes, X86_WRITE));
  uint64_t slots = vec_slot(row->reg, d->reg) | (uint64_t)vec_slot(row->rm, d->rm) << 32;
  x86_call_void(t, HELPER_maskmov, x86_const(t, bytes), x86_const(t, (int64_t)slots), linear);
}

/* PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI: the index goes to ECX, the mask to XMM0 (by the helper). */
static void vec_translate_pcmpstr(X86Translator *t, const X86Decoded *d, const X86VectorRow *row)
{
  uint32_t rm = vec_slot(row->rm, d->rm);
  if (d->mod != 3) {
    vec_emit_operand(t, d, row, 16);
    rm = fpu_vtmp_offset(0);
  }
  IrRef kind = x86_const(t, d->opcode << 8 | (uint8_t)d->imm | d->rex_w << 16);
  IrRef reg = x86_const(t, vec_slot(row->reg, d->reg));
  IrRef index = x86_call(t, HELPER_pcmpstr, kind, reg, x86_const(t, rm));
  if (d->opcode & 1) {
    x86_set_reg(t, X86_RCX, IR_W32, index);
  }
}

/* ---- the way in ------------------------------------------------------------------------------------------------------------------------- */

static bool vec_form_exists(const X86VectorRow *row, const X86Decoded *d)
{
  if (!vec_has_feature(row->feature)) {
    return false;
  }
  return d->mod == 3 ? !(row->flags & VEC_MEMONLY) : row->memory != VEC_MEM_NONE;
}

static void vec_translate_form(X86Translator *t, const X86Decoded *d, const X86VectorRow *row, unsigned prefix)
{
  if (row->flags & VEC_CUSTOM) {
    if (d->map == X86_MAP_0F) {
      vec_emit_enter(t, d, row);
      vec_translate_maskmov(t, d, row);
    } else {
      vec_translate_pcmpstr(t, d, row);
    }
  } else if (d->mod != 3) {
    vec_translate_memory(t, d, row, prefix);
  } else {
    vec_translate_register(t, d, row, prefix);
  }
}

bool fpu_translate_vector(X86Translator *t, const X86Decoded *d)
{
  unsigned prefix = d->rep == 0xf3 ? VEC_PF3 : d->rep == 0xf2 ? VEC_PF2 : d->prefix_66 ? VEC_P66 : VEC_NP;
  const X86VectorRow *row = x86_vector_row(prefix, d->map, d->opcode, d->modrm >> 3 & 7);
  if (!row || !vec_form_exists(row, d)) {
    return false;
  }
  bool uses_xmm = vec_kind(row->reg) == IR_NAT_XMM || vec_kind(row->rm) == IR_NAT_XMM;
  if (uses_xmm ? fpu_emit_sse_checks(t) : fpu_emit_mmx_checks(t)) {
    return true;
  }
  if (vec_enters_mmx(row, d)) {
    fpu_emit_mmx_wait(t);
  }
  vec_translate_form(t, d, row, prefix);
  if (vec_kind(row->reg) == IR_NAT_MMX && vec_writes(row->reg)) {
    vec_mark_mmx(t, d->reg);
  }
  if (vec_kind(row->rm) == IR_NAT_MMX && vec_writes(row->rm) && d->mod == 3) {
    vec_mark_mmx(t, d->rm);
  }
  return true;
}

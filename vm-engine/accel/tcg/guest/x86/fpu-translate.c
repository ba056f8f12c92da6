/*
 * Translation of x87 instructions, of the instructions on FPU state as a whole, and the way in for all of fpu-*.c.
 * x87 instructions become one helper call each; memory operands up to 8 bytes are loaded and stored by translated code.
 */
#include "vm-engine/accel/tcg/guest/x86/fpu-internal.h"
#include "vm-engine/accel/tcg/guest/x86/fpu-x87.h"

/* ---- checks --------------------------------------------------------------------------------------------------------- */

bool fpu_emit_sse_checks(X86Translator *t)
{
  if ((t->hflags & TCG_HF_EM) || !(t->hflags & TCG_HF_OSFXSR)) {
    x86_emit_ud(t);
    return true;
  }
  if (t->hflags & TCG_HF_TS) {
    x86_emit_nm(t);
    return true;
  }
  return false;
}

bool fpu_emit_mmx_checks(X86Translator *t)
{
  if (t->hflags & TCG_HF_EM) {
    x86_emit_ud(t);
    return true;
  }
  if (t->hflags & TCG_HF_TS) {
    x86_emit_nm(t);
    return true;
  }
  return false;
}

static bool fpu_emit_x87_checks(X86Translator *t)
{
  if (t->hflags & (TCG_HF_EM | TCG_HF_TS)) {
    x86_emit_nm(t);
    return true;
  }
  return false;
}

void fpu_emit_mmx_wait(X86Translator *t)
{
  if (!(t->fpu_done & FPU_DONE_WAIT)) {
    x86_call_void(t, HELPER_x87_wait, IR_NONE, IR_NONE, IR_NONE);
    t->fpu_done |= FPU_DONE_WAIT;
  }
}

void fpu_emit_mmx_enter(X86Translator *t)
{
  if (!(t->fpu_done & FPU_DONE_MMX)) {
    ir_ste(t->ir, IR_W8, X86_STATE(fpu_top), x86_const(t, 0));
    ir_ste(t->ir, IR_W8, X86_STATE(fpu_tags), x86_const(t, 0xff));
    t->fpu_done |= FPU_DONE_MMX;
  }
}

bool fpu_translate_emms(X86Translator *t)
{
  if (fpu_emit_mmx_checks(t)) {
    return true;
  }
  fpu_emit_mmx_wait(t);
  ir_ste(t->ir, IR_W8, X86_STATE(fpu_top), x86_const(t, 0));
  ir_ste(t->ir, IR_W8, X86_STATE(fpu_tags), x86_const(t, 0));
  t->fpu_done &= (uint8_t)~FPU_DONE_MMX;
  return true;
}

bool fpu_translate_wait(X86Translator *t)
{
  if ((t->hflags & (TCG_HF_MP | TCG_HF_TS)) == (TCG_HF_MP | TCG_HF_TS)) {
    x86_emit_nm(t);
  } else {
    x86_call_void(t, HELPER_x87_wait, IR_NONE, IR_NONE, IR_NONE);
  }
  return true;
}

/* ---- x87, memory forms --------------------------------------------------------------------------------------------------- */

typedef enum X87MemKind {
  X87_M_NONE,
  X87_M_LOAD,  /* the helper gets the value, zero-extended */
  X87_M_LOADS, /* … sign-extended */
  X87_M_STORE, /* the helper returns the value */
  X87_M_READ,  /* the helper reads it itself */
  X87_M_WRITE,
  X87_M_LDCW,
  X87_M_STCW,
  X87_M_STSW,
} X87MemKind;
typedef struct X87MemForm {
  uint8_t kind;
  uint8_t bytes;
  uint16_t helper;
} X87MemForm;

#define X87_ARITH_ROW(helper, bytes)                                                                                   \
  {                                                                                                                    \
    [0 ... 7] = { X87_M_LOAD, bytes, HELPER_##helper }                                                                 \
  }
/* By opcode and modrm.reg. Environments have the size of their 32-bit format here. */
static const X87MemForm x87_mem_forms[8][8] = {
  X87_ARITH_ROW(x87_arith_m32, 4),
  { [0] = { X87_M_LOAD, 4, HELPER_x87_fld_m32 },
    [2] = { X87_M_STORE, 4, HELPER_x87_fst_m32 },
    [3] = { X87_M_STORE, 4, HELPER_x87_fst_m32 },
    [4] = { X87_M_READ, 28, HELPER_x87_load_env },
    [5] = { X87_M_LDCW, 2, HELPER_x87_fldcw },
    [6] = { X87_M_WRITE, 28, HELPER_x87_store_env },
    [7] = { X87_M_STCW, 2, 0 } },
  X87_ARITH_ROW(x87_arith_i32, 4),
  { [0] = { X87_M_LOADS, 4, HELPER_x87_fild },
    [1] = { X87_M_STORE, 4, HELPER_x87_fist_m },
    [2] = { X87_M_STORE, 4, HELPER_x87_fist_m },
    [3] = { X87_M_STORE, 4, HELPER_x87_fist_m },
    [5] = { X87_M_READ, 10, HELPER_x87_load_wide },
    [7] = { X87_M_WRITE, 10, HELPER_x87_store_wide } },
  X87_ARITH_ROW(x87_arith_m64, 8),
  { [0] = { X87_M_LOAD, 8, HELPER_x87_fld_m64 },
    [1] = { X87_M_STORE, 8, HELPER_x87_fist_m },
    [2] = { X87_M_STORE, 8, HELPER_x87_fst_m64 },
    [3] = { X87_M_STORE, 8, HELPER_x87_fst_m64 },
    [4] = { X87_M_READ, 108, HELPER_x87_load_env },
    [6] = { X87_M_WRITE, 108, HELPER_x87_store_env },
    [7] = { X87_M_STSW, 2, HELPER_x87_fnstsw } },
  X87_ARITH_ROW(x87_arith_i16, 2),
  { [0] = { X87_M_LOADS, 2, HELPER_x87_fild },
    [1] = { X87_M_STORE, 2, HELPER_x87_fist_m },
    [2] = { X87_M_STORE, 2, HELPER_x87_fist_m },
    [3] = { X87_M_STORE, 2, HELPER_x87_fist_m },
    [4] = { X87_M_READ, 10, HELPER_x87_load_wide },
    [5] = { X87_M_LOADS, 8, HELPER_x87_fild },
    [6] = { X87_M_WRITE, 10, HELPER_x87_store_wide },
    [7] = { X87_M_STORE, 8, HELPER_x87_fist_m } },
};

static IrWidth x87_width(unsigned bytes)
{
  return bytes == 8 ? IR_W64 : bytes == 4 ? IR_W32 : IR_W16;
}

/* Environments and saves: 14 bytes less than the 32-bit format's with a 16-bit operand size. */
static unsigned x87_form_bytes(const X87MemForm *form, bool op16)
{
  return form->bytes >= 28 && op16 ? form->bytes - 14u : form->bytes;
}

static IrRef x87_emit_word(X86Translator *t, const X86Decoded *d, unsigned bytes)
{
  uint64_t word = (uint64_t)(d->opcode & 7) << 8 | d->modrm | (uint64_t)bytes << X87_WORD_BYTES_SHIFT;
  if (x86_decoded_is_memory(d)) {
    word |= X87_WORD_MEMORY | (uint64_t)(d->seg & 7) << X87_WORD_SEG_SHIFT;
  }
  if (d->op_size == IR_W16) {
    word |= X87_WORD_OP16;
  }
  return x86_const(t, (int64_t)word);
}

static void x87_emit_load(X86Translator *t, const X86Decoded *d, const X87MemForm *form)
{
  IrWidth w = x87_width(form->bytes);
  X86Mem m = x86_operand_address(t, d, form->bytes, X86_READ);
  IrRef value = x86_load(t, w, m);
  if (form->kind == X87_M_LOADS && w != IR_W64) {
    value = ir_op1(t->ir, w == IR_W16 ? IR_SX16 : IR_SX32, IR_W64, value);
  }
  x86_call_void(t, form->helper, x87_emit_word(t, d, form->bytes), value, x86_mem_linear(t, m));
}

/* The write is probed first, so that the helper may change the stack; then its result is stored. */
static void x87_emit_store(X86Translator *t, const X86Decoded *d, const X87MemForm *form)
{
  IrWidth w = x87_width(form->bytes);
  IrRef linear = x86_operand_linear(t, d, form->bytes, X86_WRITE);
  ir_emit(t->ir, IR_PROBEW, w, IR_NONE, linear, IR_NONE)->aux = (uint8_t)w;
  IrRef value = x86_call(t, form->helper, x87_emit_word(t, d, form->bytes), IR_NONE, linear);
  x86_store(t, w, (X86Mem){ linear, 0 }, value);
}

static void x87_translate_memory(X86Translator *t, const X86Decoded *d)
{
  const X87MemForm *form = &x87_mem_forms[d->opcode & 7][d->modrm >> 3 & 7];
  X86Mem m;
  switch (form->kind) {
  case X87_M_LOAD:
  case X87_M_LOADS:
    x87_emit_load(t, d, form);
    break;
  case X87_M_STORE:
    x87_emit_store(t, d, form);
    break;
  case X87_M_READ:
  case X87_M_WRITE: {
    unsigned bytes = x87_form_bytes(form, d->op_size == IR_W16);
    IrRef linear = x86_operand_linear(t, d, bytes, form->kind == X87_M_READ ? X86_READ : X86_WRITE);
    x86_call_void(t, form->helper, x87_emit_word(t, d, 0), IR_NONE, linear);
    break;
  }
  case X87_M_LDCW:
    m = x86_operand_address(t, d, 2, X86_READ);
    x86_call_void(t, form->helper, IR_NONE, x86_load(t, IR_W16, m), IR_NONE);
    break;
  case X87_M_STCW:
    m = x86_operand_address(t, d, 2, X86_WRITE);
    x86_store(t, IR_W16, m, ir_lde(t->ir, IR_W16, X86_STATE(x86.fpu.fcw)));
    break;
  default:
    m = x86_operand_address(t, d, 2, X86_WRITE);
    x86_store(t, IR_W16, m, x86_call(t, form->helper, IR_NONE, IR_NONE, IR_NONE));
    break;
  }
}

/* ---- x87, register forms ------------------------------------------------------------------------------------------------------ */

static TcgHelperId x87_d9_helper(unsigned modrm)
{
  switch (modrm) {
  case 0xe0:
  case 0xe1:
  case 0xe4:
  case 0xe5:
  case 0xf0:
  case 0xfa:
  case 0xfc:
  case 0xfe:
  case 0xff:
    return HELPER_x87_unary;
  case 0xf1:
  case 0xf3:
  case 0xf5:
  case 0xf8:
  case 0xf9:
  case 0xfd:
    return HELPER_x87_binary;
  default:
    break;
  }
  switch (modrm >> 3 & 7) {
  case 0:
    return HELPER_x87_fld_st;
  case 1:
    return HELPER_x87_fxch;
  case 5:
    return HELPER_x87_fld_const;
  default:
    return HELPER_x87_exact;
  }
}

static TcgHelperId x87_reg_helper(unsigned opcode, unsigned modrm)
{
  unsigned row = modrm >> 3 & 7;
  switch (opcode) {
  case 0xd8:
  case 0xdc:
    return HELPER_x87_arith_st;
  case 0xde:
    return row == 3 ? HELPER_x87_fucom : HELPER_x87_arith_st;
  case 0xd9:
    return x87_d9_helper(modrm);
  case 0xda:
    return row < 4 ? HELPER_x87_fcmov : HELPER_x87_fucom;
  case 0xdb:
    return row < 4 ? HELPER_x87_fcmov : HELPER_x87_fcomi;
  case 0xdd:
    return row == 1               ? HELPER_x87_fxch
           : row == 2 || row == 3 ? HELPER_x87_fst_st
           : row >= 4             ? HELPER_x87_fucom
                                  : HELPER_x87_exact;
  default:
    return row == 1 ? HELPER_x87_fxch : row == 3 ? HELPER_x87_fst_st : row >= 5 ? HELPER_x87_fcomi : HELPER_x87_exact;
  }
}

static void x87_translate_register(X86Translator *t, const X86Decoded *d)
{
  switch (d->opcode << 8 | d->modrm) {
  case 0xdbe0: /* FENI, FDISI, FSETPM of the 8087 and 287 do nothing */
  case 0xdbe1:
  case 0xdbe4:
    break;
  case 0xdbe2:
    x86_call_void(t, HELPER_x87_fnclex, IR_NONE, IR_NONE, IR_NONE);
    break;
  case 0xdbe3:
    x86_call_void(t, HELPER_x87_fninit, IR_NONE, IR_NONE, IR_NONE);
    break;
  case 0xdfe0:
    x86_set_reg(t, X86_RAX, IR_W16, x86_call(t, HELPER_x87_fnstsw, IR_NONE, IR_NONE, IR_NONE));
    break;
  default:
    x86_call_void(t, x87_reg_helper(d->opcode, d->modrm), x87_emit_word(t, d, 0), IR_NONE, IR_NONE);
    break;
  }
}

bool fpu_translate_x87(X86Translator *t, const X86Decoded *d)
{
  if (!x87_is_valid(d->opcode, d->modrm)) {
    return false;
  }
  if (fpu_emit_x87_checks(t)) {
    return true;
  }
  t->fpu_done = 0;
  if (x86_decoded_is_memory(d)) {
    x87_translate_memory(t, d);
  } else {
    x87_translate_register(t, d);
  }
  return true;
}

/* ---- 0F AE: state as a whole ------------------------------------------------------------------------------------------------------ */

static void fpu_emit_fxsave(X86Translator *t, const X86Decoded *d, TcgHelperId helper, X86Access access)
{
  if (fpu_emit_x87_checks(t)) {
    return;
  }
  IrRef linear = x86_operand_linear(t, d, 512, access);
  x86_call_void(t, helper, x86_const(t, d->rex_w), IR_NONE, linear);
}

static void fpu_emit_mxcsr(X86Translator *t, const X86Decoded *d)
{
  if (fpu_emit_sse_checks(t)) {
    return;
  }
  if ((d->modrm >> 3 & 7) == 2) {
    X86Mem m = x86_operand_address(t, d, 4, X86_READ);
    x86_call_void(t, HELPER_ldmxcsr, IR_NONE, x86_load(t, IR_W32, m), IR_NONE);
  } else {
    X86Mem m = x86_operand_address(t, d, 4, X86_WRITE);
    x86_store(t, IR_W32, m, x86_call(t, HELPER_stmxcsr, IR_NONE, IR_NONE, IR_NONE));
  }
}

static void fpu_emit_xsave(X86Translator *t, const X86Decoded *d, TcgHelperId helper, X86Access access)
{
  if (t->hflags & TCG_HF_TS) {
    x86_emit_nm(t);
    return;
  }
  IrRef high = ir_op2(t->ir, IR_SHL, IR_W64, ir_reg(X86_RDX), x86_const(t, 32));
  IrRef mask = ir_op2(t->ir, IR_OR, IR_W64, high, ir_op1(t->ir, IR_ZX32, IR_W64, ir_reg(X86_RAX)));
  IrRef linear = x86_operand_linear(t, d, 576, access);
  x86_call_void(t, helper, x86_const(t, d->rex_w), mask, linear);
}

bool fpu_translate_state(X86Translator *t, const X86Decoded *d)
{
  if (!x86_decoded_is_memory(d) || d->prefix_66 || d->rep) {
    return false;
  }
  unsigned reg = d->modrm >> 3 & 7;
  bool has_xsave = t->hflags & TCG_HF_OSXSAVE;
  bool has_xsaveopt = has_xsave && (x86_tcg_features.leaf_d1_eax & 1);
  t->fpu_done = 0;
  switch (reg) {
  case 0:
    fpu_emit_fxsave(t, d, HELPER_fxsave, X86_WRITE);
    return true;
  case 1:
    fpu_emit_fxsave(t, d, HELPER_fxrstor, X86_READ);
    return true;
  case 2:
  case 3:
    fpu_emit_mxcsr(t, d);
    return true;
  case 4:
  case 6: /* XSAVEOPT may save everything */
    if (reg == 4 ? !has_xsave : !has_xsaveopt) {
      return false;
    }
    fpu_emit_xsave(t, d, HELPER_xsave, X86_WRITE);
    return true;
  case 5:
    if (!has_xsave) {
      return false;
    }
    fpu_emit_xsave(t, d, HELPER_xrstor, X86_READ);
    return true;
  default:
    return false;
  }
}

/* ---- the way in -------------------------------------------------------------------------------------------------------------------- */

bool x86_translate_fpu(X86Translator *t, const X86Decoded *d)
{
  if (d->vex) {
    return false;
  }
  if (d->map == X86_MAP_ONE) {
    return d->opcode == 0x9b ? fpu_translate_wait(t) : fpu_translate_x87(t, d);
  }
  if (d->map == X86_MAP_0F && d->opcode == 0x77) {
    return !d->prefix_66 && !d->rep && fpu_translate_emms(t);
  }
  if (d->map == X86_MAP_0F && d->opcode == 0xae) {
    return fpu_translate_state(t, d);
  }
  return fpu_translate_vector(t, d);
}

/*
 * System instructions: operands here, meaning in the system helpers (helpers-sys.def says how a block goes on after each).
 * Privilege is known at translation (hflags), so what an unprivileged program may not do is refused before its operands
 * are touched.
 */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

static IrRef next_rip(X86Translator *t)
{
  return x86_const(t, (int64_t)t->next_rip);
}
static void call0(X86Translator *t, TcgHelperId helper)
{
  x86_call_void(t, helper, IR_NONE, IR_NONE, IR_NONE);
}

/* ---- segment registers and system tables --------------------------------------------------------------------------- */

void x86_tr_mov_to_seg(X86Translator *t, const X86Decoded *d)
{
  unsigned seg = d->reg & 7;
  if (seg == X86_CS || seg >= X86_N_SEG) {
    x86_emit_ud(t);
    return;
  }
  IrRef selector = x86_zero_extend(t, IR_W16, x86_load_operand(t, d, 1));
  x86_call_void(t, HELPER_load_seg, x86_const(t, seg), selector, x86_const(t, seg == X86_SS));
  x86_end_after_segment(t, seg);
}

/* A 16-bit value: memory gets 16 bits, a register its operand size. */
static void store_selector(X86Translator *t, const X86Decoded *d, IrRef value)
{
  x86_store_rm(t, d, x86_decoded_is_memory(d) ? IR_W16 : (IrWidth)d->op_size, value);
}

static uint32_t selector_offset(unsigned seg)
{
  return X86_STATE(x86.seg) + seg * (uint32_t)sizeof(X86Segment) + (uint32_t)offsetof(X86Segment, selector);
}

void x86_tr_mov_from_seg(X86Translator *t, const X86Decoded *d)
{
  unsigned seg = d->reg & 7;
  if (seg >= X86_N_SEG)
    x86_emit_ud(t);
  else
    store_selector(t, d, ir_lde(t->ir, IR_W16, selector_offset(seg)));
}

void x86_tr_store_system(X86Translator *t, const X86Decoded *d)
{
  if (x86_refuse_umip(t))
    return;
  if (d->insn == X86_I_SMSW)
    store_selector(t, d, ir_lde(t->ir, IR_W64, X86_STATE(x86.cr0)));
  else
    store_selector(t, d, ir_lde(t->ir, IR_W16, selector_offset(d->insn == X86_I_SLDT ? X86_LDTR : X86_TR)));
}

void x86_tr_load_system(X86Translator *t, const X86Decoded *d)
{
  IrRef value = x86_zero_extend(t, IR_W16, x86_load_operand(t, d, 0));
  if (d->insn == X86_I_LMSW) {
    x86_call_void(t, HELPER_lmsw, value, IR_NONE, IR_NONE);
    x86_end_loop(t);
    return;
  }
  x86_call_void(t, d->insn == X86_I_LLDT ? HELPER_lldt : HELPER_ltr, value, IR_NONE, IR_NONE);
}

void x86_tr_verify(X86Translator *t, const X86Decoded *d)
{
  bool has_result = d->insn == X86_I_LAR || d->insn == X86_I_LSL;
  IrRef selector = x86_zero_extend(t, IR_W16, x86_load_operand(t, d, has_result ? 1 : 0));
  if (!has_result) {
    x86_call_void(t, d->insn == X86_I_VERR ? HELPER_verr : HELPER_verw, selector, IR_NONE, IR_NONE);
    return;
  }
  IrRef old = ir_reg(d->reg);
  IrRef value = x86_call(t, d->insn == X86_I_LAR ? HELPER_lar : HELPER_lsl, selector, old, IR_NONE);
  /* Where the selector does not fit, ZF is clear and the register keeps all its bits. */
  IrWidth w = (IrWidth)d->op_size;
  if (w == IR_W16)
    x86_set_reg(t, d->reg, w, value);
  else
    ir_mov(t->ir, old, x86_cmovcc(t, IR_W64, X86_CC_Z, ir_op1(t->ir, IR_ZX32, IR_W64, value), old));
}

/* The helper sets ZF, so the right to write is checked before it; but a page that is not there faults as a read. */
void x86_tr_arpl(X86Translator *t, const X86Decoded *d)
{
  IrRef b = x86_zero_extend(t, IR_W16, x86_load_operand(t, d, 1));
  if (d->mod == 3) {
    IrRef a = x86_zero_extend(t, IR_W16, ir_reg(d->rm));
    x86_set_reg(t, d->rm, IR_W16, x86_call(t, HELPER_arpl, a, b, IR_NONE));
    return;
  }
  IrRef linear = x86_operand_linear(t, d, 2, X86_WRITE);
  IrRef a = ir_ld(t->ir, IR_W16, linear, 0);
  x86_probe_write(t, IR_W16, linear);
  ir_st(t->ir, IR_W16, linear, 0, x86_call(t, HELPER_arpl, a, b, IR_NONE));
}

void x86_tr_store_table(X86Translator *t, const X86Decoded *d)
{
  if (x86_refuse_umip(t))
    return;
  IrWidth w = x86_t_64bit(t) ? IR_W64 : IR_W32;
  bool gdt = d->insn == X86_I_SGDT;
  X86Mem m = x86_operand_address(t, d, 2 + (1u << w), X86_WRITE);
  x86_store(t, IR_W16, m, ir_lde(t->ir, IR_W16, gdt ? X86_STATE(x86.gdt.limit) : X86_STATE(x86.idt.limit)));
  x86_store(t, w, x86_mem_plus(t, m, 2),
            ir_lde(t->ir, IR_W64, gdt ? X86_STATE(x86.gdt.base) : X86_STATE(x86.idt.base)));
}

void x86_tr_load_table(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_t_64bit(t) ? IR_W64 : IR_W32;
  X86Mem m = x86_operand_address(t, d, 2 + (1u << w), X86_READ);
  IrRef limit = x86_load(t, IR_W16, m);
  IrRef base = x86_load(t, w, x86_mem_plus(t, m, 2));
  if (d->op_size == 1 && !x86_t_64bit(t))
    base = ir_op2(t->ir, IR_AND, IR_W64, base, x86_const(t, 0xffffff));
  x86_call_void(t, d->insn == X86_I_LGDT ? HELPER_lgdt : HELPER_lidt, limit, base, IR_NONE);
}

void x86_tr_fsgsbase(X86Translator *t, const X86Decoded *d)
{
  if (d->rep != 0xf3) {
    x86_emit_ud(t);
    return;
  }
  IrWidth w = x86_width(d, 0);
  bool gs = d->insn == X86_I_RDGSBASE || d->insn == X86_I_WRGSBASE;
  IrRef seg = x86_const(t, gs ? X86_GS : X86_FS);
  if (d->insn == X86_I_RDFSBASE || d->insn == X86_I_RDGSBASE)
    x86_set_reg(t, d->rm, w, x86_call(t, HELPER_read_seg_base, seg, IR_NONE, IR_NONE));
  else
    x86_call_void(t, HELPER_write_seg_base, seg, x86_zero_extend(t, w, ir_reg(d->rm)), IR_NONE);
}

void x86_tr_swapgs(X86Translator *t, const X86Decoded *d)
{
  call0(t, HELPER_swapgs);
}

/* ---- ports --------------------------------------------------------------------------------------------------------------- */

static IrRef port_operand(X86Translator *t, const X86Decoded *d, unsigned i)
{
  if ((X86Operand)d->row.operands[i] == X86_OPD_DX)
    return ir_op1(t->ir, IR_ZX16, IR_W64, ir_reg(X86_RDX));
  return x86_const(t, d->imm);
}

/* A device may have raised an interrupt, or changed the memory map: look before going on. */
void x86_tr_in(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 0);
  IrRef value = x86_call(t, HELPER_in, port_operand(t, d, 1), x86_const(t, 1 << w), IR_NONE);
  x86_set_reg(t, X86_RAX, w, value);
  x86_end_loop(t);
}

void x86_tr_out(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = x86_width(d, 1);
  IrRef value = x86_zero_extend(t, w, ir_reg(X86_RAX));
  x86_call_void(t, HELPER_out, port_operand(t, d, 0), x86_const(t, 1 << w), value);
  x86_end_loop(t);
}

/* ---- the machine ------------------------------------------------------------------------------------------------------------ */

void x86_tr_hlt(X86Translator *t, const X86Decoded *d)
{
  call0(t, HELPER_hlt);
  x86_end_loop(t);
}

void x86_tr_cli_sti(X86Translator *t, const X86Decoded *d)
{
  if (d->insn == X86_I_CLI) {
    call0(t, HELPER_cli);
    return;
  }
  call0(t, HELPER_sti);
  x86_end_loop(t);
}

void x86_tr_clts(X86Translator *t, const X86Decoded *d)
{
  call0(t, HELPER_clts);
  x86_end_indirect(t, next_rip(t));
}

void x86_tr_wbinvd(X86Translator *t, const X86Decoded *d)
{
  call0(t, HELPER_wbinvd);
}

/* The address only: no limit or right is checked, nothing is accessed. */
void x86_tr_invlpg(X86Translator *t, const X86Decoded *d)
{
  IrRef linear = x86_effective_offset(t, d);
  if (!x86_t_64bit(t) || d->seg == X86_FS || d->seg == X86_GS) {
    IrRef base;
    x86_load_segment_base(t, d->seg, &base);
    linear = ir_lea(t->ir, x86_t_64bit(t) ? IR_W64 : IR_W32, base, linear, 0, 0);
  }
  x86_call_void(t, HELPER_invlpg, linear, IR_NONE, IR_NONE);
  x86_end_loop(t);
}

void x86_tr_mov_control(X86Translator *t, const X86Decoded *d)
{
  bool debug = d->insn == X86_I_MOV_FROM_DR || d->insn == X86_I_MOV_TO_DR;
  IrWidth w = x86_t_64bit(t) ? IR_W64 : IR_W32;
  IrRef number = x86_const(t, d->reg);
  if (d->insn == X86_I_MOV_FROM_CR || d->insn == X86_I_MOV_FROM_DR) {
    x86_set_reg(t, d->rm, w, x86_call(t, debug ? HELPER_read_dr : HELPER_read_cr, number, IR_NONE, IR_NONE));
    return;
  }
  IrRef value = x86_zero_extend(t, w, ir_reg(d->rm));
  x86_call_void(t, debug ? HELPER_write_dr : HELPER_write_cr, number, value, IR_NONE);
  x86_end_loop(t);
}

/* EDX:EAX as one value, and back. */
static IrRef join_edx_eax(X86Translator *t)
{
  IrRef high = ir_op2(t->ir, IR_SHL, IR_W64, ir_reg(X86_RDX), x86_const(t, 32));
  return ir_op2(t->ir, IR_OR, IR_W64, high, ir_op1(t->ir, IR_ZX32, IR_W64, ir_reg(X86_RAX)));
}

static void split_edx_eax(X86Translator *t, IrRef value)
{
  x86_set_reg(t, X86_RAX, IR_W32, value);
  x86_set_reg(t, X86_RDX, IR_W64, ir_op2(t->ir, IR_SHR, IR_W64, value, x86_const(t, 32)));
}

static IrRef ecx(X86Translator *t)
{
  return ir_op1(t->ir, IR_ZX32, IR_W64, ir_reg(X86_RCX));
}

void x86_tr_msr(X86Translator *t, const X86Decoded *d)
{
  if (d->insn == X86_I_RDMSR) {
    split_edx_eax(t, x86_call(t, HELPER_rdmsr, ecx(t), IR_NONE, IR_NONE));
    return;
  }
  x86_call_void(t, HELPER_wrmsr, ecx(t), join_edx_eax(t), IR_NONE);
  x86_end_loop(t);
}

void x86_tr_counter(X86Translator *t, const X86Decoded *d)
{
  if (d->insn == X86_I_RDPMC) {
    split_edx_eax(t, x86_call(t, HELPER_rdpmc, ecx(t), IR_NONE, IR_NONE));
    return;
  }
  if (d->insn == X86_I_RDTSCP && !(x86_tcg_features.ext1_edx & 1u << 27)) {
    x86_emit_ud(t);
    return;
  }
  split_edx_eax(t, x86_call(t, HELPER_rdtsc, IR_NONE, IR_NONE, IR_NONE));
  if (d->insn == X86_I_RDTSCP)
    x86_set_reg(t, X86_RCX, IR_W32, ir_lde(t->ir, IR_W64, X86_STATE(x86.tsc_aux)));
}

void x86_tr_cpuid(X86Translator *t, const X86Decoded *d)
{
  call0(t, HELPER_cpuid);
}

void x86_tr_fast_system(X86Translator *t, const X86Decoded *d)
{
  IrRef bytes = x86_const(t, d->rex_w ? 8 : 4);
  switch ((X86Insn)d->insn) {
  case X86_I_SYSCALL:
    x86_call_void(t, HELPER_syscall, next_rip(t), IR_NONE, IR_NONE);
    break;
  case X86_I_SYSRET:
    x86_call_void(t, HELPER_sysret, bytes, IR_NONE, IR_NONE);
    break;
  case X86_I_SYSENTER:
    call0(t, HELPER_sysenter);
    break;
  case X86_I_SYSEXIT:
    x86_call_void(t, HELPER_sysexit, bytes, IR_NONE, IR_NONE);
    break;
  default:
    call0(t, HELPER_rsm);
    break;
  }
  x86_end_loop_stored(t);
}

/* XGETBV and XSETBV exist once the system has said that it knows XSAVE. */
void x86_tr_xcr(X86Translator *t, const X86Decoded *d)
{
  if (!(t->hflags & TCG_HF_OSXSAVE) || d->prefix_66 || d->rep) {
    x86_emit_ud(t);
    return;
  }
  if (d->insn == X86_I_XGETBV) {
    split_edx_eax(t, x86_call(t, HELPER_xgetbv, ecx(t), IR_NONE, IR_NONE));
    return;
  }
  if (x86_refuse_user(t))
    return;
  x86_call_void(t, HELPER_xsetbv, ecx(t), join_edx_eax(t), IR_NONE);
  x86_end_loop(t);
}

void x86_tr_smap(X86Translator *t, const X86Decoded *d)
{
  call0(t, d->insn == X86_I_STAC ? HELPER_stac : HELPER_clac);
  x86_end_indirect(t, next_rip(t));
}

/* RDRAND, RDSEED; and under F3 the latter's row is RDPID. */
void x86_tr_random(X86Translator *t, const X86Decoded *d)
{
  IrWidth w = (IrWidth)d->op_size;
  bool seed = d->insn == X86_I_RDSEED;
  bool pid = seed && d->rep == 0xf3;
  bool known = pid    ? (x86_tcg_features.leaf7_ecx & 1u << 22) != 0
               : seed ? (x86_tcg_features.leaf7_ebx & 1u << 18) != 0
                      : (x86_tcg_features.leaf1_ecx & 1u << 30) != 0;
  if (!known || (d->rep && !pid)) {
    x86_emit_ud(t);
    return;
  }
  if (pid)
    x86_set_reg(t, d->rm, x86_t_64bit(t) ? IR_W64 : IR_W32, ir_lde(t->ir, IR_W64, X86_STATE(x86.tsc_aux)));
  else
    x86_set_reg(t, d->rm, w, x86_call(t, HELPER_rdrand, x86_const(t, 1 << w), IR_NONE, IR_NONE));
}

/* Guest memory is ordered as the host orders it, so only MFENCE, which keeps loads behind stores, needs doing. Other prefixes
 * make other instructions of these bytes, which do not exist here. */
void x86_tr_fence(X86Translator *t, const X86Decoded *d)
{
  if (d->rep || d->prefix_66)
    x86_emit_ud(t);
  else if ((d->modrm >> 3 & 7) == 6)
    call0(t, HELPER_full_fence);
}

void x86_tr_clflush(X86Translator *t, const X86Decoded *d)
{
  if (d->rep)
    x86_emit_ud(t);
  else
    x86_load(t, IR_W8, x86_operand_address(t, d, 1, X86_READ));
}

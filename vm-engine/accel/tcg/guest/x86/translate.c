/*
 * From guest instructions to one block of IR: the loop over instructions, and how blocks end.
 *
 * A block is a straight line. It ends where control may go elsewhere, where something changes that translated code
 * depends on (hflags), at the page's end (so that a block touches at most two pages, the second only by its last
 * instruction), or after `max_insns`. Under TF and in an interrupt shadow it is one instruction.
 */
#include "vm-engine/accel/tcg/guest/x86/translate-int.h"

#define PAGE_BYTES 4096u

const IrGuestReg x86_guest_regs[X86_N_GUEST_REGS] = {
  { "rax", X86_STATE(x86.gpr[0]) },  { "rcx", X86_STATE(x86.gpr[1]) },  { "rdx", X86_STATE(x86.gpr[2]) },
  { "rbx", X86_STATE(x86.gpr[3]) },  { "rsp", X86_STATE(x86.gpr[4]) },  { "rbp", X86_STATE(x86.gpr[5]) },
  { "rsi", X86_STATE(x86.gpr[6]) },  { "rdi", X86_STATE(x86.gpr[7]) },  { "r8", X86_STATE(x86.gpr[8]) },
  { "r9", X86_STATE(x86.gpr[9]) },   { "r10", X86_STATE(x86.gpr[10]) }, { "r11", X86_STATE(x86.gpr[11]) },
  { "r12", X86_STATE(x86.gpr[12]) }, { "r13", X86_STATE(x86.gpr[13]) }, { "r14", X86_STATE(x86.gpr[14]) },
  { "r15", X86_STATE(x86.gpr[15]) },
};

typedef void (*FamilyFunc)(X86Translator *t, const X86Decoded *d);
static const FamilyFunc families[X86_N_INSNS] = {
#define INSN(name, family) [X86_I_##name] = x86_tr_##family,
#include "vm-engine/accel/tcg/guest/x86/decode-insns.def"
#undef INSN
};

/* ---- how blocks end ----------------------------------------------------------------------------------------------- */

/* Single-step and the end of a shadow need the main loop behind each instruction. */
static bool is_stepping(const X86Translator *t)
{
  return (t->hflags & (TCG_HF_TF | TCG_HF_SHADOW)) != 0;
}

void x86_end_loop_to(X86Translator *t, IrRef rip)
{
  if (t->hflags & TCG_HF_TF)
    x86_call_void(t, HELPER_single_step, rip, IR_NONE, IR_NONE);
  ir_exit_loop(t->ir, rip);
  t->ended = true;
}

void x86_end_loop(X86Translator *t)
{
  x86_end_loop_to(t, x86_const(t, (int64_t)t->next_rip));
}

void x86_end_loop_stored(X86Translator *t)
{
  ir_exit_loop(t->ir, IR_NONE);
  t->ended = true;
}

void x86_end_direct(X86Translator *t, uint64_t rip)
{
  if (is_stepping(t)) {
    x86_end_loop_to(t, x86_const(t, (int64_t)rip));
    return;
  }
  ir_exit(t->ir, rip);
  t->ended = true;
}

void x86_end_indirect(X86Translator *t, IrRef rip)
{
  if (is_stepping(t)) {
    x86_end_loop_to(t, rip);
    return;
  }
  ir_exit_indirect(t->ir, rip);
  t->ended = true;
}

void x86_end_cc(X86Translator *t, unsigned cc, uint64_t taken_rip)
{
  if (is_stepping(t)) {
    IrRef yes = x86_const(t, (int64_t)taken_rip), no = x86_const(t, (int64_t)t->next_rip);
    x86_end_loop_to(t, x86_cmovcc(t, IR_W64, cc, yes, no));
    return;
  }
  ir_exit_cc(t->ir, cc, taken_rip);
  ir_exit(t->ir, t->next_rip);
  t->ended = true;
}

void x86_end_nonzero(X86Translator *t, IrWidth w, IrRef value, uint64_t if_nonzero, uint64_t if_zero)
{
  if (is_stepping(t)) {
    IrRef yes = x86_const(t, (int64_t)if_nonzero), no = x86_const(t, (int64_t)if_zero);
    x86_end_loop_to(t, x86_call(t, HELPER_select, x86_zero_extend(t, w, value), yes, no));
    return;
  }
  ir_exit_nz(t->ir, w, value, if_nonzero);
  ir_exit(t->ir, if_zero);
  t->ended = true;
}

void x86_emit_raise(X86Translator *t, unsigned vector)
{
  x86_call_void(t, HELPER_raise, x86_const(t, vector), IR_NONE, IR_NONE);
  ir_exit_loop(t->ir, x86_const(t, (int64_t)t->rip));
  t->ended = true;
}

void x86_emit_raise_error(X86Translator *t, unsigned vector, uint32_t error)
{
  x86_call_void(t, HELPER_raise_error, x86_const(t, vector), x86_const(t, error), IR_NONE);
  ir_exit_loop(t->ir, x86_const(t, (int64_t)t->rip));
  t->ended = true;
}

void x86_end_after_segment(X86Translator *t, unsigned seg)
{
  if (seg == X86_SS)
    x86_end_loop(t);
  else if (!x86_t_64bit(t))
    x86_end_indirect(t, x86_const(t, (int64_t)t->next_rip));
}

bool x86_refuse_user(X86Translator *t)
{
  if (x86_t_cpl(t) == 0)
    return false;
  x86_emit_gp0(t);
  return true;
}

bool x86_refuse_umip(X86Translator *t)
{
  if (!(t->hflags & TCG_HF_UMIP))
    return false;
  x86_emit_gp0(t);
  return true;
}

uint64_t x86_relative_target(const X86Translator *t, const X86Decoded *d)
{
  static const uint64_t masks[4] = { 0xff, 0xffff, 0xffffffff, ~0ull };
  return (t->next_rip + (uint64_t)d->imm) & masks[d->op_size];
}

void x86_tr_invalid(X86Translator *t, const X86Decoded *d)
{
  x86_emit_ud(t);
}

void x86_tr_fpu(X86Translator *t, const X86Decoded *d)
{
  if (!x86_translate_fpu(t, d))
    x86_emit_ud(t);
}

/* ---- fetching ------------------------------------------------------------------------------------------------------- */

/* The code bytes of one instruction: straight from the guest's page, or gathered where it crosses into the next one or
 * is not in RAM. */
typedef struct Fetch {
  TcgCpu *cpu;
  uint64_t pc; /* linear, of the block */
  X86Code code;
  unsigned n_page; /* bytes from pc to its page's end */
  uint8_t gathered[X86_MAX_INSN_BYTES];
} Fetch;

static bool fetch_start(Fetch *f, TcgCpu *cpu, uint64_t pc)
{
  *f = (Fetch){ .cpu = cpu, .pc = pc, .n_page = PAGE_BYTES - (unsigned)(pc & (PAGE_BYTES - 1)) };
  return x86_resolve_code(cpu, pc, &f->code);
}

static uint64_t wrap_linear(const TcgCpu *cpu, uint64_t linear)
{
  return cpu->hflags & TCG_HF_CS64 ? linear : (uint32_t)linear;
}

/* Bytes [offset, offset + n) behind the block's start, into `gathered`. False: a fault pends. */
static bool gather(Fetch *f, unsigned offset, unsigned n)
{
  unsigned n_here = offset < f->n_page ? MIN(n, f->n_page - offset) : 0;
  if (f->code.hva)
    memcpy(f->gathered, f->code.hva + offset, n_here);
  else if (n_here && !x86_read(f->cpu, f->pc + offset, f->gathered, n_here, x86_mmu(f->cpu)))
    return false;
  if (n_here == n)
    return true;
  X86Code next;
  uint64_t linear = wrap_linear(f->cpu, f->pc + f->n_page);
  if (!x86_resolve_code(f->cpu, linear, &next))
    return false;
  if (!next.hva)
    return x86_read(f->cpu, linear, f->gathered + n_here, n - n_here, x86_mmu(f->cpu));
  memcpy(f->gathered + n_here, next.hva, n - n_here);
  return true;
}

/* Decodes the instruction `offset` bytes behind the block's start. False: its bytes cannot be fetched, a fault pends. */
static bool fetch_insn(Fetch *f, X86Translator *t, unsigned offset, X86Decoded *d, X86DecodeStatus *status)
{
  bool protected_mode = x86_t_protected(t);
  unsigned n_here = f->n_page - offset;
  if (f->code.hva) {
    *status = x86_decode(d, f->code.hva + offset, n_here, t->code_size, protected_mode);
    if (*status != X86_DECODE_SHORT)
      return true;
  }
  /* Byte by byte, lest bytes be touched that do not belong to the instruction. */
  for (unsigned n = f->code.hva ? n_here + 1 : 1; n <= X86_MAX_INSN_BYTES; n++) {
    if (!gather(f, offset, n))
      return false;
    *status = x86_decode(d, f->gathered, n, t->code_size, protected_mode);
    if (*status != X86_DECODE_SHORT)
      return true;
  }
  *status = X86_DECODE_TOO_LONG;
  return true;
}

/* ---- the loop --------------------------------------------------------------------------------------------------------- */

static void start_translator(X86Translator *t, TcgCpu *cpu, IrBlock *ir, uint64_t pc)
{
  uint32_t hflags = cpu->hflags;
  bool wide = hflags & TCG_HF_CS64;
  *t = (X86Translator){ .ir = ir,
                        .cpu = cpu,
                        .hflags = hflags,
                        .code_size = wide                   ? 3
                                     : hflags & TCG_HF_CS32 ? 2
                                                            : 1,
                        .stack_size = wide                   ? 3
                                      : hflags & TCG_HF_SS32 ? 2
                                                             : 1,
                        .cs_base = wide ? 0 : cpu->x86.seg[X86_CS].base };
  t->rip = wide ? pc : (uint32_t)(pc - t->cs_base);
  ir->pc = pc;
  ir->rip = t->rip;
  ir->hflags = hflags;
}

/* The CS limit holds for every byte of an instruction. */
static bool is_beyond_limit(const X86Translator *t, unsigned length)
{
  return !x86_t_64bit(t) && t->rip + length - 1 > t->cpu->x86.seg[X86_CS].limit;
}

static void translate_insn(X86Translator *t, const X86Decoded *d, X86DecodeStatus status)
{
  unsigned length = status == X86_DECODE_TOO_LONG ? X86_MAX_INSN_BYTES : d->length;
  ir_insn_start(t->ir, t->rip);
  g_array_index(t->ir->insns, IrInsn, t->ir->insns->len - 1).aux = (uint8_t)length;
  if (t->hflags & TCG_HF_SHADOW)
    x86_call_void(t, HELPER_clear_shadow, IR_NONE, IR_NONE, IR_NONE);
  if (t->hflags & TCG_HF_BREAKPOINTS)
    x86_call_void(t, HELPER_check_breakpoint, IR_NONE, IR_NONE, IR_NONE);
  if (status == X86_DECODE_TOO_LONG || (length && is_beyond_limit(t, length)))
    x86_emit_gp0(t);
  else if (status == X86_DECODE_INVALID)
    x86_emit_ud(t);
  else if ((d->row.attr & X86_ROW_RING0) && x86_t_cpl(t))
    x86_emit_gp0(t);
  else
    families[d->insn](t, d);
}

static uint64_t rip_behind(const X86Translator *t, unsigned length)
{
  uint64_t next = t->rip + length;
  return x86_t_64bit(t) ? next : (uint32_t)next;
}

/* Whether the IR is close to the limit of its operand numbers: the longest instruction needs a few hundred. */
static bool is_full(const IrBlock *ir)
{
  return ir->n_temps > 0x3000 || ir->consts->len > 0x6000;
}

bool x86_translate(TcgCpu *cpu, IrBlock *ir, uint64_t pc, unsigned max_insns)
{
  Fetch fetch;
  if (!fetch_start(&fetch, cpu, pc))
    return false;
  X86Translator t;
  start_translator(&t, cpu, ir, pc);
  if (is_stepping(&t))
    max_insns = 1;
  unsigned offset = 0;
  for (unsigned n = 0; !t.ended; n++) {
    if (offset >= fetch.n_page || (n && n >= max_insns) || is_full(ir)) {
      x86_end_direct(&t, t.rip);
      break;
    }
    X86Decoded d;
    X86DecodeStatus status;
    if (!fetch_insn(&fetch, &t, offset, &d, &status)) {
      if (n == 0)
        return false;
      cpu->exc_pending = 0; /* not reached yet: the fault is found again when it is */
      x86_end_direct(&t, t.rip);
      break;
    }
    t.next_rip = rip_behind(&t, d.length);
    translate_insn(&t, &d, status);
    offset += d.length;
    t.rip = t.next_rip;
    if (is_stepping(&t) && !t.ended)
      x86_end_direct(&t, t.rip);
  }
  ir->guest_bytes = MAX(offset, 1);
  return true;
}

/*
 * What must agree: everything that a guest can see, but for these.
 *
 *   - FIP, FDP, FOP: this processor updates FDP and FOP at unmasked exceptions only (CPUID.7.0:EBX[6]), older ones, and the
 *     translator, always; and it keeps no selectors (EBX[13]).
 *   - Faults of instructions with many accesses (MOVS, CMPS, BOUND, FNSAVE, FLDENV, FXSAVE and kin): which access faults
 *     first, and what FLDENV and FRSTOR have loaded by then. So too #GP or #PF, where an 80-bit operand leaves both the segment and the mapped pages.
 *   - An x87 instruction whose memory operand faults, and which a pending unmasked exception stops, or that an unmasked
 *     exception keeps from storing: the translator finds the fault of the address first. (It is served, and the
 *     instruction begins again.)
 *   - MASKMOVQ and MASKMOVDQU that fault: which byte is reported, whether unselected ones count.
 *   - 80-bit stores, and MOVBE's, that fault in their second page: whether the first page has its part by then.
 *   - ARPL to a read-only operand that it does not change.
 *   - Indirect branches to non-canonical addresses: #GP at the branch, or (translator) at the target.
 *   - OF after ROL, ROR, RCL, RCR by an immediate other than 1: undefined, and other than with the same count in CL
 *     (so sequences, where the translator may know CL, have no rotations but by 1).
 *   - MXCSR.PE where an unmasked overflow or underflow is raised: it tells whether the result that is not delivered would
 *     have been exact with an unbounded exponent. All flags after DPPS and DPPD, which stop half-way.
 */
#include "tests/tcg/difftest/difftest.h"

#include "vm-engine/x86/cpu.h"

#define COMPARED_FLAGS (X86_F_ARITH | X86_F_DF)

static const char *const gpr_names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };

static void differ(GString *text, const char *what, uint64_t native, uint64_t engine)
{
  if (native != engine) {
    g_string_append_printf(text, "  %-8s native %016" G_GINT64_MODIFIER "x  engine %016" G_GINT64_MODIFIER "x\n", what,
                           native, engine);
  }
}

static uint64_t field(const uint8_t *p, unsigned bytes)
{
  uint64_t value = 0;
  memcpy(&value, p, bytes);
  return value;
}

/* ---- allowances -------------------------------------------------------------------------------------------------------- */

/* The instruction at `rip`. */
static bool decode_at(const DiffCase *c, uint64_t rip, X86Decoded *d)
{
  uint64_t at = rip + diff_cs_base(c->mode) - c->code_address;
  return at < c->code_length &&
         x86_decode(d, c->code + at, c->code_length - (unsigned)at, 1 + c->mode, true) == X86_DECODE_OK;
}

static bool has_many_accesses(const DiffCase *c, uint64_t rip)
{
  X86Decoded d;
  if (!decode_at(c, rip, &d)) {
    return false;
  }
  unsigned reg = d.modrm >> 3 & 7;
  bool memory = x86_decoded_is_memory(&d);
  switch (d.insn) {
  case X86_I_MOVS:
  case X86_I_CMPS:
  case X86_I_BOUND:
    return true;
  case X86_I_FPU:
    return d.map == X86_MAP_ONE ? memory && (d.opcode == 0xd9 || d.opcode == 0xdd) && (reg == 4 || reg == 6)
                                : memory && d.map == X86_MAP_0F && d.opcode == 0xae && reg < 2;
  default:
    return false;
  }
}

static bool is_address_fault(unsigned vector)
{
  return vector == X86_EXC_PF || vector == X86_EXC_GP || vector == X86_EXC_SS;
}

static bool is_wide_x87(const DiffCase *c, uint64_t rip)
{
  X86Decoded d;
  return decode_at(c, rip, &d) && x86_decoded_is_memory(&d) && d.map == X86_MAP_ONE &&
         ((d.opcode == 0xdb && (d.modrm >> 3 & 7) >= 5) || (d.opcode == 0xdf && (d.modrm & 0x28) == 0x20));
}

static bool is_other_fault_first(const DiffCase *c, const DiffState *native, const DiffState *engine)
{
  X86Decoded d;
  if (native->rip != engine->rip || !is_address_fault(native->vector) || !is_address_fault(engine->vector) ||
      !decode_at(c, native->rip, &d)) {
    return false;
  }
  bool other = native->vector != engine->vector || native->cr2 != engine->cr2;
  return has_many_accesses(c, native->rip) ? other || d.insn == X86_I_FPU
                                           : native->vector != engine->vector && is_wide_x87(c, native->rip);
}

/* An x87 store whose fault the processor did not come to. */
static bool is_fault_instead_of_exception(const DiffCase *c, const DiffState *native, const DiffState *engine)
{
  X86Decoded d;
  bool unmasked = native->fx[2] & 0x80 || (native->fx[0] & 0x3f) != 0x3f;
  bool elsewhere = native->rip != engine->rip || native->vector != engine->vector;
  return is_address_fault(engine->vector) && elsewhere && unmasked && decode_at(c, engine->rip, &d) &&
         d.map == X86_MAP_ONE && d.opcode >= 0xd8 && d.opcode <= 0xdf && x86_decoded_is_memory(&d);
}

static bool is_masked_store_fault(const DiffCase *c, const DiffState *native, const DiffState *engine)
{
  X86Decoded d;
  uint64_t rip = native->vector == X86_EXC_PF ? native->rip : engine->rip;
  return (native->vector == X86_EXC_PF || engine->vector == X86_EXC_PF) && decode_at(c, rip, &d) &&
         d.map == X86_MAP_0F && d.opcode == 0xf7 && d.insn == X86_I_FPU;
}

static bool is_split_wide_store(const DiffCase *c, const DiffState *native)
{
  X86Decoded d;
  return native->vector == X86_EXC_PF && !(native->cr2 & (DIFF_PAGE - 1)) && decode_at(c, native->rip, &d) &&
         (is_wide_x87(c, native->rip) || d.insn == X86_I_MOVBE);
}

static bool is_bad_branch(const DiffCase *c, const DiffState *native)
{
  X86Decoded d;
  return native->vector == X86_EXC_GP && decode_at(c, native->rip, &d) &&
         (d.insn == X86_I_JMP_IND || d.insn == X86_I_CALL_IND || d.insn == X86_I_RET);
}

static bool is_idle_arpl(const DiffCase *c, const DiffState *native, const DiffState *engine)
{
  X86Decoded d;
  return is_address_fault(engine->vector) && native->vector != engine->vector && decode_at(c, engine->rip, &d) &&
         d.insn == X86_I_ARPL;
}

/* Of a case of one instruction. */
static uint64_t compared_flags(const DiffCase *c)
{
  X86Decoded d;
  bool immediate_rotation = decode_at(c, c->code_address - diff_cs_base(c->mode), &d) && d.insn >= X86_I_ROL &&
                            d.insn <= X86_I_RCR && d.map == X86_MAP_ONE && (d.opcode == 0xc0 || d.opcode == 0xc1);
  return immediate_rotation ? COMPARED_FLAGS & ~X86_F_OF : COMPARED_FLAGS;
}

static uint32_t compared_mxcsr(const DiffCase *c, const DiffState *native)
{
  X86Decoded d;
  uint32_t mxcsr;
  memcpy(&mxcsr, native->fx + 24, 4);
  uint32_t raised = mxcsr & ~(mxcsr >> 7) & 0x3f;
  if (native->vector != X86_EXC_XM) {
    return ~0u;
  }
  if (decode_at(c, native->rip, &d) && d.map == X86_MAP_0F3A && (d.opcode & 0xfe) == 0x40) {
    return ~0x3fu;
  }
  return raised & 0x18 ? ~0x20u : ~0u;
}

/* ---- comparison --------------------------------------------------------------------------------------------------------- */

static void compare_fpu(const uint8_t *native, const uint8_t *engine, uint32_t mxcsr_mask, GString *text)
{
  char name[16];
  differ(text, "fcw", field(native, 2), field(engine, 2));
  differ(text, "fsw", field(native + 2, 2), field(engine + 2, 2));
  differ(text, "ftw", native[4], engine[4]);
  differ(text, "mxcsr", field(native + 24, 4) & mxcsr_mask, field(engine + 24, 4) & mxcsr_mask);
  for (unsigned i = 0; i < 8; i++) {
    const uint8_t *n = native + 32 + 16 * i, *e = engine + 32 + 16 * i;
    if (memcmp(n, e, 10) != 0) {
      g_snprintf(name, sizeof name, "st%u", i);
      g_string_append_printf(text,
                             "  %-8s native %04x:%016" G_GINT64_MODIFIER "x  engine %04x:%016" G_GINT64_MODIFIER "x\n",
                             name, (unsigned)field(n + 8, 2), field(n, 8), (unsigned)field(e + 8, 2), field(e, 8));
    }
  }
  for (unsigned i = 0; i < 16; i++) {
    const uint8_t *n = native + 160 + 16 * i, *e = engine + 160 + 16 * i;
    g_snprintf(name, sizeof name, "xmm%u.lo", i);
    differ(text, name, field(n, 8), field(e, 8));
    g_snprintf(name, sizeof name, "xmm%u.hi", i);
    differ(text, name, field(n + 8, 8), field(e + 8, 8));
  }
}

static void compare_memory(const char *what, uint32_t base, const uint8_t *before, const uint8_t *native,
                           const uint8_t *engine, unsigned bytes, GString *text)
{
  unsigned shown = 0;
  if (memcmp(native, engine, bytes) == 0) {
    return;
  }
  for (unsigned i = 0; i < bytes && shown < 8; i++) {
    if (native[i] != engine[i]) {
      g_string_append_printf(text, "  %s[%x] native %02x  engine %02x  before %02x\n", what, base + i, native[i],
                             engine[i], before[i]);
      shown++;
    }
  }
}

bool diff_compare(const DiffCase *c, const DiffState *native, const DiffState *engine, GString *text)
{
  gsize before = text->len;
  if (is_fault_instead_of_exception(c, native, engine) || is_masked_store_fault(c, native, engine) ||
      is_bad_branch(c, native) || is_idle_arpl(c, native, engine) || is_other_fault_first(c, native, engine)) {
    return true;
  }
  differ(text, "vector", native->vector, engine->vector);
  if (native->vector == engine->vector) {
    bool has_error = native->vector == X86_EXC_PF || native->vector == X86_EXC_GP || native->vector == X86_EXC_SS;
    differ(text, "error", has_error ? native->error : 0, has_error ? engine->error : 0);
    differ(text, "cr2", native->vector == X86_EXC_PF ? native->cr2 : 0, native->vector == X86_EXC_PF ? engine->cr2 : 0);
  }
  differ(text, "rip", native->rip, engine->rip);
  uint64_t flags = compared_flags(c);
  differ(text, "flags", native->rflags & flags, engine->rflags & flags);
  for (unsigned i = 0; i < (c->mode == DIFF_64 ? 16u : 8u); i++) {
    differ(text, gpr_names[i], native->gpr[i], engine->gpr[i]);
  }
  compare_fpu(native->fx, engine->fx, compared_mxcsr(c, native), text);
  if (is_split_wide_store(c, native)) {
    return text->len == before;
  }
  compare_memory("data", DIFF_DATA, c->before.data, native->data, engine->data, DIFF_DATA_BYTES, text);
  compare_memory("stack", DIFF_STACK, c->before.stack, native->stack, engine->stack, DIFF_STACK_BYTES, text);
  return text->len == before;
}

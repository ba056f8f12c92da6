/*
 * The list of forms: every row of the decoder's and the vector table that user-mode code can run with a result that both
 * sides must agree on.
 */
#include "tests/tcg/difftest/difftest.h"

#include "vm-engine/accel/tcg/guest/x86/fpu-x87.h"

/* Instructions whose outcome is the machine's business (time, identity, descriptor tables, other programs' segments), or
 * that would leave the sandbox. */
static bool is_left_out(X86Insn insn)
{
  switch (insn) {
  case X86_I_INVALID:
  case X86_I_CPUID:
  case X86_I_RDTSC:
  case X86_I_RDTSCP:
  case X86_I_RDPMC:
  case X86_I_RDRAND:
  case X86_I_RDSEED:
  case X86_I_RDPID:
  case X86_I_XGETBV:
  case X86_I_XSETBV:
  case X86_I_SYSCALL:
  case X86_I_SYSENTER:
  case X86_I_SYSRET:
  case X86_I_SYSEXIT:
  case X86_I_RSM:
  case X86_I_INT:
  case X86_I_INT1:
  case X86_I_SGDT:
  case X86_I_SIDT:
  case X86_I_SLDT:
  case X86_I_STR:
  case X86_I_SMSW:
  case X86_I_VERR:
  case X86_I_VERW:
  case X86_I_LAR:
  case X86_I_LSL:
  case X86_I_MOV_TO_SEG:
  case X86_I_POP_SEG:
  case X86_I_LOAD_FAR:
  case X86_I_JMP_FAR:
  case X86_I_CALL_FAR:
  case X86_I_JMP_FAR_MEM:
  case X86_I_CALL_FAR_MEM:
  case X86_I_RET_FAR:
  case X86_I_IRET:
  case X86_I_RDFSBASE:
  case X86_I_WRFSBASE:
  case X86_I_WRGSBASE:
    return true;
  default:
    return false;
  }
}

/* Rows with operands that name modrm, or that say so. */
static bool has_modrm(const X86Row *row)
{
  if (row->attr & X86_ROW_MODRM) {
    return true;
  }
  for (unsigned i = 0; i < 3; i++) {
    if (x86_class_needs_modrm(x86_operand_class((X86Operand)row->operands[i]))) {
      return true;
    }
  }
  return false;
}

static bool has_class(const X86Row *row, X86OperandClass class)
{
  for (unsigned i = 0; i < 3; i++) {
    if (x86_operand_class((X86Operand)row->operands[i]) == class) {
      return true;
    }
  }
  return false;
}

static void add_form(GArray *forms, DiffForm form)
{
  uint16_t attr = form.row->attr;
  form.in64 = !(attr & X86_ROW_NO64);
  form.in32 = !(attr & X86_ROW_ONLY64);
  if (form.map == X86_MAP_ONE && form.opcode == 0x63) {
    bool movsxd = form.row->insn == X86_I_MOVSXD;
    form.in64 = movsxd;
    form.in32 = !movsxd;
  }
  g_array_append_val(forms, form);
}

static const char *prefix_text(uint8_t prefix)
{
  return prefix == 0x66 ? "66." : prefix == 0xf2 ? "f2." : prefix == 0xf3 ? "f3." : "";
}

static void name_form(DiffForm *f, const char *mnemonic)
{
  static const char *const maps[] = { "", "0f.", "0f38.", "0f3a." };
  char group[8] = "";
  if (f->modrm_reg >= 0) {
    g_snprintf(group, sizeof group, "/%d", f->modrm_reg);
  }
  g_snprintf(f->name, sizeof f->name, "%s %s%s%s%02x%s%s", mnemonic, f->vex ? "vex." : "", prefix_text(f->prefix),
             maps[f->map & 3], f->opcode, group,
             f->memory && !f->registers   ? "m"
             : f->registers && !f->memory ? "r"
                                          : "");
}

/* ---- integer ------------------------------------------------------------------------------------------------------- */

/* 0F 01's register forms: the whole modrm byte is opcode. */
static bool is_single(X86Insn group, unsigned modrm)
{
  bool differs = false;
  for (unsigned i = 1; i < 8; i++) {
    differs |= x86_table_group(group, (uint8_t)((modrm & 0xf8) | i)) != x86_table_group(group, (uint8_t)(modrm & 0xf8));
  }
  return differs;
}

static void add_group(GArray *forms, DiffForm base, X86Insn group)
{
  for (unsigned modrm = 0; modrm < 256; modrm++) {
    bool registers = modrm >= 0xc0, single = is_single(group, modrm);
    const X86Row *row = x86_table_group(group, (uint8_t)modrm);
    bool redundant = modrm < 0xc0 ? modrm & 0xc7 : modrm & 7 && !single;
    if (redundant || is_left_out((X86Insn)row->insn) || row->insn == X86_I_FPU) {
      continue;
    }
    DiffForm form = base;
    form.row = row;
    form.memory = !registers;
    form.registers = registers;
    form.modrm_reg = modrm >> 3 & 7;
    form.modrm_rm = single ? (int)(modrm & 7) : -1;
    name_form(&form, x86_insn_name((X86Insn)row->insn));
    add_form(forms, form);
  }
}

static void add_row(GArray *forms, DiffForm base, const X86Row *row)
{
  base.row = row;
  if (x86_insn_is_group((X86Insn)row->insn)) {
    add_group(forms, base, (X86Insn)row->insn);
    return;
  }
  if (row->insn == X86_I_FPU || is_left_out((X86Insn)row->insn)) {
    return;
  }
  if (has_modrm(row)) {
    base.memory = !has_class(row, X86_OPC_R) && !has_class(row, X86_OPC_RANY);
    base.registers = !has_class(row, X86_OPC_M);
  }
  name_form(&base, x86_insn_name((X86Insn)row->insn));
  add_form(forms, base);
}

static bool is_prefix_or_escape(unsigned map, unsigned opcode)
{
  static const uint8_t bytes[] = { 0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3 };
  return map == X86_MAP_ONE ? memchr(bytes, (int)opcode, sizeof bytes) != NULL
                            : map == X86_MAP_0F && (opcode == 0x38 || opcode == 0x3a);
}

static void add_integer_forms(GArray *forms, unsigned map, unsigned opcode)
{
  static const uint8_t prefixes[] = { 0, 0x66, 0xf2, 0xf3 };
  DiffForm base = {
    .kind = DIFF_INTEGER, .map = (uint8_t)map, .opcode = (uint8_t)opcode, .modrm_reg = -1, .modrm_rm = -1
  };
  add_row(forms, base, x86_table_row((X86Map)map, base.opcode, true));
  if (map == X86_MAP_ONE && opcode == 0x63) {
    add_row(forms, base, x86_table_row((X86Map)map, base.opcode, false));
  }
  for (unsigned i = 0; i < 8; i++) {
    base.prefix = prefixes[i & 3];
    base.vex = i >= 4;
    const X86Row *row = x86_table_prefixed((X86Map)map, base.opcode, base.prefix, base.vex);
    if (row) {
      add_row(forms, base, row);
    }
  }
}

/* ---- x87 and vectors ------------------------------------------------------------------------------------------------- */

static void add_x87_forms(GArray *forms, unsigned opcode)
{
  const X86Row *row = x86_table_row(X86_MAP_ONE, (uint8_t)opcode, true);
  for (unsigned modrm = 0; modrm < 256; modrm++) {
    bool registers = modrm >= 0xc0;
    bool single = registers && ((opcode == 0xd9 && modrm >= 0xd0 && modrm != 0xd8) ||
                                (opcode == 0xdb && modrm >= 0xe0 && modrm < 0xe8));
    if (!x87_is_valid(opcode, modrm) || (!registers && (modrm & 0xc7)) ||
        (registers && !single && (modrm & 7) && x87_is_valid(opcode, modrm & 0xf8))) {
      continue;
    }
    DiffForm form = { .kind = DIFF_X87,
                      .opcode = (uint8_t)opcode,
                      .row = row,
                      .memory = !registers,
                      .registers = registers,
                      .modrm_reg = modrm >> 3 & 7,
                      .modrm_rm = -1 };
    if (registers && (single || (modrm & 7))) {
      form.modrm_rm = modrm & 7;
    }
    g_snprintf(form.name, sizeof form.name, "x87 %02x.%02x%s", opcode, modrm, registers ? "r" : "m");
    add_form(forms, form);
  }
}

static void add_vector_form(GArray *forms, unsigned map, unsigned opcode, unsigned prefix, int group)
{
  static const uint8_t bytes[VEC_N_PREFIXES] = { 0, 0x66, 0xf3, 0xf2 };
  const X86VectorRow *vector = x86_vector_row(prefix, map, (uint8_t)opcode, group < 0 ? 0 : (unsigned)group);
  if (!vector) {
    return;
  }
  DiffForm form = { .kind = DIFF_VECTOR,
                    .map = (uint8_t)map,
                    .opcode = (uint8_t)opcode,
                    .prefix = bytes[prefix],
                    .row = x86_table_row((X86Map)map, (uint8_t)opcode, true),
                    .vector = vector,
                    .modrm_reg = group,
                    .modrm_rm = -1,
                    .memory = vector->memory != VEC_MEM_NONE,
                    .registers = !(vector->flags & VEC_MEMONLY) };
  name_form(&form, vector->name);
  add_form(forms, form);
}

static void add_vector_forms(GArray *forms)
{
  for (unsigned map = 1; map <= 3; map++) {
    for (unsigned opcode = 0; opcode < 256; opcode++) {
      bool is_group = map == 1 && opcode >= 0x71 && opcode <= 0x73;
      for (unsigned i = 0; i < VEC_N_PREFIXES * (is_group ? 8 : 1); i++) {
        add_vector_form(forms, map, opcode, i % VEC_N_PREFIXES, is_group ? (int)(i / VEC_N_PREFIXES) : -1);
      }
    }
  }
}

static void add_state_forms(GArray *forms)
{
  static const char *const names[4] = { "FXSAVE", "FXRSTOR", "LDMXCSR", "STMXCSR" };
  for (int reg = 0; reg < 4; reg++) {
    DiffForm form = { .kind = DIFF_FPU_STATE,
                      .map = X86_MAP_0F,
                      .opcode = 0xae,
                      .modrm_reg = reg,
                      .modrm_rm = -1,
                      .memory = true,
                      .row = x86_table_group(X86_I_GROUP15, (uint8_t)(reg << 3)) };
    name_form(&form, names[reg]);
    add_form(forms, form);
  }
  DiffForm emms = { .kind = DIFF_FPU_STATE,
                    .map = X86_MAP_0F,
                    .opcode = 0x77,
                    .modrm_reg = -1,
                    .modrm_rm = -1,
                    .row = x86_table_row(X86_MAP_0F, 0x77, true) };
  name_form(&emms, "EMMS");
  add_form(forms, emms);
  DiffForm wait = { .kind = DIFF_FPU_STATE,
                    .opcode = 0x9b,
                    .modrm_reg = -1,
                    .modrm_rm = -1,
                    .row = x86_table_row(X86_MAP_ONE, 0x9b, true) };
  name_form(&wait, "FWAIT");
  add_form(forms, wait);
}

GArray *diff_forms_new(void)
{
  GArray *forms = g_array_new(FALSE, FALSE, sizeof(DiffForm));
  for (unsigned map = X86_MAP_ONE; map <= X86_MAP_0F3A; map++) {
    for (unsigned opcode = 0; opcode < 256; opcode++) {
      if (!is_prefix_or_escape(map, opcode)) {
        add_integer_forms(forms, map, opcode);
      }
    }
  }
  for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++) {
    add_x87_forms(forms, opcode);
  }
  add_vector_forms(forms);
  add_state_forms(forms);
  return forms;
}

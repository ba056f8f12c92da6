/*
 * IR as text. One op a line, in a form that ir/parse.c reads back:
 *
 *   block pc=0x1000 rip=0x1000 hflags=0x109 bytes=5
 *     insn len=3 0x1000
 *     rax = addf.w32 rax, t1
 *     t2:t3 = umulwf.w64 rax, 0x10
 *     t4 = ld.w64 rbx, mem=0x3, disp=0x8
 *     exitcc nz, 0x1000
 *
 * Absent optional operands are written `_`.
 */
#include "vm-engine/accel/tcg/ir/text.h"

const char *const ir_cc_names[16] = { "o", "no", "b", "nb", "z", "nz", "be", "nbe",
                                      "s", "ns", "p", "np", "l", "nl", "le", "nle" };

static void dump_ref(const IrBlock *b, IrRef ref, GString *out)
{
  if (ref == IR_NONE)
    g_string_append_c(out, '_');
  else if (ir_is_temp(ref))
    g_string_append_printf(out, "t%u", ref - IR_TEMP_BASE + 1u);
  else if (ir_is_reg(ref))
    g_string_append(out, ir_reg_index(ref) < b->n_guest_regs ? b->guest_regs[ir_reg_index(ref)].name : "?reg");
  else
    g_string_append_printf(out, "0x%" PRIx64, (uint64_t)g_array_index(b->consts, int64_t, ref - IR_CONST_BASE));
}

static void dump_native_operand(const char *name, const IrNativeOperand *o, GString *out)
{
  static const char kinds[] = { 'n', 'x', 'm', 'g' };
  g_string_append_printf(out, ", %s=%c:%u:%s%s:0x%x", name, kinds[o->kind & 3], o->bytes, o->reads ? "r" : "",
                         o->writes ? "w" : "", o->offset);
}

static void dump_native(const IrNative *n, GString *out)
{
  g_string_append_printf(out, ", code=0x%02x:%u:0x%02x", n->prefix, n->map, n->opcode);
  if (n->has_imm)
    g_string_append_printf(out, ", imm8=0x%02x", n->imm);
  if (n->implicit_xmm0)
    g_string_append_printf(out, ", xmm0=0x%x", n->xmm0_offset);
  if (n->group)
    g_string_append_printf(out, ", group=%u", n->group_reg);
  if (n->flags_def != 0)
    g_string_append_printf(out, ", def=0x%x", n->flags_def);
  dump_native_operand("reg", &n->reg, out);
  dump_native_operand("rm", &n->rm, out);
}

static void dump_details(const IrBlock *b, const IrInsn *insn, GString *out)
{
  uint64_t imm = (uint64_t)insn->imm;
  switch (insn->op) {
  case IR_LEA:
    g_string_append_printf(out, ", scale=%u, disp=0x%" PRIx64, insn->aux, imm);
    break;
  case IR_LD:
  case IR_ST:
    g_string_append_printf(out, ", mem=0x%x, disp=0x%" PRIx64, insn->aux, imm);
    break;
  case IR_LDV:
  case IR_STV:
    g_string_append_printf(out, ", mem=0x%x, state=0x%" PRIx64, insn->aux, imm);
    break;
  case IR_PROBEW:
    g_string_append_printf(out, ", mem=0x%x", insn->aux);
    break;
  case IR_LDE:
  case IR_STE:
    g_string_append_printf(out, ", state=0x%" PRIx64, imm);
    break;
  case IR_SETFLAGS:
    g_string_append_printf(out, ", mask=0x%" PRIx64, imm);
    break;
  case IR_SETCC:
  case IR_CMOVCC:
  case IR_EXITCC:
    g_string_append_printf(out, ", cc=%s", ir_cc_names[insn->aux & 15]);
    break;
  case IR_CALL:
    g_string_append_printf(out, ", helper=%s", imm < HELPER_N ? tcg_helpers[imm].name : "?");
    break;
  case IR_NAT:
    dump_native(&g_array_index(b->natives, IrNative, insn->imm), out);
    break;
  case IR_INSN:
    g_string_append_printf(out, ", len=%u", insn->aux);
    break;
  default:
    break;
  }
  if (insn->op == IR_EXITCC || insn->op == IR_EXITNZ || insn->op == IR_EXIT || insn->op == IR_INSN)
    g_string_append_printf(out, ", rip=0x%" PRIx64, imm);
}

static void dump_insn(const IrBlock *b, const IrInsn *insn, GString *out)
{
  const IrOpInfo *info = &ir_ops[insn->op];
  g_string_append(out, insn->op == IR_INSN ? "  " : "    ");
  if (insn->d != IR_NONE) {
    dump_ref(b, insn->d, out);
    if (info->c == IR_OPERAND_O2 && insn->c != IR_NONE) {
      g_string_append_c(out, ':');
      dump_ref(b, insn->c, out);
    }
    g_string_append(out, " = ");
  }
  g_string_append_printf(out, "%s.w%u", info->text, ir_width_bits(insn->width & 3));
  const IrRef refs[3] = { insn->a, insn->b, insn->c };
  const uint8_t kinds[3] = { info->a, info->b, info->c };
  for (unsigned i = 0; i < 3; i++) {
    if (kinds[i] == IR_OPERAND_R || kinds[i] == IR_OPERAND_RN) {
      g_string_append(out, ", ");
      dump_ref(b, refs[i], out);
    }
  }
  dump_details(b, insn, out);
  if ((info->flags_def != 0 || insn->op == IR_CALL) && insn->flags_live != IR_FL_ALL)
    g_string_append_printf(out, ", live=0x%x", insn->flags_live);
  g_string_append_c(out, '\n');
}

void ir_dump(const IrBlock *block, GString *out)
{
  g_string_append_printf(out, "block pc=0x%" PRIx64 ", rip=0x%" PRIx64 ", hflags=0x%x, bytes=%u\n", block->pc,
                         block->rip, block->hflags, block->guest_bytes);
  for (unsigned i = 0; i < ir_count(block); i++)
    dump_insn(block, ir_get(block, i), out);
}

/*
 * The dump's text back to IR: tests are texts. A line's fields are separated by commas; each is an operand (`t1`, a
 * guest register's name, a number, `_`) or `key=value`. `#` begins a comment.
 */
#include "vm-engine/accel/tcg/ir/text.h"

typedef struct Parser {
  IrBlock *block;
  GHashTable *temps; /* name → ref */
  unsigned line;
  GError **error;
} Parser;

G_GNUC_PRINTF(2, 3) static bool fail(Parser *p, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  g_set_error(p->error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "IR line %u: %s", p->line, text);
  return false;
}

static bool parse_number(Parser *p, const char *text, uint64_t *value)
{
  char *end;
  bool negative = *text == '-';
  *value = g_ascii_strtoull(text + negative, &end, 0);
  if (negative)
    *value = -*value;
  return (*end == '\0' && end != text) || fail(p, "“%s” is not a number", text);
}

static bool parse_ref(Parser *p, const char *text, IrRef *ref)
{
  if (g_str_equal(text, "_")) {
    *ref = IR_NONE;
    return true;
  }
  for (unsigned i = 0; i < p->block->n_guest_regs; i++) {
    if (g_str_equal(text, p->block->guest_regs[i].name)) {
      *ref = ir_reg(i);
      return true;
    }
  }
  if (*text == 't' && g_ascii_isdigit(text[1])) {
    gpointer known = g_hash_table_lookup(p->temps, text);
    *ref = known != NULL ? (IrRef)GPOINTER_TO_UINT(known) : ir_temp(p->block);
    if (known == NULL)
      g_hash_table_insert(p->temps, g_strdup(text), GUINT_TO_POINTER((unsigned)*ref));
    return true;
  }
  uint64_t value;
  if (!parse_number(p, text, &value))
    return false;
  *ref = ir_const(p->block, (int64_t)value);
  return true;
}

/* x:16:rw:0x1c0 */
static bool parse_native_operand(Parser *p, const char *text, IrNativeOperand *o)
{
  static const char kinds[] = "nxmg";
  g_auto(GStrv) parts = g_strsplit(text, ":", 4);
  uint64_t bytes, offset;
  if (g_strv_length(parts) != 4 || strlen(parts[0]) != 1 || strchr(kinds, parts[0][0]) == NULL)
    return fail(p, "“%s” is not kind:bytes:rw:offset", text);
  if (!parse_number(p, parts[1], &bytes) || !parse_number(p, parts[3], &offset))
    return false;
  *o = (IrNativeOperand){ .kind = (uint8_t)(strchr(kinds, parts[0][0]) - kinds),
                          .bytes = (uint8_t)bytes,
                          .reads = strchr(parts[2], 'r') != NULL,
                          .writes = strchr(parts[2], 'w') != NULL,
                          .offset = (uint32_t)offset };
  return true;
}

static bool parse_native_key(Parser *p, IrNative *n, const char *key, const char *value, bool *known)
{
  uint64_t v = 0;
  *known = true;
  if (g_str_equal(key, "reg"))
    return parse_native_operand(p, value, &n->reg);
  if (g_str_equal(key, "rm"))
    return parse_native_operand(p, value, &n->rm);
  if (g_str_equal(key, "code")) {
    unsigned prefix, map, opcode;
    if (sscanf(value, "%x:%u:%x", &prefix, &map, &opcode) != 3)
      return fail(p, "“%s” is not prefix:map:opcode", value);
    n->prefix = (uint8_t)prefix;
    n->map = (uint8_t)map;
    n->opcode = (uint8_t)opcode;
    return true;
  }
  if (!g_str_equal(key, "imm8") && !g_str_equal(key, "xmm0") && !g_str_equal(key, "group") &&
      !g_str_equal(key, "def")) {
    *known = false;
    return true;
  }
  if (!parse_number(p, value, &v))
    return false;
  if (*key == 'i') {
    n->has_imm = true;
    n->imm = (uint8_t)v;
  } else if (*key == 'x') {
    n->implicit_xmm0 = true;
    n->xmm0_offset = (uint32_t)v;
  } else if (*key == 'g') {
    n->group = true;
    n->group_reg = (uint8_t)v;
  } else {
    n->flags_def = (uint16_t)v;
  }
  return true;
}

static bool parse_cc(Parser *p, const char *value, uint8_t *cc)
{
  for (unsigned i = 0; i < 16; i++) {
    if (g_str_equal(value, ir_cc_names[i])) {
      *cc = (uint8_t)i;
      return true;
    }
  }
  return fail(p, "no condition “%s”", value);
}

static bool parse_helper(Parser *p, const char *value, IrInsn *insn)
{
  for (unsigned i = 0; i < HELPER_N; i++) {
    if (g_str_equal(value, tcg_helpers[i].name)) {
      insn->imm = i;
      return true;
    }
  }
  return fail(p, "no helper “%s”", value);
}

static bool parse_key(Parser *p, IrInsn *insn, IrNative *native, const char *key, const char *value)
{
  bool known;
  uint64_t v;
  if (insn->op == IR_NAT) {
    if (!parse_native_key(p, native, key, value, &known) || known)
      return known;
  }
  if (g_str_equal(key, "cc"))
    return parse_cc(p, value, &insn->aux);
  if (g_str_equal(key, "helper"))
    return parse_helper(p, value, insn);
  if (!parse_number(p, value, &v))
    return false;
  if (g_str_equal(key, "live"))
    insn->flags_live = (uint16_t)v;
  else if (g_str_equal(key, "scale") || g_str_equal(key, "mem") || g_str_equal(key, "len"))
    insn->aux = (uint8_t)v;
  else if (g_str_equal(key, "disp") || g_str_equal(key, "state") || g_str_equal(key, "mask") || g_str_equal(key, "rip"))
    insn->imm = (int64_t)v;
  else
    return fail(p, "no field “%s”", key);
  return true;
}

/* addf.w32 */
static bool parse_op(Parser *p, const char *text, IrInsn *insn)
{
  g_auto(GStrv) parts = g_strsplit(text, ".w", 2);
  uint64_t bits = 64;
  if (parts[1] != NULL && !parse_number(p, parts[1], &bits))
    return false;
  if (bits != 8 && bits != 16 && bits != 32 && bits != 64)
    return fail(p, "no width “%s”", parts[1]);
  insn->width = (uint8_t)(__builtin_ctz((unsigned)bits) - 3);
  for (unsigned i = 0; i < IR_N_OPS; i++) {
    if (g_str_equal(parts[0], ir_ops[i].text)) {
      insn->op = (uint8_t)i;
      return true;
    }
  }
  return fail(p, "no op “%s”", parts[0]);
}

static bool parse_outputs(Parser *p, const char *text, IrInsn *insn)
{
  g_auto(GStrv) parts = g_strsplit(text, ":", 2);
  if (!parse_ref(p, g_strstrip(parts[0]), &insn->d))
    return false;
  return parts[1] == NULL || parse_ref(p, g_strstrip(parts[1]), &insn->c);
}

static bool parse_fields(Parser *p, char **fields, IrInsn *insn, IrNative *native)
{
  const IrOpInfo *info = &ir_ops[insn->op];
  const uint8_t kinds[3] = { info->a, info->b, info->c };
  IrRef *refs[3] = { &insn->a, &insn->b, &insn->c };
  unsigned next = 0;
  for (; *fields != NULL; fields++) {
    char *field = g_strstrip(*fields), *equals = strchr(field, '=');
    if (*field == '\0')
      continue;
    if (equals != NULL) {
      *equals = '\0';
      if (!parse_key(p, insn, native, field, equals + 1))
        return false;
      continue;
    }
    while (next < 3 && kinds[next] != IR_OPERAND_R && kinds[next] != IR_OPERAND_RN)
      next++;
    if (next == 3)
      return fail(p, "one operand too many, “%s”", field);
    if (!parse_ref(p, field, refs[next++]))
      return false;
  }
  return true;
}

static bool parse_header(Parser *p, const char *text)
{
  g_auto(GStrv) fields = g_strsplit(text, ",", -1);
  for (char **f = fields; *f != NULL; f++) {
    char *field = g_strstrip(*f), *equals = strchr(field, '=');
    uint64_t v;
    if (equals == NULL)
      return fail(p, "“%s” is not key=value", field);
    *equals = '\0';
    if (!parse_number(p, equals + 1, &v))
      return false;
    if (g_str_equal(field, "pc"))
      p->block->pc = v;
    else if (g_str_equal(field, "rip"))
      p->block->rip = v;
    else if (g_str_equal(field, "hflags"))
      p->block->hflags = (uint32_t)v;
    else if (g_str_equal(field, "bytes"))
      p->block->guest_bytes = (uint32_t)v;
    else
      return fail(p, "no field “%s”", field);
  }
  return true;
}

static bool parse_line(Parser *p, char *line)
{
  IrInsn insn = { .flags_live = IR_FL_ALL };
  IrNative native = { 0 };
  if (g_str_has_prefix(line, "block "))
    return parse_header(p, line + 6);
  char *assign = strstr(line, " = ");
  if (assign != NULL) {
    *assign = '\0';
    if (!parse_outputs(p, line, &insn))
      return false;
    line = assign + 3;
  }
  g_auto(GStrv) fields = g_strsplit_set(line, ", ", -1);
  if (!parse_op(p, fields[0], &insn) || !parse_fields(p, fields + 1, &insn, &native))
    return false;
  if (insn.op == IR_NAT) {
    insn.imm = p->block->natives->len;
    native.rex_w = insn.width == IR_W64;
    g_array_append_val(p->block->natives, native);
  }
  if (insn.op == IR_INSN)
    p->block->n_guest_insns++;
  g_array_append_val(p->block->insns, insn);
  return true;
}

IrBlock *ir_parse(const char *text, GError **error)
{
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  g_autoptr(GHashTable) temps = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  Parser p = { .block = ir_block_new(), .temps = temps, .error = error };
  ir_block_clear(p.block);
  for (char **l = lines; *l != NULL; l++) {
    p.line++;
    char *comment = strchr(*l, '#');
    if (comment != NULL)
      *comment = '\0';
    if (*g_strstrip(*l) != '\0' && !parse_line(&p, *l)) {
      ir_block_free(p.block);
      return NULL;
    }
  }
  return p.block;
}

/*
 * The visible list of passes, in order.
 */
#include "vm-engine/accel/tcg/ir/passes.h"

const IrPass ir_passes[] = {
  { "forward", ir_pass_forward }, /* constants and copies go to where they are used; constant ops are evaluated */
  { "live", ir_pass_live },       /* what nobody sees goes: flags, temps, register writes */
  { NULL, NULL },
};

static void dump_after(const IrBlock *block, const char *name, GString *dump)
{
  if (dump == NULL)
    return;
  g_string_append_printf(dump, "-- IR %s\n", name);
  ir_dump(block, dump);
}

static void verify_after(const IrBlock *block, const char *name)
{
#ifdef TCG_VERIFY_IR
  g_autoptr(GError) error = NULL;
  if (ir_verify(block, &error))
    return;
  g_autoptr(GString) text = g_string_new(NULL);
  ir_dump(block, text);
  g_error("after pass %s: %s\n%s", name, error->message, text->str);
#else
  (void)block;
  (void)name;
#endif
}

void ir_optimise(IrBlock *block, GString *dump)
{
  dump_after(block, "as translated", dump);
  verify_after(block, "translation");
  for (const IrPass *pass = ir_passes; pass->name != NULL; pass++) {
    pass->run(block);
    dump_after(block, pass->name, dump);
    verify_after(block, pass->name);
  }
}

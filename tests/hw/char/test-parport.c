/*
 * The parallel port through its ports, with a printer in the process.
 */
#include "hw/char/parport.h"
#include "vm-engine/chardev.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

typedef struct Rig {
  Vm *vm;
  VmMemory *memory;
  VmDevice *dev;
  GString *output;
  unsigned interrupts;
} Rig;

static void on_irq(void *opaque, unsigned line, bool level)
{
  ((Rig *)opaque)->interrupts += level;
}

static void on_output(const uint8_t *bytes, size_t size, void *opaque)
{
  g_string_append_len(((Rig *)opaque)->output, (const char *)bytes, (gssize)size);
}

static Rig *rig_new(bool printer)
{
  Rig *rig = g_new0(Rig, 1);
  g_autoptr(GError) error = NULL;
  rig->vm = vm_new_manual();
  rig->memory = vm_get_memory(rig->vm);
  rig->output = g_string_new(NULL);
  VmIoContext *ctx = vm_get_io_context(rig->vm);
  VmChardev *chardev = printer ? vm_chardev_new(ctx, "window", &error) : NULL;
  g_assert_no_error(error);
  if (printer)
    vm_chardev_set_output(chardev, on_output, rig);
  VmIrq irq = { on_irq, rig, 7 };
  vm_io_context_lock(ctx);
  rig->dev = parport_new(rig->vm, "lpt1", PARPORT_LPT1_PORT, &irq, chardev);
  rig->dev->type->reset(rig->dev);
  vm_io_context_unlock(ctx);
  return rig;
}

static void rig_free(Rig *rig)
{
  vm_free(rig->vm);
  g_string_free(rig->output, TRUE);
  g_free(rig);
}

static void out(Rig *rig, unsigned reg, uint8_t value)
{
  vm_port_write(rig->memory, (uint16_t)(PARPORT_LPT1_PORT + reg), value, 1);
}

static uint8_t in(Rig *rig, unsigned reg)
{
  return (uint8_t)vm_port_read(rig->memory, (uint16_t)(PARPORT_LPT1_PORT + reg), 1);
}

static void test_type(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_device_type_check(&parport_type, &error));
  g_assert_no_error(error);
}

static void test_print(void)
{
  Rig *rig = rig_new(true);
  for (const char *p = "page\f"; *p; p++) {
    g_assert_cmphex(in(rig, 1), ==, 0xDF);
    out(rig, 0, (uint8_t)*p);
    g_assert_cmphex(in(rig, 0), ==, (uint8_t)*p);
    out(rig, 2, 0x0D);
    out(rig, 2, 0x0C);
  }
  g_assert_cmpstr(rig->output->str, ==, "page\f");
  g_assert_cmpuint(rig->interrupts, ==, 0);
  out(rig, 2, 0x1D);
  out(rig, 2, 0x1C);
  g_assert_cmpuint(rig->interrupts, ==, 1);
  g_assert_cmphex(in(rig, 2), ==, 0xDC);
  out(rig, 2, 0x2C);
  g_assert_cmphex(in(rig, 0), ==, 0xFF);
  rig_free(rig);
}

static void test_no_printer(void)
{
  Rig *rig = rig_new(false);
  out(rig, 0, 0xAA);
  out(rig, 2, 0x0D);
  out(rig, 2, 0x0C);
  g_assert_cmphex(in(rig, 0), ==, 0xAA);
  g_assert_cmphex(in(rig, 1) & 0x80, ==, 0);
  rig_free(rig);
}

static void test_hostile(void)
{
  Rig *rig = rig_new(true);
  GRand *random = g_rand_new_with_seed(378);
  for (unsigned i = 0; i < 20000; i++) {
    uint32_t value = g_rand_int(random);
    if (value >> 31)
      vm_port_write(rig->memory, (uint16_t)(PARPORT_LPT1_PORT + value % 3), value >> 8, 1u << (value >> 16) % 3);
    else
      vm_port_read(rig->memory, (uint16_t)(PARPORT_LPT1_PORT + value % 3), 1u << (value >> 16) % 3);
  }
  g_rand_free(random);
  rig_free(rig);
}

static void test_save_load(void)
{
  Rig *rig = rig_new(true), *other = rig_new(true);
  g_autoptr(GError) error = NULL;
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  out(rig, 0, 0x5A);
  out(rig, 2, 0x1D);
  vm_io_context_lock(vm_get_io_context(rig->vm));
  vm_device_save(rig->dev, bytes);
  vm_io_context_unlock(vm_get_io_context(rig->vm));
  vm_io_context_lock(vm_get_io_context(other->vm));
  g_assert_true(vm_device_load(other->dev, bytes->data, bytes->len, &error));
  vm_io_context_unlock(vm_get_io_context(other->vm));
  out(other, 2, 0x1C); /* the pulse that began before ends after */
  g_assert_cmpstr(other->output->str, ==, "Z");
  rig_free(rig);
  rig_free(other);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/parport/type", test_type);
  g_test_add_func("/parport/print", test_print);
  g_test_add_func("/parport/no-printer", test_no_printer);
  g_test_add_func("/parport/hostile", test_hostile);
  g_test_add_func("/parport/save-load", test_save_load);
  return g_test_run();
}

/*
 * The debug console through its port.
 */
#include "hw/char/debugcon.h"
#include "vm-engine/chardev.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

static void on_output(const uint8_t *bytes, size_t size, void *opaque)
{
  g_string_append_len(opaque, (const char *)bytes, (gssize)size);
}

static void on_byte(void *opaque, uint8_t byte)
{
  g_string_append_c(opaque, (char)byte);
}

static void test_type(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_device_type_check(&debugcon_type, &error));
  g_assert_no_error(error);
}

static void test_output(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GString) output = g_string_new(NULL), heard = g_string_new(NULL);
  Vm *vm = vm_new_manual();
  VmMemory *memory = vm_get_memory(vm);
  VmIoContext *ctx = vm_get_io_context(vm);
  VmChardev *chardev = vm_chardev_new(ctx, "window", &error);
  g_assert_no_error(error);
  vm_chardev_set_output(chardev, on_output, output);
  vm_io_context_lock(ctx);
  VmDevice *dev = debugcon_new(vm, "debugcon", DEBUGCON_DEFAULT_PORT, chardev);
  debugcon_set_sink(dev, on_byte, heard);
  dev->type->reset(dev);
  vm_io_context_unlock(ctx);
  g_assert_cmphex(vm_port_read(memory, 0x402, 1), ==, 0xE9);
  for (const char *p = "SeaBIOS\n"; *p; p++)
    vm_port_write(memory, 0x402, (uint8_t)*p, 1);
  g_assert_cmpstr(output->str, ==, "SeaBIOS\n");
  g_assert_cmpstr(heard->str, ==, "SeaBIOS\n");
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  vm_io_context_lock(ctx);
  vm_device_save(dev, bytes);
  g_assert_true(vm_device_load(dev, bytes->data, bytes->len, &error));
  vm_io_context_unlock(ctx);
  vm_free(vm);
}

static void test_alone(void)
{
  Vm *vm = vm_new_manual();
  VmIoContext *ctx = vm_get_io_context(vm);
  vm_io_context_lock(ctx);
  debugcon_new(vm, "debugcon", 0xE9, NULL);
  vm_io_context_unlock(ctx);
  vm_port_write(vm_get_memory(vm), 0xE9, 'x', 1);
  g_assert_cmphex(vm_port_read(vm_get_memory(vm), 0xE9, 1), ==, 0xE9);
  vm_free(vm);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/debugcon/type", test_type);
  g_test_add_func("/debugcon/output", test_output);
  g_test_add_func("/debugcon/alone", test_alone);
  return g_test_run();
}

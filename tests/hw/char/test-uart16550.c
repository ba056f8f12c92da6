/*
 * The 16550A through its ports, with an in-process far end.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hw/char/uart16550.h"
#include "vm-engine/chardev.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

#define PORT 0x3F8

typedef struct Rig {
  Vm *vm;
  VmMemory *memory;
  VmChardev *chardev;
  VmDevice *dev;
  GString *output;
  bool irq;
  unsigned edges;
} Rig;

static void on_irq(void *opaque, unsigned line, bool level)
{
  Rig *rig = opaque;
  rig->edges += level && !rig->irq;
  rig->irq = level;
}

static void on_output(const uint8_t *bytes, size_t size, void *opaque)
{
  g_string_append_len(((Rig *)opaque)->output, (const char *)bytes, (gssize)size);
}

static void lock(Rig *rig)
{
  vm_io_context_lock(vm_get_io_context(rig->vm));
}
static void unlock(Rig *rig)
{
  vm_io_context_unlock(vm_get_io_context(rig->vm));
}

static void reset(Rig *rig)
{
  lock(rig);
  rig->dev->type->reset(rig->dev);
  unlock(rig);
}

static Rig *rig_new_spec(const char *spec)
{
  Rig *rig = g_new0(Rig, 1);
  g_autoptr(GError) error = NULL;
  rig->vm = vm_new_manual();
  rig->memory = vm_get_memory(rig->vm);
  rig->output = g_string_new(NULL);
  if (spec != NULL)
    rig->chardev = vm_chardev_new(vm_get_io_context(rig->vm), spec, &error);
  g_assert_no_error(error);
  if (rig->chardev != NULL)
    vm_chardev_set_output(rig->chardev, on_output, rig);
  VmIrq irq = { on_irq, rig, 0 };
  lock(rig);
  rig->dev = uart16550_new(rig->vm, "com1", PORT, &irq, rig->chardev);
  unlock(rig);
  reset(rig);
  return rig;
}

static Rig *rig_new(void)
{
  return rig_new_spec("window");
}

static void rig_free(Rig *rig)
{
  vm_free(rig->vm);
  g_string_free(rig->output, TRUE);
  g_free(rig);
}

static void out(Rig *rig, unsigned reg, uint8_t value)
{
  vm_port_write(rig->memory, (uint16_t)(PORT + reg), value, 1);
}
static uint8_t in(Rig *rig, unsigned reg)
{
  return (uint8_t)vm_port_read(rig->memory, (uint16_t)(PORT + reg), 1);
}
static void step(Rig *rig, int64_t ns)
{
  vm_io_context_step(vm_get_io_context(rig->vm), ns);
}

static void feed(Rig *rig, const char *text)
{
  vm_chardev_feed(rig->chardev, (const uint8_t *)text, strlen(text));
  step(rig, 0);
}

static void set_divisor(Rig *rig, uint16_t divisor)
{
  uint8_t lcr = in(rig, 3);
  out(rig, 3, lcr | 0x80);
  out(rig, 0, divisor & 0xFF);
  out(rig, 1, divisor >> 8);
  g_assert_cmphex(in(rig, 0), ==, divisor & 0xFF);
  g_assert_cmphex(in(rig, 1), ==, divisor >> 8);
  out(rig, 3, lcr);
}

static void test_type(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_device_type_check(&uart16550_type, &error));
  g_assert_no_error(error);
  g_assert_cmphex(uart16550_default_port(3), ==, 0x2E8);
  g_assert_cmpuint(uart16550_default_irq(1), ==, 3);
}

static void test_registers(void)
{
  Rig *rig = rig_new();
  g_assert_cmphex(in(rig, 1), ==, 0);
  g_assert_cmphex(in(rig, 2), ==, 0x01);
  g_assert_cmphex(in(rig, 5), ==, 0x60);
  g_assert_cmphex(in(rig, 6), ==, 0xB0);
  out(rig, 7, 0x5A);
  g_assert_cmphex(in(rig, 7), ==, 0x5A);
  out(rig, 1, 0xFF);
  g_assert_cmphex(in(rig, 1), ==, 0x0F);
  out(rig, 1, 0);
  out(rig, 4, 0xFF);
  g_assert_cmphex(in(rig, 4), ==, 0x1F);
  out(rig, 4, 0);
  out(rig, 3, 0x1B);
  g_assert_cmphex(in(rig, 3), ==, 0x1B);
  set_divisor(rig, 0x1234);
  out(rig, 2, 0x01);
  g_assert_cmphex(in(rig, 2), ==, 0xC1);
  out(rig, 2, 0x00);
  g_assert_cmphex(in(rig, 2), ==, 0x01);
  rig_free(rig);
}

static void test_send(void)
{
  Rig *rig = rig_new();
  for (const char *p = "hello"; *p; p++) {
    g_assert_cmphex(in(rig, 5) & 0x60, ==, 0x60);
    out(rig, 0, (uint8_t)*p);
  }
  g_assert_cmpstr(rig->output->str, ==, "hello");
  /* "Transmitter empty" is told when it is allowed, and after each byte, until the cause is read. */
  out(rig, 4, 0x08);
  out(rig, 1, 0x02);
  g_assert_true(rig->irq);
  g_assert_cmphex(in(rig, 2), ==, 0x02);
  g_assert_false(rig->irq);
  g_assert_cmphex(in(rig, 2), ==, 0x01);
  out(rig, 0, 'x');
  g_assert_true(rig->irq);
  g_assert_cmphex(in(rig, 2), ==, 0x02);
  /* OUT2 is the interrupt's gate. */
  out(rig, 0, 'x');
  out(rig, 4, 0x00);
  g_assert_false(rig->irq);
  out(rig, 4, 0x08);
  g_assert_true(rig->irq);
  rig_free(rig);
}

static void test_receive_fifo(void)
{
  Rig *rig = rig_new();
  set_divisor(rig, 1);
  out(rig, 3, 0x03);
  out(rig, 4, 0x0B);
  out(rig, 1, 0x01);
  out(rig, 2, 0xC1); /* trigger at 14 */
  feed(rig, "0123456789abc");
  g_assert_false(rig->irq);
  g_assert_cmphex(in(rig, 5), ==, 0x61);
  /* Four characters of ten bits at 115200 baud are 347 µs. */
  step(rig, 340 * VM_NS_PER_US);
  g_assert_false(rig->irq);
  step(rig, 10 * VM_NS_PER_US);
  g_assert_true(rig->irq);
  g_assert_cmphex(in(rig, 2), ==, 0xCC);
  g_assert_cmphex(in(rig, 0), ==, '0');
  g_assert_false(rig->irq);
  feed(rig, "de");
  g_assert_true(rig->irq);
  g_assert_cmphex(in(rig, 2), ==, 0xC4);
  g_assert_cmphex(in(rig, 0), ==, '1');
  g_assert_false(rig->irq);
  /* More than fits waits at the far end and is not lost. */
  feed(rig, "fghijklmnopqrstuvwxyz");
  g_autoptr(GString) text = g_string_new(NULL);
  while (in(rig, 5) & 1)
    g_string_append_c(text, (char)in(rig, 0));
  g_assert_cmpstr(text->str, ==, "23456789abcdefghijklmnopqrstuvwxyz");
  g_assert_cmphex(in(rig, 5) & 2, ==, 0);
  step(rig, VM_NS_PER_MS);
  g_assert_false(rig->irq);
  /* Clearing. */
  feed(rig, "zz");
  out(rig, 2, 0xC3);
  g_assert_cmphex(in(rig, 5) & 1, ==, 0);
  rig_free(rig);
}

static void test_receive_without_fifo(void)
{
  Rig *rig = rig_new();
  out(rig, 4, 0x08);
  out(rig, 1, 0x01);
  feed(rig, "ab");
  g_assert_true(rig->irq);
  g_assert_cmphex(in(rig, 2), ==, 0x04);
  g_assert_cmphex(in(rig, 0), ==, 'a');
  g_assert_true(rig->irq);
  g_assert_cmphex(in(rig, 0), ==, 'b');
  g_assert_false(rig->irq);
  g_assert_cmphex(in(rig, 0), ==, 0);
  rig_free(rig);
}

/* What is fed before the guest's first reset is there after it. */
static void test_early_input(void)
{
  g_autoptr(GError) error = NULL;
  Rig *rig = rig_new();
  feed(rig, "x");
  reset(rig); /* a later reset clears the receiver */
  g_assert_cmphex(in(rig, 5) & 1, ==, 0);
  rig_free(rig);

  Vm *vm = vm_new_manual();
  VmIoContext *ctx = vm_get_io_context(vm);
  VmChardev *chardev = vm_chardev_new(ctx, "window", &error);
  g_assert_no_error(error);
  vm_chardev_feed(chardev, (const uint8_t *)"early", 5);
  vm_io_context_lock(ctx);
  VmIrq none = { 0 };
  VmDevice *dev = uart16550_new(vm, "com2", 0x2F8, &none, chardev);
  vm_io_context_unlock(ctx);
  vm_io_context_step(ctx, 0);
  vm_io_context_lock(ctx);
  dev->type->reset(dev);
  vm_io_context_unlock(ctx);
  vm_io_context_step(ctx, 0);
  g_assert_cmphex(vm_port_read(vm_get_memory(vm), 0x2F8, 1), ==, 'e');
  vm_free(vm);
}

static void test_loopback(void)
{
  Rig *rig = rig_new();
  in(rig, 6);
  out(rig, 4, 0x10);
  g_assert_cmphex(in(rig, 6), ==, 0x0B); /* CTS, DSR, DCD went away */
  out(rig, 4, 0x1F);
  g_assert_cmphex(in(rig, 6), ==, 0xFB);
  out(rig, 4, 0x1B);
  g_assert_cmphex(in(rig, 6), ==, 0xB4); /* the ring's end */
  out(rig, 2, 0x01);
  feed(rig, "outside");
  for (unsigned i = 0; i < 17; i++)
    out(rig, 0, (uint8_t)(0x80 + i));
  g_assert_cmpstr(rig->output->str, ==, "");
  g_assert_cmphex(in(rig, 5), ==, 0x63); /* the seventeenth was one too many */
  g_assert_cmphex(in(rig, 5), ==, 0x61);
  for (unsigned i = 0; i < 16; i++)
    g_assert_cmphex(in(rig, 0), ==, 0x80 + i);
  out(rig, 3, 0x43);
  g_assert_cmphex(in(rig, 5), ==, 0x71); /* a break */
  g_assert_cmphex(in(rig, 0), ==, 0);
  out(rig, 4, 0x08);
  step(rig, 0);
  g_assert_cmphex(in(rig, 0), ==, 'o'); /* what came meanwhile waited */
  rig_free(rig);
}

static void test_priorities(void)
{
  Rig *rig = rig_new();
  out(rig, 4, 0x10);
  in(rig, 6);
  out(rig, 1, 0x0F);
  out(rig, 2, 0x00);
  out(rig, 0, 'a');
  out(rig, 0, 'b'); /* overrun: the newer byte stays */
  out(rig, 4, 0x13);
  g_assert_cmphex(in(rig, 2), ==, 0x06);
  in(rig, 5);
  g_assert_cmphex(in(rig, 2), ==, 0x04);
  g_assert_cmphex(in(rig, 0), ==, 'b');
  g_assert_cmphex(in(rig, 2), ==, 0x02);
  g_assert_cmphex(in(rig, 2), ==, 0x00);
  in(rig, 6);
  g_assert_cmphex(in(rig, 2), ==, 0x01);
  g_assert_false(rig->irq); /* not in loopback */
  rig_free(rig);
}

/* A far end that takes nothing: the status says so, no byte is lost, and sending goes on when it takes again. */
static void test_slow_far_end(void)
{
  g_autofree char *directory = g_dir_make_tmp("oriel-uart-XXXXXX", NULL);
  g_autofree char *path = g_build_filename(directory, "fifo", NULL);
  g_autofree char *spec = g_strconcat("file:", path, NULL);
  g_assert_cmpint(mkfifo(path, 0600), ==, 0);
  int fd = open(path, O_RDWR | O_NONBLOCK);
  g_assert_cmpint(fd, >=, 0);
  Rig *rig = rig_new_spec(spec);
  out(rig, 4, 0x08);
  out(rig, 2, 0x01);
  unsigned sent = 0;
  while ((in(rig, 5) & 0x20) && sent < (1u << 20))
    out(rig, 0, (uint8_t)sent++);
  g_assert_cmpuint(sent, <, 1u << 20);
  out(rig, 1, 0x02);
  g_assert_false(rig->irq);
  unsigned received = 0;
  for (unsigned tries = 0; received < sent && tries < 10000; tries++) {
    uint8_t bytes[4096];
    ssize_t n = read(fd, bytes, sizeof bytes);
    for (ssize_t i = 0; i < n; i++)
      g_assert_cmphex(bytes[i], ==, (uint8_t)received++);
    step(rig, VM_NS_PER_MS);
  }
  g_assert_cmpuint(received, ==, sent);
  g_assert_true(rig->irq);
  g_assert_cmphex(in(rig, 5), ==, 0x60);
  close(fd);
  rig_free(rig);
  unlink(path);
  rmdir(directory);
}

static void test_nothing_plugged_in(void)
{
  Rig *rig = rig_new_spec(NULL);
  g_assert_cmphex(in(rig, 6), ==, 0);
  out(rig, 0, 'x');
  g_assert_cmphex(in(rig, 5), ==, 0x60);
  rig_free(rig);
}

static void test_hostile(void)
{
  Rig *rig = rig_new();
  GRand *random = g_rand_new_with_seed(16550);
  for (unsigned i = 0; i < 200000; i++) {
    uint32_t value = g_rand_int(random);
    unsigned size = 1u << (value >> 16) % 3;
    if (value >> 31)
      vm_port_write(rig->memory, (uint16_t)(PORT + value % 8), value >> 8, size);
    else
      vm_port_read(rig->memory, (uint16_t)(PORT + value % 8), size);
    if (i % 64 == 0)
      feed(rig, "some input");
    if (i % 32 == 0)
      step(rig, value % VM_NS_PER_MS);
    g_string_truncate(rig->output, 0);
  }
  g_rand_free(random);
  reset(rig);
  g_string_truncate(rig->output, 0);
  out(rig, 0, '!');
  g_assert_cmpstr(rig->output->str, ==, "!");
  rig_free(rig);
}

static GByteArray *save(Rig *rig)
{
  GByteArray *bytes = g_byte_array_new();
  lock(rig);
  vm_device_save(rig->dev, bytes);
  unlock(rig);
  return bytes;
}

static void test_save_load(void)
{
  Rig *rig = rig_new(), *other = rig_new();
  g_autoptr(GError) error = NULL;
  set_divisor(rig, 3);
  out(rig, 3, 0x03);
  out(rig, 4, 0x0B);
  out(rig, 1, 0x01);
  out(rig, 2, 0x81);
  out(rig, 7, 0x99);
  feed(rig, "abc");
  g_autoptr(GByteArray) bytes = save(rig);
  lock(other);
  g_assert_true(vm_device_load(other->dev, bytes->data, bytes->len, &error));
  unlock(other);
  g_autoptr(GByteArray) again = save(other);
  g_assert_cmpmem(bytes->data, bytes->len, again->data, again->len);
  g_assert_false(other->irq);
  step(other, 2 * VM_NS_PER_MS); /* the saved time-out comes */
  g_assert_true(other->irq);
  g_assert_cmphex(in(other, 0), ==, 'a');
  g_assert_cmphex(in(other, 7), ==, 0x99);
  rig_free(rig);
  rig_free(other);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/uart16550/type", test_type);
  g_test_add_func("/uart16550/registers", test_registers);
  g_test_add_func("/uart16550/send", test_send);
  g_test_add_func("/uart16550/receive-fifo", test_receive_fifo);
  g_test_add_func("/uart16550/receive-one", test_receive_without_fifo);
  g_test_add_func("/uart16550/early-input", test_early_input);
  g_test_add_func("/uart16550/loopback", test_loopback);
  g_test_add_func("/uart16550/priorities", test_priorities);
  g_test_add_func("/uart16550/slow", test_slow_far_end);
  g_test_add_func("/uart16550/unplugged", test_nothing_plugged_in);
  g_test_add_func("/uart16550/hostile", test_hostile);
  g_test_add_func("/uart16550/save-load", test_save_load);
  return g_test_run();
}

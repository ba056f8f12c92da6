/* The interrupt controller pair: priorities, cascade, modes, edges and levels. */
#include "hw/intc/i8259.h"

#include "tests/hw/device-test.h"

typedef struct Fixture {
  Vm *vm;
  I8259 *pic;
  TestLine intr;
} Fixture;

static void init_chips(Fixture *f, uint8_t icw4)
{
  test_out8(f->vm, 0x20, 0x11);
  test_out8(f->vm, 0x21, 0x20);
  test_out8(f->vm, 0x21, 0x04);
  test_out8(f->vm, 0x21, icw4);
  test_out8(f->vm, 0xa0, 0x11);
  test_out8(f->vm, 0xa1, 0x28);
  test_out8(f->vm, 0xa1, 0x02);
  test_out8(f->vm, 0xa1, 0x01);
}

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  f->pic = i8259_create(f->vm);
  i8259_connect_output(f->pic, test_line_irq(&f->intr));
  init_chips(f, 0x01);
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

static void set_line(Fixture *f, unsigned line, bool level)
{
  test_set_irq(f->vm, i8259_irq(f->pic, line), level);
}

static void pulse(Fixture *f, unsigned line)
{
  set_line(f, line, true);
  set_line(f, line, false);
}

static uint8_t acknowledge(Fixture *f)
{
  test_lock(f->vm);
  uint8_t vector = i8259_acknowledge(f->pic);
  test_unlock(f->vm);
  return vector;
}

static uint8_t read_isr(Fixture *f, uint16_t port)
{
  test_out8(f->vm, port, 0x0b);
  uint8_t isr = test_in8(f->vm, port);
  test_out8(f->vm, port, 0x0a);
  return isr;
}

static void test_priority(Fixture *f, gconstpointer data)
{
  pulse(f, 4);
  pulse(f, 1);
  g_assert_true(f->intr.level);
  g_assert_cmphex(test_in8(f->vm, 0x20), ==, 0x12);
  g_assert_cmphex(acknowledge(f), ==, 0x21);
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x02);
  g_assert_cmphex(test_in8(f->vm, 0x20), ==, 0x10);
  g_assert_false(f->intr.level); /* 4 waits for 1 */
  pulse(f, 0);
  g_assert_true(f->intr.level); /* 0 does not */
  g_assert_cmphex(acknowledge(f), ==, 0x20);
  test_out8(f->vm, 0x20, 0x20);
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x02);
  test_out8(f->vm, 0x20, 0x20);
  g_assert_cmphex(acknowledge(f), ==, 0x24);
  test_out8(f->vm, 0x20, 0x64); /* specific */
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x00);
}

static void test_mask(Fixture *f, gconstpointer data)
{
  test_out8(f->vm, 0x21, 0x10);
  g_assert_cmphex(test_in8(f->vm, 0x21), ==, 0x10);
  set_line(f, 4, true);
  g_assert_false(f->intr.level);
  test_out8(f->vm, 0x21, 0x00);
  g_assert_true(f->intr.level);
  g_assert_cmphex(acknowledge(f), ==, 0x24);
  test_out8(f->vm, 0x20, 0x20);
  g_assert_false(f->intr.level); /* the line is still high: no new edge */
}

static void test_cascade(Fixture *f, gconstpointer data)
{
  pulse(f, 12);
  pulse(f, 3);
  g_assert_cmphex(test_in8(f->vm, 0x20), ==, 0x0c);
  g_assert_cmphex(acknowledge(f), ==, 0x2c);
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x04);
  g_assert_cmphex(read_isr(f, 0xa0), ==, 0x10);
  /* A higher one of the slave has to wait for the master's EOI, as the master is in plain nested mode. */
  pulse(f, 9);
  g_assert_false(f->intr.level);
  test_out8(f->vm, 0x20, 0x20);
  g_assert_cmphex(acknowledge(f), ==, 0x29);
  test_out8(f->vm, 0xa0, 0x20);
  test_out8(f->vm, 0x20, 0x20);
  g_assert_cmphex(acknowledge(f), ==, 0x23);
  test_out8(f->vm, 0x20, 0x20);
  test_out8(f->vm, 0xa0, 0x20);
  g_assert_cmphex(read_isr(f, 0xa0), ==, 0x00);
  pulse(f, 2); /* not a line of its own */
  g_assert_false(f->intr.level);
}

static void test_special_fully_nested(Fixture *f, gconstpointer data)
{
  init_chips(f, 0x11);
  pulse(f, 12);
  g_assert_cmphex(acknowledge(f), ==, 0x2c);
  pulse(f, 9);
  g_assert_true(f->intr.level);
  g_assert_cmphex(acknowledge(f), ==, 0x29);
}

static void test_level(Fixture *f, gconstpointer data)
{
  test_out8(f->vm, 0x4d0, 0xff);
  test_out8(f->vm, 0x4d1, 0xff);
  g_assert_cmphex(test_in16(f->vm, 0x4d0), ==, 0xdef8);
  set_line(f, 10, true);
  g_assert_cmphex(acknowledge(f), ==, 0x2a);
  test_out8(f->vm, 0xa0, 0x20);
  test_out8(f->vm, 0x20, 0x20);
  g_assert_true(f->intr.level); /* still asked for */
  g_assert_cmphex(acknowledge(f), ==, 0x2a);
  set_line(f, 10, false);
  test_out8(f->vm, 0xa0, 0x20);
  test_out8(f->vm, 0x20, 0x20);
  g_assert_false(f->intr.level);
  set_line(f, 11, true);
  set_line(f, 11, false); /* gone before the answer */
  g_assert_false(f->intr.level);
}

static void test_spurious(Fixture *f, gconstpointer data)
{
  g_assert_cmphex(acknowledge(f), ==, 0x27);
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x00);
}

static void test_auto_eoi(Fixture *f, gconstpointer data)
{
  init_chips(f, 0x03);
  pulse(f, 3);
  pulse(f, 5);
  g_assert_cmphex(acknowledge(f), ==, 0x23);
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x00);
  g_assert_true(f->intr.level);
  g_assert_cmphex(acknowledge(f), ==, 0x25);
  test_out8(f->vm, 0x20, 0x80); /* rotate in auto-EOI mode */
  pulse(f, 3);
  pulse(f, 5);
  g_assert_cmphex(acknowledge(f), ==, 0x23);
  pulse(f, 3); /* now the lowest */
  g_assert_cmphex(acknowledge(f), ==, 0x25);
  g_assert_cmphex(acknowledge(f), ==, 0x23);
}

static void test_rotation(Fixture *f, gconstpointer data)
{
  test_out8(f->vm, 0x20, 0xc4); /* 4 is the lowest: order 5 6 7 0 1 2 3 4 */
  pulse(f, 4);
  pulse(f, 0);
  pulse(f, 6);
  g_assert_cmphex(acknowledge(f), ==, 0x26);
  test_out8(f->vm, 0x20, 0xa0); /* EOI and rotate: 6 is the lowest */
  g_assert_cmphex(acknowledge(f), ==, 0x20);
  test_out8(f->vm, 0x20, 0xe0); /* the same, specific */
  g_assert_cmphex(acknowledge(f), ==, 0x24);
  test_out8(f->vm, 0x20, 0x20);
  pulse(f, 0);
  pulse(f, 7);
  g_assert_cmphex(acknowledge(f), ==, 0x27);
}

static void test_special_mask(Fixture *f, gconstpointer data)
{
  pulse(f, 1);
  g_assert_cmphex(acknowledge(f), ==, 0x21);
  pulse(f, 5);
  g_assert_false(f->intr.level);
  test_out8(f->vm, 0x21, 0x02);
  g_assert_false(f->intr.level);
  test_out8(f->vm, 0x20, 0x68); /* special mask on: 1, masked, keeps nobody out */
  g_assert_true(f->intr.level);
  g_assert_cmphex(acknowledge(f), ==, 0x25);
  test_out8(f->vm, 0x20, 0x20); /* a plain EOI passes over the masked one */
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x02);
  test_out8(f->vm, 0x20, 0x48);
  test_out8(f->vm, 0x20, 0x20);
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x00);
}

static void test_poll(Fixture *f, gconstpointer data)
{
  test_out8(f->vm, 0x20, 0x0c);
  g_assert_cmphex(test_in8(f->vm, 0x20), ==, 0x00);
  pulse(f, 6);
  test_out8(f->vm, 0x20, 0x0c);
  g_assert_cmphex(test_in8(f->vm, 0x20), ==, 0x86);
  g_assert_cmphex(read_isr(f, 0x20), ==, 0x40);
  g_assert_false(f->intr.level);
}

static void test_icw1_clears(Fixture *f, gconstpointer data)
{
  test_out8(f->vm, 0x21, 0xff);
  set_line(f, 3, true);
  g_assert_cmphex(test_in8(f->vm, 0x20), ==, 0x08);
  init_chips(f, 0x01);
  g_assert_cmphex(test_in8(f->vm, 0x20), ==, 0x00); /* an edge is needed anew */
  g_assert_cmphex(test_in8(f->vm, 0x21), ==, 0x00);
  g_assert_false(f->intr.level);
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->pic);
  pulse(f, 9);
  pulse(f, 1);
  acknowledge(f);
  test_out8(f->vm, 0x20, 0x20);
  test_round_trip(f->pic, other.pic);
  g_assert_true(other.intr.level);
  g_assert_cmphex(acknowledge(&other), ==, 0x29);
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(8259);
  static const uint16_t ports[] = { 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1 };
  for (unsigned i = 0; i < TEST_POKES; i++) {
    uint16_t port = ports[g_rand_int_range(rand, 0, 6)];
    unsigned width = 1u << g_rand_int_range(rand, 0, 3);
    vm_port_write(vm_get_memory(f->vm), port, (uint32_t)test_random_value(rand), width);
    set_line(f, (unsigned)g_rand_int_range(rand, 0, 16), g_rand_boolean(rand));
    vm_port_read(vm_get_memory(f->vm), port, width);
    g_assert_true(f->intr.level == i8259_get_output(f->pic));
    if (i % 3 == 0)
      acknowledge(f);
  }
  test_hostile_streams(f->pic, rand);
  for (unsigned i = 0; i < 16; i++)
    set_line(f, i, false);
  init_chips(f, 0x01);
  test_priority(f, data);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/i8259/priority", test_priority },
    { "/i8259/mask", test_mask },
    { "/i8259/cascade", test_cascade },
    { "/i8259/special-fully-nested", test_special_fully_nested },
    { "/i8259/level", test_level },
    { "/i8259/spurious", test_spurious },
    { "/i8259/auto-eoi", test_auto_eoi },
    { "/i8259/rotation", test_rotation },
    { "/i8259/special-mask", test_special_mask },
    { "/i8259/poll", test_poll },
    { "/i8259/icw1-clears", test_icw1_clears },
    { "/i8259/state", test_state },
    { "/i8259/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  return g_test_run();
}

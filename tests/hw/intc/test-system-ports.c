/* Ports 0x92, 0x61 and 0xF0: A20, fast reset, speaker, NMI sources, coprocessor errors. */
#include "hw/intc/ferr.h"
#include "hw/intc/port61.h"
#include "hw/intc/port92.h"
#include "tests/hw/device-test.h"

typedef struct Fixture {
  Vm *vm;
  I8254 *pit;
  Port92 *port92;
  Port61 *port61;
  Ferr *ferr;
  TestLine nmi, irq13;
  TestEvents events;
  bool sounding;
  int64_t period_ns;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  vm_add_listener(f->vm, test_on_event, &f->events);
  f->pit = i8254_create(f->vm, (VmIrq){ 0 });
  f->port92 = port92_create(f->vm);
  f->port61 = port61_create(f->vm, f->pit, test_line_irq(&f->nmi));
  f->ferr = ferr_create(f->vm, test_line_irq(&f->irq13));
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

static bool a20(Fixture *f)
{
  return vm_memory_get_a20(vm_get_memory(f->vm));
}

static void test_a20(Fixture *f, gconstpointer data)
{
  VmIrq keyboard = port92_keyboard_a20(f->port92);
  g_assert_true(a20(f));
  test_set_irq(f->vm, keyboard, false);
  g_assert_false(a20(f));
  test_out8(f->vm, 0x92, 2);
  g_assert_true(a20(f));
  g_assert_cmphex(test_in8(f->vm, 0x92), ==, 2);
  test_set_irq(f->vm, keyboard, true);
  test_out8(f->vm, 0x92, 0);
  g_assert_true(a20(f));
  test_set_irq(f->vm, keyboard, false);
  g_assert_false(a20(f));
  test_reset(f->port92);
  g_assert_true(a20(f));
}

static void test_fast_reset(Fixture *f, gconstpointer data)
{
  test_out8(f->vm, 0x92, 1);
  test_step(f->vm, 0);
  g_assert_cmpuint(f->events.resets, ==, 1);
  g_assert_cmphex(test_in8(f->vm, 0x92), ==, 0); /* the reset reached the port too */
}

static void test_refresh(Fixture *f, gconstpointer data)
{
  unsigned toggles = 0;
  uint8_t last = test_in8(f->vm, 0x61) & 0x10;
  for (unsigned i = 0; i < 1000; i++) {
    test_step(f->vm, 1000);
    uint8_t now = test_in8(f->vm, 0x61) & 0x10;
    toggles += now != last;
    last = now;
  }
  g_assert_cmpuint(toggles, ==, 1000000 / 15085);
}

static void on_speaker(void *opaque, bool sounding, int64_t period_ns)
{
  Fixture *f = opaque;
  f->sounding = sounding;
  f->period_ns = period_ns;
}

static void test_speaker(Fixture *f, gconstpointer data)
{
  port61_set_speaker(f->port61, on_speaker, f);
  test_out8(f->vm, 0x43, 0xb6);
  test_out8(f->vm, 0x42, 0xa9);
  test_out8(f->vm, 0x42, 0x04); /* 1193: 1 kHz */
  g_assert_false(f->sounding);
  test_out8(f->vm, 0x61, 3);
  g_assert_true(f->sounding);
  g_assert_cmpint(f->period_ns / 1000, ==, 999);
  test_step(f->vm, 300 * VM_NS_PER_US);
  g_assert_cmphex(test_in8(f->vm, 0x61) & 0x2f, ==, 0x23); /* the wave is high */
  test_step(f->vm, 500 * VM_NS_PER_US);
  g_assert_cmphex(test_in8(f->vm, 0x61) & 0x2f, ==, 0x03);
  test_out8(f->vm, 0x61, 0);
  g_assert_false(f->sounding);
  /* The gate and output serve delay loops. */
  test_out8(f->vm, 0x61, 1);
  test_out8(f->vm, 0x43, 0xb0);
  test_out8(f->vm, 0x42, 0x64);
  test_out8(f->vm, 0x42, 0x00);
  g_assert_cmphex(test_in8(f->vm, 0x61) & 0x20, ==, 0);
  test_step(f->vm, 100 * VM_NS_PER_US);
  g_assert_cmphex(test_in8(f->vm, 0x61) & 0x20, ==, 0x20);
}

static void test_nmi(Fixture *f, gconstpointer data)
{
  VmIrq iochk = port61_iochk(f->port61), serr = port61_serr(f->port61), mask = port61_nmi_mask(f->port61);
  test_set_irq(f->vm, iochk, true);
  test_set_irq(f->vm, iochk, false);
  g_assert_true(f->nmi.level);
  g_assert_cmphex(test_in8(f->vm, 0x61) & 0xc0, ==, 0x40);
  test_set_irq(f->vm, mask, true);
  g_assert_false(f->nmi.level);
  test_set_irq(f->vm, mask, false);
  g_assert_cmpuint(f->nmi.rises, ==, 2);
  test_out8(f->vm, 0x61, 0x08);
  g_assert_false(f->nmi.level);
  test_set_irq(f->vm, iochk, true); /* disabled */
  g_assert_false(f->nmi.level);
  test_set_irq(f->vm, serr, true);
  g_assert_true(f->nmi.level);
  test_out8(f->vm, 0x61, 0x0c);
  g_assert_cmphex(test_in8(f->vm, 0x61) & 0xcc, ==, 0x0c);
}

static void test_ferr(Fixture *f, gconstpointer data)
{
  VmIrq line = ferr_line(f->ferr);
  test_set_irq(f->vm, line, true);
  g_assert_true(f->irq13.level);
  g_assert_false(ferr_get_ignne(f->ferr));
  test_out8(f->vm, 0xf0, 0);
  g_assert_false(f->irq13.level);
  g_assert_true(ferr_get_ignne(f->ferr));
  test_set_irq(f->vm, line, false);
  g_assert_false(ferr_get_ignne(f->ferr));
  test_set_irq(f->vm, line, true);
  g_assert_cmpuint(f->irq13.rises, ==, 2);
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->port92);
  test_check_type(f->port61);
  test_check_type(f->ferr);
  test_set_irq(f->vm, port92_keyboard_a20(f->port92), false);
  test_set_irq(f->vm, port61_iochk(f->port61), true);
  test_set_irq(f->vm, ferr_line(f->ferr), true);
  test_out8(f->vm, 0x61, 3);
  test_round_trip(f->port92, other.port92);
  test_round_trip(f->port61, other.port61);
  test_round_trip(f->ferr, other.ferr);
  g_assert_false(a20(&other));
  g_assert_true(other.nmi.level && other.irq13.level);
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(0x92);
  for (unsigned i = 0; i < TEST_POKES; i++) {
    static const uint16_t ports[] = { 0x61, 0x92, 0xf0, 0xf1 };
    unsigned width = 1u << g_rand_int_range(rand, 0, 3);
    uint16_t port = ports[g_rand_int_range(rand, 0, 4)];
    vm_port_write(vm_get_memory(f->vm), port, (uint32_t)test_random_value(rand), width);
    vm_port_read(vm_get_memory(f->vm), port, width);
  }
  test_hostile_streams(f->port61, rand);
  test_hostile_streams(f->port92, rand);
  test_hostile_streams(f->ferr, rand);
  test_a20(f, data);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/port92/a20", test_a20 },           { "/port92/fast-reset", test_fast_reset },
    { "/port61/refresh", test_refresh },   { "/port61/speaker", test_speaker },
    { "/port61/nmi", test_nmi },           { "/ferr/line", test_ferr },
    { "/system-ports/state", test_state }, { "/system-ports/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  return g_test_run();
}

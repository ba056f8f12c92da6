/* The interval timer: waveforms of all modes, counts, latches, gates, and the interrupt line. */
#include "hw/timer/i8254.h"

#include "tests/hw/device-test.h"

typedef struct Fixture {
  Vm *vm;
  I8254 *pit;
  TestLine irq;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  f->pit = i8254_create(f->vm, test_line_irq(&f->irq));
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

/* To the middle of the clock period `ticks` after the last whole one that the test began at. */
static void go_to_tick(Fixture *f, uint64_t tick)
{
  int64_t target = (int64_t)((tick * 2 + 1) * UINT64_C(1000000000) / (2 * I8254_HZ));
  test_step(f->vm, target - vm_clock_get_ns(vm_get_clock(f->vm)));
}

static void program(Fixture *f, unsigned channel, unsigned mode, uint16_t count)
{
  test_out8(f->vm, 0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
  test_out8(f->vm, (uint16_t)(0x40 + channel), (uint8_t)count);
  test_out8(f->vm, (uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

static uint16_t read_count(Fixture *f, unsigned channel)
{
  test_out8(f->vm, 0x43, (uint8_t)(channel << 6));
  uint8_t low = test_in8(f->vm, (uint16_t)(0x40 + channel));
  return (uint16_t)(low | test_in8(f->vm, (uint16_t)(0x40 + channel)) << 8);
}

static void set_gate(Fixture *f, bool gate)
{
  test_lock(f->vm);
  i8254_set_gate(f->pit, 2, gate);
  test_unlock(f->vm);
}

/* The output of `channel` over `n` clock periods from tick `first`, as a string of 0 and 1. */
static void assert_wave(Fixture *f, unsigned channel, uint64_t first, const char *expected)
{
  g_autoptr(GString) wave = g_string_new(NULL);
  for (size_t i = 0; i < strlen(expected); i++) {
    go_to_tick(f, first + i);
    g_string_append_c(wave, i8254_get_output(f->pit, channel) ? '1' : '0');
  }
  g_assert_cmpstr(wave->str, ==, expected);
}

static void test_mode0(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  program(f, 0, 0, 4);
  /* Loaded at 11; high 4 pulses later, and it stays so. */
  assert_wave(f, 0, 10, "00000111");
  g_assert_cmpuint(f->irq.rises, ==, 1);
  g_assert_true(f->irq.level);
  go_to_tick(f, 100000);
  g_assert_cmpuint(f->irq.rises, ==, 1);
  g_assert_cmpuint(read_count(f, 0), ==, (uint16_t)(4 - (100000 - 11)));
}

static void test_mode0_gate(Fixture *f, gconstpointer data)
{
  set_gate(f, true);
  go_to_tick(f, 10);
  program(f, 2, 0, 6);
  go_to_tick(f, 13);
  g_assert_cmpuint(read_count(f, 2), ==, 4);
  set_gate(f, false);
  go_to_tick(f, 50);
  g_assert_cmpuint(read_count(f, 2), ==, 4);
  set_gate(f, true);
  assert_wave(f, 2, 50, "000011");
}

static void test_mode1(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  program(f, 2, 1, 3);
  assert_wave(f, 2, 10, "1111");
  set_gate(f, true);
  /* Triggered at 13: low for three pulses from 14. */
  go_to_tick(f, 14);
  set_gate(f, false);
  assert_wave(f, 2, 14, "000111");
  set_gate(f, true);
  go_to_tick(f, 21);
  set_gate(f, false);
  set_gate(f, true); /* again before it ends: it starts anew */
  assert_wave(f, 2, 22, "00011");
}

static void test_mode2(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  program(f, 0, 2, 4);
  assert_wave(f, 0, 11, "111011101110");
  program(f, 0, 2, 100); /* at 22: cycles from 23 on */
  f->irq.rises = 0;
  go_to_tick(f, 23 + 99);
  g_assert_cmpuint(f->irq.rises, ==, 0);
  go_to_tick(f, 23 + 100);
  g_assert_cmpuint(f->irq.rises, ==, 1);
  go_to_tick(f, 23 + 1000);
  g_assert_cmpuint(f->irq.rises, ==, 10);
}

static void test_mode2_reload(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  program(f, 0, 2, 4);
  go_to_tick(f, 12);
  test_out8(f->vm, 0x40, 6); /* after the present cycle */
  test_out8(f->vm, 0x40, 0);
  assert_wave(f, 0, 12, "110111110111110");
}

static void test_mode2_gate(Fixture *f, gconstpointer data)
{
  set_gate(f, true);
  go_to_tick(f, 10);
  program(f, 2, 2, 4);
  go_to_tick(f, 14);
  g_assert_false(i8254_get_output(f->pit, 2));
  set_gate(f, false); /* forces it high */
  assert_wave(f, 2, 14, "11111111");
  set_gate(f, true); /* at 21: starts over at 22 */
  assert_wave(f, 2, 22, "1110");
}

static void test_mode3(Fixture *f, gconstpointer data)
{
  set_gate(f, true);
  go_to_tick(f, 10);
  program(f, 2, 3, 6);
  assert_wave(f, 2, 11, "111000111000");
  program(f, 2, 3, 5); /* at 22 */
  assert_wave(f, 2, 23, "1110011100");
  g_assert_cmpint(i8254_get_wave_period_ns(f->pit, 2), ==, 4191); /* 5 ticks */
  test_out8(f->vm, 0x42, 2);                                      /* at 32, the end of a low half: at once after it */
  test_out8(f->vm, 0x42, 0);
  assert_wave(f, 2, 33, "101010");
}

static void test_mode3_count(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  program(f, 0, 3, 8);
  static const uint16_t counts[] = { 8, 6, 4, 2, 8, 6, 4, 2, 8 };
  for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++) {
    go_to_tick(f, 11 + i);
    g_assert_cmpuint(read_count(f, 0), ==, counts[i]);
  }
}

static void test_mode4(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  program(f, 0, 4, 3);
  assert_wave(f, 0, 10, "1111011111");
  g_assert_cmpuint(f->irq.rises, ==, 2); /* by the control word, and at the end of the strobe */
}

static void test_mode5(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  program(f, 2, 5, 3);
  assert_wave(f, 2, 10, "1111111");
  set_gate(f, true); /* at 16: loaded at 17 */
  assert_wave(f, 2, 17, "1110111");
}

static void test_bcd(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  test_out8(f->vm, 0x43, 0x35); /* channel 0, both bytes, mode 2, BCD */
  test_out8(f->vm, 0x40, 0x00);
  test_out8(f->vm, 0x40, 0x10);
  go_to_tick(f, 12);
  g_assert_cmphex(read_count(f, 0), ==, 0x0999);
  go_to_tick(f, 1011);
  g_assert_cmphex(read_count(f, 0), ==, 0x1000);
}

static void test_latch_and_read_back(Fixture *f, gconstpointer data)
{
  go_to_tick(f, 10);
  program(f, 0, 2, 0x1234);
  test_out8(f->vm, 0x43, 0xe2); /* status only: the count is not loaded yet */
  g_assert_cmphex(test_in8(f->vm, 0x40), ==, 0xf4);
  go_to_tick(f, 11 + 0x34);
  test_out8(f->vm, 0x43, 0xc2); /* both */
  go_to_tick(f, 500);
  test_out8(f->vm, 0x43, 0xc2); /* ignored: the first latch holds */
  g_assert_cmphex(test_in8(f->vm, 0x40), ==, 0xb4);
  g_assert_cmphex(test_in8(f->vm, 0x40), ==, 0x00);
  g_assert_cmphex(test_in8(f->vm, 0x40), ==, 0x12);
  /* One byte only, high. */
  test_out8(f->vm, 0x43, 0x24);
  test_out8(f->vm, 0x40, 0x20);
  go_to_tick(f, 501 + 0x100);
  g_assert_cmphex(test_in8(f->vm, 0x40), ==, 0x1f);
}

/* 0 is 65536: 18.2 Hz; the rate is right over a long time. */
static void test_rate(Fixture *f, gconstpointer data)
{
  program(f, 0, 3, 0);
  f->irq.rises = 0;
  test_step(f->vm, 100 * VM_NS_PER_SEC);
  g_assert_cmpuint(f->irq.rises, ==, 1820);
}

static void test_inhibit(Fixture *f, gconstpointer data)
{
  VmIrq inhibit = i8254_irq_inhibit(f->pit);
  program(f, 0, 2, 1193);
  test_set_irq(f->vm, inhibit, true);
  f->irq.rises = 0;
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_cmpuint(f->irq.rises, ==, 0);
  g_assert_false(f->irq.level);
  test_set_irq(f->vm, inhibit, false);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_cmpuint(f->irq.rises, >=, 1000);
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->pit);
  program(f, 0, 2, 1000);
  program(f, 2, 3, 77);
  test_step(f->vm, 123456);
  test_step(other.vm, 123456);
  test_round_trip(f->pit, other.pit);
  f->irq.rises = other.irq.rises = 0;
  test_step(f->vm, 10 * VM_NS_PER_MS);
  test_step(other.vm, 10 * VM_NS_PER_MS);
  g_assert_cmpuint(f->irq.rises, ==, other.irq.rises);
  g_assert_cmpuint(f->irq.rises, >=, 11);
  g_assert_cmpuint(read_count(f, 0), ==, read_count(&other, 0));
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(8254);
  set_gate(f, true);
  test_hostile_ports(f->vm, 0x3f, 6, rand);
  test_hostile_streams(f->pit, rand);
  program(f, 0, 2, 1193);
  f->irq.rises = 0;
  test_step(f->vm, 10 * VM_NS_PER_MS);
  g_assert_cmpuint(f->irq.rises, ==, 10);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/i8254/mode-0", test_mode0 },
    { "/i8254/mode-0-gate", test_mode0_gate },
    { "/i8254/mode-1", test_mode1 },
    { "/i8254/mode-2", test_mode2 },
    { "/i8254/mode-2-reload", test_mode2_reload },
    { "/i8254/mode-2-gate", test_mode2_gate },
    { "/i8254/mode-3", test_mode3 },
    { "/i8254/mode-3-count", test_mode3_count },
    { "/i8254/mode-4", test_mode4 },
    { "/i8254/mode-5", test_mode5 },
    { "/i8254/bcd", test_bcd },
    { "/i8254/latch-and-read-back", test_latch_and_read_back },
    { "/i8254/rate", test_rate },
    { "/i8254/inhibit", test_inhibit },
    { "/i8254/state", test_state },
    { "/i8254/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  return g_test_run();
}

/* The real-time clock: time and its codings, setting it, the three interrupts, contents. */
#include "hw/timer/mc146818.h"

#include "tests/hw/device-test.h"

/* 2024-02-28 23:59:50 UTC, a Wednesday before a leap day. */
#define START_NS (INT64_C(1709164790) * VM_NS_PER_SEC)

enum { A = 10, B = 11, C = 12, CENTURY = 0x32 };

typedef struct Fixture {
  Vm *vm;
  Mc146818 *rtc;
  TestLine irq, nmi_mask, alarm;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  f->rtc = mc146818_create(f->vm, test_line_irq(&f->irq), START_NS);
  mc146818_set_nmi_mask_line(f->rtc, test_line_irq(&f->nmi_mask));
  mc146818_set_alarm_line(f->rtc, test_line_irq(&f->alarm));
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

static uint8_t get(Fixture *f, uint8_t index)
{
  test_out8(f->vm, 0x70, index);
  return test_in8(f->vm, 0x71);
}

static void set(Fixture *f, uint8_t index, uint8_t value)
{
  test_out8(f->vm, 0x70, index);
  test_out8(f->vm, 0x71, value);
}

/* "CCYY-MM-DD wd hh:mm:ss" in hexadecimal, as the registers stand. */
static void assert_time(Fixture *f, const char *expected)
{
  g_autofree char *text = g_strdup_printf("%02x%02x-%02x-%02x %x %02x:%02x:%02x", get(f, CENTURY), get(f, 9), get(f, 8),
                                          get(f, 7), get(f, 6), get(f, 4), get(f, 2), get(f, 0));
  g_assert_cmpstr(text, ==, expected);
}

static void test_time(Fixture *f, gconstpointer data)
{
  assert_time(f, "2024-02-28 4 23:59:50");
  test_step(f->vm, 9 * VM_NS_PER_SEC + 999 * VM_NS_PER_MS);
  assert_time(f, "2024-02-28 4 23:59:59");
  test_step(f->vm, VM_NS_PER_MS);
  assert_time(f, "2024-02-29 5 00:00:00");
  test_step(f->vm, 86400 * VM_NS_PER_SEC);
  assert_time(f, "2024-03-01 6 00:00:00");
  test_step(f->vm, INT64_C(366) * 86400 * VM_NS_PER_SEC);
  assert_time(f, "2025-03-02 1 00:00:00");
}

static void test_codings(Fixture *f, gconstpointer data)
{
  set(f, B, 0x06); /* binary, 24 hours */
  assert_time(f, "1418-02-1c 4 17:3b:32");
  set(f, B, 0x00); /* BCD, 12 hours: 11 PM */
  assert_time(f, "2024-02-28 4 91:59:50");
  test_step(f->vm, 10 * VM_NS_PER_SEC);
  assert_time(f, "2024-02-29 5 12:00:00"); /* midnight is 12 AM */
  test_step(f->vm, 12 * 3600 * VM_NS_PER_SEC);
  assert_time(f, "2024-02-29 5 92:00:00"); /* noon is 12 PM */
}

static void set_all(Fixture *f, const uint8_t values[8])
{
  static const uint8_t registers[] = { CENTURY, 9, 8, 7, 6, 4, 2, 0 };
  for (unsigned i = 0; i < 8; i++)
    set(f, registers[i], values[i]);
}

static void test_setting(Fixture *f, gconstpointer data)
{
  test_step(f->vm, VM_NS_PER_SEC / 4);
  set(f, B, 0x82);
  set_all(f, (const uint8_t[]){ 0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59 });
  test_step(f->vm, 5 * VM_NS_PER_SEC);
  assert_time(f, "1999-12-31 6 23:59:59"); /* it stands */
  set(f, B, 0x02);
  assert_time(f, "1999-12-31 6 23:59:59");
  test_step(f->vm, VM_NS_PER_SEC * 3 / 4 - 1); /* the divider went on */
  assert_time(f, "1999-12-31 6 23:59:59");
  test_step(f->vm, 1);
  assert_time(f, "2000-01-01 7 00:00:00");
  set(f, 4, 0x12); /* while it runs */
  assert_time(f, "2000-01-01 7 12:00:00");
  set(f, 6, 3); /* the guest's idea of the day of the week */
  test_step(f->vm, 86400 * VM_NS_PER_SEC);
  assert_time(f, "2000-01-02 4 12:00:00");
}

static void test_divider_reset(Fixture *f, gconstpointer data)
{
  set(f, A, 0x76);
  set_all(f, (const uint8_t[]){ 0x20, 0x30, 0x06, 0x15, 7, 0x10, 0x20, 0x30 });
  test_step(f->vm, 3 * VM_NS_PER_SEC);
  set(f, A, 0x26);
  test_step(f->vm, VM_NS_PER_SEC / 2 - 1);
  assert_time(f, "2030-06-15 7 10:20:30");
  test_step(f->vm, 1);
  assert_time(f, "2030-06-15 7 10:20:31");
}

static void test_update_in_progress(Fixture *f, gconstpointer data)
{
  test_step(f->vm, VM_NS_PER_SEC - 2229 * VM_NS_PER_US);
  g_assert_cmphex(get(f, A), ==, 0x26);
  test_step(f->vm, VM_NS_PER_US);
  g_assert_cmphex(get(f, A), ==, 0xa6);
  test_step(f->vm, 2228 * VM_NS_PER_US);
  g_assert_cmphex(get(f, A), ==, 0x26);
}

static void test_update_interrupt(Fixture *f, gconstpointer data)
{
  set(f, B, 0x12);
  test_step(f->vm, VM_NS_PER_SEC - 1);
  g_assert_false(f->irq.level);
  test_step(f->vm, 1);
  g_assert_true(f->irq.level);
  test_step(f->vm, 5 * VM_NS_PER_SEC); /* unanswered: no more edges */
  g_assert_cmpuint(f->irq.rises, ==, 1);
  g_assert_cmphex(get(f, C), ==, 0xd0); /* the periodic flag too, though not enabled */
  g_assert_false(f->irq.level);
  g_assert_cmphex(get(f, C), ==, 0x00);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_cmpuint(f->irq.rises, ==, 2);
}

static void test_flags_without_interrupts(Fixture *f, gconstpointer data)
{
  set(f, 5, 0xff);
  set(f, 3, 0xff);
  set(f, 1, 0xff);
  get(f, C);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_cmphex(get(f, C), ==, 0x70); /* all three flags, no IRQF */
  g_assert_cmpuint(f->irq.rises, ==, 0);
}

static void test_periodic(Fixture *f, gconstpointer data)
{
  static const unsigned rates[] = { 0, 256, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2 };
  for (unsigned i = 0; i < 16; i++) {
    set(f, A, (uint8_t)(0x20 | i));
    set(f, B, 0x42);
    get(f, C);
    f->irq.rises = 0;
    unsigned answered = 0;
    for (unsigned step = 0; step < 20000; step++) {
      test_step(f->vm, 50 * VM_NS_PER_US);
      if (f->irq.level && (get(f, C) & 0x40))
        answered++;
    }
    g_assert_cmpuint(answered, ==, rates[i]);
    set(f, B, 0x02);
  }
}

static void test_alarm(Fixture *f, gconstpointer data)
{
  set(f, 1, 0x05);
  set(f, 3, 0x00);
  set(f, 5, 0x00);
  get(f, C);
  set(f, B, 0x22);
  test_step(f->vm, 15 * VM_NS_PER_SEC - 1);
  g_assert_false(f->irq.level);
  test_step(f->vm, 1);
  g_assert_true(f->irq.level);
  g_assert_true(f->alarm.level);
  g_assert_cmphex(get(f, C) & 0xa0, ==, 0xa0);
  test_step(f->vm, 86400 * VM_NS_PER_SEC - 1);
  g_assert_false(f->irq.level);
  test_step(f->vm, 1);
  g_assert_true(f->irq.level);
  get(f, C);
  set(f, 5, 0xc0); /* any hour */
  set(f, 3, 0xff); /* any minute */
  test_step(f->vm, 60 * VM_NS_PER_SEC);
  g_assert_true(f->irq.level);
  get(f, C);
  set(f, 1, 0x61); /* never */
  test_step(f->vm, 2 * 86400 * VM_NS_PER_SEC);
  g_assert_false(f->irq.level);
}

static void test_inhibit(Fixture *f, gconstpointer data)
{
  VmIrq inhibit = mc146818_irq_inhibit(f->rtc);
  test_set_irq(f->vm, inhibit, true);
  set(f, B, 0x12);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_false(f->irq.level);
  test_set_irq(f->vm, inhibit, false);
  g_assert_true(f->irq.level);
}

static unsigned word(Fixture *f, uint8_t index)
{
  return get(f, index) | (unsigned)get(f, index + 1) << 8;
}

static void test_contents(Fixture *f, gconstpointer data)
{
  const uint64_t mib = UINT64_C(1) << 20;
  mc146818_set_memory(f->rtc, 3072 * mib, 1024 * mib);
  mc146818_set_floppies(f->rtc, 4, 0);
  mc146818_set_disk(f->rtc, 0, 1000, 16, 63);
  mc146818_set_boot_order(f->rtc, 3, 2, 1, false);
  mc146818_set_n_cpus(f->rtc, 4);
  g_assert_cmpuint(word(f, 0x15), ==, 640);
  g_assert_cmpuint(word(f, 0x17), ==, 0xffff);
  g_assert_cmpuint(word(f, 0x30), ==, 0xffff);
  g_assert_cmpuint(word(f, 0x34), ==, (3072 - 16) * 16);
  g_assert_cmpuint(word(f, 0x5b), ==, 1024 * 16);
  g_assert_cmpuint(get(f, 0x5d), ==, 0);
  g_assert_cmphex(get(f, 0x10), ==, 0x40);
  g_assert_cmphex(get(f, 0x14), ==, 0x07);
  g_assert_cmphex(get(f, 0x12), ==, 0xf0);
  g_assert_cmpuint(get(f, 0x19), ==, 47);
  g_assert_cmpuint(word(f, 0x1b), ==, 1000);
  g_assert_cmpuint(get(f, 0x1d), ==, 16);
  g_assert_cmpuint(get(f, 0x23), ==, 63);
  g_assert_cmphex(get(f, 0x3d), ==, 0x23);
  g_assert_cmphex(get(f, 0x38), ==, 0x11);
  g_assert_cmpuint(get(f, 0x5f), ==, 3);
  unsigned sum = 0;
  for (uint8_t i = 0x10; i < 0x2e; i++)
    sum += get(f, i);
  g_assert_cmpuint(sum, ==, (unsigned)get(f, 0x2e) << 8 | get(f, 0x2f));
  /* A small machine. */
  mc146818_set_memory(f->rtc, 8 * mib, 0);
  g_assert_cmpuint(word(f, 0x17), ==, 7 * 1024);
  g_assert_cmpuint(word(f, 0x34), ==, 0);
}

static void test_reset_keeps(Fixture *f, gconstpointer data)
{
  set(f, 0x7f, 0x5a);
  set(f, B, 0x72);
  test_out8(f->vm, 0x70, 0x8f);
  g_assert_true(f->nmi_mask.level);
  test_step(f->vm, 5 * VM_NS_PER_SEC);
  test_reset(f->rtc);
  g_assert_false(f->nmi_mask.level);
  g_assert_false(f->irq.level);
  g_assert_cmphex(get(f, B), ==, 0x02);
  g_assert_cmphex(get(f, 0x7f), ==, 0x5a);
  g_assert_cmphex(get(f, 13), ==, 0x80);
  assert_time(f, "2024-02-28 4 23:59:55");
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->rtc);
  set(f, 9, 0x35);
  set(f, B, 0x12);
  test_step(f->vm, 1500 * VM_NS_PER_MS);
  test_step(other.vm, 1500 * VM_NS_PER_MS);
  get(f, C);
  test_round_trip(f->rtc, other.rtc);
  test_step(other.vm, 500 * VM_NS_PER_MS - 1);
  g_assert_false(other.irq.level);
  test_step(other.vm, 1);
  g_assert_true(other.irq.level);
  assert_time(&other, "2035-02-28 4 23:59:52");
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(146818);
  test_hostile_ports(f->vm, 0x6f, 4, rand);
  for (unsigned i = 0; i < TEST_POKES; i++) {
    set(f, (uint8_t)g_rand_int_range(rand, 0, i % 2 ? 14 : 128), (uint8_t)g_rand_int(rand));
    get(f, (uint8_t)g_rand_int_range(rand, 0, 128));
    if (i % 64 == 0)
      test_step(f->vm, g_rand_int_range(rand, 0, 2000000000));
  }
  test_hostile_streams(f->rtc, rand);
  set(f, A, 0x26);
  set(f, B, 0x82);
  set_all(f, (const uint8_t[]){ 0x20, 0x24, 0x01, 0x01, 2, 0x00, 0x00, 0x00 });
  set(f, B, 0x02);
  test_step(f->vm, 2 * VM_NS_PER_SEC);
  g_assert_cmphex(get(f, 0) & 0xfe, ==, 0x02);
}

/* By default the clock shows the host's UTC. */
static void test_host_time(void)
{
  Vm *vm = vm_new_manual();
  Fixture f = { .vm = vm };
  mc146818_create(vm, (VmIrq){ 0 }, -1);
  g_autoptr(GDateTime) before = g_date_time_new_now_utc();
  unsigned minute, hour;
  do {
    hour = get(&f, 4);
    minute = get(&f, 2);
  } while (hour != get(&f, 4));
  g_autoptr(GDateTime) after = g_date_time_new_now_utc();
  unsigned shown = (hour >> 4) * 600 + (hour & 15) * 60 + (minute >> 4) * 10 + (minute & 15);
  unsigned first = (unsigned)(g_date_time_get_hour(before) * 60 + g_date_time_get_minute(before));
  unsigned last = (unsigned)(g_date_time_get_hour(after) * 60 + g_date_time_get_minute(after));
  g_assert_true(shown == first || shown == last);
  vm_free(vm);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/mc146818/time", test_time },
    { "/mc146818/codings", test_codings },
    { "/mc146818/setting", test_setting },
    { "/mc146818/divider-reset", test_divider_reset },
    { "/mc146818/update-in-progress", test_update_in_progress },
    { "/mc146818/update-interrupt", test_update_interrupt },
    { "/mc146818/flags-without-interrupts", test_flags_without_interrupts },
    { "/mc146818/periodic", test_periodic },
    { "/mc146818/alarm", test_alarm },
    { "/mc146818/inhibit", test_inhibit },
    { "/mc146818/contents", test_contents },
    { "/mc146818/reset-keeps", test_reset_keeps },
    { "/mc146818/state", test_state },
    { "/mc146818/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  g_test_add_func("/mc146818/host-time", test_host_time);
  return g_test_run();
}

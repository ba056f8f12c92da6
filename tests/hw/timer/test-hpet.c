/* The HPET: counter, one-shot and periodic comparators, routing, legacy replacement. */
#include "hw/timer/hpet.h"

#include "tests/hw/device-test.h"

enum { CAPABILITIES = 0x00, CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0 };
enum { LEVEL = 2, ENABLE = 4, PERIODIC = 8, SET_VALUE = 0x40, NARROW = 0x100 };
enum { ROUTE = 20 };

typedef struct Fixture {
  Vm *vm;
  Hpet *hpet;
  TestLine irq0, irq8, pit_inhibit, rtc_inhibit, routes[4];
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  HpetWiring wiring = {
    .legacy_irq0 = test_line_irq(&f->irq0),
    .legacy_irq8 = test_line_irq(&f->irq8),
    .pit_inhibit = test_line_irq(&f->pit_inhibit),
    .rtc_inhibit = test_line_irq(&f->rtc_inhibit),
  };
  for (unsigned i = 0; i < 4; i++)
    wiring.routes[ROUTE + i] = test_line_irq(&f->routes[i]);
  f->hpet = hpet_create(f->vm, &wiring);
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

static uint64_t get(Fixture *f, unsigned offset)
{
  return test_load(f->vm, HPET_BASE + offset, 8);
}
static void set(Fixture *f, unsigned offset, uint64_t value)
{
  test_store(f->vm, HPET_BASE + offset, value, 8);
}
static unsigned config_of(unsigned timer)
{
  return 0x100 + 0x20 * timer;
}
static unsigned comparator_of(unsigned timer)
{
  return 0x108 + 0x20 * timer;
}

static void test_capabilities(Fixture *f, gconstpointer data)
{
  g_assert_cmphex(get(f, CAPABILITIES), ==, UINT64_C(10000000) << 32 | 0x8086a201);
  g_assert_cmphex(test_load(f->vm, HPET_BASE + 4, 4), ==, 10000000);
  g_assert_cmphex(get(f, config_of(2)) >> 32, ==, 0x00f00000);
  g_assert_cmphex(get(f, config_of(2)) & 0x30, ==, 0x30);
  g_assert_cmphex(get(f, 0x160), ==, 0); /* there is no fourth timer */
}

static void test_counter(Fixture *f, gconstpointer data)
{
  test_step(f->vm, 1000);
  g_assert_cmpuint(get(f, COUNTER), ==, 0);
  set(f, CONFIG, 1);
  test_step(f->vm, 1000);
  g_assert_cmpuint(get(f, COUNTER), ==, 100);
  set(f, COUNTER, 7); /* ignored while it runs */
  g_assert_cmpuint(get(f, COUNTER), ==, 100);
  set(f, CONFIG, 0);
  test_step(f->vm, 1000);
  g_assert_cmpuint(get(f, COUNTER), ==, 100);
  test_store(f->vm, HPET_BASE + COUNTER + 4, 5, 4);
  g_assert_cmphex(get(f, COUNTER), ==, UINT64_C(5) << 32 | 100);
  set(f, CONFIG, 1);
  test_step(f->vm, 50);
  g_assert_cmphex(test_load(f->vm, HPET_BASE + COUNTER, 4), ==, 105);
}

static void test_one_shot(Fixture *f, gconstpointer data)
{
  set(f, config_of(0), ENABLE | (ROUTE + 1) << 9);
  set(f, comparator_of(0), 10000);
  set(f, CONFIG, 1);
  test_step(f->vm, 99999);
  g_assert_cmpuint(f->routes[1].rises, ==, 0);
  test_step(f->vm, 1);
  g_assert_cmpuint(f->routes[1].rises, ==, 1);
  test_step(f->vm, 10 * VM_NS_PER_SEC);
  g_assert_cmpuint(f->routes[1].rises, ==, 1);
  set(f, comparator_of(0), get(f, COUNTER) + 5000);
  test_step(f->vm, 50000);
  g_assert_cmpuint(f->routes[1].rises, ==, 2);
  g_assert_cmpuint(get(f, STATUS), ==, 0); /* edges leave no status */
}

static void test_32_bit_wraps(Fixture *f, gconstpointer data)
{
  set(f, config_of(0), ENABLE | NARROW | ROUTE << 9);
  set(f, comparator_of(0), UINT64_C(0xffff000000001000));
  g_assert_cmphex(get(f, comparator_of(0)), ==, 0x1000);
  set(f, CONFIG, 1);
  test_step(f->vm, 100 * VM_NS_PER_SEC);
  g_assert_cmpuint(f->routes[0].rises, ==, 3); /* at once, and a wrap of 42.9 s each */
}

static void test_periodic(Fixture *f, gconstpointer data)
{
  set(f, config_of(1), ENABLE | PERIODIC | SET_VALUE | ROUTE << 9);
  set(f, comparator_of(1), 50000);
  set(f, comparator_of(1), 100000); /* the period: 1 ms */
  set(f, CONFIG, 1);
  test_step(f->vm, 500 * VM_NS_PER_US);
  g_assert_cmpuint(f->routes[0].rises, ==, 1);
  test_step(f->vm, 10 * VM_NS_PER_MS);
  g_assert_cmpuint(f->routes[0].rises, ==, 11);
  g_assert_cmpuint(get(f, comparator_of(1)), ==, 50000 + 11 * 100000);
}

static void test_level(Fixture *f, gconstpointer data)
{
  set(f, config_of(2), ENABLE | LEVEL | (ROUTE + 3) << 9);
  set(f, comparator_of(2), 100);
  set(f, CONFIG, 1);
  test_step(f->vm, 1000);
  g_assert_true(f->routes[3].level);
  g_assert_cmphex(get(f, STATUS), ==, 4);
  set(f, STATUS, 3);
  g_assert_true(f->routes[3].level);
  set(f, STATUS, 4);
  g_assert_false(f->routes[3].level);
  g_assert_cmphex(get(f, STATUS), ==, 0);
}

static void test_routes(Fixture *f, gconstpointer data)
{
  set(f, config_of(0), 5 << 9); /* not connected: the register keeps what it had */
  g_assert_cmpuint(get(f, config_of(0)) >> 9 & 31, ==, ROUTE);
  set(f, config_of(0), (ROUTE + 2) << 9);
  g_assert_cmpuint(get(f, config_of(0)) >> 9 & 31, ==, ROUTE + 2);
}

static void test_legacy(Fixture *f, gconstpointer data)
{
  set(f, config_of(0), ENABLE | PERIODIC | SET_VALUE);
  set(f, comparator_of(0), 100000);
  set(f, config_of(1), ENABLE);
  set(f, comparator_of(1), 150000);
  set(f, CONFIG, 3);
  g_assert_true(f->pit_inhibit.level && f->rtc_inhibit.level);
  test_step(f->vm, 10 * VM_NS_PER_MS);
  g_assert_cmpuint(f->irq0.rises, ==, 10);
  g_assert_cmpuint(f->irq8.rises, ==, 1);
  g_assert_cmpuint(f->routes[0].rises, ==, 0);
  set(f, CONFIG, 1);
  g_assert_false(f->pit_inhibit.level || f->rtc_inhibit.level);
  test_step(f->vm, VM_NS_PER_MS);
  g_assert_cmpuint(f->routes[0].rises, ==, 1);
  test_reset(f->hpet);
  test_step(f->vm, 10 * VM_NS_PER_MS);
  g_assert_cmpuint(f->routes[0].rises, ==, 1);
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->hpet);
  set(f, config_of(1), ENABLE | PERIODIC | SET_VALUE);
  set(f, comparator_of(1), 100000);
  set(f, CONFIG, 1);
  test_step(f->vm, 1234567);
  test_step(other.vm, 1234567);
  test_round_trip(f->hpet, other.hpet);
  test_step(f->vm, 5 * VM_NS_PER_MS);
  test_step(other.vm, 5 * VM_NS_PER_MS);
  g_assert_cmpuint(other.routes[0].rises, ==, 5);
  g_assert_cmpuint(get(f, COUNTER), ==, get(&other, COUNTER));
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(0x8086a201);
  test_hostile_memory(f->vm, HPET_BASE, 0x200, rand);
  test_hostile_streams(f->hpet, rand);
  f->routes[1].rises = 0;
  test_one_shot(f, data);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/hpet/capabilities", test_capabilities },
    { "/hpet/counter", test_counter },
    { "/hpet/one-shot", test_one_shot },
    { "/hpet/32-bit-wraps", test_32_bit_wraps },
    { "/hpet/periodic", test_periodic },
    { "/hpet/level", test_level },
    { "/hpet/routes", test_routes },
    { "/hpet/legacy", test_legacy },
    { "/hpet/state", test_state },
    { "/hpet/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  return g_test_run();
}

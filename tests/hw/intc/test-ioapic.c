/* The I/O APIC: edges, levels and their redelivery, masks, delivery modes, destinations. */
#include "hw/intc/ioapic.h"

#include "hw/intc/i8259.h"
#include "tests/hw/device-test.h"

#define MASKED     (UINT64_C(1) << 16)
#define LEVEL      (UINT64_C(1) << 15)
#define REMOTE_IRR (UINT64_C(1) << 14)
#define TO_CPU(n)  ((uint64_t)(n) << 56)

typedef struct Fixture {
  Vm *vm;
  I8259 *pic;
  LapicBus *bus;
  VmCpu *cpus[2];
  Lapic *lapics[2];
  Ioapic *ioapic;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  f->pic = i8259_create(f->vm);
  f->bus = lapic_bus_create(f->vm, f->pic);
  for (unsigned i = 0; i < 2; i++) {
    f->cpus[i] = vm_cpu_new(f->vm, NULL);
    f->lapics[i] = lapic_create(f->bus, f->cpus[i], (uint8_t)i);
  }
  f->ioapic = ioapic_create(f->vm, f->bus, 2);
  test_store(f->vm, LAPIC_BASE + 0xf0, 0x1ff, 4);
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

static uint32_t get(Fixture *f, uint8_t index)
{
  test_store(f->vm, IOAPIC_BASE, index, 4);
  return (uint32_t)test_load(f->vm, IOAPIC_BASE + 0x10, 4);
}

static void set(Fixture *f, uint8_t index, uint32_t value)
{
  test_store(f->vm, IOAPIC_BASE, index, 4);
  test_store(f->vm, IOAPIC_BASE + 0x10, value, 4);
}

static uint64_t get_entry(Fixture *f, unsigned pin)
{
  return get(f, (uint8_t)(0x10 + 2 * pin)) | (uint64_t)get(f, (uint8_t)(0x11 + 2 * pin)) << 32;
}

static void set_entry(Fixture *f, unsigned pin, uint64_t value)
{
  set(f, (uint8_t)(0x11 + 2 * pin), (uint32_t)(value >> 32));
  set(f, (uint8_t)(0x10 + 2 * pin), (uint32_t)value);
}

static void set_pin(Fixture *f, unsigned pin, bool level)
{
  test_set_irq(f->vm, ioapic_irq(f->ioapic, pin), level);
}

static int acknowledge(Fixture *f, unsigned cpu)
{
  return f->cpus[cpu]->intc_ops->acknowledge(f->cpus[cpu]->intc);
}
static void end(Fixture *f)
{
  test_store(f->vm, LAPIC_BASE + 0xb0, 0, 4);
}

static void test_registers(Fixture *f, gconstpointer data)
{
  g_assert_cmphex(get(f, 0), ==, 0x02000000);
  g_assert_cmphex(get(f, 1), ==, 0x00170020);
  set(f, 0, 0xff000000);
  g_assert_cmphex(get(f, 0), ==, 0x0f000000);
  g_assert_cmphex(get_entry(f, 23), ==, MASKED);
  set_entry(f, 23, UINT64_MAX);
  g_assert_cmphex(get_entry(f, 23), ==, UINT64_C(0xff0000000001afff));
  g_assert_cmphex(get(f, 0x40), ==, 0);
  test_reset(f->ioapic);
  g_assert_cmphex(get(f, 0), ==, 0x02000000);
  g_assert_cmphex(get_entry(f, 23), ==, MASKED);
}

static void test_edges(Fixture *f, gconstpointer data)
{
  set_pin(f, 4, true); /* masked: lost */
  set_entry(f, 4, 0x34);
  g_assert_cmpint(acknowledge(f, 0), ==, -1);
  set_pin(f, 4, false);
  set_pin(f, 4, true);
  set_pin(f, 4, false);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x34);
  g_assert_cmphex(get_entry(f, 4), ==, 0x34); /* no remote IRR for edges */
  end(f);
  set_pin(f, 4, true);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x34);
  end(f);
  g_assert_cmpint(acknowledge(f, 0), ==, -1); /* high, but no edge */
}

static void test_levels(Fixture *f, gconstpointer data)
{
  set_entry(f, 10, LEVEL | 0x50);
  set_pin(f, 10, true);
  g_assert_cmphex(get_entry(f, 10), ==, LEVEL | REMOTE_IRR | 0x50);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x50);
  set_pin(f, 10, false);
  set_pin(f, 10, true); /* not again before the EOI */
  g_assert_cmpint(acknowledge(f, 0), ==, -1);
  end(f);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x50);
  set_pin(f, 10, false);
  end(f);
  g_assert_cmphex(get_entry(f, 10), ==, LEVEL | 0x50);
  g_assert_cmpint(acknowledge(f, 0), ==, -1);
  /* Masked while high, it comes when unmasked. */
  set_entry(f, 10, MASKED | LEVEL | 0x50);
  set_pin(f, 10, true);
  g_assert_cmpint(acknowledge(f, 0), ==, -1);
  set_entry(f, 10, LEVEL | 0x51);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x51);
  /* The EOI register ends it without the CPU's broadcast. */
  test_store(f->vm, IOAPIC_BASE + 0x40, 0x51, 4);
  g_assert_cmphex(f->cpus[0]->requests & VM_CPU_REQ_INTR, ==, 0); /* pending, but 0x51 is in service */
  set_pin(f, 10, false);
  end(f);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x51);
  /* Turning the entry to edge clears remote IRR. */
  set_entry(f, 10, 0x51);
  g_assert_cmphex(get_entry(f, 10), ==, 0x51);
}

/* Two pins with one vector: an EOI is for both. */
static void test_shared_vector(Fixture *f, gconstpointer data)
{
  set_entry(f, 16, LEVEL | 0x60);
  set_entry(f, 17, LEVEL | 0x60);
  set_pin(f, 16, true);
  set_pin(f, 17, true);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x60);
  set_pin(f, 16, false);
  end(f);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x60);
  set_pin(f, 17, false);
  end(f);
  g_assert_cmphex(get_entry(f, 16) & REMOTE_IRR, ==, 0);
  g_assert_cmphex(get_entry(f, 17) & REMOTE_IRR, ==, 0);
}

/* Nobody takes it: it is not lost. */
static void test_no_taker(Fixture *f, gconstpointer data)
{
  set_entry(f, 10, LEVEL | TO_CPU(9) | 0x50);
  set_pin(f, 10, true);
  g_assert_cmphex(get_entry(f, 10) & REMOTE_IRR, ==, 0);
  set_entry(f, 10, LEVEL | 0x50);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x50);
}

static void test_modes(Fixture *f, gconstpointer data)
{
  set_entry(f, 3, LEVEL | TO_CPU(1) | 0x400); /* NMI goes by edges whatever the bit says */
  set_pin(f, 3, true);
  g_assert_true(vm_cpu_requests(f->cpus[1]) & VM_CPU_REQ_NMI);
  g_assert_false(vm_cpu_requests(f->cpus[0]) & VM_CPU_REQ_NMI);
  set_entry(f, 3, TO_CPU(0) | 0x200);
  set_pin(f, 3, false);
  set_pin(f, 3, true);
  g_assert_true(vm_cpu_requests(f->cpus[0]) & VM_CPU_REQ_SMI);
  set_entry(f, 3, TO_CPU(1) | 0x500);
  set_pin(f, 3, false);
  set_pin(f, 3, true);
  g_assert_true(vm_cpu_requests(f->cpus[1]) & VM_CPU_REQ_INIT);
}

/* ExtINT: the CPU asks the PIC for the vector. */
static void test_extint(Fixture *f, gconstpointer data)
{
  test_store(f->vm, LAPIC_BASE + 0x350, 1 << 16, 4);
  i8259_connect_output(f->pic, ioapic_irq(f->ioapic, 0));
  test_out8(f->vm, 0x20, 0x13);
  test_out8(f->vm, 0x21, 0x70);
  test_out8(f->vm, 0x21, 0x01);
  set_entry(f, 0, 0x700);
  test_set_irq(f->vm, i8259_irq(f->pic, 5), true);
  g_assert_true(vm_cpu_requests(f->cpus[0]) & VM_CPU_REQ_INTR);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x75);
  g_assert_false(vm_cpu_requests(f->cpus[0]) & VM_CPU_REQ_INTR);
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->ioapic);
  set_entry(f, 10, LEVEL | 0x50);
  set_pin(f, 10, true);
  test_round_trip(f->ioapic, other.ioapic);
  test_round_trip(f->lapics[0], other.lapics[0]);
  g_assert_cmpint(acknowledge(&other, 0), ==, 0x50);
  end(&other);
  g_assert_cmpint(acknowledge(&other, 0), ==, 0x50); /* the line is still high there */
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(82093);
  test_hostile_memory(f->vm, IOAPIC_BASE, 0x50, rand);
  for (unsigned i = 0; i < TEST_POKES; i++) {
    set(f, (uint8_t)g_rand_int_range(rand, 0, 256), (uint32_t)test_random_value(rand));
    set_pin(f, (unsigned)g_rand_int_range(rand, 0, IOAPIC_N_PINS), g_rand_boolean(rand));
    get(f, (uint8_t)g_rand_int_range(rand, 0, 256));
    if (i % 4 == 0) {
      acknowledge(f, 0);
      end(f);
    }
  }
  test_hostile_streams(f->ioapic, rand);
  while (acknowledge(f, 0) >= 0)
    end(f);
  test_reset(f->lapics[0]);
  test_store(f->vm, LAPIC_BASE + 0xf0, 0x1ff, 4);
  for (unsigned i = 0; i < IOAPIC_N_PINS; i++)
    set_pin(f, i, false);
  test_levels(f, data);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/ioapic/registers", test_registers }, { "/ioapic/edges", test_edges },
    { "/ioapic/levels", test_levels },       { "/ioapic/shared-vector", test_shared_vector },
    { "/ioapic/no-taker", test_no_taker },   { "/ioapic/modes", test_modes },
    { "/ioapic/extint", test_extint },       { "/ioapic/state", test_state },
    { "/ioapic/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  return g_test_run();
}

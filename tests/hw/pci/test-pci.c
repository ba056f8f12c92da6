/* The PCI base: configuration masks, BAR sizing, moving and overlap, interrupt lines, bus-master gating. */
#include "hw/pci/i440fx.h"

#include "tests/hw/device-test.h"

enum { COMMAND = 0x04, STATUS = 0x06, HEADER = 0x0e, BAR0 = 0x10, ROM = 0x30, INTERRUPT_LINE = 0x3c };
enum { PORTS = 1, MEMORY = 2, MASTER = 4, NO_INTX = 0x400 };

/* A device with one BAR of each kind. */
typedef struct Probe {
  PciDevice pci;
  uint32_t registers[4];
  unsigned config_writes;
} Probe;

static const VmField probe_fields[] = {
  VM_STRUCT(Probe, pci, pci_device_fields),
  VM_UINT_ARRAY(Probe, registers),
  VM_TRANSIENT(Probe, config_writes, "counts for the test"),
  VM_FIELDS_END,
};

static void probe_reset(VmDevice *dev)
{
  pci_device_reset((PciDevice *)dev);
}
static void probe_loaded(VmDevice *dev)
{
  pci_device_loaded((PciDevice *)dev);
}

static const VmDeviceType probe_type = {
  .name = "probe",
  .version = 1,
  .size = sizeof(Probe),
  .fields = probe_fields,
  .reset = probe_reset,
  .loaded = probe_loaded,
};

static uint64_t probe_read(void *opaque, uint64_t offset, unsigned size)
{
  return ((Probe *)opaque)->registers[offset / 4 % 4];
}

static void probe_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  ((Probe *)opaque)->registers[offset / 4 % 4] = (uint32_t)value;
}

static const VmMmioOps probe_ops = { .read = probe_read, .write = probe_write, .impl_min = 4, .impl_max = 4 };

typedef struct Fixture {
  Vm *vm;
  VmRam *ram, *bar_ram;
  PciBus *bus;
  Probe *probes[4]; /* slots 1 to 4 */
  bool lines[4];
} Fixture;

static void on_line(void *opaque, unsigned line, bool level)
{
  ((Fixture *)opaque)->lines[line] = level;
}

static void on_config_written(PciDevice *dev, unsigned offset, unsigned size)
{
  ((Probe *)dev)->config_writes++;
}

static Probe *create_probe(Fixture *f, unsigned slot)
{
  static const PciIds ids = { 0x1234, 0x5678, 0x1af4, 0x1100, 0x020000, 7 };
  g_autofree char *id = g_strdup_printf("probe.%u", slot);
  Probe *p = pci_device_new(f->bus, &probe_type, id, PCI_DEVFN(slot, 0), &ids);
  pci_bar_io(&p->pci, 0, PCI_BAR_MEMORY, 0x1000, &probe_ops, p);
  pci_bar_io(&p->pci, 1, PCI_BAR_PORTS, 0x20, &probe_ops, p);
  pci_bar_ram(&p->pci, 2, 0x100000, f->bar_ram, true);
  g_assert_true(pci_bar_rom(&p->pci, "rom bytes", 9, NULL));
  pci_set_interrupt_pin(&p->pci, 1);
  p->pci.config_written = on_config_written;
  probe_reset(&p->pci.dev);
  return p;
}

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  VmMemory *memory = vm_get_memory(f->vm);
  f->ram = vm_ram_new(memory, "ram", 0x200000, NULL);
  f->bar_ram = vm_ram_new(memory, "bar", 0x100000, NULL);
  vm_region_new_ram(memory, "ram", 0x100000, 0x100000, PC_PRIORITY_FIXED, f->ram, 0x100000, VM_ACCESS_RW);
  f->bus = pci_bus_new(f->vm, on_line, f);
  i440fx_create(f->vm, f->bus, f->ram);
  for (unsigned i = 0; i < 4; i++)
    f->probes[i] = create_probe(f, i + 1);
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

/* By the ports of mechanism #1, as a guest does it. */
static void select_register(Fixture *f, unsigned slot, unsigned offset)
{
  test_out32(f->vm, 0xcf8, 0x80000000u | slot << 11 | (offset & 0xfc));
}

static uint32_t get(Fixture *f, unsigned slot, unsigned offset)
{
  select_register(f, slot, offset);
  return test_in32(f->vm, 0xcfc);
}

static void set(Fixture *f, unsigned slot, unsigned offset, uint32_t value)
{
  select_register(f, slot, offset);
  test_out32(f->vm, 0xcfc, value);
}

static void set_command(Fixture *f, unsigned slot, uint16_t value)
{
  select_register(f, slot, COMMAND);
  test_out16(f->vm, 0xcfc, value);
}

static void test_header(Fixture *f, gconstpointer data)
{
  g_assert_cmphex(get(f, 1, 0), ==, 0x56781234);
  g_assert_cmphex(get(f, 1, 8), ==, 0x02000007);
  g_assert_cmphex(get(f, 1, 0x2c), ==, 0x11001af4);
  set(f, 1, 0, 0);
  set(f, 1, 8, 0);
  set(f, 1, 0x2c, 0);
  g_assert_cmphex(get(f, 1, 0), ==, 0x56781234);
  g_assert_cmphex(get(f, 1, 8), ==, 0x02000007);
  g_assert_cmphex(get(f, 1, 0x2c), ==, 0x11001af4);
  set_command(f, 1, 0xffff);
  g_assert_cmphex(get(f, 1, COMMAND) & 0xffff, ==, 0x0547);
  select_register(f, 1, INTERRUPT_LINE);
  test_out8(f->vm, 0xcfc, 11);
  test_out8(f->vm, 0xcfd, 3); /* the pin is read-only */
  g_assert_cmphex(test_in16(f->vm, 0xcfc), ==, 0x010b);
}

static void test_absent(Fixture *f, gconstpointer data)
{
  g_assert_cmphex(get(f, 9, 0), ==, UINT32_MAX);
  set(f, 9, 0x10, 5);
  test_out32(f->vm, 0xcf8, 0x80010800); /* bus 1 */
  g_assert_cmphex(test_in32(f->vm, 0xcfc), ==, UINT32_MAX);
  test_out32(f->vm, 0xcf8, 0x00000800); /* mechanism off */
  g_assert_cmphex(test_in32(f->vm, 0xcfc), ==, UINT32_MAX);
  g_assert_cmphex(test_in32(f->vm, 0xcf8), ==, 0x00000800);
  test_out32(f->vm, 0xcf8, UINT32_MAX);
  g_assert_cmphex(test_in32(f->vm, 0xcf8), ==, 0x80fffffc);
  test_out16(f->vm, 0xcf8, 0); /* only dwords reach the register */
  g_assert_cmphex(test_in32(f->vm, 0xcf8), ==, 0x80fffffc);
}

static void test_sizing(Fixture *f, gconstpointer data)
{
  static const struct {
    unsigned offset;
    uint32_t answer;
  } bars[] = { { BAR0, 0xfffff000 },
               { BAR0 + 4, 0xffffffe1 },
               { BAR0 + 8, 0xfff00008 },
               { BAR0 + 12, 0x00000000 },
               { ROM, 0xfffff001 } };
  for (unsigned i = 0; i < G_N_ELEMENTS(bars); i++) {
    set(f, 1, bars[i].offset, UINT32_MAX);
    g_assert_cmphex(get(f, 1, bars[i].offset), ==, bars[i].answer);
    set(f, 1, bars[i].offset, 0);
  }
}

static void test_moving(Fixture *f, gconstpointer data)
{
  f->probes[0]->registers[0] = 0x11223344;
  set(f, 1, BAR0, 0xe0000000);
  g_assert_cmphex(test_load(f->vm, 0xe0000000, 4), ==, UINT32_MAX); /* decoding is off */
  set_command(f, 1, MEMORY);
  g_assert_cmphex(test_load(f->vm, 0xe0000000, 4), ==, 0x11223344);
  set(f, 1, BAR0, 0xe1000000);
  g_assert_cmphex(test_load(f->vm, 0xe0000000, 4), ==, UINT32_MAX);
  test_store(f->vm, 0xe1000004, 5, 4);
  g_assert_cmphex(f->probes[0]->registers[1], ==, 5);
  /* Ports by their own bit. */
  set(f, 1, BAR0 + 4, 0xc000);
  g_assert_cmphex(test_in32(f->vm, 0xc000), ==, UINT32_MAX);
  set_command(f, 1, MEMORY | PORTS);
  g_assert_cmphex(test_in32(f->vm, 0xc000), ==, 0x11223344);
  set(f, 1, BAR0 + 4, 0x00fffff0); /* past the end of the ports */
  g_assert_cmphex(test_in32(f->vm, 0xc000), ==, UINT32_MAX);
  /* A block, written and read. */
  set(f, 1, BAR0 + 8, 0xe2000000);
  test_store(f->vm, 0xe20fffff, 0x5a, 1);
  g_assert_cmphex(vm_ram_get_hva(f->bar_ram)[0xfffff], ==, 0x5a);
  set_command(f, 1, 0);
  g_assert_cmphex(test_load(f->vm, 0xe20fffff, 1), ==, 0xff);
}

static void test_rom(Fixture *f, gconstpointer data)
{
  set_command(f, 1, MEMORY);
  set(f, 1, ROM, 0xe3000000);
  g_assert_cmphex(test_load(f->vm, 0xe3000000, 1), ==, 0xff);
  set(f, 1, ROM, 0xe3000001);
  g_assert_cmphex(test_load(f->vm, 0xe3000000, 4), ==, 0x206d6f72); /* "rom " */
  test_store(f->vm, 0xe3000000, 0, 4);
  g_assert_cmphex(test_load(f->vm, 0xe3000000, 4), ==, 0x206d6f72);
}

/* RAM wins over a BAR put on top of it; of two BARs one answers, and the other is there when it goes. */
static void test_overlap(Fixture *f, gconstpointer data)
{
  test_store(f->vm, 0x180000, 0xcafe, 4);
  f->probes[0]->registers[0] = 1;
  f->probes[1]->registers[0] = 2;
  set_command(f, 1, MEMORY);
  set_command(f, 2, MEMORY);
  set(f, 1, BAR0, 0x180000);
  g_assert_cmphex(test_load(f->vm, 0x180000, 4), ==, 0xcafe);
  set(f, 1, BAR0, 0xe0000000);
  set(f, 2, BAR0, 0xe0000000);
  uint64_t first = test_load(f->vm, 0xe0000000, 4);
  g_assert_true(first == 1 || first == 2);
  set_command(f, first == 1 ? 1 : 2, 0);
  g_assert_cmphex(test_load(f->vm, 0xe0000000, 4), ==, 3 - first);
}

static void drive(Fixture *f, unsigned probe, bool level)
{
  test_lock(f->vm);
  pci_set_irq(&f->probes[probe]->pci, level);
  test_unlock(f->vm);
}

static void test_interrupts(Fixture *f, gconstpointer data)
{
  for (unsigned i = 0; i < 4; i++) {
    drive(f, i, true);
    g_assert_true(f->lines[i]); /* INTA of slot 1 is line A, of slot 2 line B … */
    g_assert_cmphex(get(f, i + 1, STATUS & ~3u) >> 16 & 8, ==, 8);
  }
  set_command(f, 2, NO_INTX);
  g_assert_false(f->lines[1]);
  set_command(f, 2, 0);
  g_assert_true(f->lines[1]);
  /* Two on one line: INTA of slot 1 and of slot 5. */
  Probe *fifth = create_probe(f, 5);
  test_lock(f->vm);
  pci_set_irq(&fifth->pci, true);
  test_unlock(f->vm);
  drive(f, 0, false);
  g_assert_true(f->lines[0]);
  test_lock(f->vm);
  pci_set_irq(&fifth->pci, false);
  test_unlock(f->vm);
  g_assert_false(f->lines[0]);
  test_reset(f->probes[3]);
  g_assert_false(f->lines[3]);
}

static void test_dma(Fixture *f, gconstpointer data)
{
  uint32_t value = 0x12345678, back = 0;
  PciDevice *dev = &f->probes[0]->pci;
  g_assert_false(pci_dma_write(dev, 0x100000, &value, 4));
  set_command(f, 1, MASTER);
  g_assert_true(pci_dma_write(dev, 0x100000, &value, 4));
  g_assert_true(pci_dma_read(dev, 0x100000, &back, 4));
  g_assert_cmphex(back, ==, value);
  g_assert_false(pci_dma_read(dev, 0x200000 - 2, &back, 4));
}

static void test_multifunction(Fixture *f, gconstpointer data)
{
  static const PciIds ids = { .vendor = 0x1234, .device = 1 };
  g_assert_cmphex(get(f, 3, 0x0c) >> 16 & 0x80, ==, 0);
  pci_device_new(f->bus, &probe_type, "probe.3.1", PCI_DEVFN(3, 1), &ids);
  g_assert_cmphex(get(f, 3, 0x0c) >> 16 & 0x80, ==, 0x80);
  test_reset(f->probes[2]);
  g_assert_cmphex(get(f, 3, 0x0c) >> 16 & 0x80, ==, 0x80);
}

static void test_reset_clears(Fixture *f, gconstpointer data)
{
  set_command(f, 1, 7);
  set(f, 1, BAR0, 0xe0000000);
  set(f, 1, BAR0 + 4, 0xc000);
  test_reset(f->probes[0]);
  g_assert_cmphex(get(f, 1, COMMAND), ==, 0);
  g_assert_cmphex(get(f, 1, BAR0), ==, 0);
  g_assert_cmphex(get(f, 1, BAR0 + 4), ==, 1);
  g_assert_cmphex(test_load(f->vm, 0xe0000000, 4), ==, UINT32_MAX);
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->probes[0]);
  set_command(f, 1, 7);
  set(f, 1, BAR0, 0xe0000000);
  f->probes[0]->registers[0] = 99;
  drive(f, 0, true);
  test_round_trip(f->probes[0], other.probes[0]);
  g_assert_cmpuint(test_load(other.vm, 0xe0000000, 4), ==, 99);
  g_assert_true(other.lines[0]);
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(0x8086);
  for (unsigned i = 0; i < TEST_POKES; i++) {
    unsigned slot = (unsigned)g_rand_int_range(rand, 0, 6);
    unsigned offset = (unsigned)g_rand_int_range(rand, 0, i % 8 == 0 ? 256 : 64);
    unsigned width = 1u << g_rand_int_range(rand, 0, 3);
    uint16_t port = (uint16_t)(0xcfc + offset % 4);
    if (slot == 0 && offset <= 0x93 && offset + 4 > 0x93)
      continue; /* resets the machine: test-i440fx */
    select_register(f, slot, offset);
    vm_port_write(vm_get_memory(f->vm), port, (uint32_t)test_random_value(rand), width);
    vm_port_read(vm_get_memory(f->vm), port, width);
    if (i % 512 == 0)
      test_store(f->vm, test_random_value(rand) & UINT32_MAX & ~(VmGpa)7, 1, 8);
  }
  test_hostile_streams(f->probes[0], rand);
  for (unsigned i = 0; i < 4; i++)
    test_reset(f->probes[i]);
  test_header(f, data);
  test_reset(f->probes[0]);
  test_moving(f, data);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/pci/header", test_header },
    { "/pci/absent", test_absent },
    { "/pci/sizing", test_sizing },
    { "/pci/moving", test_moving },
    { "/pci/rom", test_rom },
    { "/pci/overlap", test_overlap },
    { "/pci/interrupts", test_interrupts },
    { "/pci/dma", test_dma },
    { "/pci/multifunction", test_multifunction },
    { "/pci/reset-clears", test_reset_clears },
    { "/pci/state", test_state },
    { "/pci/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  return g_test_run();
}

/* Host bridge, ISA bridge and power management as a board puts them together. */
#include "hw/intc/i8259.h"
#include "hw/intc/ioapic.h"
#include "hw/pci/piix3.h"
#include "hw/pci/piix4-pm.h"
#include "tests/hw/device-test.h"
#include "vm-engine/vcpu.h"

enum { PM_SLOT = 1, PAM0 = 0x59, SMRAM = 0x72 };

typedef struct Fixture {
  Vm *vm;
  VmRam *ram, *rom;
  PciBus *bus;
  I440fx *host;
  I8259 *pic;
  LapicBus *lapics;
  VmCpu *cpu;
  Ioapic *ioapic;
  Piix3 *piix3;
  Piix4Pm *pm;
  TestEvents events;
  TestLine sci;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  VmMemory *memory = vm_get_memory(f->vm);
  vm_add_listener(f->vm, test_on_event, &f->events);
  f->ram = vm_ram_new(memory, "ram", 0x1000000, NULL);
  f->rom = vm_ram_new(memory, "rom", 0x20000, NULL);
  memset(vm_ram_get_hva(f->rom), 0xbb, 0x20000);
  vm_region_new_ram(memory, "low", 0, 0xa0000, PC_PRIORITY_FIXED, f->ram, 0, VM_ACCESS_RW);
  vm_region_new_rom(memory, "bios", 0xe0000, 0x20000, PC_PRIORITY_FIXED, f->rom, 0);
  f->pic = i8259_create(f->vm);
  f->lapics = lapic_bus_create(f->vm, f->pic);
  f->cpu = vm_cpu_new(f->vm, NULL);
  lapic_create(f->lapics, f->cpu, 0);
  f->ioapic = ioapic_create(f->vm, f->lapics, 1);
  f->bus = pci_bus_new(f->vm, NULL, NULL);
  f->host = i440fx_create(f->vm, f->bus, f->ram);
  f->piix3 = piix3_create(f->vm, f->bus, 1, f->host, f->pic, f->ioapic);
  f->pm = piix4_pm_create(f->vm, f->bus, PM_SLOT, test_line_irq(&f->sci));
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

static void select_register(Fixture *f, unsigned slot, unsigned function, unsigned offset)
{
  test_out32(f->vm, 0xcf8, 0x80000000u | slot << 11 | function << 8 | (offset & 0xfc));
}

static uint8_t get8(Fixture *f, unsigned slot, unsigned function, unsigned offset)
{
  select_register(f, slot, function, offset);
  return test_in8(f->vm, (uint16_t)(0xcfc + offset % 4));
}

static void set8(Fixture *f, unsigned slot, unsigned function, unsigned offset, uint8_t value)
{
  select_register(f, slot, function, offset);
  test_out8(f->vm, (uint16_t)(0xcfc + offset % 4), value);
}

static void set32(Fixture *f, unsigned slot, unsigned function, unsigned offset, uint32_t value)
{
  select_register(f, slot, function, offset);
  test_out32(f->vm, 0xcfc, value);
}

/* ---- shadowing ------------------------------------------------------------------------------------------------- */

/* What a segment answers with its attributes at 0 (`below`), 1, 2 and 3. */
static void check_segment(Fixture *f, unsigned reg, unsigned shift, VmGpa gpa, uint8_t below)
{
  uint8_t *shadow = vm_ram_get_hva(f->ram) + gpa;
  *shadow = 0x11;
  set8(f, 0, 0, reg, 0);
  test_store(f->vm, gpa, 0x22, 1);
  g_assert_cmphex(*shadow, ==, 0x11);
  g_assert_cmphex(test_load(f->vm, gpa, 1), ==, below);
  set8(f, 0, 0, reg, (uint8_t)(1 << shift)); /* reads only: write-protected RAM */
  test_store(f->vm, gpa, 0x33, 1);
  g_assert_cmphex(test_load(f->vm, gpa, 1), ==, 0x11);
  set8(f, 0, 0, reg, (uint8_t)(2 << shift)); /* writes only: how firmware copies itself */
  test_store(f->vm, gpa, 0x44, 1);
  g_assert_cmphex(*shadow, ==, 0x44);
  g_assert_cmphex(test_load(f->vm, gpa, 1), ==, below);
  set8(f, 0, 0, reg, (uint8_t)(3 << shift));
  test_store(f->vm, gpa, 0x55, 1);
  g_assert_cmphex(test_load(f->vm, gpa, 1), ==, 0x55);
  set8(f, 0, 0, reg, 0);
  g_assert_cmphex(test_load(f->vm, gpa, 1), ==, below);
}

static void test_pam(Fixture *f, gconstpointer data)
{
  check_segment(f, PAM0, 4, 0xf0000, 0xbb);
  check_segment(f, PAM0, 4, 0xfffff, 0xbb);
  for (unsigned i = 0; i < 12; i++) {
    VmGpa gpa = 0xc0000 + i * 0x4000;
    uint8_t below = gpa >= 0xe0000 ? 0xbb : 0xff;
    check_segment(f, PAM0 + 1 + i / 2, i % 2 * 4, gpa, below);
    check_segment(f, PAM0 + 1 + i / 2, i % 2 * 4, gpa + 0x3fff, below);
  }
}

/* A segment's neighbours do not move with it. */
static void test_pam_neighbours(Fixture *f, gconstpointer data)
{
  memset(vm_ram_get_hva(f->ram) + 0xc0000, 0x77, 0x40000);
  set8(f, 0, 0, PAM0 + 6, 0x10); /* EC000–EFFFF */
  g_assert_cmphex(test_load(f->vm, 0xebfff, 1), ==, 0xbb);
  g_assert_cmphex(test_load(f->vm, 0xec000, 1), ==, 0x77);
  g_assert_cmphex(test_load(f->vm, 0xeffff, 1), ==, 0x77);
  g_assert_cmphex(test_load(f->vm, 0xf0000, 1), ==, 0xbb);
  test_reset(f->host);
  g_assert_cmphex(test_load(f->vm, 0xec000, 1), ==, 0xbb);
}

static uint8_t load_smm(Fixture *f, VmGpa gpa)
{
  return (uint8_t)vm_memory_load(vm_get_memory(f->vm), VM_VIEW_SMM, gpa, 1);
}

static void test_smram(Fixture *f, gconstpointer data)
{
  g_assert_cmphex(get8(f, 0, 0, SMRAM), ==, 0x02);
  vm_ram_get_hva(f->ram)[0xa8000] = 0x5a;
  g_assert_cmphex(load_smm(f, 0xa8000), ==, 0xff);
  set8(f, 0, 0, SMRAM, 0x4a); /* enabled and open */
  g_assert_cmphex(test_load(f->vm, 0xa8000, 1), ==, 0x5a);
  g_assert_cmphex(load_smm(f, 0xa8000), ==, 0x5a);
  set8(f, 0, 0, SMRAM, 0x0a); /* enabled, closed */
  g_assert_cmphex(test_load(f->vm, 0xa8000, 1), ==, 0xff);
  g_assert_cmphex(load_smm(f, 0xa8000), ==, 0x5a);
  set8(f, 0, 0, SMRAM, 0x5a); /* locking closes for good */
  g_assert_cmphex(get8(f, 0, 0, SMRAM), ==, 0x1a);
  set8(f, 0, 0, SMRAM, 0x4a);
  g_assert_cmphex(get8(f, 0, 0, SMRAM), ==, 0x1a);
  g_assert_cmphex(test_load(f->vm, 0xa8000, 1), ==, 0xff);
  test_reset(f->host);
  g_assert_cmphex(get8(f, 0, 0, SMRAM), ==, 0x02);
  set8(f, 0, 0, SMRAM, 0x4a);
  g_assert_cmphex(test_load(f->vm, 0xa8000, 1), ==, 0x5a);
}

static void test_host_identity(Fixture *f, gconstpointer data)
{
  select_register(f, 0, 0, 0);
  g_assert_cmphex(test_in32(f->vm, 0xcfc), ==, 0x12378086);
  g_assert_cmphex(get8(f, 0, 0, 0x04), ==, 0x06);
  g_assert_cmphex(get8(f, 0, 0, 0x67), ==, 2); /* 16 MiB in rows of 8 */
  select_register(f, 1, 0, 0);
  g_assert_cmphex(test_in32(f->vm, 0xcfc), ==, 0x70008086);
  g_assert_cmphex(get8(f, 1, 0, 0x0e), ==, 0x80);
  select_register(f, 1, 3, 0);
  g_assert_cmphex(test_in32(f->vm, 0xcfc), ==, 0x71138086);
}

/* ---- resets ------------------------------------------------------------------------------------------------------ */

static void test_reset_control(Fixture *f, gconstpointer data)
{
  test_out32(f->vm, 0xcf8, 0x80000804);
  test_out8(f->vm, 0xcf9, 0x02);
  g_assert_cmphex(test_in8(f->vm, 0xcf9), ==, 0x02);
  g_assert_cmphex(test_in32(f->vm, 0xcf8), ==, 0x80000804); /* the address register is another */
  test_out32(f->vm, 0xcf8, 0x80000604);
  g_assert_cmphex(test_in8(f->vm, 0xcf9), ==, 0x02);
  test_step(f->vm, 0);
  g_assert_cmpuint(f->events.resets, ==, 0);
  test_out8(f->vm, 0xcf9, 0x06);
  test_step(f->vm, 0);
  g_assert_cmpuint(f->events.resets, ==, 1);
  g_assert_cmphex(test_in8(f->vm, 0xcf9), ==, 0x00);
  set8(f, 0, 0, 0x93, 0x04); /* the host bridge's own */
  test_step(f->vm, 0);
  g_assert_cmpuint(f->events.resets, ==, 2);
}

/* ---- interrupt steering ---------------------------------------------------------------------------------------------- */

static uint16_t read_irr(Fixture *f)
{
  return (uint16_t)(test_in8(f->vm, 0x20) | test_in8(f->vm, 0xa0) << 8);
}

static void drive_pm_pin(Fixture *f, bool level)
{
  test_lock(f->vm);
  pci_set_irq(pci_bus_find(f->bus, PCI_DEVFN(PM_SLOT, 3)), level);
  test_unlock(f->vm);
}

static void test_steering(Fixture *f, gconstpointer data)
{
  test_out16(f->vm, 0x4d0, 0x0e38); /* 3, 4, 5, 9, 10 and 11 by level */
  g_assert_cmphex(get8(f, 1, 0, 0x60), ==, 0x80);
  drive_pm_pin(f, true); /* INTA of slot 1: line A */
  g_assert_cmphex(read_irr(f), ==, 0);
  set8(f, 1, 0, 0x60, 11);
  g_assert_cmphex(read_irr(f), ==, 0x0804);
  set8(f, 1, 0, 0x60, 5);
  g_assert_cmphex(read_irr(f), ==, 0x0020);
  set8(f, 1, 0, 0x60, 2); /* reserved */
  g_assert_cmphex(read_irr(f), ==, 0);
  set8(f, 1, 0, 0x60, 10);
  test_set_irq(f->vm, piix3_isa_irq(f->piix3, 10), true); /* shared with an ISA device */
  drive_pm_pin(f, false);
  g_assert_cmphex(read_irr(f), ==, 0x0404);
  test_set_irq(f->vm, piix3_isa_irq(f->piix3, 10), false);
  g_assert_cmphex(read_irr(f), ==, 0);
}

/* The I/O APIC sees the same lines, with IRQ 0 on pin 2. */
static void test_ioapic_pins(Fixture *f, gconstpointer data)
{
  test_store(f->vm, LAPIC_BASE + 0xf0, 0x1ff, 4);
  test_store(f->vm, LAPIC_BASE + 0x350, 0x10000, 4);
  for (unsigned pin = 0; pin < 16; pin++) {
    test_store(f->vm, IOAPIC_BASE, 0x10 + 2 * pin, 4);
    test_store(f->vm, IOAPIC_BASE + 0x10, 0x40 + pin, 4);
  }
  for (unsigned irq = 0; irq < 16; irq++) {
    test_set_irq(f->vm, piix3_isa_irq(f->piix3, irq), true);
    test_set_irq(f->vm, piix3_isa_irq(f->piix3, irq), false);
    int vector = f->cpu->intc_ops->acknowledge(f->cpu->intc);
    g_assert_cmpint(vector, ==, irq == 2 ? -1 : irq == 0 ? 0x42 : (int)(0x40 + irq));
    test_store(f->vm, LAPIC_BASE + 0xb0, 0, 4);
  }
}

/* ---- power management ---------------------------------------------------------------------------------------------------- */

/* As SeaBIOS does it. */
static void place_pm(Fixture *f)
{
  set32(f, PM_SLOT, 3, 0x40, PIIX4_PM_BASE | 1);
  set8(f, PM_SLOT, 3, 0x80, 1);
  set32(f, PM_SLOT, 3, 0x90, PIIX4_SMBUS_BASE | 1);
  set8(f, PM_SLOT, 3, 0xd2, 1);
}

static uint32_t tick_at(int64_t ns)
{
  return (uint32_t)vm_muldiv64((uint64_t)ns, 3579545, 1000000000) & 0xffffff;
}

static void test_pm_timer(Fixture *f, gconstpointer data)
{
  g_assert_cmphex(test_in32(f->vm, PIIX4_PM_BASE + 8), ==, UINT32_MAX); /* not placed yet */
  place_pm(f);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_cmpuint(test_in32(f->vm, PIIX4_PM_BASE + 8), ==, 3579545);
  test_step(f->vm, 4 * VM_NS_PER_SEC);
  g_assert_cmpuint(test_in32(f->vm, PIIX4_PM_BASE + 8), ==, tick_at(5 * VM_NS_PER_SEC)); /* 24 bits */
  g_assert_cmphex(test_in8(f->vm, PIIX4_PM_BASE + 11), ==, 0);
  g_assert_cmphex(test_in16(f->vm, PIIX4_PM_BASE) & 1, ==, 1); /* bit 23 has changed since */
  test_out16(f->vm, PIIX4_PM_BASE, 1);
  g_assert_cmphex(test_in16(f->vm, PIIX4_PM_BASE) & 1, ==, 0);
}

static void test_pm_timer_sci(Fixture *f, gconstpointer data)
{
  place_pm(f);
  test_out8(f->vm, PIIX4_SMI_CMD_PORT, PIIX4_ACPI_ENABLE);
  g_assert_cmphex(test_in16(f->vm, PIIX4_PM_BASE + 4), ==, 1);
  test_out16(f->vm, PIIX4_PM_BASE + 2, 1);
  test_step(f->vm, INT64_C(2343483767)); /* 0x800000 ticks less a hair */
  g_assert_false(f->sci.level);
  test_step(f->vm, 1000);
  g_assert_true(f->sci.level);
  test_out16(f->vm, PIIX4_PM_BASE, 1);
  g_assert_false(f->sci.level);
  test_step(f->vm, INT64_C(2343486000));
  g_assert_cmpuint(f->sci.rises, ==, 2);
}

static void test_power_button(Fixture *f, gconstpointer data)
{
  place_pm(f);
  vm_request_powerdown(f->vm);
  test_step(f->vm, 0);
  g_assert_cmpuint(f->events.powerdowns, ==, 1);
  g_assert_cmphex(test_in16(f->vm, PIIX4_PM_BASE), ==, 0x100);
  g_assert_false(f->sci.level); /* ACPI is off */
  test_out8(f->vm, PIIX4_SMI_CMD_PORT, PIIX4_ACPI_ENABLE);
  test_out8(f->vm, PIIX4_PM_BASE + 3, 1); /* one byte of the enable register */
  g_assert_true(f->sci.level);
  test_out8(f->vm, PIIX4_PM_BASE, 0xff); /* the low half leaves it */
  g_assert_true(f->sci.level);
  test_out32(f->vm, PIIX4_PM_BASE, 0x01000100); /* both at once: clear it, keep it enabled */
  g_assert_false(f->sci.level);
  g_assert_cmphex(test_in32(f->vm, PIIX4_PM_BASE), ==, 0x01000000);
}

static void test_soft_off(Fixture *f, gconstpointer data)
{
  place_pm(f);
  test_out16(f->vm, PIIX4_PM_BASE + 4, 5 << 10 | 1 << 13); /* a sleep that is not offered */
  test_step(f->vm, 0);
  g_assert_cmpuint(f->events.shutdowns, ==, 0);
  test_out16(f->vm, PIIX4_PM_BASE + 4, PIIX4_SLP_TYP_S5 << 10);
  test_step(f->vm, 0);
  g_assert_cmpuint(f->events.shutdowns, ==, 0);
  test_out16(f->vm, PIIX4_PM_BASE + 4, PIIX4_SLP_TYP_S5 << 10 | 1 << 13);
  test_step(f->vm, 0);
  g_assert_cmpuint(f->events.shutdowns, ==, 1);
}

static void test_gpe(Fixture *f, gconstpointer data)
{
  place_pm(f);
  test_out8(f->vm, PIIX4_SMI_CMD_PORT, PIIX4_ACPI_ENABLE);
  test_lock(f->vm);
  piix4_pm_raise_gpe(f->pm, 0x0102);
  test_unlock(f->vm);
  g_assert_cmphex(test_in16(f->vm, PIIX4_GPE0_BASE), ==, 0x0102);
  g_assert_false(f->sci.level);
  test_out16(f->vm, PIIX4_GPE0_BASE + 2, 0x0100);
  g_assert_true(f->sci.level);
  test_out16(f->vm, PIIX4_GPE0_BASE, 0x0100);
  g_assert_false(f->sci.level);
  g_assert_cmphex(test_in16(f->vm, PIIX4_GPE0_BASE), ==, 0x0002);
}

static bool smi_asked(Fixture *f)
{
  bool asked = vm_cpu_requests(f->cpu) & VM_CPU_REQ_SMI;
  vm_cpu_clear_request(f->cpu, VM_CPU_REQ_SMI);
  return asked;
}

static void test_smi(Fixture *f, gconstpointer data)
{
  test_out8(f->vm, 0xb3, 0x77);
  test_out8(f->vm, 0xb2, 0x01);
  g_assert_false(smi_asked(f));
  g_assert_cmphex(test_in16(f->vm, 0xb2), ==, 0x7701);
  set8(f, PM_SLOT, 3, 0x5b, 0x02);
  test_out8(f->vm, 0xb2, 0x01);
  g_assert_true(smi_asked(f));
  /* A machine without SMM looks set up from the start and raises none. */
  test_reset(f->pm);
  piix4_pm_set_smm(f->pm, false);
  g_assert_cmphex(get8(f, PM_SLOT, 3, 0x5b), ==, 0x02);
  set8(f, PM_SLOT, 3, 0x5b, 0x00);
  g_assert_cmphex(get8(f, PM_SLOT, 3, 0x5b), ==, 0x02);
  test_out8(f->vm, 0xb2, 0x01);
  g_assert_false(smi_asked(f));
}

static void test_smbus(Fixture *f, gconstpointer data)
{
  place_pm(f);
  test_out8(f->vm, PIIX4_SMBUS_BASE + 4, 0xa1);
  test_out8(f->vm, PIIX4_SMBUS_BASE + 2, 0x48);                 /* start a byte-data read */
  g_assert_cmphex(test_in8(f->vm, PIIX4_SMBUS_BASE), ==, 0x04); /* nobody answers */
  test_out8(f->vm, PIIX4_SMBUS_BASE, 0x04);
  g_assert_cmphex(test_in8(f->vm, PIIX4_SMBUS_BASE), ==, 0x00);
}

static void test_pm_moves(Fixture *f, gconstpointer data)
{
  place_pm(f);
  set32(f, PM_SLOT, 3, 0x40, 0xb001);
  g_assert_cmphex(test_in32(f->vm, PIIX4_PM_BASE + 8), ==, UINT32_MAX);
  g_assert_cmphex(test_in32(f->vm, 0xb008), ==, 0);
  set8(f, PM_SLOT, 3, 0x80, 0);
  g_assert_cmphex(test_in32(f->vm, 0xb008), ==, UINT32_MAX);
}

/* ---- state ------------------------------------------------------------------------------------------------------------------ */

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->host);
  test_check_type(f->piix3);
  test_check_type(f->pm);
  vm_ram_get_hva(other.ram)[0xc0000] = 0x66;
  set8(f, 0, 0, PAM0 + 1, 0x33);
  set8(f, 0, 0, SMRAM, 0x1a);
  set8(f, 1, 0, 0x60, 11);
  place_pm(f);
  test_out8(f->vm, PIIX4_SMI_CMD_PORT, PIIX4_ACPI_ENABLE);
  test_out16(f->vm, PIIX4_PM_BASE + 2, 0x101);
  test_step(f->vm, VM_NS_PER_SEC);
  test_step(other.vm, VM_NS_PER_SEC);
  test_lock(f->vm);
  piix4_pm_press_power_button(f->pm);
  test_unlock(f->vm);
  test_round_trip(f->host, other.host);
  test_round_trip(f->piix3, other.piix3);
  test_round_trip(f->pm, other.pm);
  g_assert_cmphex(test_load(other.vm, 0xc0000, 1), ==, 0x66);
  set8(&other, 0, 0, SMRAM, 0x4a);
  g_assert_cmphex(get8(&other, 0, 0, SMRAM), ==, 0x1a); /* still locked */
  g_assert_true(other.sci.level);
  test_out16(other.vm, PIIX4_PM_BASE, 0x100);
  g_assert_false(other.sci.level);
  test_step(other.vm, 1400 * VM_NS_PER_MS);
  g_assert_true(other.sci.level); /* the timer's deadline came along */
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(0x1237);
  test_hostile_ports(f->vm, 0xcf7, 12, rand);
  for (unsigned i = 0; i < TEST_POKES; i++) {
    static const uint16_t bases[] = { PIIX4_PM_BASE, PIIX4_SMBUS_BASE, PIIX4_GPE0_BASE, 0xb2 };
    static const uint8_t functions[] = { 0, PCI_DEVFN(1, 0), PCI_DEVFN(1, 3), PCI_DEVFN(1, 1) };
    if (i % 64 == 0)
      place_pm(f);
    uint16_t port = (uint16_t)(bases[i % 4] + (unsigned)g_rand_int_range(rand, 0, 64));
    unsigned width = 1u << g_rand_int_range(rand, 0, 3);
    vm_port_write(vm_get_memory(f->vm), port, (uint32_t)test_random_value(rand), width);
    vm_port_read(vm_get_memory(f->vm), port, width);
    unsigned devfn = functions[g_rand_int_range(rand, 0, 4)];
    if (i % 8 == 0) {
      test_out32(f->vm, 0xcf8, 0x80000000u | devfn << 8 | (uint32_t)g_rand_int_range(rand, 0, 64) * 4);
      vm_port_write(vm_get_memory(f->vm), 0xcfc, (uint32_t)test_random_value(rand), width);
      test_step(f->vm, g_rand_int_range(rand, 0, 1000000));
    }
  }
  test_hostile_streams(f->host, rand);
  test_hostile_streams(f->piix3, rand);
  test_hostile_streams(f->pm, rand);
  test_pam(f, data);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/i440fx/pam", test_pam },
    { "/i440fx/pam-neighbours", test_pam_neighbours },
    { "/i440fx/smram", test_smram },
    { "/chipset/identity", test_host_identity },
    { "/piix3/reset-control", test_reset_control },
    { "/piix3/steering", test_steering },
    { "/piix3/ioapic-pins", test_ioapic_pins },
    { "/piix4-pm/timer", test_pm_timer },
    { "/piix4-pm/timer-sci", test_pm_timer_sci },
    { "/piix4-pm/power-button", test_power_button },
    { "/piix4-pm/soft-off", test_soft_off },
    { "/piix4-pm/gpe", test_gpe },
    { "/piix4-pm/smi", test_smi },
    { "/piix4-pm/smbus", test_smbus },
    { "/piix4-pm/moves", test_pm_moves },
    { "/chipset/state", test_state },
    { "/chipset/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  return g_test_run();
}

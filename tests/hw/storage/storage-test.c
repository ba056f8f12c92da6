#include "tests/hw/storage/storage-test.h"

uint8_t storage_pattern(uint64_t at)
{
  return (uint8_t)(at * 13 + (at >> 9) * 101 + (at >> 17) + 7);
}

void storage_fill(MemoryImage *memory)
{
  for (uint64_t i = 0; i < memory->size_bytes; i++)
    memory->bytes[i] = storage_pattern(i);
}

void machine_init(Machine *m)
{
  *m = (Machine){ .devfn = PCI_DEVFN(1, 1) };
  m->vm = vm_new_manual();
  VmMemory *memory = vm_get_memory(m->vm);
  VmRam *ram = vm_ram_new(memory, "ram", RAM_BYTES, NULL);
  VmIrq irq14 = test_line_irq(&m->irq14), irq15 = test_line_irq(&m->irq15);
  test_lock(m->vm);
  vm_region_new_ram(memory, "ram", 0, RAM_BYTES, 0, ram, 0, VM_ACCESS_RW);
  m->bus = pci_bus_new(m->vm, NULL, NULL);
  m->ide = piix3_ide_new(m->bus, m->devfn, &irq14, &irq15);
  pci_config_write(m->bus, 0, m->devfn, 0x20, BM_BASE, 4);
  pci_config_write(m->bus, 0, m->devfn, 0x04, 0x0005, 2);
  test_unlock(m->vm);
}

void machine_clear(Machine *m)
{
  PciBus *bus = m->bus;
  vm_free(m->vm);
  pci_bus_free(bus);
}

BlkImage *machine_open(Machine *m, MemoryImage *memory, const char *name, bool read_only)
{
  return memory_image_open(memory, name, read_only, vm_io_context_get_main_context(vm_get_io_context(m->vm)));
}

void machine_add_disk(Machine *m, unsigned unit, MemoryImage *memory, bool read_only)
{
  g_autoptr(GError) error = NULL;
  storage_fill(memory);
  test_lock(m->vm);
  IdeDrive *drive = piix3_ide_attach_disk(m->ide, 0, unit, machine_open(m, memory, "disk", read_only), &error);
  test_unlock(m->vm);
  g_assert_no_error(error);
  g_assert_nonnull(drive);
}

IdeDrive *machine_add_cdrom(Machine *m, unsigned unit, MemoryImage *memory)
{
  g_autoptr(GError) error = NULL;
  BlkImage *image = NULL;
  if (memory != NULL) {
    storage_fill(memory);
    image = machine_open(m, memory, "cd", true);
  }
  test_lock(m->vm);
  IdeDrive *drive = piix3_ide_attach_cdrom(m->ide, 0, unit, image, &error);
  test_unlock(m->vm);
  g_assert_no_error(error);
  return drive;
}

uint8_t wait_not_busy(Machine *m)
{
  for (unsigned i = 0; i < 1000; i++) {
    uint8_t status = in8(m, CONTROL);
    if (!(status & ST_BSY))
      return status;
    test_step(m->vm, 1000);
  }
  g_error("the drive stays busy");
}

void select_lba(Machine *m, unsigned unit, uint32_t lba, uint8_t count)
{
  out8(m, DEVICE, (uint8_t)(0xE0 | unit << 4 | (lba >> 24 & 15)));
  out8(m, COUNT, count);
  out8(m, LBA_LOW, (uint8_t)lba);
  out8(m, LBA_MID, (uint8_t)(lba >> 8));
  out8(m, LBA_HIGH, (uint8_t)(lba >> 16));
}

void read_data(Machine *m, uint8_t *buffer, unsigned size)
{
  for (unsigned i = 0; i < size; i += 2) {
    uint16_t word = test_in16(m->vm, DATA);
    buffer[i] = (uint8_t)word;
    if (i + 1 < size)
      buffer[i + 1] = (uint8_t)(word >> 8);
  }
}

void write_data(Machine *m, const uint8_t *buffer, unsigned size)
{
  for (unsigned i = 0; i < size; i += 2)
    test_out16(m->vm, DATA, (uint16_t)(buffer[i] | buffer[i + 1] << 8));
}

void start_bus_master(Machine *m, const uint32_t *pairs, unsigned n, bool to_memory)
{
  for (unsigned i = 0; i < n; i++) {
    test_store(m->vm, PRD_GPA + 8 * i, pairs[2 * i], 4);
    test_store(m->vm, PRD_GPA + 8 * i + 4, (pairs[2 * i + 1] & 0xFFFF) | (i == n - 1 ? 0x80000000u : 0), 4);
  }
  out8(m, BM_BASE, 0);
  out8(m, BM_BASE + 2, BM_ERROR | BM_INTERRUPT);
  test_out32(m->vm, BM_BASE + 4, PRD_GPA);
  out8(m, BM_BASE, to_memory ? BM_TO_MEMORY : 0);
  out8(m, BM_BASE, (uint8_t)(BM_START | (to_memory ? BM_TO_MEMORY : 0)));
}

/*
 * The PCI bus and the base of its devices (PCI Local Bus Specification 3.0, chapter 6).
 *
 * One bus, number 0, without bridges. A function's configuration space is a byte array with two masks: bits that the
 * guest may write, and bits that a written one clears. What follows from a write (BARs move, the interrupt pin is
 * masked) is derived from the array afterwards, so a load derives it in the same way.
 *
 * A BAR at address 0 is taken as unassigned, although the specification allows it: firmware sizes BARs with decoding
 * on, and memory at 0 is what nobody means. BARs have the lowest priority of all regions, see hw/pci/i440fx.h.
 */
#include "hw/pci/pci.h"

#include "hw/pci/i440fx.h"
#include "vm-engine/vm.h"

enum {
  REG_VENDOR = 0x00,
  REG_DEVICE = 0x02,
  REG_COMMAND = 0x04,
  REG_STATUS = 0x06,
  REG_REVISION = 0x08,
  REG_CLASS = 0x09,
  REG_CACHE_LINE = 0x0c,
  REG_LATENCY = 0x0d,
  REG_HEADER_TYPE = 0x0e,
  REG_BAR0 = 0x10,
  REG_BARS_END = 0x28,
  REG_SUBSYSTEM_VENDOR = 0x2c,
  REG_SUBSYSTEM = 0x2e,
  REG_ROM = 0x30,
  REG_INTERRUPT_LINE = 0x3c,
  REG_INTERRUPT_PIN = 0x3d,
  HEADER_BYTES = 0x40,

  COMMAND_PORTS = 1 << 0,
  COMMAND_MEMORY = 1 << 1,
  COMMAND_MASTER = 1 << 2,
  COMMAND_PARITY = 1 << 6,
  COMMAND_SERR = 1 << 8,
  COMMAND_NO_INTX = 1 << 10,
  STATUS_INTERRUPT = 1 << 3,
  STATUS_CLEARABLE = 0xf900,
  HEADER_MULTIFUNCTION = 0x80,
  BAR_PORTS = 1 << 0,
  BAR_PREFETCH = 1 << 3,
  ROM_ENABLE = 1 << 0,
};

#define N_INTX      4
#define N_FUNCTIONS 256

struct PciBus {
  Vm *vm;
  VmIrqFunc intx;
  void *intx_opaque;
  bool line_level[N_INTX];
  PciDevice *functions[N_FUNCTIONS];
};

const VmField pci_device_fields[] = {
  VM_TRANSIENT(PciDevice, dev, "the base: identity and wiring"),
  VM_TRANSIENT(PciDevice, bus, "wiring"),
  VM_TRANSIENT(PciDevice, devfn, "wiring"),
  VM_UINT_MAX(PciDevice, irq_level, 1),
  VM_BYTES(PciDevice, config),
  VM_TRANSIENT(PciDevice, write_mask, "set when the device is made"),
  VM_TRANSIENT(PciDevice, clear_mask, "set when the device is made"),
  VM_TRANSIENT(PciDevice, bars, "declared when the device is made; mappings follow the configuration bytes"),
  VM_TRANSIENT(PciDevice, config_written, "wiring"),
  VM_FIELDS_END,
};

/* ---- little-endian fields of the configuration space ------------------------------------------------------------- */

static uint32_t get_bytes(const uint8_t *bytes, unsigned size)
{
  uint32_t value = 0;
  for (unsigned i = 0; i < size; i++)
    value |= (uint32_t)bytes[i] << (8 * i);
  return value;
}

static void set_bytes(uint8_t *bytes, uint32_t value, unsigned size)
{
  for (unsigned i = 0; i < size; i++)
    bytes[i] = (uint8_t)(value >> (8 * i));
}

static uint16_t get_command(const PciDevice *dev)
{
  return (uint16_t)get_bytes(dev->config + REG_COMMAND, 2);
}

static unsigned bar_register(unsigned bar)
{
  return bar == PCI_ROM_BAR ? (unsigned)REG_ROM : REG_BAR0 + 4 * bar;
}

/* ---- interrupts --------------------------------------------------------------------------------------------------- */

static bool is_asserting(const PciDevice *dev)
{
  return dev->irq_level && dev->config[REG_INTERRUPT_PIN] != 0 && !(get_command(dev) & COMMAND_NO_INTX);
}

/* A PC's wiring: INTA of slot 1 is line A, and each slot on turns by one. */
static unsigned swizzle(const PciDevice *dev)
{
  return (dev->config[REG_INTERRUPT_PIN] - 1u + (dev->devfn >> 3) - 1u) % N_INTX;
}

static void update_line(PciBus *bus, unsigned line)
{
  bool level = false;
  for (unsigned i = 0; i < N_FUNCTIONS && !level; i++) {
    const PciDevice *dev = bus->functions[i];
    level = dev != NULL && is_asserting(dev) && swizzle(dev) == line;
  }
  if (level == bus->line_level[line])
    return;
  bus->line_level[line] = level;
  if (bus->intx != NULL)
    bus->intx(bus->intx_opaque, line, level);
}

static void update_irq(PciDevice *dev)
{
  if (dev->irq_level)
    dev->config[REG_STATUS] |= STATUS_INTERRUPT;
  else
    dev->config[REG_STATUS] &= (uint8_t)~STATUS_INTERRUPT;
  if (dev->config[REG_INTERRUPT_PIN] != 0)
    update_line(dev->bus, swizzle(dev));
}

void pci_set_irq(PciDevice *dev, bool level)
{
  if (dev->irq_level == level)
    return;
  dev->irq_level = level;
  update_irq(dev);
}

void pci_set_interrupt_pin(PciDevice *dev, uint8_t pin)
{
  g_assert(pin <= N_INTX);
  dev->config[REG_INTERRUPT_PIN] = pin;
}

/* ---- BARs --------------------------------------------------------------------------------------------------------- */

/* Where the BAR decodes now; false if it does not. */
static bool get_bar_base(const PciDevice *dev, unsigned bar, uint64_t *base)
{
  const PciBar *info = &dev->bars[bar];
  uint32_t value = (uint32_t)get_bytes(dev->config + bar_register(bar), 4);
  bool is_ports = info->kind == PCI_BAR_PORTS;
  if (!(get_command(dev) & (is_ports ? COMMAND_PORTS : COMMAND_MEMORY)))
    return false;
  if (bar == PCI_ROM_BAR && !(value & ROM_ENABLE))
    return false;
  *base = value & ~(info->size - 1) & UINT32_MAX;
  return *base != 0 && (!is_ports || *base + info->size <= 65536);
}

static void update_bars(PciDevice *dev)
{
  VmMemory *memory = vm_get_memory(dev->dev.vm);
  vm_memory_begin(memory);
  for (unsigned i = 0; i < PCI_N_BARS; i++) {
    uint64_t base = 0;
    if (dev->bars[i].kind == PCI_BAR_NONE)
      continue;
    bool on = get_bar_base(dev, i, &base);
    if (on && vm_region_get_base(dev->bars[i].region) != base)
      vm_region_set_base(dev->bars[i].region, base);
    if (vm_region_is_enabled(dev->bars[i].region) != on)
      vm_region_set_enabled(dev->bars[i].region, on);
  }
  vm_memory_commit(memory);
}

/* Common to all kinds: checks, masks, and a region that stays off until the guest places it. */
static void declare_bar(PciDevice *dev, unsigned bar, PciBarKind kind, uint64_t size, VmRegion *region)
{
  unsigned offset = bar_register(bar);
  uint32_t mask = (uint32_t) ~(size - 1);
  dev->bars[bar] = (PciBar){ .kind = kind, .size = size, .region = region };
  set_bytes(dev->write_mask + offset, bar == PCI_ROM_BAR ? mask | ROM_ENABLE : mask, 4);
  set_bytes(dev->config + offset,
            kind == PCI_BAR_PORTS             ? BAR_PORTS
            : kind == PCI_BAR_MEMORY_PREFETCH ? BAR_PREFETCH
                                              : 0,
            4);
}

static void check_bar(const PciDevice *dev, unsigned bar, PciBarKind kind, uint64_t size)
{
  g_assert(bar < PCI_N_BARS && dev->bars[bar].kind == PCI_BAR_NONE);
  g_assert(size >= (kind == PCI_BAR_PORTS ? 4 : 16) && (size & (size - 1)) == 0);
  g_assert(size <= (kind == PCI_BAR_PORTS ? UINT64_C(256) : UINT64_C(1) << 31));
}

static char *dup_bar_name(const PciDevice *dev, unsigned bar)
{
  return bar == PCI_ROM_BAR ? g_strdup_printf("%s.rom", dev->dev.id) : g_strdup_printf("%s.bar%u", dev->dev.id, bar);
}

void pci_bar_io(PciDevice *dev, unsigned bar, PciBarKind kind, uint64_t size, const VmMmioOps *ops, void *opaque)
{
  check_bar(dev, bar, kind, size);
  g_autofree char *name = dup_bar_name(dev, bar);
  VmMemory *memory = vm_get_memory(dev->dev.vm);
  vm_memory_begin(memory);
  VmRegion *region = vm_region_new_io(memory, name, kind == PCI_BAR_PORTS ? VM_SPACE_PORTS : VM_SPACE_MEMORY, 0, size,
                                      PC_PRIORITY_PCI, ops, opaque, dev->dev.ctx);
  vm_region_set_enabled(region, false);
  vm_memory_commit(memory);
  declare_bar(dev, bar, kind, size, region);
}

void pci_bar_ram(PciDevice *dev, unsigned bar, uint64_t size, VmRam *ram, bool prefetch)
{
  PciBarKind kind = prefetch ? PCI_BAR_MEMORY_PREFETCH : PCI_BAR_MEMORY;
  check_bar(dev, bar, kind, size);
  g_assert(vm_ram_get_size(ram) >= size);
  g_autofree char *name = dup_bar_name(dev, bar);
  VmMemory *memory = vm_get_memory(dev->dev.vm);
  vm_memory_begin(memory);
  VmRegion *region = vm_region_new_ram(memory, name, 0, size, PC_PRIORITY_PCI, ram, 0, VM_ACCESS_RW);
  vm_region_set_enabled(region, false);
  vm_memory_commit(memory);
  declare_bar(dev, bar, kind, size, region);
}

bool pci_bar_rom(PciDevice *dev, const void *bytes, size_t size, GError **error)
{
  uint64_t rounded = VM_PAGE_SIZE;
  while (rounded < size && rounded < UINT64_C(16) << 20)
    rounded <<= 1;
  if (size == 0 || size > rounded) {
    g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED,
                "%s: an expansion ROM has 1 byte to 16 MiB, this one %" G_GSIZE_FORMAT " bytes", dev->dev.id, size);
    return false;
  }
  check_bar(dev, PCI_ROM_BAR, PCI_BAR_MEMORY, rounded);
  g_autofree char *name = dup_bar_name(dev, PCI_ROM_BAR);
  VmMemory *memory = vm_get_memory(dev->dev.vm);
  VmRam *ram = vm_ram_new(memory, name, rounded, error);
  if (ram == NULL)
    return false;
  memcpy(vm_ram_get_hva(ram), bytes, size);
  vm_memory_begin(memory);
  VmRegion *region = vm_region_new_rom(memory, name, 0, rounded, PC_PRIORITY_PCI, ram, 0);
  vm_region_set_enabled(region, false);
  vm_memory_commit(memory);
  declare_bar(dev, PCI_ROM_BAR, PCI_BAR_MEMORY, rounded, region);
  return true;
}

/* ---- devices ------------------------------------------------------------------------------------------------------ */

/* Function 0 of a slot says whether there are others. */
static void mark_multifunction(PciBus *bus, uint8_t devfn)
{
  PciDevice *first = bus->functions[devfn & ~7u];
  if (first == NULL)
    return;
  for (unsigned i = 1; i < 8; i++) {
    if (bus->functions[(devfn & ~7u) + i] != NULL)
      first->config[REG_HEADER_TYPE] |= HEADER_MULTIFUNCTION;
  }
}

void *pci_device_new(PciBus *bus, const VmDeviceType *type, const char *id, uint8_t devfn, const PciIds *ids)
{
  g_assert(bus->functions[devfn] == NULL);
  PciDevice *dev = vm_device_new(bus->vm, type, id);
  dev->bus = bus;
  dev->devfn = devfn;
  set_bytes(dev->config + REG_VENDOR, ids->vendor, 2);
  set_bytes(dev->config + REG_DEVICE, ids->device, 2);
  dev->config[REG_REVISION] = ids->revision;
  set_bytes(dev->config + REG_CLASS, ids->class_code, 3);
  set_bytes(dev->config + REG_SUBSYSTEM_VENDOR, ids->subsystem_vendor, 2);
  set_bytes(dev->config + REG_SUBSYSTEM, ids->subsystem, 2);
  set_bytes(dev->write_mask + REG_COMMAND,
            COMMAND_PORTS | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_NO_INTX, 2);
  set_bytes(dev->clear_mask + REG_STATUS, STATUS_CLEARABLE, 2);
  dev->write_mask[REG_CACHE_LINE] = 0xff;
  dev->write_mask[REG_LATENCY] = 0xff;
  dev->write_mask[REG_INTERRUPT_LINE] = 0xff;
  bus->functions[devfn] = dev;
  mark_multifunction(bus, devfn);
  return dev;
}

void pci_device_reset(PciDevice *dev)
{
  for (unsigned i = 0; i < HEADER_BYTES; i++)
    dev->config[i] &= (uint8_t) ~(dev->write_mask[i] | dev->clear_mask[i]);
  dev->irq_level = false;
  update_irq(dev);
  update_bars(dev);
}

void pci_device_loaded(PciDevice *dev)
{
  update_irq(dev);
  update_bars(dev);
}

bool pci_dma_read(PciDevice *dev, VmGpa gpa, void *buffer, uint64_t size)
{
  return (get_command(dev) & COMMAND_MASTER) && vm_memory_read(vm_get_memory(dev->dev.vm), gpa, buffer, size);
}

bool pci_dma_write(PciDevice *dev, VmGpa gpa, const void *buffer, uint64_t size)
{
  return (get_command(dev) & COMMAND_MASTER) && vm_memory_write(vm_get_memory(dev->dev.vm), gpa, buffer, size);
}

/* ---- the bus ------------------------------------------------------------------------------------------------------ */

PciBus *pci_bus_new(Vm *vm, VmIrqFunc intx, void *opaque)
{
  PciBus *bus = g_new0(PciBus, 1);
  bus->vm = vm;
  pci_bus_set_intx(bus, intx, opaque);
  return bus;
}

void pci_bus_set_intx(PciBus *bus, VmIrqFunc intx, void *opaque)
{
  bus->intx = intx;
  bus->intx_opaque = opaque;
}

void pci_bus_free(PciBus *bus)
{
  g_free(bus);
}

PciDevice *pci_bus_find(PciBus *bus, uint8_t devfn)
{
  return bus->functions[devfn];
}

static bool is_access_valid(unsigned offset, unsigned size)
{
  return (size == 1 || size == 2 || size == 4) && offset < PCI_CONFIG_BYTES && offset + size <= PCI_CONFIG_BYTES;
}

uint32_t pci_config_read(PciBus *bus, uint8_t bus_number, uint8_t devfn, unsigned offset, unsigned size)
{
  const PciDevice *dev = bus_number == 0 ? bus->functions[devfn] : NULL;
  if (dev == NULL || !is_access_valid(offset, size))
    return size >= 4 ? UINT32_MAX : (1u << (8 * size)) - 1;
  return get_bytes(dev->config + offset, size);
}

static bool overlaps(unsigned offset, unsigned size, unsigned start, unsigned end)
{
  return offset < end && offset + size > start;
}

void pci_config_write(PciBus *bus, uint8_t bus_number, uint8_t devfn, unsigned offset, uint32_t value, unsigned size)
{
  PciDevice *dev = bus_number == 0 ? bus->functions[devfn] : NULL;
  if (dev == NULL || !is_access_valid(offset, size))
    return;
  for (unsigned i = 0; i < size; i++) {
    uint8_t byte = (uint8_t)(value >> (8 * i));
    uint8_t mask = dev->write_mask[offset + i];
    uint8_t result = (uint8_t)((dev->config[offset + i] & ~mask) | (byte & mask));
    dev->config[offset + i] = (uint8_t)(result & ~(byte & dev->clear_mask[offset + i]));
  }
  if (overlaps(offset, size, REG_COMMAND, REG_COMMAND + 2))
    update_irq(dev);
  if (overlaps(offset, size, REG_COMMAND, REG_COMMAND + 2) || overlaps(offset, size, REG_BAR0, REG_BARS_END) ||
      overlaps(offset, size, REG_ROM, REG_ROM + 4))
    update_bars(dev);
  if (dev->config_written != NULL)
    dev->config_written(dev, offset, size);
}
